# SPDX-License-Identifier: MIT
"""Where temporaries lie: placements against enumeration, the sharing oracle against time vectors, planted overlaps.

Every kernel that `tests.running` calls has its temporaries where they were placed, so conformance tests that as well.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace
from itertools import combinations, permutations, product

import numpy as np
import pytest

from frontend.environment.options import Options
from frontend.lowering import driver
from frontend.lowering.built import Built
from frontend.running import loading
from polyhedral.ir import affine as aff
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program, Role, specialise
from polyhedral.ir.tree import Band, Filter, Leaf, Member, Run, Tree, map_bands, times
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.oracle.sharing import conflict, together
from polyhedral.scheduling.schedule import original
from polyhedral.sets.instances import families, references
from polyhedral.text.reader import parse
from polyhedral.transforms.parallel import parallelise
from polyhedral.transforms.tile import tile
from polyhedral.whole.simplify import simplify
from polyhedral.whole.storage import Life, Placement, Slot, lives, may_share, place, sharing, shortage, steps
from tests.programs import CASES
from tests.running import agree, run_c
from tests.strategies import inputs_for

SIZES = {"X.i": 200}
SERIAL = Options(threads=1)


def pipeline(n: int = 6) -> Program:
    """Each array is the one before read backwards, so that no two may be computed in one loop."""
    lines = ["program pipeline", "input X: f64[i]", "output Y: f64[i: X.i]"]
    lines += [f"temporary t{k}: f64[i: X.i]" for k in range(n)]
    lines += [f"t{k}: for i < X.i: t{k} = {f't{k - 1}(i=X.i - 1 - i)' if k else 'X'} * 2.0 + X" for k in range(n)]
    return parse("\n  ".join([*lines, f"Y: for i < X.i: Y = t{n - 1} + 1.0"]))


def drawn(seed: int) -> Program:
    """A chain of statements over earlier arrays of one or two dims, read in both directions; some are sums."""
    rng = random.Random(seed)
    wide = {"X": False}
    lines = list[str]()

    def read(name: str, j: str) -> str:
        return f"{name}(i={rng.choice(('i', 'X.i - 1 - i'))}{f', j={j}' if wide[name] else ''})"

    for k in range(rng.randint(4, 9)):
        name, summed, two = f"t{k}", rng.random() < 0.3, rng.random() < 0.4
        j = "j" if summed or two else "2"
        value = f"{read(rng.choice(list(wide)[-3:]), j)} * 0.5 + {read(rng.choice(list(wide)), j)}"
        value = f"sum[j < 3] {value}" if summed else value
        wide[name] = two and not summed
        lines.append(f"{name}: for i < X.i{', j < 3' if wide[name] else ''}: {name} = {value}")
    arrays = [f"temporary {n}: f64[i: X.i{', j: 3' if w else ''}]" for n, w in wide.items() if n != "X"]
    last = " + ".join(read(n, "1") for n in list(wide)[-2:])
    head = ["program drawn", "input X: f64[i]", "output Y: f64[i: X.i]"]
    return parse("\n  ".join([*head, *arrays, *lines, f"Y: for i < X.i: Y = {last}"]))


def built(p: Program, sizes: dict[str, int] = SIZES, options: Options = SERIAL) -> Built:
    p = specialise(p, sizes)
    return driver.lower(p, {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}, options)


def life(name: str, size: int, first: int, last: int) -> Life:
    return Life(name, (aff.const(size),), 1, first, last)


# placements


def least_found(every: list[Life]) -> int:
    """The best of placing in any order, each as low as those who live with it allow: one of these is an optimum."""
    best = 1 << 62
    for order in permutations(every):
        done: list[tuple[Life, int, int]] = []
        for e in order:
            size = -(-e.bytes({}) // 64) * 64 + 64
            beside = sorted((s, s + n) for o, s, n in done if o.meets(e))
            start = 0
            for lo, hi in beside:
                if start + size <= lo:
                    break
                start = max(start, hi)
            done.append((e, start, size))
        best = min(best, max(s + n for _, s, n in done))
    return best


@pytest.mark.parametrize("seed", range(60))
def test_placements_against_enumeration(seed: int):
    rng = random.Random(seed)
    every = []
    for k in range(rng.randint(1, 5)):
        first = rng.randint(0, 6)
        every.append(life(f"t{k}", rng.choice((0, 1, 64, 100, 1000, 5000)), first, first + rng.randint(0, 4)))
    found = place(every, {})
    for (a, x), (b, y) in combinations(zip(every, found.slots, strict=True), 2):
        assert not (a.meets(b) and x.shares(y))
    assert [s.array for s in found.slots] == [e.array for e in every]
    assert all(s.start % 64 == 0 and s.size > e.bytes({}) for s, e in zip(found.slots, every, strict=True))
    assert found.peak == max(s.end for s in found.slots)
    assert found.apart == sum(s.size for s in found.slots)
    assert found.least == max(sum(s.size for s in found.slots if s.first <= t <= s.last) for t in range(12))
    assert sum(s.size for s in found.fullest()) == found.least
    assert found.least <= least_found(every) <= found.peak <= found.apart
    assert found.peak <= least_found(every) * 1.25


def test_enumerated_placements_are_nearly_all_optimal():
    """Out of 200 drawn, at most one is larger than the best there is."""
    rng, worse = random.Random(7), 0
    for _ in range(200):
        every = [life(f"t{k}", rng.randint(1, 4000), f := rng.randint(0, 5), f + rng.randint(0, 3)) for k in range(5)]
        worse += place(every, {}).peak > least_found(every)
    assert worse <= 1


def test_a_pipeline_needs_two_arrays_at_a_time():
    made = built(pipeline())
    found = made.placement(SIZES)
    assert found.peak == found.least == 2 * (200 * 8 + 64)
    assert len(made.lives) >= 5
    assert found.apart == len(made.lives) * (200 * 8 + 64)
    assert place((), {}) == Placement((), 0, 0, 0)


def test_symbolic_sizes_are_placed_when_they_are_known():
    p = pipeline()
    made = driver.lower(p, {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}, SERIAL)
    assert {made.placement({"X.i": n}).peak for n in (0, 1, 100)} == {128, 256, 2 * (832 + 64)}


def test_steps_of_nested_sequences():
    inner = InOrder((Filter(("b",), Leaf()), Filter(("c",), Leaf())))
    tree = InOrder((Filter(("a",), Leaf()), Filter(("b", "c"), inner), Filter(("d", "e"), Band((), inner))))
    assert steps(tree) == (("a",), ("b",), ("c",), ("d", "e"))


def test_what_does_not_fit_a_budget_is_told_with_what_is_live():
    found = place([life("a", 1000, 0, 1), life("b", 1000, 1, 2), life("c", 10, 3, 3)], {})
    assert shortage(found, None) is shortage(found, found.peak) is None
    short = shortage(found, found.peak - 1)
    assert short is not None
    assert {s.array for s in short.placement.fullest()} == {"a", "b"}


# the oracle


def trees(p: Program) -> dict[str, Tree]:
    start = original(families(p))
    return {
        "as written": start,
        "scheduled": built(p, {}).scheduled.schedule.tree,
        "tiled": map_bands(start, lambda b: tile(b, [2] * len(b.members))),
        "parallel": parallelise(
            map_bands(start, lambda b: replace(b, members=tuple(replace(m, coincident=True) for m in b.members)))
        ),
    }


def apart(p: Program, tree: Tree, a: str, b: str) -> bool:
    """By enumerating instances: every time at which one array is touched comes before all of the other's."""
    at = times(tree, tuple(f.id for f in families(p)))
    seen: dict[str, list[tuple[int, ...]]] = {a: [], b: []}
    for f in families(p):
        ranges = {
            r.dim: range(r.lo.const, r.hi.const) if r.lo.is_const and r.hi.is_const else range(8)
            for r in f.statement.domain.ranges
        }
        for point in product(*(ranges[d] for d in f.dims)):
            where = dict(zip(f.dims, point, strict=True))
            if aff.holds(f.domain, where, {}):
                # what runs at the same time has the same time
                when = tuple(0 if run is Run.PARALLEL else aff.evaluate(t, where, {}) for t, run in at[f.id])
                for r in references(f):
                    if r.array in seen:
                        seen[r.array].append(when)
    depth = max((len(t) for ts in seen.values() for t in ts), default=0)
    x, y = ([(*t, *[0] * (depth - len(t))) for t in seen[n]] for n in (a, b))
    return not x or not y or max(x) < min(y) or max(y) < min(x)


@pytest.mark.parametrize(
    "name", [n for n, c in CASES.items() if len(c.program.with_role(Role.TEMPORARY)) > 1] + ["drawn"]
)
def test_the_oracle_against_enumerated_times(name: str):
    """What it lets share is apart, instance by instance; and it lets share what the planner does."""
    programs = [drawn(seed) for seed in range(12)] if name == "drawn" else [CASES[name].program]
    shared = 0
    for whole in programs:
        p, _ = simplify(specialise(whole, {"X.i": 8} if name == "drawn" else CASES[name].sizes))
        for tree in trees(p).values():
            names = [a.name for a in p.with_role(Role.TEMPORARY)]
            for pair in combinations(names, 2):
                found = together(p, tree, [frozenset(pair)])
                assert (found is None) <= apart(p, tree, *pair)
                assert found is None or {found.first, found.second} == set(pair)
                assert (frozenset(pair) in may_share(lives(p, tree))) == (found is None)
                shared += found is None
    assert shared


def _moved(found: Placement, name: str, **change: int) -> Placement:
    return replace(found, slots=tuple(replace(s, **change) if s.array == name else s for s in found.slots))


@pytest.mark.parametrize("seed", ["pipeline", *range(10)])
def test_two_that_live_together_in_one_place_are_refused_and_wrong(seed: int | str):
    """Each pair of the plan that is live at once is moved together: the oracle names both, and results go wrong (not
    all: some arrays are written where they were just read, and some results do not matter).
    """
    made = built(drawn(seed) if isinstance(seed, int) else pipeline())
    p, tree, found = made.program, made.scheduled.schedule.tree, made.placement(SIZES)
    assert conflict(p, tree, found, SIZES) is None
    inputs = inputs_for(p, SIZES, 3)
    want = run(p, inputs, SIZES)["Y"]
    wrong = moved = 0
    for a, b in combinations(found.slots, 2):
        if a.last < b.first or b.last < a.first:
            continue
        mutant = _moved(found, a.array, start=b.start if b.start + a.size <= found.peak else 0)
        if not mutant.slots[found.slots.index(a)].shares(b):
            continue
        refused = conflict(p, tree, mutant, SIZES)
        assert refused is not None
        assert refused.second
        assert "share memory" in str(refused)
        moved += 1
        wrong += not np.allclose(called(made, inputs, mutant), want)
    assert wrong


def called(made: Built, inputs: dict[str, np.ndarray], placement: Placement) -> np.ndarray:
    """The output of a kernel whose temporaries lie as placed."""
    native, _, _ = loading.load(made)
    block = np.full(placement.peak + 64, 0x7F, np.uint8)
    first = block.ctypes.data + -block.ctypes.data % 64
    y = np.empty(SIZES["X.i"])
    at = {"X": inputs["X"].ctypes.data, "Y": y.ctypes.data} | {s.array: first + s.start for s in placement.slots}
    assert native([at[n] for n in made.source.buffers], (), 1) == 0
    return y


@pytest.mark.parametrize("seed", range(10))
def test_lives_that_are_too_short_are_refused(seed: int):
    """A planner that forgets the last reader, or the first writer, of what it makes room for."""
    made = built(drawn(seed))
    p, tree = made.program, made.scheduled.schedule.tree
    caught = 0
    for cut in ("first", "last"):
        bad = [replace(e, **{cut: e.last if cut == "first" else e.first}) for e in made.lives]
        found = place(bad, SIZES)
        right = {frozenset((a.array, b.array)) for a, b in combinations(made.lives, 2) if a.meets(b)}
        refused = conflict(p, tree, found, SIZES)
        assert (refused is not None) == bool(sharing(found) & right)
        caught += refused is not None
    assert caught


def test_places_outside_of_the_block_are_refused():
    made = built(pipeline())
    p, tree, found = made.program, made.scheduled.schedule.tree, made.placement(SIZES)
    for mutant in (
        _moved(found, "t3", start=found.peak),
        _moved(found, "t3", start=-64),
        _moved(found, "t3", start=8),
        _moved(found, "t3", size=64),
        replace(found, slots=found.slots[:-1]),
        replace(found, peak=64),
    ):
        refused = conflict(p, tree, mutant, SIZES)
        assert refused is not None
        assert refused.first in str(refused)


def test_parallel_steps_are_no_order():
    """Branches that run at the same time: their numbers differ, but nothing says which comes first."""
    p = specialise(pipeline(2), SIZES)
    ids = [f.id for f in families(p)]
    numbered = Member("c", tuple((f, aff.const(k)) for k, f in enumerate(ids)))
    for how, free in ((Run.SERIAL, True), (Run.PARALLEL, False), (Run.VECTOR, False)):
        tree = Band((replace(numbered, run=how),), Leaf())
        assert (together(p, tree, [frozenset(("t0", "Y"))]) is None) == free
        assert together(p, tree, [frozenset(("t0", "t1"))]) is not None
    assert [f for s in steps(original(families(p))) for f in s] == ids


def test_what_is_in_order_within_a_loop_comes_back_in_the_next_round():
    p = specialise(pipeline(4), SIZES)
    ids = [f.id for f in families(p)]
    inner = InOrder(tuple(Filter((f,), Leaf()) for f in ids))
    tree = Band((Member("i", tuple((f, aff.var("i")) for f in ids)),), inner)
    assert together(p, inner, [frozenset(("t0", "t2"))]) is None
    assert together(p, tree, [frozenset(("t0", "t2"))]) is not None
    assert not may_share(lives(p, tree))
    assert not apart(p, tree, "t0", "t2")


# kernels


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("symbolic", [False, True])
def test_kernels_with_shared_memory_are_right(seed: int, symbolic: bool):
    p = drawn(seed)
    sizes = {"X.i": (64, 10, 2)[seed % 3]}
    inputs = inputs_for(p, sizes, seed)
    agree(p, run_c(p, inputs, sizes, Options(threads=2), symbolic=symbolic), run(p, inputs, sizes), inputs)


def test_no_function_takes_two_restrict_pointers_to_one_place():
    several = 0
    for seed in range(12):
        p = drawn(seed)
        symbolic = driver.lower(p, {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}, SERIAL)
        for made, shared in ((built(p), sharing(built(p).placement(SIZES))), (symbolic, may_share(symbolic.lives))):
            heads = re.findall(r"static .* void ph_\w+\((.*)\) \{", made.source.text)
            taken = [set(re.findall(r"restrict (\w+)", head)) for head in heads]
            assert set().union(*taken) >= {e.array for e in made.lives}
            assert not any(pair <= names for pair in shared for names in taken)
            several += len(heads) > 1
    assert several >= 6


def test_a_slot_shares_only_what_both_have():
    a = Slot("a", 0, 64, 0, 0)
    assert a.shares(Slot("b", 63, 1, 0, 0))
    assert not a.shares(Slot("b", 64, 64, 0, 0))
