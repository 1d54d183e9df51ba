# SPDX-License-Identifier: MIT
"""Kernels of these tests are compiled quickly: what a program means is asked here, not what compilers make of a kernel,
which conformance, properties and issues ask with the flags that users get.
"""

import pytest


@pytest.fixture(scope="module", autouse=True)
def quick(quick_compiler: None) -> None:
    """For every test."""
