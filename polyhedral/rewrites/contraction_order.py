# SPDX-License-Identifier: MIT
"""In which pairs to multiply the factors of a sum of products: fewest multiply-adds, then fewest temporary bytes.

Exact dynamic programming over subsets of factors (Lam, Sadayappan & Wenger 1997; Pfeifer, Haegeman & Verstraete 2014)
up to `EXACT` factors, the cheapest pair first above (as opt_einsum does, Smith & Gray 2018).  A product whose factors
may not be regrouped keeps the pairs of its text (Chandra's chains have one tree; here it is given).  Knows dims and
extents; programs are `contract`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from math import prod

from polyhedral.rewrites.algebra import Tree

EXACT = 8
"""Factors up to which every order is tried: 3**8 splits."""


@dataclass(frozen=True)
class Network:
    """Factors by the dims they depend on; `summed` dims are reduced, `kept` ones
    are those of the result; `links` are dims that one condition ties together,
    which must meet before any of them is reduced.

    `work` is what computing each factor costs; `fused`: a multiplication and an addition cost as much as one of them;
    `tree` is the grouping to keep, None where there is a choice.
    """

    factors: tuple[frozenset[str], ...]
    extents: Mapping[str, int]
    summed: frozenset[str]
    kept: frozenset[str] = frozenset()
    links: tuple[frozenset[str], ...] = ()
    work: tuple[int, ...] = ()
    fused: bool = True
    tree: Tree | None = None
    itemsize: int = 4
    most_bytes: int = 1 << 28


@dataclass(frozen=True)
class Order:
    """A factor (`number`), or the product of two, with what can be reduced by then reduced; a factor is `reduced` first
    where it says so.
    """

    factors: frozenset[int]
    loops: frozenset[str]
    dims: frozenset[str]
    multiply_adds: int = 0
    cells: int = 0
    bytes: int = 0
    number: int | None = None
    reduced: bool = False
    parts: tuple[Order, ...] = ()

    @property
    def cost(self) -> tuple[int, int]:
        return self.multiply_adds, self.bytes


def direct(n: Network) -> int:
    """Multiply-adds of the plain nest: every factor and every product at every point."""
    each = len(n.factors) - 1 if n.fused else len(n.factors)
    return _volume(n, n.kept.union(*n.factors)) * (max(each, 1) + sum(n.work))


def best_order(n: Network) -> Order | None:
    """The cheapest order whose temporaries are all small enough, or None."""
    return _Search(n).best()


def _volume(n: Network, dims: frozenset[str]) -> int:
    return prod(n.extents[d] for d in dims)


@dataclass(frozen=True)
class _Search:
    """One search; `tried` counts the pairs looked at."""

    network: Network
    tried: list[int] = field(default_factory=lambda: [0])

    @cached_property
    def all(self) -> frozenset[int]:
        return frozenset(range(len(self.network.factors)))

    def best(self) -> Order | None:
        if self.network.tree is not None:
            found = self._along(self.network.tree)
        elif len(self.all) <= EXACT:
            found = self._exact()
        else:
            found = self._greedy()
        return min(found, key=lambda o: o.cost, default=None)

    # --- one step

    def open(self, factors: frozenset[int]) -> frozenset[str]:
        """The dims of a product after everything is reduced that no other factor, and no condition, still needs."""
        n = self.network
        inside = frozenset[str]().union(*(n.factors[i] for i in factors))
        outside = frozenset[str]().union(*(n.factors[i] for i in self.all - factors))
        tied = frozenset[str]().union(*(link for link in n.links if not link <= inside))
        return inside - (n.summed - outside - tied)

    def single(self, i: int) -> list[Order]:
        """A factor as it is, and reduced by itself where it has dims of its own."""
        n, own = self.network, frozenset((i,))
        dims = self.open(own)
        plain = Order(own, n.factors[i], n.factors[i], number=i)
        if dims == n.factors[i]:
            return [plain]
        made = self._made(own, n.factors[i], 1 + (n.work[i] if n.work else 0), ())
        return [plain, *(replace(o, number=i, reduced=True) for o in made)]

    def joined(self, a: Order, b: Order) -> list[Order]:
        """The product of two, unless it is too large."""
        self.tried[0] += 1
        n = self.network
        factors = a.factors | b.factors
        last = factors == self.all
        loops = a.dims | b.dims | n.kept if last else a.dims | b.dims
        reduces = bool(loops & n.summed if last else loops - self.open(factors))
        raw = (o.number for o in (a, b) if o.number is not None and not o.reduced)
        each = (1 if n.fused or not reduces else 2) + sum(n.work[i] for i in raw if n.work)
        return self._made(factors, loops, each, (a, b))

    def _made(self, factors: frozenset[int], loops: frozenset[str], each: int, parts: tuple[Order, ...]) -> list[Order]:
        n, dims = self.network, self.open(factors)
        last = factors == self.all
        cells = 0 if last else _volume(n, dims)
        if cells * n.itemsize > n.most_bytes:
            return []
        work = _volume(n, loops) * each + sum(o.multiply_adds for o in parts)
        stored = cells + sum(o.cells for o in parts)
        return [Order(factors, loops, dims, work, stored, stored * n.itemsize, parts=parts)]

    # --- searches

    def _exact(self) -> list[Order]:
        """The best order of each subset from the best orders of its halves."""
        found = {frozenset((i,)): self.single(i) for i in sorted(self.all)}
        for size in range(2, len(self.all) + 1):
            for chosen in combinations(sorted(self.all), size):
                whole = frozenset(chosen)
                orders = [o for a, b in _halves(chosen) for o in self._pairs(found[a], found[b])]
                found[whole] = [min(orders, key=lambda o: o.cost)] if orders else []
        return found[self.all]

    def _pairs(self, left: list[Order], right: list[Order]) -> list[Order]:
        return [o for a in left for b in right for o in self.joined(a, b)]

    def _along(self, tree: Tree) -> list[Order]:
        if isinstance(tree, int):
            return self.single(tree)
        orders = self._pairs(self._along(tree[0]), self._along(tree[1]))
        return [min(orders, key=lambda o: o.cost)] if orders else []

    def _greedy(self) -> list[Order]:
        """Whichever two shrink most when multiplied, again and again; the cheaper in case of doubt."""
        left: list[Order] = [min(self.single(i), key=lambda o: len(o.dims)) for i in sorted(self.all)]
        while len(left) > 1:
            n, options = self.network, [(a, b, o) for a, b in combinations(left, 2) for o in self.joined(a, b)]
            if not options:
                return []
            a, b, o = min(
                options,
                key=lambda x: (_volume(n, x[2].dims) - _volume(n, x[0].dims) - _volume(n, x[1].dims), x[2].cost),
            )
            left = [o, *(x for x in left if x is not a and x is not b)]
        return left


def _halves(chosen: tuple[int, ...]) -> Iterator[tuple[frozenset[int], frozenset[int]]]:
    """Every split in two, once: the first factor stays on the left."""
    first, *rest = chosen
    for size in range(len(rest)):
        for more in combinations(rest, size):
            left = frozenset((first, *more))
            yield left, frozenset(chosen) - left
