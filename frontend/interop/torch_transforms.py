# SPDX-License-Identifier: MIT
"""An operator as `torch.func` takes it: grad, vjp, jacrev and hessian, alone and under vmap.

These look for derivatives on an `autograd.Function`, and not in PyTorch's registry of operators; what the derivatives
are is `frontend.interop.torch`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from polyhedral.errors import Unsupported


def transformed(
    torch: Any,
    name: str,
    run: Callable[..., Sequence[Any]],
    keep: Callable[[Any, Sequence[Any], Any], None],
    backward: Callable[[Any, Sequence[Any]], tuple[Any, ...]],
    batched: Callable[..., tuple[list[Any], list[int | None]]],
) -> Callable[..., Sequence[Any]]:
    """`run`, with the derivatives and the batches that an operator registers: the same functions, asked otherwise."""

    class Transformed(torch.autograd.Function):
        @staticmethod
        def forward(*values: Any) -> tuple[Any, ...]:
            return tuple(run(*values))

        @staticmethod
        def setup_context(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
            keep(ctx, inputs, output)

        @staticmethod
        def backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
            return backward(ctx, cotangents)

        @staticmethod
        def vmap(info: Any, at: Sequence[int | None], *values: Any) -> tuple[tuple[Any, ...], tuple[int | None, ...]]:
            made, where = batched(info, at, *values)
            return tuple(made), tuple(where)

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            raise Unsupported(
                "PH900",
                f"{name}: an argument carries a tangent, and the operator has derivatives in reverse mode only",
                hints=("torch.func.vjp, jacrev or .backward()",),
            )

    return Transformed.apply
