# SPDX-License-Identifier: MIT
"""Rows of a tile shared a pointer into an operand or its padding; the first reached less far than the padding is long,
a later one further, and read it with a stride that had not been declared: the kernel did not compile.
"""

from __future__ import annotations

import numpy as np

from codegen.c import emit
from codegen.lower import lower
from codegen.runtime.cc import compile_shared
from codegen.runtime.native import address, load
from frontend.environment import session
from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.pipeline import analyze
from polyhedral.plans.register_plan import Loop, RegisterPlan
from polyhedral.scheduling.register_nest import register_nest
from polyhedral.text.reader import parse

TEXT = """
program windows
  input X: f32[x: 9, y: 30, c: 17]
  input W: f32[kx: 2, ky: 3, c: 17, o: 16]
  output out: f32[x: 3, y: 16, o: 16]
  S: for o < 16, x < 3, y < 16:
    out = sum[ky < 3, kx < 2, c < 17] where([3 <= 2*y + ky], X(x=3*x + kx, y=2*y + ky - 3), 0.0) * W
"""


def test_rows_beyond_the_padding(tmp_path):
    p = parse(TEXT)
    analyzed = analyze(p)
    loops = (Loop("y", 2), Loop("o", 16), Loop("x", 3))
    plan = RegisterPlan("o", 16, (("x", 3), ("y", 2)), ("ky", "kx", "c"), loops)
    nest = lower(analyzed.frame, register_nest(analyzed.frame.families, plan))
    source = emit(p, analyzed.frame.families, nest, {a.name: row_major(a) for a in p.arrays}, vector_bytes=64)
    path = tmp_path / "kernel.so"
    path.write_bytes(compile_shared(source.text, session.current().compiler(Options())))
    rng = np.random.default_rng(0)
    data = {a.name: rng.random([e.const for _, e in a.dims], np.float32) for a in p.arrays}
    want = run(p, {n: data[n] for n in ("X", "W")})["out"]
    load(path, source.symbol, session.current().team)([address(data[n]) for n in source.buffers])
    np.testing.assert_allclose(data["out"], want, rtol=1e-5)
