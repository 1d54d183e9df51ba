# SPDX-License-Identifier: MIT
"""From a Python function to what can be looked at and called: tracing, assembly, checks, lowering.

Which of these is done when, and what is kept of it, is decided by `frontend.functions.kernels`.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from frontend.arrays.arguments import Parameter, check_declared
from frontend.arrays.results import flat
from frontend.arrays.specs import Spec
from frontend.autodiff import resolve
from frontend.environment import logs
from frontend.environment.options import Options
from frontend.inference.assemble import assemble
from frontend.inference.settling import settle
from frontend.lang import Trace
from frontend.lang.location import Mark
from frontend.lang.trace import Returned
from frontend.lowering.built import Timings
from frontend.lowering.hints import NO_HINTS, Hints
from frontend.recorded import unsided
from frontend.stages import traced
from frontend.stages.lowered import Lowered
from frontend.stages.module import Module
from polyhedral.checks.check import check
from polyhedral.errors import ArgumentError, Location, OrderError
from polyhedral.ir.program import Program, Role
from polyhedral.text.printer import to_text

__all__ = ["Timings", "Traceable", "lowered", "to_text", "trace"]


@dataclass(frozen=True)
class Traceable:
    """A Python function and what its decorator says of it."""

    name: str
    python: Callable[..., Any]
    parameters: Sequence[Parameter]
    inout: tuple[str, ...]
    returns: tuple[tuple[str, ...], ...]


def trace(f: Traceable, given: Mapping[str, Spec], static: Mapping[str, Any]) -> tuple[Module, Timings]:
    """The checked program for arguments of these axes and types; sizes stay symbolic."""
    start = time.perf_counter()
    summaries: dict[str, Any] = {}
    written = getattr(f.python, "__code__", None)
    mark = None if written is None else Mark(written, 0, written.co_firstlineno)
    tracing = Trace(f.name, settle=lambda r, recording: settle(r, recording, summaries), mark=mark)
    with tracing:
        values = {p.name: _argument(f, tracing, p, given, static) for p in f.parameters}
        tracing.examples = _examples(f.parameters, {n: s.axes for n, s in given.items()})
        recording = tracing.finish(f.python(**values))
    traced = time.perf_counter()
    temporaries: dict[str, set[str]] = {}
    program = assemble(recording, summaries, temporaries)
    held = frozenset(n for h in recording.held for n in temporaries.get(h, {h}))
    resolved = resolve(program, recording.promises, held, recording.rules)
    program = resolved.program
    assembled = time.perf_counter()
    checked = check(program)
    checked = replace(checked, remarks=(*resolved.remarks, *checked.remarks))
    end = time.perf_counter()
    steps = (("trace", traced - start), ("assemble", assembled - traced), ("check", end - assembled))
    names = tuple(p.name for p in f.parameters if p.name in given)
    lifted = frozenset(
        d for p in f.parameters if p.name in given for d in given[p.name].axes if d not in (p.axes or ())
    )
    orders = _orders(f, program, tracing.returned, lifted)
    places: dict[object, tuple[str, Location | None]] = {}
    for written, settled in recording.statements:
        for c, _ in settled.requires:
            places.setdefault(unsided(c), (written.name, written.location))
    return Module(checked, names, tracing.returned, orders, places), Timings(steps)


def _argument(f: Traceable, tracing: Trace, p: Parameter, given: Mapping[str, Spec], static: Mapping[str, Any]) -> Any:
    if p.size:
        return tracing.size_argument(p.name)
    if p.scalar is not None:
        return tracing.scalar_argument(p.name, p.scalar)
    if p.name not in given:
        return static[p.name]
    spec = given[p.name]
    role = Role.INOUT if p.name in f.inout else Role.INPUT
    lifted = tuple(d for d in spec.axes if d not in (p.axes or ()))
    made = tracing.argument(p.name, spec.axes, spec.dtype, role, lifted)
    check_declared(p, spec.axes, f.name)
    return made


def _examples(parameters: Sequence[Parameter], given: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Dims that a call gives to arguments besides those that any is declared with: each point is an example."""
    declared = {p.name: frozenset(p.axes) for p in parameters if p.axes is not None}
    added = (frozenset(given[n]) - axes for n, axes in declared.items() if n in given)
    return frozenset[str]().union(*added) - frozenset[str]().union(*declared.values())


def _orders(f: Traceable, program: Program, returned: Returned, lifted: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """The declared axis order of each result; one that lifting gave further dims has none."""
    names = list(flat(returned))
    if f.returns and len(f.returns) != len(names):
        raise ArgumentError(
            "PH319",
            f"{f.name} returns {len(names)} results, but returns= gives the axis order of {len(f.returns)}",
            hints=(f"{len(names)} strings of dimensions, one for each result",),
        )
    found: dict[str, tuple[str, ...]] = {}
    for name, order in zip(names, f.returns, strict=False):
        dims = set(program.array(name).dim_names)
        if dims == set(order):
            found[name] = order
        elif not set(order) <= dims or not dims - set(order) <= lifted:
            raise _no_order(f, program, name, order)
    return found


def _no_order(f: Traceable, program: Program, name: str, order: tuple[str, ...]) -> OrderError:
    """PH043: a result has other dims than it is declared with; what is left over was probably to be summed."""
    dims = sorted(program.array(name).dim_names)
    left = [d for d in dims if d not in order]
    near = [(d, n) for d in left for n in difflib.get_close_matches(d, set(order) | _declared(f), 1, 0.5) if n != d]
    summed = (f"sum over what is left, as (...).sum({', '.join(left)})",) if left else ()
    return OrderError(
        "PH043",
        f"{f.name}: returns='{' '.join(order)}' is no order of the result's dimensions, {{{', '.join(dims)}}}",
        hints=(
            *(f"did you mean '{n}' for '{d}'?" for d, n in near),
            *summed,
            f"returns='{' '.join(dims)}', in the order you want",
        ),
        location=next((s.location for s in program.statements if s.write.array == name), None),
    )


def _declared(f: Traceable) -> set[str]:
    """The dims that arguments are declared with."""
    return {d for p in f.parameters for d in p.axes or ()}


def lowered(
    module: Module,
    specs: Mapping[str, Spec],
    sizes: Mapping[str, int],
    options: Options,
    before: Timings,
    hints: Hints | None = None,
    constants: frozenset[str] = frozenset(),
) -> Lowered:
    """The program of a module, scheduled and printed for these arguments."""
    if not isinstance(cast("object", hints), Hints | None):
        tiled = f"hints=ph.hints().tile('{module.program.statements[0].name}', i=8)"
        raise ArgumentError("PH402", f"hints= wants ph.hints(), not a {type(hints).__name__}", hints=(tiled,))
    made = Lowered(module, specs, sizes, options, before, NO_HINTS if hints is None else hints, constants)
    logs.lowered(made)
    traced.lowered(made)
    return made
