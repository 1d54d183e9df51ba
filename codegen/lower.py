# SPDX-License-Identifier: MIT
"""From a schedule tree to the loop AST: the only caller of isl's AstBuild.

isl generates the loops (Grosser, Verdoolaege & Cohen 2015); this file reads its AST in Python, without callbacks, puts
every expression into quasi-affine form and gives loops the names of the band members they come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from typing import Any, cast

import islpy as isl

from codegen import loops as lp
from codegen.full import full_apart
from codegen.loops import Block, Bound, Exec, Extreme, For, If, Node, Promoted, at_most
from codegen.requests import with_work
from polyhedral.errors import InternalError
from polyhedral.ir import affine as aff
from polyhedral.ir import tree as tr
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.tree import (
    Fold,
    Leaf,
    Local,
    Member,
    Promote,
    Run,
    Stage,
    Tree,
    held,
    local_arrays,
    members_of,
    regions,
    renamed,
)
from polyhedral.sets.isl_schedule import Frame, context_of, from_yaml, to_yaml

_OP = cast("Any", isl.ast_expr_op_type)  # islpy's stubs lack the names that end in an underscore
_TYPES = cast("Any", isl.ast_node_type)


_Region = tuple[Promote | Local | Stage, tuple[str, ...]]
"""One Promote, Local or Stage, without what is below it, and its families."""


@dataclass(frozen=True)
class _Scope:
    """Names seen on the way down: isl's iterators and parameters as affine expressions, loop names taken."""

    frame: Frame
    names: Mapping[str, str]
    """The program's identifiers of the families."""
    members: Mapping[str, tuple[Member, ...]]
    values: Mapping[str, Affine]
    held: Mapping[str, tuple[tuple[int, _Region], ...]]
    taken: tuple[str, ...] = ()
    promoted: tuple[_Region, ...] = ()
    decided: Mapping[str, bool] = field(default_factory=dict[str, bool])


def lower(fr: Frame, tree: Tree) -> Node:
    """The loops that execute every family in the order of the tree.

    What runs one after another is lowered one by one, which takes time in proportion to the program; where sizes are
    symbolic all together, so that neighbours share the conditions on them.
    """
    parts = (tr.Filter(tuple(f.id for f in fr.families), tree),)
    if isinstance(tree, tr.Sequence) and not fr.program.sizes:
        parts = tree.children
    nodes = [n for part in parts for n in _part(fr, part)]
    made = nodes[0] if len(nodes) == 1 else Block(tuple(nodes))
    return with_work(full_apart(made, lambda f: fr.family(f).statement), lambda f: fr.family(f).statement)


def _part(fr: Frame, part: tr.Filter) -> Iterator[Node]:
    """The loops of some families.  isl knows them by numbers from 0, so that equal layers of a program are one question
    to it.
    """
    ids = {f: f"S{n}" for n, f in enumerate(part.families)}
    tree = renamed(part.child, ids)
    own = Frame(fr.program, tuple(replace(fr.family(f), id=n) for f, n in ids.items()))
    ast = _generated(to_yaml(own, tree, own.families), fr.program.assumptions, fr.program.sizes, fr.params)
    members = {f.id: members_of(tree, f.id) for f in own.families}
    sizes = {p: aff.size(n) for p, n in zip(fr.params, fr.program.sizes, strict=True)}
    found = {
        (type(n), n.array, f): (replace(n, child=Leaf()), inside) for n, inside, _ in regions(tree) for f in inside
    }
    kept = {f.id: tuple((at, found[type(n), n.array, f.id]) for at, n in held(tree, f.id)) for f in own.families}
    made = _node(ast, _Scope(own, {n: f for f, n in ids.items()}, members, sizes, kept))
    for array in local_arrays(tree):
        if _begun(made, array) > 1:
            raise TakenApartError(array)
    yield from made.children if isinstance(made, Block) else (made,)


@lru_cache(maxsize=1 << 8)
def _generated(
    schedule: str, assumptions: tuple[Condition, ...], sizes: tuple[str, ...], params: tuple[str, ...]
) -> isl.AstNode:
    """isl's loops for a schedule tree, under what is known of the sizes."""
    return isl.AstBuild.from_context(context_of(assumptions, sizes, params)).node_from_schedule(from_yaml(schedule))


class TakenApartError(InternalError):
    """Two parts of a region in which an array has memory of its own lie in different loops, and so in different memory:
    the tree is in order, but cannot be spelled.
    """

    def __init__(self, array: str) -> None:
        super().__init__("PH999", f"isl took a region in which {array} has memory of its own apart")
        self.array = array


def _begun(node: Node, array: str) -> int:
    """How often memory for an array begins on any one way through the loops."""
    match node:
        case If(_, then, orelse):
            return max(_begun(then, array), 0 if orelse is None else _begun(orelse, array))
        case lp.Local(name, _, body):
            return _begun(body, array) + (name == array)
        case _:
            return sum(_begun(n, array) for n in lp.children(node))


def _promoted(node: isl.AstNode, scope: _Scope) -> tuple[_Region, ...]:
    """The Promotes and Locals that begin at this node: it has no other families below it, and all outer loops above."""
    below = tuple(_calls(node))
    if not below:
        return ()
    next_loop = _next_loop(node)
    found = (region for at, region in scope.held[below[0]] if at <= next_loop and region not in scope.promoted)
    return tuple(r for r in found if all(any(r == other for _, other in scope.held[f]) for f in below))


def _within(begun: Sequence[_Region], made: Node, scope: _Scope) -> Node:
    for node, families in reversed(begun):
        match node:
            case Promote(array, _, past, partials, stored, ahead):
                made = Promoted(array, made, past, partials, stored, ahead)
            case Local(array, folds, _):
                depth = next(at for at, region in scope.held[families[0]] if region == (node, families))
                cells = [(x.axis, _first_of(x, depth, made, scope), x.size) for x in folds]
                made = lp.Local(array, tuple(cells), made)
            case Stage(array, box, _):
                begun_at = [_from(c.first, families[0], made, scope) for c in box]
                copied = ((c.axis, first, c.size) for c, first in zip(box, begun_at, strict=True))
                made = lp.Staged(array, tuple(copied), made)
    return made


def _first_of(x: Fold, depth: int, inside: Node, scope: _Scope) -> Affine:
    """Where the cells of memory of its own begin along an axis."""
    first = _time(depth - x.up, inside, scope) * x.size
    if x.further is None:
        return first
    cells, up = x.further
    return first + _time(depth - up, inside, scope) * cells


def _time(depth: int, inside: Node, scope: _Scope) -> Affine:
    """The iteration of the loop at a depth that some nodes are in: of one that runs once, and that isl dropped, what
    the first and the last of their instances say.
    """
    if f"c{depth}" in scope.values:
        return scope.values[f"c{depth}"]
    bounds: list[tuple[str, Bound, Bound]] = []
    node = inside
    while not isinstance(node, Exec):
        if isinstance(node, For):
            bounds.append((node.name, node.lo, node.hi))
        node = lp.children(node)[0]
    family = next(id for id, name in scope.names.items() if name == node.family)
    first = last = aff.substitute(scope.members[family][depth].time(family), dict(node.at))
    for name, lo, hi in reversed(bounds):
        first, last = (aff.substitute(t, {name: _least(b)}) for t, b in ((first, lo), (last, hi)))
    if first != last:
        raise InternalError("PH999", f"memory of its own in an iteration that is not known: {first} or {last}")
    return first


def _from(first: Affine, family: str, inside: Node, scope: _Scope) -> Affine:
    """Where a box of cells begins, in terms of loops instead of band members."""
    names = [m.name for m in scope.members[family]]
    return aff.substitute(first, {d: _time(names.index(d), inside, scope) for d in aff.dims_of(first)})


def _least(b: Bound) -> Affine:
    """A bound as one expression, where it is the extreme of numbers."""
    if isinstance(b, Affine):
        return b
    args = [_least(a) for a in b.args]
    return (min if b.least else max)(args, key=lambda e: e.const) if all(e.is_const for e in args) else args[0]


def _next_loop(node: isl.AstNode) -> float:
    """The depth of the outermost loop at or below a node (isl drops loops that run once)."""
    kind, types = node.get_type(), _TYPES
    if kind == types.for_:
        return int(node.for_get_iterator().id_get_id().get_name()[1:])
    if kind == types.if_:
        return min(map(_next_loop, _branches(node)))
    if kind == types.block:
        nodes = node.block_get_children()
        return min(_next_loop(nodes.get_at(i)) for i in range(nodes.n_ast_node()))
    return float("inf")


def _branches(node: isl.AstNode) -> Iterator[isl.AstNode]:
    yield node.if_get_then_node()
    if node.if_has_else_node():
        yield node.if_get_else_node()


class _UndecidedError(Exception):
    """An index or bound is `cond ? a : b`: the node around it is made once for each answer."""

    def __init__(self, text: str, condition: Condition) -> None:
        super().__init__(text)
        self.text, self.condition = text, condition


def _node(node: isl.AstNode, scope: _Scope) -> Node:
    begun = _promoted(node, scope)
    try:
        return _region(tuple(_flat(node)), begun, scope) if begun else _plain_node(node, scope)
    except _UndecidedError as choice:
        yes, no = ({**scope.decided, choice.text: answer} for answer in (True, False))
        then = _node(node, replace(scope, decided=yes))
        return If(choice.condition, then, _node(node, replace(scope, decided=no)))


def _chosen(e: isl.AstExpr, scope: _Scope) -> isl.AstExpr:
    """The branch of a select that is known to be taken here."""
    text = e.op_get_arg(0).to_C_str()
    if text not in scope.decided:
        raise _UndecidedError(text, _condition(e.op_get_arg(0), scope))
    return e.op_get_arg(1 if scope.decided[text] else 2)


def _plain_node(node: isl.AstNode, scope: _Scope) -> Node:
    kind, types = node.get_type(), _TYPES
    if kind == types.for_:
        return _for(node, scope)
    if kind == types.if_:
        orelse = _node(node.if_get_else_node(), scope) if node.if_has_else_node() else None
        return If(_condition(node.if_get_cond(), scope), _node(node.if_get_then_node(), scope), orelse)
    if kind == types.block:
        return Block(tuple(_block(_flat(node), scope)))
    if kind == types.user:
        call = node.user_get_expr()
        family = scope.frame.family(call.op_get_arg(0).id_get_id().get_name())
        at = tuple(_affine(call.op_get_arg(i + 1), scope) for i in range(call.op_get_n_arg() - 1))
        return Exec(scope.names[family.id], tuple(zip(family.dims, at, strict=True)))
    raise InternalError("PH999", f"isl generated a node of kind {kind}")


def _block(nodes: Iterable[isl.AstNode], scope: _Scope) -> Iterator[Node]:
    """The nodes of a block; neighbours of one Promote or Local (isl flattens sequences) stay together in it."""
    for begun, group in groupby(nodes, lambda n: _promoted(n, scope)):
        if begun:
            yield _region(tuple(group), begun, scope)
        else:
            yield from (_node(n, scope) for n in group)


def _region(nodes: Sequence[isl.AstNode], begun: tuple[_Region, ...], scope: _Scope) -> Node:
    """The nodes of a region; a condition under which it runs at all stands around it, so that where it does not hold
    nothing is loaded and stored.
    """
    first = nodes[0]
    if all(n.get_type() == _TYPES.if_ for n in nodes):
        if len(nodes) == 1 and first.if_has_else_node():
            return _plain_node(first, scope)
        if not any(n.if_has_else_node() for n in nodes) and len({n.if_get_cond().to_C_str() for n in nodes}) == 1:
            then = tuple(x for n in nodes for x in _flat(n.if_get_then_node()))
            return If(_condition(first.if_get_cond(), scope), _region(then, begun, scope))
    inner = replace(scope, promoted=(*scope.promoted, *begun))
    made = tuple(_block(nodes, inner))
    return _within(begun, made[0] if len(made) == 1 else Block(made), scope)


def _flat(node: isl.AstNode) -> Iterator[isl.AstNode]:
    """A node, or what stands in a block and in those within it: isl leaves them where a loop ran once."""
    if node.get_type() != _TYPES.block:
        yield node
        return
    nodes = node.block_get_children()
    for i in range(nodes.n_ast_node()):
        yield from _flat(nodes.get_at(i))


def _for(node: isl.AstNode, scope: _Scope) -> Node:
    iterator = node.for_get_iterator().id_get_id().get_name()
    lo = _bound(node.for_get_init(), scope)
    if node.for_is_degenerate():
        if isinstance(lo, Affine):
            inner = replace(scope, values={**scope.values, iterator: lo})
            return _node(node.for_get_body(), inner)
        hi: Bound = lo
    else:
        hi = _upper(node.for_get_cond(), iterator, scope)
    member = _member(node, int(iterator[1:]), scope)
    name = member.name if member else iterator
    while name in scope.taken:
        name += "_"
    inner = replace(scope, values={**scope.values, iterator: aff.var(name)}, taken=(*scope.taken, name))
    step = 1 if node.for_is_degenerate() else node.for_get_inc().int_get_val().to_python()
    return For(name, lo, hi, step, member.run if member else Run.SERIAL, _node(node.for_get_body(), inner))


def _member(node: isl.AstNode, depth: int, scope: _Scope) -> Member | None:
    """The band member that a loop at this depth comes from (all leaves below share it)."""
    first = next(_calls(node), None)
    members = scope.members[first] if first is not None else ()
    return members[depth] if depth < len(members) else None


def _calls(node: isl.AstNode) -> Iterator[str]:
    kind, types = node.get_type(), _TYPES
    if kind == types.user:
        yield node.user_get_expr().op_get_arg(0).id_get_id().get_name()
    elif kind == types.for_:
        yield from _calls(node.for_get_body())
    elif kind == types.if_:
        for branch in _branches(node):
            yield from _calls(branch)
    elif kind == types.block:
        nodes = node.block_get_children()
        for i in range(nodes.n_ast_node()):
            yield from _calls(nodes.get_at(i))


def _upper(cond: isl.AstExpr, iterator: str, scope: _Scope) -> Bound:
    """The inclusive upper bound in `iterator <= e` or `iterator < e`."""
    kind = cond.op_get_type()
    if kind not in (_OP.le, _OP.lt):
        raise InternalError("PH999", f"loop condition of unexpected form over {iterator}")
    bound = _bound(cond.op_get_arg(1), scope)
    return bound if kind == _OP.le else _shift(bound, -1)


def _shift(b: Bound, by: int) -> Bound:
    return b + by if isinstance(b, Affine) else Extreme(b.least, tuple(_shift(a, by) for a in b.args))


def _bound(e: isl.AstExpr, scope: _Scope) -> Bound:
    if e.get_type() == isl.ast_expr_type.op and e.op_get_type() in (_OP.select, _OP.cond):
        return _bound(_chosen(e, scope), scope)
    if e.get_type() == isl.ast_expr_type.op and e.op_get_type() in (_OP.min, _OP.max):
        args = tuple(_bound(e.op_get_arg(i), scope) for i in range(e.op_get_n_arg()))
        return Extreme(e.op_get_type() == _OP.min, args)
    if e.get_type() == isl.ast_expr_type.op and e.op_get_type() in (_OP.add, _OP.sub, _OP.minus, _OP.mul):
        return _bound_arithmetic(e, scope)
    return _affine(e, scope)


def _bound_arithmetic(e: isl.AstExpr, scope: _Scope) -> Bound:
    """min(a, b) + c is min(a + c, b + c); negative factors turn the extreme around."""
    kind = e.op_get_type()
    args = [_bound(e.op_get_arg(i), scope) for i in range(e.op_get_n_arg())]
    if kind == _OP.minus:
        return _scale(args[0], -1)
    if kind == _OP.mul:
        a, b = args if isinstance(args[0], Affine) and args[0].is_const else args[::-1]
        assert isinstance(a, Affine)
        assert a.is_const
        return _scale(b, a.const)
    return _add(args[0], args[1] if kind == _OP.add else _scale(args[1], -1))


def _scale(b: Bound, by: int) -> Bound:
    if isinstance(b, Affine):
        return b * by
    return Extreme(b.least == (by > 0), tuple(_scale(a, by) for a in b.args))


def _add(a: Bound, b: Bound) -> Bound:
    match a, b:
        case Extreme(least, args), _:
            return Extreme(least, tuple(_add(x, b) for x in args))
        case _, Extreme(least, args):
            return Extreme(least, tuple(_add(a, x) for x in args))
        case _:
            assert isinstance(a, Affine)
            assert isinstance(b, Affine)
            return a + b


def _affine(e: isl.AstExpr, scope: _Scope) -> Affine:
    kind = e.get_type()
    if kind == isl.ast_expr_type.int:
        return aff.const(e.int_get_val().to_python())
    if kind == isl.ast_expr_type.id:
        return scope.values[e.id_get_id().get_name()]
    if e.op_get_type() in (_OP.select, _OP.cond):
        return _affine(_chosen(e, scope), scope)
    args = [_affine(e.op_get_arg(i), scope) for i in range(e.op_get_n_arg())]
    match e.op_get_type():
        case _OP.add:
            return args[0] + args[1]
        case _OP.sub:
            return args[0] - args[1]
        case _OP.minus:
            return -args[0]
        case _OP.mul:
            a, b = args if args[0].is_const else args[::-1]
            return b * a.const
        case _OP.fdiv_q | _OP.pdiv_q | _OP.div:
            return args[0] // args[1].const
        case _OP.pdiv_r | _OP.zdiv_r:
            return args[0] % args[1].const
        case other:
            raise InternalError("PH999", f"isl generated an index with operator {other}")


def _condition(e: isl.AstExpr, scope: _Scope) -> Condition:
    kind = e.op_get_type() if e.get_type() == isl.ast_expr_type.op else None
    if kind in (_OP.and_, _OP.and_then, _OP.or_, _OP.or_else):
        parts = tuple(_condition(e.op_get_arg(i), scope) for i in range(e.op_get_n_arg()))
        return aff.both(*parts) if kind in (_OP.and_, _OP.and_then) else aff.either(*parts)
    if kind is None:
        value = e.int_get_val().to_python()
        return aff.TRUE if value else aff.FALSE
    a, b = (_bound(e.op_get_arg(i), scope) for i in range(2))
    match kind:
        case _OP.le:
            return at_most(a, b)
        case _OP.lt:
            return at_most(_shift(a, 1), b)
        case _OP.ge:
            return at_most(b, a)
        case _OP.gt:
            return at_most(_shift(b, 1), a)
        case _OP.eq:
            if isinstance(a, Extreme) or isinstance(b, Extreme):
                return aff.both(at_most(a, b), at_most(b, a))
            return aff.equal(a - b)
        case other:
            raise InternalError("PH999", f"isl generated a condition with operator {other}")
