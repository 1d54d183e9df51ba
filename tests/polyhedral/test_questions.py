# SPDX-License-Identifier: MIT
"""Questions of legality: the pair that forbids, how far apart it is, and remedies that the oracle accepts."""

from __future__ import annotations

import pytest

from polyhedral.errors import ArgumentError, DimError, LegalityError
from polyhedral.ir import affine as aff
from polyhedral.pipeline import analyze
from polyhedral.questions.legal import Asked, fuse, parallel, tile, vectorise
from polyhedral.text.reader import parse
from tests.programs import ZOO

JACOBI = parse("""
program jacobi
  sizes X, steps
  input u0: f64[x: X]
  temporary u: f64[t: steps + 1, x: X]
  output out: f64[x: X]
  S0: for x < X:  u(t=0) = u0
  S1: for t < steps, x < X:
    u(t=t + 1) = where([1 <= x < X - 1], 0.3 * (u(x=x - 1) + u + u(x=x + 1)), u)
  S2: for x < X:  out = u(t=steps)
""")
BLUR = parse("""
program blur
  sizes Y, X, K
  input I: f32[y: Y, x: X]
  input W: f32[k: K]
  temporary blur1: f32[y: Y, x: X - K + 1]
  output blur2: f32[y: Y, x: X - 2*K + 2]
  assume 1 <= K and 2*K <= X
  blur1: for y < Y, x < X - K + 1:  blur1 = sum[k < K] I(x=x + k) * W
  blur2: for y < Y, x < X - 2*K + 2:  blur2 = sum[k < K] blur1(x=x + k) * W
""")


def asked(program: object) -> Asked:
    return Asked(analyze(program))  # type: ignore[arg-type]


def test_jacobi_is_not_tiled_without_a_skew():
    answer = tile(asked(JACOBI), "u", {"t": 8, "x": 64})
    assert not answer
    assert str(answer) == (
        "tiling u by (t=8, x=64) is not legal: u(t,x) -> u(t+1,x-1) has distance (1,-1), negative in x; "
        'legal after skewing x by t (x\' = x + t): hint skew("u", x=t) [isl: deltas {(1,x): -1<=x<=1}]'
    )
    assert answer.distance == (("t", 1), ("x", -1))
    assert answer.violation is not None
    first, then = dict(answer.violation.first_at), dict(answer.violation.then_at)
    assert (then["t"] - first["t"], then["x"] - first["x"]) == (1, -1)
    assert answer.violation.array == "u"


def test_the_skew_makes_it_legal():
    assert tile(asked(JACOBI), "u", {"t": 8, "x": 64}, {"x": aff.var("t")})
    assert not tile(asked(JACOBI), "u", {"t": 8, "x": 64}, {"x": -aff.var("t")})


def test_space_alone_may_be_tiled():
    assert tile(asked(JACOBI), "u", {"x": 64})


@pytest.mark.parametrize("name", ["jacobi2d", "gauss_seidel"])
def test_several_dims_are_skewed_together(name: str):
    q = asked(ZOO[name])
    answer = tile(q, "u", {"t": 4, "y": 8, "x": 8})
    assert not answer
    assert answer.remedies[0].hint == 'skew("u", y=t, x=t)'
    assert tile(q, "u", {"t": 4, "y": 8, "x": 8}, {"y": aff.var("t"), "x": aff.var("t")})


def test_any_tiles_of_a_reduction():
    q = asked(ZOO["matmul"])
    for sizes in ({"i": 8}, {"i": 8, "j": 4, "k": 2}, {"k": 3}, {"j": 5, "i": 2}):
        assert tile(q, "out", sizes)


def test_the_error_of_a_refused_tile():
    error = tile(asked(JACOBI), "u", {"t": 8, "x": 64}).error()
    assert isinstance(error, LegalityError)
    assert error.code == "PH401"
    assert error.dim == "x"
    assert error.point is not None
    assert 'skew("u", x=t)' in error.hints[0]


def test_fusing_the_blurs_has_a_witness():
    answer = fuse(asked(BLUR), "blur1", "blur2", ("y", "x"))
    assert not answer
    lines = str(answer).split("\n")
    assert lines[0] == "fusing blur1 and blur2 at (y, x) is not legal:"
    assert "reads blur1(y=0, x=1), which blur1(y=0, x=1, k=0) produces LATER in the fused order" in lines[1]
    assert lines[2] == "  dependence blur1 -> blur2: reads x .. x+K-1 (distance 0 .. K-1 in x)"
    assert lines[3] == "  legal instead: fuse at (y); or shift blur2 by K-1 in x; or recompute blur1 (K-fold work)"


def test_fusion_at_all_that_is_legal():
    answer = fuse(asked(BLUR), "blur1", "blur2")
    assert answer
    assert answer.hint == 'fuse("blur1", "blur2", at="y")'
    assert fuse(asked(ZOO["relu_chain"]), "h", "out", ("i", "j"))


def test_no_fusion_at_a_reduced_dim():
    answer = fuse(asked(BLUR), "blur1", "blur2", ("y", "k"))
    assert not answer
    assert "k is reduced in blur1" in str(answer)


def test_no_fusion_around_a_statement_between():
    answer = fuse(asked(ZOO["softmax"]), "S0", "S2", ("i",))
    assert not answer
    assert any("S1 must run between" in r for r in answer.reasons)


def test_a_reduced_dim_is_not_parallel():
    answer = parallel(asked(ZOO["matmul"]), "k")
    assert not answer
    assert "k is reduced" in answer.reasons[0]
    assert {r.hint for r in answer.remedies} == {"parallel(i)", "parallel(j)"}
    assert not vectorise(asked(ZOO["matmul"]), "k")
    assert vectorise(asked(ZOO["matmul"]), "j")


def test_space_is_parallel_inside_time():
    q = asked(JACOBI)
    answer = parallel(q, "x")
    assert answer
    assert "inside t" in answer.reasons[0]
    time = parallel(q, "t")
    assert not time
    assert [r.hint for r in time.remedies] == ["parallel(x)"]


def test_loops_of_several_statements():
    q = asked(ZOO["lu"])
    assert tile(q, "S1", {"j": 8})
    assert parallel(q, "i")
    assert not parallel(q, "k")
    both = tile(q, "S1", {"i": 8, "j": 8})
    assert not both
    assert "S0" in both.reasons[0]
    assert not tile(asked(ZOO["trisolve"]), "t", {"j": 2})


def test_every_remedy_is_legal():
    """What is offered was asked of the oracle: ask again."""
    for name, program in ZOO.items():
        q = asked(program)
        for s in program.statements:
            for d in s.dims:
                answer = parallel(q, d, s.name)
                for r in answer.remedies:
                    assert r.hint is not None
                    assert parallel(q, r.hint.removeprefix("parallel(").rstrip(")"), s.name), (name, s.name, r)


def test_names_that_do_not_exist():
    q = asked(JACOBI)
    with pytest.raises(ArgumentError, match="no statement 'uu'") as unknown:
        tile(q, "uu", {"x": 2})
    assert unknown.value.hints == ("did you mean 'u'?",)
    with pytest.raises(DimError, match="no dimension named 'y'"):
        tile(q, "u", {"y": 2})
    with pytest.raises(DimError, match="no dimension named 'xx'"):
        parallel(q, "xx")
    with pytest.raises(ArgumentError, match="not positive"):
        tile(q, "u", {"x": 0})
    with pytest.raises(ArgumentError, match="one statement"):
        fuse(q, "u", "S1")


def test_json_has_stable_keys():
    data = tile(asked(JACOBI), "u", {"t": 8, "x": 64}).to_json()
    assert set(data) == {
        "question", "legal", "statements", "dependence", "distance", "deltas", "reasons", "remedies",
    }  # fmt: skip
    assert data["distance"] == {"t": 1, "x": -1}
