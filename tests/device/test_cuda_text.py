# SPDX-License-Identifier: MIT
"""Golden CUDA: kernels of programs that have one feature of a device each; nvcc compiles them where it is.

To accept what is emitted now:  POLYHEDRAL_UPDATE_GOLDEN=1 pytest tests/device/test_cuda_text.py
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import predicted
from benchmarks.cases import case
from codegen.dialect import CUDA
from codegen.kernels import emit_device
from codegen.runtime.cache import Cache
from codegen.runtime.nvcc import Compiled, Nvcc, compile_cuda, find_nvcc, resources
from frontend.environment.options import Options
from frontend.lowering import driver
from frontend.lowering.built import Built
from polyhedral.errors import ToolchainError
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Role, specialise
from polyhedral.machine.device import H100
from polyhedral.pipeline import map_onto
from tests.programs import CASES

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("POLYHEDRAL_UPDATE_GOLDEN"))
TEXTS: Mapping[str, Mapping[str, int]] = {
    "copy": {},
    "matmul": {"A.i": 1000, "A.k": 1024, "B.j": 1000},
    "capsule_conv": {"P.ci": 32, "P.y": 16, "P.x": 16, "P.p": 4, "P.q": 4, "W.co": 32, "W.r": 4},
    "conv_strided": {"X.c": 64, "X.y": 58, "X.x": 58, "W.o": 64},
    "softmax": {"X.i": 512, "X.k": 1000},
    "brain_floats": {},
    "lu": {},
    "gather": {},
}
"""Programs and the sizes at which they are what they are here for."""


def lowered(name: str, target: str) -> Built:
    case = CASES[name]
    p = specialise(case.program, {**case.sizes, **TEXTS.get(name, {})})
    given = {a.name: row_major(a) for a in p.arrays if a.role not in (Role.CONSTANT, Role.TEMPORARY)}
    return driver.lower(p, given, Options(target=target))


@pytest.mark.parametrize("name", TEXTS)
def test_golden(name: str):
    file = GOLDEN / f"{name}.cu"
    text = lowered(name, "cuda:sm_80").source.text
    if UPDATE:
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.is_file(), "no golden yet; see this file's docstring"
    assert text == file.read_text(), f"{name}: the kernels changed; if they should, see this file's docstring"


def test_no_golden_without_a_program():
    assert {f.stem for f in GOLDEN.glob("*.cu")} == set(TEXTS)


@pytest.fixture(scope="module")
def nvcc():
    try:
        return find_nvcc(os.environ)
    except ToolchainError:
        pytest.skip("no nvcc here")


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("sm_80", "matmul"),
        ("sm_90", "capsule_conv"),
        ("sm_80", "brain_floats"),
        ("sm_90", "softmax"),
        ("sm_80", "gather"),
    ],
)
def test_nvcc_takes_it_and_spills_nothing(nvcc, architecture: str, name: str, tmp_path):
    b = lowered(name, f"cuda:{architecture}")
    made = compile_cuda(b.source.text, nvcc, architecture, Cache(tmp_path))
    found = resources(made.said, [k.symbol for k in b.source.launches])
    most = 8 if name == "softmax" else 0  # what outlives the call that a division in f64 is
    assert all(r.spilled is not None and r.spilled <= most for r in found)
    assert all(r.registers and r.registers <= 255 for r in found)


def test_shared_memory_is_read_by_vectors(nvcc, tmp_path):
    """Neighbouring results of a thread make ptxas read four operands at once."""
    b = lowered("matmul", "cuda:sm_90")
    text = compile_cuda(b.source.text, nvcc, "sm_90", Cache(tmp_path), "ptx").path.read_text()
    assert len(re.findall(r"ld\.shared\.v4\.f32", text)) >= 4
    assert "ld.local" not in text


def of_case(name: str, nvcc: Nvcc, at: Path, kind: str = "ptx") -> Compiled:
    """A measured case at its full size, compiled for an H100."""
    source = predicted.lowered(case(name), "cuda:sm_90").built.source
    return compile_cuda(source.text, nvcc, "sm_90", Cache(at), kind)


def test_tiles_beside_copies_of_rows_that_are_no_power_of_two_spill_nothing(nvcc, tmp_path):
    """Addresses of copies once took so many registers that nvcc spilled."""
    said = of_case("CAP0-channels", nvcc, tmp_path, "cubin").said
    assert "0 bytes spill stores, 0 bytes spill loads" in said
    assert not re.search(r"[1-9]\d* bytes spill", said)


def test_rows_are_loaded_once(nvcc, tmp_path):
    """A thread has 32 cells of a row, for their maximum, for the sum and for the results: from registers."""
    assert len(re.findall(r"ld\.global", of_case("SOFTMAX", nvcc, tmp_path).path.read_text())) == 32


def test_a_maximum_is_one_instruction(nvcc, tmp_path):
    text = of_case("TROP", nvcc, tmp_path).path.read_text()
    assert len(re.findall(r"max\.NaN\.f32", text)) >= 512
    assert "setp.nan" not in text
    assert "setp.gt.f32" not in text


def test_copies_are_written_out(nvcc, tmp_path):
    """How many turns a copy has is known: no loop is left of them, nor what a compiler leaves for odd numbers."""
    text = of_case("SGEMM2048", nvcc, tmp_path).path.read_text()
    copies = re.findall(r"cp\.async\.cg\.shared", text)
    assert len(copies) == 8  # four turns before the loop over portions, and four within


@pytest.mark.parametrize("room", [6144, 12288, 24576])
def test_no_kernel_takes_more_shared_memory_than_there_is(room: int):
    """Padding after the rows of a box is left out where a block has no room for it."""
    p = specialise(CASES["matmul"].program, {"A.i": 1000, "A.k": 1024, "B.j": 1000})
    mapped = map_onto(p, {}, replace(H100, shared_block=room))
    made = mapped.scheduled
    source, _ = emit_device(
        made.analyzed.frame, made.schedule.tree, made.layouts, mapped.nests, CUDA, mapped.device
    )  # fmt: skip
    assert [k.shared for k in source.launches] == [room]
