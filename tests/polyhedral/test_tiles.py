# SPDX-License-Identifier: MIT
"""What is left out while plans are weighed is not the best: random reductions with and without it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE
from polyhedral.ir.layout import row_major
from polyhedral.ir.operands import operands, tied
from polyhedral.ir.program import Program, Range, Statement
from polyhedral.machine.target import Target
from polyhedral.plans import candidates, tiles
from polyhedral.plans.tiles import ALONE, Setting, Within
from tests.properties.test_random_plans import drawn

MACHINES = (
    Target(cores=2, masked=True),
    Target(vector=64, registers=32, cores=2, masked=True),
    Target(vector=16, l3=0, bytes_per_cycle=0.25),
)


def reductions(count: int) -> Iterator[tuple[random.Random, Program, Statement]]:
    rng = random.Random(11)
    while count:
        p = drawn(rng)
        (s,) = p.statements
        if s.op is None or not set(s.kept) - tied(s):
            continue
        count -= 1
        if s.domain.guard == TRUE and rng.random() < 0.5:  # some so long that tiles and portions differ
            factor = rng.choice((3, 8, 24))
            ranges = tuple(Range(r.dim, r.lo, aff.const(r.hi.const * factor)) for r in s.domain.ranges)
            s = replace(s, domain=replace(s.domain, ranges=ranges))
            arrays = tuple(replace(a, dims=tuple((d, e * factor) for d, e in a.dims)) for a in p.arrays)
            p = replace(p, arrays=arrays, statements=(s,))
        yield rng, p, s


def test_finalists_are_the_first_of_all():
    left = Counter[str]()
    for rng, p, s in reductions(40):
        within = Within(frozenset(rng.sample(s.kept, 1))) if rng.random() < 0.2 else ALONE
        layouts = {a.name: row_major(a) for a in p.arrays}
        q = Setting(p, layouts, rng.choice(MACHINES), frozenset(rng.sample(sorted(layouts), 1)), within)
        for vector in [d for d in s.kept if d not in tied(s)]:
            every = operands(s, layouts)
            along = tiles._shared(q, s, vector, every)
            priced = [(along.cycles(x), x.number, x.full) for x in tiles._sketches(along)]
            assert all(along.cycles(x) >= along.sure(x) >= x.least for x in tiles._sketches(along))
            ranked = sorted(priced)
            wanted = [x for x in ranked if not x[2]][: tiles.FINALISTS] + [x for x in ranked if x[2]][: tiles.FULL]
            found = tiles.finalists(q, s, vector)
            least = min((c for c, _, _ in priced), default=0.0)
            close = [(c, full) for c, _, full in wanted if c <= tiles.CLOSE * least]
            assert [(t.cycles, t.full) for t in found if t.cycles <= tiles.CLOSE * least] == close
            best = least * rng.choice((0.5, 0.9, 2.0))
            with_best = [t for t in tiles.finalists(q, s, vector, best) if t.cycles <= tiles.CLOSE * min(best, least)]
            assert with_best == [t for t in found if t.cycles <= tiles.CLOSE * min(best, least)]
            left["some"] += len(priced) > len(found)
    assert left["some"] > 20


def test_the_best_is_the_least_of_all():
    seen = Counter[str]()
    for rng, p, s in reductions(40):
        layouts = {a.name: row_major(a) for a in p.arrays}
        given = p, s, layouts, rng.choice(MACHINES), frozenset(rng.sample(sorted(layouts), 1))
        every = candidates.choices(*given)
        masked = s.domain.guard != TRUE or (isinstance(s.value, ex.Select) and s.value.eager)
        cut = [c for c in every if any(loop.dim in c.plan.order for loop in c.plan.loops)]
        kept = [c for c in every if c not in cut] if masked else every
        assert candidates.best(*given) == min(kept, key=lambda c: c.prediction.total, default=None)
        seen.update(several=len(kept) > 10, portions=bool(cut), copies=any(c.relaid for c in every))
    assert min(seen.values()) > 2, seen


def test_fewer_plans_are_weighed_where_a_statement_is_a_small_part_of_its_program():
    """Whatever is weighed, the best of it is found; alone, every plan of the few is among those of the many."""
    fewer = 0
    for _, p, s in reductions(20):
        layouts = {a.name: row_major(a) for a in p.arrays}
        crowd = tuple(replace(s, name=f"{s.name}_{n}") for n in range(1 << 14))
        of_many = replace(p, statements=(s, *crowd))
        every, few = (candidates.choices(q, s, layouts, MACHINES[0], frozenset()) for q in (p, of_many))
        assert {c.plan for c in few} <= {c.plan for c in every}
        assert bool(few) == bool(every)
        fewer += len(few) < len(every)
    assert fewer > 5
