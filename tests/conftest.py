# SPDX-License-Identifier: MIT
"""One private cache for the whole run: tests neither read nor write the user's.  No test is timed, and what a test
draws does not depend on those that ran before it.
"""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from tests.device import on_host

os.environ["POLYHEDRAL_CACHE_DIR"] = tempfile.mkdtemp(prefix="polyhedral-tests-")
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_imported: dict[tuple[str, str], Any] = {}
"""States of the generators of modules, by module and name, as importing left them."""


def pytest_collection_finish() -> None:
    """Modules and tests stay until the end: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Generators of the test's module begin anew."""
    module = getattr(item, "module", None)
    for name, value in list(vars(module).items()) if module is not None else ():
        if isinstance(value, np.random.Generator):
            bits = value.bit_generator
            bits.state = _imported.setdefault((module.__name__, name), bits.state)


@pytest.fixture(scope="session")
def precompiled_words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
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
