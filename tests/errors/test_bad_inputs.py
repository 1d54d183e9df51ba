# SPDX-License-Identifier: MIT
"""Wrong lines inside a program, each with the exact class and code of its error: a diagnostic, never an accident.

Wrong calls, options and program texts are in `test_bad_calls`; the words of the catalogue in `test_catalogue`.
"""
# fmt: off

import math

import numpy as np
import pytest

import polyhedral as ph
from frontend.inference.settling import settle
from frontend.lang import Trace
from polyhedral.dim import c, i, j, k, t, x, y
from polyhedral.ir.program import Role


class Scene:
    """The arguments that the wrong lines use."""

    def __init__(self):
        self.trace = Trace("scene", settle=settle)
        self.X = self.trace.argument("X", "c y x", ph.f32)
        self.A = self.trace.argument("A", "i j", ph.f64, Role.INOUT)
        self.K = self.trace.argument("K", "s t", ph.f32)
        self.H = self.trace.argument("H", "i", ph.f16)
        self.B = self.trace.argument("B", "i", ph.bf16)
        self.N = self.trace.argument("N", "i", ph.i64)
        self.U = self.trace.argument("U", "i", ph.u64)
        self.M = self.trace.argument("M", "i", ph.bool)
        self.n = self.trace.size_argument("n")


def write(place, value):
    place[...] = value


def rebind(tensor):
    tensor += 1


def nothing(block):
    with block:
        pass


def loop_twice(a, b):
    with ph.loop(a, 3), ph.loop(b, 4):
        pass


WRONG = [
    ("DimError PH001", lambda s: s.X(yy=0)),
    ("DimError PH001", lambda s: s.X(Y=0)),
    ("DimError PH001", lambda s: s.X(c=0, z=1)),
    ("DimError PH001", lambda s: (s.X * 2)(q=0)),
    ("DimError PH001", lambda s: s.X.sum(c)(c=0)),
    ("DimError PH001", lambda s: s.X.size(k)),
    ("DimError PH001", lambda s: s.X.size("nope")),
    ("DimError PH001", lambda s: s.X.over(k=3)),
    ("DimError PH001", lambda s: s.X.pad(k=1)),
    ("DimError PH001", lambda s: ph.let(s.X, k=3)),
    ("DimError PH002", lambda s: s.X.sum(k)),
    ("DimError PH002", lambda s: s.X.sum()),
    ("DimError PH002", lambda s: s.X.sum(x, x)),
    ("DimError PH002", lambda s: s.X.sum(x, "k")),
    ("DimError PH002", lambda s: s.X.max()),
    ("DimError PH002", lambda s: s.X.mean(k)),
    ("DimError PH002", lambda s: s.X.any()),
    ("DimError PH002", lambda s: s.X.argmax(x, y)),
    ("DimError PH002", lambda s: s.X.argmin()),
    ("DimError PH001", lambda s: s.X.sum(3)),
    ("DimError PH001", lambda s: s.X.sum(x + 1)),
    ("DimError PH001", lambda s: s.X.sum(None)),
    ("DimError PH001", lambda s: s.X.sum([x])),
    ("DimError PH002", lambda s: ph.softmax(s.X, k)),
    ("DimError PH002", lambda s: ph.softmax(s.X)),
    ("DimError PH002", lambda s: ph.scan("sum", s.X, along=k)),
    ("UserError PH040", lambda s: ph.scan("xor", s.A, along=i)),
    ("DimError PH001", lambda s: ph.scan("sum", s.X, along=None)),
    ("DimError PH003", lambda s: s.A[j, i]),
    ("DimError PH003", lambda s: s.A[j]),
    ("DimError PH004", lambda s: s.A[k]),
    ("DimError PH004", lambda s: s.A[i + j]),
    ("DimError PH004", lambda s: s.A[i + 1, i + 2]),
    ("DimError PH004", lambda s: s.A[3]),
    ("DimError PH004", lambda s: s.A[1:2]),
    ("DimError PH004", lambda s: s.A[None]),
    ("DimError PH004", lambda s: s.A["i"]),
    ("DimError PH004", lambda s: s.A[0.5]),
    ("DimError PH004", lambda s: s.A[s.A > 0]),
    ("DimError PH030", lambda s: s.A(i=slice(1, 2))),
    ("DimError PH005", lambda s: s.K(s=t)),
    ("DimError PH005", lambda s: s.K(s=t + 1)),
    ("DimError PH005", lambda s: (s.K * 2)(s=t)),
    ("DimError PH030", lambda s: s.K.max(t)(s=x * y)),
    ("DimError PH006", lambda s: ph.dims("lambda")),
    ("DimError PH006", lambda s: ph.dims("for x")),
    ("DimError PH006", lambda s: ph.Dim("2x")),
    ("DimError PH006", lambda s: ph.Dim("")),
    ("DimError PH006", lambda s: ph.Dim("a b")),
    ("DimError PH006", lambda s: ph.Dim("x-y")),
    ("DimError PH006", lambda s: ph.Dim(3)),
    ("DimError PH030", lambda s: ph.Dim("x", "big")),
    ("DimError PH030", lambda s: ph.Dim("x", 2.5)),
    ("DimError PH047", lambda s: ph.Dim("x", -1)),
    ("DimError PH047", lambda s: ph.dims(x=-3)),
    ("DimError PH010", lambda s: s.X[x + ph.Dim("kx", 3)] + s.X[x + ph.Dim("kx", 5)]),
    ("DtypeError PH020", lambda s: bool(x >= 0)),
    ("DtypeError PH020", lambda s: 0 <= x < 5),
    ("DtypeError PH020", lambda s: (x > 0) and (x < 3)),
    ("DtypeError PH020", lambda s: (x > 0) or s.X),
    ("DtypeError PH020", lambda s: not (x > 0)),
    ("DtypeError PH020", lambda s: s.X > 0 or s.X),
    ("DtypeError PH020", lambda s: 1 if s.X > 0 else 0),
    ("DtypeError PH020", lambda s: max(s.X, s.X * 2)),
    ("DtypeError PH020", lambda s: min(x, y)),
    ("DtypeError PH020", lambda s: sorted([s.X, s.X])),
    ("DtypeError PH020", lambda s: s.X in [s.X * 2]),
    ("DtypeError PH020", lambda s: [0, 1, 2][x]),
    ("DtypeError PH020", lambda s: range(x)),
    ("DtypeError PH020", lambda s: range(s.X.size(x))),
    ("DtypeError PH020", lambda s: float(s.X)),
    ("DtypeError PH020", lambda s: int(x)),
    ("DtypeError PH020", lambda s: int(s.n)),
    ("DtypeError PH301", lambda s: round(s.X, 2)),
    ("DtypeError PH020", lambda s: math.exp(s.X)),
    ("DtypeError PH020", lambda s: np.add.reduce(s.X)),
    ("DtypeError PH020", lambda s: np.asarray(s.X)),
    ("DtypeError PH020", lambda s: len(s.X)),
    ("OrderError PH041", lambda s: list(s.A)),
    ("OrderError PH041", lambda s: iter(s.X)),
    ("OrderError PH041", lambda s: list(x)),
    ("DtypeError PH020", lambda s: len(x)),
    ("DimError PH030", lambda s: s.X(x=x * y)),
    ("DimError PH030", lambda s: s.X(x=x ** 2)),
    ("DimError PH030", lambda s: s.X(x=0.5)),
    ("DimError PH030", lambda s: s.X(x=s.X)),
    ("DimError PH030", lambda s: s.X(x=s.H)),
    ("DimError PH030", lambda s: s.X(x=s.M)),
    ("DimError PH030", lambda s: s.X(x="left")),
    ("DimError PH030", lambda s: s.X(x=None)),
    ("DimError PH030", lambda s: s.X(x=[1])),
    ("DimError PH030", lambda s: s.X(x=x / 2)),
    ("DimError PH030", lambda s: s.X(x=x * s.n)),
    ("DimError PH030", lambda s: s.X(x=x // s.n)),
    ("DimError PH030", lambda s: s.X(x=x % 0)),
    ("DimError PH030", lambda s: x // 0),
    ("DimError PH030", lambda s: x % s.n * 1 + s.X(x=x % s.n)),
    ("DimError PH030", lambda s: s.X.over(x="all")),
    ("DimError PH030", lambda s: s.X.over(x=(1, 2, 3))),
    ("DimError PH030", lambda s: s.X.over(x=range(0, 5, 2))),
    ("DimError PH030", lambda s: s.X.over(x=s.X)),
    ("DimError PH030", lambda s: s.X.over(x=2.5)),
    ("DimError PH030", lambda s: nothing(ph.loop(i, s.A))),
    ("DimError PH030", lambda s: nothing(ph.loop(i, 0, 9, -1))),
    ("DimError PH030", lambda s: nothing(ph.loop(i, 0, 9, 0))),
    ("DimError PH030", lambda s: nothing(ph.loop(i, 0, 9, s.n))),
    ("DimError PH030", lambda s: nothing(ph.loop(i, 0, 9, 2.0))),
    ("DomainError PH110", lambda s: nothing(ph.loop(i, 0, 9, 1, 1))),
    ("DomainError PH110", lambda s: nothing(ph.loop(i))),
    ("DimError PH030", lambda s: nothing(ph.loop(i, 2.5))),
    ("DimError PH001", lambda s: nothing(ph.loop(3, 4))),
    ("DimError PH030", lambda s: nothing(ph.loop(i, None))),
    ("DimError PH030", lambda s: nothing(ph.over(i="x"))),
    ("DtypeError PH301", lambda s: nothing(ph.when(s.X))),
    ("DtypeError PH301", lambda s: nothing(ph.when(3))),
    ("DtypeError PH301", lambda s: nothing(ph.when(None))),
    ("DimError PH001", lambda s: nothing(ph.sequential(3))),
    ("DimError PH010", lambda s: loop_twice(i, i)),
    ("ArgumentError PH040", lambda s: s.A * np.ones(3)),
    ("ArgumentError PH040", lambda s: np.ones(3) * s.A),
    ("ArgumentError PH040", lambda s: s.A * [1, 2]),
    ("ArgumentError PH040", lambda s: [1, 2] - s.A),
    ("DtypeError PH301", lambda s: s.A + "x"),
    ("DtypeError PH301", lambda s: s.A + None),
    ("OrderError PH041", lambda s: s.A @ s.A),
    ("DtypeError PH301", lambda s: s.A + {1}),
    ("DtypeError PH301", lambda s: ph.exp("x")),
    ("DtypeError PH301", lambda s: ph.exp(None)),
    ("ArgumentError PH040", lambda s: ph.exp(np.ones(3))),
    ("DtypeError PH301", lambda s: ph.where(s.X, 1, 2)),
    ("DtypeError PH301", lambda s: ph.where(x, 1, 2)),
    ("DtypeError PH301", lambda s: ph.where(s.X > 0, "a", 1)),
    ("ArgumentError PH045", lambda s: ph.clip(s.X, None, None)),
    ("ArgumentError PH040", lambda s: ph.const(np.eye(2), "i")),
    ("ArgumentError PH040", lambda s: ph.const(np.eye(2), "i i")),
    ("DimError PH006", lambda s: ph.const(np.eye(2), "i lambda")),
    ("DtypeError PH301", lambda s: ph.const(np.array(["a"]), "i")),
    ("DtypeError PH301", lambda s: ph.const(object(), "")),
    ("ArgumentError PH040", lambda s: ph.const([[1], [2, 3]], "i j")),
    ("ArgumentError PH040", lambda s: s.X.pad(x=1, mode="zero")),
    ("ArgumentError PH040", lambda s: s.X.pad(x=-1)),
    ("ArgumentError PH040", lambda s: s.X.pad(x=1.5)),
    ("ArgumentError PH040", lambda s: s.X.pad(x=(1, 2, 3))),
    ("ArgumentError PH040", lambda s: s.X.pad(x="a")),
    ("ArgumentError PH040", lambda s: s.X.pad(s.X, x=1)),
    ("DtypeError PH301", lambda s: s.X.pad("a", x=1)),
    ("ArgumentError PH040", lambda s: s.X.pad(x=s.n)),
    ("OrderError PH041", lambda s: s.A.order(i)),
    ("OrderError PH041", lambda s: s.A.order(i, j, k)),
    ("OrderError PH041", lambda s: s.A.order(i, i)),
    ("OrderError PH041", lambda s: s.A.order(i, j)[i]),
    ("OrderError PH041", lambda s: s.A.order(i, j)[i, j, k]),
    ("DimError PH030", lambda s: s.A.order(i, j)[i, 0.5]),
    ("OrderError PH041", lambda s: s.A.sum(i, order="loose")),
    ("DtypeError PH301", lambda s: s.H * s.B),
    ("DtypeError PH301", lambda s: s.N + s.U),
    ("DtypeError PH301", lambda s: s.X & 1),
    ("DtypeError PH301", lambda s: s.X | s.M),
    ("DtypeError PH301", lambda s: ~s.X),
    ("DtypeError PH301", lambda s: s.X << 1),
    ("DtypeError PH301", lambda s: s.X.any(x)),
    ("DtypeError PH301", lambda s: s.M.all(i) + s.X.all(x)),
    ("DtypeError PH301", lambda s: s.X.astype(None)),
    ("DtypeError PH301", lambda s: s.X.sum(x, acc=ph.i32)),
    ("DtypeError PH301", lambda s: s.X.sum(x, where=s.X)),
    ("DtypeError PH301", lambda s: s.X.sum(x, where=3)),
    ("DtypeError PH301", lambda s: s.X.sum(x, where="x > 0")),
    ("ArgumentError PH040", lambda s: s.X.sum(x, where=np.ones(3))),
    ("ArgumentError PH310", lambda s: write(s.X, 0)),
    ("DimError PH002", lambda s: write(s.A, s.X)),
    ("DtypeError PH301", lambda s: write(s.A, "x")),
    ("DtypeError PH301", lambda s: write(s.A, None)),
    ("ArgumentError PH040", lambda s: write(s.A, np.eye(2))),
    ("ArgumentError PH310", lambda s: write(s.X.sum(x), 0)),
    ("ArgumentError PH310", lambda s: write(ph.let(s.X), 0)),
    ("ArgumentError PH310", lambda s: write(ph.dims("x"), 0)),
    ("Unsupported PH900", lambda s: write(s.A(i=ph.let(s.A.argmax(i), "best"), j=j), 0)),
    ("DimError PH002", lambda s: write(s.A(i=0), s.A(j=0))),
    ("DtypeError PH301", lambda s: write(ph.var("v", like=s.H), s.X.sum(c, y, x))),
    ("ArgumentError PH310", lambda s: write(ph.const([1.0], "i"), 0)),
    ("ArgumentError PH310", lambda s: rebind(s.A)),
    ("DomainError PH112", lambda s: ph.var("v", x=(1, 5))),
    ("DomainError PH112", lambda s: ph.var("v", x=x)),
    ("DimError PH047", lambda s: ph.var("v", x=-2)),
    ("DimError PH030", lambda s: ph.var("v", x="a")),
    ("ArgumentError PH040", lambda s: ph.var("v", like=np.eye(2))),
    ("DomainError PH110", lambda s: ph.assume(x > 0)),
    ("DomainError PH110", lambda s: ph.assume(s.X.max(c, y, x) > 0)),
    ("DomainError PH110", lambda s: ph.assume(3)),
    ("DtypeError PH301", lambda s: ph.assume("n > 0")),
    ("DimError PH006", lambda s: ph.fresh(3)),
    ("DimError PH006", lambda s: ph.fresh("a b")),
    ("DtypeError PH301", lambda s: ph.inside(None)),
    ("DtypeError PH301", lambda s: ph.let(None)),
    ("DtypeError PH301", lambda s: ph.let("x")),
    ("UserError PH007", lambda s: ph.let(s.X, 3)),
    ("DomainError PH110", lambda s: ph.let(i)),
    ("DomainError PH111", lambda s: ph.let(s.X(x=i + j))),
    ("DomainError PH112", lambda s: ph.let(s.X[x + 1])),
    ("DomainError PH112", lambda s: ph.let(s.X[x - 1])),
    ("DimError PH010", lambda s: ph.let((s.X * ph.Dim("x", 3)) + s.A(i=ph.Dim("x", 4), j=0))),
    ("DimError PH010", lambda s: ph.let(s.A * s.N.over(i=3) + s.A.over(i=4))),
]


@pytest.mark.parametrize(("expected", "line"), WRONG, ids=[f"{n} {e}" for n, (e, _) in enumerate(WRONG)])
def test_a_wrong_line_is_refused(expected, line):
    name, _, code = expected.partition(" ")
    scene = Scene()
    with scene.trace, pytest.raises((ph.PolyhedralError, TypeError)) as caught:
        line(scene)
    error = caught.value
    assert type(error).__name__ == name
    if code:
        assert error.code == code
        assert error.hints
        assert error.location.file == __file__
        assert not isinstance(error, ph.InternalError)
        assert "isl" not in str(error).split()
        assert "Affine(" not in str(error)
        assert error.to_json()["code"] == code


def test_there_are_enough():
    assert len(WRONG) >= 130
