# SPDX-License-Identifier: MIT
"""Golden C: the text emitted for every zoo program, so that a diff shows each kernel that changed.

Needs no compiler.  To accept what is emitted now:  POLYHEDRAL_UPDATE_GOLDEN=1 pytest tests/codegen/test_golden.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Role
from tests.programs import ZOO

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("POLYHEDRAL_UPDATE_GOLDEN"))


def emitted(name: str) -> str:
    """The kernel for symbolic sizes, every array row-major."""
    p = ZOO[name]
    layouts = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
    return driver.lower(p, layouts, Options(threads=2)).source.text


@pytest.mark.parametrize("name", ZOO)
def test_golden(name: str):
    file = GOLDEN / f"{name}.c"
    text = emitted(name)
    if UPDATE:
        file.write_text(text)
    assert file.is_file(), "no golden yet; see this file's docstring"
    assert text == file.read_text(), f"{name}: the kernel changed; if it should, see this file's docstring"


def test_no_golden_without_a_program():
    assert {f.stem for f in GOLDEN.glob("*.c")} == set(ZOO)


def test_processes_with_other_hash_seeds_emit_the_same():
    """Three processes, three orders of every set and dict of strings."""
    code = (
        "import hashlib; from tests.codegen.test_golden import emitted; from tests.programs import ZOO\n"
        "for name in ZOO: print(name, hashlib.sha256(emitted(name).encode()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in (0, 1, 4711)
    ]
    said = [p.communicate()[0] for p in running]
    assert all(p.returncode == 0 for p in running)
    assert said[0].count("\n") == len(ZOO)
    assert said[1:] == said[:1] * 2
