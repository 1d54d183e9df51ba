# SPDX-License-Identifier: MIT
"""The order in which plans are tried: each once, the dearest statement first, others when nothing is gained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import polyhedral as ph
from frontend.tuning.search import FAR, PATIENCE, Candidate, Queue, Step, queues, steps, structure
from polyhedral.dim import j, k
from polyhedral.plans.preferences import Lying, Preferred, Together, alternatives


def candidate(statement: str, n: int) -> Candidate:
    return Candidate(Preferred(statement, (), "x", n, (), (), (), (), ()), float(n))


def queue(statement: str, count: int) -> Queue:
    every = tuple(candidate(statement, n) for n in range(count + 1))
    return Queue(statement, 1, 1.0, every[1:])


def walked(every: list[Queue], won: Callable[[Step], bool]) -> list[Step]:
    order, found = steps(every), list[Step]()
    step = next(order, None)
    while step is not None:
        found.append(step)
        try:
            step = order.send(won(step))
        except StopIteration:
            break
    return found


def test_every_candidate_once_and_statements_in_turn():
    found = walked([queue("a", 10), queue("b", 3)], lambda _: False)
    names = "".join(s.queue.statement for s in found)
    assert names == "a" * PATIENCE + "bbb" + "a" * (10 - PATIENCE)
    assert len({s.candidate for s in found}) == 13


def test_a_gain_renews_patience():
    found = walked([queue("a", 20), queue("b", 1)], lambda s: s.candidate.change.width == PATIENCE)
    assert "".join(s.queue.statement for s in found).index("b") == 2 * PATIENCE


def test_what_follows_is_what_comes_if_nothing_is_gained():
    found = walked([queue("a", 10), queue("b", 3)], lambda _: False)
    for n, step in enumerate(found):
        ahead = [s.candidate for s in found[n + 1 : n + 1 + len(step.following)]]
        assert list(step.following) == ahead


def test_nothing_to_try():
    assert walked([], lambda _: False) == []
    assert walked([queue("a", 0)], lambda _: False) == []


def test_queues_of_a_program():
    @ph.function(A="i k", B="k j", C="j o", returns="i o")
    def chained(A, B, C):
        return ((A * B).sum(k, order="strict") * C).sum(j)

    @ph.function(A="i k", B="k j", C="i k", returns=("i j", "i j"))
    def twins(A, B, C):
        return (A * B).sum(k), (C * B).sum(k)

    X = np.ones((60, 60), "f4")
    with ph.options(tuned="off"):
        (one,) = queues(twins.lower(X, X, X, threads=1).built.choices)
        low = chained.lower(X, X, X, threads=1)
        (other,) = queues(low.built.choices)  # the sum in a fixed order has no plans
    assert one.alike == 2
    assert other.alike == 1
    assert other.statement == "out"
    assert all(other.cycles <= c.predicted <= FAR * other.cycles for c in other.candidates)
    tiles = [c.change.tile for c in other.candidates]
    first = len(set(tiles)) - 1
    assert len({*tiles[:first]}) == first, "each tile has its turn before any has its second"


def test_what_is_changed_before_plans():
    found = structure({("a", "b"): True, ("c", "d"): False}, 4, "global")
    changes = [c.change for q in found for c in q.candidates]
    assert changes == [Together(("a", "b"), False), Together(("c", "d"), True), Lying("greedy")]
    assert structure({}, 1, "global") == []
    assert structure({}, 4, "greedy") == []


def test_candidates_are_the_plans_weighed_and_the_first_is_the_one_chosen():
    X = np.ones((60, 60), "f4")

    @ph.function(A="i k", B="k j", returns="i j")
    def mm(A, B):
        return (A * B).sum(k)

    choice = mm.lower(X, X, threads=1, tuned="off").built.choices["out"]
    assert choice.asked is not None
    every = alternatives(choice.asked)
    assert every[0][1].prediction.total == choice.prediction.total
    assert len({p for p, _ in every}) == len(every)
    totals = [c.prediction.total for _, c in every]
    assert totals == sorted(totals)
