# SPDX-License-Identifier: MIT
"""Vectors in C: their types, and the small functions over them that a kernel turns out to need.

One definition each, by name; what they are for is left to those who ask for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from codegen import elementary, exponential, extremes, support
from codegen.scalar import STORAGE, bare, value_type
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import DType

JOIN, KEPT, SLIDE, WINDOW = "join", "kept", "slide", "window"
"""How the functions begin that take several loads for one vector, that keep one in its register, that make one of two,
or that mask it.
"""


@dataclass
class Vectors:
    """Vectors of `lanes` values; collects the types and functions that are used."""

    functions: dict[str, str] = field(default_factory=dict[str, str])
    types: dict[str, str] = field(default_factory=dict[str, str])
    picks: dict[tuple[str, tuple[int, ...]], str] = field(default_factory=dict[tuple[str, tuple[int, ...]], str])
    lanes: int = 1

    def combined(self, op: str, t: DType, a: str, b: str) -> str:
        if op in ("+", "-", "*") and t.kind == "i":  # it wraps, as unsigned does; signed overflow may mean anything
            wide = f"u{t.bits}x{self.lanes}"
            self.types[wide] = vector_typedef(wide, f"uint{t.bits}_t", t.bits // 8, self.lanes)
            return f"({self.type(t)})(({wide}){a} {op} ({wide}){b})"
        if op not in ("min", "max"):
            return f"({a} {op} {b})"
        return f"{self._extreme(op, t)}({bare(a)}, {bare(b)})"

    def folded(self, op: str, t: DType) -> str:
        """A function that combines all lanes of a vector, the upper half with the lower until one is left."""
        vector = self.type(t)
        name = f"{op}_of_{vector}"
        lines: list[str] = []
        half = self.lanes // 2
        while half:
            upper = tuple(half + i % half for i in range(self.lanes))
            halves = self.combined(ex.REDUCTIONS[op], t, "v", f"{self.pick(t, upper)}(v, v)")
            lines.append(f"  v = {bare(halves)};")
            half //= 2
        body = "\n".join([*lines, "  return v[0];"])
        self.functions[name] = f"static inline {value_type(t)} {name}({vector} v) {{\n{body}\n}}"
        return name

    def _extreme(self, op: str, t: DType) -> str:
        """min or max of vectors; NaN wins, as in the scalar functions."""
        vector = self.type(t)
        name = f"{op}_{vector}"
        mask = self._mask(t)
        self.functions[name] = extremes.vector_extreme(name, op, vector, mask, t.bits, self.lanes, floats=t.is_float)
        return name

    def extreme_of_three(self, op: str, t: DType) -> str:
        """A function: min or max of three vectors; NaN wins."""
        vector, two = self.type(t), self._extreme(op, t)
        name = f"{op}3_{vector}"
        self.functions[name] = extremes.vector_extreme_of_three(name, op, two, vector, t.bits, self.lanes)
        return name

    def _mask(self, t: DType) -> str:
        """The vector type of comparisons and of patterns."""
        name = f"{'i64' if t.bits == 64 else 'i32'}x{self.lanes}"
        self.types[name] = vector_typedef(name, f"int{t.bits}_t", t.bits // 8, self.lanes)
        return name

    def fma(self, t: DType) -> str:
        """A fused multiply-add of vectors: the machine's instruction where the compiler names it, lanes elsewhere."""
        vector = self.type(t)
        name = f"fma_{vector}"
        self.functions[name] = support.vector_fma(name, vector, t.bits, self.lanes)
        return name

    def elementary(self, fn: str, t: DType) -> str:
        """An elementary function in all lanes."""
        vector = self.type(t)
        name = f"{fn}_{vector}"
        if fn == "exp" and t.bits == 32:
            self.functions[name] = exponential.vector_exp(name, vector, self.lanes)
            return name
        self.functions[name] = elementary.vector_elementary(name, fn, vector, t.bits, self.lanes)
        return name

    def exponentials(self, t: DType, count: int) -> str | None:
        """A function that puts exponentials in the place of several vectors; None where it would be no faster."""
        if t.name != "f32" or self.lanes != 8 or count == 1:
            return None
        vector, whole = self.type(t), f"u32x{self.lanes}"
        self.types[whole] = vector_typedef(whole, "uint32_t", 4, self.lanes)
        name = f"exp{count}_{vector}"
        self.functions[name] = exponential.several_exps(name, vector, whole, count)
        return name

    def mask(self, t: DType) -> str:
        """A function that says for each lane whether `first + step * lane` is not negative."""
        whole = self._mask(t)
        name = f"not_negative_{whole}"
        self.functions[name] = support.vector_not_negative(name, whole, t.bits, self.lanes)
        return name

    def mask_type(self, t: DType) -> str:
        """The type of masks for vectors of `t`."""
        return self._mask(t)

    def choose(self, t: DType) -> str:
        """A function that takes lanes of one vector where a mask is set, and of another elsewhere."""
        vector = self.type(t)
        name = f"choose_{vector}"
        self.functions[name] = support.vector_choose(name, vector, self._mask(t))
        return name

    def join(self, t: DType, count: int) -> str:
        """A function that loads a vector from so many places."""
        vector = self.type(t)
        name = f"{JOIN}{count}_{vector}"
        for n in range(count.bit_length() - 1):
            lanes = self.lanes >> (n + 1)
            part = f"{t.name}x{lanes}"
            self.types[part] = vector_typedef(part, STORAGE[t.name], t.bits // 8, lanes)
        self.functions[name] = support.vector_join(name, t.name, STORAGE[t.name], self.lanes, count)
        return name

    def kept(self, t: DType) -> str:
        """A function that keeps a vector in its register from here on."""
        vector = self.type(t)
        name = f"{KEPT}_{vector}"
        self.functions[name] = support.vector_kept(name, vector, t.bits // 8 * self.lanes)
        return name

    def all_kept(self, t: DType, count: int) -> str:
        """A function that has several vectors in a register each where it is called."""
        vector = self.type(t)
        name = f"{KEPT}{count}_{vector}"
        self.functions[name] = support.vectors_kept(name, vector, t.bits // 8 * self.lanes, count)
        return name

    def pick(self, t: DType, lanes: tuple[int, ...]) -> str:
        """A function that picks lanes of two vectors; one for each pattern."""
        vector = self.type(t)
        name = self.picks.setdefault((vector, lanes), f"pick{len(self.picks)}_{vector}")
        self.functions[name] = support.vector_pick(name, vector, self._mask(t), lanes)
        return name

    def slide(self, t: DType, by: int) -> str:
        """A function that makes a vector of the last lanes of one and the first of another."""
        vector = self.type(t)
        name = f"{SLIDE}{by}_{vector}"
        self.functions[name] = support.vector_slide(name, vector, self._mask(t), t.bits, self.lanes, by)
        return name

    def part(self, t: DType, count: int) -> str:
        """A function that stores so many lanes."""
        vector = self.type(t)
        name = f"store{count}_{vector}"
        self.functions[name] = support.vector_part(name, vector, STORAGE[t.name], t.bits // 8, self.lanes, count)
        return name

    def window(self, t: DType, step: int) -> str:
        """A function that loads every `step`-th cell of what exists of a row."""
        vector, scalar = self.type(t), STORAGE[t.name]
        one = f"{WINDOW}_{vector}"
        self.functions[one] = support.vector_window(one, vector, scalar, t.bits // 8, self.lanes)
        if step == 1:
            return one
        name = f"{WINDOW}{step}_{vector}"
        self.functions[name] = support.vector_every_other(name, one, vector, scalar, self.lanes)
        return name

    def stream(self, t: DType) -> str:
        vector = self.type(t)
        name = f"stream_{vector}"
        self.functions[name] = support.vector_stream(name, vector, STORAGE[t.name], t.bits // 8 * self.lanes)
        return name

    def type(self, t: DType) -> str:
        """The vector type of as many values of `t` as results have lanes."""
        scalar = value_type(t)
        name = f"{'f32' if scalar == 'float' else t.name}x{self.lanes}"
        size = 4 if scalar == "float" else t.bits // 8
        self.types[name] = vector_typedef(name, scalar, size, self.lanes)
        return name

    def splat(self, t: DType) -> str:
        vector = self.type(t)
        name = f"all_{vector}"
        self.functions[name] = (
            f"static inline {vector} {name}({value_type(t)} x) {{\n"
            f"  {vector} v;\n  for (int i = 0; i < {self.lanes}; ++i) v[i] = x;\n  return v;\n}}"
        )
        return name

    def head(self) -> list[str]:
        """Types and lane functions, to stand before the kernel."""
        return [*self.types.values(), *self.functions.values()]


def vector_typedef(name: str, scalar: str, size: int, lanes: int) -> str:
    """A vector type that may be loaded from any element's address."""
    return f"typedef {scalar} {name} __attribute__((vector_size({size * lanes}), aligned({size}), may_alias));"
