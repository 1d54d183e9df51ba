# SPDX-License-Identifier: MIT
"""The value of an expression at many instances at once, over arrays whose cells may not be defined yet.

The interpreter decides which instances run and when; here a value comes with the answer whether it is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

import numpy as np

from polyhedral.errors import BoundsError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.arithmetic import apply
from polyhedral.ir.memory import Memory, convert
from polyhedral.ir.program import Domain, Statement

Cell = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Rows:
    """Some instances of a statement: a column for each dim; `ids` are their numbers in the whole statement."""

    env: Mapping[str, np.ndarray]
    ids: np.ndarray
    memo: dict[int, Result] = field(default_factory=dict[int, Any])

    def at(self, chosen: np.ndarray) -> Rows:
        return Rows({d: v[chosen] for d, v in self.env.items()}, self.ids[chosen])

    def point(self, row: int) -> dict[str, int]:
        return {d: int(v[row]) for d, v in self.env.items()}

    def __len__(self) -> int:
        return len(self.ids)


Result = tuple[np.ndarray, np.ndarray]
"""(values, ready); a value that is not ready means nothing."""
Log = Callable[[str, Rows, list[np.ndarray], np.ndarray], None]
"""Receives (array, instances, index columns, which instances read)."""


def points(domain: Domain, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """All points of a domain in lexicographic order, one column for each dim."""
    return _points(domain, sizes)[0]


def _points(domain: Domain, sizes: Mapping[str, int]) -> tuple[dict[str, np.ndarray], int]:
    env: dict[str, Any] = {}
    n = 1
    for r in domain.ranges:
        lo = column(r.lo, env, sizes, n)
        count = np.maximum(column(r.hi, env, sizes, n) - lo, 0)
        row = np.repeat(np.arange(n), count)
        within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        env = {d: v[row] for d, v in env.items()}
        env[r.dim] = lo[row] + within
        n = len(row)
    keep = np.broadcast_to(np.asarray(aff.holds(domain.guard, env, sizes), dtype=bool), (n,))
    return {d: v[keep] for d, v in env.items()}, int(keep.sum())


def column(e: Affine, env: Mapping[str, Any], sizes: Mapping[str, int], n: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(aff.evaluate(e, env, sizes), dtype=np.int64), (n,))


def rows(domain: Domain, sizes: Mapping[str, int]) -> Rows:
    """All instances of a domain in lexicographic order."""
    env, n = _points(domain, sizes)
    return Rows(env, np.arange(n))


@dataclass(frozen=True)
class Evaluator:
    """Evaluates the value of one statement."""

    memory: Memory
    statement: Statement
    log: Log | None = None

    def value(self, e: ex.Expr, at: Rows) -> Result:
        done = at.memo.get(id(e))
        if done is None:
            done = at.memo[id(e)] = self._value(e, at)
        return done

    def _value(self, e: ex.Expr, at: Rows) -> Result:
        match e:
            case ex.Load():
                return self._load(e, at)
            case ex.Select():
                return self._select(e, at)
            case ex.Unary() | ex.Binary() | ex.Call() | ex.Cast():
                parts = [self.value(c, at) for c in ex.children(e)]
                ready = np.logical_and.reduce([r for _, r in parts])
                return _operate(e, [v for v, _ in parts]), ready
            case ex.Const() | ex.Index() | ex.Test():
                return self._leaf(e, at), np.ones(len(at), bool)
            case _:
                assert_never(e)

    def _leaf(self, e: ex.Const | ex.Index | ex.Test, at: Rows) -> np.ndarray:
        match e:
            case ex.Const(value, dtype):
                return np.full(len(at), convert(np.array(value), dtype))
            case ex.Index(affine, dtype):
                return column(affine, at.env, self.memory.sizes, len(at)).astype(dtype.numpy)
            case ex.Test(condition):
                env: Mapping[str, Any] = at.env
                truth = np.asarray(aff.holds(condition, env, self.memory.sizes), dtype=bool)
                return np.broadcast_to(truth, (len(at),))
            case _:
                assert_never(e)

    def _select(self, e: ex.Select, at: Rows) -> Result:
        """Evaluate each branch only on the instances that take it."""
        truth, ready = self.value(e.cond, at)
        result = np.zeros(len(at), ex.dtype_of(e).numpy)
        known = ready.copy()
        for branch, taken in ((e.then, ready & truth), (e.other, ready & ~truth)):
            chosen = np.flatnonzero(taken)
            if len(chosen):
                result[chosen], known[chosen] = self.value(branch, at.at(chosen))
        return result, known

    def _load(self, e: ex.Load, at: Rows) -> Result:
        array, shape = self.memory.values[e.array], self.memory.shapes[e.array]
        ready = np.ones(len(at), bool)
        index: list[np.ndarray] = []
        for _, i in e.index:
            if isinstance(i, Affine):
                index.append(column(i, at.env, self.memory.sizes, len(at)))
            else:
                value, known = self.value(i, at)
                index.append(np.where(known, value, 0).astype(np.int64))
                ready = ready & known
        for (d, i), c, n in zip(e.index, index, shape, strict=True):
            bad = np.flatnonzero(ready & ((c < 0) | (c >= n)))
            if len(bad):
                raise self.outside("reads", e.array, d, i, int(c[bad[0]]), n, at.point(int(bad[0])))
        if self.log is not None:
            self.log(e.array, at, index, ready)
        ok = np.flatnonzero(ready)
        cells = flat([c[ok] for c in index], shape, len(ok))
        result = np.zeros(len(at), array.dtype)
        result[ok] = array[cells]
        if e.array in self.memory.defined:
            ready = ready.copy()
            ready[ok] = self.memory.defined[e.array][cells]
        return result, ready

    def written(self, at: Rows) -> list[np.ndarray]:
        """The index columns of the cells that instances write."""
        write = self.statement.write
        index = [column(i, at.env, self.memory.sizes, len(at)) for _, i in write.index]
        for (d, i), c, n in zip(write.index, index, self.memory.shapes[write.array], strict=True):
            bad = np.flatnonzero((c < 0) | (c >= n))
            if len(bad):
                raise self.outside("writes", write.array, d, i, int(c[bad[0]]), n, at.point(int(bad[0])))
        return index

    def cells(self, at: Rows) -> np.ndarray:
        """The flat numbers of the cells that instances write."""
        return flat(self.written(at), self.memory.shapes[self.statement.write.array], len(at))

    def outside(
        self, verb: str, array: str, d: str, i: Affine | ex.Expr, got: int, n: int, point: dict[str, int]
    ) -> BoundsError:
        s = self.statement
        shown = str(i) if isinstance(i, Affine) else "an index that is data"
        return BoundsError(
            "PH101" if isinstance(i, Affine) else "PH103",
            f"statement {s.name} {verb} {array} out of bounds",
            details=(f"{array}.{d} = {shown} = {got}, but {array}.{d} is in [0, {n})",),
            hints=("clip the index, pad the array or use orelse",),
            statement=s.name,
            dim=d,
            point=point,
            sizes=self.memory.sizes,
            location=s.location,
        )


def flat(index: list[np.ndarray], shape: tuple[int, ...], n: int) -> np.ndarray:
    """Row-major cell numbers of `n` cells."""
    result = np.zeros(n, np.int64)
    for c, extent in zip(index, shape, strict=True):
        result = result * extent + c
    return result


def _operate(e: ex.Unary | ex.Binary | ex.Call | ex.Cast, args: list[np.ndarray]) -> np.ndarray:
    match e:
        case ex.Unary(op, _) | ex.Binary(op, _, _) | ex.Call(op, _):
            return apply(op, *args)
        case ex.Cast(dtype, _):
            return convert(args[0], dtype)
        case _:
            assert_never(e)


def combiner(op: str) -> np.ufunc:
    return {
        "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
        "any": np.logical_or, "all": np.logical_and,
    }[op]  # fmt: skip
