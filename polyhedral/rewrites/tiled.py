# SPDX-License-Identifier: MIT
"""Statements and temporaries cut into tiles along a dim, which becomes two: which tile, and where in it.

S(r, k) over k < 1000    ->    S(r, k_tile, k) over k_tile < 4, k < 250        what was k is 250*k_tile + k

What lies in a tile is then named by a dim of its own, so that a tile can be made, used and forgotten.  Used by
`polyhedral.rewrites.online`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement, reads


@dataclass(frozen=True)
class Tiles:
    """Tiles of `size` of a dim of some `extent`: `name` counts them; `arrays` are in tiles along an axis each."""

    name: str
    size: int
    extent: int
    arrays: Mapping[str, str]

    @property
    def count(self) -> int:
        return -(-self.extent // self.size)

    def array(self, a: Array) -> Array:
        """An array with its axis in two."""
        if a.name not in self.arrays:
            return a
        dims: list[tuple[str, Affine]] = []
        for d, e in a.dims:
            own = d == self.arrays[a.name]
            dims += [(self.name, aff.const(self.count)), (d, aff.const(self.size))] if own else [(d, e)]
        return Array(a.name, tuple(dims), a.dtype, a.role)

    def cut(self, s: Statement, dim: str) -> Statement:
        """A statement over a box, with a dim in two; what does not fill the last tile is left out by its guard."""
        whole = aff.var(self.name) * self.size + aff.var(dim)
        ranges: list[Range] = []
        for r in s.domain.ranges:
            if r.dim == dim:
                ranges.append(Range(self.name, aff.const(0), aff.const(self.count)))
            ranges.append(Range(dim, aff.const(0), aff.const(self.size)) if r.dim == dim else r)

        def one(i: Affine) -> Affine:
            return aff.substitute(i, {dim: whole})

        def index(
            array: str, given: tuple[tuple[str, Affine | ex.Expr], ...]
        ) -> tuple[tuple[str, Affine | ex.Expr], ...]:
            found: list[tuple[str, Affine | ex.Expr]] = []
            for d, i in given:
                own = self.arrays.get(array) == d
                found += [(self.name, aff.var(self.name)), (d, aff.var(dim))] if own else [(d, i)]
            return tuple(found)

        def read(e: ex.Expr) -> ex.Expr:
            return ex.Load(e.array, index(e.array, e.index), e.dtype) if isinstance(e, ex.Load) else e

        inside = aff.at_least(aff.const(self.extent - 1) - whole) if self.extent % self.size else TRUE
        guard = aff.both(aff.map_affine(s.domain.guard, one), inside)
        write = tuple(
            (d, i)
            for d, i in index(s.write.array, tuple((d, one(i)) for d, i in s.write.index))
            if isinstance(i, Affine)
        )
        value = ex.rewrite(ex.substitute(s.value, {dim: whole}), read)
        return replace(s, domain=Domain(tuple(ranges), guard), write=Access(s.write.array, write), value=value)


@dataclass(frozen=True)
class Held:
    """Arrays that can be in tiles, by the axis, and the dim of each statement that makes one."""

    arrays: Mapping[str, str]
    writers: Mapping[str, str]


def held(p: Program, members: Mapping[str, str], rows: frozenset[str]) -> Held:
    """The temporaries that only statements read which run through tiles of a dim, as `members` do: each is read and
    written in place along it, and there is one for each of some `rows`.
    """
    arrays: dict[str, str] = {}
    dims = dict(members)
    waiting = list(members)
    while waiting:
        s = p.statement(waiting.pop())
        for load in reads(s):
            axis = next((a for a, i in load.index if i == aff.var(dims[s.name])), None)
            others = {d for a, i in load.index if a != axis and isinstance(i, Affine) for d in aff.dims_of(i)}
            near = others & (rows if s.name in members else set(s.kept))
            own = _writer(p, load.array, axis) if axis is not None and near else None
            if own is None or axis is None or load.array in arrays or own[0] in dims:
                continue
            arrays[load.array], dims[own[0]] = axis, own[1]
            waiting.append(own[0])
    while wrong := [n for n, axis in arrays.items() if not _alone(p, n, axis, dims)]:
        for n in wrong:
            del arrays[n], dims[p.writers[n][0].name]
    return Held(arrays, {n: d for n, d in dims.items() if n not in members})


def _writer(p: Program, name: str, axis: str) -> tuple[str, str] | None:
    """The one statement that makes a temporary, and its dim along an axis, all of which it goes through."""
    a, made = p.array(name), p.writers.get(name, ())
    if a.role is not Role.TEMPORARY or a.planes or len(made) != 1 or made[0].ordered or made[0].accumulate:
        return None
    s = made[0]
    d = dict(s.write.index)[axis].as_var()
    whole = Range(d or "", aff.const(0), a.extent(axis))
    boxed = all(r.lo == aff.const(0) and r.hi.is_const for r in s.domain.ranges)
    return (s.name, d) if d is not None and d in s.kept and boxed and whole in s.domain.ranges else None


def _alone(p: Program, name: str, axis: str, dims: Mapping[str, str]) -> bool:
    """Whether all that read an array run through tiles, and read it in place."""
    readers = [s for s in p.users[name] if s.write.array != name]
    return all(
        s.name in dims and all(dict(x.index)[axis] == aff.var(dims[s.name]) for x in reads(s) if x.array == name)
        for s in readers
    )
