# SPDX-License-Identifier: MIT
"""Kernels of these tests are compiled with -O1, in half the time: what a program means is asked here, not what compilers
make of a kernel, which conformance, properties and issues ask with the flags that users get.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from codegen.runtime.cc import Compiler
from frontend.environment import session


@pytest.fixture(scope="module", autouse=True)
def quick_compiler() -> Iterator[None]:
    found = session._compiler

    def quick(here: session.Session, root: str) -> Compiler:
        compiler = found(here, root)
        return replace(compiler, flags=(*compiler.flags, "-O1"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_compiler", quick)
        yield
