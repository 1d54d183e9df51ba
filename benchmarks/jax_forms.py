# SPDX-License-Identifier: MIT
"""Cases in JAX, as functions that `jax.jit` compiles.

Convolutions go through `lax.conv_general_dilated`, the one that XLA knows; `benchmarks.peers` makes constant weights
constants of the compiled function, so that XLA folds what is done to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import attention
from benchmarks.case import Case


def form(jax: Any, case: Case) -> Callable[..., Any] | None:
    """A function of the case's arrays by name, or None where there is no reasonable one."""
    jnp, n = jax.numpy, case.numbers
    match case.family:
        case "gemm" | "batched":
            return lambda A, B: A @ B
        case "maxplus":
            return lambda A, B: (A[:, :, None] + B[None]).max(1)
        case "bilinear":
            return lambda X, W, Y: jnp.einsum("ni,oij,nj->no", X, W, Y)
        case "softmax":
            return lambda X: jax.nn.softmax(X, axis=1)
        case "layer_norm":
            return lambda X, gain, bias: (
                (X - X.mean(1, keepdims=True)) / jnp.sqrt(X.var(1, keepdims=True) + 1e-5) * gain + bias
            )
        case "attention":
            return _attention(jax, case)
        case "involution":
            return lambda X, K: _involution(jnp, X, K, n["pad"])
        case "jacobi":
            return _jacobi(jax, case.sizes["steps"])
        case _:
            return _layer(jax, case)


def _layer(jax: Any, case: Case) -> Callable[..., Any] | None:
    n = case.numbers
    match case.family:
        case "capsule":
            return _capsule(jax, case)
        case "conv2d":
            spec = ("NHWC", "HWIO", "NHWC") if n["nhwc"] else ("NCHW", "OIHW", "NCHW")
            return lambda X, W: _conv(jax, X, W, case, spec, n["dilation"])
        case "depthwise":
            return lambda X, W: _conv(jax, X[None], W[:, None], case, groups=n["groups"])[0]
        case "grouped":
            return lambda X, W: _grouped(jax, X, W, case)
        case "transposed":
            return lambda X, W: _transposed(jax, X, W, case)
        case _:
            return None


def _conv(
    jax: Any,
    X: Any,
    W: Any,
    case: Case,
    spec: tuple[str, str, str] = ("NCHW", "OIHW", "NCHW"),
    dilation: int = 1,
    groups: int = 1,
) -> Any:
    n = case.numbers
    return jax.lax.conv_general_dilated(
        X,
        W,
        window_strides=(n["stride"],) * 2,
        padding=((n["pad"],) * 2,) * 2,
        rhs_dilation=(dilation,) * 2,
        dimension_numbers=spec,
        feature_group_count=groups,
    )


def _grouped(jax: Any, X: Any, W: Any, case: Case) -> Any:
    g, o, c, k, _ = W.shape
    h = X.shape[-1]
    return _conv(jax, X.reshape(1, g * c, h, h), W.reshape(g * o, c, k, k), case, groups=g).reshape(g, o, h, h)


def _transposed(jax: Any, X: Any, W: Any, case: Case) -> Any:
    """A convolution of the input with holes, by the flipped weights."""
    n = case.numbers
    side = W.shape[2] - 1 - n["pad"]
    return jax.lax.conv_general_dilated(
        X,
        W[:, :, ::-1, ::-1],
        window_strides=(1, 1),
        padding=((side, side),) * 2,
        lhs_dilation=(n["stride"],) * 2,
        dimension_numbers=("NCHW", "IOHW", "NCHW"),
    )


def _capsule(jax: Any, case: Case) -> Callable[..., Any]:
    """As an ordinary convolution with channels last: pose rows join the batch, columns the channels."""
    jnp = jax.numpy

    def inside(P: Any, W: Any) -> Any:  # n y x ci i k; ky kx ci co k j
        b, h = P.shape[:2]
        kernel, _, ci, co = W.shape[:4]
        x = jnp.transpose(P, (0, 4, 1, 2, 3, 5)).reshape(b * 4, h, h, ci * 4)
        w = jnp.transpose(W, (0, 1, 2, 4, 3, 5)).reshape(kernel, kernel, ci * 4, co * 4)
        y = _conv(jax, x, w, case, ("NHWC", "HWIO", "NHWC"))
        return jnp.transpose(y.reshape(b, 4, y.shape[1], y.shape[2], co, 4), (0, 2, 3, 4, 1, 5))

    def channels(P: Any, W: Any) -> Any:  # n y x i k ci; ky kx k j ci co
        b, h, _, _, _, ci = P.shape
        kernel, _, _, _, _, co = W.shape
        x = jnp.transpose(P, (0, 3, 1, 2, 4, 5)).reshape(b * 4, h, h, 4 * ci)
        w = jnp.transpose(W, (0, 1, 2, 4, 3, 5)).reshape(kernel, kernel, 4 * ci, 4 * co)
        y = _conv(jax, x, w, case, ("NHWC", "HWIO", "NHWC"))
        return jnp.transpose(y.reshape(b, 4, y.shape[1], y.shape[2], 4, co), (0, 2, 3, 1, 4, 5))

    return channels if case.numbers["channels"] else inside


def _attention(jax: Any, case: Case) -> Callable[..., Any]:
    jnp, window = jax.numpy, case.numbers["window"]

    def run(Q: Any, K: Any, V: Any) -> Any:
        seen = jnp.asarray(attention.seen(Q.shape[1], window))
        scores = jnp.where(seen, Q @ K.swapaxes(1, 2) * Q.shape[-1] ** -0.5, -jnp.inf)
        return jax.nn.softmax(scores, axis=-1) @ V

    return run


def _involution(jnp: Any, X: Any, K: Any, pad: int) -> Any:
    """Shifted products, which XLA fuses into one loop."""
    kernel, h = K.shape[2], X.shape[-1]
    padded = jnp.pad(X, [(0, 0)] * 3 + [(pad, pad)] * 2)
    taps = ((ty, tx) for ty in range(kernel) for tx in range(kernel))
    return sum(padded[..., ty : ty + h, tx : tx + h] * K[:, :, None, ty, tx] for ty, tx in taps)


def _jacobi(jax: Any, steps: int) -> Callable[..., Any]:
    def step(_: Any, u: Any) -> Any:
        inside = u[1:-1, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] + u[:-2, 1:-1] + u[2:, 1:-1]
        return u.at[1:-1, 1:-1].set(0.2 * inside)

    return lambda u0: jax.lax.fori_loop(0, steps, step, u0)
