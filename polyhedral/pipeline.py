# SPDX-License-Identifier: MIT
"""The page to read first: how a Program becomes a legal schedule.

    Program --check--> Checked --arrange--> Arranged --analyze--> Analyzed --plan--> Scheduled     (then codegen: loops,
                          |                                                                           C, a kernel)
                          '----------------------------map_onto---------------------> Mapped       (CUDA, OpenCL)

Each arrow is a plain function, each noun a frozen dataclass that contains the stage before it, or what became of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from polyhedral.devices.mapping import Divided, divide
from polyhedral.devices.one_slab import narrowed, widened
from polyhedral.devices.plan import BlockNest
from polyhedral.devices.prices import BlockPrice
from polyhedral.devices.shares import share_out
from polyhedral.devices.slabs import Slabs, slabs_of
from polyhedral.errors import Remark
from polyhedral.ir.cluster import components
from polyhedral.ir.layout import Layout, choose
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Run, bands
from polyhedral.machine.device import Device
from polyhedral.machine.target import Target
from polyhedral.plans.chooser import Chooser
from polyhedral.plans.plan import SMALL, Planned, plan_program
from polyhedral.plans.register_plan import RegisterPlan
from polyhedral.rewrites.extract import Shared
from polyhedral.rewrites.fold_storage import fold_storage
from polyhedral.rewrites.freed import freed, settled
from polyhedral.rewrites.order_dims import order_dims
from polyhedral.rewrites.phases import phases
from polyhedral.rewrites.places import places
from polyhedral.rewrites.segments import in_segments
from polyhedral.rewrites.simplify_tests import simplify_tests
from polyhedral.scheduling.schedule import Options, Schedule, schedule
from polyhedral.sets.dependences import Dependences, analyse
from polyhedral.sets.isl_schedule import Frame, frame
from polyhedral.transforms.share import Nest
from polyhedral.whole.assignment import Assignment, assign
from polyhedral.whole.once import Once, lost, made_once
from polyhedral.whole.one_pass import one_pass
from polyhedral.whole.recompute import recompute
from polyhedral.whole.simplify import simplify

DEFAULT = Options()


@dataclass(frozen=True)
class Arranged:
    """What is computed and what is stored, where every array lies, and in which register tiles it is computed."""

    planned: Planned
    assigned: Assignment
    apart: frozenset[str] = frozenset()

    @property
    def layouts(self) -> Mapping[str, Layout]:
        return {**self.assigned.layouts, **self.planned.layouts}


@dataclass(frozen=True, eq=False)
class Analyzed:
    """A program with its instance families and the dependences between them."""

    program: Program
    frame: Frame
    dependences: Dependences


@dataclass(frozen=True, eq=False)
class Scheduled:
    """An analyzed program with the layout of every array and a tree that the oracle accepts."""

    analyzed: Analyzed
    layouts: Mapping[str, Layout]
    schedule: Schedule


@dataclass(frozen=True, eq=False)
class Mapped:
    """A scheduled program whose statements run on blocks and threads of a device, and the nest of each that has one."""

    scheduled: Scheduled
    nests: Mapping[str, BlockNest]
    device: Device
    prices: tuple[tuple[str, BlockPrice | None], ...] = ()
    """What each kernel is predicted to take, as far as anything predicts it."""


def prepared(p: Program) -> Program:
    """A checked program with the statements that its user named, as hints and questions see it."""
    return _stored(simplify_tests(p))


def _stored(p: Program) -> Program:
    return fold_storage(order_dims(p))


def arrange(
    p: Program,
    given: Mapping[str, Layout],
    target: Target,
    constants: frozenset[str] = frozenset(),
    *,
    named: bool = False,
    small: int = SMALL,
    how: str = "global",
    never: frozenset[str] = frozenset(),
    known: Chooser | None = None,
    segments: int = 0,
    whole_rows: bool = False,
) -> Arranged:
    """A checked program of known sizes, made ready for a machine: simplified, long rows in tiles, then what costs more
    to store than to compute again is, then layouts are chosen for all that is left, and last the nests that want their
    operands in them.

    `given` layouts stay; a program whose statements are `named` by hints keeps them all.  What is kept `apart` is worth
    its memory only where it lies in that of a core; what turned out `never` to do so is computed at each use, or stored
    where that is cheaper; `whole_rows` are not cut, as their tiles turned out not to.  Plans that are `known` are not
    looked for again.  Where `segments` are asked for, a recurrence that is read again later is cut into as many, and
    computed again in each.
    """
    given_program = p
    said: tuple[Remark, ...] = ()
    apart, tiled = frozenset[str](), frozenset[str]()
    p = simplify_tests(p)
    if not named:
        p, placed = places(p)
        p, cut = phases(p, small)
        p, simpler = simplify(p)
        if segments:  # after simplifying, which would find that a segment is computed twice
            p, apart_in_time = in_segments(p, segments)
            p, simpler = simplify_tests(p), (*simpler, *apart_in_time)
        passes = one_pass(p, target, small, whole=whole_rows)
        p, tiled = passes.program, passes.near
        found = recompute(p, target, small, never=never)
        p, apart, said = found.program, found.apart, (*placed, *cut, *simpler, *passes.remarks, *found.remarks)
    p = _stored(p)
    if not named:
        p, copies = freed(p, given, small)
        p, lying = settled(p, copies, assign(p, given, target, how).layouts) if copies else (p, ())
        said = (*said, *lying)
    assigned = assign(p, given, target, how)
    chooser, refused = known or Chooser(target, constants), frozenset[Shared]()
    while True:
        once = Once(p) if named else made_once(p, assigned.layouts, target, refused, small)
        laid = assign(once.program, given, target, how) if once.values else assigned
        near = frozenset(once.values)
        planned = plan_program(once.program, laid.layouts, target, constants, small, near, chooser)
        wrong = lost(once, planned.program, {**laid.layouts, **planned.layouts}, target, planned.plans, planned.nests)
        if not wrong:
            break
        refused = once.refused | wrong
    own = {array for nest in planned.nests for array, _ in nest.local}
    gone, loose = apart - own, not tiled <= own
    if gone or loose:
        return arrange(
            given_program,
            given,
            target,
            constants,
            small=small,
            how=how,
            never=never if loose else never | gone,
            known=chooser,
            segments=segments,
            whole_rows=whole_rows or loose,
        )
    return Arranged(replace(planned, remarks=(*said, *once.remarks, *laid.remarks, *planned.remarks)), laid, apart)


def analyze(p: Program) -> Analyzed:
    """Families and dependences."""
    fr = frame(p)
    return Analyzed(p, fr, analyse(fr))


def plan(
    a: Analyzed,
    layouts: Mapping[str, Layout],
    options: Options = DEFAULT,
    plans: Mapping[str, RegisterPlan] | None = None,
    target: Target | None = None,
    planned: Sequence[Nest] = (),
) -> Scheduled:
    """A legal schedule for given layouts, register tiles and `planned` nests; other statements share loops where that
    pays on a target.
    """
    return Scheduled(a, layouts, schedule(a.frame, a.dependences, layouts, options, plans, target, planned))


def map_onto(
    p: Program, given: Mapping[str, Layout], device: Device, options: Options = DEFAULT, small: int = SMALL
) -> Mapped:
    """A checked program simplified, laid out, divided among blocks and threads, and scheduled."""
    p, placed = places(simplify_tests(p))
    p, cut = phases(p, small)
    p, simpler = simplify(p)
    none = frozenset(a.name for a in p.arrays)  # blocks share no memory that a later kernel sees
    fewer = recompute(p, device.as_target(), small, never=none)
    p = _stored(fewer.program)
    shared = share_out(p, choose(p, given), device, _alone(p))
    p, layouts = shared.program, choose(shared.program, shared.layouts)
    alone = _alone(p)
    options = replace(options, local=False, device=True)
    slabs = slabs_of(p, device, alone)
    made = _in_slabs(p, layouts, device, alone, options, slabs) if slabs.found else None
    made = made or _divided(divide(p, layouts, device, alone), layouts, device, options)
    said = made.scheduled.schedule
    remarks = (*placed, *cut, *simpler, *fewer.remarks, *shared.remarks, *slabs.whole, *said.remarks)
    return replace(made, scheduled=replace(made.scheduled, schedule=replace(said, remarks=remarks)))


def _in_slabs(
    p: Program, layouts: Mapping[str, Layout], device: Device, alone: frozenset[str], options: Options, slabs: Slabs
) -> Mapped | None:
    """The program with the host running some of it slab by slab; None where its nests do not lend themselves to that,
    or the oracle does not accept it.
    """
    narrow = narrowed(p, slabs)
    wide = widened(narrow, divide(narrow, layouts, device, alone), layouts, slabs)
    if wide is None:
        return None
    made = _divided(wide.divided, wide.layouts, device, options)
    said = made.scheduled.schedule
    if sum(m.run is Run.HOST for b in bands(said.tree) for m in b.members) < len(wide.slabs):
        return None
    return replace(
        made, scheduled=replace(made.scheduled, schedule=replace(said, remarks=(*slabs.remarks, *said.remarks)))
    )


def _divided(divided: Divided, layouts: Mapping[str, Layout], device: Device, options: Options) -> Mapped:
    """A divided program, scheduled."""
    analyzed = analyze(divided.program)
    made = schedule(analyzed.frame, analyzed.dependences, layouts, options, blocks=divided.nests)
    made = replace(made, remarks=(*divided.remarks, *made.remarks))
    return Mapped(Scheduled(analyzed, layouts, made), divided.nests, device, divided.prices)


def _alone(p: Program) -> frozenset[str]:
    """The statements that do not depend on themselves, through others neither."""
    edges = analyze(p).dependences.edges
    clusters = components([s.name for s in p.statements], edges)
    return frozenset(c[0] for c in clusters if len(c) == 1 and (c[0], c[0]) not in edges)
