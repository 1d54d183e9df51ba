# SPDX-License-Identifier: MIT
"""Reading program text: tokens, a cursor over them, and the index expressions and conditions that occur everywhere.

Names are read as dims; `polyhedral.text.reader` knows which of them are sizes once it has seen a whole statement.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NoReturn, TypeVar

from polyhedral.errors import DimError, Location, SyntaxProblem
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.text.printer import NAME, RESERVED

NESTING = 100
"""Deepest nesting of parentheses that is read."""

_TOKEN = re.compile(
    rf"(?P<space>\s+|\#[^\n]*)|(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|(?P<name>{NAME})"
    r"|(?P<quoted>`(?:[^`\\]|\\.)*`)|(?P<op>:=|<=|>=|==|!=|//|\*\*|<<|>>|\+=|\*=|[-+*/%<>=()\[\]{},:&|^~$])"
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    at: int


def place_of(file: str, text: str, at: int, length: int) -> Location:
    start = text.rfind("\n", 0, at) + 1
    stop = text.find("\n", at)
    line = text[start : len(text) if stop < 0 else stop]
    return Location(file, text.count("\n", 0, at) + 1, line, (at - start, at - start + max(1, length)))


def tokenize(file: str, text: str) -> list[Token]:
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        m = _TOKEN.match(text, at)
        if m is None:
            raise SyntaxProblem(
                "PH060", f"unexpected character {text[at]!r}", location=place_of(file, text, at, 1), hints=(HINT,)
            )
        kind, at = str(m.lastgroup), m.end()
        if kind == "quoted":
            plain = re.sub(r"\\(.)", lambda c: "\n" if c[1] == "n" else c[1], m[0][1:-1])
            tokens.append(Token("quoted", plain, m.start()))
        elif kind != "space":
            tokens.append(Token(kind, m[0], m.start()))
    return [*tokens, Token("end", "", at)]


def read_affine(text: str, dims: Iterable[str], sizes: Iterable[str], file: str = "<text>") -> Affine:
    """An index expression alone, over these dims and sizes.  PH060 where it is none, PH001 for names there are not."""
    cursor = Cursor(file, text, tokenize(file, text), sizes=tuple(sizes))
    read = cursor.affine()
    if cursor.token.kind != "end":
        cursor.fail("the end")
    have = frozenset(dims)
    for n, token in cursor.names.items():
        if n not in have and n not in (cursor.sizes or ()):
            cursor.unknown(token, have | set(cursor.sizes or ()), "dim or size")
    return aff.substitute(read, {n: aff.size(n) for n in cursor.names if n not in have})


HINT = "print(f) of a function, or ph.to_text(program), shows the grammar by example"


@dataclass
class Cursor:
    """A place in the tokens; `names` are the names seen in index expressions since the scope began."""

    file: str
    text: str
    tokens: list[Token]
    at: int = 0
    depth: int = 0
    sizes: tuple[str, ...] | None = None
    names: dict[str, Token] = field(default_factory=dict[str, Token])

    # --- tokens

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def advance(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1].text

    def fail(self, expected: str, token: Token | None = None) -> NoReturn:
        token = token or self.token
        found = repr(token.text) if token.kind != "end" else "the end"
        where = place_of(self.file, self.text, token.at, len(token.text))
        raise SyntaxProblem("PH060", f"expected {expected}, found {found}", location=where, hints=(HINT,))

    def unknown(self, token: Token, known: Iterable[str], what: str) -> NoReturn:
        near = difflib.get_close_matches(token.text, sorted(known), 1)
        where = place_of(self.file, self.text, token.at, len(token.text))
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"
        raise DimError("PH001", f"no {what} is named {token.text!r}", location=where, hints=(hint,), dim=token.text)

    def is_(self, *texts: str) -> bool:
        return self.token.kind in ("op", "name") and self.token.text in texts

    def take(self, *texts: str) -> str | None:
        if not self.is_(*texts):
            return None
        self.at += 1
        return self.tokens[self.at - 1].text

    def need(self, *texts: str) -> str:
        return self.take(*texts) or self.fail(" or ".join(map(repr, texts)))

    def name(self, what: str = "a name") -> Token:
        t = self.token
        if t.kind != "quoted" and (t.kind != "name" or t.text in RESERVED):
            self.fail(what)
        self.at += 1
        return t

    def ahead(self, *texts: str) -> bool:
        """Is the token after this one any of these?"""
        return self.token.kind in ("name", "quoted") and self.tokens[self.at + 1].text in texts

    def list_of(self, item: Callable[[], _T], close: tuple[str, ...]) -> list[_T]:
        items: list[_T] = []
        if not self.is_(*close):
            items.append(item())
            while self.take(","):
                items.append(item())
        return items

    def deeper(self, part: Callable[[], _T]) -> _T:
        self.depth += 1
        if self.depth > NESTING:
            self.fail(f"at most {NESTING} levels of nesting")
        result = part()
        self.depth -= 1
        return result

    # --- affine

    def affine(self) -> Affine:
        sign = -1 if self.take("-") else 1
        total = self.product() * sign
        while op := self.take("+", "-"):
            total = total + self.product() * (1 if op == "+" else -1)
        return total

    def product(self) -> Affine:
        left = self.affine_atom()
        while op := self.take("*", "//", "%"):
            at = self.tokens[self.at]
            right = self.affine_atom()
            if op == "*" and left.is_const:
                left, right = right, left
            if not right.is_const or (op != "*" and right.const <= 0):
                self.fail("an index with * // % by a literal only", at)
            k = right.const
            left = left * k if op == "*" else left // k if op == "//" else left % k
        return left

    def affine_atom(self) -> Affine:
        t = self.token
        if t.kind == "number" and t.text.isdigit():
            if len(self.token.text) > 18:
                self.fail("an index below 10**18")
            return aff.const(int(self.advance()))
        if self.take("("):
            inner = self.deeper(self.affine)
            self.need(")")
            return inner
        if self.take("-"):
            return -self.deeper(self.affine_atom)
        if self.take("$"):
            t = self.name("a size")
            if t.text not in (self.sizes or ()):
                self.unknown(t, self.sizes or (), "size")
            return aff.size(t.text)
        t = self.name("a dim, a size or an integer")
        self.names.setdefault(t.text, t)
        return aff.var(t.text)

    # --- conditions

    def condition(self) -> Condition:
        parts = [self.conjunction()]
        while self.take("or"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else aff.either(*parts)

    def conjunction(self) -> Condition:
        parts = [self.deeper(self.negation)]
        while self.take("and"):
            parts.append(self.deeper(self.negation))
        return parts[0] if len(parts) == 1 else aff.both(*parts)

    def negation(self) -> Condition:
        if self.take("not"):
            return aff.negate(self.deeper(self.negation))
        if word := self.take("true", "false"):
            return aff.TRUE if word == "true" else aff.FALSE
        start, depth, names = self.at, self.depth, dict(self.names)
        try:
            return self.comparison()
        except SyntaxProblem:
            self.at, self.depth, self.names = start, depth, names
            if not self.is_("("):
                self.affine()
                self.fail("a comparison")
        self.need("(")
        inner = self.condition()
        self.need(")")
        return inner

    def comparison(self) -> Condition:
        sides = [self.affine()]
        ops: list[str] = []
        while op := self.take(*ex.COMPARISONS):
            ops.append(op)
            sides.append(self.affine())
        if not ops:
            self.fail("a comparison")
        return aff.both(*(_compare(op, a, b) for op, (a, b) in zip(ops, pairwise(sides), strict=True)))


def _compare(op: str, a: Affine, b: Affine) -> Condition:
    match op:
        case "<=":
            return aff.at_least(b, a)
        case "<":
            return aff.at_least(b - a - 1)
        case ">=":
            return aff.at_least(a, b)
        case ">":
            return aff.at_least(a - b - 1)
        case "==":
            return aff.equal(a, b)
        case _:
            return aff.negate(aff.equal(a, b))
