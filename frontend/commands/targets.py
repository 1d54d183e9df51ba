# SPDX-License-Identifier: MIT
"""What the command line works on: `pkg.mod:fn`, `file.py:fn` or `prog.poly`, and the sizes it is looked at with.

Loading runs the user's code; what that raises is reported by `frontend.commands.failures`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from frontend.arrays.arguments import symbolic
from frontend.arrays.specs import Spec, dense
from frontend.environment import session
from frontend.functions.function import Function
from frontend.lowering.hints import NO_HINTS, Hints
from frontend.lowering.saved import read
from frontend.stages.lowered import Lowered
from frontend.stages.lowered import lower as lower_program
from frontend.usage import UsageError
from polyhedral.errors import ArgumentError
from polyhedral.ir import affine as aff
from polyhedral.ir.dtypes import BY_NAME
from polyhedral.ir.program import Program, Role
from polyhedral.sets.isl import named
from polyhedral.text.reader import parse

Target = Function | Program
Sizes = Mapping[str, int | None]
"""Sizes by full name (`X.y`) or by dim; None leaves one symbolic."""


def load(text: str) -> Target:
    """The function or program that a target names."""
    where, colon, name = text.rpartition(":")
    if not colon:
        return _poly(Path(text))
    module = _file(Path(where)) if where.endswith(".py") else _module(where)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{where} has no {name!r}{_meant(part, _functions(found))}")
        found = getattr(found, part)
    if isinstance(found, Function | Program):
        return found
    if callable(found):
        raise UsageError(f"{name} in {where} is not compiled: decorate it with @ph.function(...)")
    raise UsageError(f"{name} in {where} is a {type(found).__name__}, not a function or a program")


def _poly(path: Path) -> Program:
    if path.suffix != ".poly":
        raise UsageError(f"{path} is no target: write pkg.mod:fn, file.py:fn or prog.poly")
    try:
        return parse(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _file(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> Any:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} is not a module: write pkg.mod:fn, file.py:fn or prog.poly")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module {error.name!r} here") from None
        raise


def _functions(module: Any) -> list[str]:
    return [n for n, v in cast("dict[str, Any]", vars(module)).items() if isinstance(v, Function | Program)]


def _meant(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(known)}" if known else ""


# --- sizes -----------------------------------------------------------------------------------------------------------


def size_of(text: str) -> tuple[str, int | None]:
    """`X.y=224`, `y=16` or `b=sym`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not (value.strip().isdigit() or value.strip() == "sym"):
        raise UsageError(f"-s {text}: write NAME=INT or NAME=sym, such as X.y=224")
    return name.strip(), None if value.strip() == "sym" else int(value)


def resolved(names: Iterable[str], given: Sizes) -> dict[str, int]:
    """Numbers for the sizes that `given` fixes, by full name or by dim."""
    known = list(names)
    every = {*known, *(n.rpartition(".")[2] for n in known)}
    for n in given:
        if n not in every:
            raise UsageError(f"-s {n}: there is no size {n!r}{_meant(n, sorted(every))}")
    chosen = {n: given.get(n, given.get(n.rpartition(".")[2])) for n in known}
    return {n: v for n, v in chosen.items() if v is not None}


def lowered(
    target: Target,
    sizes: Sizes,
    dtype: str | None = None,
    fixed: Mapping[str, int] | None = None,
    types: Mapping[str, str] | None = None,
    hints: Hints = NO_HINTS,
) -> Lowered:
    """The target scheduled for these sizes; `fixed` are further sizes by full name, `types` are by argument."""
    if dtype is not None and dtype not in BY_NAME:
        raise UsageError(f"--dtype {dtype}: element types are {', '.join(BY_NAME)}")
    if isinstance(target, Program):
        if dtype is not None:
            raise UsageError("--dtype: a .poly program states its element types itself")
        known = resolved(target.sizes, sizes) | dict(fixed or {})
        return lower_program(target, known, session.current().options(), hints)
    return _lowered(target, {**sizes, **(fixed or {})}, sizes, dtype, types or {}, hints)


def _lowered(
    f: Function, sizes: Sizes, given: Sizes, dtype: str | None, types: Mapping[str, str], hints: Hints
) -> Lowered:
    bound = f.arguments.bound
    arrays = {p.name: p.axes for p in f.parameters if p.axes is not None and p.name not in bound}
    plain = [p.name for p in f.parameters if p.size]
    resolved([*plain, *(f"{n}.{d}" for n, axes in arrays.items() for d in axes)], given)
    known = {n: dtype or types.get(n) for n in arrays}
    specs: dict[str, Any] = {n: f"{known[n]}[{', '.join(axes)}]" for n, axes in arrays.items() if known[n] is not None}
    return f.lower(sizes={n: symbolic if v is None else v for n, v in sizes.items()}, hints=hints, **specs)


def in_order(target: Target, sizes: Sizes, dtype: str | None, file: Path) -> Lowered:
    """The target in the order that a file states, at its sizes unless others are given.  UsageError where the file
    cannot be read; errors of `ph.hints().schedule` for what it holds.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--schedule {file}: {getattr(error, 'strerror', None) or error}") from None
    known: Sizes = {} if sizes else read(text).sizes
    mine = {n: v for n, v in known.items() if (n in target.sizes if isinstance(target, Program) else _takes(target, n))}
    return lowered(target, {**sizes, **mine}, dtype, hints=NO_HINTS.schedule(text))


def _takes(f: Function, size: str) -> bool:
    """Whether a size is one of the arguments'; those of a function that a file knows of another need not be."""
    array, _, dim = size.rpartition(".")
    return any((p.size and p.name == size) or (p.name == array and dim in (p.axes or ())) for p in f.parameters)


def example_sizes(low: Lowered) -> dict[str, int]:
    """Small sizes for those that are still symbolic, chosen so that every condition on them holds."""
    program = low.module.program
    conditions = (*program.assumptions, *(p.condition for p in low.module.checked.preconditions))
    fixed = (aff.equal(aff.size(n), v) for n, v in low.sizes.items() if n in program.sizes)
    free = [n for n in program.sizes if n not in low.sizes]
    space = named((), program.sizes, aff.both(*conditions, *fixed))
    found = space.sample([dict.fromkeys(free, 8), dict.fromkeys(free, 4), dict.fromkeys(free, 1), {}])
    if found is None:
        raise ArgumentError("PH102", f"no sizes satisfy the conditions of {program.name}", hints=("give them with -s",))
    return {n: found[n] for n in program.sizes}


def dense_specs(low: Lowered, sizes: Mapping[str, int]) -> dict[str, Spec]:
    """The arguments as dense arrays of these sizes."""
    p = low.module.program
    return {
        a.name: dense(
            a.dtype, low.specs[a.name].axes, tuple(aff.evaluate(a.extent(d), {}, sizes) for d in low.specs[a.name].axes)
        )
        for a in p.with_role(Role.INPUT, Role.INOUT)
    }
