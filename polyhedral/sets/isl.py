# SPDX-License-Identifier: MIT
"""The one door to isl: integer sets and relations over *named* dims, built from conditions and read back as conditions.

Everything positional (spaces, alignment, dim types, islpy's quirks) stays in this file and in `polyhedral.isl_*`;
everyone else speaks names.  Nothing here parses text that a user wrote: sets are built from affine expressions, under
generated identifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import assert_never

import islpy as isl

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, And, Compare, Condition, Floor, Not, Or, Size, Var

_P, _S = isl.dim_type.param, isl.dim_type.set
CONTEXT = isl.DEFAULT_CONTEXT


def space(dims: Sequence[str], sizes: Sequence[str], name: str | None = None) -> isl.Space:
    """A set space with named dims and parameters."""
    s = isl.Space.set_alloc(CONTEXT, len(sizes), len(dims))
    for i, n in enumerate(sizes):
        s = s.set_dim_id(_P, i, isl.Id(n, context=CONTEXT))
    return s if name is None else s.set_tuple_name(_S, name)


@lru_cache(maxsize=1 << 10)
def number(value: int) -> isl.Val:
    """An integer as isl has it; making one takes longer than most of what is done with it."""
    return isl.Val(value, context=CONTEXT)


def to_aff(e: Affine, local: isl.LocalSpace, dims: Mapping[str, int], sizes: Mapping[str, int]) -> isl.Aff:
    """An affine expression over the given positions."""
    result = isl.Aff.zero_on_domain(local).set_constant_val(number(e.const))
    for term, c in e.terms:
        match term:
            case Var(name):
                piece = isl.Aff.var_on_domain(local, _S, dims[name])
            case Size(name):
                piece = isl.Aff.var_on_domain(local, _P, sizes[name])
            case Floor(arg, divisor):
                piece = to_aff(arg, local, dims, sizes).scale_down_val(number(divisor)).floor()
            case _:
                assert_never(term)
        result = result.add(piece if c == 1 else piece.scale_val(number(c)))
    return result


def _constraint(c: Compare, local: isl.LocalSpace, dims: Mapping[str, int], sizes: Mapping[str, int]) -> isl.Constraint:
    """A comparison without floors."""
    make = isl.Constraint.alloc_equality if c.equal else isl.Constraint.alloc_inequality
    result = make(local).set_constant_val(number(c.expr.const))
    for term, k in c.expr.terms:
        match term:
            case Var(name):
                result = result.set_coefficient_val(_S, dims[name], number(k))
            case Size(name):
                result = result.set_coefficient_val(_P, sizes[name], number(k))
            case Floor():
                raise ValueError(f"{c} has a floor")
    return result


def to_set(c: Condition, sp: isl.Space, dims: Sequence[str], sizes: Sequence[str]) -> isl.Set:
    """The points of a condition."""
    at = {d: i for i, d in enumerate(dims)}
    params = {n: i for i, n in enumerate(sizes)}
    return _set(c, sp, isl.LocalSpace.from_space(sp), at, params)


def _set(
    c: Condition, sp: isl.Space, local: isl.LocalSpace, dims: Mapping[str, int], sizes: Mapping[str, int]
) -> isl.Set:
    """The points of a condition over the given positions."""
    match c:
        case Compare(expr, eq):
            if not any(isinstance(t, Floor) for t, _ in expr.terms):
                return isl.Set.universe(sp).add_constraint(_constraint(c, local, dims, sizes))
            a = to_aff(expr, local, dims, sizes)
            return isl.Set.from_basic_set(a.zero_basic_set() if eq else (-a - 1).neg_basic_set())
        case And(args):
            result = isl.Set.universe(sp)
            for a in args:
                if isinstance(a, Compare) and not any(isinstance(t, Floor) for t, _ in a.expr.terms):
                    result = result.add_constraint(_constraint(a, local, dims, sizes))
                else:
                    result = result.intersect(_set(a, sp, local, dims, sizes))
            return result
        case Or(args):
            result = isl.Set.empty(sp)
            for a in args:
                result = result.union(_set(a, sp, local, dims, sizes))
            return result
        case Not(arg):
            return isl.Set.universe(sp).subtract(_set(arg, sp, local, dims, sizes))
        case _:
            assert_never(c)


def from_aff(a: isl.Aff, dims: Sequence[str], sizes: Sequence[str]) -> tuple[Affine, int]:
    """(numerator, denominator) of an isl affine expression, over names."""
    denominator = a.get_denominator_val().to_python()

    def scaled(v: isl.Val) -> int:
        return v.mul(isl.Val(denominator)).to_python()

    result = aff.const(scaled(a.get_constant_val()))
    for i, n in enumerate(sizes):
        result = result + aff.size(n) * scaled(a.get_coefficient_val(_P, i))
    for i, d in enumerate(dims):
        result = result + aff.var(d) * scaled(a.get_coefficient_val(isl.dim_type.in_, i))
    for i in range(a.dim(isl.dim_type.div)):
        c = scaled(a.get_coefficient_val(isl.dim_type.div, i))
        if c:
            inner, below = from_aff(a.get_div(i), dims, sizes)
            result = result + (inner // below) * c
    return result, denominator


def _basic_condition(b: isl.BasicSet, dims: Sequence[str], sizes: Sequence[str]) -> Condition:
    parts: list[Condition] = []
    for c in b.get_constraints():
        e, below = from_aff(c.get_aff(), dims, sizes)
        assert below == 1, "constraints have integer coefficients"
        parts.append(aff.equal(e) if c.is_equality() else aff.at_least(e))
    return aff.both(*sorted(parts, key=lambda p: (not (isinstance(p, Compare) and p.equal), str(p))))


@dataclass(frozen=True, eq=False)
class NamedSet:
    """An integer set over named dims with named parameters (sizes, always >= 0 by construction of `named`).

    What was asked of it before is remembered: a program asks the same of each of its layers.
    """

    raw: isl.Set
    dims: tuple[str, ...]
    sizes: tuple[str, ...]

    @cached_property
    def _restricted(self) -> dict[Condition, NamedSet]:
        return {}

    def _aligned(self, other: NamedSet) -> tuple[isl.Set, isl.Set, tuple[str, ...], tuple[str, ...]]:
        """Both sets over the union of dims and sizes."""
        dims = self.dims + tuple(d for d in other.dims if d not in self.dims)
        sizes = self.sizes + tuple(n for n in other.sizes if n not in self.sizes)
        return self.over(dims, sizes).raw, other.over(dims, sizes).raw, dims, sizes

    def over(self, dims: Sequence[str], sizes: Sequence[str] | None = None) -> NamedSet:
        """The same points seen in a larger (or permuted) list of dims and sizes; new dims are unconstrained."""
        sizes = self.sizes if sizes is None else tuple(sizes)
        dims = tuple(dims)
        if dims == self.dims and sizes == self.sizes:
            return self
        raw = self.raw.align_params(space((), sizes)) if sizes != self.sizes else self.raw
        if dims != self.dims:
            raw = raw.add_dims(_S, len(dims) - len(self.dims))
            have = list(self.dims) + [d for d in dims if d not in self.dims]
            target = isl.Space.set_alloc(CONTEXT, 0, len(dims)).align_params(raw.get_space())
            wanted = isl.MultiAff.zero(target.map_from_set())
            local = isl.LocalSpace.from_space(target)
            for i, d in enumerate(have):
                wanted = wanted.set_aff(i, isl.Aff.var_on_domain(local, _S, dims.index(d)))
            raw = raw.preimage_multi_aff(wanted)
        return NamedSet(raw, dims, sizes)

    def __and__(self, other: NamedSet) -> NamedSet:
        a, b, dims, sizes = self._aligned(other)
        return NamedSet(a.intersect(b), dims, sizes)

    def __or__(self, other: NamedSet) -> NamedSet:
        a, b, dims, sizes = self._aligned(other)
        return NamedSet(a.union(b), dims, sizes)

    def __sub__(self, other: NamedSet) -> NamedSet:
        a, b, dims, sizes = self._aligned(other)
        return NamedSet(a.subtract(b), dims, sizes)

    def __invert__(self) -> NamedSet:
        return NamedSet(self.raw.complement(), self.dims, self.sizes)

    def where(self, c: Condition) -> NamedSet:
        """The points that also satisfy `c`, which may use only these dims; new sizes are added."""
        if c not in self._restricted:
            self._restricted[c] = self._where(c)
        return self._restricted[c]

    def _where(self, c: Condition) -> NamedSet:
        if c == aff.TRUE:
            return self
        sizes = self.sizes + tuple(sorted(aff.condition_sizes(c) - set(self.sizes)))
        base = self.over(self.dims, sizes)
        extra = to_set(c, base.raw.get_space(), self.dims, sizes)
        return NamedSet(base.raw.intersect(extra), self.dims, sizes)

    def is_empty(self) -> bool:
        return self._empty

    @cached_property
    def _empty(self) -> bool:
        return self.raw.is_empty()

    def is_subset(self, other: NamedSet) -> bool:
        a, b, _, _ = self._aligned(other)
        return a.is_subset(b)

    def same_as(self, other: NamedSet) -> bool:
        a, b, _, _ = self._aligned(other)
        return a.is_equal(b)

    def without(self, dims: Iterable[str]) -> NamedSet:
        """Project out some dims (exists)."""
        gone = set(dims)
        raw, left = self.raw, list(self.dims)
        for d in [d for d in self.dims if d in gone]:
            raw = raw.project_out(_S, left.index(d), 1)
            left.remove(d)
        return NamedSet(raw, tuple(left), self.sizes)

    def only(self, dims: Iterable[str]) -> NamedSet:
        """Project onto some dims."""
        keep = set(dims)
        return self.without(d for d in self.dims if d not in keep)

    def params(self) -> NamedSet:
        """The sizes for which the set has a point."""
        return NamedSet(self.raw.params().from_params(), (), self.sizes)

    def image(self, index: Mapping[str, Affine]) -> NamedSet:
        """The set of `{d: index[d]}` over these points."""
        new = tuple(index)
        fresh = {d: f"{d}\0new" for d in new}
        joined = self.over((*self.dims, *fresh.values()))
        joined = joined.where(aff.both(*(aff.equal(aff.var(fresh[d]), index[d]) for d in new)))
        return NamedSet(joined.without(self.dims).raw, new, joined.sizes)

    def preimage(self, index: Mapping[str, Affine], dims: Sequence[str]) -> NamedSet:
        """The points over `dims` whose `{d: index[d]}` lies in this set; unlisted dims of the set are projected out."""
        fresh = {d: f"{d}\0old" for d in self.dims}
        renamed = NamedSet(self.raw, tuple(fresh[d] for d in self.dims), self.sizes)
        joined = renamed.over((*renamed.dims, *dims))
        joined = joined.where(aff.both(*(aff.equal(aff.var(fresh[d]), i) for d, i in index.items() if d in fresh)))
        return joined.without(renamed.dims).over(dims)

    def bounds(self, dim: str) -> tuple[Bound, Bound]:
        """(least, greatest) value of a dim as piecewise affine in the sizes; a missing bound has no pieces."""
        raw = self.only((dim,)).raw
        low = _optimum(raw.dim_min) if raw.dim_has_lower_bound(_S, 0) else None
        high = _optimum(raw.dim_max) if raw.dim_has_upper_bound(_S, 0) else None
        return self._pieces(low), self._pieces(high)

    def _pieces(self, pw: isl.PwAff | None) -> Bound:
        if pw is None:
            return ()
        pieces: list[tuple[NamedSet, Affine]] = []
        for domain, a in pw.coalesce().get_pieces():
            e, below = from_aff(a, (), self.sizes)
            pieces.append(
                (NamedSet(domain.from_params() if domain.is_params() else domain, (), self.sizes), e // below)
            )
        return tuple(pieces)

    def latest(self, of: Sequence[str]) -> tuple[tuple[NamedSet, Mapping[str, Affine]], ...]:
        """The lexicographically greatest values of some dims at each point of the others, as disjoint pieces."""
        others = tuple(d for d in self.dims if d not in set(of))
        joint = self.over((*others, *of)).raw if self.dims != (*others, *of) else self.raw
        relation = isl.Map.from_domain(joint).move_dims(isl.dim_type.out, 0, isl.dim_type.in_, len(others), len(of))
        parts: list[tuple[isl.Set, isl.MultiAff]] = []
        relation.lexmax_pw_multi_aff().coalesce().foreach_piece(lambda domain, values: parts.append((domain, values)))
        found: list[tuple[NamedSet, Mapping[str, Affine]]] = []
        for domain, values in parts:
            at: dict[str, Affine] = {}
            for n, d in enumerate(of):
                e, below = from_aff(values.get_at(n), others, self.sizes)
                at[d] = e // below
            found.append((NamedSet(domain, others, self.sizes), at))
        return tuple(found)

    def gist(self, context: NamedSet) -> NamedSet:
        """Simplified under the assumption of `context`."""
        a, b, dims, sizes = self._aligned(context)
        return NamedSet(a.gist(b), dims, sizes)

    def condition(self) -> Condition:
        """The set as a condition over its dims (a disjunction of conjunctions, without redundancy)."""
        raw = self.raw.coalesce().compute_divs().remove_redundancies()
        return aff.either(*(_basic_condition(b, self.dims, self.sizes) for b in raw.get_basic_sets()))

    def sample(self, prefer: Sequence[Mapping[str, int]] = ({},)) -> dict[str, int] | None:
        """The lexicographically least point as {dim or size: value}; `prefer` lists size floors to try in turn."""
        for floors in prefer:
            some = self.where(aff.both(*(aff.at_least(aff.size(n), v) for n, v in floors.items() if n in self.sizes)))
            if some.is_empty():
                continue
            raw = some.raw
            n = raw.dim(_P)
            flat = raw.move_dims(_S, 0, _P, 0, n) if n else raw
            low = flat.lexmin() if all(flat.dim_has_lower_bound(_S, i) for i in range(flat.dim(_S))) else flat
            point = low.sample_point()
            names = (*some.sizes, *self.dims)
            return {name: point.get_coordinate_val(_S, i).to_python() for i, name in enumerate(names)}
        return None


def _optimum(of: Callable[[int], isl.PwAff]) -> isl.PwAff | None:
    """The least or greatest value; None where isl finds, against its own word, that there is none for some sizes."""
    try:
        return of(0)
    except isl.Error:
        return None


Bound = tuple[tuple[NamedSet, Affine], ...]


def named(dims: Sequence[str], sizes: Sequence[str], condition: Condition = aff.TRUE) -> NamedSet:
    """The points over `dims` satisfying `condition`, sizes being non-negative."""
    return _named(tuple(dims), tuple(sizes), condition)


@lru_cache(maxsize=1 << 12)
def _named(dims: tuple[str, ...], sizes: tuple[str, ...], condition: Condition) -> NamedSet:
    every = sizes + tuple(sorted(aff.condition_sizes(condition) - set(sizes)))
    positive = aff.both(*(aff.at_least(aff.size(n)) for n in every))
    return NamedSet(to_set(aff.both(positive, condition), space(dims, every), dims, every), dims, every)
