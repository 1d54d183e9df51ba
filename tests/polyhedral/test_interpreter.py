# SPDX-License-Identifier: MIT
"""The interpreter against NumPy, program by program, and its errors."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from polyhedral.errors import ArgumentError, BoundsError, DimError, DomainError, DtypeError
from polyhedral.ir import affine as aff
from polyhedral.ir.evaluate import points
from polyhedral.ir.interpreter import cell_domain, run
from polyhedral.text.reader import parse
from tests.programs import CASES
from tests.strategies import inputs_for, programs


def full_sizes(case):
    sizes = dict(case.sizes)
    for a in case.program.arrays:
        for _, e in a.dims:
            for n in aff.sizes_of(e):
                sizes.setdefault(n, 3)
    return sizes


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_zoo(name, seed):
    case = CASES[name]
    inputs = inputs_for(case.program, full_sizes(case), seed)
    before = {n: v.copy() for n, v in inputs.items()}
    got = run(case.program, inputs, case.sizes)
    for n, want in case.expect(inputs).items():
        assert got[n].dtype == case.program.array(n).dtype.numpy
        if name in ("softmax", "capsule_conv", "conv_padded", "constant_array"):
            np.testing.assert_allclose(got[n].astype(float), want.astype(float), rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(got[n], want)
    for n, v in before.items():
        np.testing.assert_array_equal(inputs[n], v)


def test_dim_order():
    X = np.arange(12, dtype=np.float32).reshape(3, 4)
    copied = run(CASES["copy"].program, {"X": X.T}, dim_order={"X": ("x", "y"), "out": ("x", "y")})
    np.testing.assert_array_equal(copied["out"], X.T)


def test_trace_lists_reads_and_writes():
    trace = []
    run(CASES["prefix_sum"].program, {"X": np.arange(3)}, trace=trace)
    assert trace == [
        ("S0", {"i": 0}, (("X", (0,)),), ("out", (0,))),
        ("S0", {"i": 1}, (("out", (0,)), ("X", (1,))), ("out", (1,))),
        ("S0", {"i": 2}, (("out", (1,)), ("X", (2,))), ("out", (2,))),
    ]


def test_nan_wraps_and_floors():
    p = parse("""
    program p
      input X: f32[i]
      input K: i32[i: X.i]
      output m: f32[]
      output q: i32[i: X.i]
      output w: i32[i: X.i]
      S0: m = max[i < X.i] X
      S1: for i < X.i:  q = K // 3 + K % 3
      S2: for i < X.i:  w = K * 2147483647
    """)
    K = np.array([-7, 5, 2], np.int32)
    got = run(p, {"X": np.array([1, np.nan, 2], np.float32), "K": K})
    assert np.isnan(got["m"])
    np.testing.assert_array_equal(got["q"], K // 3 + K % 3)
    np.testing.assert_array_equal(got["w"], (K.astype(np.int64) * 2147483647).astype(np.int32))


def test_vector_update_reads_before_it_writes():
    p = parse("program p\n inout A: i32[i]\n S0: for i < A.i: A = A(i=A.i - 1 - i)")
    np.testing.assert_array_equal(run(p, {"A": np.arange(4, dtype=np.int32)})["A"], [3, 2, 1, 0])


def test_equation_reads_memory_at_its_position():
    p = parse("""
    program p
      inout A: i32[i]
      output T: i32[t: 3]
      S0: for t < 3 at (0, t, 0):  T = A(i=0)
      S1: for t < 3 at (0, t, 1):  A(i=0) = A(i=0) + 1
    """)
    got = run(p, {"A": np.array([5], np.int32)})
    assert got["T"].tolist() == [5, 6, 7]
    assert got["A"].tolist() == [8]


def test_reduction_in_memory():
    p = parse("""
    program p
      input X: i32[k]
      inout A: i32[i]
      S0: for k < X.k, i < A.i if k < i at (0, k, 0):
        A = sum[k] X
      S1: for i < A.i at (1):
        A = A * A
    """)
    got = run(p, {"X": np.array([1, 2, 3], np.int32), "A": np.full(4, 9, np.int32)})
    assert got["A"].tolist() == [0, 1, 9, 36]


def test_cells_of_empty_reductions():
    p = parse("""
    program p
      input X: f32[i]
      output z: f32[i: X.i]
      S: for i < X.i if 1 <= i:  z = sum[j < i if j < 2] X(i=j)
    """)
    assert points(cell_domain(p.statements[0]), {"X.i": 4})["i"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("output Y: f32[i: 3]\n S0: for i < 2: Y = 1.0", "PH120", "Y(i=2) is returned"),
        (
            "temporary u: f32[i: 4]\n output Y: f32[i: 3]\n S0: for i < 3: u = 1.0\n S1: for i < 3: Y = u(i=i + 1)",
            "PH120",
            "S1",
        ),
        ("output Y: f32[i: 3]\n S0: for i < 3: Y = Y(i=2 - i)", "PH122", "defined by itself"),
        ("output Y: f32[i: 3]\n S0: for i < 3: Y = 1.0\n S1: Y(i=1) = 2.0", "PH121", "Y(i=1) is defined twice"),
        ("output Y: f32[i: 3]\n S0: for i < 6: Y(i=i//2) = 1.0", "PH121", "defined twice"),
    ],
)  # fmt: skip
def test_definedness(text, code, words):
    with pytest.raises(DomainError) as error:
        run(parse(f"program p\n {text}"), {})
    assert error.value.code == code
    assert words in str(error.value)


def test_bounds_errors():
    p = parse(
        "program p\n input X: f32[i]\n input k: i64[i: X.i]\n output Y: f32[i: X.i]\n S0: for i < X.i: Y = X(i := k)"
    )
    with pytest.raises(BoundsError, match=r"X.i = an index that is data = 7, but X.i is in \[0, 3\)") as error:
        run(p, {"X": np.zeros(3, np.float32), "k": np.array([0, 7, 1])})
    assert (error.value.code, error.value.point) == ("PH103", {"i": 1})


def test_argument_errors():
    p = CASES["matmul"].program
    A, B = np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32)
    with pytest.raises(DimError, match=r"A.k = 3 but B.k = 4|B.k = 4, but A.k = 3"):
        run(p, {"A": A, "B": B})
    with pytest.raises(ArgumentError, match=r"2 axes|1 axes"):
        run(p, {"A": A[0], "B": B})
    with pytest.raises(DtypeError):
        run(p, {"A": A.astype(np.float64), "B": B})
    with pytest.raises(ArgumentError, match=r"argument A is missing|size A"):
        run(p, {"B": B})
    with pytest.raises(ArgumentError, match="assumes"):
        run(CASES["diagonal"].program, {"X": np.zeros((2, 3))})


@given(programs())
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_programs_run(p):
    got = run(p, inputs_for(p, {}))
    assert set(got) == {a.name for a in p.arrays if a.role.value in ("output", "inout")}
