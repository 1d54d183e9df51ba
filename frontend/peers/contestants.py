# SPDX-License-Identifier: MIT
"""Peers of a user's own program: the same computation in NumPy, PyTorch, torch.compile and JAX, as whole arrays.

A form is made from the program (`frontend.peers.forms`), not by someone who knows the library: it is what a user who
writes array expressions has, and its results are held against ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from frontend.measuring.agreement import Data
from frontend.measuring.timing import Contestant
from frontend.peers.forms import form
from frontend.peers.libraries import Jax, Library, NoFormError, NumPy, Torch
from frontend.usage import UsageError
from polyhedral.ir.program import Program, Role

NOTE = "made from the program"
PACKAGES = {"numpy": "numpy", "torch": "torch", "compile": "torch", "jax": "jax"}
"""Peers by name, and what has to be installed for them."""


def known(names: Sequence[str]) -> None:
    """UsageError for a peer that a target cannot have."""
    for n in names:
        if n not in PACKAGES:
            raise UsageError(
                f"--vs {n}: a target has the peers {', '.join(PACKAGES)}; others are for suites, and itself in plain C "
                "is always measured"
            )


def contestants(
    program: Program, inputs: Mapping[str, np.ndarray[Any, Any]], names: Sequence[str], threads: int
) -> tuple[list[Contestant], list[str]]:
    """The peers that this program has, and why it lacks others; `inputs` have their axes in the program's order."""
    every: list[Contestant] = []
    notes: list[str] = []
    for n in names:
        if find_spec(PACKAGES[n]) is None:
            notes.append(f"{n}: not installed (pip install {PACKAGES[n]})")
            continue
        try:
            every.append(_MAKERS[n](program, inputs, threads))
        except NoFormError as error:
            notes.append(f"{n}: the program has no form in whole arrays: {error}")
    return every, notes


def _contestant(name: str, library: Library, run: Callable[[], Any]) -> Contestant:
    last: list[Any] = [None]

    def timed() -> object:
        last[0] = run()
        return last[0]

    def result() -> Data:
        return {n: library.numpy(v) for n, v in last[0].items()}

    return Contestant(name, timed, result, note=NOTE)


def _numpy(program: Program, inputs: Mapping[str, Any], threads: int) -> Contestant:
    library = NumPy()
    made = form(program, library)
    return _contestant("numpy", library, lambda: made(inputs))


def _torch(program: Program, inputs: Mapping[str, Any], threads: int) -> Contestant:
    return _in_torch("torch", program, inputs, threads)


def _compiled(program: Program, inputs: Mapping[str, Any], threads: int) -> Contestant:
    return _in_torch("torch.compile", program, inputs, threads)


def _in_torch(name: str, program: Program, inputs: Mapping[str, Any], threads: int) -> Contestant:
    module: Any = import_module("torch")
    module.set_num_threads(threads)
    library = Torch(module)
    _require(library, program)
    made: Any = form(program, library)
    made = module.compile(made, dynamic=False) if name == "torch.compile" else made
    placed = {n: library.array(v) for n, v in inputs.items()}

    def run() -> Any:
        with module.inference_mode():
            return made(placed)

    return _contestant(name, library, run)


def _jax(program: Program, inputs: Mapping[str, Any], threads: int) -> Contestant:
    module: Any = import_module("jax")
    if any(a.dtype.bits >= 64 and a.dtype.name != "c64" for a in program.arrays):
        module.config.update("jax_enable_x64", True)
    library = Jax(module)
    made = module.jit(form(program, library))
    placed = {n: module.device_put(v) for n, v in inputs.items()}
    return _contestant("jax", library, lambda: module.block_until_ready(made(placed)))


def _require(library: Library, program: Program) -> None:
    for a in program.with_role(Role.INPUT, Role.CONSTANT):
        library.require(a.dtype)


_MAKERS: Mapping[str, Callable[[Program, Mapping[str, Any], int], Contestant]] = {
    "numpy": _numpy,
    "torch": _torch,
    "compile": _compiled,
    "jax": _jax,
}
