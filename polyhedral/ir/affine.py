# SPDX-License-Identifier: MIT
"""Quasi-affine index expressions and the conditions made of them.

    affine    := const + sum of coefficient * term        term := dim | size | floor(affine / int)
    condition := affine >= 0 | affine == 0 | and(...) | or(...) | not condition

Values only: both are kept in a normal form, so that equal means equal.  Integer sets live in `polyhedral.sets.isl`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, assert_never, cast


class _Hashed:
    """Values made of values are looked up all the time: each computes its hash once."""

    __slots__ = ("_hash",)

    def _remember(self, made: int) -> int:
        object.__setattr__(self, "_hash", made)
        return made


@dataclass(frozen=True, slots=True)
class Var:
    """The value of an iteration dimension."""

    name: str

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Size:
    """A symbolic integer parameter, such as `X.c`; never negative."""

    name: str

    def __hash__(self) -> int:
        return ~hash(self.name)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Floor(_Hashed):
    """floor(arg / divisor), divisor > 1."""

    arg: Affine
    divisor: int

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            return self._remember(hash((self.arg, self.divisor)))

    def __str__(self) -> str:
        inner = str(self.arg)
        simple = len(self.arg.terms) == 1 and self.arg.const == 0 and self.arg.terms[0][1] == 1
        return f"{inner if simple else f'({inner})'}//{self.divisor}"


Term = Var | Size | Floor


@lru_cache(maxsize=1 << 14)
def _rank(term: Term) -> tuple[int, str]:
    match term:
        case Var():
            return (0, term.name)
        case Size():
            return (1, term.name)
        case Floor():
            return (2, str(term))
        case _:
            assert_never(term)


@dataclass(frozen=True, slots=True)
class Affine(_Hashed):
    """A quasi-affine expression; `terms` is sorted, without zero coefficients."""

    terms: tuple[tuple[Term, int], ...] = ()
    const: int = 0

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            return self._remember(hash((self.terms, self.const)))

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.terms, self.const + other)
        if not self.terms:
            return Affine(other.terms, other.const + self.const)
        if not other.terms:
            return Affine(self.terms, self.const + other.const)
        return _collect((*self.terms, *other.terms), self.const + other.const)

    __radd__ = __add__

    def __neg__(self) -> Affine:
        return Affine(tuple((t, -c) for t, c in self.terms), -self.const)

    def __sub__(self, other: Affine | int) -> Affine:
        return self + (-other)

    def __rsub__(self, other: int) -> Affine:
        return -self + other

    def __mul__(self, factor: int) -> Affine:
        if factor == 0:
            return Affine()
        return Affine(tuple((t, c * factor) for t, c in self.terms), self.const * factor)

    __rmul__ = __mul__

    def __floordiv__(self, divisor: int) -> Affine:
        """Floor division by a positive literal; whole multiples leave the floor."""
        if divisor <= 0:
            raise ValueError("divisor must be a positive literal")
        if divisor == 1:
            return self
        whole = Affine(tuple((t, c // divisor) for t, c in self.terms if c % divisor == 0), self.const // divisor)
        rest = Affine(tuple((t, c) for t, c in self.terms if c % divisor), self.const % divisor)
        return whole + Affine(((Floor(rest, divisor), 1),)) if rest.terms else whole

    def __mod__(self, divisor: int) -> Affine:
        return self - (self // divisor) * divisor

    def __str__(self) -> str:
        text = ""
        for term, c in self.terms:
            sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
            shown = f"({term})" if isinstance(term, Floor) and abs(c) != 1 else str(term)
            text += sign + (f"{abs(c)}*" if abs(c) != 1 else "") + shown
        if self.const or not text:
            text = f"{text} {'-' if self.const < 0 else '+'} {abs(self.const)}" if text else str(self.const)
        return text

    @property
    def is_const(self) -> bool:
        return not self.terms

    def coefficient(self, term: Term) -> int:
        """The coefficient of a term outside any floor."""
        return next((c for t, c in self.terms if t == term), 0)

    def as_var(self) -> str | None:
        """The dim's name if this is exactly one dim, else None."""
        match self.terms:
            case ((Var(name), 1),) if self.const == 0:
                return name
            case _:
                return None


def _collect(terms: Iterable[tuple[Term, int]], const: int) -> Affine:
    total: dict[Term, int] = {}
    for t, c in terms:
        total[t] = total.get(t, 0) + c
    kept = [tc for tc in total.items() if tc[1]]
    if len(kept) > 1:
        kept.sort(key=_order)
    return Affine(tuple(kept), const)


def _order(term: tuple[Term, int]) -> tuple[int, str]:
    return _rank(term[0])


@lru_cache(maxsize=1 << 12, typed=True)
def const(value: int) -> Affine:
    return Affine((), value)


@lru_cache(maxsize=1 << 12)
def var(name: str) -> Affine:
    return Affine(((Var(name), 1),))


@lru_cache(maxsize=1 << 12)
def size(name: str) -> Affine:
    return Affine(((Size(name), 1),))


def substitute(e: Affine, dims: Mapping[str, Affine], sizes: Mapping[str, Affine] | None = None) -> Affine:
    """Replace dims and sizes by expressions, simultaneously."""
    terms: list[tuple[Term, int]] = []
    const, changed = e.const, False
    for term, c in e.terms:
        if isinstance(term, Var):
            new = dims.get(term.name)
        elif isinstance(term, Size):
            new = sizes.get(term.name) if sizes else None
        else:
            arg = substitute(term.arg, dims, sizes)
            new = None if arg is term.arg else arg // term.divisor
        if new is None:
            terms.append((term, c))
        else:
            changed = True
            const += new.const * c
            terms += new.terms if c == 1 else [(t, k * c) for t, k in new.terms]
    return _collect(terms, const) if changed else e


def evaluate(e: Affine, env: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """The value at a point; also works elementwise when `env` holds NumPy integer arrays."""
    total = e.const
    for term, c in e.terms:
        match term:
            case Var(name):
                total = total + c * env[name]
            case Size(name):
                total = total + c * sizes[name]
            case Floor(arg, divisor):
                total = total + c * (evaluate(arg, env, sizes) // divisor)
            case _:
                assert_never(term)
    return total


def steps(e: Affine, dim: str, count: int) -> list[int] | None:
    """How far a value goes from dim = 0 to each of `count` values of it; None where that depends on something else."""
    moving = Affine(tuple((t, c) for t, c in e.terms if dim in dims_of(Affine(((t, c),)))))
    if len(dims_of(moving)) > 1 or sizes_of(moving):
        apart = [substitute(moving, {dim: const(n)}) for n in range(count)]
        apart = [a - apart[0] for a in apart]
        return [a.const for a in apart] if all(a.is_const for a in apart) else None
    at = [evaluate(moving, {dim: n}, {}) for n in range(count)]
    return [n - at[0] for n in at]


def _leaves(e: Affine) -> Iterator[Term]:
    for term, _ in e.terms:
        if isinstance(term, Floor):
            yield from _leaves(term.arg)
        else:
            yield term


@lru_cache(maxsize=1 << 14)
def dims_of(e: Affine) -> frozenset[str]:
    return frozenset(t.name for t in _leaves(e) if isinstance(t, Var))


@lru_cache(maxsize=1 << 14)
def sizes_of(e: Affine) -> frozenset[str]:
    return frozenset(t.name for t in _leaves(e) if isinstance(t, Size))


# --- conditions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compare(_Hashed):
    """`expr >= 0`, or `expr == 0` when `equal`."""

    expr: Affine
    equal: bool = False

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            return self._remember(hash((self.expr, self.equal)))

    def __str__(self) -> str:
        positive = Affine(tuple((t, c) for t, c in self.expr.terms if c > 0), max(self.expr.const, 0))
        negative = -Affine(tuple((t, c) for t, c in self.expr.terms if c < 0), min(self.expr.const, 0))
        if not self.equal and positive.const == 0 and negative.const == 1 and negative.terms:
            return f"{negative - 1} < {positive}"
        return f"{positive} == {negative}" if self.equal else f"{negative} <= {positive}"


@dataclass(frozen=True, slots=True)
class And(_Hashed):
    args: tuple[Condition, ...]

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            return self._remember(hash(("and", self.args)))

    def __str__(self) -> str:
        return " and ".join(f"({a})" if isinstance(a, Or) else str(a) for a in self.args) or "true"


@dataclass(frozen=True, slots=True)
class Or(_Hashed):
    args: tuple[Condition, ...]

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            return self._remember(hash(("or", self.args)))

    def __str__(self) -> str:
        return " or ".join(f"({a})" if isinstance(a, And) and len(a.args) > 1 else str(a) for a in self.args) or "false"


@dataclass(frozen=True, slots=True)
class Not(_Hashed):
    arg: Condition

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            return self._remember(hash(("not", self.arg)))

    def __str__(self) -> str:
        return f"not ({self.arg})"


Condition = Compare | And | Or | Not
TRUE: Condition = And(())
FALSE: Condition = Or(())


def at_least(a: Affine, b: Affine | int = 0) -> Condition:
    """a >= b"""
    return _fold(Compare(a - b))


def equal(a: Affine, b: Affine | int = 0) -> Condition:
    """a == b"""
    return _fold(Compare(a - b, equal=True))


def _fold(c: Compare) -> Condition:
    if not c.expr.is_const:
        return c
    return TRUE if (c.expr.const == 0 if c.equal else c.expr.const >= 0) else FALSE


def conjuncts(c: Condition) -> tuple[Condition, ...]:
    """The conditions that must all hold for this one to; none for TRUE."""
    return c.args if isinstance(c, And) else (c,)


def same_sizes(known: Condition) -> dict[str, Affine]:
    """Sizes that are known to equal an earlier one, by that one."""
    leader: dict[str, str] = {}

    def find(n: str) -> str:
        while n in leader:
            n = leader[n]
        return n

    for part in conjuncts(known):
        match part:
            case Compare(Affine(((Size(a), 1), (Size(b), -1)) | ((Size(a), -1), (Size(b), 1)), 0), True):
                first, second = sorted((find(a), find(b)))
                if first != second:
                    leader[second] = first
            case _:
                pass
    return {n: size(find(n)) for n in leader}


def both(*args: Condition) -> Condition:
    """Conjunction, flattened; TRUE disappears, FALSE wins, repeats are dropped."""
    flat: dict[Condition, None] = {}
    for a in args:
        for part in conjuncts(a):
            flat[part] = None
    if FALSE in flat:
        return FALSE
    return next(iter(flat)) if len(flat) == 1 else And(tuple(flat))


def either(*args: Condition) -> Condition:
    """Disjunction, flattened; FALSE disappears, TRUE wins, repeats are dropped."""
    flat: dict[Condition, None] = {}
    for a in args:
        for part in a.args if isinstance(a, Or) else (a,):
            flat[part] = None
    if TRUE in flat:
        return TRUE
    return next(iter(flat)) if len(flat) == 1 else Or(tuple(flat))


def negate(c: Condition) -> Condition:
    match c:
        case Compare(expr, equal=False):
            return _fold(Compare(-expr - 1))
        case Compare(expr):
            return either(at_least(expr, 1), at_least(-expr, 1))
        case And(args):
            return either(*map(negate, args))
        case Or(args):
            return both(*map(negate, args))
        case Not(arg):
            return arg
        case _:
            assert_never(c)


def between(lo: Affine | int, e: Affine, hi: Affine | int) -> Condition:
    """lo <= e < hi"""
    return both(at_least(e, lo), at_least(hi - e - 1))


def map_affine(c: Condition, f: Callable[[Affine], Affine]) -> Condition:
    """Rewrite every comparison's expression."""
    match c:
        case Compare(expr, eq):
            return _fold(Compare(f(expr), eq))
        case And(args):
            return both(*(map_affine(a, f) for a in args))
        case Or(args):
            return either(*(map_affine(a, f) for a in args))
        case Not(arg):
            return negate(map_affine(arg, f))
        case _:
            assert_never(c)


def map_condition(c: Condition, f: Callable[[Compare], Condition]) -> Condition:
    """Replace every comparison by a condition."""
    match c:
        case Compare():
            return f(c)
        case And(args):
            return both(*(map_condition(a, f) for a in args))
        case Or(args):
            return either(*(map_condition(a, f) for a in args))
        case Not(arg):
            return negate(map_condition(arg, f))
        case _:
            assert_never(c)


def comparisons(c: Condition) -> Iterator[Compare]:
    match c:
        case Compare():
            yield c
        case And(args) | Or(args):
            for a in args:
                yield from comparisons(a)
        case Not(arg):
            yield from comparisons(arg)
        case _:
            assert_never(c)


def holds(c: Condition, env: Mapping[str, int], sizes: Mapping[str, int]) -> bool:
    """Truth at a point; elementwise over NumPy arrays in `env` as well."""
    match c:
        case Compare(expr, eq):
            value = evaluate(expr, env, sizes)
            return value == 0 if eq else value >= 0
        case And(args):
            result = True
            for a in args:
                result = result & holds(a, env, sizes)
            return result
        case Or(args):
            result = False
            for a in args:
                result = result | holds(a, env, sizes)
            return result
        case Not(arg):
            value = cast("Any", holds(arg, env, sizes))
            return (not value) if isinstance(value, bool) else ~value
        case _:
            assert_never(c)


@lru_cache(maxsize=1 << 13)
def condition_dims(c: Condition) -> frozenset[str]:
    return frozenset[str]().union(*(dims_of(p.expr) for p in comparisons(c)))


@lru_cache(maxsize=1 << 13)
def condition_sizes(c: Condition) -> frozenset[str]:
    return frozenset[str]().union(*(sizes_of(p.expr) for p in comparisons(c)))
