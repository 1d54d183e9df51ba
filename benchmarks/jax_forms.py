# SPDX-License-Identifier: MIT
"""Cases in JAX, as functions that `jax.jit` compiles.

Convolutions go through `lax.conv_general_dilated`, the one that XLA knows; `benchmarks.peers` makes constant weights
constants of the compiled function, so that XLA folds what is done to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import attention, jax_routing
from benchmarks.case import Case


def forms(jax: Any, case: Case) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Named functions of the case's arrays by name; none where there is no reasonable one."""
    if case.family == "em":
        yield from jax_routing.forms(jax, case)
    elif case.family == "em-backward":
        yield from jax_routing.backward(jax, case)
    else:
        made = form(jax, case)
        if made is not None:
            yield "JAX", made


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
        case "network":
            return jax_routing.network(jax, case)
        case "residual":
            return lambda X, W1, b1, W2, b2: _residual(jax, X, W1, b1, W2, b2)
        case "capsule_chain":
            return lambda P, W1, W2, W3: _capsule_chain(jax, P, (W1, W2, W3))
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


def _near(jax: Any, X: Any, W: Any) -> Any:
    """A 3x3 convolution that keeps the size, channels last."""
    return jax.lax.conv_general_dilated(X, W, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _residual(jax: Any, X: Any, W1: Any, b1: Any, W2: Any, b2: Any) -> Any:
    """Channels last inside: XLA's convolutions want them there."""
    x = jax.numpy.transpose(X, (0, 2, 3, 1))
    now = x
    for w, bias in ((W1, b1), (W2, b2)):
        now = jax.nn.relu(_near(jax, now, jax.numpy.transpose(w, (2, 3, 1, 0))) + bias)
    return jax.numpy.transpose(now + x, (0, 3, 1, 2))


def _capsule_chain(jax: Any, P: Any, weights: tuple[Any, ...]) -> Any:
    """Pose rows join the batch; (ci, k) are channels, which come out as the next one's."""
    jnp = jax.numpy
    b, h, _, types = P.shape[:4]
    now = jnp.transpose(P, (0, 4, 1, 2, 3, 5)).reshape(b * 4, h, h, types * 4)
    for w in weights:  # ky kx k j ci co
        now = _near(jax, now, jnp.transpose(w, (0, 1, 4, 2, 5, 3)).reshape(3, 3, types * 4, types * 4))
    return jnp.transpose(now.reshape(b, 4, h, h, types, 4), (4, 0, 5, 1, 2, 3))


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
