# SPDX-License-Identifier: MIT
"""The door to isl's relations, scheduler and schedule trees, under generated identifiers.

A Frame fixes the spaces of one program: parameters p0.., families S0.., arrays A0...  Our trees travel to isl as YAML
text that we print; isl's schedules come back as our trees.  Nothing user-written reaches isl's parser.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache

import islpy as isl

from polyhedral.ir import affine as aff
from polyhedral.ir import tree as tr
from polyhedral.ir.affine import Affine, Condition, Floor, Size, Var
from polyhedral.ir.program import Program
from polyhedral.sets.instances import Family, Reference, ahead, families
from polyhedral.sets.isl import CONTEXT, from_aff, space, to_aff, to_set

_P, _S, _IN, _OUT = isl.dim_type.param, isl.dim_type.set, isl.dim_type.in_, isl.dim_type.out


@dataclass(frozen=True, eq=False)
class Frame:
    """The isl spaces of a program."""

    program: Program
    families: tuple[Family, ...]

    @property
    def params(self) -> tuple[str, ...]:
        return tuple(f"p{i}" for i in range(len(self.program.sizes)))

    def family(self, id: str) -> Family:
        return self._families[id]

    @cached_property
    def _families(self) -> Mapping[str, Family]:
        return {f.id: f for f in self.families}

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {a.name: n for n, a in enumerate(self.program.arrays)}

    def domain(self, f: Family) -> isl.Set:
        sizes = (aff.at_least(aff.size(n)) for n in self.program.sizes)
        condition = aff.both(f.domain, *self.program.assumptions, *sizes)
        return _points(condition, f.dims, self.program.sizes, self.params, f.id)

    def domains(self, fs: Sequence[Family]) -> isl.UnionSet:
        result = isl.UnionSet.empty(isl.Space.params_alloc(CONTEXT, 0))
        for f in fs:
            result = result.union(isl.UnionSet.from_set(self.domain(f)))
        return result

    def access(self, r: Reference) -> isl.Map:
        """The access relation: instance -> cell (all cells along a data-dependent dim)."""
        array = self.program.array(r.array)
        dims = r.family.dims
        cell = tuple(f"{d}\0cell" for d in array.dim_names)
        same = [aff.equal(aff.var(f"{d}\0cell"), i) for d, i in r.index if i is not None]
        held = [aff.between(0, aff.var(f"{d}\0cell"), e) for d, e in array.dims]
        condition = aff.both(r.when, *same, *held)
        joint = to_set(condition, space((*dims, *cell), self.params), (*dims, *cell), self.program.sizes)
        relation = isl.Map.from_domain(joint).move_dims(_OUT, 0, _IN, len(dims), len(cell))
        relation = relation.set_tuple_name(_IN, r.family.id).set_tuple_name(_OUT, f"A{self._numbers[r.array]}")
        return relation.intersect_domain(self.domain(r.family))

    def next_planes(self, array: str) -> isl.Map:
        """Cell -> the next cell that is stored in the same place (storage reused along `planes`); later ones follow."""
        a = self.program.array(array)
        planes, names = dict(a.planes), a.dim_names
        later = tuple(f"{d}\0later" for d in names)
        conditions: list[Condition] = []
        for d, e in zip(names, later, strict=True):
            apart = aff.var(e) - aff.var(d)
            conditions.append(aff.equal(apart, planes.get(d, 0)))
        both = (*names, *later)
        joint = to_set(aff.both(*conditions), space(both, self.params), both, self.program.sizes)
        relation = isl.Map.from_domain(joint).move_dims(_OUT, 0, _IN, len(names), len(names))
        cell = f"A{self._numbers[array]}"
        return relation.set_tuple_name(_IN, cell).set_tuple_name(_OUT, cell)

    def before(self, f: Family, g: Family) -> isl.Map:
        """Instances of f that the given positions put before instances of g."""
        n = min(len(f.statement.position), len(g.statement.position))
        earlier = self._position(f, n).lex_lt_map(self._position(g, n))
        return earlier.union(self.beside(f, g)) if ahead(f, g) else earlier

    def beside(self, f: Family, g: Family) -> isl.Map:
        """Instances whose positions agree as far as the shorter one goes."""
        n = min(len(f.statement.position), len(g.statement.position))
        return self._position(f, n).apply_range(self._position(g, n).reverse())

    def _position(self, f: Family, n: int) -> isl.Map:
        local = isl.LocalSpace.from_space(space(f.dims, self.params, f.id))
        at = {d: i for i, d in enumerate(f.dims)}
        sp = local.get_space().from_domain().add_dims(_OUT, n)
        result = isl.MultiAff.zero(sp)
        for i, p in enumerate(f.statement.position[:n]):
            e = aff.var(p) if isinstance(p, str) else aff.const(p)
            result = result.set_aff(i, to_aff(e, local, at, {}))
        return isl.Map.from_multi_aff(result)


@lru_cache(maxsize=1 << 12)
def _points(
    condition: Condition, dims: tuple[str, ...], sizes: tuple[str, ...], params: tuple[str, ...], id: str
) -> isl.Set:
    return to_set(condition, space(dims, params, id), dims, sizes)


def frame(p: Program) -> Frame:
    return Frame(p, families(p))


@contextmanager
def budget(operations: int, coefficient: int = -1) -> Generator[None]:
    """Bound the work isl may do inside; it fails with an islpy.Error beyond."""
    CONTEXT.reset_operations()
    CONTEXT.set_max_operations(operations)
    CONTEXT.set_schedule_max_coefficient(coefficient)
    try:
        yield
    finally:
        CONTEXT.set_max_operations(0)
        CONTEXT.reset_operations()
        CONTEXT.set_schedule_max_coefficient(-1)


def isl_schedule(
    fr: Frame,
    fs: Sequence[Family],
    validity: isl.UnionMap,
    coincidence: isl.UnionMap,
    proximity: isl.UnionMap | None,
    *,
    feautrier: bool = False,
    operations: int = 3_000_000,
) -> tr.Tree | None:
    """isl's schedule for some families (Verdoolaege & Janssens 2017), or None when it fails or exceeds its budget."""
    domain = fr.domains(fs)

    def inside(m: isl.UnionMap) -> isl.UnionMap:
        return m.intersect_domain(domain).intersect_range(domain)

    constraints = isl.ScheduleConstraints.on_domain(domain).set_validity(inside(validity))
    constraints = constraints.set_coincidence(inside(coincidence))
    if proximity is not None:
        constraints = constraints.set_proximity(inside(proximity))
    try:
        with budget(operations, coefficient=64):
            CONTEXT.set_schedule_algorithm(1 if feautrier else 0)
            schedule = constraints.compute_schedule()
            isl.UnionSet.empty(isl.Space.params_alloc(CONTEXT, 0))  # raises if the budget ran out unnoticed
    except isl.Error:
        return None
    finally:
        CONTEXT.set_schedule_algorithm(0)
    try:
        return from_isl(fr, schedule, fs)  # outside the budget: beyond it, islpy gives None for numbers
    except NotRepresentableError:
        return None


class NotRepresentableError(Exception):
    """A schedule with piecewise times, which our trees do not hold."""


def from_isl(fr: Frame, schedule: isl.Schedule, fs: Sequence[Family]) -> tr.Tree:
    """An isl schedule as our tree.  isl forgets families without instances; they stand last, where nothing runs."""
    found = _families_in(fr, schedule.get_domain())
    tree = _node(fr, schedule.get_root().child(0), found)
    empty = tuple(f.id for f in fs if f.id not in found)
    if not empty:
        return tree
    last = tuple(tr.Filter((f,), tr.Leaf()) for f in empty)
    return tr.Sequence((tr.Filter(found, tree), *last) if found else last)


def _families_in(fr: Frame, s: isl.UnionSet) -> tuple[str, ...]:
    sets = s.get_set_list()
    names = {sets.get_at(i).get_tuple_name() for i in range(sets.n_set())}
    return tuple(f.id for f in fr.families if f.id in names)


def _node(fr: Frame, node: isl.ScheduleNode, inside: tuple[str, ...]) -> tr.Tree:
    kind = node.get_type()
    types = isl.schedule_node_type
    if kind == types.leaf:
        return tr.Leaf()
    if kind == types.band:
        return _band(fr, node, inside)
    if kind == types.sequence or kind == types.set:
        children: list[tr.Filter] = []
        for i in range(node.n_children()):
            child = node.child(i)
            kept = tuple(f for f in _families_in(fr, child.filter_get_filter()) if f in inside)
            children.append(tr.Filter(kept, _node(fr, child.child(0), kept)))
        return tr.Sequence(tuple(children))
    if kind == types.filter:
        kept = tuple(f for f in _families_in(fr, node.filter_get_filter()) if f in inside)
        return tr.Filter(kept, _node(fr, node.child(0), kept))
    raise NotRepresentableError


def _band(fr: Frame, node: isl.ScheduleNode, inside: tuple[str, ...]) -> tr.Tree:
    partial = node.band_get_partial_schedule()
    members: list[tr.Member] = []
    for i in range(node.band_n_member()):
        times = _times(fr, partial.get_at(i), inside)
        members.append(tr.Member(_name(times), times, bool(node.band_member_get_coincident(i))))
    child = _node(fr, node.child(0), inside)
    return tr.Band(tuple(members), child, bool(node.band_get_permutable())) if members else child


def _times(fr: Frame, upa: isl.UnionPwAff, inside: tuple[str, ...]) -> tuple[tuple[str, Affine], ...]:
    found: dict[str, Affine] = {}
    pieces = upa.get_pw_aff_list()
    for i in range(pieces.n_pw_aff()):
        pw = pieces.get_at(i).coalesce()
        parts = pw.get_pieces()
        id = pw.domain().get_tuple_name()
        if len(parts) != 1:
            raise NotRepresentableError
        params = tuple(str(pw.get_dim_name(_P, j)) for j in range(pw.dim(_P)))
        sizes = tuple(fr.program.sizes[int(n[1:])] for n in params)
        numerator, below = from_aff(parts[0][1], fr.family(id).dims, sizes)
        found[id] = numerator // below
    return tuple((f, found[f]) for f in inside)


def _name(times: tuple[tuple[str, Affine], ...]) -> str:
    """A band member is named after the one dim it mostly follows; skewed ones after all dims they mix."""
    names: dict[str, None] = {}
    for _, t in times:
        for term, _ in t.terms:
            if isinstance(term, Var):
                names[term.name] = None
    return "_".join(list(names)[:3]) or "t"


# --- to isl ----------------------------------------------------------------------------------------------------------


def from_yaml(text: str) -> isl.Schedule:
    """An isl schedule from the text of one of our trees."""
    return isl.Schedule.read_from_str(CONTEXT, text)


def to_isl(fr: Frame, tree: tr.Tree, fs: Sequence[Family]) -> isl.Schedule:
    """Our tree as an isl schedule, through isl's own YAML form."""
    return from_yaml(to_yaml(fr, tree, fs))


def to_yaml(fr: Frame, tree: tr.Tree, fs: Sequence[Family]) -> str:
    """isl's text for a tree, under generated identifiers."""
    lines = [f'domain: "{fr.domains(fs)}"']
    ids = tuple(f.id for f in fs)
    if not isinstance(tree, tr.Leaf):
        lines += ["child:", *_yaml(fr, tree, ids, "  ")]
    return "\n".join(lines)


def _yaml(fr: Frame, tree: tr.Tree, inside: tuple[str, ...], pad: str) -> Iterator[str]:
    below: tr.Tree
    while isinstance(tree, (tr.Promote, tr.Local, tr.Stage)):
        tree = tree.child
    match tree:
        case tr.Leaf():
            return
        case tr.Band(members, below):
            parts = ", ".join(f"{{ {'; '.join(_time(fr, f, m.time(f)) for f in inside)} }}" for m in members)
            yield f'{pad}schedule: "{_params(fr)}[{parts}]"'
            yield f"{pad}permutable: {int(tree.permutable)}"
            yield f"{pad}coincident: [ {', '.join(str(int(m.coincident)) for m in members)} ]"
        case tr.Filter(inside, below):
            yield f'{pad}filter: "{_filter(fr, inside)}"'
        case tr.Sequence(children):
            yield f"{pad}sequence:"
            for c in children:
                head, *rest = _yaml(fr, c, c.families, pad + "  ")
                yield f"{pad}- {head.strip()}"
                yield from rest
            return
    while isinstance(below, (tr.Promote, tr.Local, tr.Stage)):
        below = below.child
    if not isinstance(below, tr.Leaf):
        yield f"{pad}child:"
        yield from _yaml(fr, below, inside, pad + "  ")


def _params(fr: Frame) -> str:
    return f"[{', '.join(fr.params)}] -> " if fr.params else ""


def _tuple(f: Family) -> str:
    return f"{f.id}[{', '.join(f'i{k}' for k in range(len(f.dims)))}]"


def _filter(fr: Frame, ids: Sequence[str]) -> str:
    return f"{_params(fr)}{{ {'; '.join(_tuple(fr.family(f)) for f in ids)} }}"


def _time(fr: Frame, id: str, e: Affine) -> str:
    f = fr.family(id)
    names: Mapping[str, str] = {d: f"i{k}" for k, d in enumerate(f.dims)}
    sizes = dict(zip(fr.program.sizes, fr.params, strict=True))
    return f"{_tuple(f)} -> [({_affine_text(e, names, sizes)})]"


def _affine_text(e: Affine, dims: Mapping[str, str], sizes: Mapping[str, str]) -> str:
    parts = [str(e.const)]
    for term, c in e.terms:
        match term:
            case Var(name):
                parts.append(f"{c}*{dims[name]}")
            case Size(name):
                parts.append(f"{c}*{sizes[name]}")
            case Floor(arg, divisor):
                parts.append(f"{c}*floor(({_affine_text(arg, dims, sizes)})/{divisor})")
    return " + ".join(parts)


def union_map(maps: Sequence[isl.Map]) -> isl.UnionMap:
    result = isl.UnionMap.empty(isl.Space.params_alloc(CONTEXT, 0))
    for m in maps:
        result = result.union(isl.UnionMap.from_map(m))
    return result


def context_of(assumptions: Sequence[Condition], sizes: Sequence[str], params: Sequence[str]) -> isl.Set:
    """What is known of the sizes, for AstBuild."""
    condition: Condition = aff.both(*assumptions, *(aff.at_least(aff.size(n)) for n in sizes))
    return to_set(condition, space((), params), (), sizes).params()
