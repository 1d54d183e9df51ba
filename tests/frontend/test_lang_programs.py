# SPDX-License-Identifier: MIT
"""The programs of the language's description trace to recordings with the right outputs, statements and positions.

What the recordings compute is tested where they are assembled and interpreted.
"""

import pytest

from frontend import lang as ph
from frontend.inference.settling import settle
from frontend.recorded import Padding, Reduction
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.program import Role
from tests.zoo_language import ZOO, conv_strided, record


def outputs(recording):
    return {a.name: set(a.dim_names) for a in recording.arrays if a.role is Role.OUTPUT}


@pytest.mark.parametrize("name", ZOO)
def test_every_program_traces_and_does_so_deterministically(name):
    first, _ = record(ZOO[name], settle, name)
    second, _ = record(ZOO[name], settle, name)
    assert first == second
    assert first.statements
    known = {a.name for a in first.arrays} | {d.name for d in first.definitions}
    values = [s.value for s, _ in first.statements] + [d.body for d in first.definitions if isinstance(d, Reduction)]
    for value in values:
        assert {load.array for load in ex.loads(value)} <= known
        for node in ex.walk(value):
            if isinstance(node, ex.Binary):
                assert ex.dtype_of(node.lhs) == ex.dtype_of(node.rhs), node


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("caps_votes", "ci co y x ky kx p r"),
        ("caps_conv", "co y x p r"),
        ("conv_grouped", "g o y x"),
        ("causal", "s d"),
        ("normalise", "y x ky kx i o"),
        ("conv_lifted_twice", "batch model o y x"),
        ("pixel_shuffle", "c y x"),
    ],
)
def test_dims_of_the_result(name, dims):
    recording, returned = record(ZOO[name], settle)
    assert outputs(recording) == {returned: set(dims.split())}


def test_strided_convolution_is_one_reduction():
    recording, returned = record(ZOO["conv_strided"], settle)
    assert returned == "out"
    (reduction,) = recording.definitions
    assert reduction.free == ("o", "x", "y")
    assert reduction.bound == ("c'1", "ky'1", "kx'1")
    assert dict(reduction.shown) == {"c'1": "c", "ky'1": "ky", "kx'1": "kx"}
    x = next(load for load in ex.loads(reduction.body) if load.array == "X")
    assert dict(x.index)["x"] == aff.var("x") * 2 + aff.var("kx'1")
    assert str(recording.array("out").extent("x")) == "(-W.kx + X.x)//2 + 1"


def test_output_statement_is_located_where_the_result_was_written():
    recording, _ = record(ZOO["conv_strided"], settle)
    where = recording.statements[-1][0].location
    assert where.text.strip().startswith("return (X[2 * y + ky")
    start, stop = where.columns
    assert where.text[start:stop] == "(X[2 * y + ky, 2 * x + kx] * W).sum(c, ky, kx)"
    assert where.line == conv_strided.__code__.co_firstlineno + 1


def test_several_results_mirror_the_function():
    assert record(ZOO["em_routing"], settle)[1] == ("out0", "out1")
    assert record(ZOO["mean_variance"], settle)[1] == {"mean": "mu", "variance": "variance"}
    assert record(ZOO["lu"], settle)[1] is None
    assert record(ZOO["trisolve"], settle)[1] == "z"


def test_imperative_positions_are_textual_numbers_between_loops():
    recording, _ = record(ZOO["cholesky"], settle)
    assert [s.position for s, _ in recording.statements] == [
        (0, "j", 0, "k", 0),
        (0, "j", 1),
        (0, "j", 2, "i", 0, "k", 0),
        (0, "j", 2, "i", 1),
    ]
    assert all(s.kind == "update" for s, _ in recording.statements)


def test_lu_by_name_and_by_position_are_the_same_program():
    by_position, by_name = record(ZOO["lu"], settle)[0], record(ZOO["lu_by_name"], settle)[0]
    assert by_position.statements == by_name.statements


def test_jacobi_has_two_equations_and_a_derived_interior():
    recording, _ = record(ZOO["jacobi2d"], settle)
    border, step, out = (s for s, _ in recording.statements)
    assert (border.kind, step.kind, out.kind) == ("equation", "equation", "let")
    assert dict(border.index)["t"] == aff.const(0)
    assert dict(step.index)["t"] == aff.var("t") + 1
    assert str(recording.array("u").extent("t")) == "steps + 1"
    condition = step.value.cond.condition
    for x in range(5):
        inner = aff.holds(condition, {"t": 0, "y": 1, "x": x}, {"u0.x": 5, "u0.y": 3, "steps": 1})
        assert inner == (1 <= x < 4)


def test_accumulating_over_an_unseen_dim_is_a_reduction():
    ((statement, _),) = record(ZOO["histogram_rows"], settle)[0].statements
    assert statement.op == "sum"
    assert statement.value == ex.Load("X", (("i", aff.var("i")), ("j", aff.var("j"))), ph.f32)


def test_a_loop_with_a_step_counts_from_zero():
    ((statement, _),) = record(ZOO["every_third"], settle)[0].statements
    assert dict(statement.index)["x"] == aff.var("x") * 3 + 1
    (loop,) = statement.loops
    assert (str(loop.lo), str(loop.hi)) == ("0", "(u.x + 1)//3")


def test_low_precision_leaves_are_widened_before_the_product():
    (reduction,) = record(ZOO["gemm_bf16"], settle)[0].definitions
    assert reduction.dtype == ph.f32
    assert all(isinstance(side, ex.Cast) and side.dtype == ph.f32 for side in (reduction.body.lhs, reduction.body.rhs))
    (reduction,) = record(ZOO["gemm_i8"], settle)[0].definitions
    assert reduction.dtype == ph.i32


def test_masks_of_attention_shrink_domains_and_leave_no_select():
    recording, _ = record(ZOO["causal"], settle)
    masked = [d for d in recording.definitions if d.where != aff.TRUE]
    assert len(masked) == 3
    assert not any(isinstance(n, ex.Select) for d in masked for n in ex.walk(d.body))


def test_padding_is_a_definition():
    recording, _ = record(ZOO["conv_same"], settle)
    (padding,) = (d for d in recording.definitions if isinstance(d, Padding))
    assert padding.widths == (("y", 1, 1), ("x", 1, 1))
    assert padding.value == ex.Const(0.0, ph.f32)


def test_first_index_of_the_extreme_and_a_gather():
    recording, _ = record(ZOO["nearest"], settle)
    assert recording.array("nearest").dtype == ph.i64
    gather = recording.statements[-1][0].value
    assert isinstance(dict(gather.index)["k"], ex.Load)
