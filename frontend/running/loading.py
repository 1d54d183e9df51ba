# SPDX-License-Identifier: MIT
"""From text to native code: compiled, or found in the cache, and loaded; what a compiler says of it besides.

Text is made by `frontend.lowering`; compiler, cache and thread team are the session's, calls
`frontend.stages.executable`'s.
"""

from __future__ import annotations

import logging
import time
from math import prod
from pathlib import Path

from codegen.launch import DeviceSource
from codegen.loops import render as render_loops
from codegen.runtime.build import BuildInfo, build
from codegen.runtime.cc import compile_asm
from codegen.runtime.device import Resources
from codegen.runtime.native import Native
from codegen.runtime.nvcc import Compiled, compile_cuda, find_nvcc
from codegen.runtime.nvcc import resources as resources_of
from codegen.runtime.occupancy import with_occupancy
from frontend.environment import logs, session
from frontend.lowering.built import Built, Clock, Timings
from frontend.running.on_device import OnDevice, require_double
from polyhedral.errors import ArgumentError, ToolchainError
from polyhedral.ir.tree import render
from polyhedral.text.printer import to_text

log = logging.getLogger("polyhedral.driver")


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
    clock = Clock(built.timings)
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
    clock = Clock(built.timings)
    symbols = [k.symbol for k in built.source.launches]
    kernels, info = driver.compile(built.source.text, symbols, here.cache(built.options))
    clock.lap("cache and load", less=info.seconds)
    clock.add("device compiler", info.seconds)
    _heard(built, info, clock)
    return OnDevice(driver, built.source, kernels, built.layouts), info, clock.timings()


def _heard(built: Built, info: BuildInfo, clock: Clock) -> None:
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
