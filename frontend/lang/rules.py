# SPDX-License-Identifier: MIT
"""Rules of differentiation that users write: a function whose calls are taken as a whole, with a backward of its own.

The backward is recorded only once something is differentiated, with arrays in place of the cotangents; what reverse
mode makes of it is `frontend.autodiff`'s.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from frontend.lang.access import braces
from frontend.lang.handles import Expr, Tensor, as_handle
from frontend.lang.location import here
from frontend.lang.recorder import Recorder, current
from frontend.lang.value import coerce, lift, must_lift
from frontend.recorded import Rule
from polyhedral.errors import ArgumentError, DimError
from polyhedral.ir.derivatives import is_smooth
from polyhedral.ir.program import Array, Role


@dataclass(frozen=True)
class _Call:
    """One call: what it was given and returned, by name, and the functions within whose backward it stands."""

    name: str
    backward: Callable[..., Any]
    given: Mapping[str, Any]
    returned: Mapping[str, Tensor]
    lifted: frozenset[str]
    within: frozenset[Callable[..., Any]]


def ruled(
    python: Callable[..., Any], backward: Callable[..., Any], axes: Mapping[str, tuple[str, ...]]
) -> Callable[..., Any]:
    """The function with a rule: called within a program, it returns whole arrays and remembers the call.

    Within its own backward it is an ordinary function.
    """
    name = getattr(python, "__name__", "function")

    @functools.wraps(python)
    def call(**arguments: Any) -> Any:
        recorder = current(name)
        if python in recorder.within:
            return python(**arguments)
        given = {n: _whole(recorder, v, n) for n, v in arguments.items()}
        added = (v.value.dims - frozenset(axes[n]) for n, v in given.items() if n in axes and isinstance(v, Expr))
        returned: dict[str, Tensor] = {}
        made = _kept(recorder, python(**given), "out", returned)
        lifted = frozenset[str]().union(*added)
        within = recorder.within | {python}
        asked = _Call(name, backward, given, returned, lifted, within)
        recorder.calls.append(lambda: _recorded(recorder, asked))
        return made

    return call


def record_rules(recorder: Recorder) -> None:
    """Record the backward of every call so far, those of the calls within them too."""
    while recorder.calls:
        recorder.rules.append(recorder.calls.pop(0)())


def _whole(recorder: Recorder, given: Any, name: str) -> Any:
    value = lift(given) if isinstance(given, Expr) else None
    return given if value is None else Tensor(recorder.read(recorder.let(value, name, {})))


def _kept(recorder: Recorder, made: Any, label: str, returned: dict[str, Tensor]) -> Any:
    """What a function returned, each value as an array of its own, named as results of programs are."""
    match made:
        case dict():
            named = cast("dict[str, Any]", made)
            return {k: _kept(recorder, v, k, returned) for k, v in named.items()}
        case tuple() | list():
            several = cast("Sequence[Any]", made)
            return tuple(_kept(recorder, v, f"{label}{n}", returned) for n, v in enumerate(several))
        case _:
            value = must_lift(made, "a result of a function with a rule")
            returned[label] = Tensor(recorder.read(recorder.let(value, label, {})))
            return returned[label]


def _recorded(recorder: Recorder, call: _Call) -> Rule:
    outputs = {n: y for n, y in call.returned.items() if is_smooth(y.value.dtype)}
    cotangents = {n: _cotangent(recorder, n, y) for n, y in outputs.items()}
    known = _known(call, cotangents)
    inputs = {n: x for n, x in call.given.items() if isinstance(x, Tensor) and is_smooth(x.value.dtype)}
    outside, recorder.within = recorder.within, call.within
    made = _by_name(call, inputs, call.backward(**{n: known[n] for n in _wanted(call, known)}))
    recorder.within = outside
    results = tuple(None if made.get(n) is None else _result(recorder, call, x, made[n], n) for n, x in inputs.items())
    return Rule(
        tuple(x.name for x in inputs.values()),
        tuple(y.name for y in outputs.values()),
        tuple(dy.name for dy in cotangents.values()),
        results,
        call.lifted,
        here(),
    )


def _cotangent(recorder: Recorder, name: str, of: Tensor) -> Tensor:
    array = recorder.arrays[of.name]
    return Tensor(recorder.add_array(Array(recorder.unique(f"d{name}"), array.dims, array.dtype, Role.TEMPORARY)))


def _known(call: _Call, cotangents: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a backward may ask for: arguments, results and, after a `d`, the cotangents of results."""
    known: dict[str, Any] = dict(call.given)
    for n, v in (*call.returned.items(), *((f"d{n}", dy) for n, dy in cotangents.items())):
        if n in known:
            raise ArgumentError(
                "PH053",
                f"the rule of {call.name}: {n} is an argument, and would be a result or its cotangent too",
                hints=(f"give the argument another name, or return a dict: return {{'{call.name}': ...}}",),
                location=here(),
            )
        known[n] = v
    return known


def _wanted(call: _Call, known: Mapping[str, Any]) -> list[str]:
    wanted = list(inspect.signature(call.backward).parameters)
    for n in wanted:
        if n not in known:
            raise ArgumentError(
                "PH053",
                f"the rule of {call.name} asks for {n!r}, which is no argument, result or cotangent",
                hints=(f"there are {', '.join(known)}",),
                location=here(),
            )
    return wanted


def _by_name(call: _Call, inputs: Mapping[str, Tensor], made: Any) -> Mapping[str, Any]:
    """The cotangents that a backward returned, by argument: a dict, or values in the order of the arguments."""
    if isinstance(made, dict):
        named = cast("dict[str, Any]", made)
    else:
        several = tuple(cast("Sequence[Any]", made)) if isinstance(made, tuple | list) else (made,)
        named = dict(zip(inputs, several, strict=False)) if len(several) == len(inputs) else {}
    if not named or not named.keys() <= inputs.keys():
        shown = ", ".join(f"'{n}': ..." for n in inputs)
        raise ArgumentError(
            "PH053",
            f"the rule of {call.name} returns {_shown(made)}, but {call.name} has the float arguments "
            f"{', '.join(inputs) or '(none)'}",
            hints=(f"return {{{shown}}}; an argument that is left out, or None, has no derivative",),
            location=here(),
        )
    return named


def _shown(made: Any) -> str:
    if isinstance(made, dict):
        return "{" + ", ".join(map(repr, cast("dict[str, Any]", made))) + "}"
    return f"{len(cast('Sequence[Any]', made))} values" if isinstance(made, tuple | list) else "one value"


def _result(recorder: Recorder, call: _Call, of: Tensor, made: Any, name: str) -> str:
    """A cotangent as an array over the dims of its argument, and those that the call was lifted over."""
    value = coerce(must_lift(made, f"the cotangent of {name}"), of.value.dtype)
    extra = value.dims - of.value.dims - call.lifted
    if extra:
        raise DimError(
            "PH054",
            f"the rule of {call.name} returns a cotangent of {name} over {braces(extra)}, which {name} does not have",
            hints=(f"sum it: .sum({', '.join(sorted(extra))})",),
            dim=min(extra),
            location=here(),
        )
    if not of.value.dims <= value.dims:
        value = (as_handle(of) * 0 + Expr(value)).value
    return recorder.let(value, f"d{name}", {})
