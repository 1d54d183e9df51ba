# SPDX-License-Identifier: MIT
"""One pass over tiles of a row: sums relative to the maximum of a tile, then rescaled and added.

    M(r)    = max[k] S(r, k)                   M_tiles(r, c) = max[k in tile c] S(r, k)
    T(r, e) = sum[k] exp(S - M) * g      ->    T_tiles(r, c, e) = sum[k in tile c] exp(S - M_from(r, c)) * g
                                               M(r) = max[c] M_tiles
                                               T(r, e) = sum[c] exp(M_tiles - M) * T_tiles

A tile of S is made, reduced and forgotten; what is left of it is as large as its results.  The law, and what it is true
of, stand in `polyhedral.rewrites.relative`.  What it gives where values are not finite:

- M_from is M_tiles, but 0 where that is -inf: exp(S - M_from) is then exp(-inf) = 0, as exp(S - M) is beside a finite
  M, so that T_tiles is a sum of 0 * g, NaN included, and its factor exp(-inf - M) = 0 changes nothing.
- A row of -inf alone has the factor exp(-inf + inf) = NaN, and had it in each term.
- A row without any term has none either: the sum over tiles goes over those in which it has instances, found by
  eliminating the reduced dims from its guard (Fourier and Motzkin, exact as all their coefficients are 1 or -1).
- Where data masks the terms, a tile in which none counts, of which `*_seen` keeps the maximum of 0 and -inf, is
  taken as it is, without factor and divisors.
- S = +inf gives inf - inf = NaN in its tile, NaN in S NaN in M and all its factors: NaN before and after.

As with hoisted factors, infinite `g` or divisors may turn NaN into an infinity, never into a number; and sums of `g`
near the largest number may overflow before they are scaled down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import FALSE, Affine, Compare, Condition, Floor, Var
from polyhedral.ir.operands import box, interval
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement, fresh, names
from polyhedral.rewrites.relative import Family, Relative, masks_of
from polyhedral.rewrites.tiled import Tiles, held


@dataclass(frozen=True)
class Online:
    """A program in one pass over tiles, the arrays of partial results that it keeps, and its sums over these."""

    program: Program
    partial: tuple[str, ...]
    combined: tuple[str, ...]


def online(f: Family, dim: str, size: int) -> Online | None:
    """The program with a family of sums in one pass over tiles of `size` along a reduced dim of their maximum; None
    where a guard hides which tiles of a row have instances.
    """
    p, top = f.program, f.maximum
    taken = names(p)
    extent = next(r.hi.const for r in top.domain.ranges if r.dim == dim)
    members = {top.name: dim, **{r.statement.name: dim for r in f.sums}}
    aligned = {r.statement.name: r.statement for r in f.sums}
    p = replace(p, statements=tuple(aligned.get(s.name, s) for s in p.statements))
    dims = {d for s in p.statements for d in s.dims} | {d for a in p.arrays for d in a.dim_names}
    keeps = held(p, members, frozenset(top.kept))
    tiles = Tiles(fresh(f"{dim}_tile", dims), size, extent, keeps.arrays)
    cut = tiles.cut(top, dim)
    there = shadow(cut.domain, (*top.kept, tiles.name))
    if there is None:
        return None
    made = _made(f, tiles, _within(cut, there), there, taken)
    shared = _shared(f, taken)
    tiles = replace(tiles, arrays={**tiles.arrays, **{a.name: dim for a, _ in shared.values()}})
    arrays = [*map(tiles.array, p.arrays), made.each, made.start, made.factor]
    arrays += [tiles.array(a) for a, _ in shared.values()]
    after: dict[str, tuple[Statement, ...]] = {}
    seen: dict[tuple[Domain, tuple[ex.Expr, ...]], Array] = {}
    for r in f.sums:
        ways = _Sum(r, dim, tiles, made, {core: a for core, (a, _) in shared.items()}).statements(taken, seen)
        if ways is None:
            return None
        more, after[r.statement.name] = ways
        arrays += more
    exponentials = tuple(tiles.cut(_from(s, made), dim) for _, s in shared.values())
    after[top.name] = (*made.statements, *exponentials)
    statements: list[Statement] = []
    for s in p.statements:
        own = keeps.writers.get(s.name)
        statements += after.get(s.name) or ((tiles.cut(s, own) if own else s),)
    program = replace(p, arrays=tuple(arrays), statements=tuple(statements))
    local = {*keeps.arrays, *(a.name for a, _ in shared.values())}
    partial = tuple(a.name for a in arrays if a not in f.program.arrays and a.name not in local)
    return Online(program, partial, (top.name, *aligned))


# --- the maximum -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Maximum:
    """The maxima of tiles, what each tile is relative to, and the factor that makes it relative to the whole row."""

    top: Statement
    each: Array
    start: Array
    factor: Array
    statements: tuple[Statement, ...]


def _within(s: Statement, there: Condition) -> Statement:
    """The statement without results in tiles that have no terms."""
    return replace(s, domain=Domain(s.domain.ranges, aff.both(s.domain.guard, there)))


def _made(f: Family, tiles: Tiles, cut: Statement, there: Condition, taken: set[str]) -> _Maximum:
    """The maximum in two steps; `cut` is the first, and `there` says which tiles of a row have terms."""
    top = f.maximum
    dtype, op = ex.dtype_of(top.value), top.op
    assert op is not None
    rows = tuple(r for r in top.domain.ranges if r.dim in top.kept)
    space = (*((r.dim, r.hi) for r in rows), (tiles.name, aff.const(tiles.count)))
    each, start, factor = (
        Array(fresh(f"{top.name}_{suffix}", taken), space, dtype, Role.TEMPORARY)
        for suffix in ("tiles", "from", "factor")
    )
    domain = Domain((*rows, Range(tiles.name, aff.const(0), aff.const(tiles.count))), there)
    none, maximum = ex.identity(op, dtype), load(each)
    begun = ex.Select(ex.Binary("==", maximum, none), ex.Const(0.0, dtype), maximum, eager=True)
    whole = ex.Load(top.write.array, top.write.index, dtype)
    apart = (maximum, whole) if op == "max" else (whole, maximum)
    scale = ex.Call(f.sums[0].by, (ex.Binary("-", *apart),))
    plain = replace(top, domain=domain, op=None)
    statements = (
        replace(cut, name=each.name, write=place(each)),
        replace(plain, name=start.name, write=place(start), value=begun),
        replace(top, domain=domain, value=maximum),
        replace(plain, name=factor.name, write=place(factor), value=scale),
    )
    return _Maximum(top, each, start, factor, statements)


def load(a: Array) -> ex.Load:
    """The cell of an array at its own dims."""
    return ex.Load(a.name, place(a).index, a.dtype)


def place(a: Array) -> Access:
    """The cell of an array at its own dims, to be written."""
    return Access(a.name, tuple((d, aff.var(d)) for d in a.dim_names))


def _from(s: Statement, made: _Maximum) -> Statement:
    return replace(s, value=_relative_to(s.value, made))


def _relative_to(e: ex.Expr, made: _Maximum) -> ex.Expr:
    """An expression relative to the maximum of a tile instead of that of the row."""
    own = made.top.write.array
    return ex.rewrite(e, lambda n: load(made.start) if isinstance(n, ex.Load) and n.array == own else n)


def _shared(f: Family, taken: set[str]) -> Mapping[ex.Expr, tuple[Array, Statement]]:
    """Exponentials that are wanted more than once, where all that they read is there wherever the maximum is looked
    for: an array for each, over the whole row, and what makes it.
    """
    found: dict[ex.Expr, tuple[Array, Statement]] = {}
    top = f.maximum
    there = {*ex.loads(top.value), ex.Load(top.write.array, top.write.index, ex.dtype_of(top.value))}
    for core in dict.fromkeys(r.core for r in f.sums):
        users = [r.statement for r in f.sums if r.core == core]
        once = len(users) == 1 and not set(users[0].dims) - set(top.dims)
        if once or not set(ex.loads(core)) <= there or not set(masks_of(top.value)) <= set(masks_of(core)):
            continue
        space = tuple((r.dim, r.hi) for r in top.domain.ranges)
        array = Array(fresh(f"{top.name}_exp", taken), space, ex.dtype_of(top.value), Role.TEMPORARY)
        found[core] = array, replace(top, name=array.name, op=None, write=place(array), value=core)
    return found


# --- a sum -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sum:
    """One sum of a family, to be made tile by tile."""

    relative: Relative
    dim: str
    tiles: Tiles
    made: _Maximum
    shared: Mapping[ex.Expr, Array]

    def statements(
        self, taken: set[str], seen: dict[tuple[Domain, tuple[ex.Expr, ...]], Array]
    ) -> tuple[list[Array], tuple[Statement, ...]] | None:
        """The arrays of partial results and the statements for them and for the whole; None where it is not known which
        tiles have terms."""
        s = self.relative.statement
        dtype = ex.dtype_of(s.value)
        cut = self.tiles.cut(replace(s, value=self._value()), self.dim)
        rows = tuple(r for r in s.domain.ranges if r.dim in s.kept)
        count = Range(self.tiles.name, aff.const(0), aff.const(self.tiles.count))
        guard = shadow(cut.domain, (*s.kept, self.tiles.name))
        if guard is None:
            return None
        array = Array(
            fresh(f"{s.name}_tiles", taken),
            (*((r.dim, r.hi) for r in rows), (count.dim, count.hi)),
            dtype,
            Role.TEMPORARY,
        )
        made: list[Array] = [array]
        first = [replace(_within(cut, guard), name=array.name, write=place(array))]
        value: ex.Expr = ex.Binary("*", load(self.made.factor), load(array))
        for divisor in self.relative.divisors:
            value = ex.Binary("/", value, divisor)
        if self.relative.masks:
            mask, own = self._seen(cut, guard, taken, seen)
            if own is not None:
                made.append(mask)
                first.insert(0, own)
            value = ex.Select(ex.Binary("==", load(mask), ex.identity("max", dtype)), load(array), value)
        return made, (*first, replace(s, domain=Domain((*rows, count), guard), value=value))

    def _value(self) -> ex.Expr:
        """The value relative to the maximum of a tile, over the whole row."""
        core, inner = self.relative.core, self.relative.inner
        if core in self.shared:
            return ex.rewrite(inner, lambda n: load(self.shared[core]) if n == core else n)
        return _relative_to(inner, self.made)

    def _seen(
        self, cut: Statement, there: Condition, taken: set[str], seen: dict[tuple[Domain, tuple[ex.Expr, ...]], Array]
    ) -> tuple[Array, Statement | None]:
        """0 where some term of a tile counts, -inf where none does: made once for all sums with the same masks."""
        s, masks = self.relative.statement, self.relative.masks
        dtype = ex.dtype_of(s.value)
        hidden = set(s.reduced)
        looked = frozenset[str]().union(
            *(m.dims for m in masks), *(aff.condition_dims(c) for c in aff.conjuncts(s.domain.guard))
        )
        ranges = tuple(r for r in cut.domain.ranges if r.dim in looked | hidden or r.dim == self.tiles.name)
        key = Domain(ranges, cut.domain.guard), tuple(sorted(masks, key=repr))
        if key in seen:
            return seen[key], None
        space = tuple((r.dim, r.hi) for r in ranges if r.dim not in hidden)
        array = seen[key] = Array(fresh(f"{s.name}_seen", taken), space, dtype, Role.TEMPORARY)
        every = masks[0]
        for m in masks[1:]:
            every = ex.Binary("and", every, m)
        chosen = ex.Select(every, ex.Const(0.0, dtype), ex.identity("max", dtype))
        ours = Domain(tuple(r for r in s.domain.ranges if r.dim in looked | hidden), s.domain.guard)
        whole = replace(s, name=array.name, op="max", domain=ours, value=chosen)
        return array, replace(_within(self.tiles.cut(whole, self.dim), there), write=place(array))


def shadow(domain: Domain, dims: tuple[str, ...]) -> Condition | None:
    """The condition under which a point of some dims has any point of a domain over it; None where coefficients other
    than 1 and -1 hide it.
    """
    if domain.guard == FALSE:
        return FALSE
    ranges = box(domain)
    parts: list[Affine] = []
    for c in aff.conjuncts(domain.guard):
        if not isinstance(c, Compare):
            return None
        parts += (c.expr, -c.expr) if c.equal else (c.expr,)
    for r in domain.ranges:
        if r.dim not in dims:
            parts += (aff.var(r.dim) - r.lo, r.hi - 1 - aff.var(r.dim))
    for r in domain.ranges:
        if r.dim in dims:
            continue
        own = [e for e in parts if r.dim in aff.dims_of(e)]
        if any(abs(e.coefficient(Var(r.dim))) != 1 or _floors(e) for e in own):
            return None
        below = [e for e in own if e.coefficient(Var(r.dim)) > 0]
        above = [e for e in own if e.coefficient(Var(r.dim)) < 0]
        parts = [e for e in parts if e not in own] + [a + b for a, b in product(below, above)]
    return aff.both(*(aff.at_least(e) for e in parts if _floors(e) or interval(e, ranges)[0] < 0))


def _floors(e: Affine) -> bool:
    return any(isinstance(t, Floor) for t, _ in e.terms)
