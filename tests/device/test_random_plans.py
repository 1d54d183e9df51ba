# SPDX-License-Identifier: MIT
"""Random plans on OpenCL: any cuts, portions, staged arrays and teams compute what the interpreter does, and so do
random programs under the plans that they get.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from codegen.dialect import OPENCL
from codegen.kernels import emit_device
from frontend.environment import session
from frontend.environment.options import Options
from frontend.lowering import driver
from frontend.running import loading
from frontend.running.buffers import buffer
from frontend.running.on_device import OnDevice
from polyhedral.devices.chooser import choose_blocks
from polyhedral.devices.mapping import divide_statement
from polyhedral.devices.plan import BlockPlan, Cut
from polyhedral.ir import affine as aff
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import choose
from polyhedral.ir.program import Program, Role, Statement, reads, specialise
from polyhedral.pipeline import analyze
from polyhedral.scheduling.schedule import Options as Choice
from polyhedral.scheduling.schedule import schedule
from tests.device.on_opencl import needs_opencl
from tests.programs import CASES
from tests.properties.schedules import interned
from tests.running import agree
from tests.strategies import inputs_for, programs

TARGET = Options(target="opencl")
NAMES = [
    "matmul", "conv_strided", "capsule_conv", "max_plus", "matmul_i8", "softmax", "relu_chain", "accumulation",
    "selection", "two_outputs", "conv_padded",
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def device():
    needs_opencl()


def drawn(s: Statement, base: BlockPlan, rng: random.Random) -> BlockPlan:
    """A plan of at most 64 threads: a team, or portions with staged operands, or neither."""
    left = 64
    cuts: list[Cut] = []
    for d in s.kept:
        threads = rng.choice([n for n in (1, 2, 4, 8) if n <= left])
        left //= threads
        tiled = s.op is not None and not s.strict and rng.random() < 0.7
        cuts.append(Cut(d, threads, *(rng.choice((1, 2)), rng.choice((1, 2, 3))) if tiled else (1, 1)))
    lanes = tuple(rng.sample(s.kept, len(s.kept)))
    portions = tuple((d, 0 if s.strict else rng.choice((0, 1, 2))) for d in s.reduced)
    plain = BlockPlan(tuple(cuts), lanes, portions)
    if s.op is None or s.strict:
        return plain
    if rng.random() < 0.4 and left > 1:
        alone = tuple(Cut(c.dim, c.threads) for c in cuts)
        return BlockPlan(alone, lanes, tuple((d, 0) for d, _ in portions), team=(rng.choice(s.reduced), 4))
    if any(load.array == s.write.array for load in reads(s)):
        return base
    staged = tuple(dict.fromkeys(load.array for load in reads(s)))
    return replace(plain, staged=staged, buffers=rng.choice((1, 2)))


def executed(p: Program, plans: Mapping[str, BlockPlan], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a program of known sizes under given plans."""
    on = session.current().driver(TARGET)
    layouts = choose(p, {})
    made = [divide_statement(p, s, plans[s.name], on.device) if s.name in plans else None for s in p.statements]
    cut = replace(p, statements=tuple(m[0][0] if m else s for m, s in zip(made, p.statements, strict=True)))
    nests = {m[1].statement: m[1] for m in made if m}
    a = analyze(cut)
    planned = schedule(a.frame, a.dependences, layouts, Choice(local=False, device=True), blocks=nests)
    assert not planned.remarks, planned.remarks
    source, _ = emit_device(a.frame, planned.tree, layouts, nests, OPENCL, on.device)
    kernels, _ = on.compile(source.text, [k.symbol for k in source.launches], session.current().cache(TARGET))
    return ran(p, OnDevice(on, source, kernels, layouts), inputs)


def ran(p: Program, loaded: OnDevice, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    buffers = [buffer(p.array(n), loaded.layouts[n]) for n in loaded.source.buffers]
    found: dict[str, np.ndarray] = {}
    arrays: list[np.ndarray | None] = []
    for b in buffers:
        a = p.array(b.name)
        if b.role is not Role.TEMPORARY:
            shape = [max(aff.evaluate(e, {}, {}), 0) for _, e in a.stored]
            found[b.name] = inputs[b.name].copy() if b.name in inputs else np.full(shape, 77).astype(a.dtype.numpy)
        own = found.get(b.name)
        arrays.append(None if own is None else own.transpose([a.dim_names.index(d) for d in b.axes]))
    assert loaded.run(buffers, arrays, {}) == 0
    return {a.name: found[a.name] for a in p.with_role(Role.OUTPUT, Role.INOUT)}


@pytest.mark.parametrize("turn", range(2))
@pytest.mark.parametrize("name", NAMES)
def test_any_plan_computes_the_same(name: str, turn: int):
    case, rng = CASES[name], random.Random(f"{name} {turn}")
    p = specialise(case.program, case.sizes)
    on, layouts = session.current().driver(TARGET), choose(p, {})
    bases = {s.name: choose_blocks(p, s, layouts, on.device) for s in p.statements}
    plans = {s.name: drawn(s, base, rng) for s in p.statements if (base := bases[s.name]) is not None}
    inputs = inputs_for(p, {})
    agree(p, executed(p, plans, inputs), run(p, inputs, {}), inputs)


@seed(11)
@settings(
    max_examples=4, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(programs())
def test_random_programs(p: Program):
    p = interned(p)
    inputs = inputs_for(p, {})
    built = driver.lower(p, {}, TARGET)
    loaded, _, _ = loading.load_device(built)
    agree(p, ran(built.program, loaded, inputs), run(p, inputs, {}), inputs)
