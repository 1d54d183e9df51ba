# SPDX-License-Identifier: MIT
"""A function over named arrays held against a NumPy formula: interpreted, compiled, and lifted over a batch.

The formulas belong to the tests; nothing here knows what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

import polyhedral as ph
from frontend.arrays.results import flat

Formula = Callable[..., np.ndarray | tuple[np.ndarray, ...]]


def held(
    python: Callable[..., object],
    axes: Mapping[str, str],
    returns: Sequence[str],
    formula: Formula,
    inputs: Mapping[str, np.ndarray],
    lifted: Sequence[str] = (),
    tol: float = 1e-9,
) -> None:
    """`python` and `formula` agree on the inputs, and on two examples at once where `lifted` names arguments."""
    f = ph.function(**axes)(python)
    _agree(f, {n: ph.array(a, axes[n]) for n, a in inputs.items()}, returns, _several(formula(**inputs)), tol)
    if not lifted:
        return
    others = {n: np.roll(a.reshape(-1), 1).reshape(a.shape) if n in lifted else a for n, a in inputs.items()}
    both = zip(_several(formula(**inputs)), _several(formula(**others)), strict=True)
    batch = {
        n: ph.array(np.stack([a, others[n]]), f"b {axes[n]}") if n in lifted else ph.array(a, axes[n])
        for n, a in inputs.items()
    }
    _agree(f, batch, [f"b {r}" for r in returns], [np.stack(pair) for pair in both], tol)


def _agree(
    f: ph.Function, inputs: Mapping[str, ph.Array], returns: Sequence[str], wanted: Sequence[np.ndarray], tol: float
) -> None:
    module = f.trace(**inputs)
    names = tuple(flat(module.returned))
    order = {n: a.axes for n, a in inputs.items()}
    meant = ph.interpret(module.program, {n: a.data for n, a in inputs.items()}, dim_order=order)
    compiled = f(**inputs)
    for name, given, order_, want in zip(names, _several(compiled), returns, wanted, strict=True):
        own = module.program.array(name).dim_names
        assert set(own) == set(order_.split()), name
        interpreted = meant[name].transpose([own.index(d) for d in order_.split()])
        assert interpreted.shape == want.shape, name
        np.testing.assert_allclose(interpreted, want, rtol=tol, atol=tol, err_msg=f"{name}, interpreted")
        got = np.asarray(given.order(order_))
        np.testing.assert_allclose(got, want, rtol=tol, atol=tol, err_msg=f"{name}, compiled")


def _several(results: object) -> tuple:
    return results if isinstance(results, tuple) else (results,)
