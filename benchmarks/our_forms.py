# SPDX-License-Identifier: MIT
"""Other ways to run ours, beside the plain one: an example at a time, as peers are run where they are faster so; and
with the greedy choice of layouts, which the choice for the whole program is measured against.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import polyhedral as ph
from benchmarks.case import Arrays, Case, as_arrays
from frontend.measuring.ledger import OURS
from frontend.measuring.timing import Contestant

ONE_BY_ONE, GREEDY = f"{OURS}, one by one", f"{OURS}, greedy layouts"
SUMMED = ("em-backward",)
"""Families whose results are sums over the batch, or have its dim."""
CHAINS = ("capsule_chain",)
"""Families with arrays between statements that may lie in any order."""
BATCH = "n"


def examples(c: Case, arrays: Arrays) -> Iterator[Arrays]:
    """The arguments of each call: every array of the batch cut to one example."""
    axes = c.function.axes
    count = next(a.shape[axes[n].index(BATCH)] for n, a in arrays.items() if BATCH in axes[n])
    for k in range(count):
        yield {n: a.take([k], axes[n].index(BATCH)) if BATCH in axes[n] else a for n, a in arrays.items()}


def forms(c: Case, arrays: Arrays) -> Iterator[Contestant]:
    """The contestants that a case has."""
    if c.family in SUMMED:
        yield one_by_one(c, arrays)
    if c.family in CHAINS:
        yield greedy(c, arrays)


def greedy(c: Case, arrays: Arrays) -> Contestant:
    call = c.caller(arrays)
    last: list[object] = [None]

    def run() -> object:
        with ph.options(layouts="greedy"):
            last[0] = call()
        return last[0]

    return Contestant(GREEDY, run, lambda: as_arrays(last[0]))


def one_by_one(c: Case, arrays: Arrays) -> Contestant:
    """Results that have the dim of the batch are put one after the other, others (a loss that is a sum, derivatives by
    weights) are added up.
    """
    each = list(examples(c, arrays))
    kept: list[tuple[np.ndarray, ...]] = []

    def run() -> object:
        made: list[list[np.ndarray]] = []
        for one in each:
            for n, (a, axes) in enumerate(zip(_all(c.function(**one, **c.sizes)), c.function.returns, strict=True)):
                if n == len(made):
                    made.append([a])
                elif BATCH in axes:
                    made[n].append(a)
                else:
                    made[n] = [made[n][0] + a]
        kept[:] = [tuple(np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in made)]
        return kept

    return Contestant(ONE_BY_ONE, run, lambda: kept[0])


def _all(results: object) -> tuple[np.ndarray, ...]:
    found = as_arrays(results)
    return found if isinstance(found, tuple) else (found,)
