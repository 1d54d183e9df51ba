# SPDX-License-Identifier: MIT
"""Slabs of rows: what lies between kernels is never stored whole, results are the interpreter's, and the oracle refuses
loops of the host that would lose what a slab holds.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

import polyhedral as ph
from codegen.launch import DeviceSource, Repeat
from codegen.runtime.cache import Cache
from codegen.runtime.nvcc import compile_cuda, find_nvcc, resources
from frontend.environment import session
from frontend.environment.session import Session
from polyhedral.devices import slabs
from polyhedral.dim import d, k, q
from polyhedral.errors import ToolchainError
from polyhedral.ir.counts import array_bytes
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program, Role
from polyhedral.ir.tree import Band, Filter, Run, Sequence, Tree
from polyhedral.machine.device import H100, Device
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import map_onto
from polyhedral.text.reader import parse
from tests.device.on_host import executed, lowered, run_on_host
from tests.device.on_opencl import OPENCL, needs_opencl, run_opencl
from tests.device.test_fused import traced
from tests.running import agree
from tests.strategies import inputs_for
from tests.zoo_language import Case


def attention(Q, K, V, *, where):
    scores = (Q * K).sum(d) / 8.0
    return (ph.softmax(scores, k, where=where) * V).sum(k)


def causal(Q, K, V):
    return attention(Q, K, V, where=k <= q)


def windowed(Q, K, V):
    return attention(Q, K, V, where=(k <= q) & (q - k < 7))


def whole(Q, K, V):
    return (ph.softmax((Q * K).sum(d), k) * V).sum(k)


def with_positions(Q, K, V):
    """Numbers of rows as values, and results that something after reads in other rows."""
    scores = ph.let((Q * K).sum(d) + 0.1 * q - 0.2 * k, "scores")
    out = ph.let((ph.abs(scores) * V).sum(k), "mixed")
    return out - out.max(q)


QKV = {"Q": "f32 h q d", "K": "f32 h k d", "V": "f32 h k e"}
CASES = {f.__name__: Case(f, QKV) for f in (causal, windowed, whole, with_positions)}


def small(device: Device, cache: int) -> Device:
    """A device with hardly any cache, whose memory is so slow that starts of kernels cost nothing."""
    return replace(device, cache=cache, bandwidth=1e-3)


def host_loops(p: Program, source: object) -> int:
    assert isinstance(source, DeviceSource)
    return sum(isinstance(s, Repeat) for s in source.steps)


@pytest.mark.parametrize(
    "sizes", [{"h": 2, "q": 64, "k": 64, "d": 8, "e": 8}, {"h": 1, "q": 96, "k": 96, "d": 5, "e": 3}]
)
@pytest.mark.parametrize("name", CASES)
def test_slabs_compute_the_same(name: str, sizes: Mapping[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path):
    p = traced(CASES[name], sizes)
    inputs = inputs_for(p, {})
    want = run(p, inputs, {})
    needs_opencl()
    for target, device in (("cuda:sm_90", H100), ("opencl", session.current().device(OPENCL))):
        monkeypatch.setattr(Session, "device", lambda session, options, device=device: small(device, 30_000))
        got, built = run_opencl(p, inputs, {}) if target == "opencl" else run_on_host(p, inputs, {}, tmp_path, target)
        assert host_loops(p, built.source) == 1
        stored = [a for a in built.program.with_role(Role.TEMPORARY) if a.name in built.source.buffers]
        assert any(a.planes for a in stored)
        agree(p, got, want, inputs)
        monkeypatch.undo()


def test_indices_are_tested_within_a_slab(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """With `checked=True`, each index against the rows that there is memory for; none is outside."""
    monkeypatch.setattr(Session, "device", lambda session, options: small(H100, 30_000))
    p = traced(CASES["causal"], {"h": 2, "q": 64, "k": 64, "d": 8, "e": 8})
    inputs = inputs_for(p, {})
    built = lowered(p, {}, "cuda:sm_90", checked=True)
    assert host_loops(p, built.source) == 1
    assert "fault" in built.source.text
    agree(p, executed(built, inputs, {}, tmp_path), run(p, inputs, {}), inputs)


def test_causal_attention_of_2048_positions_stores_no_scores(tmp_path):
    """8 heads of 64: all scores would be 134 MB, twice."""
    p = traced(CASES["causal"], {"h": 8, "q": 2048, "k": 2048, "d": 64, "e": 64})
    built = lowered(p, {}, "cuda:sm_90")
    assert isinstance(built.source, DeviceSource)
    between = [a for a in built.program.with_role(Role.TEMPORARY) if a.name in built.source.buffers]
    taken = {a.name: array_bytes(replace(a, dims=a.stored, planes=())) for a in between}
    assert sum(taken.values()) <= 0.8 * H100.cache
    assert built.placement({}).peak <= 0.8 * H100.cache
    assert max(taken.values()) < 8 * 2048 * 2048 * 4 / 7
    try:
        nvcc = find_nvcc(os.environ)
    except ToolchainError:
        pytest.skip("no nvcc here")
    said = compile_cuda(built.source.text, nvcc, "sm_90", Cache(tmp_path)).said
    assert all(r.spilled == 0 for r in resources(said, [k.symbol for k in built.source.launches]))


def test_the_host_orders_slabs_and_mutants_are_refused():
    p = traced(CASES["causal"], {"h": 2, "q": 64, "k": 64, "d": 8, "e": 8})
    made = map_onto(p, {}, small(H100, 30_000)).scheduled
    program, tree = made.analyzed.program, made.schedule.tree
    assert violation(program, tree) is None

    def changed(t: Tree, f) -> Tree:
        match t:
            case Band(members) if members[0].run is Run.HOST:
                return f(t)
            case Sequence(children):
                return replace(t, children=tuple(Filter(c.families, changed(c.child, f)) for c in children))
            case _:
                return t if not hasattr(t, "child") else replace(t, child=changed(t.child, f))

    def at_once(t: Band) -> Tree:
        return replace(t, members=(replace(t.members[0], run=Run.BLOCK),))

    def turned(t: Band) -> Tree:
        assert isinstance(t.child, Sequence)
        return replace(t, child=replace(t.child, children=t.child.children[::-1]))

    def inside(t: Band) -> Tree:
        """All slabs of one kernel, then all of the next: memory has place for one."""
        assert isinstance(t.child, Sequence)
        own = []
        for c in t.child.children:
            times = tuple(x for x in t.members[0].times if x[0] in c.families)
            own.append(Filter(c.families, Band((replace(t.members[0], times=times),), c.child)))
        return Sequence(tuple(own))

    for mutant in (at_once, turned, inside):
        assert violation(program, changed(tree, mutant)) is not None, mutant.__name__
    fewer = tuple(replace(a, planes=tuple((x, n // 2) for x, n in a.planes)) for a in program.arrays)
    assert violation(replace(program, arrays=fewer), tree) is not None


def drawn(rng: random.Random) -> Case:
    """Chains of values of pairs (q, k), their sums along k, and what is made of both; some with a condition."""

    def function(Q, K, V):
        pairs, rows = [ph.let((Q * K).sum(d), "p0")], []
        for n in range(rng.randint(1, 3)):
            own = ph.abs(pairs[-1]) if rng.random() < 0.5 else pairs[-1] + pairs[0] * 0.5
            if rows and rng.random() < 0.6:
                own = own - rows[-1]
            op = rng.choice(("max", "sum", "min"))
            where = (k <= q) if rng.random() < 0.4 else None
            rows.append(ph.let(getattr(own, op)(k, **({} if where is None else {"where": where})), f"r{n}"))
            pairs.append(ph.let(ph.exp(-ph.abs(own)) + rows[-1], f"p{n + 1}"))
        last = ph.let((pairs[-1] * V).sum(k), "last")
        return (last, last.sum(q)) if rng.random() < 0.5 else last + rows[0]

    return Case(function, {n: t.replace("f32", "f64") for n, t in QKV.items()})


@pytest.mark.parametrize("seed", range(6))
def test_random_companies(seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path):
    rng = random.Random(seed)
    p = traced(drawn(rng), {"h": 1, "q": 128, "k": rng.choice((61, 64, 80)), "d": 8, "e": 6})
    inputs = inputs_for(p, {})
    monkeypatch.setattr(Session, "device", lambda session, options: small(H100, 62_000))
    got, built = run_on_host(p, inputs, {}, tmp_path, "cuda:sm_90")
    assert host_loops(p, built.source) == 1
    agree(p, got, run(p, inputs, {}), inputs)


def woven(steps: int) -> Program:
    """Temporaries that are each made of the three before, more than a slab has."""
    lines = ["  input X: f32[y: 64, x: 32]", *(f"  temporary t{n}: f32[y: 64, x: 32]" for n in range(steps))]
    lines += ["  output out: f32[y: 64, x: 32]"]
    for n in range(steps):
        terms = [f"t{m}" for m in range(max(n - 3, 0), n)] or ["X"]
        lines.append(f"  s{n}: for y < 64, x < 32 at ({n}): t{n} = {' + '.join(terms)}")
    lines.append(f"  last: for y < 64, x < 32 at ({steps}): out = t{steps - 1}")
    return parse("\n".join(["program woven", *lines]))


def test_who_runs_in_slabs_is_found_without_asking_again_and_again(monkeypatch: pytest.MonkeyPatch):
    asked = 0
    able = slabs._Search._able

    def counted(search, s, dim):
        nonlocal asked
        asked += 1
        return able(search, s, dim)

    monkeypatch.setattr(slabs._Search, "_able", counted)
    p = woven(40)
    slabs.slabs_of(p, small(H100, 1000), {s.name for s in p.statements})
    assert 0 < asked < 40 * len(p.statements) ** 2
