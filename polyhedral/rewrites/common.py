# SPDX-License-Identifier: MIT
"""Common subexpressions: temporaries that are defined alike, up to the names of dims, become one.

    A(y) = sum[k] X(i=y, j=k)                        A(y) = sum[k] X(i=y, j=k)
    B(i) = sum[j] X(i=i, j=j)          ->
    out(i) = A(y=i) * B(i=i)                         out(i) = A(y=i) * A(y=i)

An output stays defined: where it costs more than a read, it becomes a copy.  Memory (`inout`), ordered loops and arrays
that several statements define are left alone; what nothing reads any more is `dead`'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.program import Array, Domain, Program, Role, Statement
from polyhedral.rewrites.canonical import Form, Forms

_COSTLY = ("/", "**", "//", "%")


def merge_common(p: Program, forms: Forms | None = None) -> tuple[Program, tuple[Remark, ...]]:
    """Readers of the second of two equal temporaries read the first, along chains of equal statements too."""
    merging = _Merging({a.name: a for a in p.arrays}, Counter(s.write.array for s in p.statements), forms or Forms())
    places = sorted(range(len(p.statements)), key=lambda n: (_time(p.statements[n]), n))
    made = {n: merging.visited(p.statements[n]) for n in places}
    if not merging.remarks:
        return p, ()
    statements = (merging.rewired(made[n]) for n in range(len(p.statements)))
    kept = tuple(s for s in statements if s.write.array not in merging.same)
    arrays = tuple(a for a in p.arrays if a.name not in merging.same)
    return replace(p, arrays=arrays, statements=kept), tuple(merging.remarks)


def _time(s: Statement) -> tuple[int, ...]:
    return tuple(n if isinstance(n, int) else -1 for n in s.position)


@dataclass
class _Merging:
    """`same` sends an array to the one that stands for it, with the axis that each of its axes becomes."""

    arrays: Mapping[str, Array]
    writers: Mapping[str, int]
    forms: Forms
    same: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict[str, tuple[str, Mapping[str, str]]])
    shapes: dict[int, list[Statement]] = field(default_factory=dict[int, list[Statement]])
    found: dict[int, tuple[Statement, Form]] = field(default_factory=dict[int, tuple[Statement, Form]])
    remarks: list[Remark] = field(default_factory=list[Remark])

    def visited(self, s: Statement) -> Statement:
        """In the order of positions: what a statement reads has been merged before."""
        s = self.rewired(s)
        if not self._mergeable(s):
            return s
        a = self.arrays[s.write.array]
        alike = self.shapes.setdefault(self.forms.shape(s, a), [])
        alike.append(s)
        if len(alike) == 1:
            return s
        if len(alike) == 2:
            first = alike[0]
            form = self.forms.form(first, self.arrays[first.write.array])
            self.found.setdefault(form.key, (first, form))
        form = self.forms.form(s, a)
        first, its = self.found.setdefault(form.key, (s, form))
        return s if first is s else self._merged(s, form, first, its)

    def _merged(self, s: Statement, form: Form, first: Statement, its: Form) -> Statement:
        remark = Remark("merged", f"{first.name} computes the same", s.name)
        if self.arrays[s.write.array].role is Role.TEMPORARY:
            self.same[s.write.array] = first.write.array, dict(zip(form.axes, its.axes, strict=True))
            self.remarks.append(remark)
        elif _costly(s):
            self.remarks.append(remark)
            return self._copy(s, form, first, its)
        return s

    def _copy(self, s: Statement, form: Form, first: Statement, its: Form) -> Statement:
        own, written = dict(zip(its.axes, form.axes, strict=True)), dict(s.write.index)
        array = self.arrays[first.write.array]
        load = ex.Load(array.name, tuple((d, written[own[d]]) for d in array.dim_names), array.dtype)
        return replace(s, domain=rows(s), value=load, op=None, strict=False)

    def _mergeable(self, s: Statement) -> bool:
        a = self.arrays[s.write.array]
        memory = any(self.arrays[load.array].role is Role.INOUT for load in ex.loads(s.value))
        single = self.writers[a.name] == 1 and a.role in (Role.TEMPORARY, Role.OUTPUT) and not a.planes
        return single and not (memory or s.accumulate or s.ordered)

    def rewired(self, s: Statement) -> Statement:
        """The statement reading what stands for the arrays that it reads."""
        if not any(load.array in self.same for load in ex.loads(s.value)):
            return s
        return replace(s, value=ex.rewrite(s.value, self._instead))

    def _instead(self, e: ex.Expr) -> ex.Expr:
        if not isinstance(e, ex.Load) or e.array not in self.same:
            return e
        name, axis = self.same[e.array]
        at = {axis[d]: i for d, i in e.index}
        return ex.Load(name, tuple((d, at[d]) for d in self.arrays[name].dim_names), e.dtype)


def rows(s: Statement) -> Domain:
    """The points at which a statement has a result: its domain without the dims that it reduces."""
    if s.op is None:
        return s.domain
    hidden = set(s.reduced)
    guard = aff.conjuncts(s.domain.guard)
    kept = aff.both(*(c for c in guard if not aff.condition_dims(c) & hidden))
    return Domain(tuple(r for r in s.domain.ranges if r.dim not in hidden), kept)


def _costly(s: Statement) -> bool:
    """Whether a result costs more than reading it back."""
    return s.op is not None or any(
        isinstance(e, ex.Call) or (isinstance(e, ex.Binary) and e.op in _COSTLY) for e in ex.walk(s.value)
    )
