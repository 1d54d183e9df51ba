# SPDX-License-Identifier: MIT
"""Named sets against brute force over small boxes, and the islpy quirks that this project relies on or works around."""

from __future__ import annotations

from itertools import product

import islpy as isl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Condition
from polyhedral.pipeline import analyze
from polyhedral.sets.isl import NamedSet, named
from polyhedral.sets.isl_schedule import budget, frame, isl_schedule
from polyhedral.text.reader import parse

LOW, HIGH = -2, 5
BOX = aff.both(*(aff.between(LOW, aff.var(d), aff.const(HIGH)) for d in "xy"))


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    e = aff.const(draw(st.integers(-3, 3)))
    for d in "xy":
        e = e + aff.var(d) * draw(st.integers(-2, 2))
    if draw(st.booleans()):
        e = e // draw(st.integers(2, 3)) + aff.var("x") * draw(st.integers(-1, 1))
    return e % draw(st.integers(2, 3)) - 1 if draw(st.integers(0, 3)) == 0 else e


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> Condition:
    if depth == 0 or draw(st.booleans()):
        e = draw(affines())
        return aff.equal(e) if draw(st.integers(0, 3)) == 0 else aff.at_least(e)
    parts = [draw(conditions(depth - 1)) for _ in range(2)]
    return draw(st.sampled_from((aff.both(*parts), aff.either(*parts), aff.negate(parts[0]), aff.Not(parts[1]))))


def brute(c: Condition) -> set[tuple[int, int]]:
    return {q for q in product(range(LOW, HIGH), repeat=2) if aff.holds(c, dict(zip("xy", q, strict=True)), {})}


def boxed(c: Condition) -> NamedSet:
    return named(("x", "y"), (), aff.both(BOX, c))


def points(s: NamedSet) -> set[tuple[int, ...]]:
    found: list[isl.Point] = []
    s.raw.foreach_point(found.append)
    n = len(s.dims)
    return {tuple(q.get_coordinate_val(isl.dim_type.set, i).to_python() for i in range(n)) for q in found}


QUICK = settings(max_examples=100, deadline=None, derandomize=True, database=None)


@given(conditions(), conditions())
@QUICK
def test_sets_against_enumeration(a: Condition, b: Condition):
    x, y = boxed(a), boxed(b)
    assert points(x) == brute(a)
    assert points(x & y) == brute(a) & brute(b)
    assert points(x | y) == brute(a) | brute(b)
    assert points(x - y) == brute(a) - brute(b)
    assert points(~x & boxed(aff.TRUE)) == brute(aff.TRUE) - brute(a)
    assert points(x.where(b)) == brute(a) & brute(b)
    assert x.is_empty() == (not brute(a))
    assert x.is_subset(y) == (brute(a) <= brute(b))
    assert x.same_as(y) == (brute(a) == brute(b))
    assert points(x.gist(y) & y) == points(x & y)


@given(conditions())
@QUICK
def test_a_set_and_its_condition_are_one(c: Condition):
    x = boxed(c)
    assert {q for q in brute(x.condition())} == brute(c)
    low = x.sample()
    assert (low is None) == (not brute(c))
    if low is not None:
        assert (low["x"], low["y"]) == min(brute(c))


@given(conditions())
@QUICK
def test_projection_permutation_and_bounds(c: Condition):
    x, want = boxed(c), brute(c)
    assert points(x.without("y")) == {(a,) for a, _ in want}
    assert points(x.only("y")) == {(b,) for _, b in want}
    assert points(x.over(("y", "x"))) == {(b, a) for a, b in want}
    assert x.over(("y", "x")).same_as(x)
    if want:
        (low,), (high,) = x.bounds("x")
        assert (low[1].const, high[1].const) == (min(want)[0], max(want)[0])


@given(conditions(), affines())
@QUICK
def test_image_and_preimage(c: Condition, e: Affine):
    x, want = boxed(c), brute(c)

    def at(q: tuple[int, int]) -> int:
        return aff.evaluate(e, dict(zip("xy", q, strict=True)), {})

    assert points(x.image({"z": e})) == {(at(q),) for q in want}
    back = named(("z",), (), aff.between(0, aff.var("z"), aff.const(2))).preimage({"z": e}, ("x", "y"))
    assert points(back & x) == {q for q in want if 0 <= at(q) < 2}


def test_sizes_are_never_negative_and_unite():
    n, m = aff.size("n"), aff.size("m")
    a = named(("i",), ("n",), aff.between(0, aff.var("i"), n))
    b = named(("i",), ("m",), aff.between(0, aff.var("i"), m))
    both = a & b
    assert both.sizes == ("n", "m")
    assert a.is_subset(a.where(aff.at_least(n)))
    ((_, high),) = a.bounds("i")[1]
    assert str(high) == "n - 1"
    assert not (a - b).is_empty()
    assert (a - b).where(aff.at_least(m, n)).is_empty()


# --- islpy -----------------------------------------------------------------------------------------------------------


def test_count_of_an_unbounded_set_cannot_be_trusted():
    every = isl.Set("{ [i] : i >= 0 }")
    try:
        counted = every.count_val()
    except isl.Error:
        return
    assert counted.is_infty() or counted.is_zero() or counted.is_nan()


def test_equal_sets_compare_by_meaning():
    assert isl.Set("{ [i] : 0 <= i < 4 }") == isl.Set("{ [i] : i >= 0 and i <= 3 }")


def test_an_exhausted_budget_raises_and_leaves_the_context_usable():
    p = parse("""
    program p
      output Z: i32[i: 9, j: 9]
      S0: for i < 9, j < 9: Z = where([1 <= i and 1 <= j], Z(i=i - 1, j=j - 1), 1)
    """)
    a = analyze(p)
    deps = a.dependences
    found = isl_schedule(a.frame, a.frame.families, deps.validity, deps.coincidence, deps.proximity, operations=10)
    assert found is None
    assert isl.Set("{ [i] : 0 <= i < 4 }").count_val().to_python() == 4
    assert isl_schedule(a.frame, a.frame.families, deps.validity, deps.coincidence, deps.proximity) is not None


def test_the_budget_ends_with_its_block():
    with pytest.raises(isl.Error), budget(3):
        isl.Set("{ [i, j] : 0 <= i < 40 and 0 <= j < i and i % 3 = 1 and j % 5 = i % 7 }").lexmin()
    assert isl.DEFAULT_CONTEXT.get_max_operations() == 0


def test_families_without_instances_survive_scheduling():
    p = parse("program p\n output Z: i32[i: 3]\n S0: for i < 3: Z = sum[k < 0] Z(i=0)")
    fr = frame(p)
    deps = analyze(p).dependences
    tree = isl_schedule(fr, fr.families, deps.validity, deps.coincidence, None)
    assert tree is not None
    assert {f for c in getattr(tree, "children", ()) for f in c.families} == {"S0i", "S0"}
