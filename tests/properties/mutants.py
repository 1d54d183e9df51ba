# SPDX-License-Identifier: MIT
"""Planted faults: trees that are not legal, and loops that lost a bound, a guard, a dim or an initialisation.

Each must be seen, by the oracle or by executing the loops: see `test_mutants`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from codegen import loops as lp
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Size, Var
from polyhedral.ir.program import Program, specialise
from polyhedral.ir.tree import Band, Filter, Leaf, Member, Run, Tree, map_bands
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.scheduling.schedule import original
from polyhedral.sets.instances import Kind, families
from polyhedral.text.reader import parse
from polyhedral.transforms.tile import tile
from polyhedral.transforms.wavefront import wavefront
from tests.programs import CASES

LEAF = Leaf()

# --- illegal trees ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A program, its sizes, and a tree that is not legal for it."""

    name: str
    program: Program
    sizes: Mapping[str, int]
    tree: Tree


def band(ids: Sequence[str], times: Sequence[str | Affine], child: Tree = LEAF, runs: Mapping[int, Run] = {}) -> Tree:
    """A band over some families; a string is the time of the dim with this name."""
    members = []
    for k, t in enumerate(times):
        at = aff.var(t) if isinstance(t, str) else t
        members.append(Member(f"c{k}", tuple((f, at) for f in ids), False, runs.get(k, Run.SERIAL)))
    return Band(tuple(members), child, True)


def sequence(*parts: tuple[Sequence[str], Tree]) -> Tree:
    return InOrder(tuple(Filter(tuple(ids), t) for ids, t in parts))


def _case(name: str) -> tuple[Program, Mapping[str, int]]:
    case = CASES[name]
    return specialise(case.program, case.sizes), case.sizes


def backwards(tree: Tree) -> Tree:
    """Every band member counted down."""

    def turned(b: Band) -> Tree:
        return replace(b, members=tuple(replace(m, times=tuple((f, -t) for f, t in m.times)) for m in b.members))

    return map_bands(tree, turned)


def marked(tree: Tree, at: int, run: Run) -> Tree:
    """The same member of every band marked."""

    def one(b: Band) -> Tree:
        return replace(b, members=tuple(replace(m, run=run) if i == at else m for i, m in enumerate(b.members)))

    return map_bands(tree, one)


def swapped(tree: Tree) -> Tree:
    """Every sequence backwards."""
    match tree:
        case InOrder(children):
            return InOrder(tuple(Filter(c.families, swapped(c.child)) for c in children[::-1]))
        case Filter(_, child) | Band(_, child):
            return replace(tree, child=swapped(child))
        case _:
            return tree


def _rotated(tree: Tree) -> Tree:
    def one(b: Band) -> Tree:
        return replace(b, members=b.members[1:] + b.members[:1])

    return map_bands(tree, one)


def _tiled(tree: Tree, size: int) -> Tree:
    return map_bands(tree, lambda b: tile(b, [size] * len(b.members)))


GENERAL: Mapping[str, Callable[[Tree], Tree]] = {
    "backwards": backwards,
    "swapped": swapped,
    "rotated": _rotated,
    "first member parallel": lambda t: marked(t, 0, Run.PARALLEL),
    "second member parallel": lambda t: marked(t, 1, Run.PARALLEL),
    "last member vector": lambda t: marked(marked(t, 2, Run.VECTOR), 1, Run.VECTOR),
    "last member in lanes": lambda t: marked(marked(t, 2, Run.LANES), 1, Run.LANES),
    "tiled": lambda t: _tiled(t, 2),
    "tiles of rotated": lambda t: _tiled(_rotated(t), 2),
    "wave backwards": lambda t: backwards(map_bands(t, lambda b: wavefront(b) if len(b.members) > 1 else b)),
    "backwards and swapped": lambda t: swapped(backwards(t)),
}
"""Changes that are illegal for many programs, tried on the written order of each."""


def general() -> Iterator[Fault]:
    """Every change of every zoo program; those that happen to be legal are told apart by execution."""
    for name in CASES:
        p, sizes = _case(name)
        start = original(families(p))
        for how, change in GENERAL.items():
            yield Fault(f"{name}: {how}", p, sizes, change(start))


def crafted() -> Iterator[Fault]:
    """One illegal tree for each thing the oracle must know."""
    p, sizes = _case("matmul")
    init, update = ("S0i",), ("S0",)
    both = (*init, *update)
    ij, ijk = ("i", "j"), ("i", "j", "k")
    fused = sequence((init, Leaf()), (update, band(update, ("k",))))
    yield Fault("update before init", p, sizes, sequence((update, band(update, ijk)), (init, band(init, ij))))
    yield Fault("update before init, in one nest", p, sizes, band(both, ij, swapped(fused)))
    yield Fault("init inside the reduction", p, sizes, _init_late(both, init, update))
    for k, how in ((0, Run.PARALLEL), (0, Run.VECTOR)):
        reduced = sequence((init, Leaf()), (update, band(update, ("k",), runs={k: how})))
        yield Fault(f"reduced dim {how.value}", p, sizes, band(both, ij, reduced))
    yield Fault(
        "reduced tiles parallel", p, sizes,
        sequence((init, band(init, ij)), (update, _parallel_tiles(update, ("k", "i", "j"), [2, 0, 0]))),
    )  # fmt: skip
    yield Fault("nothing orders init", p, sizes, _together(both))
    p, sizes = _case("relu_chain")
    out, init, main = ("S0",), ("S1i",), ("S1",)
    producer = sequence((init, band(init, ij)), (main, band(main, ijk)))
    yield Fault("consumer before producer", p, sizes, sequence((out, band(out, ij)), ((*init, *main), producer)))
    yield Fault(
        "consumer amid the reduction", p, sizes,
        sequence((init, band(init, ij)), ((*out, *main), _fused_too_deep(out, main))),
    )  # fmt: skip
    p, sizes = _case("dot")
    strict = sequence((("S0i",), Leaf()), (("S0",), band(("S0",), (aff.var("i") * -1,))))
    yield Fault("strict sum backwards", p, sizes, strict)
    strict = sequence((("S0i",), Leaf()), (("S0",), band(("S0",), ("i",), runs={0: Run.LANES})))
    yield Fault("strict sum along the lanes", p, sizes, strict)
    strict = sequence((("S0i",), Leaf()), (("S0",), tile(_plain(("S0",), (aff.var("i") % 2, "i")), [0, 0])))
    yield Fault("strict sum in two strands", p, sizes, strict)
    p, sizes = _case("softmax")
    order = ("S0i", "S0", "S1", "S2i", "S2", "S3")
    for a, b in ((1, 2), (2, 4), (4, 5), (0, 1), (3, 4)):
        ids = list(order)
        ids[a], ids[b] = ids[b], ids[a]
        parts = [((f,), band((f,), ("i",) if f.endswith("i") else ("i", "k"))) for f in ids]
        yield Fault(f"softmax with {order[a]} and {order[b]} exchanged", p, sizes, sequence(*parts))
    yield Fault("softmax fused over k", p, sizes, _softmax_fused(order))
    yield from _stencils()
    yield from _memory()


def _plain(ids: Sequence[str], times: Sequence[str | Affine]) -> Band:
    made = band(ids, times)
    assert isinstance(made, Band)
    return made


def _parallel_tiles(ids: Sequence[str], dims: Sequence[str], sizes: Sequence[int]) -> Tree:
    return marked(tile(_plain(ids, dims), sizes), 0, Run.PARALLEL)


def _together(both: Sequence[str]) -> Tree:
    """Initialisation and updates at the same times, in no order."""
    members = tuple(
        Member(d, tuple((f, aff.var(d) if d in "ij" or f == "S0" else aff.const(3)) for f in both))
        for d in ("i", "j", "k")
    )
    return Band(members, Leaf())


def _init_late(both: Sequence[str], init: Sequence[str], update: Sequence[str]) -> Tree:
    """The initialisation runs when k is 2."""
    k = Member("k", ((init[0], aff.const(2)), (update[0], aff.var("k"))))
    ij = tuple(Member(d, tuple((f, aff.var(d)) for f in both)) for d in "ij")
    return Band((*ij, k), sequence((init, Leaf()), (update, Leaf())))


def _fused_too_deep(out: Sequence[str], main: Sequence[str]) -> Tree:
    k = Member("k", ((out[0], aff.const(1)), (main[0], aff.var("k"))))
    ij = tuple(Member(d, tuple((f, aff.var(d)) for f in (*out, *main))) for d in "ij")
    return Band((*ij, k), sequence((main, Leaf()), (out, Leaf())))


def _softmax_fused(order: Sequence[str]) -> Tree:
    """The maximum and its use advance together along k."""
    first = sequence((order[:1], band(order[:1], ("i",))), (order[1:3], _pair(order[1:3])), *_rest(order))
    return first


def _pair(ids: Sequence[str]) -> Tree:
    members = tuple(Member(d, tuple((f, aff.var(d)) for f in ids)) for d in ("i", "k"))
    return Band(members, sequence((ids[:1], Leaf()), (ids[1:], Leaf())))


def _rest(order: Sequence[str]) -> Iterator[tuple[Sequence[str], Tree]]:
    for f in order[3:]:
        yield (f,), band((f,), ("i",) if f.endswith("i") else ("i", "k"))


def _stencils() -> Iterator[Fault]:
    p, sizes = _case("gauss_seidel")
    txy = ("t", "y", "x")
    yield Fault("unskewed tiles over time", p, sizes, tile(_plain(("S0",), txy), [2, 2, 2]))
    yield Fault("space outside time", p, sizes, band(("S0",), ("y", "t", "x")))
    yield Fault("x outside y", p, sizes, band(("S0",), ("t", aff.var("x") * -1, "y")))
    yield Fault("rows parallel", p, sizes, band(("S0",), txy, runs={1: Run.PARALLEL}))
    yield Fault("lanes along x", p, sizes, band(("S0",), txy, runs={2: Run.VECTOR}))
    skew = (aff.var("t"), aff.var("y") + aff.var("t") * -1, aff.var("x"))
    yield Fault("skewed the wrong way, then tiled", p, sizes, tile(_plain(("S0",), skew), [0, 2, 0]))
    wave = (aff.var("y") + aff.var("x"), "t", "x")
    yield Fault("wave of one sweep only", p, sizes, band(("S0",), wave))
    p, sizes = _case("scan2d")
    yield Fault("scan: parallel", p, sizes, band(("S0",), ("i", "j"), runs={0: Run.PARALLEL}))
    yield Fault("scan: lanes", p, sizes, band(("S0",), ("i", "j"), runs={1: Run.LANES}))
    yield Fault("scan: vector", p, sizes, band(("S0",), ("i", "j"), runs={1: Run.VECTOR}))
    wave = (aff.var("i") - aff.var("j"), "j")
    yield Fault("scan: wrong wave", p, sizes, band(("S0",), wave))
    yield Fault("scan: parallel wave tiles", p, sizes, _parallel_wave())
    p, sizes = _case("prefix_sum")
    yield Fault("scan in strands", p, sizes, band(("S0",), (aff.var("i") % 3, "i")))
    yield Fault("scan in blocks, last first", p, sizes, band(("S0",), ((aff.var("i") // 3) * -1, "i")))
    yield Fault("scan by threads", p, sizes, band(("S0",), (aff.var("i") // 3, "i"), runs={0: Run.PARALLEL}))


def _parallel_wave() -> Tree:
    """Both dims of the tiles parallel under no wave."""
    return marked(marked(tile(_plain(("S0",), ("i", "j")), [2, 2]), 0, Run.PARALLEL), 1, Run.PARALLEL)


def _memory() -> Iterator[Fault]:
    p, sizes = _case("lu")
    s0, s1 = (aff.var("k"), aff.var("i")), (aff.var("k"), aff.var("i"), aff.var("j"))
    whole = sequence((("S0",), band(("S0",), s0)), (("S1",), band(("S1",), s1)))
    yield Fault("LU without its outer loop", p, sizes, whole)
    yield Fault("LU update before division", p, sizes, _lu(first="S1"))
    yield Fault("LU with i outside k", p, sizes, _lu(first="S0", order=("i", "k"), sign=-1))
    p, sizes = _case("floyd_warshall")
    yield Fault("shortest paths with k inside", p, sizes, band(("S0",), ("i", "j", "k")))
    yield Fault("shortest paths with k parallel", p, sizes, band(("S0",), ("k", "i", "j"), runs={0: Run.PARALLEL}))
    p, sizes = _case("accumulation")
    yield Fault("accumulation with k parallel", p, sizes, band(("S0",), ("k", "i"), runs={0: Run.PARALLEL}))
    yield Fault("accumulation with k in lanes", p, sizes, band(("S0",), ("i", "k"), runs={1: Run.VECTOR}))
    yield from _anti()


def _lu(first: str, order: Sequence[str] = ("k", "i"), sign: int = 1) -> Tree:
    members = tuple(Member(d, tuple((f, aff.var(d) * (sign if d == "i" else 1)) for f in ("S0", "S1"))) for d in order)
    j = band(("S1",), ("j",))
    parts = {"S0": (("S0",), Leaf()), "S1": (("S1",), j)}
    second = "S1" if first == "S0" else "S0"
    return Band(members, sequence(parts[first], parts[second]))


def _anti() -> Iterator[Fault]:
    """Write after read, and write after write."""
    p = parse("""
    program anti
      inout A: f64[i: 6]
      inout B: f64[i: 6]
      S0: for i < 5 at (0, i, 0):  B = A(i=i + 1)
      S1: for i < 6 at (1, i, 0):  A = A * 2.0
      S2: for i < 6 at (2, i, 0):  A = 7.0 + B
      S3: for t < 2, i < 5 at (3, t, 0, i, 0):  B(i=i + 1) = B + A
    """)
    ids = ("S0", "S1", "S2", "S3")

    def one(f: str) -> tuple[Sequence[str], Tree]:
        return (f,), band((f,), ("t", "i") if f == "S3" else ("i",))

    for a, b in ((0, 1), (1, 2), (2, 3)):
        order = list(ids)
        order[a], order[b] = order[b], order[a]
        yield Fault(f"anti: {ids[a]} after {ids[b]}", p, {}, sequence(*(one(f) for f in order)))
    fused = Band(
        (Member("i", tuple((f, aff.var("i")) for f in ids[:2])),), sequence((ids[:1], Leaf()), (ids[1:2], Leaf()))
    )
    yield Fault(
        "anti: read one ahead, fused with the write", p, {}, sequence((ids[:2], _shifted(ids[:2])), *map(one, ids[2:]))
    )
    backwards_ = sequence((ids[:2], backwards(fused)), *map(one, ids[2:]))
    yield Fault("anti: fused and backwards", p, {}, backwards_)
    last = sequence(*map(one, ids[:3]), (("S3",), band(("S3",), ("i", "t"))))
    yield Fault("anti: time inside", p, {}, last)
    last = sequence(*map(one, ids[:3]), (("S3",), band(("S3",), ("t", "i"), runs={1: Run.PARALLEL})))
    yield Fault("anti: in-place shift in parallel", p, {}, last)


def _shifted(ids: Sequence[str]) -> Tree:
    member = Member("i", ((ids[0], aff.var("i") + 2), (ids[1], aff.var("i"))))
    return Band((member,), sequence((ids[:1], Leaf()), (ids[1:], Leaf())))


# --- faulty loops ----------------------------------------------------------------------------------------------------


def broken_loops(root: lp.Node, p: Program) -> Iterator[tuple[str, lp.Node]]:
    """The loop AST with one mistake each, as a faulty lowering would make it."""
    inits = {f.id for f in families(p) if f.kind is Kind.INIT}
    nodes = list(lp.walk(root))
    for k, n in enumerate(nodes):
        for what, changed in _mistakes(n, inits):
            yield f"{what} at node {k}", _replaced(root, n, changed)


def _mistakes(n: lp.Node, inits: set[str]) -> Iterator[tuple[str, lp.Node]]:
    nothing = lp.Block(())
    match n:
        case lp.For():
            yield "first iteration lost", replace(n, lo=_moved(n.lo, 1))
            yield "last iteration lost", replace(n, hi=_moved(n.hi, -1))
            yield "one iteration more", replace(n, hi=_moved(n.hi, 1))
            yield "wrong step", replace(n, step=n.step + 1)
            if isinstance(n.hi, lp.Extreme):
                yield "tile bound lost", replace(n, hi=n.hi.args[-1])
                yield "domain bound lost", replace(n, hi=n.hi.args[0])
        case lp.If():
            yield "guard lost", n.then if n.orelse is None else lp.Block((n.then, n.orelse))
            yield "guard turned", replace(n, condition=aff.negate(n.condition))
        case lp.Exec(family, at):
            yield "init lost" if family in inits else "statement lost", nothing
            for i, (d, e) in enumerate(at):
                yield f"{d} off by one", replace(n, at=(*at[:i], (d, e + 1), *at[i + 1 :]))
                if any(isinstance(t, (Var, Size)) for t, _ in e.terms):
                    yield f"{d} lost", replace(n, at=(*at[:i], (d, aff.const(e.const)), *at[i + 1 :]))
        case lp.Block(children) if len(children) > 1:
            yield "block backwards", lp.Block(children[::-1])
        case _:
            pass


def _moved(b: lp.Bound, by: int) -> lp.Bound:
    return b + by if isinstance(b, Affine) else replace(b, args=tuple(_moved(a, by) for a in b.args))


def _replaced(root: lp.Node, old: lp.Node, new: lp.Node) -> lp.Node:
    if root is old:
        return new
    match root:
        case lp.For() | lp.Promoted():
            return replace(root, body=_replaced(root.body, old, new))
        case lp.If(_, then, orelse):
            other = None if orelse is None else _replaced(orelse, old, new)
            return replace(root, then=_replaced(then, old, new), orelse=other)
        case lp.Block(children):
            return lp.Block(tuple(_replaced(c, old, new) for c in children))
        case _:
            return root
