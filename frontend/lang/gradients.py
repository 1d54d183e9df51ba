# SPDX-License-Identifier: MIT
"""Derivatives inside a program: `ph.grad(L, W)` promises an array, which is defined once the program is assembled.

What a derivative is, statement by statement, is `frontend.autodiff`'s; functions of functions, `ph.grad(f, wrt="W")`,
are in `frontend.functions.gradients`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, overload

from frontend.lang.access import braces, spoken
from frontend.lang.handles import Expr, Tensor, as_handle
from frontend.lang.location import here
from frontend.lang.recorder import Recorder, current
from frontend.lang.rules import record_rules
from frontend.lang.value import Value, coerce, must_lift
from frontend.recorded import Gradient
from frontend.recorded import Tangent as Asked
from polyhedral.errors import ArgumentError, DimError, DtypeError
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.derivatives import is_smooth
from polyhedral.ir.program import Array, Role

Several = Sequence[Expr]


@overload
def grad(loss: object, wrt: Expr) -> Tensor: ...
@overload
def grad(loss: object, wrt: Several) -> tuple[Tensor, ...]: ...
def grad(loss: object, wrt: Expr | Several) -> Tensor | tuple[Tensor, ...]:
    """The derivative of a scalar by a tensor, or by each of several: tensors with the dims of these.

    Dims that the caller of a lifted function added to the loss stay: the derivative is that of each example.
    """
    return value_and_grad(loss, wrt)[1]


@overload
def value_and_grad(loss: object, wrt: Expr) -> tuple[Tensor, Tensor]: ...
@overload
def value_and_grad(loss: object, wrt: Several) -> tuple[Tensor, tuple[Tensor, ...]]: ...
def value_and_grad(loss: object, wrt: Expr | Several) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
    """The loss as a tensor, and its derivatives as of `grad`."""
    recorder = current("ph.grad")
    value, made = differentiated(recorder, loss, _listed(wrt), recorder.examples)
    return value, made[0] if isinstance(wrt, Expr) else made


def differentiated(
    recorder: Recorder, loss: object, wrt: Sequence[Tensor], lifted: frozenset[str]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss, and its derivatives at each point of the dims that were added by lifting; others are refused."""
    held = must_lift(loss, "the loss of ph.grad")
    left = held.dims - lifted
    if left:
        raise DimError(
            "PH050",
            f"grad needs a scalar loss; loss still has dimensions {braces(left)}: reduce them, "
            f"e.g. .sum({', '.join(map(spoken, sorted(left)))})",
            hints=(f"loss.sum({', '.join(map(spoken, sorted(left)))})", "ph.vjp(outputs, wrt, cotangents)"),
            dim=min(left),
            location=here(),
        )
    value = stored(recorder, held, "loss")
    return value, _promised(recorder, ((value.name, None),), wrt, held.dims)


def vjp(outputs: Expr | Several, wrt: Expr | Several, cotangents: object) -> Tensor | tuple[Tensor, ...]:
    """The derivative by each of `wrt` of the sum of outputs times cotangents, which have the dims of the outputs."""
    recorder = current("ph.vjp")
    several = _sequence(outputs, "ph.vjp(Y, W, dY)", "outputs")
    weights = (
        [cotangents]
        if isinstance(outputs, Expr)
        else _sequence(cotangents, "ph.vjp((Y, Z), W, (dY, dZ))", "cotangents")
    )
    if len(several) != len(weights):
        raise ArgumentError(
            "PH045",
            f"ph.vjp got {len(several)} outputs and {len(weights)} cotangents",
            hints=("ph.vjp((Y, Z), (X, W), (dY, dZ)): one cotangent for each output",),
            location=here(),
        )
    made = pulled(recorder, several, _listed(wrt), weights, recorder.examples)
    return made[0] if isinstance(wrt, Expr) else made


def jvp(outputs: Expr | Several, wrt: Expr | Several, tangents: object) -> Tensor | tuple[Tensor, ...]:
    """How the outputs change along tangents, which have the dims of `wrt`: tensors with the dims of the outputs."""
    recorder = current("ph.jvp")
    several = _sequence(outputs, "ph.jvp(Y, W, tW)", "outputs")
    moved = [tangents] if isinstance(wrt, Expr) else _sequence(tangents, "ph.jvp(Y, (W, b), (tW, tb))", "tangents")
    by = _listed(wrt)
    if len(by) != len(moved):
        raise ArgumentError(
            "PH045",
            f"ph.jvp got {len(by)} tensors and {len(moved)} tangents",
            hints=("ph.jvp((Y, Z), (X, W), (tX, tW)): one tangent for each tensor",),
            location=here(),
        )
    outs = [stored(recorder, must_lift(y, "an output of ph.jvp"), "output") for y in several]
    several_each = any((must_lift(v).dims - w.dims) & recorder.examples for w, v in zip(by, moved, strict=True))
    if several_each or recorder.calls or recorder.rules:
        made = _many_tangents(recorder, outs, by, moved)
    else:
        along = tuple((w.name, _weight(recorder, w, v, "tangent").name) for w, v in zip(by, moved, strict=True))
        made = _changes(recorder, outs, along)
    return made[0] if isinstance(outputs, Expr) else made


def _sequence(given: object, usage: str, what: str) -> list[object]:
    """One tensor, or several; PH045 for anything else."""
    if isinstance(given, Expr):
        return [given]
    if not isinstance(given, tuple | list):
        raise ArgumentError(
            "PH045",
            f"the {what} {given!r} are no tensors of this program",
            hints=(f"{usage}: one tensor, or a tuple of them, each over its own dims",),
            location=here(),
        )
    return list(cast("Sequence[object]", given))


def _changes(recorder: Recorder, outs: Sequence[Tensor], along: tuple[tuple[str, str], ...]) -> tuple[Tensor, ...]:
    """Declare the changes of outputs, and ask for them."""
    for out in outs:
        _require_smooth(recorder.arrays[out.name])
    for w, _ in along:
        _require_float(recorder.arrays[w])
    made = tuple(recorder.unique(f"t{out.name}") for out in outs)
    for out, name in zip(outs, made, strict=True):
        array = recorder.arrays[out.name]
        recorder.arrays[name] = Array(name, array.dims, array.dtype, Role.TEMPORARY)
    recorder.promises.append(Asked(tuple(out.name for out in outs), along, made, here()))
    return tuple(Tensor(recorder.read(n)) for n in made)


def _many_tangents(
    recorder: Recorder, outs: Sequence[Tensor], by: tuple[Tensor, ...], moved: Sequence[object]
) -> tuple[Tensor, ...]:
    """The adjoint of the adjoint: for several tangents of the same tensor, one for each example that it does not have,
    and for rules of users, which say what the adjoint is.

    A vector-Jacobian product is linear in its cotangents, whose values do not matter.
    """
    weights = tuple(Tensor(recorder.read(recorder.let((y * 0).value, "weight", {}))) for y in outs)
    pulled = vjp(tuple(outs), by, weights)
    total: Expr | None = None
    for g, v in zip(cast("tuple[Tensor, ...]", pulled), moved, strict=True):
        part = g * as_handle(v)
        left = sorted(part.value.dims - recorder.examples)
        part = part.sum(*left) if left else part
        total = part if total is None else total + part
    return differentiated(recorder, total, weights, recorder.examples)[1]


def pulled(
    recorder: Recorder,
    outputs: Sequence[object],
    wrt: Sequence[Tensor],
    cotangents: Sequence[object],
    examples: frozenset[str],
) -> tuple[Tensor, ...]:
    """The derivatives of `vjp`, each at every point of those dims of the outputs that are of `examples`."""
    pairs: list[tuple[str, str | None]] = []
    dims: frozenset[str] = frozenset()
    for y, w in zip(outputs, cotangents, strict=True):
        value, weight = must_lift(y, "an output of ph.vjp"), must_lift(w, "a cotangent of ph.vjp")
        if (weight.dims - value.dims) & examples:  # many cotangents for the same output
            own = [d for d in sorted(value.dims | weight.dims) if d not in examples]
            each = Expr(value) * Expr(weight)
            value = (each.sum(*own) if own else each).value
            pairs.append((stored(recorder, value, "output").name, None))
        else:
            out = stored(recorder, value, "output")
            pairs.append((out.name, _weight(recorder, out, w, "cotangent").name))
        dims |= value.dims
    return _promised(recorder, tuple(pairs), wrt, dims & examples)


def _weight(recorder: Recorder, of: Tensor, weight: object, what: str) -> Tensor:
    """A cotangent or tangent as an array over all dims of its tensor: one that lacks some is the same along them."""
    value = coerce(must_lift(weight, f"a {what}"), of.value.dtype)
    extra = value.dims - of.value.dims
    if extra:
        raise DimError(
            "PH050",
            f"the {what} of {of} has dimensions {braces(extra)}, which {of} does not have",
            hints=(f"reduce them: .sum({', '.join(map(spoken, sorted(extra)))})",),
            dim=min(extra),
            location=here(),
        )
    if value.dims == of.value.dims:
        return stored(recorder, value, what)
    return stored(recorder, (as_handle(of) * 0 + Expr(value)).value, what)


def stop_gradient(x: object) -> Tensor:
    """The value as a constant to derivatives: `x - ph.stop_gradient(x.max(i))` has the derivative of x."""
    value = must_lift(x, "the argument of ph.stop_gradient")
    recorder = current("ph.stop_gradient")
    return held(Tensor(recorder.read(recorder.let(value, "held", {}))))


def held(x: Tensor) -> Tensor:
    """A let whose every reader takes it for a constant: one that is added and taken away again, as by softmax."""
    current("held").held.add(x.name)
    return x


def stored(recorder: Recorder, value: Value, label: str) -> Tensor:
    """The value as a whole array: itself if it is one that nothing updates."""
    own = _array(recorder, value)
    kept = own is not None and own.role is not Role.INOUT
    return Tensor(recorder.read(own.name if own is not None and kept else recorder.let(value, label, {})))


def _array(recorder: Recorder, value: Value) -> Array | None:
    """The array whose whole this value is."""
    array = recorder.arrays.get(value.node.array) if isinstance(value.node, ex.Load) else None
    return array if array is not None and not value.spans and value.node == recorder.read(array.name).node else None


def _listed(wrt: Expr | Several) -> tuple[Tensor, ...]:
    recorder = current("ph.grad")
    found: list[Tensor] = []
    several = cast("object", wrt)
    if not isinstance(several, (Expr, tuple, list)):
        raise ArgumentError(
            "PH052",
            f"wrt={wrt!r} is no tensor of this program to differentiate by",
            hints=("ph.grad(loss, W), or of several: ph.grad(loss, (W, b))",),
            location=here(),
        )
    for w in (several,) if isinstance(several, Expr) else tuple(cast("Several", several)):
        value = must_lift(w, "what ph.grad differentiates by")
        array = _array(recorder, value)
        if array is None:
            raise ArgumentError(
                "PH052",
                f"grad differentiates by tensors, and {w} is computed where it is read",
                hints=("name it first and use the name: h = ph.let(h); ...; ph.grad(loss, h)",),
                location=here(),
            )
        found.append(Tensor(recorder.read(array.name)))
    return tuple(found)


def _promised(
    recorder: Recorder,
    outputs: tuple[tuple[str, str | None], ...],
    wrt: Sequence[Tensor],
    along: frozenset[str],
) -> tuple[Tensor, ...]:
    """Declare the results, and ask for them."""
    record_rules(recorder)
    examples: dict[str, Affine] = {}
    for name, _ in outputs:
        array = recorder.arrays[name]
        _require_smooth(array)
        examples |= {d: e for d, e in array.dims if d in along}
    made: list[str] = []
    for w in wrt:
        array = recorder.arrays[w.name]
        _require_float(array)
        more = tuple((d, e) for d, e in examples.items() if d not in array.dim_names)
        name = recorder.unique(f"d{w.name}")
        recorder.arrays[name] = Array(name, (*more, *array.dims), array.dtype, Role.TEMPORARY)
        made.append(name)
    asked = Gradient(outputs, tuple(w.name for w in wrt), tuple(made), tuple(examples.items()), here())
    recorder.promises.append(asked)
    return tuple(Tensor(recorder.read(n)) for n in made)


def _require_smooth(output: Array) -> None:
    if not is_smooth(output.dtype):
        raise DtypeError(
            "PH051",
            f"{output.name} holds {output.dtype}, which has no derivative",
            hints=("differentiate a value of a float type",),
            location=here(),
        )


def _require_float(wrt: Array) -> None:
    if not is_smooth(wrt.dtype):
        raise DtypeError(
            "PH052",
            f"grad by {wrt.name}, which holds {wrt.dtype}: only floats have derivatives",
            hints=(f"convert it before it is used: {wrt.name}.astype(ph.f32) as an argument of its own",),
            location=here(),
        )
