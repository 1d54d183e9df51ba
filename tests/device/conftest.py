# SPDX-License-Identifier: MIT
"""The GPU that is a processor, opened by each of our CUDA drivers in turn; and the words of CUDA on a processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.device.fake.gpu import Gpu
from tests.device.fake.opened import WAYS, opened


@pytest.fixture(scope="session", autouse=True)
def words(precompiled_words: None) -> None:
    """For every test."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toolkit")


@pytest.fixture(params=WAYS)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Gpu:
    made = Gpu()
    opened(monkeypatch, made, request.param, folder)
    return made
