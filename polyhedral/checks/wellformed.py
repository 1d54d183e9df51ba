# SPDX-License-Identifier: MIT
"""Is this a program at all: names, dims, sizes and types, before any reasoning about sets.

`polyhedral.checks.check` runs it first; everything after it may take these facts for granted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from polyhedral.errors import ArgumentError, DimError, DomainError, DtypeError, UserError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.dtypes import DType, bool_
from polyhedral.ir.program import Array, Program, Role, Statement


def require_wellformed(p: Program) -> None:
    """Raise the first error found, in textual order."""
    for kind, names in (
        ("array", [a.name for a in p.arrays]),
        ("statement", [s.name for s in p.statements]),
        ("size", p.sizes),
    ):
        _distinct(kind, names, p.name)
    for a in p.arrays:
        _array(p, a)
    for c in p.assumptions:
        _known(aff.condition_dims(c), (), f"{p.name}: assumption {c}", "dim")
        _known(aff.condition_sizes(c), p.sizes, f"{p.name}: assumption {c}", "size")
    arrays = {a.name: a for a in p.arrays}
    for s in p.statements:
        _domain(p, s)
        _write(s, arrays)
        _value(p, s, arrays)


def _near(name: str, known: Iterable[str]) -> tuple[str, ...]:
    found = difflib.get_close_matches(name, sorted(known), 1)
    return (f"did you mean {found[0]!r}?",) if found else (f"known: {', '.join(sorted(known)) or 'none'}",)


def _known(names: Iterable[str], known: Iterable[str], where: str, what: str, s: Statement | None = None) -> None:
    for n in sorted(set(names) - set(known)):
        raise DimError(
            "PH001",
            f"{where}: no {what} is named {n!r}",
            hints=_near(n, known),
            dim=n,
            statement=s.name if s else None,
            location=s.location if s else None,
        )


def _distinct(kind: str, names: Iterable[str], where: str, s: Statement | None = None) -> None:
    seen: set[str] = set()
    for n in names:
        if n in seen:
            raise DimError(
                "PH002",
                f"{where}: two {kind}s are named {n!r}",
                hints=("rename one of them",),
                dim=n,
                statement=s.name if s else None,
                location=s.location if s else None,
            )
        seen.add(n)


def _array(p: Program, a: Array) -> None:
    _distinct("dim", a.dim_names, f"array {a.name}")
    for d, e in a.dims:
        _known(aff.dims_of(e), (), f"extent {a.name}.{d}", "size")
        _known(aff.sizes_of(e), p.sizes, f"extent {a.name}.{d}", "size")
    if (a.data is not None) != (a.role is Role.CONSTANT):
        raise ArgumentError(
            "PH315", f"array {a.name}: only constants have data", hints=("give data to constants only",)
        )
    if a.data is not None and all(e.is_const for _, e in a.dims):
        wanted = 1
        for _, e in a.dims:
            wanted *= max(e.const, 0)
        if len(a.data) != wanted:
            raise ArgumentError(
                "PH315", f"constant {a.name} has {len(a.data)} values for {wanted} cells", hints=("give one per cell",)
            )


def _domain(p: Program, s: Statement) -> None:
    where = f"statement {s.name}"
    _distinct("dim", s.dims, where, s)
    outer: list[str] = []
    for r in s.domain.ranges:
        for e in (r.lo, r.hi):
            _known(aff.dims_of(e), outer, f"{where}: range {r}", "outer dim", s)
            _known(aff.sizes_of(e), p.sizes, f"{where}: range {r}", "size", s)
        outer.append(r.dim)
    _known(aff.condition_dims(s.domain.guard), s.dims, f"{where}: condition {s.domain.guard}", "dim", s)
    _known(aff.condition_sizes(s.domain.guard), p.sizes, f"{where}: condition {s.domain.guard}", "size", s)
    _known(s.ordered, s.dims, f"{where}: position", "dim", s)
    _distinct("ordered dim", s.ordered, where, s)


def _index(a: Array, index: Iterable[tuple[str, object]], s: Statement) -> None:
    dims = [d for d, _ in index]
    _known(dims, a.dim_names, f"statement {s.name}: {a.name}", "dim", s)
    if tuple(dims) != a.dim_names:
        missing = ", ".join(d for d in a.dim_names if d not in dims) or "none"
        raise DimError(
            "PH001",
            f"statement {s.name}: {a.name} needs one index for each of {', '.join(a.dim_names)}; missing: {missing}",
            hints=("give one index for each dim, in the order of the array's dims",),
            statement=s.name,
            location=s.location,
        )


def _affine(p: Program, s: Statement, e: Affine, shown: str) -> None:
    _known(aff.dims_of(e), s.dims, f"statement {s.name}: {shown}", "dim of this statement", s)
    _known(aff.sizes_of(e), p.sizes, f"statement {s.name}: {shown}", "size", s)


def _write(s: Statement, arrays: dict[str, Array]) -> None:
    _known((s.write.array,), arrays, f"statement {s.name}", "array", s)
    a = arrays[s.write.array]
    _index(a, s.write.index, s)
    if a.role in (Role.INPUT, Role.CONSTANT):
        raise ArgumentError(
            "PH310",
            f"statement {s.name} assigns {a.name}, which is {a.role.value}",
            hints=(f'declare it inout="{a.name}" or write another array',),
            statement=s.name,
            location=s.location,
        )
    for problem, hint in _reduction(s, a):
        raise DomainError("PH121", problem, hints=(hint,), statement=s.name, location=s.location)


def _reduction(s: Statement, a: Array) -> Iterator[tuple[str, str]]:
    if s.op is not None and s.op not in ex.REDUCTIONS:
        yield f"statement {s.name}: no reduction is named {s.op!r}", f"known: {', '.join(ex.REDUCTIONS)}"
    if s.accumulate and (s.op is None or a.role is not Role.INOUT):
        yield (
            f"statement {s.name} accumulates into {a.name}, which is not inout",
            "make it inout, or sum in one equation",
        )
    hidden = set(s.reduced)
    if hidden & set(s.ordered) and not s.accumulate:
        both = ", ".join(sorted(hidden & set(s.ordered)))
        yield f"statement {s.name} reduces over {both} and also loops over it in order", "accumulate (+=) in a loop"
    for r in s.domain.ranges:
        inner = (aff.dims_of(r.lo) | aff.dims_of(r.hi)) & hidden
        if r.dim not in hidden and inner:
            yield (
                f"statement {s.name}: the range of {r.dim} depends on {min(inner)}, which is reduced",
                "swap the ranges",
            )


# --- values ----------------------------------------------------------------------------------------------------------


def _value(p: Program, s: Statement, arrays: dict[str, Array]) -> None:
    a = arrays[s.write.array]
    for _, i in s.write.index:
        _affine(p, s, i, str(s.write))
    _leaves(p, s, arrays)
    for e in reversed(list(ex.walk(s.value))):
        problem = next(_ill_typed(e), None)
        if problem is not None:
            raise _type(s, problem)
    stored = ex.dtype_of(s.value)
    if stored != a.dtype:
        raise _type(s, f"{a.name} holds {a.dtype}, but the value has type {stored}")
    if s.op in ("any", "all") and stored != bool_:
        raise _type(s, f"{s.op} reduces bool, not {stored}")
    if s.op in ("max", "min") and stored.kind == "c":
        raise _type(s, f"{s.op} of {stored}: complex numbers have no order")


def _leaves(p: Program, s: Statement, arrays: dict[str, Array]) -> None:
    for e in ex.walk(s.value):
        if isinstance(e, ex.Load):
            _load(p, s, e, arrays)
        elif isinstance(e, ex.Index):
            _affine(p, s, e.affine, str(e.affine))
        elif isinstance(e, ex.Test):
            for part in aff.comparisons(e.condition):
                _affine(p, s, part.expr, str(e.condition))


def _load(p: Program, s: Statement, e: ex.Load, arrays: dict[str, Array]) -> None:
    _known((e.array,), arrays, f"statement {s.name}", "array", s)
    _index(arrays[e.array], e.index, s)
    for _, i in e.index:
        if isinstance(i, Affine):
            _affine(p, s, i, e.array)
    if e.dtype != arrays[e.array].dtype:
        raise _type(s, f"{e.array} holds {arrays[e.array].dtype}, but is read as {e.dtype}")


def _type(s: Statement, problem: str) -> UserError:
    return DtypeError(
        "PH301",
        f"statement {s.name}: {problem}",
        hints=("convert with .astype",),
        statement=s.name,
        location=s.location,
    )


def _ill_typed(e: ex.Expr) -> Iterator[str]:
    """What is wrong with the types at one node, if anything."""
    kinds = [ex.dtype_of(c) for c in ex.children(e)]
    match e:
        case ex.Load():
            yield from (f"a gathered index has type {t}, not an integer" for t in kinds if not t.is_integer)
        case ex.Select():
            if kinds[0] != bool_ or kinds[1] != kinds[2]:
                yield f"where takes bool and two values of one type, not {', '.join(map(str, kinds))}"
        case ex.Binary(op):
            if kinds[0] != kinds[1] or not _operand(op, kinds[0].kind):
                yield f"{kinds[0]} {op} {kinds[1]} has no common type"
        case ex.Unary(op):
            if not _single(op, kinds[0]):
                yield f"{op} does not take {kinds[0]}"
        case ex.Call(fn, args):
            yield from _call(fn, kinds, len(args))
        case _:
            pass


def _call(fn: str, kinds: list[DType], count: int) -> Iterator[str]:
    if fn not in ex.CALLS or count != ex.ARITY.get(fn, 1):
        yield f"no function {fn} takes {count} arguments"
    elif kinds[0].kind == "c" and fn in ex.REAL:
        yield f"{fn} takes real numbers, not {kinds[0]}"
    elif fn in (*ex.PARTS, "conj") and kinds[0].kind != "c":
        yield f"{fn} takes complex numbers, not {kinds[0]}"
    elif any(not t.is_float for t in kinds) or len(set(kinds)) != 1:
        yield f"{fn} takes floats of one type, not {', '.join(map(str, kinds))}"


def _single(op: str, t: DType) -> bool:
    if op == "not":
        return t == bool_
    if op == "~":
        return t.is_integer or t == bool_
    return op in ex.UNARY and t != bool_


def _operand(op: str, kind: str) -> bool:
    if op in ex.LOGIC:
        return kind == "b"
    if op == "/":
        return kind in "fc"
    if op == "**":
        return kind in "iufc"
    if op in ("&", "|", "^"):
        return kind in "biu"
    if op in ("<<", ">>"):
        return kind in "iu"
    if op in ("==", "!="):
        return True
    if op in ("+", "*", "-"):
        return kind != "b"
    return kind in "iufb" and op in (*ex.ARITHMETIC, *ex.COMPARISONS)
