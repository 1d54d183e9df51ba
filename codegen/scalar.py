# SPDX-License-Identifier: MIT
"""Scalar expressions in C: one value of one statement instance as text.

Integer arithmetic wraps (it is done unsigned), `//` and `%` floor, minima propagate NaN, narrow floats are computed in
f32 and rounded after each operation.  Addresses come from `codegen.c`, which knows the layouts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from codegen import elementary, exponential
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, And, Compare, Condition, Floor, Not, Or, Size, Var
from polyhedral.ir.dtypes import DType

STORAGE: Mapping[str, str] = {
    "bool": "uint8_t", "i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t", "u8": "uint8_t",
    "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t", "f16": "uint16_t", "bf16": "uint16_t", "f8e4m3": "uint8_t",
    "f8e5m2": "uint8_t", "f32": "float", "f64": "double", "c64": "float _Complex", "c128": "double _Complex",
}  # fmt: skip
_LITERAL = re.compile(r"(?:U?INT64_C\()?(\d+)[u)]?")
NARROW = ("f16", "bf16", "f8e4m3", "f8e5m2")


def value_type(t: DType) -> str:
    """The C type in which values of `t` are computed."""
    return "float" if t.name in NARROW else STORAGE[t.name]


Span = tuple[int | None, int | None]
"""The least and the greatest value that is sure."""
UNKNOWN: Span = (None, None)


@dataclass
class Scalar:
    """Prints expressions of one instance; collects the support functions used."""

    spell: Callable[[str], str]
    load: Callable[[ex.Load, Scalar], str]
    used: set[str] = field(default_factory=set[str])
    names: dict[ex.Expr, str] = field(default_factory=dict[ex.Expr, str])
    site: int = 0  # which statement a failing index is reported for, from 1
    ranges: dict[str, Span] = field(default_factory=dict[str, Span])  # of the loops that are open

    # --- indices and conditions --------------------------------------------------------------------------------------

    def affine(self, e: Affine) -> str:
        text = ""
        for term, c in sorted(e.terms, key=lambda tc: tc[1] < 0):
            match term:
                case Var(name):
                    name = self.spell(name)
                case Size(name):
                    name = self.spell(name)
                case Floor(arg, divisor) if _not_negative(self.span(arg)):  # C rounds to zero
                    inner = self.affine(arg)
                    name = f"{inner if inner.isidentifier() else f'({inner})'} / {divisor}"
                    name = name if e == Affine(((term, 1),), 0) else f"({name})"
                case Floor(arg, divisor):
                    self.used.add("floord")
                    name = f"floord({self.affine(arg)}, {divisor})"
                case _:
                    assert_never(term)
            product = name if abs(c) == 1 else f"{abs(c)} * {name}"
            text += (("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")) + product
        if not text:
            return integer(e.const)
        return text if e.const == 0 else f"{text} {'-' if e.const < 0 else '+'} {integer(abs(e.const))}"

    def span(self, e: Affine) -> Span:
        """What an index is at least and at most in all loops that are open."""
        least: int | None = e.const
        most: int | None = e.const
        for term, c in e.terms:
            match term:
                case Var(name):
                    ends = self.ranges.get(name, UNKNOWN)
                case Size(_):
                    ends = 0, None
                case Floor(arg, divisor):
                    inner = self.span(arg)
                    ends = tuple(None if n is None else n // divisor for n in inner)
                case _:
                    assert_never(term)
            lo, hi = ends if c > 0 else reversed(ends)
            least = None if least is None or lo is None else least + c * lo
            most = None if most is None or hi is None else most + c * hi
        return least, most

    def enter(self, name: str, lo: Span, hi: Span) -> None:
        """A loop is open, from somewhere in one span to somewhere in another."""
        self.ranges[name] = lo[0], hi[1]

    def leave(self, name: str) -> None:
        self.ranges.pop(name, None)

    def decided(self, c: Condition) -> Condition:
        """A condition without the comparisons that hold in all loops that are open."""
        return aff.map_condition(c, lambda e: TRUE if not e.equal and _not_negative(self.span(e.expr)) else e)

    def condition(self, c: Condition) -> str:
        match c:
            case Compare(e, equal):
                positive = Affine(tuple(t for t in e.terms if t[1] > 0), max(e.const, 0))
                negative = -Affine(tuple(t for t in e.terms if t[1] < 0), min(e.const, 0))
                if not equal and positive.const == 0 and negative.const >= 1:
                    return f"{self.affine(positive)} > {self.affine(negative - 1)}"
                return f"{self.affine(positive)} {'==' if equal else '>='} {self.affine(negative)}"
            case And(args):
                return " && ".join(self._grouped(a) for a in args) or "1"
            case Or(args):
                return " || ".join(self._grouped(a) for a in args) or "0"
            case Not(arg):
                return f"!({self.condition(arg)})"
            case _:
                assert_never(c)

    def _grouped(self, c: Condition) -> str:
        return f"({self.condition(c)})" if isinstance(c, (And, Or)) else self.condition(c)

    # --- values ------------------------------------------------------------------------------------------------------

    def value(self, e: ex.Expr) -> str:
        """C text of an expression's value; safe as an operand."""
        if e in self.names:
            return self.names[e]
        match e:
            case ex.Const() | ex.Index() | ex.Load():
                return self._leaf(e)
            case ex.Unary():
                return self._unary(e)
            case ex.Binary(op, lhs, rhs):
                return self._binary(op, self.value(lhs), self.value(rhs), ex.dtype_of(lhs))
            case ex.Call():
                return self._call(e)
            case ex.Select(ex.Test(c) as cond, then, _) if cond not in self.names and self.decided(c) == TRUE:
                return self.value(then)
            case ex.Select(cond, then, other):
                return f"({self.value(cond)} ? {self.value(then)} : {self.value(other)})"
            case ex.Cast(to, arg):
                return self._cast(to, ex.dtype_of(arg), self.value(arg))
            case ex.Test(c):
                return f"({self.condition(c)})"
            case _:
                assert_never(e)

    def _leaf(self, e: ex.Const | ex.Index | ex.Load) -> str:
        match e:
            case ex.Const(v, t):
                return literal(v, t)
            case ex.Index(a, _):
                return f"({self.affine(a)})"
            case ex.Load():
                return self.from_storage(e.dtype, self.load(e, self))

    def from_storage(self, t: DType, text: str) -> str:
        if t.name in NARROW:
            self.used.add(t.name)
            return f"{t.name}_to_f32({text})"
        return text

    def to_storage(self, t: DType, text: str) -> str:
        if t.name in NARROW:
            self.used.add(t.name)
            return f"f32_to_{t.name}({bare(text)})"
        return bare(text)

    def _rounded(self, t: DType, text: str) -> str:
        """A narrow float is rounded after each operation; small integers wrap."""
        if t.name in NARROW:
            return self.from_storage(t, self.to_storage(t, text))
        if t.is_integer and t.bits < 32:
            return f"({STORAGE[t.name]})({bare(text)})"
        return text

    def _unary(self, e: ex.Unary) -> str:
        t, a = ex.dtype_of(e.arg), self.value(e.arg)
        match e.op:
            case "not":
                return f"(!{a})"
            case "~":
                return f"({STORAGE[t.name]})(~{a})" if t.kind != "b" else f"(!{a})"
            case "-" if t.is_integer:
                return f"({STORAGE[t.name]})(0 - (u{_wide(t)})({bare(a)}))"
            case "-":
                return f"(-{a})"
            case "abs" if t.is_integer:
                if t.kind == "u":
                    return a
                return f"({STORAGE[t.name]})({a} < 0 ? 0 - (u{_wide(t)})({bare(a)}) : (u{_wide(t)}){a})"
            case "abs" if t.kind == "c":
                return f"{'cabsf' if t.bits == 64 else 'cabs'}({bare(a)})"
            case "abs":
                return f"{'fabs' if t.bits == 64 else 'fabsf'}({bare(a)})"
            case op:
                raise ValueError(f"unary {op}")

    def _binary(self, op: str, a: str, b: str, t: DType) -> str:
        if op in ex.COMPARISONS:
            return f"({a} {op} {b})"
        if op in ex.LOGIC:
            return f"({a} {'&&' if op == 'and' else '||'} {b})"
        if op in ("min", "max"):
            if t.is_float:
                name = f"f{op}_{'f64' if t.bits == 64 else 'f32'}"
                self.used.add(name)
                return f"{name}({bare(a)}, {bare(b)})"
            return f"({a} {'<' if op == 'min' else '>'} {b} ? {a} : {b})"
        if t.is_float:
            return self._float_binary(op, a, b, t)
        if op in ("//", "%", "**"):
            kind = "i" if t.kind == "i" else "u"
            name = f"power_{kind}" if op == "**" else f"floor_{'div' if op == '//' else 'mod'}_{kind}"
            self.used.add(name)
            return f"({STORAGE[t.name]}){name}({bare(a)}, {bare(b)})"
        if op in ("<<", ">>"):
            return self._shifted(op, a, b, t)
        if op in ("+", "-", "*"):
            wide = f"u{_wide(t)}"
            return f"({STORAGE[t.name]})(({wide}){a} {op} ({wide}){b})"
        return self._rounded(t, f"({a} {op} {b})")

    def _shifted(self, op: str, a: str, b: str, t: DType) -> str:
        """A shift by as many bits as the type has, or more, or fewer than none, leaves only the sign."""
        wide = f"u{_wide(t)}"
        known = _LITERAL.fullmatch(b)
        if known is not None and int(known[1]) < t.bits:
            left = f"({STORAGE[t.name]})(({wide}){a} << {b})"
            return left if op == "<<" else self._rounded(t, f"({a} >> {b})")
        inside = f"({wide}){b} < {t.bits}"
        if op == "<<":
            return f"({STORAGE[t.name]})({inside} ? ({wide}){a} << {b} : 0)"
        if t.kind == "u":
            return f"({STORAGE[t.name]})({inside} ? {a} >> {b} : 0)"
        return f"({STORAGE[t.name]})({a} >> ({inside} ? {b} : {t.bits - 1}))"

    def _float_binary(self, op: str, a: str, b: str, t: DType) -> str:
        suffix = "f64" if t.bits == 64 else "f32"
        if op in ("//", "%"):
            name = f"floor_{'div' if op == '//' else 'mod'}_{suffix}"
            self.used.add(name)
            return self._rounded(t, f"{name}({bare(a)}, {bare(b)})")
        if op == "**":
            name = {"c64": "cpowf", "c128": "cpow", "f64": "pow"}.get(t.name, "powf")
            self._library(name)
            return self._rounded(t, f"{name}({bare(a)}, {bare(b)})")
        return self._rounded(t, f"({a} {op} {b})")

    def _call(self, e: ex.Call) -> str:
        t = ex.dtype_of(e.args[0])
        args = ", ".join(bare(self.value(a)) for a in e.args)
        if e.fn in ("isnan", "isinf"):
            return f"({e.fn}({args}) != 0)"
        if e.fn == "conj":
            return f"{'conjf' if t.bits == 64 else 'conj'}({args})"
        name = {"round": "rint", "muladd": "fma"}.get(e.fn, e.fn)
        if t.kind == "c":
            return f"c{name}{'f' if t.bits == 64 else ''}({args})"
        if name == "exp" and t.bits != 64:
            self.used.add(exponential.SCALAR)
            return self._rounded(t, f"{exponential.SCALAR}({args})")
        self._library(f"{name}{'' if t.bits == 64 else 'f'}")
        return self._rounded(t, f"{name}{'' if t.bits == 64 else 'f'}({args})")

    def _library(self, function: str) -> None:
        """A function of the C library is declared for vectors too, where it has such a form."""
        if function in elementary.DECLARED:
            self.used |= {"VECTOR_LIBRARY", function}

    def _cast(self, to: DType, source: DType, a: str) -> str:
        if to.kind == "b":
            return f"({a} != 0)"
        if to.name in NARROW:
            wide = a if value_type(source) == "float" else f"(float){a}"
            return self._rounded(to, wide)
        if source.kind == "c" and to.kind != "c":
            a = f"{'crealf' if source.bits == 64 else 'creal'}({bare(a)})"
        if value_type(to) == value_type(source) and source.kind != "b":
            return a
        closed = (a[0] == "(" and a[-1] == ")") or a.isidentifier()
        return f"({value_type(to)}){a}" if closed else f"({value_type(to)})({a})"

    def step(self, op: str, t: DType, old: str, value: ex.Expr, *, strict: bool) -> str:
        """The value of `old op value`; a relaxed sum of products is one fused multiply-add."""
        product = isinstance(value, ex.Binary) and value.op == "*"
        if product and op == "sum" and not strict and t.name in ("f32", "f64"):
            assert isinstance(value, ex.Binary)
            a, b = (bare(self.value(v)) for v in (value.lhs, value.rhs))
            return f"{'fmaf' if t.bits == 32 else 'fma'}({a}, {b}, {old})"
        return bare(self.combine(op, t, old, self.value(value)))

    def combine(self, op: str, t: DType, old: str, new: str) -> str:
        """One step of a reduction."""
        return self._binary(ex.REDUCTIONS[op], old, new, t)


def _wide(t: DType) -> str:
    return "int64_t" if t.bits == 64 else "int32_t"


def _not_negative(span: Span) -> bool:
    return span[0] is not None and span[0] >= 0


def bare(text: str) -> str:
    """Without one pair of parentheses that encloses all of it."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for i, ch in enumerate(text):
        depth += (ch == "(") - (ch == ")")
        if depth == 0 and i < len(text) - 1:
            return text
    return text[1:-1]


def c_name(name: str) -> str:
    """A user's name as a C identifier (primes and other marks become letters)."""

    def letter(ch: str) -> str:
        if ch.isascii() and (ch.isalnum() or ch == "_"):
            return ch
        return "_" if ch == "." else f"_u{ord(ch):x}"

    return "".join(map(letter, name))


def integer(value: int) -> str:
    return str(value) if abs(value) < 1 << 31 else f"INT64_C({value})"


def literal(value: bool | int | float | complex, t: DType) -> str:
    """A C literal with exactly this value."""
    if t.kind == "b":
        return "1" if value else "0"
    if t.is_integer:
        number = int(value.real) if isinstance(value, complex) else int(value)
        if t.name == "i64" and number == -(1 << 63):
            return "INT64_MIN"
        if t.bits == 64:
            return f"{'U' if t.kind == 'u' else ''}INT64_C({number})" if number >= 0 else f"(-INT64_C({-number}))"
        return f"{number}{'u' if t.kind == 'u' else ''}" if number >= 0 else f"({number})"
    if t.kind == "c":
        part = "f32" if t.bits == 64 else "f64"
        z = complex(value)
        single = part == "f32"
        return f"({_real(z.real, single)} + {_real(z.imag, single)} * I)"
    real = float(value.real) if isinstance(value, complex) else float(value)
    if t.name in NARROW:
        real = float(np.asarray(real).astype(t.numpy))
    return _real(real, t.bits != 64)


def _real(value: float, single: bool) -> str:
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    with np.errstate(over="ignore"):
        shown = str(np.float32(value)) if single else repr(value)
    if shown in ("inf", "-inf"):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    if "e" not in shown and "." not in shown:
        shown += ".0"
    shown += "f" if single else ""
    return f"({shown})" if shown.startswith("-") else shown
