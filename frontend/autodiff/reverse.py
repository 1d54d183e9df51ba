# SPDX-License-Identifier: MIT
"""Reverse mode: the adjoint of every array, from the outputs back to what is differentiated by.

    Y(o, y) = sum[c, k] X(c=c, y=2*y + k) * W(o=o, c=c, k=k)
    dX(c, y) = sum[o, y_1, k if 2*y_1 + k == y] dY(o=o, y=y_1) * W(o=o, c=c, k=k)

A read of an array through an access contributes to its adjoint a sum over the inverse of the access.  Contributions are
added up where the cell is: every adjoint is a gather.  Derivatives of scalars are `polyhedral.ir.derivatives`, inverses
of accesses `inverse`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from frontend.autodiff.active import active, carried, flow
from frontend.autodiff.inverse import Inverse, inverse
from frontend.autodiff.naming import apart, fresh
from frontend.autodiff.reductions import Reduced, others, winner
from frontend.autodiff.rules import Copy, copied
from frontend.recorded import Rule
from polyhedral.errors import Location, Remark, Unsupported
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, Condition
from polyhedral.ir.derivatives import Branch, Terms, add, cast, constant, gradients, selected
from polyhedral.ir.dtypes import DType, accumulator
from polyhedral.ir.expr import Expr
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement
from polyhedral.sets.instances import branch_conditions

INLINE = 24
"""Distinct parts up to which an adjoint without a sum is written out where it is read, if it is cheap."""


@dataclass(frozen=True)
class Wanted:
    """What to differentiate by what: as `frontend.recorded.Gradient`, but only what the program reads or returns.

    `alike` spells sizes that are assumed equal in one way; `held` arrays count as constants; calls that `rules` tell of
    are differentiated as these say.
    """

    outputs: tuple[tuple[str, str | None], ...]
    by: Mapping[str, str]
    along: tuple[tuple[str, Affine], ...]
    alike: Mapping[str, Affine] = field(default_factory=dict[str, Affine])
    held: frozenset[str] = frozenset()
    rules: Sequence[Rule] = ()
    location: Location | None = None


@dataclass(frozen=True)
class Contribution:
    """A part of an adjoint: `value` summed over `ranges` where `guard` holds, at a cell of the array."""

    ranges: tuple[Range, ...]
    guard: Condition
    value: Expr
    source: Statement | None = None


@dataclass(frozen=True)
class Adjoint:
    """The adjoint of an array: its dims, and where it is found: stored, or a value to be written out."""

    dims: tuple[tuple[str, Affine], ...]
    stored: str
    inline: Expr | None = None


@dataclass
class Reverse:
    """One differentiation in progress."""

    program: Program
    wanted: Wanted
    taken: set[str]
    through: frozenset[str] = frozenset()
    arrays: dict[str, Array] = field(default_factory=dict[str, Array])
    statements: list[Statement] = field(default_factory=list[Statement])
    adjoints: dict[str, Adjoint] = field(default_factory=dict[str, Adjoint])
    remarks: list[Remark] = field(default_factory=list[Remark])
    open: set[str] = field(default_factory=set[str])
    circular: set[str] = field(default_factory=set[str])
    carriers: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    copies: dict[int, Copy] = field(default_factory=dict[int, Copy])
    reduced: dict[str, Reduced] = field(default_factory=dict[str, Reduced])

    def run(self) -> None:
        """Define every result."""
        f = flow(self.program, self.wanted.held, self.wanted.rules)
        outputs = tuple(o for o, _ in self.wanted.outputs)
        for name in self.wanted.by:
            self.through |= active(f, outputs, name, self.wanted.location)
        for d, _ in self.wanted.along:
            self.carriers[d] = carried(self.program, self.through, d, self.wanted.rules)
        for name in self.wanted.by:
            self._require_apart(name)
            self._result(name)

    def _require_apart(self, name: str) -> None:
        for d in self.extra(name):
            if d in self.program.array(name).dim_names:
                raise Unsupported(
                    "PH900",
                    f"the gradient by {name} at each {d} mixes the points of its own dimension {d}",
                    hints=(f"rename one of the two: {name}({d}={d}2)",),
                    dim=d,
                    location=self.wanted.location,
                )

    # adjoints of arrays ---------------------------------------------------------------------------------------------

    def dims_of(self, name: str) -> tuple[tuple[str, Affine], ...]:
        """The dims of an adjoint: those of the array, and the examples that it does not have."""
        a = self.program.array(name)
        more = [(d, e) for d, e in self.wanted.along if name not in self.carriers[d]]
        names = set(a.dim_names)
        dims = (*((fresh(d, names), e) for d, e in more), *a.dims)
        return tuple((d, aff.substitute(e, {}, self.wanted.alike)) for d, e in dims)

    def extra(self, name: str) -> dict[str, str]:
        """Dims of examples that an array does not have, and their names in its adjoint."""
        missing = [d for d, _ in self.wanted.along if name not in self.carriers[d]]
        return dict(zip(missing, (d for d, _ in self.dims_of(name)), strict=False))

    def adjoint(self, name: str) -> Adjoint:
        """The adjoint of an array, made when first asked for; circles find its name."""
        if name in self.open:
            self.circular.add(name)
        if name not in self.adjoints:
            dims = self.dims_of(name)
            self.adjoints[name] = Adjoint(dims, self._name(name, dims))
            self.open.add(name)
            parts = self._contributions(name, dims)
            self.adjoints[name] = self._made(name, self.adjoints[name], parts)
            self.open.discard(name)
        return self.adjoints[name]

    def _name(self, name: str, dims: tuple[tuple[str, Affine], ...]) -> str:
        """An adjoint that was asked for lies where it was promised, if that array has its dims and its type."""
        if name in self.wanted.by:
            promised = self.program.array(self.wanted.by[name])
            if promised.dtype == accumulator(promised.dtype) and {d for d, _ in dims} == set(promised.dim_names):
                return promised.name
        return fresh(f"d{name}", self.taken)

    def _made(self, name: str, known: Adjoint, parts: list[Contribution]) -> Adjoint:
        dtype = accumulator(self.program.array(name).dtype)
        plain = [p for p in parts if not p.ranges]
        if len(plain) == len(parts) and name not in self.circular:
            value = _total([_guarded(p) for p in plain], dtype)
            if name not in self.wanted.by and _cheap(value):
                return replace(known, inline=value)
            self._store(known, [Contribution((), TRUE, value, plain[0].source if plain else None)], dtype)
            return known
        self._store(known, parts, dtype)
        return known

    def _store(self, known: Adjoint, parts: list[Contribution], dtype: DType) -> None:
        """One statement: a single sum, or the sum of all parts, each sum of which is stored first."""
        parts = _together(parts, [d for d, _ in known.dims])
        box = tuple(Range(d, aff.const(0), e) for d, e in known.dims)
        own = Access(known.stored, tuple((d, aff.var(d)) for d in self._declared(known, dtype).dim_names))
        if len(parts) == 1 and parts[0].ranges:
            self._sum(known.stored, own, box, parts[0])
            return
        values: list[Expr] = []
        for p in parts:
            if not p.ranges:
                values.append(_guarded(p))
                continue
            part = fresh(f"{known.stored}_part", self.taken)
            self.arrays[part] = Array(part, known.dims, dtype, Role.TEMPORARY)
            self._sum(part, replace(own, array=part), box, p)
            values.append(ex.Load(part, own.index, dtype))
        location = next((p.source.location for p in parts if p.source is not None), self.wanted.location)
        self._emit(Statement(known.stored, Domain(box), own, _total(values, dtype), location=location))

    def _declared(self, known: Adjoint, dtype: DType) -> Array:
        """The array of an adjoint, which may have been promised."""
        given = {a.name: a for a in self.program.arrays}.get(known.stored)
        if given is None:
            given = self.arrays[known.stored] = Array(known.stored, known.dims, dtype, Role.TEMPORARY)
        return given

    def _sum(self, name: str, write: Access, box: tuple[Range, ...], p: Contribution) -> None:
        hidden = frozenset(r.dim for r in p.ranges)
        inner = [c for c in aff.conjuncts(p.guard) if aff.condition_dims(c) & hidden]
        outer = [c for c in aff.conjuncts(p.guard) if not aff.condition_dims(c) & hidden]
        value = _guarded(replace(p, guard=aff.both(*outer)))
        location = p.source.location if p.source is not None else self.wanted.location
        self._emit(Statement(name, Domain((*box, *p.ranges), aff.both(*inner)), write, value, "sum", location=location))

    def _emit(self, s: Statement) -> None:
        self.statements.append(s)

    def _result(self, name: str) -> None:
        """Store the adjoint of what was asked for under the promised name and in the array's own type."""
        a, result = self.program.array(name), self.wanted.by[name]
        adjoint = self.adjoint(name)
        if adjoint.stored == result:
            return
        promised = self.program.array(result)
        names = dict(zip((d for d, _ in adjoint.dims), _promised(self.extra(name), adjoint.dims), strict=True))
        index = tuple((d, aff.var(names[d])) for d, _ in adjoint.dims)
        value = cast(self.load(name, dict(index), stored=True), a.dtype)
        box = tuple(Range(d, aff.const(0), e) for d, e in promised.dims)
        write = Access(result, tuple((d, aff.var(d)) for d in promised.dim_names))
        self._emit(
            Statement(fresh(result, self.taken - {result}), Domain(box), write, value, location=self.wanted.location)
        )

    def load(self, name: str, index: Mapping[str, Affine], *, stored: bool) -> Expr:
        """The adjoint of a cell, by the dims of the adjoint."""
        adjoint = self.adjoint(name)
        dtype = accumulator(self.program.array(name).dtype)
        if adjoint.inline is not None:
            if not stored or isinstance(adjoint.inline, (ex.Const, ex.Load)):
                return ex.substitute(adjoint.inline, index)
            if adjoint.stored not in self.arrays:
                self._store(adjoint, [Contribution((), TRUE, adjoint.inline)], dtype)
        known = self._declared(adjoint, dtype)
        return ex.Load(known.name, tuple((d, index[d]) for d in known.dim_names), dtype)

    # contributions --------------------------------------------------------------------------------------------------

    def _contributions(self, name: str, dims: tuple[tuple[str, Affine], ...]) -> list[Contribution]:
        found: list[Contribution] = []
        for output, cotangent in self.wanted.outputs:
            if output == name:
                found.append(self._seed(name, cotangent))
        by_rule = {n for rule in self.wanted.rules for n in rule.outputs}
        for n, rule in enumerate(self.wanted.rules):
            if not self.through.isdisjoint(rule.outputs):
                found += self._by_rule(n, name)
        for s in self.program.statements:
            if s.write.array in self.through - by_rule and any(r.array == name for r in ex.loads(s.value)):
                found += self._from(s, name, dims)
        return found

    def _by_rule(self, n: int, name: str) -> list[Contribution]:
        """What a call with a rule contributes: its result, at the example of the cell, or summed over examples."""
        rule, own, extra = self.wanted.rules[n], self.program.array(name), self.extra(name)
        returned = [self.program.array(y) for y in rule.outputs if y in self.through]
        lifted = {d: e for y in returned for d, e in y.dims if d in rule.lifted and d not in own.dim_names}
        found: list[Contribution] = []
        for result in [r for x, r in zip(rule.inputs, rule.results, strict=True) if x == name and r is not None]:
            copy = self._copy(n)
            over = {e: d for e, d in copy.over.items() if result in copy.names}
            summed = [d for d in lifted if d not in extra or d in copy.over]
            at = {d: aff.var(d) for d in own.dim_names}
            at |= {d: aff.var(f"{d}'") for d in summed}
            at |= {d: aff.var(extra[d]) for d in lifted if d not in summed}
            at |= {d: aff.var(extra[e]) for e, d in over.items()}
            mine = [aff.equal(at[e], aff.var(d)) for e, d in extra.items() if e in own.dim_names and e not in copy.over]
            array = self.program.array(result)
            index = tuple((d, at[d]) for d in (*over.values(), *array.dim_names))
            value = ex.Load(copy.names.get(result, result), index, array.dtype)
            ranges = tuple(Range(f"{d}'", aff.const(0), lifted[d]) for d in summed)
            found.append(Contribution(ranges, aff.both(*mine), cast(value, accumulator(array.dtype))))
        return found

    def _copy(self, n: int) -> Copy:
        """The copy of a rule, made when it is first asked for: its cotangents are the adjoints of what was returned."""
        if n in self.copies:
            return self.copies[n]
        rule = self.wanted.rules[n]
        returned = [y for y in rule.outputs if y in self.through]
        missing = [set(self.extra(y)) for y in returned]
        if any(each != missing[0] for each in missing):
            raise Unsupported(
                "PH900",
                f"{' and '.join(returned)} come from one call with a rule, and only some of them are of each example",
                hints=("call the function apart for what all examples have in common",),
                location=rule.location or self.wanted.location,
            )
        examples = [(d, e) for d, e in self.wanted.along if d in missing[0]]
        copy = self.copies[n] = copied(self.program, rule, examples, self.taken)
        self.arrays |= {a.name: a for a in copy.arrays}
        self.statements += copy.statements
        for y, cotangent in zip(rule.outputs, rule.cotangents, strict=True):
            if cotangent in copy.names:
                self._cotangent(copy, y, self.arrays[copy.names[cotangent]], rule.location)
        return copy

    def _cotangent(self, copy: Copy, output: str, into: Array, location: Location | None) -> None:
        """The adjoint of what a call returned, under the name that the copy reads."""
        value: Expr = constant(0.0, into.dtype)
        if output in self.through:
            at = {d: aff.var(d) for d in self.program.array(output).dim_names}
            at |= {own: aff.var(copy.over[d]) for d, own in self.extra(output).items()}
            value = cast(self.load(output, at, stored=True), into.dtype)
        box = Domain(tuple(Range(d, aff.const(0), e) for d, e in into.dims))
        write = Access(into.name, tuple((d, aff.var(d)) for d in into.dim_names))
        self._emit(Statement(into.name, box, write, value, location=location))

    def _seed(self, name: str, cotangent: str | None) -> Contribution:
        dtype = accumulator(self.program.array(name).dtype)
        if cotangent is None:
            return Contribution((), TRUE, constant(1.0, dtype))
        a = self.program.array(cotangent)
        return Contribution(
            (), TRUE, cast(ex.Load(a.name, tuple((d, aff.var(d)) for d in a.dim_names), a.dtype), dtype)
        )

    def _from(self, s: Statement, name: str, dims: tuple[tuple[str, Affine], ...]) -> list[Contribution]:
        """What a statement that reads the array contributes, load by load."""
        names = [d for d, _ in dims]
        s = apart(s, names)
        more = self.extra(s.write.array)
        domain = Domain(
            (*(Range(f"{d}'", aff.const(0), e) for d, e in self.wanted.along if d in more), *s.domain.ranges),
            s.domain.guard,
        )
        found: list[Contribution] = []
        for load in dict.fromkeys(r for r in ex.loads(s.value) if r.array == name):
            index, tests = self._cell(s, load, more)
            if tests:
                self.remarks.append(_searched(s, load))
            inv = inverse(domain, index, dict(dims), (*s.kept, *(f"{d}'" for d in more)))
            terms = self._terms(s, load, more, sums=bool(inv.ranges))
            found += [self._contribution(s, name, inv, path, value, tests) for path, value in terms.items()]
        return found

    def _cell(
        self, s: Statement, load: ex.Load, more: Mapping[str, str]
    ) -> tuple[list[tuple[str, Affine]], list[tuple[str, Expr]]]:
        """The cell that a load reads: affine indices, and those through data."""
        index = [(d, i) for d, i in load.index if isinstance(i, Affine)]
        for d, own in self.extra(load.array).items():
            index.append((own, aff.var(f"{d}'") if d in more else dict(s.write.index)[d]))
        return index, [(d, i) for d, i in load.index if not isinstance(i, Affine)]

    def _terms(self, s: Statement, load: ex.Load, more: Mapping[str, str], *, sums: bool) -> Terms:
        """The derivative by one load, seeded by the adjoint of what the statement writes."""
        seed = self._seeded(s, more, stored=sums)
        return gradients(s.value, cast(seed, ex.dtype_of(s.value))).get(load, {})

    def _seeded(self, s: Statement, more: Mapping[str, str], *, stored: bool) -> Expr:
        """The adjoint of the value at an instance: that of the cell, passed through the reduction."""
        target = s.write.array
        index = dict(s.write.index) | {own: aff.var(f"{d}'") for d, own in more.items()}
        dtype = ex.dtype_of(s.value)
        seed = cast(self.load(target, index, stored=stored), dtype)
        if s.op is None or s.op == "sum":
            return seed
        if s.name not in self.reduced:
            original = self.program.statement(s.name)
            self.reduced[s.name] = (winner if s.op in ("max", "min") else others)(self.program, original, self.taken)
            self.arrays[self.reduced[s.name].array.name] = self.reduced[s.name].array
            self._emit(self.reduced[s.name].statement)
            self.remarks += self.reduced[s.name].remarks
        return self.reduced[s.name].share(s, seed)

    def _contribution(
        self,
        s: Statement,
        name: str,
        inv: Inverse,
        path: tuple[Branch, ...],
        value: Expr,
        tests: list[tuple[str, Expr]],
    ) -> Contribution:
        within, branches = list[Condition](), list[Branch]()
        for b in path:
            holds, fails = branch_conditions(b.cond)
            if isinstance(b.cond, ex.Test):
                within.append(holds if b.truth else fails)
            else:
                branches.append(b)
        for d, i in tests:
            cell = ex.Index(aff.var(d), ex.dtype_of(i))
            branches.append(Branch(ex.Binary("==", i, cell), True))
        dtype = accumulator(self.program.array(name).dtype)
        whole = ex.substitute(selected(tuple(branches), _widened(value, dtype)), inv.at)
        return Contribution(inv.ranges, inv.further(aff.both(*within)), whole, s)


def _searched(s: Statement, load: ex.Load) -> Remark:
    return Remark(
        f"the derivative by {load.array} tests every read of {s.name} for each cell",
        "data decides which cell is read, and nothing is scattered",
        s.name,
    )


def _together(parts: list[Contribution], cells: list[str]) -> list[Contribution]:
    """Sums over the same instances as one sum, where each reads something anew at every instance: what they share is
    then read, or computed again, once.  Products that tiles reuse stay apart.
    """
    found: dict[object, Contribution] = {}
    for n, p in enumerate(parts):
        dims = {*cells, *(r.dim for r in p.ranges)}
        streams = p.ranges and any(ex.dims_of(load) >= dims for load in ex.loads(p.value))
        key = (frozenset(p.ranges), frozenset(aff.conjuncts(p.guard))) if streams else n
        found[key] = replace(found[key], value=add(found[key].value, p.value)) if key in found else p
    return list(found.values())


def _promised(extra: Mapping[str, str], dims: tuple[tuple[str, Affine], ...]) -> list[str]:
    """The names of an adjoint's dims in the array that was promised, which calls the examples as they are called."""
    back = {own: d for d, own in extra.items()}
    return [back.get(d, d) for d, _ in dims]


def _widened(e: Expr, dtype: DType) -> Expr:
    """The value in the accumulator's type; a rounding just before it is left out."""
    if isinstance(e, ex.Cast) and ex.dtype_of(e.arg) == dtype:
        return e.arg
    return cast(e, dtype)


def _guarded(p: Contribution) -> Expr:
    if p.guard == TRUE:
        return p.value
    return ex.Select(ex.Test(p.guard), p.value, constant(0.0, ex.dtype_of(p.value)))


def _total(values: list[Expr], dtype: DType) -> Expr:
    if not values:
        return constant(0.0, dtype)
    total = values[0]
    for v in values[1:]:
        total = add(total, v)
    return total


def _cheap(value: Expr) -> bool:
    nodes = list(ex.walk(value))
    dear = any(isinstance(n, ex.Call) or (isinstance(n, ex.Binary) and n.op in ("/", "**")) for n in nodes)
    return len(nodes) <= INLINE and not dear
