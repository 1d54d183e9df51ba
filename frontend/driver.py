# SPDX-License-Identifier: MIT
"""The driver: from a Program to something that runs.

    Program -> Checked -> Lowered (schedule, loops, text) -> Executable (native code)

What users call is in `frontend.function` and `frontend.staged`; compiler, cache and thread team are the session's.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

from codegen.c import Source, emit
from codegen.dialect import DIALECTS
from codegen.kernels import emit_device
from codegen.launch import DeviceSource
from codegen.loops import Block, Node
from codegen.loops import render as render_loops
from codegen.lower import TakenApartError
from codegen.lower import lower as lower_tree
from codegen.runtime.build import BuildInfo, build
from codegen.runtime.cc import compile_asm
from codegen.runtime.device import Resources
from codegen.runtime.native import Native
from codegen.runtime.nvcc import Compiled, compile_cuda, find_nvcc
from codegen.runtime.nvcc import resources as resources_of
from codegen.runtime.occupancy import with_occupancy
from frontend import edits, logs, saved, session
from frontend.given import Given
from frontend.hints import NO_HINTS, Hints, apply_hints, hinted_layouts
from frontend.on_device import OnDevice, require_double, require_real
from frontend.options import Options
from frontend.scratch import judge, judged, require_memory
from frontend.tunings import recalled
from frontend.uncollected import uncollected
from polyhedral.errors import ArgumentError, Remark, ToolchainError
from polyhedral.ir.layout import Layout, row_major
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Tree, local_arrays, render
from polyhedral.machine.target import Target
from polyhedral.oracle.legality import obligations, violation
from polyhedral.pipeline import Analyzed, Mapped, Scheduled, analyze, arrange, map_onto, plan, prepared
from polyhedral.plans.candidates import Choice
from polyhedral.plans.chooser import Chooser
from polyhedral.plans.plan import Planned
from polyhedral.plans.preferences import NO_PREFERENCES, Preferences, unused
from polyhedral.rewrites.prologue import separate
from polyhedral.scheduling import schedule as scheduling
from polyhedral.text.printer import to_text
from polyhedral.transforms.parallel import outermost_parallel
from polyhedral.whole.assignment import Assignment
from polyhedral.whole.storage import Life, Placement, lives, may_share, place, sharing, shortage

log = logging.getLogger("polyhedral.driver")


@dataclass(frozen=True)
class Timings:
    """Seconds spent in each step of a compilation."""

    steps: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in self.steps)

    @property
    def ours(self) -> float:
        return sum(s for name, s in self.steps if name != "C compiler")

    @property
    def total(self) -> float:
        return sum(s for _, s in self.steps)


@dataclass(frozen=True, eq=False)
class Built:
    """Everything from a Program to C text, stage by stage."""

    program: Program
    options: Options
    scheduled: Scheduled
    loops: Node
    source: Source
    timings: Timings
    once: Built | None = None
    """What is computed from constant arguments, the first time only; its outputs are inputs here."""
    choices: Mapping[str, Choice] = field(default_factory=dict[str, Choice])
    """What each planned statement's plan was chosen by, by its name before it was split."""
    blocks: Mapping[tuple[str, ...], bool] = field(default_factory=dict[tuple[str, ...], bool])
    """Which statements could run in common blocks, and whether they do."""
    plans: Preferences = NO_PREFERENCES
    """Those that were taken whatever is predicted of them."""
    lives: tuple[Life, ...] = ()
    """When each temporary is needed."""
    assigned: Assignment = field(default_factory=Assignment)
    """The layouts of all arrays as they were chosen before plans, and why."""
    asked: frozenset[str] = frozenset()
    """Arrays whose layout a hint asked for."""
    editable: Path | None = None
    """Where its text lies to be edited, with POLYHEDRAL_EDIT."""
    mapped: Mapped | None = None
    """Which statement runs on which blocks and threads, if on a device."""

    @property
    def analyzed(self) -> Analyzed:
        return self.scheduled.analyzed

    @property
    def layouts(self) -> Mapping[str, Layout]:
        return self.scheduled.layouts

    def saying(self, remarks: tuple[Remark, ...]) -> Built:
        """The same with more remarks."""
        schedule = self.scheduled.schedule
        more = replace(schedule, remarks=(*schedule.remarks, *remarks))
        return replace(self, scheduled=replace(self.scheduled, schedule=more)) if remarks else self

    def placement(self, sizes: Mapping[str, int]) -> Placement:
        """Where the temporaries lie at these sizes, judged by the oracle; sizes that are not given count as 1."""
        return judged(self.program, self.scheduled.schedule.tree, place(self.lives, sizes), sizes)


def lower(
    program: Program,
    layouts: Mapping[str, Layout],
    options: Options,
    before: Timings = Timings(),
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
    clock = _Clock(built.timings)
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


def _in_order(built: Built, tree: Tree, clock: _Clock, *, checked: bool | None = None) -> Built:
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
    clock = _Clock(before)
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


def _on_device(program: Program, layouts: Mapping[str, Layout], options: Options, clock: _Clock, hints: Hints) -> Built:
    """Map a program onto a device and print its kernels.  Arrays lie dense there, in the order of the caller's."""
    if hints:
        raise ArgumentError(
            "PH402", f"hints are for processors, not target={options.target!r}", hints=("leave hints= out",)
        )
    require_real(program, options.target)
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


def _printed(planned: Planned, options: Options, target: Target, clock: _Clock, hints: Hints) -> Built:
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


def _emitted(scheduled: Scheduled, options: Options, vector_bytes: int, clock: _Clock, *, checked: bool) -> Built:
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
    return replace(_in_order(built, tree, _Clock(built.timings), checked=False), timings=built.timings)


def dump(built: Built, folder: Path) -> None:
    """Every stage of a kernel as a file: the program, its schedule tree, its loops and its text."""
    frame, name = built.analyzed.frame, built.program.name
    shown = {f.id: f.shown for f in frame.families}
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, text in (
        ("poly", to_text(built.program)),
        ("schedule.txt", render(built.scheduled.schedule.tree, shown)),
        ("loops.txt", render_loops(built.loops)),
        ("c", built.source.text),
    ):
        (folder / f"{name}.{suffix}").write_text(text + "\n")


def load(built: Built) -> tuple[Native, BuildInfo, Timings]:
    """Compile (or find in the cache) and load the kernel."""
    here = session.current()
    if built.options.dump:
        try:
            dump(built, Path(built.options.dump))
        except OSError as error:
            raise ArgumentError(
                "PH506",
                f"dump={built.options.dump!r} cannot be written: {error.strerror}",
                hints=("name a folder of yours",),
            ) from error
    clock = _Clock(built.timings)
    compiler = here.compiler(built.options)
    store = here.cache(built.options)
    source = built.source
    native, info = build(source.text, source.symbol, compiler, store, units=source.units, team=here.team)
    clock.lap("cache and load", less=info.seconds)
    clock.add("C compiler", info.seconds)
    log.info("%s: %s", built.program.name, clock.timings())
    _heard(built, info, clock)
    return native, info, clock.timings()


def load_device(built: Built) -> tuple[OnDevice, BuildInfo, Timings]:
    """Compile (or find in the cache) the kernels for the device of this process."""
    here = session.current()
    assert isinstance(built.source, DeviceSource)
    driver = here.driver(built.options)
    require_double(built.source, driver)
    clock = _Clock(built.timings)
    symbols = [k.symbol for k in built.source.launches]
    kernels, info = driver.compile(built.source.text, symbols, here.cache(built.options))
    clock.lap("cache and load", less=info.seconds)
    clock.add("device compiler", info.seconds)
    _heard(built, info, clock)
    return OnDevice(driver, built.source, kernels, built.layouts), info, clock.timings()


def _heard(built: Built, info: BuildInfo, clock: _Clock) -> None:
    """Tell the log and the trace where native code came from."""
    name, tracer = built.program.name, session.current().tracer
    logs.compiled(name, info)
    if tracer is not None:
        seconds = clock.timings().total - built.timings.total
        what = "load" if info.hit else "compile"
        start = time.perf_counter() - seconds
        tracer.event(f"{what} {name}", "kernel", start, seconds, key=info.key, compiler=info.seconds)
        tracer.flush()


def resources(built: Built) -> tuple[Resources, ...]:
    """What the kernels of a CUDA source take, and leave busy; nothing is known of others, or where there is no nvcc."""
    source = built.source
    if not isinstance(source, DeviceSource) or source.language != "cuda" or built.mapped is None:
        return ()
    try:
        made = compiled_cuda(built, "cubin")
    except ToolchainError as error:
        if error.code != "PH525":
            raise
        return ()
    threads = {k.symbol: prod(k.block) for k in source.launches}
    return with_occupancy(resources_of(made.said, list(threads)), threads, built.mapped.device)


def compiled_cuda(built: Built, kind: str) -> Compiled:
    """The cubin or PTX of a CUDA source; ToolchainError PH525 without nvcc."""
    here = session.current()
    assert built.mapped is not None
    nvcc = find_nvcc(here.env)
    return compile_cuda(built.source.text, nvcc, built.mapped.device.architecture, here.cache(built.options), kind)


def assembly(built: Built) -> str:
    """The compiler's assembly for the kernel; PTX for a CUDA device."""
    if built.source.language == "cuda":
        return compiled_cuda(built, "ptx").path.read_text()
    if built.source.language != "c":
        raise ArgumentError("PH505", "OpenCL keeps its assembly to itself", hints=("target='cuda'", "target='cpu'"))
    return compile_asm(built.source.text, session.current().compiler(built.options))


class _Clock:
    def __init__(self, before: Timings) -> None:
        self._steps = list(before.steps)
        self._last = time.perf_counter()

    def lap(self, name: str, less: float = 0.0) -> None:
        now = time.perf_counter()
        self.add(name, max(now - self._last - less, 0.0))
        self._last = now

    def add(self, name: str, seconds: float) -> None:
        self._steps.append((name, seconds))

    def timings(self) -> Timings:
        return Timings(tuple(self._steps))
