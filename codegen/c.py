# SPDX-License-Identifier: MIT
"""C with OpenMP: one kernel of one program, from its loops and layouts.

A kernel is a static body over restrict pointers (several, one after another, where arrays share memory), run by every
thread of one parallel region: parallel loops share their iterations, what lies outside them is done by one thread.
cgen builds the structure; `codegen.scalar` the values.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import cgen
import numpy as np

from codegen import loops as lp
from codegen import support, units
from codegen.blocks import block, braced, branch, loop, printed_block
from codegen.divisions import divides
from codegen.partials import has_lanes, partial_region
from codegen.phases import phases, touched
from codegen.reads import Reads
from codegen.registers import Registers
from codegen.scalar import NARROW, STORAGE, UNKNOWN, Scalar, bare, c_name, integer, literal
from codegen.spelling import LANE, Spelling
from codegen.strips import strips
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.layout import Layout, address, row_major
from polyhedral.ir.program import Array, Program, Role
from polyhedral.ir.tree import Run
from polyhedral.sets.instances import Family, Kind
from polyhedral.whole.storage import Sharing

_RESERVED = frozenset((
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern",
    "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed",
    "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "I", "NAN",
    "INFINITY", "buffers", "sizes", "threads", "fault", "exp", "exp2", "log", "log2", "sqrt", "sin", "cos", "tan",
    "tanh", "sinh", "cosh", "asin", "acos", "atan", "erf", "floor", "ceil", "round", "rint", "trunc", "fabs", "fmod",
    "pow", "hypot", "y0", "y1", "yn", "j0", "j1", "jn", "gamma", "gather", "floord", "imin", "imax", "main", "lane",
    "exp_f32", units.MACRO,
))  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Text of a kernel and how to call it: `symbol(buffers, sizes, threads)` with these names in this order.

    Buffers are inputs, outputs and temporaries; sizes are the program's, then the run-time strides.  A long text is in
    several `units` (see `codegen.units`).
    """

    text: str
    symbol: str
    buffers: tuple[str, ...]
    sizes: tuple[str, ...]
    language: str = "c"
    units: int = field(default=1, kw_only=True)


@dataclass(frozen=True)
class _Body:
    """One function of a kernel: its name, what it does, which of the kernel's arrays it takes, and its unit."""

    name: str
    lines: Sequence[str]
    arrays: tuple[int, ...]
    unit: int


@dataclass(frozen=True)
class Emitter:
    program: Program
    families: Mapping[str, Family]
    layouts: Mapping[str, Layout]
    spelled: Mapping[str, str]
    checked: bool
    vector_bytes: int
    names: frozenset[str]
    """How arrays and sizes are spelled."""
    first: dict[str, dict[str, Affine]] = field(default_factory=dict[str, dict[str, Affine]])
    """For arrays in memory of their own, the first cell that this holds along each axis that is cut."""
    scalar: Scalar = field(init=False)
    registers: Registers = field(init=False)

    def __post_init__(self) -> None:
        c = Spelling(Scalar(self.spell, self.load), self.spell, self.cell, self.address, self.bound)
        reads = Reads(c, self.program, self.layouts, windows=not self.checked)
        object.__setattr__(self, "scalar", c.scalar)
        object.__setattr__(self, "registers", Registers(c, reads, self.program, self.families, self.vector_bytes))

    def spell(self, name: str) -> str:
        """A user's name in C: arrays and sizes have fixed spellings, loop variables avoid them."""
        if name == LANE:
            return "lane"
        if name in self.spelled:
            return self.spelled[name]
        made = c_name(name)
        while made in _RESERVED or made in self.names:
            made += "_"
        return made

    # --- cells -------------------------------------------------------------------------------------------------------

    def cell(self, array: str, index: Iterable[tuple[str, Affine | str]]) -> str:
        """`X[address]`: one affine address where all strides are numbers, a sum of products otherwise."""
        layout = self.layouts[array]
        if self.checked:
            index = [(d, i if isinstance(i, str) else self._tested(array, d, i)) for d, i in index]
        if array in self.first:
            index = [(d, self._from_first(array, d, i)) for d, i in index]
        planes = dict(self.program.array(array).planes)
        total, products = aff.const(0), list[str]()
        for d, i in index:
            if d in planes:
                i = i % planes[d] if isinstance(i, Affine) else f"{i} % {planes[d]}"
            stride = layout.stride(d)
            if isinstance(i, Affine) and isinstance(stride, int):
                total = total + i * stride
            elif i != aff.const(0):
                text = self.scalar.affine(i) if isinstance(i, Affine) else i
                factor = integer(stride) if isinstance(stride, int) else self.spell(stride)
                products.append(text if factor == "1" else f"{factor} * {text if text.isidentifier() else f'({text})'}")
        if total != aff.const(0) or not products:
            products.insert(0, self.scalar.affine(total))
        return f"{self.spell(array)}[{' + '.join(products)}]"

    def address(self, array: str, index: Sequence[tuple[str, Affine]]) -> Affine | None:
        first = self.first.get(array, {})
        return address(self.layouts[array], [(d, i - first[d] if d in first else i) for d, i in index])

    def _from_first(self, array: str, dim: str, index: Affine | str) -> Affine | str:
        """An index into memory of its own."""
        first = self.first[array].get(dim, aff.const(0))
        if isinstance(index, Affine):
            return index - first
        return index if first == aff.const(0) else f"({index}) - ({self.scalar.affine(first)})"

    def _tested(self, array: str, dim: str, index: Affine) -> str:
        """An index that reports the statement being run when it is out of bounds."""
        self.scalar.used.add("gather")
        extent = self.scalar.affine(self.program.array(array).extent(dim))
        return f"gather({self.scalar.affine(index)}, {extent}, {self.scalar.site}, fault)"

    def load(self, e: ex.Load, scalar: Scalar) -> str:
        array = self.program.array(e.array)
        index: list[tuple[str, Affine | str]] = []
        empty = False
        for d, i in e.index:
            if isinstance(i, Affine):
                index.append((d, i))
            else:
                scalar.used.add("gather")
                extent = array.extent(d)
                empty = empty or not (extent.is_const and extent.const > 0)
                index.append((d, f"gather({bare(scalar.value(i))}, {scalar.affine(extent)}, {scalar.site}, fault)"))
        text = self.cell(e.array, index)
        if empty:
            held = " && ".join(f"{scalar.affine(extent)} > 0" for _, extent in array.dims)
            tests = ", ".join(i for _, i in index if isinstance(i, str))
            text = f"({held} ? {text} : ({tests}, 0))"
        return text

    # --- statements --------------------------------------------------------------------------------------------------

    def execute(self, node: lp.Exec, target: str | None = None) -> list[cgen.Generable]:
        """One instance; its result goes to `target`, if that is not the cell in memory."""
        family = self.families[node.family]
        self.scalar.site = 1 + family.place
        s, at = family.statement, dict(node.at)
        array = self.program.array(s.write.array)
        target = target or self.cell(array.name, [(d, aff.substitute(i, at)) for d, i in s.write.index])
        if family.kind is Kind.INIT:
            assert s.op is not None
            return [
                cgen.Assign(
                    target,
                    self.scalar.to_storage(array.dtype, literal(ex.identity(s.op, array.dtype).value, array.dtype)),
                )
            ]
        value = ex.substitute(self.valued(s.value), at)
        lines, names = self._shared(value)
        self.scalar.names.update(names)
        lines.append(self._store(family, array, target, value))
        self.scalar.names.clear()
        return [cgen.Block(lines)] if len(lines) > 1 else lines

    def valued(self, value: ex.Expr) -> ex.Expr:
        """What is computed for a value, which may be the same in a simpler form where operands lie in other memory."""
        return value

    def _store(self, family: Family, array: Array, target: str, value: ex.Expr) -> cgen.Generable:
        s = family.statement
        if family.kind is Kind.ASSIGN:
            return cgen.Assign(target, self.scalar.to_storage(array.dtype, self.scalar.value(value)))
        assert s.op is not None
        old = self.scalar.from_storage(array.dtype, target)
        text = self.scalar.step(s.op, array.dtype, old, value, strict=s.strict)
        if text.startswith(f"{target} + ") and array.dtype.is_float:
            return cgen.Statement(f"{target} += {text.removeprefix(f'{target} + ')}")
        return cgen.Assign(target, self.scalar.to_storage(array.dtype, text))

    def _shared(self, value: ex.Expr) -> tuple[list[cgen.Generable], dict[ex.Expr, str]]:
        """Locals for sub-expressions that are used more than once and evaluated whatever branch is taken, and for what
        is masked by data.
        """
        uses: dict[ex.Expr, int] = {}
        for node in ex.walk(value):
            for child in ex.children(node):
                uses[child] = uses.get(child, 0) + 1
        lines: list[cgen.Generable] = []
        for node in _always(value):
            if (then := _masked(node)) is not None and then not in self.scalar.names:
                name = f"v{len(self.scalar.names)}"
                kind = cgen.Value(f"const {STORAGE[ex.dtype_of(then).name]}", name)
                lines.append(cgen.Initializer(kind, bare(self.scalar.value(then))))
                self.scalar.names[then] = name
            plain = isinstance(node, (ex.Const, ex.Index, ex.Test))
            if uses.get(node, 0) > 1 and not plain and node not in self.scalar.names:
                name = f"v{len(self.scalar.names)}"
                kind = STORAGE["f32"] if ex.dtype_of(node).name in NARROW else STORAGE[ex.dtype_of(node).name]
                lines.append(cgen.Initializer(cgen.Value(f"const {kind}", name), bare(self.scalar.value(node))))
                self.scalar.names[node] = name
        return lines, dict(self.scalar.names)

    # --- loops -------------------------------------------------------------------------------------------------------

    def bound(self, b: lp.Bound) -> str:
        if isinstance(b, Affine):
            return self.scalar.affine(b)
        known = [a.const for a in b.args if isinstance(a, Affine) and a.is_const]
        one = aff.const(min(known) if b.least else max(known)) if known else None
        args = list(
            dict.fromkeys(one if isinstance(a, Affine) and a.is_const and one is not None else a for a in b.args)
        )
        name = "imin" if b.least else "imax"
        text = self.bound(args[0])
        for a in args[1:]:
            self.scalar.used.add(name)
            text = f"{name}({text}, {self.bound(a)})"
        return text

    def pieces(self, root: lp.Node, *, shared: bool) -> list[units.Piece]:
        """The statements for loops; apart where these stand one after another, and may be in different functions."""
        if isinstance(root, lp.Block) and (lp.has_parallel(root) or not shared):
            return [p for n in root.children for p in self.pieces(n, shared=shared)]
        lines = (line for g in self.node(root, shared=shared) for line in g.generate())
        return [units.Piece(tuple(lines), touched(root, self.families))]

    def node(self, n: lp.Node, *, shared: bool) -> list[cgen.Generable]:
        """Statements for a node; `shared` while every thread runs this code (outside any parallel loop)."""
        if shared and (isinstance(n, lp.Local) or not lp.has_parallel(n)):  # memory of its own is one thread's
            return [cgen.Pragma("omp single"), block([*self.node(n, shared=False), *self.fence(n)])]
        match n:
            case lp.Block(children):
                return [g for c in children for g in self.node(c, shared=shared)]
            case lp.If(condition, then, orelse):
                first = self.node(then, shared=shared)
                if orelse is None:
                    return [branch(self.scalar.condition(condition), block(first), None)]
                # in braces: an else belongs to the nearest if, also to one at the end of what stands before it
                other = block(self.node(orelse, shared=shared))
                return [branch(self.scalar.condition(condition), braced(first), other)]
            case lp.For():
                return self._for(n, shared=shared)
            case lp.Promoted():
                made = partial_region(self.registers, n) if has_lanes(n) else self.registers.region(n)
                return [cgen.Block(made)]
            case lp.Local():
                return self._local(n)
            case lp.Staged(_, _, body):  # caches copy by themselves
                return self.node(body, shared=shared)
            case lp.Exec():
                return self.execute(n)

    def _local(self, n: lp.Local) -> list[cgen.Generable]:
        """An array on the stack, which a block of the loops around it fills and reads."""
        array = self.program.array(n.array)
        self.first[n.array] = {d: first for d, first, _ in n.cells}
        cells = max(prod(e.const for _, e in cut(array, n).dims), 1)
        place = f"{STORAGE[array.dtype.name]} {self.spell(n.array)}[{cells}] __attribute__((aligned(64)))"
        return [cgen.Block([cgen.Statement(place), *self.node(n.body, shared=False)])]

    def fence(self, n: lp.Node) -> list[cgen.Generable]:
        """Stores past the caches are seen by others only after a fence, which comes before their barrier."""
        if not lp.has_streams(n):
            return []
        self.scalar.used.add("store_fence")
        return [cgen.Statement("store_fence()")]

    def _for(self, n: lp.For, *, shared: bool) -> list[cgen.Generable]:
        name = self.spell(n.name)
        parallel = shared and n.run is Run.PARALLEL
        whole = strips(self.registers, n) if n.run is Run.VECTOR and not self.checked else None
        if whole is not None:
            return whole
        lo, hi = (self.scalar.span(b) if isinstance(b, Affine) else UNKNOWN for b in (n.lo, n.hi))
        self.scalar.enter(n.name, lo, hi)
        body = block(self.node(n.body, shared=shared and not parallel))
        self.scalar.leave(n.name)
        step = f"++{name}" if n.step == 1 else f"{name} += {n.step}"
        hi = n.hi + 1 if isinstance(n.hi, Affine) else None
        end = f"{name} < {self.scalar.affine(hi)}" if hi is not None else f"{name} <= {self.bound(n.hi)}"
        made = loop(f"int64_t {name} = {self.bound(n.lo)}", end, step, body)
        if parallel and lp.has_streams(n):
            return [cgen.Pragma("omp for schedule(static) nowait"), made, *self.fence(n), cgen.Pragma("omp barrier")]
        if parallel:
            return [cgen.Pragma("omp for schedule(static)"), made]
        if n.run is Run.UNROLL:
            return [cgen.Line("#pragma GCC unroll 16"), made]
        if n.run is Run.VECTOR and not any(isinstance(x, lp.For) for x in lp.walk(n.body)):
            return [made] if divides(n, self.families, self.address) else [cgen.Pragma("omp simd"), made]
        return [made]


def cut(a: Array, n: lp.Local) -> Array:
    """The array as far as its own memory goes."""
    cells = {d: aff.const(size) for d, _, size in n.cells}
    return replace(a, dims=tuple((d, cells.get(d, e)) for d, e in a.dims))


def _masked(value: ex.Expr) -> ex.Expr | None:
    """What a value is where data say so, and 0 or the like elsewhere, if it may be computed anyway: its cells are known
    to exist without asking the data.

    As a branch, gcc 12 takes it for loads under a mask, and mixes up whose mask it is where several rows lie in one
    vector (tests/issues/test_masked_rows.py).
    """
    match value:
        case ex.Select(cond, then, ex.Const()) if not any(isinstance(e, ex.Test) for e in ex.walk(cond)):
            cheap = all(
                isinstance(e, (ex.Const, ex.Unary))
                or (isinstance(e, ex.Binary) and e.op in ("+", "-", "*", "min", "max"))
                or (isinstance(e, ex.Load) and all(isinstance(i, Affine) for _, i in e.index))
                for e in ex.walk(then)
            )
            known = cheap and ex.dtype_of(then).name in ("f32", "f64") and any(True for _ in ex.loads(then))
            return then if known else None
        case _:
            return None


def _always(value: ex.Expr) -> list[ex.Expr]:
    """Nodes evaluated whatever branch a Select takes, operands first."""
    seen: dict[int, ex.Expr] = {}

    def go(node: ex.Expr) -> None:
        if id(node) in seen:
            return
        below = ex.children(node)
        if isinstance(node, ex.Select):
            below = (node.cond,)
        elif isinstance(node, ex.Binary) and node.op in ex.LOGIC:
            below = (node.lhs,)
        for c in below:
            go(c)
        seen[id(node)] = node

    go(value)
    return list(seen.values())


def emit(
    p: Program,
    families: Sequence[Family],
    root: lp.Node,
    layouts: Mapping[str, Layout],
    *,
    checked: bool = False,
    vector_bytes: int = 32,
    shared: Sharing | None = None,
) -> Source:
    """The C text of a program's kernel; `checked` tests every index at run time, `shared` are the pairs of arrays that
    may lie in one place.
    """
    symbol = f"ph_{c_name(p.name)}"
    local = {n.array: n for n in lp.walk(root) if isinstance(n, lp.Local)}
    own = {name: row_major(cut(p.array(name), n), layouts[name].order) for name, n in local.items()}
    layouts = {**layouts, **own}
    strides = tuple(dict.fromkeys(s for a in p.arrays for _, s in layouts[a.name].strides if isinstance(s, str)))
    spelled = c_spellings([*(a.name for a in p.arrays), *p.sizes, *strides])
    names = frozenset(spelled.values())
    emitter = Emitter(p, {f.id: f for f in families}, layouts, spelled, checked, vector_bytes, names)
    parallel = lp.has_parallel(root)
    apart = {*local, *(n.array for n in lp.walk(root) if isinstance(n, lp.Promoted) and not n.stored)}
    arrays = [a for a in p.arrays if a.role is not Role.CONSTANT and a.name not in apart]
    made: list[list[units.Piece]] = []
    for part in phases(root, emitter.families, Sharing() if shared is None else shared):
        every = emitter.pieces(part.root, shared=parallel)
        fence = () if parallel else tuple(line for g in emitter.fence(part.root) for line in g.generate())
        made.append([*every, units.Piece(fence, frozenset())] if fence else every)
    functions, unit = units.functions(made)
    bodies = [
        _Body(
            f"{symbol}_body" if len(functions) == 1 else f"{symbol}_phase_{k}",
            f.lines,
            tuple(i for i, a in enumerate(arrays) if len(functions) == 1 or a.name in f.arrays),
            unit[k],
        )
        for k, f in enumerate(functions)
    ]
    count = max(unit, default=1)
    scalars = (*p.sizes, *strides)
    text = "\n".join([*_head(p, emitter, count), *_functions(symbol, emitter, arrays, scalars, bodies, parallel), ""])
    return Source(text, symbol, tuple(a.name for a in arrays), scalars, units=count)


def c_spellings(names: Sequence[str]) -> dict[str, str]:
    spelled: dict[str, str] = {}
    taken: set[str] = set()
    for n in names:
        made = c_name(n)
        while made in _RESERVED or keyword.iskeyword(made) or made in taken:
            made += "_"
        spelled[n] = made
        taken.add(made)
    return spelled


def _head(p: Program, emitter: Emitter, count: int) -> list[str]:
    """What all units share."""
    complex_used = any(a.dtype.kind == "c" for a in p.arrays) or any(
        ex.dtype_of(n).kind == "c" for s in p.statements for n in ex.walk(s.value) if isinstance(n, ex.Const | ex.Cast)
    )
    includes = ["stdint.h", "math.h", *(["complex.h"] if complex_used else [])]
    named = " ".join(p.name.split()).replace("*/", "* /")  # a name that would end the comment
    lines = [f"/* {named}: generated by polyhedral-loops */", *(str(cgen.Include(i)) for i in includes), ""]
    lines += units.head(count) if count > 1 else []
    helpers = support.text(emitter.scalar.used)
    lines += [helpers, ""] if helpers else []
    vectors = emitter.registers.c.vectors
    lines += ["\n".join(vectors.head()), ""] if vectors.types else []
    for a in p.with_role(Role.CONSTANT):
        values = ", ".join(constant_value(v, a) for v in a.data or ())
        table = f"const {STORAGE[a.dtype.name]} {emitter.spell(a.name)}[]"
        if count == 1 or len(values) < units.TABLE:
            lines += [f"static {table} = {{{values or 0}}};", ""]
        else:
            lines += [f'extern {table} __attribute__((visibility("hidden")));']
            lines += units.within(1, [f"{table} = {{{values}}};"])
    return lines


def constant_value(v: bool | int | float | complex, a: Array) -> str:
    """One value of a constant as its storage has it."""
    return literal(v, a.dtype) if a.dtype.bits >= 32 or not a.dtype.is_float else str(_bits(v, a))


def _bits(v: bool | int | float | complex, a: Array) -> int:
    """A narrow float constant as its storage bits."""
    return int(np.asarray(v).astype(a.dtype.numpy).view(f"u{a.dtype.bits // 8}"))


def _functions(
    symbol: str,
    emitter: Emitter,
    arrays: Sequence[Array],
    sizes: Sequence[str],
    bodies: Sequence[_Body],
    parallel: bool,
) -> list[str]:
    scalars = [f"const int64_t {emitter.spell(n)}" for n in sizes]
    fault = "gather" in emitter.scalar.used
    parts: dict[int, list[str]] = {}
    count = max((b.unit for b in bodies), default=1)
    # noipa: gcc 12 may rewrite addresses so that it takes the body for one without effect, and drops the call
    kind = "noinline, noipa" if count == 1 else 'noinline, noipa, visibility("hidden")'
    known: list[str] = []
    calls: list[str] = []
    for b in bodies:
        taken = [*(_pointer(arrays[i], emitter) for i in b.arrays), *scalars, *(["int32_t *fault"] if fault else [])]
        head = f"{'static ' * (count == 1)}__attribute__(({kind})) void {b.name}({', '.join(taken) or 'void'})"
        known.append(f"{head};")
        parts.setdefault(b.unit, []).extend([f"{head} {printed_block(b.lines)}", ""])
        args = [*(f"buffers[{i}]" for i in b.arrays), *(f"sizes[{i}]" for i in range(len(scalars)))]
        calls.append(f"{b.name}({', '.join([*args, *(['&fault'] if fault else [])])});")
    if len(calls) > 1:
        calls = ["{", *(f"  {c}" for c in calls), "}"]
    region = ["  #pragma omp parallel num_threads(threads) if (threads > 1)"] if parallel else []
    unused = [
        f"  (void){n};" for n, needed in (("buffers", arrays), ("sizes", scalars), ("threads", region)) if not needed
    ]
    entry = [
        f"int32_t {symbol}(void *const *buffers, const int64_t *sizes, int32_t threads) {{",
        *unused,
        "  int32_t fault = 0;",
        *region,
        *(f"  {c}" for c in calls),
        "  return fault;",
        "}",
    ]
    if count == 1:
        return [line for lines in parts.values() for line in lines] + entry
    last = [*parts.pop(count), *entry]
    return [*known, "", *(x for u in sorted(parts) for x in units.within(u, parts[u])), *units.within(count, last)]


def _pointer(a: Array, emitter: Emitter) -> str:
    const = "const " if a.role is Role.INPUT else ""
    return f"{const}{STORAGE[a.dtype.name]} *restrict {emitter.spell(a.name)}"
