# SPDX-License-Identifier: MIT
"""The programs and kernels of one function: which are for the arguments of a call, and which have to be made.

Sizes are exact at first; those that keep changing become symbolic.  The making is `frontend.stages.compilation`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from frontend.arrays.arguments import Arguments, generalised, hashable
from frontend.arrays.specs import Spec
from frontend.environment.options import Options
from frontend.functions.deferred import Deferred

if TYPE_CHECKING:
    from frontend.lowering.built import Timings
    from frontend.lowering.hints import Hints
    from frontend.stages import compilation
    from frontend.stages.executable import Executable
    from frontend.stages.lowered import Lowered
    from frontend.stages.module import Module
    from polyhedral.ir.program import Program
else:
    compilation = Deferred("frontend.stages.compilation")

CHANGES = 2
"""A size that has had more than this many changes becomes symbolic (rule R21)."""

Key = tuple[Any, ...]
"""Options, and what of the arguments decides the kernel; options come first."""


class Kernels:
    """What a function was compiled to, by what it was called with."""

    def __init__(
        self,
        arguments: Arguments,
        python: Callable[..., Any],
        inout: tuple[str, ...],
        returns: tuple[tuple[str, ...], ...],
    ) -> None:
        self.arguments = arguments
        self.python = python
        self.inout = inout
        self.returns = returns
        self.executables: dict[Key, Executable] = {}
        self._modules: dict[Key, tuple[Module, Timings]] = {}
        self._seen: dict[str, list[int]] = {}

    def specialise(self, key: Key, values: Sequence[Any]) -> Executable:
        """A kernel for these arguments: exact sizes at first, symbolic for a size that keeps changing."""
        options = key[0]
        given, numbers, static = self.arguments.specs(values)
        actual = {
            f"{n}.{d}": s for n, spec in given.items() for d, s in zip(spec.axes, spec.sizes, strict=True)
        } | numbers
        changing: frozenset[str] = self._changing(actual) if options.sizes == "auto" else frozenset()
        general = {n: generalised(n, spec, changing) for n, spec in given.items()}
        fixed = {n: v for n, v in actual.items() if n not in changing and v is not None}
        plain = ((n, hashable(n, v)) for n, v in static.items())
        general_key = (options, *general.items(), *fixed.items(), *plain)
        exe = self.executables.get(general_key)
        if exe is None:
            exe = self.lowered(general, fixed, static, options).compile()
            self.executables[general_key] = exe
        if not changing:
            self.executables[key] = exe
        else:
            exe.lowered.check_sizes({n: v for n, v in actual.items() if v is not None})
        return exe

    def _changing(self, actual: Mapping[str, int | None]) -> frozenset[str]:
        found: list[str] = []
        for n, v in actual.items():
            seen = self._seen.setdefault(n, [])
            if v not in seen and v is not None:
                seen.append(v)
            if len(seen) > CHANGES:
                found.append(n)
        return frozenset(found)

    def lowered(
        self,
        given: Mapping[str, Spec],
        sizes: Mapping[str, int],
        static: Mapping[str, Any],
        options: Options,
        hints: Hints | None = None,
    ) -> Lowered:
        module, timings = self._traced(given, static)
        known = {n: v for n, v in sizes.items() if n in module.program.sizes}
        specs = {n: s for n, s in given.items() if n in module.arguments}
        return compilation.lowered(module, specs, known, options, timings, hints, frozenset(self.arguments.bound))

    def module(self, given: Mapping[str, Spec], static: Mapping[str, Any]) -> Module:
        """The traced and checked program for these axes and types (sizes stay symbolic)."""
        return self._traced(given, static)[0]

    def _traced(self, given: Mapping[str, Spec], static: Mapping[str, Any]) -> tuple[Module, Timings]:
        key = (
            tuple((n, s.dtype, s.axes) for n, s in given.items()),
            tuple((n, hashable(n, v)) for n, v in static.items()),
        )
        found = self._modules.get(key)
        if found is None:
            parameters = self.arguments.parameters
            made = compilation.Traceable(self.arguments.name, self.python, parameters, self.inout, self.returns)
            found = self._modules[key] = compilation.trace(made, given, static)
            return found
        return found[0], compilation.Timings()

    def forget(self, specs: Mapping[str, Spec]) -> None:
        """Leave out the kernels for such arguments, since a better one is known."""
        self.executables = {k: e for k, e in self.executables.items() if e.lowered.specs != specs}

    @property
    def latest(self) -> Program | None:
        """The program that was traced last."""
        return next(reversed(self._modules.values()))[0].program if self._modules else None
