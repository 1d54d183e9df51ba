# SPDX-License-Identifier: MIT
"""The driver: from a Program to text, as users, files and what tuning found want it.

    Program -> Checked -> Built (schedule, loops, text) -> native code

Native code is `frontend.running.loading`'s; what users call is in `frontend.functions` and `frontend.stages`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

from codegen.c import emit
from codegen.dialect import DIALECTS
from codegen.kernels import emit_device
from codegen.loops import Block
from codegen.lower import TakenApartError
from codegen.lower import lower as lower_tree
from frontend.environment import session
from frontend.environment.options import Options
from frontend.lowering import edits, saved
from frontend.lowering.built import UNTIMED, Built, Clock, Timings
from frontend.lowering.given import Given
from frontend.lowering.hinted import apply_hints, hinted_layouts
from frontend.lowering.hints import NO_HINTS, Hints
from frontend.lowering.scratch import judge, require_memory
from frontend.lowering.tunings import recalled
from frontend.lowering.uncollected import uncollected
from polyhedral.errors import ArgumentError, Remark, Unsupported
from polyhedral.ir import expr as ex
from polyhedral.ir.layout import Layout, row_major
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Tree, local_arrays
from polyhedral.machine.target import Target
from polyhedral.oracle.legality import obligations, violation
from polyhedral.pipeline import Scheduled, analyze, arrange, map_onto, plan, prepared
from polyhedral.plans.chooser import Chooser
from polyhedral.plans.plan import Planned
from polyhedral.plans.preferences import unused
from polyhedral.rewrites.prologue import separate
from polyhedral.scheduling import schedule as scheduling
from polyhedral.transforms.parallel import outermost_parallel
from polyhedral.whole.storage import lives, may_share, place, sharing, shortage


def lower(
    program: Program,
    layouts: Mapping[str, Layout],
    options: Options,
    before: Timings = UNTIMED,
    hints: Hints = NO_HINTS,
    constants: frozenset[str] = frozenset(),
) -> Built:
    """Schedule a checked, specialised program and print it as C.  Arrays without a layout get a dense one.

    `hints` on loops keep register tiles out: these would fix all loops of a statement.  `constants` are arguments that
    are the same at every call.  Plans that tuning found are taken, as far as `options` allow it.
    """
    with uncollected():
        given = Given(program, layouts, options, hints, constants)
        given, tuned = recalled(given, options.threads or session.current().threads, session.current().cache(options))
        built = _within_budget(program, layouts, options, before, given.hints, constants)
        plans = given.hints.plans
        built = replace(built.saying((*tuned, *unused(plans, built.choices, built.blocks))), plans=plans)
        built = built if hints.scheduled is None else _rescheduled(built, hints)
        return _edited(built) if session.current().editing else built


def _within_budget(
    program: Program,
    layouts: Mapping[str, Layout],
    options: Options,
    before: Timings,
    hints: Hints,
    constants: frozenset[str],
) -> Built:
    """As written where its temporaries are allowed to take what they do, else in the fewest segments of time."""
    built = _lowered(program, layouts, options, before, hints, constants, never=frozenset())
    if program.sizes or options.language is not None:
        return built
    for count in SEGMENTS:
        if hints or not _short(built):
            break
        cut = _lowered(program, layouts, options, built.timings, hints, constants, never=frozenset(), segments=count)
        if _peak(cut) >= _peak(built):
            break
        built = cut
    for part in _parts(built):
        require_memory(part.program, part.placement({}), options.budget)
    return built


def _rescheduled(built: Built, hints: Hints) -> Built:
    """The same program in the order that a hint states as a whole."""
    assert hints.scheduled is not None
    if hints or built.options.language is not None:
        raise ArgumentError(
            "PH402",
            "schedule(...) states the whole order, for a processor: it goes with no other hint, and with no device",
            hints=("ph.hints().schedule(text) alone, and target='cpu'",),
        )
    clock = Clock(built.timings)
    tree = saved.taken(saved.read(hints.scheduled), built.scheduled)
    clock.lap("schedule given")
    try:
        made = _in_order(built, tree, clock)
    except TakenApartError as error:
        raise ArgumentError(
            "PH406",
            f"this schedule cannot be spelled: {error.message}",
            hints=(f"leave the memory of its own of {error.array} out",),
        ) from error
    made = made.saying((Remark("another schedule than the planned one", "it was given as a whole"),))
    return replace(made, timings=clock.timings())


def _in_order(built: Built, tree: Tree, clock: Clock, *, checked: bool | None = None) -> Built:
    """What was built, emitted again with another tree."""
    scheduled = replace(built.scheduled, schedule=replace(built.scheduled.schedule, tree=tree))
    width = session.current().target(built.options).vector
    made = _emitted(
        scheduled, built.options, width, clock, checked=built.options.checked if checked is None else checked
    )
    kept = replace(made, once=built.once, choices=built.choices, blocks=built.blocks, plans=built.plans)
    return replace(kept, assigned=built.assigned, asked=built.asked)


def _edited(built: Built) -> Built:
    """With the texts that users may have edited."""
    store = session.current().cache(built.options)
    source, where, said = edits.applied(built.program.name, built.source, store)
    made = replace(built.saying(said), source=source, editable=where)
    if built.once is None:
        return made
    once = _edited(built.once)
    known = len(built.once.scheduled.schedule.remarks)
    return replace(made.saying(once.scheduled.schedule.remarks[known:]), once=once)


SEGMENTS = (4, 12, 32)
"""Into how many segments time is cut where its steps take more memory than is allowed, in turn."""


def _parts(built: Built) -> list[Built]:
    return [part for part in (built.once, built) if part is not None]


def _peak(built: Built) -> int:
    return sum(part.placement({}).peak for part in _parts(built))


def _short(built: Built) -> bool:
    return any(shortage(part.placement({}), built.options.budget) is not None for part in _parts(built))


def _lowered(
    program: Program,
    layouts: Mapping[str, Layout],
    options: Options,
    before: Timings,
    hints: Hints,
    constants: frozenset[str],
    *,
    never: frozenset[str],
    segments: int = 0,
) -> Built:
    """`never` are temporaries that are worth their memory only in that of a core, and do not come to lie there."""
    clock = Clock(before)
    if options.language is not None:
        return _on_device(program, layouts, options, clock, hints)
    target = session.current().target(options)
    above = sys.maxsize if hints.nests or options.plan_above < 0 else options.plan_above
    asked = hinted_layouts(prepared(program), hints) if hints else {}
    given = {**layouts, **asked}
    how = hints.plans.layouts.how if hints.plans.layouts else options.layouts
    chooser = Chooser(target, constants, preferences=hints.plans)
    arranged = arrange(
        program, given, target, constants, named=bool(hints), small=above, how=how, never=never, known=chooser,
        segments=segments,
    )  # fmt: skip
    parts = separate(arranged.planned.program, constants)
    clock.lap("plan")
    rest = replace(arranged.planned, program=parts.each, layouts=arranged.layouts)
    once = None
    if parts.once is not None:
        first = replace(rest, program=parts.once)
        once = _printed(first, options, target, clock, NO_HINTS)
    built = _printed(rest, options, target, clock, hints)
    lost = arranged.apart - local_arrays(built.scheduled.schedule.tree)
    if lost:
        never |= lost
        return _lowered(program, layouts, options, clock.timings(), hints, constants, never=never, segments=segments)
    return replace(built, once=once, timings=clock.timings(), assigned=arranged.assigned, asked=frozenset(asked))


def _on_device(program: Program, layouts: Mapping[str, Layout], options: Options, clock: Clock, hints: Hints) -> Built:
    """Map a program onto a device and print its kernels.  Arrays lie dense there, in the order of the caller's."""
    if hints:
        raise ArgumentError(
            "PH402", f"hints are for processors, not target={options.target!r}", hints=("leave hints= out",)
        )
    _require_real(program, options.target)
    device, language = session.current().device(options), options.language
    assert language is not None
    dense = {n: row_major(program.array(n), lay.order) for n, lay in layouts.items()}
    choice = scheduling.Options(tile=options.tile, parallel=options.parallel)
    mapped = map_onto(program, dense, device, choice, max(options.plan_above, 0))
    clock.lap("map and schedule")
    scheduled = mapped.scheduled
    source, loops = emit_device(
        scheduled.analyzed.frame, scheduled.schedule.tree, scheduled.layouts, mapped.nests, DIALECTS[language], device,
        checked=options.checked,
    )  # fmt: skip
    clock.lap("loops and emit")
    cut = scheduled.analyzed.program
    every = lives(cut, scheduled.schedule.tree)
    return Built(cut, options, scheduled, Block(loops), source, clock.timings(), lives=every, mapped=mapped)


def _printed(planned: Planned, options: Options, target: Target, clock: Clock, hints: Hints) -> Built:
    """From a planned program, with a layout for every array, to text."""
    program = planned.program
    layouts = {a.name: planned.layouts[a.name] for a in program.arrays}
    analyzed = analyze(program)
    clock.lap("dependences")
    choice = scheduling.Options(tile=options.tile, parallel=options.parallel)
    scheduled = plan(analyzed, layouts, choice, planned.plans, None if hints.nests else target, planned.nests)
    if hints.nests:
        hinted = apply_hints(analyzed, scheduled.schedule.tree, hints)
        scheduled = replace(scheduled, schedule=replace(scheduled.schedule, tree=hinted))
    remarks = (*planned.remarks, *scheduled.schedule.remarks)
    scheduled = replace(scheduled, schedule=replace(scheduled.schedule, remarks=remarks))
    clock.lap("schedule")
    try:
        built = _emitted(scheduled, options, target.vector, clock, checked=options.checked)
    except TakenApartError as error:
        note = Remark("temporaries do not lie in memory of their own", str(error))
        scheduled = plan(analyzed, layouts, replace(choice, local=False), planned.plans, target, planned.nests)
        remarks = (*planned.remarks, *scheduled.schedule.remarks, note)
        scheduled = replace(scheduled, schedule=replace(scheduled.schedule, remarks=remarks))
        built = _emitted(scheduled, options, target.vector, clock, checked=options.checked)
    return replace(built, choices=planned.choices, blocks=planned.blocks)


def _emitted(scheduled: Scheduled, options: Options, vector_bytes: int, clock: Clock, *, checked: bool) -> Built:
    """From a schedule to text: lives of temporaries, loops, C."""
    program, frame, tree = scheduled.analyzed.program, scheduled.analyzed.frame, scheduled.schedule.tree
    every = lives(program, tree)
    shared = may_share(every) if program.sizes else sharing(place(every, {}))
    judge(program, tree, shared)
    clock.lap("storage")
    loops = lower_tree(frame, tree)
    clock.lap("loops")
    source = emit(
        program, frame.families, loops, scheduled.layouts, checked=checked, vector_bytes=vector_bytes, shared=shared
    )
    clock.lap("emit")
    return Built(program, options, scheduled, loops, source, clock.timings(), lives=every)


def as_written(built: Built) -> Built | None:
    """The same program in the order in which it is written, the outermost loops on all cores where that is legal: what
    a compiler gets to see of a plain nest.  None where the order as written is not legal.
    """
    frame, obliged = built.analyzed.frame, obligations(built.program)

    def legal(tree: Tree) -> bool:
        return violation(built.program, tree, obliged) is None

    tree = scheduling.original(frame.families)
    if not legal(tree):
        return None
    if (built.options.threads or session.current().threads) > 1:
        tree = next(filter(legal, outermost_parallel(tree)), tree)
    return replace(_in_order(built, tree, Clock(built.timings), checked=False), timings=built.timings)


def _require_real(p: Program, target: str) -> None:
    """PH526 where a program has complex values, which kernels of devices do not compute with."""
    named = ((s.write.array, n) for s in p.statements for n in ex.walk(s.value))
    found = next((a.name for a in p.arrays if a.dtype.kind == "c"), None)
    found = found or next((name for name, n in named if ex.dtype_of(n).kind == "c"), None)
    if found is not None:
        raise Unsupported(
            "PH526",
            f"{found} has complex values, which target={target!r} does not compute with",
            hints=("target='cpu'", "real and imaginary parts as arrays of their own"),
        )
