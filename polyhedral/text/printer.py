# SPDX-License-Identifier: MIT
"""Programs as text (`.poly`): printing; `polyhedral.text.reader` reads it back exactly.

    program conv
      input  X: f32[c, y, x]                    a dim alone has the size named after it: c: X.c
      input  W: f32[o, c: X.c, ky, kx]
      output out: f32[o: W.o, y: (X.y - W.ky)//2 + 1]
      S0: for o < W.o, y < (X.y - W.ky)//2 + 1:
        out = sum[c < X.c, ky < W.ky if y <= c] X(y=2*y + ky, x=0) * W(kx=0)

Accesses omit the dims that are read at themselves.  In values `{2*y + 1}` is an index used as a number, `[i <= j]` an
affine condition, `X(i := e)` a data-dependent index; a literal has the type of its surroundings or says it (`1.0:f32`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import assert_never

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, And, Compare, Condition, Floor, Not, Or, Size, Var
from polyhedral.ir.dtypes import BY_NAME, DType, i64
from polyhedral.ir.program import Access, Array, Program, Range, Statement, require_program

ROLES = ("input", "output", "inout", "temporary", "constant")
RESERVED = frozenset(
    (
        "program", "sizes", "assume", "for", "if", "at", "strict", "accumulate", "where", "and", "or", "not", "abs",
        "min", "max", "true", "false", "nan", "inf", "complex", *ROLES, *ex.REDUCTIONS, *ex.CALLS, *BY_NAME,
    )
)  # fmt: skip
NAME = r"[^\W\d]\w*'*(?:\.[^\W\d]\w*'*)*"
_PLAIN = re.compile(NAME)

PRECEDENCE = {
    "or": 1, "and": 2, "not": 3, "<": 4, "<=": 4, "==": 4, "!=": 4, ">": 4, ">=": 4, "|": 5, "^": 6, "&": 7, "<<": 8,
    ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "//": 10, "%": 10, "**": 12,
}  # fmt: skip
SIGN, ATOM = 11, 13
ACCUMULATE = {"sum": "+=", "prod": "*=", "max": "max=", "min": "min=", "any": "any=", "all": "all="}


def to_text(program: Program) -> str:
    """The program as text, ending in a newline."""
    require_program(program, "ph.to_text")
    arrays = frozenset(a.name for a in program.arrays)
    lines = [f"program {name(program.name)}"]
    if program.sizes != tuple(dict.fromkeys(sizes_in_extents(program.arrays))):
        lines.append(f"  sizes {', '.join(map(name, program.sizes))}".rstrip())
    lines += [f"  {_array(a)}" for a in program.arrays]
    lines += [f"  assume {_Scope(arrays).condition(c)}" for c in program.assumptions]
    for i, s in enumerate(program.statements):
        lines += [f"  {line}" for line in _Scope(arrays, frozenset(s.dims), program).statement(s, i)]
    return "\n".join(lines) + "\n"


def value_text(e: ex.Expr, dims: Iterable[str] = ()) -> str:
    """An expression alone, as it stands in a program of these dims."""
    return _Scope(frozenset(), frozenset(dims)).expr(e, i64)[0]


def affine_text(e: Affine, dims: Iterable[str] = ()) -> str:
    """An index expression alone, as it stands in a statement of these dims."""
    return _Scope(frozenset(), frozenset(dims)).affine(e)


def name(text: str) -> str:
    """A name as it stands in the text: plain, or between backticks."""
    if _PLAIN.fullmatch(text) and text not in RESERVED:
        return text
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`").replace("\n", "\\n") + "`"


def sizes_in_extents(arrays: tuple[Array, ...]) -> Iterator[str]:
    """The sizes that extents mention, in order of appearance: those a text need not declare."""

    def leaves(e: Affine) -> Iterator[str]:
        for term, _ in e.terms:
            match term:
                case Floor(arg, _):
                    yield from leaves(arg)
                case Size(n):
                    yield n
                case Var():
                    pass

    for a in arrays:
        for _, extent in a.dims:
            yield from leaves(extent)


def natural_type(e: ex.Expr) -> DType | None:
    """The type that an expression has without its literals, which take theirs from it; None for literals only."""
    match e:
        case ex.Const():
            return None
        case ex.Unary(op, arg) if op != "not":
            return natural_type(arg)
        case ex.Binary(op, lhs, rhs) if op not in ex.COMPARISONS and op not in ex.LOGIC:
            return natural_type(lhs) or natural_type(rhs)
        case ex.Call(fn, args) if fn not in (*ex.TESTS, *ex.PARTS):
            return next((t for t in map(natural_type, args) if t), None)
        case ex.Select(_, then, other):
            return natural_type(then) or natural_type(other)
        case _:
            return ex.dtype_of(e)


def expected_types(e: ex.Expr, expected: DType | None) -> tuple[DType | None, ...]:
    """What the literals directly below a node are expected to be."""
    bool_ = BY_NAME["bool"]
    match e:
        case ex.Binary(op, lhs, rhs):
            known = natural_type(lhs) or natural_type(rhs)
            either = bool_ if op in ex.LOGIC else known if op in ex.COMPARISONS else known or expected
            return (either, either)
        case ex.Select(_, then, other):
            branch = natural_type(then) or natural_type(other) or expected
            return (bool_, branch, branch)
        case ex.Unary(op, arg):
            return (bool_ if op == "not" else natural_type(arg) or expected,)
        case ex.Call(fn, args):
            known = next((t for t in map(natural_type, args) if t), None)
            return (known or (None if fn in (*ex.TESTS, *ex.PARTS) else expected),) * len(args)
        case ex.Load():
            return (i64,) * len(ex.children(e))
        case _:
            return (None,) * len(ex.children(e))


def _array(a: Array) -> str:
    own = [name(d) if e == aff.size(f"{a.name}.{d}") else f"{name(d)}: {_Scope().affine(e)}" for d, e in a.dims]
    data = "" if a.data is None else f" = ({', '.join(_literal(v) for v in a.data)})"
    return f"{a.role.value} {name(a.name)}: {a.dtype}[{', '.join(own)}]{data}"


def _literal(value: bool | int | float | complex) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, complex):
        return f"complex({value.real!r}, {value.imag!r})"
    return repr(value)


@dataclass(frozen=True)
class _Scope:
    """What names mean where something is printed."""

    arrays: frozenset[str] = frozenset()
    dims: frozenset[str] = frozenset()
    program: Program | None = None

    def statement(self, s: Statement, number: int) -> Iterator[str]:
        hidden = set(s.reduced)
        tail = len(s.domain.ranges)
        while s.op is not None and tail and s.domain.ranges[tail - 1].dim in hidden:
            tail -= 1
        outer, inner = s.domain.ranges[:tail], s.domain.ranges[tail:]
        guard = "" if s.domain.guard == aff.TRUE else f" if {self.condition(s.domain.guard)}"
        inside = bool(aff.condition_dims(s.domain.guard) & {r.dim for r in inner})
        head = ""
        if outer or (guard and not inside):
            head = f" for {', '.join(map(self.range, outer))}{'' if inside else guard}"
        if s.position != (number,):
            head += f" at ({', '.join(str(p) if isinstance(p, int) else name(p) for p in s.position)})"
        for flag in ("strict", "accumulate"):
            if getattr(s, flag) and not (flag == "accumulate" and s.op):
                head += f" {flag}"
        yield f"{name(s.name)}:{head}{':' if head else ''}"
        yield f"  {self.access(s.write)} {self.equals(s, inner, guard if inside else '')}{self.value(s)}"

    def equals(self, s: Statement, inner: tuple[Range, ...], guard: str) -> str:
        if s.op is None:
            return "= "
        early = [name(d) for d in s.reduced if d not in {r.dim for r in inner}]
        over = f"{s.op}[{', '.join([*early, *map(self.range, inner)])}{guard}] "
        return f"{ACCUMULATE[s.op] if s.accumulate else '='} {over}"

    def value(self, s: Statement) -> str:
        assert self.program is not None
        wanted = next((a.dtype for a in self.program.arrays if a.name == s.write.array), None)
        return self.expr(s.value, wanted)[0]

    # --- affine

    def range(self, r: Range) -> str:
        low = "" if r.lo == Affine() else f"{self.affine(r.lo)} <= "
        return f"{low}{name(r.dim)} < {self.affine(r.hi)}"

    def access(self, a: Access) -> str:
        shown = [f"{name(d)}={self.affine(i)}" for d, i in a.index if i.as_var() != d]
        return name(a.array) + (f"({', '.join(shown)})" if shown else "")

    def term(self, t: Var | Size | Floor) -> str:
        match t:
            case Var(n):
                return name(n)
            case Size(n):
                return f"${name(n)}" if n in self.dims else name(n)
            case Floor(arg, divisor):
                inner = self.affine(arg)
                simple = len(arg.terms) == 1 and not arg.const and arg.terms[0][1] == 1
                return f"{inner if simple else f'({inner})'}//{divisor}"
            case _:
                assert_never(t)

    def affine(self, e: Affine) -> str:
        text = ""
        for t, c in sorted(e.terms, key=lambda tc: (tc[1] < 0, abs(tc[1]) == 1)):
            sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
            shown = self.term(t)
            if abs(c) != 1:
                shown = f"{abs(c)}*{f'({shown})' if isinstance(t, Floor) else shown}"
            elif sign == "-" and isinstance(t, Floor):
                shown = f"({shown})"
            text += sign + shown
        if not text:
            return str(e.const)
        return f"{text} {'-' if e.const < 0 else '+'} {abs(e.const)}" if e.const else text

    def condition(self, c: Condition) -> str:
        match c:
            case Compare(expr, eq):
                more = Affine(tuple((t, k) for t, k in expr.terms if k > 0), max(expr.const, 0))
                less = -Affine(tuple((t, k) for t, k in expr.terms if k < 0), min(expr.const, 0))
                if not eq and more.const == 0 and less.const == 1 and less.terms:
                    return f"{self.affine(less - 1)} < {self.affine(more)}"
                return (
                    f"{self.affine(more)} == {self.affine(less)}"
                    if eq
                    else f"{self.affine(less)} <= {self.affine(more)}"
                )
            case And(args):
                return " and ".join(self.inner(a) for a in args) or "true"
            case Or(args):
                return " or ".join(self.inner(a) for a in args) or "false"
            case Not(arg):
                return f"not ({self.condition(arg)})"
            case _:
                assert_never(c)

    def inner(self, c: Condition) -> str:
        text = self.condition(c)
        return f"({text})" if isinstance(c, And | Or) and len(c.args) > 1 else text

    # --- values

    def expr(self, e: ex.Expr, expected: DType | None) -> tuple[str, int]:
        """(text, precedence)"""
        below = expected_types(e, expected)
        match e:
            case ex.Const(value, dtype):
                text = _literal(value) + ("" if dtype == expected else f":{dtype}")
                return text, SIGN if text.startswith("-") else ATOM
            case ex.Index(a, dtype):
                return self.index(a) + ("" if dtype == i64 else f":{dtype}"), ATOM
            case ex.Test(c):
                return f"[{self.condition(c)}]", ATOM
            case ex.Load():
                return self.load(e), ATOM
            case ex.Unary() | ex.Binary():
                return self.operation(e, below)
            case ex.Call(fn, args):
                return f"{fn}({', '.join(self.expr(a, t)[0] for a, t in zip(args, below, strict=True))})", ATOM
            case ex.Select(cond, then, other):
                parts = zip((cond, then, other), below, strict=True)
                return f"where({', '.join(self.expr(a, t)[0] for a, t in parts)})", ATOM
            case ex.Cast(dtype, arg):
                return f"{dtype}({self.expr(arg, None)[0]})", ATOM
            case _:
                assert_never(e)

    def index(self, a: Affine) -> str:
        match a.terms:
            case ((Var(n), 1),) if a.const == 0 and n not in self.arrays and n in self.dims:
                return name(n)
            case ((Size(n), 1),) if a.const == 0 and n not in self.arrays and n not in self.dims:
                return name(n)
            case _:
                return f"{{{self.affine(a)}}}"

    def load(self, e: ex.Load) -> str:
        shown: list[str] = []
        for d, i in e.index:
            if not isinstance(i, Affine):
                shown.append(f"{name(d)} := {self.expr(i, i64)[0]}")
            elif i.as_var() != d:
                shown.append(f"{name(d)}={self.affine(i)}")
        return name(e.array) + (f"({', '.join(shown)})" if shown else "")

    def operation(self, e: ex.Unary | ex.Binary, below: tuple[DType | None, ...]) -> tuple[str, int]:
        parts = [self.expr(a, t) for a, t in zip(ex.children(e), below, strict=True)]

        def at_least(part: tuple[str, int], least: int) -> str:
            return part[0] if part[1] >= least else f"({part[0]})"

        match e:
            case ex.Unary("abs"):
                return f"abs({parts[0][0]})", ATOM
            case ex.Unary("not"):
                return f"not {at_least(parts[0], PRECEDENCE['not'])}", PRECEDENCE["not"]
            case ex.Unary(op, arg):
                return f"{op}{at_least(parts[0], ATOM + 1 if isinstance(arg, ex.Const) else SIGN)}", SIGN
            case ex.Binary("min" | "max" as op):
                return f"{op}({parts[0][0]}, {parts[1][0]})", ATOM
            case ex.Binary("**"):
                return f"{at_least(parts[0], ATOM)}**{at_least(parts[1], ATOM)}", PRECEDENCE["**"]
            case ex.Binary(op):
                p = PRECEDENCE[op]
                return f"{at_least(parts[0], p + (p == PRECEDENCE['<']))} {op} {at_least(parts[1], p + 1)}", p
            case _:
                assert_never(e)
