# SPDX-License-Identifier: MIT
"""Recordings become Programs: what is stored, where it is needed, in which order; and the results are NumPy's.

The programs come from `tests/zoo_language.py` or are traced here; the interpreter says what a Program means.
"""

import time
from collections.abc import Callable

import numpy as np
import pytest

from frontend import lang as ph
from frontend.inference.assemble import assemble
from frontend.inference.settling import settle
from polyhedral.dim import i, j, k, t, x, y
from polyhedral.ir import expr as ex
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program, Role
from tests.zoo_language import ZOO, Case, record


def build(case: Case, name: str = "program") -> Program:
    summaries = {}
    recording, _ = record(case, lambda r, known: settle(r, known, summaries), name)
    return assemble(recording, summaries)


def program(f: Callable[..., object], inout: str = "", **arguments: str) -> Program:
    return build(Case(f, arguments, tuple(inout.split())), f.__name__)


def shape(p: Program, name: str) -> tuple[str, str]:
    """A statement's ranges and guard, as printed."""
    domain = p.statement(name).domain
    return ", ".join(map(str, domain.ranges)), str(domain.guard)


def given(p: Program, seed: int = 0, **sizes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    known = {n: sizes[n.rsplit(".")[-1]] for n in p.sizes if n.rsplit(".")[-1] in sizes}
    return {
        a.name: rng.standard_normal([known[str(e)] for _, e in a.dims]).astype(a.dtype.numpy)
        for a in p.with_role(Role.INPUT, Role.INOUT)
    }


def one(p: Program, inputs: dict[str, np.ndarray], order: str, **sizes: int) -> np.ndarray:
    name = p.with_role(Role.OUTPUT, Role.INOUT)[0].name
    return run(p, inputs, sizes, {name: order.split()})[name]


@pytest.mark.parametrize("name", ZOO)
def test_every_program_of_the_zoo_assembles(name: str):
    p = build(ZOO[name], name)
    names = [n.name for n in p.statements]
    assert len(set(names)) == len(names)
    assert len({n.position for n in p.statements}) == len(names)
    arrays = {a.name for a in p.arrays}
    assert len(arrays) == len(p.arrays)
    for n in p.statements:
        assert n.write.array in arrays
        for load in ex.loads(n.value):
            assert load.array in arrays
            assert tuple(d for d, _ in load.index) == p.array(load.array).dim_names
        assert ex.dims_of(n.value) <= set(n.dims)
        assert not any("'" in d or "%" in d for d in n.dims)
    assert str(build(ZOO[name], name)) == str(p)


def test_a_strided_convolution_is_one_statement_and_quick():
    build(ZOO["conv_strided"])
    start = time.perf_counter()
    p = build(ZOO["conv_strided"])
    assert time.perf_counter() - start < 0.05
    (conv,) = p.statements
    assert conv.op == "sum"
    assert conv.reduced == ("c", "ky", "kx")
    assert [str(a) for a in p.assumptions] == ["X.c == W.c"]
    inputs = given(p, c=2, y=7, x=8, o=3, ky=3, kx=2)
    X, W = inputs["X"], inputs["W"]
    expected = np.zeros((3, 3, 4), np.float32)
    for at in np.ndindex(3, 4):
        window = X[:, 2 * at[0] : 2 * at[0] + 3, 2 * at[1] : 2 * at[1] + 2]
        expected[:, *at] = np.einsum("cyx,ocyx->o", window, W)
    np.testing.assert_allclose(one(p, inputs, "o y x"), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_padding_modes(mode: str):
    def padded(X):
        return X.pad(y=1, x=(2, 1), mode=mode)[y - 1, x - 2] * 1.0

    p = program(padded, X="f64 y x")
    inputs = given(p, y=4, x=5)
    expected = np.pad(inputs["X"], ((1, 1), (2, 1)), mode=mode)
    np.testing.assert_array_equal(one(p, inputs, "y x"), expected)


def test_causal_attention_wastes_no_work():
    p = build(ZOO["causal"])
    for name in ("sum0", "quotient"):
        assert shape(p, name)[1] == "t <= s"
    assert {str(d) for d in p.array("quotient").dim_names} == {"s", "t"}
    inputs = given(p, s=6, d=4)
    Q, K, V = (inputs[n].astype(np.float64) for n in "QKV")
    a = np.where(np.tri(6, dtype=bool), Q @ K.T * 0.5, -np.inf)
    e = np.exp(a - a.max(1, keepdims=True))
    np.testing.assert_allclose(one(p, inputs, "s d"), e / e.sum(1, keepdims=True) @ V, rtol=1e-4, atol=1e-5)


def test_sliding_window_attention():
    p = build(ZOO["window"])
    assert shape(p, "sum0") == ("s < Q.s, t < K.s, d < Q.d", "s <= t + 127 and t <= s")


def test_normalising_over_the_inverse_of_a_strided_access():
    p = build(ZOO["normalise"])
    total = p.statement("sum0")
    assert str(total.domain.guard) == "cy == ky + 2*y and cx == kx + 2*x"
    assert [n.name for n in p.statements] == ["max0", "sum0", "out"]
    inputs = given(p, y=2, x=3, ky=3, kx=2, i=2, o=2, cy=5, cx=6)
    LP = inputs["LP"].astype(np.float64)
    z = np.zeros((2, 5, 6))
    for yy, xx, a, b in np.ndindex(2, 3, 3, 2):
        z[:, 2 * yy + a, 2 * xx + b] += np.exp(LP[yy, xx, a, b]).sum(-1)
    expected = np.zeros_like(LP)
    for yy, xx, a, b in np.ndindex(2, 3, 3, 2):
        expected[yy, xx, a, b] = np.exp(LP[yy, xx, a, b]) / z[:, 2 * yy + a, 2 * xx + b, None]
    np.testing.assert_allclose(one(p, inputs, "y x ky kx i o"), expected, rtol=1e-4)


def test_em_routing_stores_no_votes_and_shares_equal_parts():
    p = build(ZOO["em_routing"])
    assert max(len(a.dims) for a in p.with_role(Role.TEMPORARY)) == 3
    written = [
        (str(n.value), n.op) for n in p.statements if n.op is None and p.array(n.write.array).role is Role.TEMPORARY
    ]
    assert len(set(written)) == len(written)


def test_jacobi_runs_and_keeps_its_border():
    p = build(ZOO["jacobi2d"])
    assert [str(r) for r in p.statement("S1").domain.ranges if r.dim == "t"] == ["t < steps"]
    inputs = given(p, y=5, x=6)
    u = inputs["u0"].copy()
    for _ in range(3):
        new = u.copy()
        new[1:-1, 1:-1] = 0.2 * (u[1:-1, 1:-1] + u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:])
        u = new
    np.testing.assert_allclose(one(p, inputs, "y x", steps=3), u, rtol=1e-5)


def test_cholesky():
    p = build(ZOO["cholesky"])
    M = np.tril(np.random.default_rng(0).standard_normal((5, 5))) + 5 * np.eye(5)
    got = one(p, {"A": M @ M.T}, "i j")
    np.testing.assert_allclose(np.tril(got), M)


def test_reductions_of_memory_are_evaluated_again_for_each_reader():
    def normalise_twice(A, steps):
        with ph.loop(t, steps):
            norm = (A * A).sum(i)
            A[...] = A / norm
            A[...] = A - norm

    p = program(normalise_twice, "A", A="f64 i j", steps="size")
    assert [(n.name, n.position) for n in p.statements] == [
        ("sum0", (0, "t", 0)),
        ("S0", (0, "t", 1)),
        ("sum0_1", (0, "t", 2)),
        ("S1", (0, "t", 3)),
    ]
    assert p.array("sum0").dim_names == ("t", "j")
    inputs = given(p, i=3, j=2)
    A = inputs["A"].copy()
    for _ in range(2):
        A = A / (A * A).sum(0)
        A = A - (A * A).sum(0)
    np.testing.assert_allclose(one(p, inputs, "i j", steps=2), A)


def test_a_loop_dim_as_index_of_a_reduction_is_not_stored_twice():
    def rows(A):
        with ph.loop(j, A.size(j)):
            A(j=j)[...] = A - (A * A).sum(i)

    p = program(rows, "A", A="f64 i j")
    assert p.array("sum0").dim_names == ("j",)
    inputs = given(p, i=3, j=2)
    np.testing.assert_allclose(one(p, inputs, "i j"), inputs["A"] - (inputs["A"] ** 2).sum(0))


def test_reductions_of_memory_inside_triangular_loops():
    def cholesky_by_sums(A):
        n = A.size(i)
        with ph.loop(j, n):
            done = (A(j=k) * A(i=j, j=k)).sum(k, where=k < j)
            A(i=j, j=j)[...] = ph.sqrt(A(i=j, j=j) - done(i=j, j=j))
            with ph.loop(i, j + 1, n):
                A[...] = (A - done) / A(i=j, j=j)

    p = program(cholesky_by_sums, "A", A="f64 i j")
    M = np.tril(np.random.default_rng(0).standard_normal((5, 5))) + 5 * np.eye(5)
    np.testing.assert_allclose(np.tril(one(p, {"A": M @ M.T}, "i j")), M)


def test_a_gather_from_a_reduction():
    def pick(A, which):
        return A.sum(k)(x=which)

    p = program(pick, A="f64 x k", which="i64 i")
    inputs = given(p, x=4, k=3, i=2) | {"which": np.array([3, 1])}
    np.testing.assert_allclose(one(p, inputs, "i"), inputs["A"].sum(1)[[3, 1]])


def test_a_temporary_covers_all_readers_and_starts_at_zero():
    def middle(A, B):
        row = (A * B).sum(k)
        return row[x + 2] + 0 * ph.let(A(x=x, k=0), x=(0, A.size(x) - 2))

    p = program(middle, A="f64 x k", B="f64 k")
    assert shape(p, "sum0")[0] == "2 <= x < A.x, k < A.k"
    assert [str(e) for _, e in p.array("sum0").dims] == ["A.x - 2"]
    inputs = given(p, x=6, k=3)
    np.testing.assert_allclose(one(p, inputs, "x"), (inputs["A"] @ inputs["B"])[2:])


def test_two_shifted_readers_share_one_temporary():
    def difference(A, B):
        row = ph.exp((A * B).sum(k))
        return row[2 * x + 1] - row[2 * x]

    p = program(difference, A="f64 x k", B="f64 k")
    inputs = given(p, x=6, k=3)
    assert [n.name for n in p.statements] == ["sum0", "out"]
    assert shape(p, "sum0") == ("x < 2*(A.x//2), k < A.k", "true")
    np.testing.assert_allclose(one(p, inputs, "x"), np.diff(np.exp(inputs["A"] @ inputs["B"]))[::2])


def test_demand_follows_branches():
    def upper(A, B):
        row = (A * B(j=k)).sum(k)
        return ph.where(j <= i, row * B, 0.0)

    p = program(upper, A="f64 i k", B="f64 j")
    inputs = given(p, i=4, j=3, k=3)
    expected = np.where(np.tri(4, 3, dtype=bool), np.outer(inputs["A"] @ inputs["B"], inputs["B"]), 0.0)
    np.testing.assert_allclose(one(p, inputs, "i j"), expected)


def test_costly_parts_over_fewer_dims_are_stored():
    def scaled(A, b):
        return (A * ph.exp(b)).sum(k) * ph.sqrt(A.size(k))

    p = program(scaled, A="f64 i k", b="f64 k")
    assert [n.name for n in p.statements] == ["exp", "sum0", "out"]
    assert p.array("exp").dim_names == ("k",)
    inputs = given(p, i=2, k=3)
    np.testing.assert_allclose(one(p, inputs, "i"), inputs["A"] @ np.exp(inputs["b"]) * 3**0.5)


def test_unread_constants_and_definitions_are_dropped():
    def unused(A):
        ph.const([1.0, 2.0], "x")
        A.sum(x)
        return A + 1

    p = program(unused, A="f64 x")
    assert [a.name for a in p.arrays] == ["A", "out"]
    assert [n.name for n in p.statements] == ["out"]


def test_dims_of_one_name_are_numbered():
    def gram(A):
        return (A * A(i=j)).sum(k) + A.sum(k)

    p = program(gram, A="f64 i k")
    inputs = given(p, i=3, k=4)
    A = inputs["A"]
    np.testing.assert_allclose(one(p, inputs, "i j"), A @ A.T + A.sum(1)[:, None])


def test_accumulation_into_memory():
    p = build(ZOO["histogram_rows"])
    (only,) = p.statements
    assert (only.op, only.accumulate, only.reduced) == ("sum", True, ("j",))


def test_lifting_adds_dims_and_nothing_else():
    p = build(ZOO["conv_lifted_twice"])
    assert set(p.array("out").dim_names) == {"batch", "model", "o", "y", "x"}
    assert len(p.statements) == 1
