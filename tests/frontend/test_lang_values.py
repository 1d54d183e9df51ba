# SPDX-License-Identifier: MIT
"""Rules of the language one by one: access, hygiene, reductions, conditions, types, blocks and assignments.

Diagnostics have their own file, tests/errors/test_lang_errors.py.
"""

import inspect
import pickle
import warnings

import numpy as np
import pytest

from frontend import lang as ph
from frontend.inference.settling import settle
from frontend.recorded import Reduction
from polyhedral import dim as dims_module
from polyhedral.dim import c, i, j, k, t, x, y
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.program import Role


@pytest.fixture
def trace():
    with ph.Trace("test", settle=settle) as opened:
        yield opened


@pytest.fixture(name="X")
def image(trace):
    return trace.argument("X", "c y x", ph.f32)


@pytest.fixture(name="A")
def memory(trace):
    return trace.argument("A", "i j", ph.f64, Role.INOUT)


# names


def test_dims_are_interned_by_name_and_size():
    assert dims_module.x is x is ph.dims("x") is ph.Dim("x")
    assert ph.Dim("x", 3) is ph.dims(x=3)
    assert ph.Dim("x", 3) is not x
    kx, ky = ph.dims(kx=3, ky=3)
    assert (repr(kx), repr(ky)) == ("kx", "ky")
    assert pickle.loads(pickle.dumps(kx)) is kx
    assert x in frozenset({x, y})
    assert ph.Dim("x", 3) in {x}
    with pytest.raises(AttributeError):
        _ = dims_module.__nothing__


def test_index_arithmetic_stays_affine():
    assert str(2 * x + ph.Dim("kx") - 1) == "kx + 2*x - 1"
    assert type(2 * x) is ph.Index
    assert type(x > 0) is ph.Cond
    assert str(x > 0) == "x > 0"
    assert str((4 * x + 2) // 2) == "2*x + 1"
    assert (x // -2).value.node.affine == (-x // 2).value.node.affine
    assert ((x > 0) & (x < 5)).value.node.condition == aff.both(
        aff.at_least(aff.var("x"), 1), (x < 5).value.node.condition
    )
    assert bool(x == x)
    assert type(x * 0.5) is ph.Expr
    assert type(x * y) is ph.Expr


def test_discoverability(X, trace):
    assert str(inspect.signature(X)) == "(*, c=c, y=y, x=x)"
    assert repr(X) == "X{c, y, x} f32"
    assert X.dims == frozenset({c, y, x})
    assert str(X.size(x)) == "X.x"
    assert isinstance(X.size(x), ph.Size)
    assert X.dtype == ph.f32
    assert not hasattr(ph.Expr, "__signature__")
    assert str(X[2 * x].size(x)) == "(X.x + 1)//2"
    scaled = ph.let(X * 2, "scaled")
    assert str(scaled.size(c)) == "X.c"


def test_fresh_dims_do_not_capture(X, trace):
    private = ph.fresh("x")
    assert str(private) == "x'"
    moved = X(x=private)
    assert moved.dims == {c, y, private}
    assert moved({private: x + 1}).value.node == X[x + 1].value.node


# access


def test_keyword_and_mention_agree(X):
    assert X(x=2 * x + 1).value.node == X[2 * x + 1].value.node
    assert X[y + 1, x - 1].value.node == X[x - 1, y + 1].value.node
    assert X[...].value.node == X.value.node


def test_transpose_and_diagonal(A):
    assert A(i=j, j=i).value.node.index == (("i", aff.var("j")), ("j", aff.var("i")))
    assert A(i=k, j=k).dims == {k}


def test_substitution_reaches_all_of_an_expression(X):
    shifted = (X * x + ph.where(x > 2, X, 0))(x=x + 1)
    assert {str(dict(n.index)["x"]) for n in ex.loads(shifted.value.node)} == {"x + 1"}
    assert (X.sum(y) * x)(x=0).dims == {c}


def test_gather_through_an_affine_index(X, trace):
    idx = trace.argument("idx", "j", ph.i32)
    assert isinstance(dict(X(x=idx).value.node.index)["x"], ex.Load)
    assert X(x=idx).dims == {c, y, j}
    twice = X[2 * x + 1](x=idx)
    assert ex.dtype_of(dict(twice.value.node.index)["x"]) == ph.i64


def test_order_gives_positions(A):
    a = A.order(j, i)
    assert a[k, i].value.node == A(j=k).value.node
    assert A.order("i j")[j, i].value.node == A(i=j, j=i).value.node


def test_lifted_dims_may_be_left_out_of_an_order(trace):
    B = trace.argument("B", "batch i j", ph.f64, Role.INOUT, lifted=("batch",))
    assert B.order(i, j)[i, k].value.node == B(j=k).value.node


# types


def test_literals_and_indices_bend_to_floats(X):
    assert (2 * X).dtype == ph.f32
    assert (x * X).dtype == ph.f32
    assert (X * (1 / X.size(c))).dtype == ph.f32
    assert (np.float64(2.5) * X).dtype == ph.f32
    assert (X.size(c) ** -0.5 * X).dtype == ph.f32


def test_integers(trace):
    n = trace.argument("n", "i", ph.i8)
    m = trace.argument("m", "i", ph.u8)
    assert (n * 2).dtype == ph.i8
    assert (n + m).dtype == ph.i16
    assert (n / m).dtype == ph.f32
    assert (n * i).dtype == ph.i64
    assert (n * 0.5).dtype == ph.f64
    assert n.sum(i).dtype == ph.i32
    assert n.max(i).dtype == ph.i8
    assert (n > m).dtype == ph.bool_
    assert (n**3).value.node.op == "*"
    assert (n // 2).dtype == ph.i8
    assert (~(n > 0)).value.node.op == "not"


def test_powers_multiply(X):
    assert (X**2).value.node == ex.Binary("*", X.value.node, X.value.node)
    assert (X**0.5).value.node == ex.Call("sqrt", (X.value.node,))
    assert (X**2.5).value.node.op == "**"
    assert (X**0).value.node == ex.Const(1.0, ph.f32)


def test_narrowing_casts_inside_a_reduction_stay(X, trace):
    X.astype(ph.bf16).sum(x)
    body = trace.snapshot().definitions[-1].body
    assert body == ex.Cast(ph.f32, ex.Cast(ph.bf16, trace.snapshot().definitions[-1].body.arg.arg))


# reductions


def test_predicates_are_split(X, trace):
    X.max(x, y, where=(x < y) & (X > 0))
    reduction = trace.snapshot().definitions[-1]
    assert str(reduction.where) == "x'1 < y'1"
    assert isinstance(reduction.body, ex.Select)
    assert reduction.body.other == ex.Const(float("-inf"), ph.f32)
    X.sum(x, where=X > 0)
    assert trace.snapshot().definitions[-1].where == aff.TRUE


def test_a_shared_reduction_is_one_definition(X, trace):
    s = X.sum(x)
    recording = trace.finish((s * s, s + 1))
    assert len(recording.definitions) == 1


def test_mean_divides_by_sizes_or_counts(X, trace):
    assert ex.dtype_of(X.mean(x, y).value.node) == ph.f32
    assert len(trace.definitions) == 1
    X.mean(x, where=X > 0)
    assert [d.op for d in trace.definitions.values()] == ["sum", "sum", "sum"]


def test_declared_sizes_travel_to_the_reduction(X, trace):
    kx = ph.Dim("kx", 3)
    X[x + kx].sum(kx)
    assert trace.snapshot().definitions[-1].declared == (("kx'1", aff.const(0), aff.const(3)),)
    X[x + ph.Dim("kx")].sum(kx, order="strict")
    assert trace.snapshot().definitions[-1].declared[0][2] == aff.const(3)
    assert trace.snapshot().definitions[-1].strict


def test_logical_reductions(X):
    assert (X > 0).any(x).dtype == ph.bool_
    assert (X > 0).all(x, where=x > 2).dtype == ph.bool_


# conditions, interiors


def test_where_and_orelse(X):
    assert isinstance(ph.where(x > 0, X, 0).value.node.cond, ex.Test)
    e = ph.orelse(X[x + 1], X)
    assert isinstance(e.value.node, ex.Select)
    assert str(ph.inside(X[x + 1])) == "0 <= x + 1 and x + 2 <= X.x"
    mixed = (x > 0) & (X > 0)
    assert isinstance(mixed.value.node, ex.Binary)


def test_interior_of_a_reduction_takes_the_worst_case(X, trace):
    kx = ph.Dim("kx", 3)
    where = ph.inside(X[x + kx - 1].sum(kx)).value.node.condition
    inner = [n for n in range(-1, 9) if aff.holds(where, {"x": n, "c": 0, "y": 0}, {"X.x": 6, "X.c": 1, "X.y": 1})]
    assert inner == [1, 2, 3, 4]


# statements


def test_blocks_restrict(A, trace):
    with ph.over(i=(1, 5)), ph.when(i < j):
        A[...] = 0
    with ph.sequential(i, j):
        A[...] += A[i - 1]
    first, second = (s for s, _ in trace.snapshot().statements)
    assert first.over == (("i", aff.const(1), aff.const(5)),)
    assert str(first.when) == "i < j"
    assert second.position == (1, "i", 0, "j", 0)
    assert [loop.lo for loop in second.loops] == [None, None]


def test_data_dependent_when_keeps_the_old_value(A, trace):
    with ph.when(A > 0):
        A[...] = 0
    ((statement, _),) = trace.snapshot().statements
    assert isinstance(statement.value, ex.Select)
    assert statement.value.other == trace.read("A").node


def test_variables_and_constants(X, trace):
    v = ph.var("v", like=X, t=4)
    assert v.dims == X.dims | {t}
    w = ph.var("w", i=10)
    assert w.dtype == ph.f32
    table = ph.const(np.eye(2, dtype=np.float32), "i j")
    array = trace.snapshot().array(table.name)
    assert array.role is Role.CONSTANT
    assert array.data == (1.0, 0.0, 0.0, 1.0)


def test_over_on_expressions_and_lets(X, trace):
    inner = ph.let(X[x + 1], "inner", x=X.size(x) - 1)
    assert str(inner.size(x)) == "X.x - 1"
    trace.finish(X.over(y=4))
    assert trace.snapshot().statements[-1][0].over == (("y", aff.const(0), aff.const(4)),)


def test_scan_uses_the_accumulator(trace):
    B = trace.argument("B", "i k", ph.f16)
    s = ph.scan("sum", B, along=i)
    assert s.dtype == ph.f32
    equation, _ = trace.snapshot().statements[-1]
    assert equation.kind == "equation"


def test_labels_are_made_unique(X, trace):
    assert ph.let(X, "h").name == "h"
    assert ph.let(X, "h").name == "h_1"


def test_many_statements_from_one_line_warn(A):
    def unrolled():
        for n in range(201):
            A(i=n)[...] = 0

    with pytest.warns(UserWarning, match=r"ph\.loop"):
        unrolled()


def test_two_hundred_statements_do_not_warn(A):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(200):
            A(i=n)[...] = 0


def test_unused_definitions_are_dropped(X, trace):
    X.sum(x)
    recording = trace.finish(X)
    assert not [d for d in recording.definitions if isinstance(d, Reduction)]


def test_returning_memory_or_a_let_makes_no_copy(A, trace):
    h = ph.let(A * 2, "h")
    trace.finish((A, h, h))
    assert trace.returned == ("A", "h", "out2")
    assert trace.arrays["h"].role is Role.OUTPUT


def test_scalars_and_assumptions(trace):
    alpha = trace.scalar_argument("alpha", ph.f32)
    n = trace.size_argument("n")
    ph.assume(n % 8 == 0)
    assert alpha.dims == frozenset()
    assert ph.Scalar[ph.f32].dtype == ph.f32
    assert len(trace.snapshot().assumptions) == 1
    assert trace.snapshot().sizes == ("n",)


def test_softmax_types_and_zeros_outside_the_mask(X):
    p = ph.softmax(X, x, where=x <= y)
    assert isinstance(p.value.node, ex.Select)
    assert p.value.node.other == ex.Const(0.0, ph.f32)


def test_python_spellings_of_functions(X):
    assert abs(X).value.node == ex.Unary("abs", X.value.node)
    assert ph.abs(X).value.node == abs(X).value.node
    assert (-X).value.node == ex.Unary("-", X.value.node)
    assert round(X).value.node == ph.round(X).value.node
    assert ph.exp(0.5).dtype == ph.f64
