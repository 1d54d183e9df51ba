# SPDX-License-Identifier: MIT
"""Tiles of matrix units: warps load them from shared memory, multiply and add them, and take results apart again.

CUDA's `nvcuda::wmma`: what lies where within a tile is the hardware's business; results come back through memory that a
warp has for itself, cell by cell, where epilogues are computed and stores that lie outside left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cgen

from codegen import loops as lp
from codegen.blocks import block, branch, loop
from codegen.scalar import STORAGE
from codegen.staging import Staging
from polyhedral.devices.matrix import factors
from polyhedral.devices.plan import SIDE, WARP, Matrix, Spread
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Var
from polyhedral.ir.program import Array
from polyhedral.sets.instances import Family, Kind

WORDS = "nvcuda::wmma"
_TYPES = {"f16": "__half", "bf16": "__nv_bfloat16", "tf32": f"{WORDS}::precision::tf32"}
_POINTERS = {"f16": "const __half *", "bf16": "const __nv_bfloat16 *", "tf32": "const float *"}


@dataclass(frozen=True)
class Tiles(Staging):
    """Emits matrix instructions for the loops of their tiles."""

    @property
    def _matrix(self) -> Matrix:
        assert self.nest is not None
        assert self.nest.plan.matrix is not None
        return self.nest.plan.matrix

    def _digits(self, load: ex.Load) -> tuple[tuple[str, int] | None, str]:
        """Of the dim that moves an operand: which tile of a warp, if there are several, and the place within one."""
        assert self.nest is not None
        moved = frozenset[str]().union(*(aff.dims_of(i) for _, i in load.index if isinstance(i, Affine)))
        *runs, one, other = self.nest.rows
        run = next(((d, n) for d, n in runs if d in moved), None)
        return run, one[0] if one[0] in moved else other[0]

    def _operands(self) -> tuple[ex.Load, ex.Load]:
        found = factors(self._statement, self.device)
        assert found is not None
        one, other, _ = found
        return (one, other) if one.array == self._matrix.operands[0].array else (other, one)

    def tiled(self, n: lp.For) -> list[cgen.Generable] | None:
        """The loops over the tiles of a warp, if these are some; those of an epilogue come with the results."""
        nest = self.nest
        if nest is None or nest.plan.matrix is None or n.name not in dict(nest.rows):
            return None
        ran = next(x for x in lp.walk(n) if isinstance(x, lp.Exec))
        name = self._named(f"acc_{self.spell(self._statement.write.array)}")
        match self.families[ran.family].kind:
            case Kind.INIT:
                runs = [r for r in map(self._run, self._operands()) if r is not None]
                fill = cgen.Statement(f"{WORDS}::fill_fragment({self._acc(name)}, 0.0f)")
                return self.each(runs, [fill])
            case Kind.UPDATE:
                return [cgen.Block(self._multiplied(name, ran))]
            case Kind.ASSIGN:
                return []

    def _run(self, load: ex.Load) -> tuple[str, int] | None:
        return self._digits(load)[0]

    def _acc(self, name: str) -> str:
        """The tile of results at hand."""
        return name + "".join(f"[{self.spell(r[0])}]" for r in map(self._run, self._operands()) if r is not None)

    def _multiplied(self, name: str, ran: lp.Exec) -> list[cgen.Generable]:
        """Each operand's tiles are loaded once for all tiles of results."""
        lines: list[cgen.Generable] = []
        texts: list[str] = []
        runs: list[tuple[str, int]] = []
        for load, spread, letter in zip(self._operands(), self._matrix.operands, "ab", strict=True):
            run, _ = self._digits(load)
            runs += [run] if run is not None else []
            fragment = self._named(f"{letter}_{self.spell(load.array)}")
            text = fragment + (f"[{self.spell(run[0])}]" if run is not None else "")
            texts.append(text)
            count = f"[{run[1]}]" if run is not None else ""
            row_major = (spread.along == self._matrix.k) == (letter == "a")
            order = f"{WORDS}::{'row' if row_major else 'col'}_major"
            shape = f"{SIDE}, {SIDE}, {self._matrix.depth}, {_TYPES[self._matrix.kind]}, {order}"
            lines.append(cgen.Statement(f"{WORDS}::fragment<{WORDS}::matrix_{letter}, {shape}> {fragment}{count}"))
            lines += self.each([run] if run is not None else [], self._loaded(text, load, spread, ran))
        acc = self._acc(name)
        product = cgen.Statement(f"{WORDS}::mma_sync({acc}, {texts[0]}, {texts[1]}, {acc})")
        return [*lines, *self.each(runs, [product])]

    def _loaded(self, fragment: str, load: ex.Load, spread: Spread, ran: lp.Exec) -> list[cgen.Generable]:
        assert self.nest is not None
        assert self.nest.depth is not None
        own = self._digits(load)[1]
        zero = {d: aff.const(0) for d in (own, self.nest.depth)}
        at = dict(ran.at)
        first = [(d, aff.substitute(aff.substitute(i, at), zero)) for d, i in load.index if isinstance(i, Affine)]
        cell = self.cell(load.array, first)
        digit = self.nest.depth if spread.other == self._matrix.k else own
        apart = self._apart(load, digit)
        lines: list[cgen.Generable] = [
            cgen.Statement(f"{WORDS}::load_matrix_sync({fragment}, ({_POINTERS[self._matrix.kind]})&{cell}, {apart})")
        ]
        if self._matrix.kind == "tf32":
            rounded = cgen.Assign(f"{fragment}.x[e]", f"{WORDS}::__float_to_tf32({fragment}.x[e])")
            lines.append(loop("int e = 0", f"e < {fragment}.num_elements", "++e", rounded))
        return lines

    def _apart(self, load: ex.Load, digit: str) -> int:
        """How far apart in shared memory the rows of a tile begin."""
        box = self.boxes[load.array]
        strides, step = dict[str, int](), 1
        for place, (d, n) in enumerate(reversed(box.axes)):
            strides[d] = step
            step *= n + (box.pad if place == 0 else 0)
        return sum(i.coefficient(Var(digit)) * strides[d] for d, i in load.index if isinstance(i, Affine))

    def results(
        self, regions: Sequence[lp.Promoted], body: lp.Node, inner: list[cgen.Generable]
    ) -> list[cgen.Generable]:
        """A region whose results are in tiles: what is computed, then cell by cell what follows and the stores."""
        nest, s = self.nest, self._statement
        assert nest is not None
        array = self.program.array(s.write.array)
        one, other = self._operands()
        runs = [r for r in map(self._run, (one, other)) if r is not None]
        name = self._named(f"acc_{self.spell(array.name)}")
        shape = f"{SIDE}, {SIDE}, {self._matrix.depth}, float"
        counts = "".join(f"[{n}]" for _, n in runs)
        warps = nest.plan.threads // WARP
        scratch = self._named(f"{self.spell(array.name)}_tile")
        cells = SIDE * SIDE
        declared = self.dialect.shared.format(type="float", name=f"{scratch}[{warps}][{cells}]")
        self.shared[scratch] = declared, warps * cells * 4
        mine = f"{scratch}[{self._thread()} / {WARP}]"
        dense = self.layouts[array.name].order[-1]
        rows = self._digits(one)[1], self._digits(other)[1]
        target = dict(s.write.index)[dense]
        turned = bool(target.coefficient(Var(rows[0])))
        slow, fast = reversed(rows) if turned else rows
        major = "col" if turned else "row"
        acc = self._acc(name)
        put = f"{WORDS}::store_matrix_sync({mine}, {acc}, {SIDE}, {WORDS}::mem_{major}_major)"
        each = [
            cgen.Initializer(cgen.Value(f"const {self.index}", self.spell(slow)), f"cell / {SIDE}"),
            cgen.Initializer(cgen.Value(f"const {self.index}", self.spell(fast)), f"cell % {SIDE}"),
            *self._cell_by_cell(regions, body, f"{mine}[cell]"),
        ]
        lane = loop(f"int cell = {self._thread()} % {WARP}", f"cell < {cells}", f"cell += {WARP}", block(each))
        wait = cgen.Statement("__syncwarp()")
        tile: list[cgen.Generable] = [cgen.Statement(put), wait, cgen.Line("#pragma unroll"), lane, wait]
        made = cgen.Statement(f"{WORDS}::fragment<{WORDS}::accumulator, {shape}> {name}{counts}")
        return [made, *inner, *self.each(runs, tile)]

    def _cell_by_cell(self, regions: Sequence[lp.Promoted], body: lp.Node, result: str) -> list[cgen.Generable]:
        """The epilogue of one result, and its stores."""
        assert self.nest is not None
        within = aff.both(*self.nest.within)
        main = self._statement.write.array
        held = {main: result}
        lines: list[cgen.Generable] = []
        for r in regions:
            if r.array != main:
                a = self.program.array(r.array)
                held[r.array] = self._named(f"acc_{self.spell(r.array)}")
                lines.append(cgen.Statement(f"{STORAGE[a.dtype.name]} {held[r.array]}"))
        self.held.update(held)
        self.outside.extend(aff.conjuncts(within))
        for x in lp.walk(body):
            if isinstance(x, lp.Exec) and self.families[x.family].kind is Kind.ASSIGN:
                lines += self.execute(x, held[self.families[x.family].statement.write.array])
        self.outside.clear()
        for r in regions:
            if r.stored:
                stored = cgen.Assign(self.target(self.program.array(r.array), body, keep=True), held[r.array])
                lines.append(stored if within == aff.TRUE else branch(self.scalar.condition(within), stored, None))
            del self.held[r.array]
        return lines

    def target(self, array: Array, body: lp.Node, *, keep: bool = False) -> str:
        """The cell of the result at hand in memory, in digits; `keep` those of loops inside, which are at hand too."""
        ran = next(
            x for x in lp.walk(body) if isinstance(x, lp.Exec) and self._family(x).statement.write.array == array.name
        )
        s = self._family(ran).statement
        loops = set[str]() if keep else {x.name for x in lp.walk(body) if isinstance(x, lp.For)}
        at = {d: e for d, e in ran.at if not aff.dims_of(e) & loops}
        return self.cell(array.name, [(d, aff.substitute(i, at)) for d, i in s.write.index])

    def _family(self, x: lp.Exec) -> Family:
        return self.families[x.family]
