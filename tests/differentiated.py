# SPDX-License-Identifier: MIT
"""Derivatives held against finite differences and against each other: f, its adjoint and its tangent, interpreted in
double precision.

One random direction for all arguments at once: a wrong adjoint agrees with it by accident with probability zero.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import polyhedral as ph
from frontend.arrays.results import flat
from polyhedral.ir.program import Program

STEP = 1e-6


def function(
    python: Callable[..., Any], axes: Mapping[str, str], sizes: Mapping[str, int] = {}, inout: str = ""
) -> ph.Function:
    """A Function whose parameters are listed in `axes`, and `sizes`, whatever the signature of `python`."""

    def call(**given: Any) -> Any:
        return python(**given)

    kind = inspect.Parameter.KEYWORD_ONLY
    call.__signature__ = inspect.Signature(
        [inspect.Parameter(n, kind) for n in axes] + [inspect.Parameter(n, kind, annotation=ph.Size) for n in sizes]
    )
    call.__annotations__ = dict.fromkeys(sizes, ph.Size)
    return ph.function(inout=inout, **axes)(call)


def _name(v: np.ndarray) -> str:
    return f"{v.dtype.kind}{8 * v.dtype.itemsize}"


@dataclass(frozen=True)
class Slopes:
    """The derivative along a random direction x of a random combination y of the results, found in three ways."""

    differences: float
    adjoints: float
    """<x, J'y>"""
    tangents: float
    """<J x, y>"""


def gradient(
    python: Callable[..., Any],
    axes: Mapping[str, str],
    values: Mapping[str, np.ndarray],
    sizes: Mapping[str, int] = {},
    wrt: tuple[str, ...] = (),
    seed: int = 0,
    alter: Callable[[Program], Program] = lambda p: p,
    inout: str = "",
) -> Slopes:
    """By differences, by adjoints (of which `alter` may make something else), and by tangents.

    What `inout` arguments hold in the end counts as results after those that are returned.
    """
    rng = np.random.default_rng(seed)
    wrt = wrt or tuple(n for n, v in values.items() if v.dtype.kind == "f")
    f = function(python, axes, sizes, inout)
    module = f.trace(**{n: f"{_name(v)}[{', '.join(f.axes[n])}]" for n, v in values.items()})
    every = [*flat(module.returned), *inout.split()]
    names = [n for n in every if module.program.array(n).dtype.kind == "f"]
    place = [k for k, n in enumerate(every) if n in names]

    def outputs(direction: Mapping[str, np.ndarray], step: float) -> list[np.ndarray]:
        moved = {n: v + step * direction[n] if n in direction else v for n, v in values.items()}
        found = ph.interpret(module.program, moved, sizes=dict(sizes), dim_order={n: f.axes[n] for n in values})
        return [_transposed(found[n], axes[n].split(), dims_of(n)) if n in values else found[n] for n in names]

    def dims_of(name: str) -> tuple[str, ...]:
        return module.program.array(name).dim_names

    direction = {n: rng.standard_normal(values[n].shape) for n in wrt}
    high, low = outputs(direction, STEP), outputs(direction, -STEP)
    weights = {f"weight{k}": rng.standard_normal(a.shape) for k, a in enumerate(high)}
    differences = [float(((h - w) * c).sum()) for h, w, c in zip(high, low, weights.values(), strict=True)]

    def pulled(**given: Any) -> Any:
        inner = {n: v for n, v in given.items() if n not in weights}
        made = [*_listed(python(**inner)), *(given[n] for n in inout.split())]
        by = tuple(given[n] for n in wrt)
        return ph.vjp(tuple(made[k] for k in place), by, tuple(given[n] for n in weights))

    def pushed(**given: Any) -> Any:
        inner = {n: v for n, v in given.items() if n not in moved}
        made = [*_listed(python(**inner)), *(given[n] for n in inout.split())]
        return ph.jvp(
            tuple(made[k] for k in place), tuple(given[n] for n in wrt), tuple(given[f"move{n}"] for n in wrt)
        )

    weight_axes = {f"weight{k}": " ".join(dims_of(n)) for k, n in enumerate(names)}
    back = _run(pulled, {**axes, **weight_axes}, {**values, **weights}, sizes, inout, alter)
    moved = {f"move{n}": direction[n] for n in wrt}
    along = _run(pushed, {**axes, **{f"move{n}": axes[n] for n in wrt}}, {**values, **moved}, sizes, inout)
    adjoints = (_transposed(*found, f.axes[n]) * direction[n] for n, found in zip(wrt, back, strict=True))
    tangents = (
        _transposed(*found, weight_axes[w].split()) * weights[w] for w, found in zip(weights, along, strict=True)
    )
    total, change = (sum(float(part.sum()) for part in parts) for parts in (adjoints, tangents))
    return Slopes(sum(differences) / (2 * STEP), total, change)


def _run(
    python: Callable[..., Any],
    axes: Mapping[str, str],
    values: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
    inout: str,
    alter: Callable[[Program], Program] = lambda p: p,
) -> list[tuple[np.ndarray, tuple[str, ...]]]:
    """The results of a function, interpreted, each with its dims."""
    g = function(python, axes, sizes, inout)
    module = g.trace(**{n: f"{_name(v)}[{', '.join(g.axes[n])}]" for n, v in values.items()})
    order = {n: g.axes[n] for n in values}
    found = ph.interpret(alter(module.program), values, sizes=dict(sizes), dim_order=order)
    return [(found[n], module.program.array(n).dim_names) for n in flat(module.returned)]


def _transposed(value: np.ndarray, dims: tuple[str, ...], order: Sequence[str]) -> np.ndarray:
    return value.transpose([dims.index(d) for d in order])


def _listed(made: Any) -> list[Any]:
    if made is None:
        return []
    if isinstance(made, dict):
        return list(made.values())
    return list(made) if isinstance(made, tuple) else [made]


def held(*args: Any, tol: float = 1e-6, **kwargs: Any) -> None:
    """All ways agree: tangents with adjoints up to rounding, differences with both up to their own error."""
    found = gradient(*args, **kwargs)
    assert abs(found.differences - found.adjoints) <= tol * max(1.0, abs(found.differences)), found
    assert abs(found.tangents - found.adjoints) <= 1e-10 * max(1.0, abs(found.adjoints)), found
