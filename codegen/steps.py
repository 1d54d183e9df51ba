# SPDX-License-Identifier: MIT
"""Lane functions: one step of a statement on whole vectors, a scalar argument being a broadcast.

Operations on vectors where C has them, and one loop over the lanes otherwise, which the compiler turns into single
instructions: any reduction operator and any value expression takes this path.  Where operands come from is left to
`codegen.reads`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from codegen import elementary, exponential
from codegen.scalar import STORAGE, bare, literal, value_type
from codegen.spelling import Spelling
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import DType
from polyhedral.ir.operands import fetched
from polyhedral.ir.program import Statement

_IN_REGISTERS = 8
"""Arguments from which on vectors are passed in memory, where GCC 12 does not always look for those of less than their
natural alignment: such a function must be no call.
"""

Names = Mapping[ex.Expr, str]
"""Operands inside a lane function: `a[i]` where lanes differ and `a` where they do not."""


def step_function(c: Spelling, s: Statement, t: DType, parameters: Sequence[str], names: Sequence[Names]) -> str:
    """The name of the function that does one step on values of `t`."""
    (own,) = names
    what = "value" if s.op is None else "step"
    whole = _whole(c, s.op, t, s.value, own)
    body = f"  return {whole};" if whole is not None else _lane_by_lane(c, s, t, own)
    given = parameters if s.op is None else [f"{c.vectors.type(t)} acc", *parameters]
    return _defined(c, f"{c.spell(s.write.array)}_{what}{_kinds(names)}", t, given, body)


def pair_function(c: Spelling, s: Statement, t: DType, parameters: Sequence[str], names: Sequence[Names]) -> str:
    """The name of the function that does two steps of a minimum or maximum."""
    assert s.op is not None
    values = [bare(v) for own in names if (v := _vector(c, s.value, t, own)) is not None]
    body = f"  return {c.vectors.extreme_of_three(s.op, t)}(acc, {', '.join(values)});"
    given = [f"{c.vectors.type(t)} acc", *parameters]
    return _defined(c, f"{c.spell(s.write.array)}_steps{_kinds(names)}", t, given, body)


def values_function(c: Spelling, s: Statement, t: DType, parameters: Sequence[str], names: Sequence[Names]) -> str:
    """The name of a function that makes several values; all of them of one exponential before the next."""
    vector, all_of = c.vectors.type(t), c.vectors.exponentials(t, len(names))
    own = [dict(n) for n in names]
    lines: list[str] = []
    for k, e in enumerate(_exponentials(s.value, own[0])):
        given = ", ".join(bare(_known(c, e.args[0], t, n)) for n in own)
        lines += [f"  {vector} e{k}[{len(own)}] = {{{given}}};", f"  {all_of}(e{k});"]
        for j, n in enumerate(own):
            n[e] = f"e{k}[{j}][i]"
    lines += [f"  made[{j}] = {bare(_known(c, s.value, t, n))};" for j, n in enumerate(own)]
    name = f"{c.spell(s.write.array)}_values{_kinds(names)}"
    return _defined(c, name, t, [f"{vector} *made", *parameters], "\n".join(lines), result="void", inlined=True)


def several(c: Spelling, s: Statement, t: DType, most: int) -> int:
    """How many of a statement's values are best made at once, `most` of them at most."""
    names = {o: "a[i]" for o in fetched(s.value)}
    found = _exponentials(s.value, names) and whole_value(c, s.value, t)
    return next((n for n in (4, 2) if n <= most and found and c.vectors.exponentials(t, n)), 1)


def _exponentials(e: ex.Expr, names: Names) -> list[ex.Call]:
    """The exponentials of a value, each once and after those that it needs."""
    if e in names:
        return []
    own = [e] if isinstance(e, ex.Call) and e.fn == "exp" else []
    return list(dict.fromkeys([x for part in ex.children(e) for x in _exponentials(part, names)] + own))


def _known(c: Spelling, e: ex.Expr, t: DType, names: Names) -> str:
    """What is known to have operations on whole vectors."""
    text = _vector(c, e, t, names)
    assert text is not None
    return text


def whole_value(c: Spelling, value: ex.Expr, t: DType) -> bool:
    """Whether C has operations on whole vectors for a value."""
    return _vector(c, value, t, {o: "a[i]" for o in fetched(value)}) is not None


def _kinds(names: Sequence[Names]) -> str:
    kinds = "".join("v" if n.endswith("[i]") else "s" for own in names for n in own.values())
    return f"_{kinds}" if "s" in kinds or "v" not in kinds else ""


def _defined(
    c: Spelling, name: str, t: DType, parameters: Sequence[str], body: str, result: str = "", *, inlined: bool = False
) -> str:
    """The name of a function that is defined so, a new one if another has this."""
    how = "static inline" + " __attribute__((always_inline))" * (inlined or len(parameters) > _IN_REGISTERS)
    text = f"{how} {result or c.vectors.type(t)} {name}({', '.join(parameters) or 'void'}) {{\n{body}\n}}"
    while name in c.vectors.functions and c.vectors.functions[name] != text:
        text = text.replace(f" {name}(", f" {name}_(")
        name += "_"
    c.vectors.functions[name] = text
    return name


def _lane_by_lane(c: Spelling, s: Statement, t: DType, names: Names) -> str:
    """The step as a loop over the lanes."""
    scalar = replace(c.scalar, names=dict(names))
    if s.op is None:
        start, step = f"  {c.vectors.type(t)} acc;\n", bare(scalar.value(s.value))
    else:
        start, step = "", scalar.step(s.op, t, "acc[i]", s.value, strict=s.strict)
    return f"{start}  for (int i = 0; i < {c.vectors.lanes}; ++i) acc[i] = {step};\n  return acc;"


def _whole(c: Spelling, op: str | None, t: DType, value: ex.Expr, names: Names) -> str | None:
    """The step as operations on whole vectors, where C has them: sums, products, minima and maxima of one type."""
    if value_type(t) != STORAGE[t.name]:
        return None
    if op == "sum" and t.is_float and isinstance(value, ex.Binary) and value.op == "*" and value not in names:
        a, b = (_vector(c, v, t, names) for v in (value.lhs, value.rhs))
        return None if a is None or b is None else f"{c.vectors.fma(t)}({bare(a)}, {bare(b)}, acc)"
    if isinstance(value, ex.Select) and value.eager and op is not None:
        step = _whole(c, op, t, value.then, names)
        return None if step is None else _chosen(c, t, names[value.cond], f"({step})", "acc")
    new = _vector(c, value, t, names)
    if op is None:
        return None if new is None else bare(new)
    return None if new is None else bare(c.vectors.combined(ex.REDUCTIONS[op], t, "acc", new))


def _chosen(c: Spelling, t: DType, test: str, a: str, b: str) -> str:
    """One vector where a test holds and another elsewhere, in each lane or in all."""
    if not test.endswith("[i]"):
        return f"{test} ? ({c.vectors.type(t)}){a} : {b}"
    return f"{c.vectors.choose(t)}({test.removesuffix('[i]')}, {bare(a)}, {bare(b)})"


def _vector(c: Spelling, e: ex.Expr, t: DType, names: Names) -> str | None:
    """A value in all lanes; `x - zero` spreads a scalar without touching its sign."""
    if ex.dtype_of(e) != t:
        return None
    spread = f" - ({c.vectors.type(t)}){{0}})"
    if e in names:
        name = names[e]
        return name.removesuffix("[i]") if name.endswith("[i]") else f"({name}{spread}"
    match e:
        case ex.Const(v, _):
            return f"({literal(v, t)}{spread}"
        case ex.Binary(op, lhs, rhs) if op in ("+", "-", "*", "min", "max") or (op == "/" and t.is_float):
            a, b = _vector(c, lhs, t, names), _vector(c, rhs, t, names)
            return None if a is None or b is None else c.vectors.combined(op, t, a, b)
        case ex.Call("muladd", args) if t.is_float:
            parts = [_vector(c, v, t, names) for v in args]
            known = [bare(v) for v in parts if v is not None]
            return f"{c.vectors.fma(t)}({', '.join(known)})" if len(known) == len(parts) else None
        case ex.Call(fn, args) if t.is_float and fn in elementary.VECTORS:
            given = [_vector(c, v, t, names) for v in args]
            found = [bare(v) for v in given if v is not None]
            c.scalar.used.add(exponential.SCALAR if fn == "exp" and t.bits == 32 else "VECTOR_LIBRARY")
            return f"{c.vectors.elementary(fn, t)}({', '.join(found)})" if len(found) == len(given) else None
        case ex.Unary("-", arg) if t.is_float:
            a = _vector(c, arg, t, names)
            return None if a is None else f"(-{a})"
        case _:
            return None
