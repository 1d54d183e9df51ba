# SPDX-License-Identifier: MIT
"""The decorator: a Python function over named tensors that compiles itself for whatever it is called with.

Which kernel is for which arguments is `frontend.functions.kernels`' to say.  What follows, from tracing to native code,
is behind `frontend.stages.compilation` and loaded at the first call: writing a program needs no scheduler.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from frontend.arrays.arguments import (
    Arguments,
    Parameter,
    as_array,
    copied,
    hashable,
    integer,
    is_array,
    is_labelled,
    parameters_of,
    resized,
    updates,
    whole_strides,
)
from frontend.arrays.memory import Strided
from frontend.arrays.named import Array
from frontend.arrays.names import names_of
from frontend.arrays.results import finished
from frontend.environment import session
from frontend.functions.deferred import Deferred
from frontend.functions.kernels import Kernels
from frontend.functions.pickling import reduced
from frontend.lang import current, is_recording
from frontend.lang.rules import ruled
from frontend.lang.statements import constant
from frontend.pictures.svg import bundle
from polyhedral.errors import ArgumentError, Unsupported, UserError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from frontend import interop
    from frontend.inspection import plot
    from frontend.lowering import tunings
    from frontend.lowering.hints import Hints
    from frontend.lowering.trials import Trial
    from frontend.measuring.duel import Measure
    from frontend.stages import compilation
    from frontend.stages.executable import Executable
    from frontend.stages.lowered import Lowered
    from frontend.stages.module import Module
    from frontend.tuning import tune
    from frontend.tuning.tuned import Tuned
    from polyhedral.ir.program import Program
else:
    compilation = Deferred("frontend.stages.compilation")
    interop = Deferred("frontend.interop")
    plot = Deferred("frontend.inspection.plot")
    tune = Deferred("frontend.tuning.tune")
    tunings = Deferred("frontend.lowering.tunings")


class Function:
    """What `@ph.function` makes: call it with arrays; `lower` it to look inside; `bind` arguments that stay."""

    def __init__(
        self,
        python: Callable[..., Any],
        axes: Mapping[str, tuple[str, ...]],
        inout: tuple[str, ...] = (),
        returns: tuple[tuple[str, ...], ...] = (),
        bound: Mapping[str, Any] | None = None,
        rule: Callable[..., Any] | None = None,
    ) -> None:
        functools.update_wrapper(self, python)
        self.python = python
        self.name: str = getattr(python, "__name__", "function")
        self.parameters = parameters_of(python, axes)
        self.arguments = Arguments(self.name, self.parameters, dict(bound or {}))
        self.inout = inout
        self.returns = returns
        self.axes = dict(axes)
        self.rule = rule
        self._kernels = Kernels(self.arguments, python, inout, returns)

    # --- calling -----------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """Run on arrays; inside another function, compose."""
        if is_recording():
            return self._composed(args, kwargs)
        values = self.arguments.values(args, kwargs)
        data: list[Any] = []
        key: list[Any] = [session.current().options()]
        sizes: dict[str, int] = {}
        labelled: list[Array] = []
        updated: list[tuple[Strided, Strided]] = []
        for p, v in zip(self.parameters, values, strict=True):
            if p.size:
                sizes[p.name] = integer(p.name, v)
                key.append(sizes[p.name])
            elif p.axes is not None and type(v) is np.ndarray and v.ndim == len(p.axes) and whole_strides(v):
                data.append(v)
                key += (p.axes, v.shape, v.strides, v.dtype)
            elif is_array(p, v):
                a = as_array(p, v, self.name)
                if p.name in self.inout:
                    updated += updates(p.name, v, a)
                if a.coords or is_labelled(v):
                    labelled.append(a)
                data.append(a.data)
                key += (a.axes, a.data.shape, a.data.strides, a.data.dtype)
            else:
                key.append(hashable(p.name, v))
        exe = self._kernels.executables.get(tuple(key))
        if exe is None:
            exe = self._kernels.specialise(tuple(key), values)
        if exe.lowered.specs:
            sizes |= _sizes(exe, data)
        result = exe.run(data, sizes, out)
        return finished(result, labelled, updated) if labelled or updated else result

    def _composed(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The expression, inside another function; bound arrays become constants of that program."""
        recorder = current(self.name)

        def inline(p: Parameter, v: Any) -> Any:
            if p.name in self.arguments.bound and isinstance(v, Array):
                return constant(recorder, recorder.unique(p.name), v.data, " ".join(v.axes))
            return v

        return self.body(
            **{p.name: inline(p, v) for p, v in zip(self.parameters, self.arguments.values(args, kwargs), strict=True)}
        )

    # --- derivatives -------------------------------------------------------------------------------------------------

    def defvjp(self, backward: Callable[..., Any]) -> Callable[..., Any]:
        """Say how calls of this function are differentiated, as a decorator of the function that goes back:

            @f.defvjp
            def backward(X, W, out, dout): return {"X": ..., "W": ...}

        It asks by name for arguments, results (`out`; `out0`, `out1` of a tuple; keys of a dict) and their cotangents
        (`d` and the name of the result), and returns the cotangents of the float arguments: by name, where one that is
        left out has no derivative, or in their order.  It is written for one example; cotangents are summed over the
        dims that a call is lifted over.  Define it before programs that call `f` are traced.  PH053 and PH054 where it
        asks for something else or returns something else.
        """
        _require_function(backward)
        if self.inout:
            raise Unsupported(
                "PH900",
                f"{self.name} updates {', '.join(self.inout)} in place, and cannot have a rule of its own",
                hints=("return the new value instead of updating an argument",),
            )
        self.rule = backward
        return backward

    @property
    def body(self) -> Callable[..., Any]:
        """What a program that calls this function records, its own rule of differentiation included."""
        return self.python if self.rule is None else ruled(self.python, self.rule, self.axes)

    # --- stages ------------------------------------------------------------------------------------------------------

    def trace(self, *args: Any, **kwargs: Any) -> Module:
        """The checked program for arguments given as arrays or as text such as 'f32[c:64, y]'."""
        given, static = self.arguments.described(args, kwargs)
        return self._kernels.module(given, static)

    def lower(
        self,
        *args: Any,
        target: str | None = None,
        sizes: Mapping[str, Any] | None = None,
        threads: int | None = None,
        checked: bool | None = None,
        tile: int | None = None,
        parallel: bool | None = None,
        memory: int | str | None = None,
        tuned: str | None = None,
        hints: Hints | None = None,
        **kwargs: Any,
    ) -> Lowered:
        """Schedule and print without compiling.

        Arguments are arrays or text: `f.lower(X="f32[c:64, y:224]", W="f32[o, c:64]")`.  `sizes` fixes or frees sizes
        by dim or by full name: `{"b": ph.symbolic, "c": 64, "X.y": 224}`.  `hints` (see `ph.hints`) are each checked
        for legality.
        """
        options = session.current().options(
            target=target, threads=threads, checked=checked, tile=tile, parallel=parallel, memory=memory, tuned=tuned
        )
        given, static = self.arguments.described(args, kwargs)
        numbers = {
            p.name: int(kwargs[p.name]) for p in self.parameters if p.size and isinstance(kwargs.get(p.name), int)
        }
        self.arguments.require_sizes(sizes, given)
        given = {n: resized(n, s, sizes or {}) for n, s in given.items()}
        numbers |= {
            n: v
            for n, v in (sizes or {}).items()
            if any(p.size and p.name == n for p in self.parameters) and isinstance(v, int)
        }
        fixed = {f"{n}.{d}": v for n, s in given.items() for d, v in zip(s.axes, s.sizes, strict=True) if v is not None}
        return self._kernels.lowered(given, fixed | numbers, static, options, hints)

    def tune(
        self,
        *args: Any,
        budget: float | str = "60s",
        trials: int | None = None,
        executor: Executor | None = None,
        db: str | os.PathLike[str] | None = "auto",
        seed: int = 0,
        resume: bool = False,
        target: str | None = None,
        threads: int | None = None,
        memory: int | str | None = None,
        measure: Measure | None = None,
        hear: Callable[[Trial], object] | None = None,
        **kwargs: Any,
    ) -> Tuned:
        """Measure other plans than the predicted ones on these arguments, and keep the fastest.

        The search ends with its `budget` ("60s", "5m"), after so many `trials`, or where nothing is left; an `executor`
        compiles several plans at once.  What is found is kept where `db` says, "auto" for the cache, a file, or None
        for nowhere, and is used by calls and lowerings of exactly these sizes, types and strides from then on (see the
        option `tuned`); `resume` goes on with what is there.  Arguments are not changed.  `measure` gives the seconds
        of a call, `hear` is told of each trial, `seed` decides who is measured first.
        """
        where = "off" if db is None else os.fspath(db)
        options = session.current().options(target=target, threads=threads, memory=memory, tuned="off")
        place = tunings.opened(where, session.current().cache(options))
        how = tune.effort(budget, trials, executor, place, seed, resume=resume, measure=measure, hear=hear)
        values = self.arguments.values(args, kwargs)
        given, numbers, static = self.arguments.specs(values)
        fixed = {f"{n}.{d}": v for n, s in given.items() for d, v in zip(s.axes, s.sizes, strict=True) if v is not None}
        low = self._kernels.lowered(given, fixed | numbers, static, options)
        arrays = {
            p.name: as_array(p, v, self.name) for p, v in zip(self.parameters, values, strict=True) if p.name in given
        }
        known = {n: v for n, v in numbers.items() if n in low.module.program.sizes}
        found = tune.tune(low, {n: a for n, a in arrays.items() if n in low.module.arguments} | known, how)
        self._kernels.forget(low.specs)
        found.warn()
        return found

    def bind(self, *positions: Any, **constants: Any) -> Function:
        """The function with some arguments fixed; arrays are copied now, later changes of the originals go unseen."""
        if positions:
            name = self.parameters[0].name if self.parameters else "W"
            raise ArgumentError(
                "PH045", f"{self.name}.bind takes arguments by name", hints=(f"{self.name}.bind({name}=...)",)
            )
        for n in constants:
            if n not in {p.name for p in self.parameters}:
                raise ArgumentError("PH045", f"{self.name} has no argument {n!r}", hints=(self.arguments.usage(),))
        by_name = {p.name: p for p in self.parameters}
        kept = {n: self._kept(by_name[n], v) for n, v in constants.items()}
        return Function(self.python, self.axes, self.inout, self.returns, {**self.arguments.bound, **kept}, self.rule)

    def derived(
        self, python: Callable[..., Any], axes: Mapping[str, tuple[str, ...]], returns: tuple[tuple[str, ...], ...]
    ) -> Function:
        """Another function over arguments of this one, with those bound that are bound here."""
        return Function(python, axes, (), returns, self.arguments.bound)

    def torch(self, *, returns: Any = None, **axes: Any) -> Callable[..., Any]:
        """The function on CPU tensors of PyTorch: an operator of its own, differentiable, and known to torch.compile.

        `X="b c y x"` names the axes of a tensor where they are more than declared, or not declared: the function is
        lifted over the new ones.  `returns="b o y x"` orders the axes of results.
        """
        return interop.torch_function(interop.boundary(self, axes, returns))

    def jax(self, *, returns: Any = None, **axes: Any) -> Callable[..., Any]:
        """The function on CPU arrays of JAX, under jit, grad and vmap; `axes` and `returns` as in `torch`."""
        return interop.jax_function(interop.boundary(self, axes, returns))

    def _kept(self, p: Parameter, v: Any) -> Any:
        if not is_array(p, v):
            return v
        a = as_array(p, v, self.name)
        frozen = copied(a.data)
        frozen.flags.writeable = False
        return Array(frozen, a.axes, a.dtype, a.coords)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickled by name; PH049 where no module has it."""
        return reduced(self, self.axes, self.inout, self.returns, dict(self.arguments.bound))

    def __copy__(self) -> Function:
        """Itself, as Python's functions are copied."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Function:
        return self

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.python)

    def __repr__(self) -> str:
        shown = ", ".join(f"{p.name}{{{','.join(p.axes)}}}" if p.axes is not None else p.name for p in self.parameters)
        return f"<ph.function {self.name}({shown})>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """The canonical text, and a picture of the statements as they are written."""
        return bundle(plot.of_program(repr(self), str(self), self._shown()), include, exclude)

    def _shown(self) -> Program | None:
        """The program for f32 arguments of symbolic sizes, or that of the last call where f32 does not suit."""
        try:
            return self.trace().program
        except UserError:
            return self._kernels.latest

    def __str__(self) -> str:
        """The canonical text, for f32 arguments of symbolic sizes; `ph.parse` reads it back.

        A function that f32 does not suit is printed as it was called last.
        """
        try:
            return compilation.to_text(self.trace().program)
        except UserError as error:
            latest = self._kernels.latest
            return f"{self!r}\n{error}" if latest is None else compilation.to_text(latest)


def function(python: Callable[..., Any] | None = None, /, *, inout: Any = (), returns: Any = None, **axes: Any) -> Any:
    """Make a compiled function of a Python function over named tensors.

    `X="c y x"` names an unnamed array's axes, in axis order; `inout="u"` allows updates of an argument;
    `returns="o y x"` fixes the axis order of the result (a tuple for several), so that `np.asarray(f(...))` works.
    """
    if python is not None:
        _require_function(python)
        return Function(python, {}, (), ())

    def decorate(f: Callable[..., Any]) -> Function:
        _require_function(f)
        several = cast("Sequence[Any]", returns) if isinstance(returns, (tuple, list)) else (returns,)
        orders = () if returns is None else tuple(names_of(r) for r in several)
        declared = {n: names_of(v) for n, v in axes.items()}
        parameters = inspect.signature(f).parameters
        for n in (*declared, *names_of(inout)):
            if n not in parameters:
                raise ArgumentError(
                    "PH045",
                    f"{f.__name__} has no argument {n!r} to declare",
                    hints=(f"its arguments are {', '.join(parameters)}",),
                )
        return Function(f, declared, names_of(inout), orders)

    return decorate


_DECORATED = ("@ph.function(X='c y x')",)


def _require_function(f: object) -> None:
    """PH045 for what is no function, or has parameters without names of their own."""
    if not callable(f):
        raise ArgumentError("PH045", f"@ph.function wants a function, not {f!r}", hints=_DECORATED)
    if isinstance(f, type):
        raise ArgumentError("PH045", f"@ph.function wants a function, not the class {f.__name__}", hints=_DECORATED)
    for p in inspect.signature(f).parameters.values():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY):
            raise ArgumentError(
                "PH045",
                f"{getattr(f, '__name__', f)} has the parameter {p}; each array needs a name of its own",
                hints=("list the arguments by name: def f(X, W):",),
            )


def _sizes(exe: Executable, data: Sequence[np.ndarray]) -> dict[str, int]:
    """Sizes by name, needed only where some are symbolic."""
    if not exe.source_sizes:
        return {}
    return {
        f"{n}.{d}": s
        for (n, spec), a in zip(exe.lowered.specs.items(), data, strict=True)
        for d, s in zip(spec.axes, a.shape, strict=True)
    }
