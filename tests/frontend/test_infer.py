# SPDX-License-Identifier: MIT
"""Ranges of dims: pinned, inferred, refused; one statement each, over recordings built by hand.

Whole programs are in `test_assemble`.
"""

import pytest

from frontend.inference.settling import inside, settle
from frontend.recorded import Loop, Padding, Recorded, Recording, Reduction
from polyhedral.errors import DimError, DomainError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, at_least, both, const, equal, size, var
from polyhedral.ir.dtypes import f32, i64
from polyhedral.ir.program import Array, Role


def array(name: str, dims: str = "", **extents: Affine) -> Array:
    named = {d: size(f"{name}.{d}") for d in dims.split()} | extents
    return Array(name, tuple(named.items()), f32, Role.INPUT)


def at(a: Array | Reduction | Padding, **index: Affine) -> ex.Load:
    dims = a.free if isinstance(a, Reduction) else X.dim_names if isinstance(a, Padding) else a.dim_names
    return ex.Load(a.name, tuple((d, index.get(d, var(d))) for d in dims), f32)


def plus(*args: ex.Expr) -> ex.Expr:
    result = args[0]
    for a in args[1:]:
        result = ex.Binary("+", result, a)
    return result


def let(value: ex.Expr, **more: object) -> Recorded:
    return Recorded("S", "let", "S", value, **more)  # type: ignore[arg-type]


def ranges(r: Recorded, *arrays: Array, definitions: tuple = (), assumptions: tuple = ()) -> dict[str, str]:
    settled = settle(r, Recording("f", arrays, definitions, assumptions=assumptions))
    return {d: f"{lo}:{hi}" for d, lo, hi in settled.ranges}


x, y, i, j, k = (var(n) for n in ("x", "y", "i", "j", "k"))
X = array("X", "c y x")
W = array("W", "o c ky kx")
A = array("A", "x")
B = array("B", "x")


def conv(stride: int) -> Reduction:
    inner = {"c": var("c'1"), "y": stride * y + var("ky'1"), "x": stride * x + var("kx'1")}
    weights = at(W, c=var("c'1"), ky=var("ky'1"), kx=var("kx'1"))
    bound = ("c'1", "ky'1", "kx'1")
    return Reduction("%sum0", "sum", ("o", "y", "x"), bound, ex.Binary("*", at(X, **inner), weights), f32)


def test_strided_convolution():
    d = conv(2)
    settled = settle(let(at(d)), Recording("conv", (X, W), (d,)))
    assert [(n, str(hi)) for n, _, hi in settled.ranges] == [
        ("o", "W.o"),
        ("y", "(-W.ky + X.y)//2 + 1"),
        ("x", "(-W.kx + X.x)//2 + 1"),
    ]
    assert [str(c) for c, _ in settled.requires] == ["X.c == W.c"]
    assert dict(settled.reasons)["o"] == "o takes the whole of W.o because W appears bare"
    assert dict(settled.reasons)["y"] == "y has the largest range for which X(y=ky + 2*y) is in bounds"


def test_each_definition_is_looked_at_once():
    d, memo = conv(1), {}
    recording = Recording("conv", (X, W), (d,))
    first = settle(let(at(d)), recording, memo)
    assert set(memo) == {"%sum0"}
    assert settle(let(at(d)), recording, memo) == first


def test_reading_a_reduction_elsewhere_pulls_its_needs_back():
    d = conv(1)
    found = ranges(let(at(d, y=3 * y, o=const(0))), X, W, definitions=(d,))
    assert found == {"y": "0:(-W.ky + X.y)//3 + 1", "x": "0:-W.kx + X.x + 1"}


def test_pixel_shuffle_is_inferred_in_two_rounds():
    value = at(X, c=4 * var("c") + 2 * (y % 2) + x % 2, y=y // 2, x=x // 2)
    assert ranges(let(value), X) == {"c": "0:X.c//4", "x": "0:2*X.x", "y": "0:2*X.y"}


def test_split_by_a_declared_size():
    value = at(A, x=4 * var("g") + var("w"))
    found = ranges(let(value, declared=(("w", const(0), const(4)),)), A)
    assert found == {"g": "0:A.x//4", "w": "0:4"}


def test_negative_coefficient():
    assert ranges(let(at(A, x=size("A.x") - 1 - x)), A) == {"x": "0:A.x"}


def test_a_bare_read_pins_even_next_to_a_shifted_one():
    assert ranges(let(plus(at(A), at(A, x=x + 1))), A) == {"x": "0:A.x"}


def test_padding_widens_reads_but_no_bare_dim():
    p = Padding("%pad0", "X", (("y", 1, 1), ("x", 1, 2)), "constant", ex.Const(0.0, f32))
    assert ranges(let(at(p)), X, definitions=(p,)) == {"c": "0:X.c", "y": "0:X.y", "x": "0:X.x"}
    shifted = at(p, y=y - 1, x=x + var("kx") - 1)
    found = ranges(let(shifted, declared=(("kx", const(0), const(3)),)), X, definitions=(p,))
    assert found["y"] == "0:X.y + 2"
    assert found["x"] == "0:X.x + 1"


def test_target_of_an_equation_does_not_pin():
    u = array("u", "x", t=size("steps") + 1)
    t = var("t")
    interior = both(at_least(x, 1), at_least(size("u.x") - 2 - x))
    value = ex.Select(ex.Test(interior), plus(at(u, x=x - 1), at(u, x=x + 1)), at(u))
    r = Recorded("S", "equation", "u", value, (("x", x), ("t", t + 1)))
    assert ranges(r, u) == {"x": "0:u.x", "t": "0:steps"}


def test_branches_need_bounds_only_where_taken():
    first = ex.Test(at_least(size("A.x") - 1 - x))
    joined = ex.Select(first, at(A), at(B, x=x - size("A.x")))
    r = let(joined, over=(("x", const(0), size("A.x") + size("B.x")),))
    assert ranges(r, A, B) == {"x": "0:A.x + B.x"}


def test_loops_give_ranges_and_order():
    r = Recorded(
        "S",
        "update",
        "A",
        at(A, x=x - 1),
        (("x", x),),
        loops=(Loop("t", const(0), size("n")), Loop("x")),
        position=(0, "t", 0, "x", 0),
    )
    assert ranges(r, A) == {"t": "0:n", "x": "0:A.x"}
    r = Recorded("S", "update", "A", at(A, x=x - 1), (("x", x + 1),), loops=(Loop("x"),))
    assert ranges(r, A) == {"x": "1:A.x - 1"}


def test_a_condition_can_bound_a_dim():
    triangle = both(at_least(j), at_least(i - j - 1))
    r = let(ex.Binary("*", at(A, x=i), ex.Cast(f32, ex.Index(j, i64))), when=triangle)
    assert ranges(r, A) == {"i": "0:A.x", "j": "0:A.x - 1"}


def test_sizes_that_provably_differ():
    C = array("C", x=size("A.x") + 1)
    with pytest.raises(DimError, match=r"sizes disagree: A.x but C.x = A.x \+ 1") as e:
        ranges(let(plus(at(A), at(C))), A, C)
    assert e.value.code == "PH010"
    assert e.value.dim == "x"
    with pytest.raises(DimError, match=r"sizes disagree: A.x but B.x "):
        ranges(let(plus(at(A), at(B))), A, B, assumptions=(equal(size("A.x"), const(3)), equal(size("B.x"), const(4))))


def test_sizes_that_may_differ_are_required_equal_once():
    settled = settle(let(plus(at(A), at(B), at(B), at(A))), Recording("f", (A, B)))
    assert [(str(c), text) for c, text in settled.requires] == [
        ("A.x == B.x", "A.x == B.x: both are indexed by dimension x in statement S")
    ]


def test_equal_sizes_make_one_bound():
    value = plus(at(A, x=x + k), at(B, x=x + k), at(array("K", "k"), k=k))
    same = (equal(size("A.x"), size("B.x")),)
    assert ranges(let(value), A, B, array("K", "k"), assumptions=same) == {"x": "0:A.x - K.k + 1", "k": "0:K.k"}
    with pytest.raises(DomainError, match=r"smaller of A.x - K.k \+ 1 and B.x - K.k \+ 1") as e:
        ranges(let(value), A, B, array("K", "k"))
    assert e.value.code == "PH110"


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (at(A, x=i + j), "PH111", r"the range of i and j is ambiguous: they occur only together, in A\(x=i \+ j\)"),
        (at(A, x=x - 1), "PH112", "1 <= x < A.x . 1, which does not start at 0"),
        (ex.Index(i, i64), "PH110", "nothing bounds dimension i"),
        (ex.Select(ex.Test(at_least(x)), at(A, x=x + 1), ex.Const(0.0, f32)), "PH110", "dimension x from below"),
    ],
)
def test_refusals(value: ex.Expr, code: str, words: str):
    with pytest.raises(DomainError, match=words) as e:
        ranges(let(value), A)
    assert e.value.code == code
    assert e.value.hints
    assert e.value.dim


def test_a_bound_dim_without_a_range():
    d = Reduction("%sum0", "sum", ("x",), ("k'1",), at(A, x=x + var("k'1")), f32, shown=(("k'1", "k"),))
    with pytest.raises(DomainError, match=r"k and x is ambiguous.*A\(x=k \+ x\)"):
        ranges(let(at(d)), A, definitions=(d,))


def test_inside_is_the_interior():
    c = inside(plus(at(A, x=x - 1), at(A, x=x + 1)), Recording("f", (A,)))
    assert aff.holds(c, {"x": 1}, {"A.x": 4})
    assert not aff.holds(c, {"x": 0}, {"A.x": 4})
    assert not aff.holds(c, {"x": 3}, {"A.x": 4})
    d = conv(1)
    c = inside(at(d), Recording("f", (X, W), (d,)))
    sizes = {"X.c": 1, "W.c": 1, "W.o": 1, "X.y": 5, "X.x": 5, "W.ky": 3, "W.kx": 3}
    assert aff.holds(c, {"o": 0, "y": 2, "x": 2}, sizes)
    assert not aff.holds(c, {"o": 0, "y": 3, "x": 2}, sizes)
