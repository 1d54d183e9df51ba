# SPDX-License-Identifier: MIT
"""An else was printed behind an if that ended in another one without braces, and so belonged to that one."""

from __future__ import annotations

import numpy as np

from codegen import loops as lp
from codegen.c import emit
from codegen.runtime.cc import compile_shared
from codegen.runtime.native import address, load
from frontend.environment import session
from frontend.environment.options import Options
from polyhedral.ir import affine as aff
from polyhedral.ir.layout import row_major
from polyhedral.ir.tree import Run
from polyhedral.sets.instances import families
from polyhedral.text.reader import parse

TEXT = """
program branches
  input A: i32[i: 8]
  output O: i32[i: 8]
  S: for i < 8:  O = A + 1
  T: for i < 8:  O = A + 2
"""


def test_an_else_belongs_to_its_if(tmp_path):
    p = parse(TEXT)
    every = families(p)
    i = aff.var("i")
    one, other = (lp.Exec(f.id, (("i", i),)) for f in every)
    inner = lp.If(aff.at_least(i, 2), one)
    loop = lp.For("j", aff.const(0), aff.const(0), 1, Run.SERIAL, inner)
    for first in (inner, loop):
        body = lp.For(
            "i", aff.const(0), aff.const(7), 1, Run.SERIAL, lp.If(aff.at_least(aff.const(4), i), first, other)
        )
        source = emit(p, every, body, {a.name: row_major(a) for a in p.arrays})
        path = tmp_path / f"{type(first).__name__}.so"
        path.write_bytes(compile_shared(source.text, session.current().compiler(Options())))
        data = {"A": np.arange(8, dtype=np.int32), "O": np.full(8, -1, np.int32)}
        load(path, source.symbol, session.current().team)([address(data[n]) for n in source.buffers])
        np.testing.assert_array_equal(data["O"], [-1, -1, 3, 4, 5, 7, 8, 9])
