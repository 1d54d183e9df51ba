# SPDX-License-Identifier: MIT
"""Derivatives held against finite differences: f and its adjoint, both interpreted, in double precision.

One random direction for all arguments at once: a wrong adjoint agrees with it by accident with probability zero.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import polyhedral as ph
from frontend.results import flat
from polyhedral.program import Program

STEP = 1e-6


def function(python: Callable[..., Any], axes: Mapping[str, str], sizes: Mapping[str, int] = {}) -> ph.Function:
    """A Function whose parameters are listed in `axes`, and `sizes`, whatever the signature of `python`."""

    def call(**given: Any) -> Any:
        return python(**given)

    kind = inspect.Parameter.KEYWORD_ONLY
    call.__signature__ = inspect.Signature(
        [inspect.Parameter(n, kind) for n in axes] + [inspect.Parameter(n, kind, annotation=ph.Size) for n in sizes]
    )
    call.__annotations__ = dict.fromkeys(sizes, ph.Size)
    return ph.function(**axes)(call)


def results(f: ph.Function, values: Mapping[str, np.ndarray], sizes: Mapping[str, int] = {}) -> dict[str, np.ndarray]:
    """Interpreted; results by name, axes in the order of the array's own dims."""
    program = traced(f, values)
    order = {n: f.axes[n] for n in values}
    return ph.interpret(program, values, sizes=dict(sizes), dim_order=order)


def traced(f: ph.Function, values: Mapping[str, np.ndarray]) -> Program:
    return f.trace(**{n: f"{_name(v)}[{', '.join(f.axes[n])}]" for n, v in values.items()}).program


def _name(v: np.ndarray) -> str:
    return f"{v.dtype.kind}{8 * v.dtype.itemsize}"


def gradient(
    python: Callable[..., Any],
    axes: Mapping[str, str],
    values: Mapping[str, np.ndarray],
    sizes: Mapping[str, int] = {},
    wrt: tuple[str, ...] = (),
    seed: int = 0,
    alter: Callable[[Program], Program] = lambda p: p,
) -> tuple[float, float]:
    """The derivative along a random direction of a random combination of the results: by differences, by adjoints."""
    rng = np.random.default_rng(seed)
    wrt = wrt or tuple(n for n, v in values.items() if v.dtype.kind == "f")
    f = function(python, axes, sizes)
    module = f.trace(**{n: f"{_name(v)}[{', '.join(f.axes[n])}]" for n, v in values.items()})
    names = [n for n in flat(module.returned) if module.program.array(n).dtype.kind == "f"]
    place = [k for k, n in enumerate(flat(module.returned)) if n in names]

    def outputs(direction: Mapping[str, np.ndarray], step: float) -> list[np.ndarray]:
        moved = {n: v + step * direction[n] if n in direction else v for n, v in values.items()}
        found = ph.interpret(module.program, moved, sizes=dict(sizes), dim_order={n: f.axes[n] for n in values})
        return [found[n] for n in names]

    direction = {n: rng.standard_normal(values[n].shape) for n in wrt}
    high, low = outputs(direction, STEP), outputs(direction, -STEP)
    weights = {f"weight{k}": rng.standard_normal(a.shape) for k, a in enumerate(high)}
    differences = [float(((h - w) * c).sum()) for h, w, c in zip(high, low, weights.values(), strict=True)]
    weight_axes = {f"weight{k}": " ".join(module.program.array(n).dim_names) for k, n in enumerate(names)}

    def pulled(**given: Any) -> Any:
        inner = {n: v for n, v in given.items() if n not in weights}
        made = _listed(python(**inner))
        by = tuple(given[n] for n in wrt)
        return ph.vjp(tuple(made[k] for k in place), by, tuple(given[n] for n in weights))

    g = function(pulled, {**axes, **weight_axes}, sizes)
    every = {**values, **weights}
    back = g.trace(**{n: f"{_name(v)}[{', '.join(g.axes[n])}]" for n, v in every.items()})
    found = ph.interpret(alter(back.program), every, sizes=dict(sizes), dim_order={n: g.axes[n] for n in every})
    total = 0.0
    for n, name in zip(wrt, flat(back.returned), strict=True):
        own = back.program.array(name).dim_names
        total += float((found[name].transpose([own.index(d) for d in g.axes[n]]) * direction[n]).sum())
    return sum(differences) / (2 * STEP), total


def _listed(made: Any) -> list[Any]:
    if isinstance(made, dict):
        return list(made.values())
    return list(made) if isinstance(made, tuple) else [made]


def held(*args: Any, tol: float = 1e-6, **kwargs: Any) -> None:
    """Both ways agree."""
    by_differences, by_adjoints = gradient(*args, **kwargs)
    assert abs(by_differences - by_adjoints) <= tol * max(1.0, abs(by_differences)), (by_differences, by_adjoints)
