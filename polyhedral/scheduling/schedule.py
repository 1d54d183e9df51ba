# SPDX-License-Identifier: MIT
"""Scheduling: from dependences to a tree, cluster by cluster, on a ladder whose last rung is the given order.

A statement that does not depend on itself gets a nest chosen from strides (`polyhedral.scheduling.nest`); a cycle of
statements goes through isl's scheduler, tiling and wavefronts.  Every result is a proposal:
`polyhedral.oracle.legality` disposes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from polyhedral.devices.nest import block_nest, host_nest, row_nest, spread
from polyhedral.devices.plan import BlockNest, Slab
from polyhedral.errors import InternalError, Remark, Unsupported
from polyhedral.ir import affine as aff
from polyhedral.ir.cluster import components
from polyhedral.ir.layout import Layout
from polyhedral.ir.tree import Band, Filter, Leaf, Member, Promote, Tree, bands, map_bands
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.machine.target import Target
from polyhedral.oracle.legality import Pairs, obligations, violation
from polyhedral.plans.register_plan import Loop, RegisterPlan
from polyhedral.scheduling.nest import Shape, nest
from polyhedral.scheduling.register_nest import register_nest
from polyhedral.sets.dependences import Dependences
from polyhedral.sets.instances import Family, references
from polyhedral.sets.isl_schedule import Frame, isl_schedule
from polyhedral.transforms.distribute import distributions
from polyhedral.transforms.parallel import nth_parallel, parallelise, serialise
from polyhedral.transforms.share import Nest, refused, share, taken
from polyhedral.transforms.tile import tile
from polyhedral.transforms.vectorise import vectorise
from polyhedral.transforms.wavefront import wavefront
from polyhedral.whole.fusion import nests

BUSY = 4
"""Iterations of an outer loop for each core that share its work evenly enough."""


@dataclass(frozen=True)
class Options:
    """What a caller may choose; the fields are the CLI's flags."""

    tile: int = 32
    parallel: bool = True
    operations: int = 3_000_000
    local: bool = True
    """Whether what one nest alone sees may lie in memory of its own."""
    device: bool = False
    """Whether all coincident loops of a band are to run at once, untiled."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """A legal tree, and what was refused on the way."""

    tree: Tree
    remarks: tuple[Remark, ...]


def schedule(
    fr: Frame,
    deps: Dependences,
    layouts: Mapping[str, Layout],
    options: Options = Options(),
    plans: Mapping[str, RegisterPlan] | None = None,
    target: Target | None = None,
    planned: Sequence[Nest] = (),
    blocks: Mapping[str, BlockNest] | None = None,
) -> Schedule:
    """A legal tree for the whole program; `plans` are the register tiles of the statements that have one.  With a
    `target`, statements share outer loops where that pays on it, and where it was `planned`; `blocks` are nests for the
    threads of a device, those of one slab in a loop of the host.
    """
    pairs = obligations(fr.program)
    order = [s.name for s in fr.program.statements]
    parts: list[Filter] = []
    remarks: list[Remark] = []
    own: dict[str, list[Family]] = {name: [] for name in order}
    for f in fr.families:
        own[f.statement.name].append(f)
    following: dict[str, list[Pairs]] = {}
    for pair in pairs:
        following.setdefault(pair.first.id, []).append(pair)
    trees: dict[str, Tree] = {}
    plans = {name: plan for name, plan in (plans or {}).items() if name in own}
    followed = {n: plan.epilogue for n, plan in plans.items()} | {n: b.epilogue for n, b in (blocks or {}).items()}
    slabs = {n.slab.loop: n.slab for n in (blocks or {}).values() if n.slab is not None}
    followed |= {slab.statements[0]: slab.statements[1:] for slab in slabs.values()}
    clusters = components(order, deps.edges | _held_together(followed))
    shape = Shape() if target is None else Shape(threads=BUSY * target.cores, window=target.l2 // 32)
    shape = Shape(serial_below=0) if options.device else shape
    for cluster in clusters:
        fs = [f for name in cluster for f in own[name]]
        ids = frozenset(f.id for f in fs)
        inside = tuple(p for f in fs for p in following.get(f.id, ()) if p.then.id in ids)
        trees[cluster[0]], notes = _cluster(fr, fs, deps, layouts, inside, options, plans, shape, blocks or {})
        remarks += notes
    gathered = [Nest((c,)) for c in clusters]
    if target is not None:
        gathered = nests(fr.program, clusters, deps.edges, layouts, plans, target, planned)
        gathered = gathered if options.local else [replace(n, local=()) for n in gathered]
    for n in gathered:
        made, notes = _nested(fr, n, own, trees, following, options, plans)
        parts += [Filter(tuple(f.id for f in part), tree) for part, tree in made]
        remarks += notes
    tree = parts[0].child if len(parts) == 1 else InOrder(tuple(parts))
    if not fr.families:
        return Schedule(Leaf(), ())
    wrong = violation(fr.program, tree, pairs)
    if wrong is not None:
        raise InternalError("PH999", f"the clusters of {fr.program.name} are in an illegal order: {wrong}")
    return Schedule(tree, tuple(remarks))


def _held_together(followed: Mapping[str, Sequence[str]]) -> set[tuple[str, str]]:
    """Pairs, both ways, that make one cluster of a reduction and the statements that are computed on its tile."""
    pairs = [(name, e) for name, epilogue in followed.items() for e in epilogue]
    return {*pairs, *((e, name) for name, e in pairs)}


def _cluster(
    fr: Frame,
    fs: Sequence[Family],
    deps: Dependences,
    layouts: Mapping[str, Layout],
    pairs: tuple[Pairs, ...],
    options: Options,
    plans: Mapping[str, RegisterPlan],
    shape: Shape,
    blocks: Mapping[str, BlockNest],
) -> tuple[Tree, list[Remark]]:
    """The first rung whose tree the oracle accepts."""
    shown = " and ".join(dict.fromkeys(f.statement.name for f in fs))
    remarks: list[Remark] = []
    names = {f.statement.name for f in fs}
    alone = len(names) == 1
    recursive = any((f.statement.name, g.statement.name) in deps.edges for f in fs for g in fs)
    rungs: list[tuple[str, Callable[[], Tree | None]]] = []
    tiled = next((f.statement.name for f in fs if f.statement.name in plans), None)
    if tiled is not None and names == {tiled, *plans[tiled].epilogue}:
        rungs.append(("a register tile", lambda: _unparallel(_on_tile(fs, tiled, plans[tiled]), options)))
    planned = next((n for n in blocks.values() if set(n.statements) == names and n.slab is None), None)
    slab = next((n.slab for n in blocks.values() if n.slab is not None and set(n.slab.statements) == names), None)
    if slab is not None:
        rungs.append(("slabs of rows", lambda: _in_slabs(fs, slab, blocks)))
    if planned is not None:
        order = {n: k for k, n in enumerate((planned.statement, *planned.epilogue))}
        own = sorted(fs, key=lambda f: order[f.statement.name])
        rungs.append(
            (
                "a nest of blocks",
                lambda: _unparallel((row_nest if planned.phases else block_nest)(own, planned), options),
            )
        )
    if slab is None and alone and not recursive:
        rungs.append(("a nest ordered by strides", lambda: _unparallel(nest(fs, layouts, shape), options)))
    elif slab is None:  # the rows of one slab are cut for no other tree
        if options.device:
            rungs.append(("the given order with parallel loops", lambda: _as_given(fr, fs, pairs)))
        rungs += [
            ("isl's schedule with proximity", lambda: _polished(_isl(fr, fs, deps, True, False, options), options)),
            ("isl's schedule without proximity", lambda: _polished(_isl(fr, fs, deps, False, False, options), options)),
            ("Feautrier's schedule", lambda: _polished(_isl(fr, fs, deps, False, True, options), options)),
        ]
    rungs += [(f"the given order ({how})", lambda t=t: t) for how, t in _given(fs)]
    for what, rung in rungs:
        tree = rung()
        if tree is None:
            remarks.append(Remark(f"{what} was not used", "isl found none within its budget", shown))
            continue
        wrong = _violation(fr, tree, fs, pairs)
        if wrong is None:
            lanes = spread(tree) if options.device else vectorise(tree)
            return (lanes if lanes != tree and _violation(fr, lanes, fs, pairs) is None else tree), remarks
        remarks.append(Remark(f"{what} was not used", wrong, shown))
    raise Unsupported(
        "PH900",
        f"no order was found in which {shown} can be computed",
        details=tuple(map(str, remarks)),
        hints=("write the order with ph.loop on an inout argument",),
        statement=shown,
    )


def _in_slabs(fs: Sequence[Family], slab: Slab, blocks: Mapping[str, BlockNest]) -> Tree:
    """The nests of a slab, in an order in which what is read is there, within the loop of the host."""
    own = {leader: n for leader, n in blocks.items() if n.slab == slab}
    leader_of = {s: leader for leader, n in own.items() for s in n.statements}
    made = {f.statement.write.array: leader_of[f.statement.name] for f in fs}
    needs = {(made[r.array], leader_of[f.statement.name]) for f in fs for r in references(f) if r.array in made}
    order = components(list(own), {(a, b) for a, b in needs if a != b})
    parts: list[tuple[list[Family], Tree]] = []
    for leader in (leader for cluster in order for leader in cluster):
        inside = own[leader].statements
        place = {n: k for k, n in enumerate((leader, *own[leader].epilogue))}
        mine = sorted((f for f in fs if f.statement.name in inside), key=lambda f: place[f.statement.name])
        parts.append((mine, (row_nest if own[leader].phases else block_nest)(mine, own[leader])))
    return host_nest(parts, slab.loop)


def _nested(
    fr: Frame,
    n: Nest,
    own: Mapping[str, Sequence[Family]],
    trees: Mapping[str, Tree],
    following: Mapping[str, Sequence[Pairs]],
    options: Options,
    plans: Mapping[str, RegisterPlan],
) -> tuple[list[tuple[list[Family], Tree]], list[Remark]]:
    """The families and the tree of a nest, with as much of it as the oracle accepts: its loops and the memory of its
    own, its loops, or each of its clusters alone.
    """
    fs = [[f for name in c for f in own[name]] for c in n.clusters]
    every = [f for part in fs for f in part]
    ids = frozenset(f.id for f in every)
    inside = tuple(p for f in every for p in following.get(f.id, ()) if p.then.id in ids)
    remarks: list[Remark] = []
    for rung in dict.fromkeys((n, replace(n, local=()))) if n.loops else ():
        within = [_within(part, trees[c[0]], plans, rung) for c, part in zip(n.clusters, fs, strict=True)]
        tree = _unparallel(share(rung, fs, within), options)
        wrong = _violation(fr, tree, every, inside)
        if wrong is None:
            return [(every, tree)], [*remarks, *taken(rung, fr.program)]
        remarks += refused(rung, wrong)
    return [(part, trees[c[0]]) for c, part in zip(n.clusters, fs, strict=True)], remarks


def _on_tile(fs: Sequence[Family], tiled: str, plan: RegisterPlan, around: Sequence[Loop] = ()) -> Tree:
    """The nest of a reduction and its epilogue, in the order in which they run."""
    place = {n: k for k, n in enumerate((tiled, *plan.epilogue))}
    return register_nest(sorted(fs, key=lambda f: place[f.statement.name]), plan, around)


def _within(fs: Sequence[Family], tree: Tree, plans: Mapping[str, RegisterPlan], n: Nest) -> Tree:
    """The tree of a cluster for within the loops of a nest, which may be all that its portions had within them."""
    tiled = next((f.statement.name for f in fs if f.statement.name in plans), None)
    if tiled is None or not plans[tiled].epilogue or not (isinstance(tree, Band) and isinstance(tree.child, Promote)):
        return tree
    return _on_tile(fs, tiled, plans[tiled], [Loop(dict(x.dims)[tiled], x.size) for x in n.loops])


def _violation(fr: Frame, tree: Tree, fs: Sequence[Family], pairs: tuple[Pairs, ...]) -> str | None:
    wrong = violation(fr.program, tree, pairs, fs)
    return None if wrong is None else str(wrong)


def _isl(
    fr: Frame, fs: Sequence[Family], deps: Dependences, proximity: bool, feautrier: bool, options: Options
) -> Tree | None:
    return isl_schedule(
        fr,
        fs,
        deps.validity,
        deps.coincidence,
        deps.proximity if proximity else None,
        feautrier=feautrier,
        operations=options.operations,
    )


def _as_given(fr: Frame, fs: Sequence[Family], pairs: tuple[Pairs, ...]) -> Tree | None:
    """The order as written with loops distributed and in parallel wherever the oracle lets them be, the outer ones
    first; None where none is, or the order is no legal one.
    """

    def legal(tree: Tree) -> bool:
        return _violation(fr, tree, fs, pairs) is None

    tree: Tree | None = original(fs)
    if not legal(tree):
        return None
    best = tree
    while tree is not None:
        best, tree = tree, next(filter(legal, distributions(tree)), None)
    found = False
    for n in range(sum(len(b.members) for b in bands(best))):
        tried = nth_parallel(best, n)
        if legal(tried):
            best, found = tried, True
    return best if found else None


def _polished(tree: Tree | None, options: Options) -> Tree | None:
    """Tiles and parallel marks on isl's bands."""
    if tree is None:
        return None
    tree = map_bands(tree, lambda b: _tiled(b, options))
    return parallelise(tree) if options.parallel else tree


def _tiled(band: Band, options: Options) -> Tree:
    if not band.permutable or len(band.members) < 2 or options.tile < 2:
        return band
    if options.device:
        return band if any(m.coincident for m in band.members) else wavefront(band)
    tiled = tile(band, [options.tile] * len(band.members))
    return tiled if tiled.members[0].coincident else wavefront(tiled)


def _unparallel(tree: Tree, options: Options) -> Tree:
    return tree if options.parallel else serialise(tree)


# --- the given order -------------------------------------------------------------------------------------------------


def original(fs: Sequence[Family]) -> Tree:
    """The order in which the program is written: positions, then each statement's dims as they stand."""
    return _by_position(list(fs), 0, reverse=False)


def _given(fs: Sequence[Family]) -> Iterator[tuple[str, Tree]]:
    """The written order; for equations, which have none, also each dim counted downwards."""
    yield "as written", original(fs)
    if any(not f.statement.ordered for f in fs):
        yield "backwards", _by_position(list(fs), 0, reverse=True)


def _by_position(fs: list[Family], depth: int, *, reverse: bool) -> Tree:
    heads: dict[int | str | None, list[Family]] = {}
    for f in fs:
        position = f.statement.position
        heads.setdefault(position[depth] if depth < len(position) else None, []).append(f)
    groups = sorted(heads.items(), key=lambda kv: kv[0] if isinstance(kv[0], int) else -2 if kv[0] is None else -1)
    if len(groups) == 1 and isinstance(groups[0][0], str):
        dim = groups[0][0]
        member = Member(dim, tuple((f.id, aff.var(dim)) for f in fs))
        return Band((member,), _by_position(fs, depth + 1, reverse=reverse))
    children: list[Filter] = []
    for head, members in groups:
        if head is None:
            children += [Filter((f.id,), _plain(f, reverse=reverse)) for f in members]
        else:
            below = depth if isinstance(head, str) else depth + 1  # a loop of its own
            children.append(Filter(tuple(f.id for f in members), _by_position(members, below, reverse=reverse)))
    return children[0].child if len(children) == 1 else InOrder(tuple(children))


def _plain(f: Family, *, reverse: bool) -> Tree:
    dims = [d for d in f.dims if d not in f.statement.ordered]
    if not dims:
        return Leaf()
    sign = -1 if reverse else 1
    return Band(tuple(Member(d, ((f.id, aff.var(d) * sign),)) for d in dims), Leaf())
