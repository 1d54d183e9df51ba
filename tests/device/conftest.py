# SPDX-License-Identifier: MIT
"""The GPU that is a processor, opened by each of our CUDA drivers in turn; and the words of CUDA on a processor."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.device import on_host
from tests.device.fake.gpu import Gpu
from tests.device.fake.opened import WAYS, opened


@pytest.fixture(scope="session", autouse=True)
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """g++ reads the words of CUDA once for all kernels."""
    compiler = shutil.which("g++")
    if compiler is None:
        yield
        return
    at = tmp_path_factory.mktemp("words")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_host, "WORDS", on_host.read_once(compiler, at))
        yield
    shutil.rmtree(at)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toolkit")


@pytest.fixture(params=WAYS)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Gpu:
    made = Gpu()
    opened(monkeypatch, made, request.param, folder)
    return made
