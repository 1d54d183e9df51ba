# SPDX-License-Identifier: MIT
"""Layers in a row in torch: both memory formats, and weights packed for oneDNN with bias and ReLU in its kernel.

Between layers values stay in the format that the convolutions like; only ends are in the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.case import Case

Form = tuple[str, Callable[[], Any]]
Layer = Callable[[Any], Any]


def _packs(torch: Any) -> bool:
    """Whether this torch blocks weights for oneDNN."""
    return hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight") and torch.backends.mkldnn.is_available()


def _packed(torch: Any, like: Any, w: Any, bias: Any, relu: bool) -> Layer:
    """A 3x3 convolution with weights blocked for oneDNN."""
    sides = [1, 1], [1, 1], [1, 1], 1
    blocked = torch._C._nn.mkldnn_reorder_conv2d_weight(w.contiguous().to_mkldnn(), *sides, list(like.shape))
    run, attribute = torch.ops.mkldnn._convolution_pointwise, "relu" if relu else "none"
    return lambda x: run(x, blocked, bias, *sides, attribute, [], "")


def residual(torch: Any, t: dict[str, Any], constant: bool) -> Iterator[Form]:
    f, last = torch.nn.functional, torch.channels_last
    weights = (t["W1"], t["b1"]), (t["W2"], t["b2"])

    def form(make: Callable[[Any, Any], Layer], memory: Any) -> Callable[[], Any]:
        one, two = (make(w.contiguous(memory_format=memory), bias) for w, bias in weights)

        def run() -> Any:
            x = t["X"].contiguous(memory_format=memory)
            return (two(one(x)) + x).contiguous()

        return run

    def plain(w: Any, bias: Any) -> Layer:
        return lambda x: f.conv2d(x, w, bias, padding=1).relu_()

    yield "torch", form(plain, torch.contiguous_format)
    yield "torch channels_last", form(plain, last)
    if constant and _packs(torch):
        packed = [_packed(torch, t["X"], w, bias, True) for w, bias in weights]

        def prepacked(memory: Any) -> Any:
            x = t["X"].contiguous(memory_format=memory)
            return (packed[1](packed[0](x)) + x).contiguous()

        yield "torch prepacked", lambda: prepacked(torch.contiguous_format)
        yield "torch prepacked channels_last", lambda: prepacked(last)


def capsule_chain(torch: Any, t: dict[str, Any], constant: bool) -> Iterator[Form]:
    """As convolutions: pose rows i join the batch, (ci, k) are channels, which come out as the next one's."""
    P, conv, last = t["P"], torch.nn.functional.conv2d, torch.channels_last
    b, h, types = P.shape[0], P.shape[1], P.shape[3]

    def filters(w: Any) -> Any:  # ky kx k j ci co -> (co j) (ci k) ky kx
        return w.permute(5, 3, 4, 2, 0, 1).reshape(types * 4, types * 4, 3, 3)

    def rows(memory: Any) -> Any:
        return P.permute(0, 4, 3, 5, 1, 2).reshape(b * 4, types * 4, h, h).contiguous(memory_format=memory)

    def back(z: Any) -> Any:  # (n i) (co j) y x -> co n j i y x
        return z.reshape(b, 4, types, 4, h, h).permute(2, 0, 3, 1, 4, 5).contiguous()

    names = "W1", "W2", "W3"
    prepared = {m: [filters(t[n]).contiguous(memory_format=m) for n in names] for m in (torch.contiguous_format, last)}

    def plain(memory: Any) -> Any:
        x = rows(memory)
        for at, n in enumerate(names):
            w = prepared[memory][at] if constant else filters(t[n]).contiguous(memory_format=memory)
            x = conv(x, w, padding=1)
        return back(x)

    yield "torch", lambda: plain(torch.contiguous_format)
    yield "torch channels_last", lambda: plain(last)
    if constant and _packs(torch):
        layers = [_packed(torch, rows(last), w, None, False) for w in prepared[last]]

        def prepacked() -> Any:
            x = rows(last)
            for one in layers:
                x = one(x)
            return back(x)

        yield "torch prepacked", prepacked


def forms(torch: Any, case: Case, t: dict[str, Any]) -> Iterator[Form]:
    made = residual if case.family == "residual" else capsule_chain
    yield from made(torch, t, bool(case.constant))
