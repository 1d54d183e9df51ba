# SPDX-License-Identifier: MIT
"""Factors hoisted and products contracted: the same results, in fewer operations, with nothing read that was not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf

import numpy as np
import pytest

from polyhedral.checks.check import check
from polyhedral.ir import affine as aff
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program, Role, Statement
from polyhedral.rewrites import algebra, contract, contraction_order, factor
from polyhedral.rewrites.contract import contract as contracted
from polyhedral.rewrites.contraction_order import Network, best_order, direct
from polyhedral.rewrites.factor import hoist_factors
from polyhedral.text.printer import to_text
from polyhedral.text.reader import parse
from tests.contractions import contraction, disagreement, values_for

SEEDS = range(500)
MUTANTS = range(4000)
FREE = -(10**6)
"""A price at which every change pays."""


def rewritten(p: Program, price: int = FREE) -> Program:
    return contracted(hoist_factors(p, per_cell=price)[0], per_cell=price)[0]


def work(p: Program) -> int:
    """Instances of all statements."""
    total = 0
    for s in p.statements:
        trip = 1
        for r in s.domain.ranges:
            trip *= r.hi.const - r.lo.const
        total += trip
    return total


# --- random programs -------------------------------------------------------------------------------------------------


def wrong(seeds: Iterable[int], whole: bool = True, special: bool = False, price: int = FREE) -> Iterator[str]:
    """What random programs show to be wrong with the rewrites."""
    for seed in seeds:
        p = contraction(seed, whole)
        try:
            q = rewritten(p, price)
            said = disagreement(p, q, values_for(p, seed, special))
        except Exception as error:  # a read out of bounds, or of a cell that nothing defines
            said = f"{type(error).__name__}: {error}"
        if said is not None:
            yield f"seed {seed}: {said}\n{to_text(p)}"


def test_whole_numbers_give_the_same():
    assert not list(wrong(SEEDS))


def test_reals_are_within_the_bound():
    assert not list(wrong(SEEDS, whole=False))


def test_infinities_stay_and_no_nan_becomes_finite():
    assert not list(wrong(SEEDS, whole=False, special=True))


def test_at_the_usual_price():
    assert not list(wrong(SEEDS, price=algebra.PER_CELL))


def test_greedy_orders_give_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contraction_order, "EXACT", 1)
    assert not list(wrong(SEEDS))


def test_the_results_are_programs():
    """Checked as any other: bounds proved, cells defined once."""
    for seed in range(60):
        check(rewritten(contraction(seed)))


def test_many_random_programs_change():
    """Otherwise the tests above would say little: among them triangles, guards and every semiring."""
    changed = [p for p in map(contraction, SEEDS) if rewritten(p) is not p]
    assert len(changed) >= 120
    assert sum(1 for p in changed if algebra.links(p.statement("out").domain)) >= 30
    assert {p.statement("out").op for p in changed} >= {"sum", "max", "min", "any", "all"}


# --- mutants ---------------------------------------------------------------------------------------------------------


def _any_domain(*_: object) -> bool:
    return True


def _strict_too(s: Statement, *_: object) -> str | None:
    return "it is no reduction" if s.op is None else None


def _only_ranges(domain: algebra.Domain, dims: frozenset[str]) -> bool:
    """The conditions are not asked."""
    return all(aff.dims_of(r.lo) | aff.dims_of(r.hi) <= dims for r in domain.ranges if r.dim in dims)


def _early(self: contraction_order._Search, factors: frozenset[int]) -> frozenset[str]:
    """Everything is reduced at once."""
    return frozenset[str]().union(*(self.network.factors[i] for i in factors)) - self.network.summed


def _any_product(s: Statement) -> str | None:
    return {"sum": "*", "max": "+", "min": "+", "any": "and", "all": "or", "prod": "*"}.get(s.op or "")


@pytest.mark.parametrize(
    ("where", "name", "mutant"),
    [
        ((contract, factor), "closed", _any_domain),
        ((contract,), "links", lambda domain: ()),
        ((algebra,), "_times", _any_product),
        ((contract, factor), "closed", _only_ranges),
        ((contract,), "restricted", lambda domain, dims: algebra.Domain(algebra.restricted(domain, dims).ranges)),
        ((contraction_order._Search,), "open", _early),
    ],
)  # fmt: skip
def test_a_wrong_rewrite_is_caught(monkeypatch: pytest.MonkeyPatch, where: tuple, name: str, mutant: object):
    for place in where:
        monkeypatch.setattr(place, name, mutant)
    assert next(wrong(MUTANTS), None)


def test_contracting_strict_sums_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contract, "order_is_fixed", _strict_too)
    monkeypatch.setattr(factor, "order_is_fixed", _strict_too)
    assert next(wrong(MUTANTS, whole=False), None)


def test_empty_rows_matter(monkeypatch: pytest.MonkeyPatch):
    """0 times infinity is not an empty sum."""
    p = parse("""
    program empty
      input a: f32[i: 4]
      input b: f32[i: 4, k: 4]
      output out: f32[i: 4]
      out: for i < 4:  out = sum[k < i] a * b
    """)
    inputs = {"a": np.full(4, np.inf, np.float32), "b": np.ones((4, 4), np.float32)}
    assert hoist_factors(p, FREE)[0] is p
    assert run(p, inputs)["out"][0] == 0
    monkeypatch.setattr(factor, "closed", _any_domain)
    assert np.isnan(run(hoist_factors(p, FREE)[0], inputs)["out"][0])


# --- orders ----------------------------------------------------------------------------------------------------------

BILIN = """
program bilinear
  input x: f32[n: {n}, i: {i}]
  input W: f32[o: {o}, i: {i}, j: {j}]
  input y: f32[n: {n}, j: {j}]
  output Y: f32[n: {n}, o: {o}]
  Y: for n < {n}, o < {o}:  Y = sum[i < {i}, j < {j}] x * W * y
"""


@pytest.mark.parametrize(("n", "o", "i", "j"), [(64, 48, 32, 40), (64, 8, 32, 40), (8, 64, 64, 32), (4, 256, 16, 64)])
def test_a_bilinear_form_takes_one_product_for_each_point(n: int, o: int, i: int, j: int):
    p = parse(BILIN.format(n=n, o=o, i=i, j=j))
    q, (remark,) = contracted(p)
    assert len(q.statements) == 2
    assert remark.statement == "Y"
    small = min(n * o * j, n * o * i, n * i * j)
    assert work(q) == n * o * i * j + small
    assert sum(1 for a in q.arrays if a.role is Role.TEMPORARY) == 1
    check(q)


def test_a_chain_of_matrices_is_ordered_as_textbooks_do():
    """Cormen et al., Introduction to Algorithms, 15.2: 15,125 multiplications."""
    sizes = (30, 35, 15, 5, 10, 20, 25)
    names = "abcdefg"
    factors = tuple(frozenset(names[k : k + 2]) for k in range(6))
    n = Network(factors, dict(zip(names, sizes, strict=True)), frozenset(names[1:-1]), frozenset("ag"))
    order = best_order(n)
    assert order is not None
    assert order.multiply_adds == 15_125
    assert direct(n) == 5 * 30 * 35 * 15 * 5 * 10 * 20 * 25


@pytest.mark.parametrize("count", [9, 12])
def test_longer_chains_are_ordered_greedily(count: int):
    names = "abcdefghijklmnop"[: count + 1]
    factors = tuple(frozenset(names[k : k + 2]) for k in range(count))
    n = Network(factors, dict.fromkeys(names, 10), frozenset(names[1:-1]), frozenset((names[0], names[-1])))
    order = best_order(n)
    assert order is not None
    assert order.multiply_adds == 1000 * (count - 1)


def test_exact_search_is_never_worse_than_any_pairing():
    """Against plain recursion over all pairs, on random networks."""
    rng = np.random.default_rng(3)
    for _ in range(40):
        dims = "abcde"
        factors = tuple(frozenset(d for d in dims if rng.random() < 0.5) or frozenset("a") for _ in range(4))
        present = frozenset().union(*factors)
        summed = frozenset(d for d in present if rng.random() < 0.6)
        n = Network(factors, {d: int(rng.integers(2, 9)) for d in dims}, summed, present - summed)
        order = best_order(n)
        assert order is not None
        assert order.multiply_adds == _cheapest(n)


def _cheapest(n: Network) -> int:
    """The least multiply-adds over all ways to pair factors, and to reduce each by itself first or not."""

    def volume(dims: frozenset[str]) -> int:
        return int(np.prod([n.extents[d] for d in sorted(dims)], dtype=np.int64))

    def go(parts: tuple[tuple[frozenset[int], frozenset[str]], ...]) -> float:
        if len(parts) == 1:
            return 0
        best = inf
        for x in range(len(parts)):
            for y in range(x):
                rest = tuple(p for k, p in enumerate(parts) if k not in (x, y))
                inside = parts[x][0] | parts[y][0]
                needed = frozenset().union(*(n.factors[i] for i in range(len(n.factors)) if i not in inside))
                loops = parts[x][1] | parts[y][1] | (frozenset() if rest else n.kept)
                best = min(best, volume(loops) + go((*rest, (inside, loops - (n.summed - needed)))))
        return best

    def starts(i: int) -> list[tuple[int, frozenset[str]]]:
        others = frozenset().union(*(f for k, f in enumerate(n.factors) if k != i))
        own = n.factors[i] & n.summed - others
        return [(0, n.factors[i]), *([(volume(n.factors[i]), n.factors[i] - own)] if own else [])]

    def choices(i: int, paid: int, parts: tuple) -> float:
        if i == len(n.factors):
            return paid + go(parts)
        return min(choices(i + 1, paid + c, (*parts, (frozenset((i,)), ds))) for c, ds in starts(i))

    return int(choices(0, 0, ()))


def test_no_temporary_is_larger_than_allowed():
    p = parse(BILIN.format(n=64, o=48, i=32, j=40))
    for most in (1 << 28, 400_000, 100_000):
        q = contracted(p, most_bytes=most)[0]
        for a in q.with_role(Role.TEMPORARY):
            assert int(np.prod([e.const for _, e in a.dims])) * 4 <= most
    assert contracted(p, most_bytes=100_000)[0] is p
    assert contracted(p, most_bytes=400_000)[0] is not p


def test_windows_keep_their_dims():
    """A factor read through 2*y + ky: its temporary has both."""
    p = parse("""
    program windows
      input X: f32[c: 16, y: 21]
      input W: f32[o: 32, c: 16, ky: 3]
      input V: f32[c: 16, r: 24]
      output out: f32[o: 32, y: 10, r: 24]
      out: for o < 32, y < 10, r < 24:  out = sum[c < 16, ky < 3] X(y=2*y + ky) * W * V
    """)
    q, _ = contracted(p)
    assert q is not p
    check(q)
    rng = np.random.default_rng(0)
    inputs = {n: rng.integers(-3, 4, s).astype(np.float32) for n, s in (("X", (16, 21)), ("W", (32, 16, 3)))}
    inputs["V"] = rng.integers(-3, 4, (16, 24)).astype(np.float32)
    np.testing.assert_array_equal(run(p, inputs)["out"], run(q, inputs)["out"])


@pytest.mark.parametrize(
    "statement",
    [
        "out: for i < 40, j < 40 strict:  out = sum[k < 40] A * B(i=k) * s(i=i) * s(i=k)",
        "out: for i < 40, j < 40:  out = sum[k < n] A * B(i=k) * s(i=i) * s(i=k)",
        "out: for i < 40, j < 40:  out = sum[k < 40] A * B(i=k) + s(i=i) * s(i=k)",
    ],
)
def test_what_is_left_alone(statement: str):
    """Strict sums, symbolic sizes, and what is no product."""
    p = parse(f"""
    program alone
      sizes n
      input A: f32[i: 40, k: 40]
      input B: f32[i: 40, j: 40]
      input s: f32[i: 40]
      output out: f32[i: 40, j: 40]
      {statement}
    """)
    assert contracted(hoist_factors(p)[0])[0] is p


def test_memory_and_recurrences_are_left_alone():
    p = parse("""
    program alone
      input A: f32[i: 40, k: 40]
      input s: f32[i: 40]
      inout M: f32[i: 40]
      temporary z: f32[i: 40]
      temporary t: f32[i: 40]
      output out: f32[i: 40]
      M: for i < 40 accumulate:  M = sum[k < 40] A * s * s(i=k)
      t: for i < 40:  t = sum[k < 40 if k < i] A * s * s(i=k) * z(i=k)
      z: for i < 40:  z = s - t
      out: for i < 40:  out = sum[k < 40] A * M(i=k) * s
      last: for i < 40:  M = z * out
    """)
    assert contracted(hoist_factors(p)[0])[0] is p


def test_factors_that_cost_nothing_stay():
    """a * b is one multiply-add either way; a * b * c is not, and neither is a division."""
    text = """
    program cheap
      input a: f32[i: 40]
      input b: f32[i: 40, k: 40]
      output out: f32[i: 40]
      out: for i < 40:  out = sum[k < 40] {}
    """
    for value, changes in (
        ("a * b", False),
        ("b * a", False),
        ("b / a", True),
        ("a * b * b", True),
        ("b * 2.0", False),
    ):
        p = parse(text.format(value))
        q, _ = hoist_factors(p)
        assert (q is not p) == changes, value
        if changes:
            inner = next(s for s in q.statements if s.name.endswith("inner"))
            assert "a" not in to_text(q).split("out_inner = ")[1].split("\n")[0].replace("max", "")
            assert inner.op == "sum"


def test_names_do_not_clash():
    p = parse(BILIN.format(n=64, o=48, i=32, j=40).replace("x:", "Y_part:").replace("x *", "Y_part *"))
    check(contracted(p)[0])
