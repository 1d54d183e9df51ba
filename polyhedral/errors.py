# SPDX-License-Identifier: MIT
"""Diagnostics: what went wrong, where, why, and what to try.

Every error a user can meet is raised from here, in the user's words, with the forms in which a terminal, a notebook and
`--json` show it; nothing below this file knows of these.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Location:
    """A place in a user's file: path, 1-based line, the source line itself and the columns to underline."""

    file: str
    line: int
    text: str = ""
    columns: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"{self.file.rsplit('/', 1)[-1]}:{self.line}"


class PolyhedralError(Exception):
    """Base of every diagnostic.

    `message` is the cause in one line; `details` are further lines (counterexample, the fact violated); `hints` say
    what to try.  `code` is stable (`PH101`).  `statement`, `dim`, `point`, `sizes` and `location` carry the same data
    that `--json` prints, or None.
    """

    family = "ph.Error"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: tuple[str, ...] = (),
        hints: tuple[str, ...] = (),
        statement: str | None = None,
        dim: str | None = None,
        point: Mapping[str, int] | None = None,
        sizes: Mapping[str, int] | None = None,
        location: Location | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.hints = tuple(hints)
        self.statement = statement
        self.dim = dim
        self.point = None if point is None else dict(point)
        self.sizes = None if sizes is None else dict(sizes)
        self.location = location

    def __str__(self) -> str:
        """The whole diagnostic: cause first, short, one screen, help last."""
        lines = [f"[{self.code}] {self.message}"]
        if self.location is not None:
            head = f"  {self.location}   "
            text = self.location.text
            lines.append(head + text.strip())
            if self.location.columns is not None:
                start, stop = self.location.columns
                indent = len(text) - len(text.lstrip())
                lines.append(" " * (len(head) + start - indent) + "^" * max(1, stop - start))
        if self.point is not None and not any("counterexample" in d for d in self.details):
            at = ", ".join(f"{k}={v}" for k, v in self.point.items())
            with_sizes = ", ".join(f"{k}={v}" for k, v in (self.sizes or {}).items())
            lines.append(f"  counterexample: at ({at})" + (f" with sizes {with_sizes}" if with_sizes else ""))
        lines += [f"  {d}" for d in self.details]
        lines += [f"  hint: {h}" for h in self.hints]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross processes whole; those that cannot be read back break a pool of workers."""
        return _restored, (type(self), self.args, self.__dict__)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """The whole diagnostic for notebooks: the cause stands out, the hints last; every form is small."""
        first, *rest = str(self).split("\n")
        more = "\n".join(rest)
        page = f"<pre><b>{html.escape(type(self).__name__)}{html.escape(first)}</b>\n{html.escape(more)}</pre>"
        return {"text/plain": str(self), "text/html": page}

    def to_json(self) -> dict[str, object]:
        """The same facts with stable keys, for `--json` and tests."""
        where = self.location
        return {
            "schema": "polyhedral.error/1",
            "family": type(self).__name__,
            "code": self.code,
            "message": self.message,
            "details": list(self.details),
            "hint": list(self.hints),
            "statement": self.statement,
            "dim": self.dim,
            "point": self.point,
            "sizes": self.sizes,
            "location": None if where is None else {"file": where.file, "line": where.line, "text": where.text.strip()},
        }


def _restored(kind: type[PolyhedralError], args: tuple[object, ...], state: dict[str, object]) -> PolyhedralError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class UserError(PolyhedralError):
    """Your program, or what it was called with, is wrong."""


class DimError(UserError, TypeError):
    """A dimension is unknown, repeated, captured or disagrees in size (PH001-PH050)."""


class BoundsError(UserError, IndexError):
    """An access leaves its array (PH101, PH102, PH103)."""


class DomainError(UserError, ValueError):
    """A domain is unbounded, ambiguous, undefined somewhere or defined twice (PH110-PH121)."""


class OrderError(UserError, TypeError):
    """An axis order is missing, or an update depends on an order nobody gave (PH041, PH201, PH202)."""


class DtypeError(UserError, TypeError):
    """Types do not combine, or a conversion would be silent (PH301, PH302)."""


class AttributeProblem(UserError, AttributeError):
    """A tensor has no such attribute (PH009)."""


class ArgumentError(UserError, ValueError):
    """An argument of a call is missing, read-only, overlapping or of another form (PH040, PH310-PH319)."""


class SyntaxProblem(UserError, ValueError):
    """Program text (`.poly`) does not parse (PH060)."""


class LegalityError(UserError, ValueError):
    """A hint or a transformation would break a dependence (PH401)."""


class ToolchainError(PolyhedralError, RuntimeError):
    """No compiler, or it failed, hung or was killed (PH500-PH509)."""


class Unsupported(PolyhedralError, RuntimeError):
    """A right program that this version cannot compile yet (PH900)."""


class InternalError(PolyhedralError, RuntimeError):
    """Our bug (PH999): please report it with the printed program."""


@dataclass(frozen=True)
class Remark:
    """A refusal or a choice, kept as a value and shown by `explain`: what, because of what, at which statement."""

    what: str
    because: str
    statement: str | None = None
    data: tuple[tuple[str, object], ...] = field(default=())

    def __str__(self) -> str:
        at = f"{self.statement}: " if self.statement else ""
        return f"{at}{self.what}, because {self.because}"
