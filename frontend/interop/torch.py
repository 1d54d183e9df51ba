# SPDX-License-Identifier: MIT
"""`f.torch()`: an operator of PyTorch that tells shapes, whose derivatives are operators too; batches are lifted over.

Tensors are read where they lie; which derivative belongs to which argument is `frontend.interop.boundary`'s.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from frontend.arrays.memory import Strided
from frontend.interop.boundary import Boundary, Operand, arranged, bound_call, required
from frontend.interop.torch_transforms import transformed
from polyhedral.errors import ArgumentError, DtypeError, Unsupported
from polyhedral.ir.dtypes import BY_NAME, DType

_NAMES = {
    "bool": "bool", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16",
    "u32": "uint32", "u64": "uint64", "f16": "float16", "bf16": "bfloat16", "f8e4m3": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2", "f32": "float32", "f64": "float64", "c64": "complex64", "c128": "complex128",
}  # fmt: skip
_OURS = {f"torch.{theirs}": ours for ours, theirs in _NAMES.items()}
_BYTES = {"bf16": "int16", "f8e4m3": "uint8", "f8e5m2": "uint8"}
"""Types that NumPy does not know: their bits cross as integers."""


def torch_function(b: Boundary) -> Callable[..., Any]:
    """The function on tensors.  ImportError where PyTorch is missing."""
    torch = required("torch", "f.torch()")
    operator = _Operator(torch, b)

    @torch.compiler.assume_constant_result
    def structure(*dtypes: str) -> Any:
        return b.outcome(dtypes).structure

    def call(*args: Any, **kwargs: Any) -> Any:
        given = bound_call(b, args, kwargs, "torch")
        values = [_accepted(torch, b, o, v) for o, v in zip(b.operands, given, strict=True)]
        dtypes = [_OURS[str(v.dtype)] for o, v in zip(b.operands, values, strict=True) if not o.size]
        _refuse_tangents(torch, b, values)
        return arranged(structure(*dtypes), iter(operator(*values)))

    call.__name__ = b.name
    call.__doc__ = inspect.getdoc(b.f.python)
    return call


class _Operator:
    """An operator in PyTorch's registry, which keeps it for the life of the process."""

    def __init__(self, torch: Any, b: Boundary) -> None:
        self.torch = torch
        self.boundary = b
        self._made: dict[Boundary, _Operator] = {}
        self.op = torch.library.custom_op(
            f"polyhedral::{_of_this_process(b.name)}", self._run, mutates_args=(), device_types="cpu", schema=_schema(b)
        )
        self.op.register_fake(self._fake)
        self.op.register_autograd(self._backward, setup_context=_keep)
        self.op.register_vmap(self._batched)
        self._transformed = transformed(torch, b.name, self.op, _keep, self._backward, self._batched_again)

    def __call__(self, *values: Any) -> Sequence[Any]:
        """The results.  PyTorch's registry knows derivatives and batches, `torch.func` wants them from a Function."""
        compiling = self.torch.compiler.is_compiling()
        if not compiling and self.torch._C._are_functorch_transforms_active():
            return self._transformed(*values)
        return self.op(*values)

    def _run(self, *values: Any) -> list[Any]:
        types = [BY_NAME[n] for n in self._types(values)]
        operands = self.boundary.operands
        arrays = [v if o.size else _view(self.torch, v) for o, v in zip(operands, values, strict=True)]
        outcome = self.boundary.outcome(self._types(values))
        made = self.boundary.run(arrays, types)
        return [_tensor(self.torch, a, r.dtype) for a, r in zip(made, outcome.results, strict=True)]

    def _fake(self, *values: Any) -> list[Any]:
        """Results without values: their shapes follow from those of the arguments, symbolic ones too."""
        operands = self.boundary.operands
        sizes = self.boundary.sizes([v if o.size else v.shape for o, v in zip(operands, values, strict=True)])
        device = next((v.device for o, v in zip(operands, values, strict=True) if not o.size), "cpu")
        return [
            self.torch.empty(r.shape(sizes), dtype=getattr(self.torch, _NAMES[r.dtype.name]), device=device)
            for r in self.boundary.outcome(self._types(values)).results
        ]

    def _backward(self, ctx: Any, cotangents: Sequence[Any]) -> tuple[Any, ...]:
        """Another operator, over what was read and the cotangents that there are: it has derivatives of its own."""
        saved, sizes = iter(ctx.saved_tensors), iter(ctx.sizes)
        values = [next(sizes) if o.size else next(saved) for o in self.boundary.operands]
        outcome = self.boundary.outcome(self._types(values))
        outputs = tuple(i for i, g in enumerate(cotangents) if g is not None)
        needed = ctx.needs_input_grad
        wrt = tuple(o.name for o, n in zip(self.boundary.operands, needed, strict=True) if n)
        self.boundary.require_derivatives(outcome, outputs, self._types(values), wrt)
        outputs = tuple(i for i in outputs if outcome.smooth[i])
        if not outputs or not wrt:
            return (None,) * len(values)
        back = self._operator(self.boundary.pullback(outcome, wrt, outputs))
        made = iter(back(*values, *(cotangents[i] for i in outputs)))
        return tuple(next(made) if n else None for n in needed)

    def _batched(self, info: Any, at: Sequence[int | None], *values: Any) -> tuple[list[Any], list[int | None]]:
        """torch.vmap as the registry asks for it, below all transforms: one more name."""
        operator, where = self._lifted(at, values)
        return operator.op(*values), where

    def _batched_again(self, info: Any, at: Sequence[int | None], *values: Any) -> tuple[list[Any], list[int | None]]:
        """torch.vmap within other transforms, which see what it calls."""
        operator, where = self._lifted(at, values)
        return list(operator(*values)), where

    def _lifted(self, at: Sequence[int | None], values: Sequence[Any]) -> tuple[_Operator, list[int | None]]:
        if any(k is not None and o.scalar is not None for o, k in zip(self.boundary.operands, at, strict=True)):
            raise Unsupported(
                "PH900",
                f"{self.boundary.name}: vmap over a scalar argument",
                hints=("declare it as an array without dimensions: c=''",),
            )
        lifted, has = self.boundary.lifted(self._types(values), tuple(at))
        return self._operator(lifted), [0 if h else None for h in has]

    def _operator(self, b: Boundary) -> _Operator:
        if b not in self._made:
            self._made[b] = _Operator(self.torch, b)
        return self._made[b]

    def _types(self, values: Sequence[Any]) -> tuple[str, ...]:
        return tuple(_OURS[str(v.dtype)] for o, v in zip(self.boundary.operands, values, strict=True) if not o.size)


def _keep(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    """What the derivative reads again: all arguments.  Outputs that nobody uses get no cotangent."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*(v for v in inputs if hasattr(v, "dtype")))
    ctx.sizes = [v for v in inputs if not hasattr(v, "dtype")]


def _schema(b: Boundary) -> str:
    spelled = (f"{'SymInt' if o.size else 'Tensor'} {_plain(o.name, f'arg{n}')}" for n, o in enumerate(b.operands))
    return f"({', '.join(spelled)}) -> Tensor[]"


def _plain(name: str, otherwise: str) -> str:
    return name if re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) else otherwise


def _of_this_process(name: str) -> str:
    """The function's name, made unlike any other: torch.compile keeps graphs on disk, where a later process would find
    operators that it has under the same name for another program, or, of derivatives, not yet.
    """
    return f"{_plain(name, 'function')}_{uuid4().hex}"


# --- tensors ---------------------------------------------------------------------------------------------------------


def _accepted(torch: Any, b: Boundary, o: Operand, v: Any) -> Any:
    """The argument as the operator takes it; errors name it and say what to do."""
    if o.size:
        return v
    if o.scalar is not None:
        dtype = getattr(torch, _NAMES[o.scalar.name])
        return v.to(dtype) if isinstance(v, torch.Tensor) else torch.tensor(v, dtype=dtype)
    if not isinstance(v, torch.Tensor):
        raise ArgumentError(
            "PH316",
            f"{b.name}: {o.name} is a {type(v).__name__}, not a tensor",
            hints=(f"torch.as_tensor({o.name}), or call the function itself on NumPy arrays",),
        )
    if v.device.type not in ("cpu", "meta"):
        raise ArgumentError(
            "PH314",
            f"{b.name}: {o.name} lies on {v.device}, and this kernel is for the CPU",
            hints=(f"{o.name}.cpu(): the result is on the CPU, too",),
        )
    if v.layout != torch.strided:
        raise ArgumentError("PH316", f"{b.name}: {o.name} is {v.layout}, not strided", hints=(f"{o.name}.to_dense()",))
    if str(v.dtype) not in _OURS:
        raise DtypeError(
            "PH304",
            f"{b.name}: {o.name} has elements of type {v.dtype}",
            hints=(f"use one of {', '.join(_OURS)}",),
        )
    return v


def _refuse_tangents(torch: Any, b: Boundary, values: Sequence[Any]) -> None:
    """PyTorch would run the operator on a dual number's value alone, and its derivative would be 0 silently."""
    if torch.compiler.is_compiling():
        return
    for o, v in zip(b.operands, values, strict=True):
        if not o.size and torch.autograd.forward_ad.unpack_dual(v).tangent is not None:
            raise Unsupported(
                "PH900",
                f"{b.name}: {o.name} carries a tangent, and the operator has derivatives in reverse mode only",
                hints=("torch.func.vjp or .backward()", "ph.jvp(...) within a program: the derivative as a function"),
            )


def _view(torch: Any, t: Any) -> Strided:
    """The tensor's memory as an array; only lazily conjugated or negated ones are copied."""
    ours = _OURS[str(t.dtype)]
    if ours in _BYTES:
        return t.view(getattr(torch, _BYTES[ours])).numpy().view(BY_NAME[ours].numpy)
    return t.resolve_conj().resolve_neg().numpy()


def _tensor(torch: Any, a: Strided, dtype: DType) -> Any:
    theirs = getattr(torch, _NAMES[dtype.name])
    if dtype.name in _BYTES:
        return torch.from_numpy(a.view(_BYTES[dtype.name])).view(theirs)
    return torch.from_numpy(a)
