# SPDX-License-Identifier: MIT
"""`f.jax()`: a foreign function of XLA with derivatives that are further ones, and batches by lifting.

Kernels are made while JAX traces, where shapes are known; how XLA hands over memory is `frontend.interop.xla`'s.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from frontend.arrays.arguments import is_integer
from frontend.interop.boundary import Boundary, Operand, Outcome, arranged, bound_call, required
from frontend.interop.xla import Kernel, handler
from polyhedral.errors import ArgumentError, DtypeError, Unsupported
from polyhedral.ir import dtypes


def jax_function(b: Boundary) -> Callable[..., Any]:
    """The function on arrays of JAX.  ImportError where it is missing."""
    jax = required("jax", "f.jax()")
    primitive = _Primitive(jax, b)

    def call(*args: Any, **kwargs: Any) -> Any:
        given = bound_call(b, args, kwargs, "jax")
        values = [_accepted(jax, b, o, v) for o, v in zip(b.operands, given, strict=True)]
        numbers = tuple(v for o, v in zip(b.operands, values, strict=True) if o.size)
        arrays = [v for o, v in zip(b.operands, values, strict=True) if not o.size]
        made = primitive.differentiable(numbers, *arrays)
        return arranged(b.outcome(_types(arrays)).structure, iter(made))

    call.__name__ = b.name
    call.__doc__ = inspect.getdoc(b.f.python)
    return call


class _Primitive:
    """One foreign function: sizes first, which are numbers, then the arrays."""

    def __init__(self, jax: Any, b: Boundary) -> None:
        self.jax = jax
        self.boundary = b
        self.arrays = tuple(o for o in b.operands if not o.size)
        self._made: dict[Boundary, _Primitive] = {}
        self._kernels: list[Kernel] = []
        self._numbers: dict[Any, int] = {}
        # XLA may keep compiled calls beyond this process, where the same name would mean other kernels
        self._target = f"polyhedral.{b.name}.{uuid4().hex}"
        jax.ffi.register_ffi_target(self._target, jax.ffi.pycapsule(handler(self._kernels)), platform="cpu")
        self.differentiable = jax.custom_vjp(self._plain, nondiff_argnums=(0,))
        self.differentiable.defvjp(self._forward, self._backward, symbolic_zeros=True)

    def _plain(self, sizes: tuple[int, ...], *arrays: Any) -> list[Any]:
        def call(*given: Any) -> list[Any]:
            return self._call(sizes, *given)

        def batch(axis_size: int, at: Sequence[bool], *given: Any) -> tuple[list[Any], list[bool]]:
            return self._batched(sizes, at, *given)

        batched = self.jax.custom_batching.custom_vmap(call)
        batched.def_vmap(batch)
        return batched(*arrays)

    def _call(self, sizes: tuple[int, ...], *arrays: Any) -> list[Any]:
        outcome = self.boundary.outcome(_types(arrays))
        known = self.boundary.sizes(self._merged(sizes, [a.shape for a in arrays]))
        for o in outcome.results:
            self._require_type(o.dtype)
        shapes = [self.jax.ShapeDtypeStruct(r.shape(known), r.dtype.numpy) for r in outcome.results]
        call = self.jax.ffi.ffi_call(self._target, shapes)
        return call(*arrays, kernel=np.int64(self._kernel(outcome, known, sizes, arrays)))

    def _require_type(self, dtype: dtypes.DType) -> None:
        if self.jax.dtypes.canonicalize_dtype(dtype.numpy) != dtype.numpy:
            raise DtypeError(
                "PH304",
                f"{self.boundary.name} returns {dtype}, which JAX has only in its mode of 64 bits",
                hints=(
                    "jax.config.update('jax_enable_x64', True)",
                    ".astype(ph.i32) or .astype(ph.f32) in the program",
                ),
            )

    def _kernel(self, outcome: Outcome, known: Mapping[str, int], sizes: tuple[int, ...], arrays: Sequence[Any]) -> int:
        """The number of the kernel for these shapes, under the options in force."""
        b = self.boundary
        shapes = self._merged(sizes, [tuple(a.shape) for a in arrays])
        run = b.kernel(shapes, _types(arrays))
        number = self._numbers.get(run)
        if number is None:
            operands = [(tuple(a.shape), dtypes.BY_NAME[t]) for a, t in zip(arrays, _types(arrays), strict=True)]
            results = [(r.shape(known), r.dtype) for r in outcome.results]
            number = self._numbers[run] = len(self._kernels)
            self._kernels.append(Kernel(run, operands, results))
        return number

    def _merged(self, sizes: Sequence[int], arrays: Sequence[Any]) -> list[Any]:
        """Sizes and what stands for arrays, in the order of the operands."""
        numbers, others = iter(sizes), iter(arrays)
        return [next(numbers) if o.size else next(others) for o in self.boundary.operands]

    def _forward(self, sizes: tuple[int, ...], *primals: Any) -> tuple[list[Any], Any]:
        arrays = [p.value for p in primals]
        moving = {o.name: p.value for o, p in zip(self.arrays, primals, strict=True) if p.perturbed}
        fixed = {o.name: p.value for o, p in zip(self.arrays, primals, strict=True) if not p.perturbed}
        return self.differentiable(sizes, *arrays), (moving, fixed)

    def _backward(self, sizes: tuple[int, ...], kept: Any, cotangents: Sequence[Any]) -> tuple[Any, ...]:
        """Derivatives by what moves, from the cotangents that are not zero throughout."""
        moving, fixed = kept
        arrays = [(moving | fixed)[o.name] for o in self.arrays]
        outcome = self.boundary.outcome(_types(arrays))
        zero = self.jax.custom_derivatives.SymbolicZero
        outputs = tuple(i for i, g in enumerate(cotangents) if not isinstance(g, zero))
        smooth = tuple(o.name for o in self.arrays if o.name in moving)
        self.boundary.require_derivatives(outcome, outputs, _types(arrays), smooth)
        outputs = tuple(i for i in outputs if outcome.smooth[i])
        if not outputs or not smooth:
            return (None,) * len(arrays)
        back = self._primitive(self.boundary.pullback(outcome, smooth, outputs))
        made = iter(back.differentiable(sizes, *arrays, *(cotangents[i] for i in outputs)))
        return tuple(next(made) if o.name in moving else None for o in self.arrays)

    def _batched(self, sizes: tuple[int, ...], at: Sequence[bool], *arrays: Any) -> tuple[list[Any], list[bool]]:
        """jax.vmap: one more name, the first axis of those that have it."""
        if any(b and o.scalar is not None for o, b in zip(self.arrays, at, strict=True)):
            raise Unsupported(
                "PH900",
                f"{self.boundary.name}: vmap over a scalar argument",
                hints=("declare it as an array without dimensions: c=''",),
            )
        axis = self._merged([0] * len(sizes), [0 if b else None for b in at])
        where = tuple(None if o.size else k for o, k in zip(self.boundary.operands, axis, strict=True))
        lifted, has = self.boundary.lifted(_types(arrays), where)
        return self._primitive(lifted)._plain(sizes, *arrays), list(has)

    def _primitive(self, b: Boundary) -> _Primitive:
        if b not in self._made:
            self._made[b] = _Primitive(self.jax, b)
        return self._made[b]


def _types(arrays: Sequence[Any]) -> tuple[str, ...]:
    found = (dtypes.from_numpy(a.dtype) for a in arrays)
    return tuple(t.name for t in found if t is not None)


def _accepted(jax: Any, b: Boundary, o: Operand, v: Any) -> Any:
    """The argument as a JAX array, traced or not; errors name it and say what to do."""
    if o.size:
        if not is_integer(v):
            raise ArgumentError(
                "PH047",
                f"{b.name}: size {o.name} is {v!r}, not an integer known while tracing",
                hints=(f"jax.jit(..., static_argnames='{o.name}')",),
            )
        return int(v)
    if o.scalar is not None:
        return jax.numpy.asarray(v, o.scalar.numpy)
    given = jax.numpy.asarray(v)
    if dtypes.from_numpy(given.dtype) is None:
        raise DtypeError(
            "PH304",
            f"{b.name}: {o.name} has elements of type {given.dtype}",
            hints=(f"use one of {', '.join(dtypes.BY_NAME)}",),
        )
    if not isinstance(given, jax.core.Tracer):
        elsewhere = next((d for d in given.devices() if d.platform != "cpu"), None)
        if elsewhere is not None:
            raise ArgumentError(
                "PH314",
                f"{b.name}: {o.name} lies on {elsewhere}, and this kernel is for the CPU",
                hints=(f"jax.device_put({o.name}, jax.devices('cpu')[0])",),
            )
    return given
