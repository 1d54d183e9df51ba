# SPDX-License-Identifier: MIT
"""Runs the loop AST in Python, instance by instance, with the interpreter's scalar semantics.

A second opinion on schedules without a C compiler: the order of instances, what they touch, and what happens when the
iterations of parallel and vector loops run backwards, shuffled, or all at once on a snapshot of memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from codegen.loops import Block, Bound, Exec, Extreme, For, If, Local, Node, Promoted
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.evaluate import apply, combiner, convert
from polyhedral.ir.program import Program, Role
from polyhedral.ir.tree import Run
from polyhedral.sets.instances import Family, Kind, families

Cell = tuple[str, tuple[int, ...]]
Value = Callable[[dict[str, int]], Any]
APART = (Run.PARALLEL, Run.VECTOR)


class OutOfBoundsError(Exception):
    """An instance touched a cell that its array does not have."""


@dataclass
class Executor:
    """One run; `iterations` says how loops without an order go: "forward", "backward", "shuffled" or "snapshot"."""

    program: Program
    sizes: Mapping[str, int]
    iterations: str = "forward"
    seed: int = 0
    order: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    races: list[Cell] = field(default_factory=list)
    layers: list[dict[Cell, Any]] = field(default_factory=list)
    touched: list[tuple[set[Cell], set[Cell]]] = field(default_factory=list)
    own: dict[str, tuple[str, dict[int, int]]] = field(default_factory=dict)
    """Of arrays in memory of their own: its name, and the first cell that it holds along each axis that is cut."""

    def __post_init__(self) -> None:
        self.families = {f.id: f for f in families(self.program)}
        self.code: dict[str, tuple[Value | None, Value]] = {}
        self.rng = random.Random(self.seed)
        self.numbers = count()
        self.memory: dict[str, np.ndarray] = {}
        self.planes = {a.name: {a.dim_names.index(d): n for d, n in a.planes} for a in self.program.arrays}

    def run(self, root: Node | None, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs and inouts; cells that nothing wrote hold 77."""
        for a in self.program.arrays:
            shape = tuple(max(0, aff.evaluate(e, {}, self.sizes)) for _, e in a.dims)
            if a.name in inputs:
                self.memory[a.name] = np.array(inputs[a.name])
            elif a.role is Role.CONSTANT and a.data is not None:
                self.memory[a.name] = convert(np.array(a.data), a.dtype).reshape(shape)
            else:
                self.memory[a.name] = np.full(shape, 77).astype(a.dtype.numpy)
        with np.errstate(all="ignore"):
            if root is not None:
                self.node(root, {})
        return {a.name: self.memory[a.name] for a in self.program.with_role(Role.OUTPUT, Role.INOUT)}

    # --- memory ------------------------------------------------------------------------------------------------------

    def place(self, array: str, index: tuple[int, ...]) -> Cell:
        """Where a cell is stored; storage reused along a dim keeps so many planes of it."""
        self.inside(array, index)
        planes = self.planes[array]
        if array in self.own:
            array, first = self.own[array]
            index = tuple(i - first.get(k, 0) for k, i in enumerate(index))
            self.inside(array, index)
        return array, tuple(i % planes[k] if k in planes else i for k, i in enumerate(index)) if planes else index

    def read(self, cell: Cell) -> Any:
        cell = self.place(*cell)
        if self.touched:
            self.touched[-1][0].add(cell)
        for layer in reversed(self.layers):
            if cell in layer:
                return layer[cell]
        array, index = cell
        return self.memory[array][index]

    def write(self, cell: Cell, value: Any) -> None:
        self.put(self.place(*cell), value)

    def put(self, cell: Cell, value: Any) -> None:
        """A value where a cell is stored."""
        array, index = cell
        if self.touched:
            self.touched[-1][1].add(cell)
        value = np.asarray(value).astype(self.memory[array].dtype)[()]
        if self.layers:
            self.layers[-1][cell] = value
        else:
            self.memory[array][index] = value

    def inside(self, array: str, index: tuple[int, ...]) -> None:
        if not all(0 <= i < n for i, n in zip(index, self.memory[array].shape, strict=True)):
            raise OutOfBoundsError(f"{array}{index}")

    # --- loops -------------------------------------------------------------------------------------------------------

    def node(self, n: Node, env: dict[str, int]) -> None:
        match n:
            case Block(children):
                for c in children:
                    self.node(c, env)
            case If(condition, then, orelse):
                if aff.holds(condition, env, self.sizes):
                    self.node(then, env)
                elif orelse is not None:
                    self.node(orelse, env)
            case Promoted(_, body):
                self.node(body, env)
            case Local():
                self.local(n, env)
            case Exec(family, at, whole):
                point = {d: aff.evaluate(e, env, self.sizes) for d, e in at}
                value = self.families[family].statement.value
                assert not whole or not isinstance(value, ex.Select) or self.value(value.cond, point, {}), "masked"
                self.instance(self.families[family], point)
            case For():
                self.loop(n, env)

    def local(self, n: Local, env: dict[str, int]) -> None:
        """New memory, full of what nobody wrote, for as long as the body runs."""
        a = self.program.array(n.array)
        cells = {d: size for d, _, size in n.cells}
        shape = tuple(cells.get(d, max(0, aff.evaluate(e, {}, self.sizes))) for d, e in a.dims)
        first = {a.dim_names.index(d): aff.evaluate(at, env, self.sizes) for d, at, _ in n.cells}
        name = f"{a.name}\0{next(self.numbers)}"
        before, self.own = self.own, {**self.own, a.name: (name, first)}
        self.memory[name] = np.full(shape, 77).astype(a.dtype.numpy)
        self.node(n.body, env)
        self.own = before

    def loop(self, n: For, env: dict[str, int]) -> None:
        values = list(range(self.bound(n.lo, env), self.bound(n.hi, env) + 1, n.step))
        if n.run not in (*APART, Run.LANES) or self.iterations == "forward":
            for v in values:
                self.node(n.body, {**env, n.name: v})
            return
        if self.iterations == "snapshot" and n.run in APART:
            self.at_once(n, values, env)
            return
        values.reverse()
        if self.iterations in ("shuffled", "snapshot"):
            self.rng.shuffle(values)
        for v in values:
            self.node(n.body, {**env, n.name: v})

    def at_once(self, n: For, values: Sequence[int], env: dict[str, int]) -> None:
        """Each iteration on the memory from before the loop; what two of them share is a race if either writes it."""
        results: list[dict[Cell, Any]] = []
        readers: dict[Cell, set[int]] = {}
        writers: dict[Cell, set[int]] = {}
        for k, v in enumerate(values):
            self.layers.append({})
            self.touched.append((set(), set()))
            self.node(n.body, {**env, n.name: v})
            results.append(self.layers.pop())
            read, written = self.touched.pop()
            for cell in read:
                readers.setdefault(cell, set()).add(k)
            for cell in written:
                writers.setdefault(cell, set()).add(k)
        if self.touched:
            self.touched[-1][0].update(readers)
            self.touched[-1][1].update(writers)
        self.races += [c for c, who in writers.items() if len(who | readers.get(c, set())) > 1]
        for result in results:
            for cell, value in result.items():
                self.put(cell, value)

    def bound(self, b: Bound, env: dict[str, int]) -> int:
        if isinstance(b, Affine):
            return aff.evaluate(b, env, self.sizes)
        assert isinstance(b, Extreme)
        return (min if b.least else max)(self.bound(a, env) for a in b.args)

    # --- instances ---------------------------------------------------------------------------------------------------

    def instance(self, f: Family, at: dict[str, int]) -> None:
        self.order.append((f.id, tuple(at[d] for d in f.dims)))
        s = f.statement
        cell = (s.write.array, tuple(aff.evaluate(i, at, self.sizes) for _, i in s.write.index))
        if f.kind is Kind.INIT:
            assert s.op is not None
            self.write(cell, ex.identity(s.op, ex.dtype_of(s.value)).value)
            return
        value = self.value(s.value, at, {})
        if f.kind is Kind.UPDATE:
            assert s.op is not None
            value = combiner(s.op)(self.read(cell), value)
        self.write(cell, value)

    def value(self, e: ex.Expr, at: Mapping[str, int], memo: dict[int, Any]) -> Any:
        if id(e) not in memo:
            memo[id(e)] = self.compute(e, at, memo)
        return memo[id(e)]

    def compute(self, e: ex.Expr, at: Mapping[str, int], memo: dict[int, Any]) -> Any:
        match e:
            case ex.Const(v, t):
                return convert(np.array(v), t)[()]
            case ex.Index(a, t):
                return t.numpy.type(aff.evaluate(a, at, self.sizes))
            case ex.Test(c):
                return np.bool_(aff.holds(c, at, self.sizes))
            case ex.Load(array, index, _):
                where = tuple(
                    aff.evaluate(i, at, self.sizes) if isinstance(i, Affine) else int(self.value(i, at, memo))
                    for _, i in index
                )
                return self.read((array, where))
            case ex.Select(cond, then, other):
                return self.value(then if self.value(cond, at, memo) else other, at, memo)
            case ex.Cast(t, arg):
                return convert(np.asarray(self.value(arg, at, memo)), t)[()]
            case ex.Unary(op, _) | ex.Binary(op, _, _) | ex.Call(op, _):
                return apply(op, *(np.asarray(self.value(c, at, memo)) for c in ex.children(e)))[()]


def execute(
    program: Program,
    root: Node,
    inputs: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
    iterations: str = "forward",
) -> dict[str, np.ndarray]:
    """The outputs and inouts of one run of the loops."""
    return Executor(program, sizes, iterations).run(root, inputs)
