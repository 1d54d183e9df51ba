# SPDX-License-Identifier: MIT
"""Programs from text (`.poly`): a recursive-descent parser; `polyhedral.text.printer` shows the grammar by example.

Nothing of the text is evaluated, and what does not parse is shown with its place and what was expected (PH060).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from polyhedral.errors import DomainError, SyntaxProblem
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.dtypes import BY_NAME, DType, i64
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement
from polyhedral.sets.isl import named
from polyhedral.text.printer import ACCUMULATE, PRECEDENCE, RESERVED, ROLES, expected_types, sizes_in_extents
from polyhedral.text.tokens import HINT, Cursor, Token, place_of, tokenize

DEPTH = 200
"""Deepest expression that is read."""
_T = TypeVar("_T")


def parse(text: str, file: str = "<text>") -> Program:
    """The program that a text describes."""
    if not isinstance(cast("object", text), str):
        raise SyntaxProblem("PH060", f"a program is text, not a {type(text).__name__}", hints=(HINT,))
    return _Parser(file, text, tokenize(file, text)).program()


@dataclass
class _Parser(Cursor):
    """A cursor, and the declarations read so far; `implied` are dims left out of accesses."""

    arrays: dict[str, Array] = field(default_factory=dict[str, Array])
    implied: dict[str, Token] = field(default_factory=dict[str, Token])

    # --- program

    def program(self) -> Program:
        self.need("program")
        title = self.name().text
        if self.take("sizes"):
            self.sizes = tuple(t.text for t in self.list_of(self.name, ROLES))
        while self.is_(*ROLES):
            first = self.tokens[self.at + 1]
            a = self.array()
            if a.name in self.arrays:
                self.fail("an array with another name", first)
            self.arrays[a.name] = a
        arrays = tuple(self.arrays.values())
        self.sizes = self.sizes if self.sizes is not None else tuple(dict.fromkeys(sizes_in_extents(arrays)))
        assumptions: list[Condition] = []
        while self.take("assume"):
            condition = self.scoped(self.condition)
            assumptions.append(aff.map_affine(condition, self.resolver(())))
        statements: list[Statement] = []
        while self.token.kind != "end":
            statements.append(self.scoped(lambda: self.statement(len(statements))))
        return Program(title, self.sizes, arrays, tuple(statements), tuple(assumptions))

    def scoped(self, part: Callable[[], _T]) -> _T:
        self.names, self.implied = {}, {}
        return part()

    def resolver(self, dims: Iterable[str]) -> Callable[[Affine], Affine]:
        """Names are read as dims; those that are no dims are sizes, or unknown."""
        have = set(dims)
        for d, token in self.implied.items():
            if d not in have:
                self.unknown(replace(token, text=d), have, "dim of this statement (left out of an access)")
        for n, token in self.names.items():
            if n not in have and self.sizes is not None and n not in self.sizes:
                self.unknown(token, have | set(self.sizes) | set(self.arrays), "dim or size")
        sizes = {n: aff.size(n) for n in self.names if n not in have}
        return lambda e: aff.substitute(e, sizes)

    def array(self) -> Array:
        role = Role(self.need(*ROLES))
        own = self.name("an array's name").text
        self.need(":")
        dtype = self.dtype()
        dims: list[tuple[str, Affine]] = []
        if self.take("["):
            dims = self.list_of(lambda: self.scoped(lambda: self.array_dim(own)), ("]",))
            self.need("]")
        data = None
        if self.take("="):
            self.need("(")
            data = tuple(_converted(v, dtype) for v in self.list_of(self.signed, (")",)))
            self.need(")")
        return Array(own, tuple(dims), dtype, role, data)

    def array_dim(self, own: str) -> tuple[str, Affine]:
        d = self.name("a dim").text
        if not self.take(":"):
            return d, aff.size(f"{own}.{d}")
        extent = self.affine()
        return d, self.resolver(())(extent)

    def dtype(self) -> DType:
        t = self.token
        if t.text not in BY_NAME:
            self.fail("an element type such as f32")
        self.at += 1
        return BY_NAME[t.text]

    # --- statements

    def statement(self, number: int) -> Statement:
        first = self.token
        label = self.name("a statement").text
        self.need(":")
        headed = self.is_("for", "at", "strict", "accumulate")
        domain = self.domain() if self.take("for") else Domain()
        position: tuple[int | str, ...] = (number,)
        if self.take("at"):
            self.need("(")
            position = tuple(self.list_of(self.place, (")",)))
            self.need(")")
        flags = set[str]()
        while flag := self.take("strict", "accumulate"):
            flags.add(flag)
        if headed:
            self.need(":")
        array, index = self.access(gather=False)
        op, accumulate = self.operator()
        if op is not None and self.take("["):
            domain = self.reduced(domain)
        value = self.typed(self.shallow(self.value()), array.dtype)
        one = self.resolver(domain.dims)
        sizes = {n: aff.size(n) for n in self.names if n not in domain.dims}
        where = place_of(self.file, self.text, first.at, len(first.text))
        return Statement(
            label,
            Domain(tuple(Range(r.dim, one(r.lo), one(r.hi)) for r in domain.ranges), aff.map_affine(domain.guard, one)),
            Access(array.name, tuple((d, one(i)) for d, i in index)),
            ex.substitute(value, sizes),
            op,
            accumulate or "accumulate" in flags,
            "strict" in flags,
            position,
            where,
        )

    def place(self) -> int | str:
        if self.token.kind == "number" and self.token.text.isdigit():
            return int(self.advance())
        return self.name("a number or a dim").text

    def domain(self) -> Domain:
        if self.take("{"):
            dims = [t.text for t in self.list_of(self.name, (":", "}"))]
            c = self.condition() if self.take(":") else aff.TRUE
            self.need("}")
            return domain_of(dims, aff.map_affine(c, self.resolver(dims)))
        ranges = [] if self.is_("if") else self.list_of(self.range, (":",))
        return Domain(tuple(ranges), self.condition() if self.take("if") else aff.TRUE)

    def range(self) -> Range:
        if self.ahead("<"):
            d = self.name().text
            self.need("<")
            return Range(d, aff.const(0), self.affine())
        lo = self.affine()
        self.need("<=")
        d = self.name("a dim").text
        self.need("<")
        return Range(d, lo, self.affine())

    def reduced(self, domain: Domain) -> Domain:
        """The inside of `sum[...]`: further ranges, or dims that the head has named already."""
        more: list[Range] = []
        while not self.is_("]", "if"):
            if self.ahead(",", "]", "if"):
                t = self.name()
                if t.text not in domain.dims:
                    self.unknown(t, domain.dims, "dim of this statement")
            else:
                more.append(self.range())
            if not self.take(","):
                break
        guard = self.condition() if self.take("if") else aff.TRUE
        self.need("]")
        return Domain((*domain.ranges, *more), aff.both(domain.guard, guard))

    def operator(self) -> tuple[str | None, bool]:
        """(reduction, accumulate) of `=`, `= sum[...]`, `+= sum[...]`, `+=`, `max=` and the like."""
        assigned = None
        for op, sign in ACCUMULATE.items():
            if self.is_(sign) or (self.is_(op) and self.tokens[self.at + 1].text == "="):
                self.at += 1 if self.is_(sign) else 2
                assigned = op
                break
        else:
            self.need("=")
        if self.is_(*ex.REDUCTIONS) and self.tokens[self.at + 1].text == "[":
            op = self.advance()
            if assigned not in (None, op):
                self.fail(f"{assigned!r}, as in the assignment", self.tokens[self.at - 1])
            return op, assigned is not None
        return assigned, assigned is not None

    def access(self, gather: bool) -> tuple[Array, tuple[tuple[str, Any], ...]]:
        t = self.name("an array")
        a = self.arrays.get(t.text) or self.unknown(t, self.arrays, "array")
        given: dict[str, Affine | ex.Expr] = {}

        def entry() -> None:
            d = self.name("a dim")
            if d.text not in a.dim_names:
                self.unknown(d, a.dim_names, f"dim of {a.name}")
            if d.text in given:
                self.fail("each dim once", d)
            gathers = gather and self.take(":=")
            if not gathers:
                self.need("=")
            given[d.text] = self.value() if gathers else self.affine()

        if self.take("("):
            self.list_of(entry, (")",))
            self.need(")")
        for d in a.dim_names:
            if d not in given:
                self.implied.setdefault(d, t)
        return a, tuple((d, given.get(d, aff.var(d))) for d in a.dim_names)

    # --- values

    def value(self, least: int = 0) -> ex.Expr:
        """Precedence climbing; `typed` gives literals their types afterwards."""
        left = self.deeper(self.unary)
        while self.token.kind in ("op", "name") and (p := PRECEDENCE.get(self.token.text, -1)) >= max(least, 1):
            if self.token.text == "not":
                break
            op = self.advance()
            left = ex.Binary(op, left, self.value(p if op == "**" else p + 1))
            if op in ex.COMPARISONS and self.is_(*ex.COMPARISONS):
                self.fail("parentheses around a comparison of comparisons")
        return left

    def unary(self) -> ex.Expr:
        if self.take("not"):
            return ex.Unary("not", self.value(PRECEDENCE["not"]))
        if self.is_("-") and (self.tokens[self.at + 1].kind == "number" or self.tokens[self.at + 1].text == "inf"):
            start = self.at
            literal = self.constant(self.signed())
            if not self.is_("**"):
                return literal
            self.at = start
        if op := self.take("-", "~"):
            return ex.Unary(op, self.value(PRECEDENCE["**"]))
        return self.atom()

    def atom(self) -> ex.Expr:
        t = self.token
        if t.kind == "number" or self.is_("nan", "inf", "true", "false", "complex"):
            return self.constant(self.signed())
        if self.take("("):
            inner = self.value()
            self.need(")")
            return inner
        if self.take("{"):
            index = self.affine()
            self.need("}")
            return ex.Index(index, self.dtype() if self.take(":") else i64)
        if self.take("["):
            test = ex.Test(self.condition())
            self.need("]")
            return test
        if t.kind == "name" and t.text in RESERVED:
            return self.call()
        if t.text in self.arrays:
            a, index = self.access(gather=True)
            return ex.Load(a.name, index, a.dtype)
        t = self.name("a value")
        self.names.setdefault(t.text, t)
        return ex.Index(aff.var(t.text), i64)

    def call(self) -> ex.Expr:
        t = self.token
        self.at += 1
        arity = {"where": 3, "min": 2, "max": 2, **ex.ARITY}.get(t.text, 1)
        if t.text not in ("where", "min", "max", "abs", *ex.CALLS, *BY_NAME):
            self.fail("a value", t)
        self.need("(")
        args = self.list_of(self.value, (")",))
        self.need(")")
        if len(args) != arity:
            self.fail(f"{arity} argument{'s' * (arity > 1)}", t)
        match t.text:
            case "where":
                cond, then, other = args
                return ex.Select(cond, then, other)
            case "min" | "max":
                return ex.Binary(t.text, *args)
            case "abs":
                return ex.Unary("abs", args[0])
            case _ if t.text in BY_NAME:
                return ex.Cast(BY_NAME[t.text], args[0])
            case _:
                return ex.Call(t.text, tuple(args))

    def constant(self, value: Any) -> ex.Expr:
        dtype = self.dtype() if self.take(":") else None
        if dtype is None:
            return ex.Const(value, cast("DType", None))  # until `typed` gives it one
        return ex.Const(_converted(value, dtype), dtype)

    def signed(self) -> bool | int | float | complex:
        """A literal; a sign belongs to it."""
        sign = -1 if self.take("-") else 1
        if self.token.kind == "number":
            text = self.advance()
            return sign * (int(text) if text.isdigit() else float(text))
        match self.take("nan", "inf", "true", "false", "complex"):
            case "nan":
                return math.nan
            case "inf":
                return sign * math.inf
            case "complex":
                self.need("(")
                parts = cast("list[float]", self.list_of(self.signed, (")",)))
                self.need(")")
                return complex(*parts[:2])
            case None:
                self.fail("a literal")
            case word:
                return word == "true"

    def shallow(self, e: ex.Expr) -> ex.Expr:
        level, depth = [e], 0
        while level:
            level, depth = [c for node in level for c in ex.children(node)], depth + 1
        if depth > DEPTH:
            self.fail(f"at most {DEPTH} levels of nesting", self.tokens[self.at - 1])
        return e

    def typed(self, e: ex.Expr, expected: DType | None) -> ex.Expr:
        """Give the literals without a type the type that is expected of them."""
        if isinstance(e, ex.Const):
            if cast("DType | None", e.dtype) is not None:  # the parser's literals have none at first
                return e
            if expected is None:
                self.fail("a typed literal such as 1.0:f32", self.tokens[self.at - 1])
            return ex.Const(_converted(e.value, expected), expected)
        below = zip(ex.children(e), expected_types(e, expected), strict=True)
        return ex.with_children(e, tuple(self.typed(c, t) for c, t in below))


def _converted(value: Any, dtype: DType) -> Any:
    """A literal in the Python form of a type."""
    if dtype.kind == "c":
        return complex(value)
    if dtype.kind == "f" and not isinstance(value, complex):
        return float(value)
    return value


# --- domains from constraints ----------------------------------------------------------------------------------------


def domain_of(dims: Iterable[str], condition: Condition) -> Domain:
    """Ranges and guard of a set of points: the first bounds written for each dim, or its hull in terms of the sizes."""
    dims = tuple(dims)
    parts = list(aff.conjuncts(condition))
    ranges: list[Range] = []
    for k, d in enumerate(dims):
        inner = set(dims[k + 1 :])
        lo = _bound(parts, d, inner, 1)
        hi = _bound(parts, d, inner, -1)
        if lo is None or hi is None:
            lower, upper = _hull(dims, condition, d)
            lo, hi = lower if lo is None else lo, upper if hi is None else hi
        ranges.append(Range(d, lo, hi))
    return Domain(tuple(ranges), aff.both(*parts))


def _bound(parts: list[Condition], d: str, inner: set[str], sign: int) -> Affine | None:
    """Take the first conjunct `d >= e` (sign 1) or `d < e` (sign -1) over outer dims out of `parts`; return e."""
    for c in parts:
        if isinstance(c, aff.Compare) and not c.equal and c.expr.coefficient(aff.Var(d)) == sign:
            rest = c.expr - aff.var(d) * sign
            if not aff.dims_of(rest) & {d, *inner}:
                parts.remove(c)
                return -rest if sign > 0 else rest + 1
    return None


def _hull(dims: tuple[str, ...], condition: Condition, d: str) -> tuple[Affine, Affine]:
    low, high = named(dims, (), condition).bounds(d)
    if len(low) != 1 or len(high) != 1:
        raise DomainError("PH110", f"nothing bounds dimension {d}", hints=(f"write 0 <= {d} < N",), dim=d)
    return low[0][1], high[0][1] + 1
