# SPDX-License-Identifier: MIT
"""`dump=` leaves every stage of a kernel in a folder, and the program among them parses back."""

from pathlib import Path

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import k


def test_every_stage_is_written(tmp_path: Path):
    @ph.function(A="i k", B="k j")
    def mm(A, B):
        return (A * B).sum(k)

    with ph.options(dump=str(tmp_path)):
        mm(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32))
    assert {f.name for f in tmp_path.iterdir()} == {"mm.poly", "mm.schedule.txt", "mm.loops.txt", "mm.c"}
    program = ph.parse((tmp_path / "mm.poly").read_text())
    assert [s.op for s in program.statements] == ["sum"]
    assert "ph_mm" in (tmp_path / "mm.c").read_text()
    assert "band" in (tmp_path / "mm.schedule.txt").read_text()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("")

    @ph.function(A="i k", B="k j")
    def mm(A, B):
        return (A * B).sum(k)

    with ph.options(dump=str(file / "below")), pytest.raises(ph.ArgumentError, match="cannot be written"):
        mm(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32))
