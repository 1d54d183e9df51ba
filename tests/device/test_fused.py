# SPDX-License-Identifier: MIT
"""What is computed in one kernel of a device: epilogues on the results that a thread holds, in random programs too."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from codegen.launch import DeviceSource
from frontend import lang as ph
from frontend.inference.assemble import assemble
from frontend.inference.settling import settle
from polyhedral.dim import c, k, kx, ky, x, y
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program, specialise
from polyhedral.ir.tree import Filter, Leaf, Local, Sequence, Tree, render
from polyhedral.machine.device import H100
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import map_onto
from tests.device.on_host import run_on_host
from tests.device.on_opencl import run_opencl
from tests.running import agree
from tests.strategies import inputs_for
from tests.zoo_language import Case, record


def traced(case: Case, extents: Mapping[str, int]) -> Program:
    p = assemble(record(case, settle)[0])
    return specialise(p, {size: extents[size.rpartition(".")[2]] for size in p.sizes})


def dense_layer(A, B, b, R):
    return ph.relu((A * B).sum(k) + b) * 2 + R


def two_results(A, B, b):
    total = (A * B).sum(k)
    return total, ph.exp(-ph.abs(total + b))


def narrow(A, B, b):
    return ((A * B).sum(k).astype(ph.f32) * b).astype(ph.bf16)


def padded(X, W, b):
    return ph.relu((X.pad(y=1, x=1)[y + ky - 1, x + kx - 1] * W).sum(c, ky, kx) + b)


GEMM = {"A": "f32 i k", "B": "f32 k j", "b": "f32 j"}
CASES = {
    "dense_layer": Case(dense_layer, GEMM | {"R": "f32 i j"}),
    "two_results": Case(two_results, GEMM),
    "padded": Case(padded, {"X": "f32 c y x", "W": "f32 o c ky kx", "b": "f32 o"}),
    "narrow": Case(narrow, GEMM | {"A": "bf16 i k", "B": "bf16 k j"}),
}
WINDOW = {"ky": 3, "kx": 3, "c": 3}
SHAPES = (
    {"i": 67, "k": 35, "j": 70, "y": 9, "x": 18, "o": 16} | WINDOW,
    {"i": 5, "k": 3, "j": 4, "y": 3, "x": 4, "o": 2} | WINDOW,
)


def test_padding_is_copied_and_not_asked_for_again(tmp_path):
    p = traced(CASES["padded"], SHAPES[0])
    inputs = inputs_for(p, {})
    got, built = run_on_host(p, inputs, {}, tmp_path)
    assert "X_block" in built.source.text
    assert "? X_block" not in built.source.text
    agree(p, got, run(p, inputs, {}), inputs)


@pytest.mark.parametrize("shape", range(2))
@pytest.mark.parametrize("name", CASES)
def test_epilogues(name: str, shape: int):
    p = traced(CASES[name], SHAPES[shape])
    inputs = inputs_for(p, {})
    got, built = run_opencl(p, inputs, {})
    assert isinstance(built.source, DeviceSource)
    assert len(built.source.launches) == 1
    agree(p, got, run(p, inputs, {}), inputs)


def test_cuda_text_with_an_epilogue(tmp_path):
    p = traced(CASES["dense_layer"], SHAPES[0])
    inputs = inputs_for(p, {})
    got, built = run_on_host(p, inputs, {}, tmp_path)
    assert "sum0" not in built.source.buffers  # it is in registers and nowhere else
    agree(p, got, run(p, inputs, {}), inputs)


# --- rows ------------------------------------------------------------------------------------------------------------


def softmax(X):
    return ph.softmax(X, k)


def layer_norm(X, g):
    mean = X.mean(y, x)
    variance = ((X - mean) ** 2).mean(y, x)
    return (X - mean) / ph.sqrt(variance + 1e-5) * g


def moments(X):
    """Results that others read, a statement of rows alone, and one with a dim too short for a team."""
    m = ph.let(X.max(k), "m")
    s = ph.let(ph.exp(X - m).sum(k), "s")
    inverse = ph.let(1 / s, "inverse")
    within = ph.dims(c=3)
    return m, ph.exp(X - m) * inverse, s + 0.5 * within


ROWS = {
    "softmax": Case(softmax, {"X": "f32 b i k"}),
    "layer_norm": Case(layer_norm, {"X": "f32 i y x", "g": "f32 x"}),
    "moments": Case(moments, {"X": "f32 i k"}),
}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("softmax", {"b": 3, "i": 5, "k": 45}),
        ("softmax", {"b": 2, "i": 2, "k": 600}),
        ("layer_norm", {"i": 9, "y": 3, "x": 37}),
        ("moments", {"i": 13, "k": 33}),
    ],
)
def test_rows_run_in_one_kernel(name: str, sizes: Mapping[str, int], tmp_path):
    p = traced(ROWS[name], sizes)
    inputs = inputs_for(p, {})
    want = run(p, inputs, {})
    for ran in (lambda: run_on_host(p, inputs, {}, tmp_path), lambda: run_opencl(p, inputs, {})):
        got, built = ran()
        assert isinstance(built.source, DeviceSource)
        assert len(built.source.launches) == 1
        agree(p, got, want, inputs)


def test_mapped_rows_are_legal_and_mutants_are_not():
    mapped = map_onto(traced(ROWS["softmax"], {"b": 64, "i": 64, "k": 1000}), {}, H100)
    p, tree = mapped.scheduled.analyzed.program, mapped.scheduled.schedule.tree
    assert "memory of its own" in render(tree, {})
    assert violation(p, tree) is None

    def turned(t: Tree) -> Tree:
        match t:
            case Sequence(children) if len(children) == 3:
                return Sequence((children[1], children[0], children[2]))
            case Local(_, folds, child):
                return replace(t, folds=tuple(replace(f, size=f.size + 1) for f in folds), child=turned(child))
            case Leaf():
                return t
            case Sequence(children):
                return Sequence(tuple(Filter(c.families, turned(c.child)) for c in children))
            case _:
                return replace(t, child=turned(t.child))

    assert violation(p, turned(tree)) is not None


def drawn(rng: random.Random) -> Case:
    """Statistics of rows that read each other, and results over rows and more; some of them results themselves."""

    def function(X, g):
        found, seen = [X], []
        for n in range(rng.randint(2, 4)):
            value = ph.abs(found[0] - found[-1] * 0.5) + g
            over = rng.choice(((x,), (y,), (y, x)))
            reduced = getattr(value, rng.choice(("sum", "max", "min", "mean")))(*over)
            found.append(ph.let(reduced, f"s{n}"))
            if rng.random() < 0.4:
                seen.append(found[-1])
        last = sum(found[1:], found[0])
        return (*seen, ph.where(last > 1, last, -last))

    return Case(function, {"X": "f32 i y x", "g": "f32 x" if rng.random() < 0.5 else "f32 i"})


@pytest.mark.parametrize("seed", range(4))
def test_random_rows(seed: int):
    rng = random.Random(seed)
    p = traced(drawn(rng), {"i": rng.choice((3, 70, 300)), "y": rng.randint(1, 9), "x": rng.randint(8, 70)})
    inputs = inputs_for(p, {})
    agree(p, run_opencl(p, inputs, {})[0], run(p, inputs, {}), inputs)
