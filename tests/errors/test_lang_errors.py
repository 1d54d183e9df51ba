# SPDX-License-Identifier: MIT
"""One wrong line per diagnostic of the language: its code, its words, its place and a hint that names a dim.

Diagnostics about ranges and bounds are tested with inference.
"""

import numpy as np
import pytest

from frontend import lang as ph
from frontend.inference.settling import settle
from polyhedral.dim import c, i, j, k, t, x, y
from polyhedral.errors import InternalError, PolyhedralError
from polyhedral.ir.program import Role


class Scene:
    """The arguments that the wrong lines use."""

    def __init__(self):
        self.trace = ph.Trace("scene", settle=settle)
        self.X = self.trace.argument("X", "c y x", ph.f32)
        self.A = self.trace.argument("A", "i j", ph.f32, Role.INOUT)
        self.K = self.trace.argument("K", "s t", ph.f32)
        self.H = self.trace.argument("H", "i", ph.f16)
        self.B = self.trace.argument("B", "i", ph.bf16)


def write(place, value):
    place[...] = value


def rebind(tensor):
    tensor += 1


def update_variable(s):
    v = ph.var("v", like=s.A)
    v[...] += 1


def let_written(s):
    ph.let(s.X)[...] = 0


def narrowed(s):
    ph.var("v", like=s.H)[...] = s.X.sum(c, y, x)


def loop_twice():
    with ph.loop(i, 3), ph.loop(i, 4):
        pass


def nothing_entered(block):
    with block:
        pass


def nested(s):
    h = s.A
    for _ in range(300):
        h = h * h


def scatter(s):
    s.A(i=ph.let(s.A.argmax(i), "best"), j=j)[...] = 0


WRONG = {
    "unknown dim": ("PH001", "X has no dimension named 'yy'; it has {c, x, y}", lambda s: s.X(yy=0)),
    "did you mean": ("PH001", "Did you mean 'y'?", lambda s: s.X(yy=0)),
    "size of a missing dim": ("PH001", "no dimension named 'k'", lambda s: s.X.size(k)),
    "reduced missing dim": ("PH002", "there is no dimension k to reduce; X has {c, x, y}", lambda s: s.X.sum(k)),
    "reduced nothing": ("PH002", "names no dimension", lambda s: s.X.sum()),
    "reduced twice": ("PH002", "dimension x is listed twice", lambda s: s.X.sum(x, x)),
    "argmax of several": ("PH002", ".argmax takes one dimension", lambda s: s.X.argmax(x, y)),
    "bare own dim": ("PH003", "A[j] does nothing: A is already read at j=j", lambda s: s.A[j, i]),
    "mention of none": ("PH004", "which dimension is k for? A has {i, j}", lambda s: s.A[k]),
    "mention of several": ("PH004", "mentions several of them, {i, j}", lambda s: s.A[i + j]),
    "mentioned twice": ("PH004", "two indices mention dimension i", lambda s: s.A[i + 1, i + 2]),
    "literal index": ("PH004", "which dimension is 3 for?", lambda s: s.A[3]),
    "slice": ("PH004", "a slice", lambda s: s.A[1:2]),
    "slice by keyword": ("PH030", "is not an index", lambda s: s.A(i=slice(1, 2))),
    "capture": ("PH005", "K(s=t): K already has a dimension named 't'", lambda s: s.K(s=t)),
    "keyword as dim": ("PH006", "cannot be called 'lambda'", lambda s: ph.dims("lambda")),
    "no name": ("PH006", "it is not a name", lambda s: ph.Dim("2x")),
    "not a dim": ("PH001", "3 is not a dimension", lambda s: s.X.sum(3)),
    "two sizes": ("PH010", "dimension kx has two sizes", lambda s: s.X[x + ph.Dim("kx", 3)] + s.X[x + ph.Dim("kx", 5)]),
    "nested loop": ("PH010", "i is the dimension of an enclosing ph.loop", lambda s: loop_twice()),
    "truth": ("PH020", "condition 'x >= 0' is not known", lambda s: bool(x >= 0)),
    "chained": ("PH020", "condition '0 <= x' is not known", lambda s: 0 <= x < 5),
    "truth of data": ("PH020", "is not known while the program is being built", lambda s: s.X > 0 or s.X),
    "builtin max": ("PH020", "ph.maximum(a, b) instead of max(a, b)", lambda s: max(s.X, s.X * 2)),
    "not affine": ("PH030", "X(x=...): index is not affine", lambda s: s.X(x=x * y)),
    "float index": ("PH030", "X(x=...): index is not affine", lambda s: s.X(x=0.5)),
    "division by zero": ("PH030", "x // 0", lambda s: x // 0),
    "string index": ("PH030", "'left' is not an index", lambda s: s.X(x="left")),
    "bad range": ("PH030", "is not a range of dimension x", lambda s: s.X.over(x="all")),
    "loop over data": ("PH030", "is not affine", lambda s: nothing_entered(ph.loop(i, s.A))),
    "loop step": ("PH030", "must be a positive int literal", lambda s: nothing_entered(ph.loop(i, 0, 9, -1))),
    "loop without end": ("PH110", "needs the end of its range", lambda s: nothing_entered(ph.loop(i))),
    "ndarray": ("PH040", "an unnamed array of shape (3,)", lambda s: s.A * np.ones(3)),
    "ndarray first": ("PH040", "an unnamed array of shape (3,)", lambda s: np.ones(3) * s.A),
    "const names": ("PH040", "got an array with 2 axes", lambda s: ph.const(np.eye(2), "i")),
    "pad mode": ("PH040", "there is no mode 'zero'", lambda s: s.X.pad(x=1, mode="zero")),
    "pad width": ("PH040", "non-negative int", lambda s: s.X.pad(x=-1)),
    "scan op": ("PH040", "no such scan along i", lambda s: ph.scan("xor", s.A, along=i)),
    "unpacked": ("PH041", "has no axis order", lambda s: list(s.A)),
    "partial order": ("PH041", "must list each dimension of A once: {i, j}", lambda s: s.A.order(i)),
    "order count": ("PH041", "takes 2 indices, not 1", lambda s: s.A.order(i, j)[i]),
    "order word": ("PH041", "order='loose' is unknown", lambda s: s.A.sum(i, order="loose")),
    "floats apart": ("PH301", "f16 * bf16 has no common type", lambda s: s.H * s.B),
    "bits of floats": ("PH301", "& wants booleans or integers, not f32", lambda s: s.X & 1),
    "where of data": ("PH301", "must be a condition", lambda s: ph.where(s.X, 1, 2)),
    "narrowing": ("PH301", "v holds f16 but is assigned f32", narrowed),
    "lost fraction": ("PH301", "do not fit the accumulator i32", lambda s: s.X.sum(x, acc=ph.i32)),
    "input assigned": ("PH310", "X is assigned but is an input", lambda s: write(s.X, 0)),
    "let assigned": ("PH310", "is defined already", let_written),
    "variable updated": ("PH310", "which only know =", update_variable),
    "sum assigned": ("PH310", "is computed and cannot be assigned", lambda s: write(s.X.sum(x), 0)),
    "name rebound": ("PH310", "rebinds the Python name A", lambda s: rebind(s.A)),
    "unseen dims": ("PH002", "which A does not have", lambda s: write(s.A, s.X)),
    "nested": ("PH900", "nested more than 200 operations deep", nested),
    "scatter": ("PH900", "is written at a data-dependent i", scatter),
    "assumed data": ("PH110", "a condition on sizes alone", lambda s: ph.assume(x > 0)),
    "variable's origin": ("PH112", "starts at 0", lambda s: ph.var("v", x=(1, 5))),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_line(case):
    code, words, line = WRONG[case]
    scene = Scene()
    with scene.trace, pytest.raises(PolyhedralError) as caught:
        line(scene)
    error = caught.value
    assert error.code == code
    assert words in str(error)
    assert not isinstance(error, InternalError)
    assert error.hints
    assert error.location is not None
    assert error.location.file == __file__


def test_the_underlined_columns_are_the_expression():
    scene = Scene()
    with scene.trace, pytest.raises(PolyhedralError) as caught:
        scene.X(yy=0)
    where = caught.value.location
    assert where.text[slice(*where.columns)] == "scene.X(yy=0)"
    assert "^^^^^^^^^^^^^" in str(caught.value)


def test_outside_a_trace_the_language_says_so():
    scene = Scene()
    with pytest.raises(PolyhedralError, match="only while a program is being recorded"):
        scene.X.sum(x)


def test_tensors_of_another_trace_are_refused():
    first, second = Scene(), ph.Trace("second", settle=settle)
    with second, pytest.raises(PolyhedralError, match="X belongs to another program"):
        ph.let(first.X)
