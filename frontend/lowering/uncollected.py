# SPDX-License-Identifier: MIT
"""A stretch of work during which Python's cycle collector rests; memory is given back as soon as it is over.

What a compilation makes lives until it ends: the collector would look at all of it again and again, for a fifth of the
time.  Objects that are in no cycle are freed all the while.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Generator[None]:
    """No cycles are collected within, where they would be at all."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
