# SPDX-License-Identifier: MIT
"""Cases in torch, in every form that may be its fastest: both memory formats, and weights packed for oneDNN.

Each form is a call without arguments; who times it, and what its result is held against, is `benchmarks.peers`'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import attention, autograd, torch_chains, torch_routing
from benchmarks.case import Arrays, Case

Form = tuple[str, Callable[[], Any]]
CHUNK = 16
"""Rows of a max-plus product that are done at once: what is broadcast then stays within the second cache."""


def forms(torch: Any, case: Case, arrays: Arrays, device: str = "cpu") -> Iterator[Form]:
    """The first is the plainest; none where torch has no reasonable one."""
    t = {n: torch.from_numpy(v).to(device) for n, v in arrays.items()}
    f = torch.nn.functional
    n = case.numbers
    match case.family:
        case "em" | "network" | "residual" | "capsule_chain" | "capsule-backward" | "conv2d-backward" | "em-backward":
            yield from _programs(torch, t, case)
        case "capsule" | "conv2d" | "transposed" | "grouped" | "depthwise":
            yield from _layers(torch, t, case)
        case "gemm" | "batched":
            yield "torch", lambda: t["A"] @ t["B"]
        case "maxplus":
            columns = t["B"].T.contiguous()
            yield (
                "torch, in chunks",
                lambda: torch.cat([(rows[:, None] + columns).amax(2) for rows in t["A"].split(CHUNK)]),
            )
        case "bilinear":
            yield from _bilinear(torch, t)
        case "softmax":
            yield "torch", lambda: torch.softmax(t["X"], 1)
        case "layer_norm":
            yield "torch", lambda: f.layer_norm(t["X"], t["gain"].shape, t["gain"], t["bias"])
        case "attention":
            yield from _attention(torch, t, n["window"])
        case "involution":
            yield "torch, unfold", lambda: _involution(f, t["X"], t["K"], n["pad"])


def _programs(torch: Any, t: dict[str, Any], case: Case) -> Iterator[Form]:
    """Several layers, the iterations of one, or the way back through one."""
    match case.family:
        case "em":
            yield from torch_routing.forms(torch, case, t)
        case "network":
            yield from torch_routing.network(torch, case, t)
        case "capsule-backward" | "conv2d-backward" | "em-backward":
            yield from autograd.forms(torch, case, t)
        case _:
            yield from torch_chains.forms(torch, case, t)


def _layers(torch: Any, t: dict[str, Any], case: Case) -> Iterator[Form]:
    """Convolutions of other kinds as torch has them."""
    f, n = torch.nn.functional, case.numbers
    match case.family:
        case "capsule":
            yield from _capsule(torch, t, case)
        case "conv2d":
            yield from _conv2d(torch, t, case)
        case "transposed":
            last = t["W"].contiguous(memory_format=torch.channels_last)
            yield "torch", lambda: f.conv_transpose2d(t["X"], t["W"], stride=n["stride"], padding=n["pad"])
            yield (
                "torch channels_last",
                lambda: f.conv_transpose2d(
                    t["X"].contiguous(memory_format=torch.channels_last), last, stride=n["stride"], padding=n["pad"]
                ).contiguous(),
            )
        case "grouped":
            g, o, c, k, _ = t["W"].shape
            h = t["X"].shape[-1]
            w, x = t["W"].reshape(g * o, c, k, k), t["X"].reshape(1, g * c, h, h)
            for name, conv in _convolutions(torch, x, w, 1, n["pad"], 1, g, case.constant):
                yield name, lambda conv=conv: conv(x).contiguous().reshape(g, o, h, h)
        case "depthwise":
            w, x = t["W"][:, None].contiguous(), t["X"][None]
            for name, conv in _convolutions(torch, x, w, n["stride"], n["pad"], 1, n["groups"], case.constant):
                yield name, lambda conv=conv: conv(x).contiguous()[0]


def _convolutions(
    torch: Any, like: Any, w: Any, stride: int, pad: int, dilation: int, groups: int, constant: tuple[str, ...]
) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """An ordinary convolution of arrays of the shape and type of `like`, in torch's ways to do it.

    With constant weights the last is the one that torch's compiler calls when it freezes a network: weights blocked for
    oneDNN once, which is faster than a traced, frozen and optimised module.
    """
    conv, last = torch.nn.functional.conv2d, torch.channels_last
    args = {"stride": stride, "padding": pad, "dilation": dilation, "groups": groups}
    w, w_last = w.contiguous(), w.contiguous(memory_format=last)
    yield "torch", lambda x: conv(x, w, **args)
    yield "torch channels_last", lambda x: conv(x.contiguous(memory_format=last), w_last, **args)
    reorder = getattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", None)
    if constant and reorder is not None and torch.backends.mkldnn.is_available():
        sides = [pad] * 2, [stride] * 2, [dilation] * 2, groups
        packed = reorder(w.to_mkldnn(), *sides, list(like.shape))
        run = torch.ops.mkldnn._convolution_pointwise
        yield (
            "torch prepacked",
            lambda x: run(x.contiguous(memory_format=last), packed, None, *sides, "none", [], ""),
        )


def _conv2d(torch: Any, t: dict[str, Any], case: Case) -> Iterator[Form]:
    n = case.numbers
    nhwc = bool(n["nhwc"])
    x, w = (t["X"].permute(0, 3, 1, 2), t["W"].permute(3, 2, 0, 1)) if nhwc else (t["X"], t["W"])
    for name, conv in _convolutions(torch, x, w, n["stride"], n["pad"], n["dilation"], n["groups"], case.constant):
        if nhwc:
            if name != "torch":
                yield name, lambda conv=conv: conv(x).permute(0, 2, 3, 1).contiguous()
        else:
            yield name, lambda conv=conv: conv(x).contiguous()


def _capsule(torch: Any, t: dict[str, Any], case: Case) -> Iterator[Form]:
    """As an ordinary convolution: pose rows i join the batch, (ci, k) are its channels, (co, j) its results."""
    P, W, n = t["P"], t["W"], case.numbers
    inside = not n["channels"]
    kernel, b, h = W.shape[0], P.shape[0], P.shape[1]
    w = (W.permute(3, 5, 2, 4, 0, 1) if inside else W.permute(5, 3, 4, 2, 0, 1)).reshape(
        -1, 4 * (W.shape[2] if inside else W.shape[4]), kernel, kernel
    )
    into = (0, 4, 3, 5, 1, 2) if inside else (0, 3, 5, 4, 1, 2)

    def rows() -> Any:
        return P.permute(*into).reshape(b * 4, -1, h, h)

    def back(y: Any) -> Any:
        y = y.reshape(b, 4, -1, 4, y.shape[2], y.shape[3])  # n i co j y x
        return (y.permute(0, 4, 5, 2, 1, 3) if inside else y.permute(0, 4, 5, 1, 3, 2)).contiguous()

    for name, conv in _convolutions(torch, rows(), w, n["stride"], n["pad"], 1, 1, case.constant):
        yield name, lambda conv=conv: back(conv(rows()))


def _attention(torch: Any, t: dict[str, Any], window: int) -> Iterator[Form]:
    """torch's fused kernel, which takes a batch in front; a window is a mask to it."""
    fused = torch.nn.functional.scaled_dot_product_attention
    q, k, v = (t[name][None] for name in "QKV")
    if window:
        mask = torch.from_numpy(attention.seen(q.shape[2], window))
        yield "torch, fused", lambda: fused(q, k, v, attn_mask=mask)[0]
    else:
        yield "torch, fused", lambda: fused(q, k, v, is_causal=True)[0]


def _bilinear(torch: Any, t: dict[str, Any]) -> Iterator[Form]:
    """One product first, either of the two, in either order of its results; then a product for each n, or a sum."""
    X, W, Y = t["X"], t["W"], t["Y"]
    n, size = X.shape
    einsum = torch.einsum
    yield "torch, x first", lambda: einsum("noj,nj->no", einsum("ni,oij->noj", X, W), Y)
    yield "torch, y first", lambda: einsum("noi,ni->no", einsum("nj,oij->noi", Y, W), X)
    rows = W.reshape(-1, size)
    yield "torch, y first, bmm", lambda: torch.bmm((Y @ rows.T).view(n, -1, size), X[:, :, None])[..., 0]
    yield "torch, y first, sum", lambda: ((Y @ rows.T).view(n, -1, size) * X[:, None]).sum(2)
    yield "torch, an output at a time", lambda: torch.bmm(X.expand(len(W), n, size), W).mul_(Y).sum(2).T.contiguous()
    yield "torch bilinear", lambda: torch.nn.functional.bilinear(X, Y, W)


def _involution(f: Any, x: Any, kernels: Any, pad: int) -> Any:
    """Windows of every channel next to each other, times the kernel of their group and place, summed."""
    n, g, c, h, w = x.shape
    k = kernels.shape[2]
    windows = f.unfold(x.reshape(n, g * c, h, w), k, padding=pad).reshape(n, g, c, k * k, h, w)
    return (windows * kernels.reshape(n, g, 1, k * k, h, w)).sum(3)
