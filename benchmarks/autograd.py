# SPDX-License-Identifier: MIT
"""Derivatives in torch: oneDNN's backward convolutions in both memory formats, autograd through an EM routing layer.

Each form is a call without arguments; what is differentiated is in `benchmarks.backward`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.case import Case
from benchmarks.torch_routing import LAYERS, Windows

Form = tuple[str, Callable[[], Any]]


def forms(torch: Any, case: Case, t: dict[str, Any]) -> Iterator[Form]:
    match case.family:
        case "conv2d-backward":
            for name, back in _convolutions(torch, case):
                yield name, lambda back=back: tuple(d.contiguous() for d in back(t["dY"], t["X"], t["W"]))
        case "capsule-backward":
            yield from _capsule(torch, case, t)
        case _:
            yield from _em(torch, case, t)


def compiled(torch: Any, case: Case, t: dict[str, Any]) -> Iterator[Form]:
    """What torch.compile makes of an EM routing layer and, through it, of its derivative."""
    for name, layer in LAYERS.items():
        made = torch.compile(layer, dynamic=False)
        w = _Slices(torch, t["Pose"].shape[1], case.numbers["kernel"], case.numbers["stride"])
        yield f"torch.compile, {name}", lambda w=w, made=made: _differentiated(torch, w, made, t, t)


def _convolutions(torch: Any, case: Case) -> Iterator[tuple[str, Callable[[Any, Any, Any], Any]]]:
    """The derivatives by input and weights of an ordinary convolution."""
    stride, pad = case.numbers["stride"], case.numbers["pad"]

    def back(dY: Any, X: Any, W: Any) -> Any:
        sides = [stride] * 2, [pad] * 2, [1] * 2
        return torch.ops.aten.convolution_backward(dY, X, W, None, *sides, False, [0, 0], 1, [True, True, False])[:2]

    def last(*arrays: Any) -> Any:
        return back(*(a.contiguous(memory_format=torch.channels_last) for a in arrays))

    yield "torch", back
    yield "torch channels_last", last


def _capsule(torch: Any, case: Case, t: dict[str, Any]) -> Iterator[Form]:
    """As an ordinary convolution: pose rows i join the batch, (ci, k) are its channels, (co, j) its results."""
    P, W, dO = t["P"], t["W"], t["dO"]
    b, h, _, children, rows, k = P.shape
    kernel, parents, j = W.shape[0], W.shape[3], W.shape[5]

    def images(a: Any) -> Any:
        """`[n, y, x, c, i, k]` as `[n i, c k, y, x]`."""
        return a.permute(0, 4, 3, 5, 1, 2).reshape(a.shape[0] * a.shape[4], -1, a.shape[1], a.shape[2])

    for name, back in _convolutions(torch, case):

        def run(back: Callable[[Any, Any, Any], Any] = back) -> Any:
            w = W.permute(3, 5, 2, 4, 0, 1).reshape(parents * j, children * k, kernel, kernel)
            dX, dV = back(images(dO), images(P), w)
            dP = dX.reshape(b, rows, children, k, h, h).permute(0, 4, 5, 2, 1, 3).contiguous()
            return dP, dV.reshape(parents, j, children, k, kernel, kernel).permute(4, 5, 2, 0, 3, 1).contiguous()

        yield name, run


class _Windows(Windows):
    """Nothing is written twice: autograd allows no other scatter.  Greatest values are constants."""

    def shared(self, places: Any) -> Any:
        n, m, _, kernel, _, i = places.shape
        line = self.stride * self.torch.arange(m)[:, None] + self.torch.arange(kernel)
        at = (line[:, None, :, None] * self.h + line[None, :, None, :]).reshape(-1)
        found = places.new_zeros(n, self.h * self.h, i).index_add(1, at, places.reshape(n, -1, i))
        return self.gather(found.reshape(n, self.h, self.h, i))

    def most(self, places: Any) -> Any:
        with self.torch.no_grad():
            return super().most(places.detach())


class _Slices(_Windows):
    """Windows as strided slices: the derivative of an `unfold` whose windows overlap is wrong where inductor compiles
    it (torch 2.13).
    """

    def gather(self, children: Any) -> Any:
        reach = self.stride * (self.size - 1) + 1
        at = [slice(k, k + reach, self.stride) for k in range(self.kernel)]
        rows = [self.torch.stack([children[:, ky, kx] for kx in at], 3) for ky in at]
        return self.torch.stack(rows, 3)


def _em(torch: Any, case: Case, t: dict[str, Any]) -> Iterator[Form]:
    """Autograd, over the whole batch and an example at a time."""
    w = _Windows(torch, t["Pose"].shape[1], case.numbers["kernel"], case.numbers["stride"])
    for name, layer in LAYERS.items():
        yield f"torch, {name}", lambda layer=layer: _differentiated(torch, w, layer, t, t)

    def one_by_one() -> tuple[Any, ...]:
        parts = {n: t[n].split(1) for n in ("Pose", "Act", "T")}
        examples = [dict(zip(parts, one, strict=True)) for one in zip(*parts.values(), strict=True)]
        each = [_differentiated(torch, w, LAYERS["products"], t, one) for one in examples]
        loss, dPose, *rest = zip(*each, strict=True)
        return sum(loss), torch.cat(dPose), *(sum(d) for d in rest)

    yield "torch, products, one by one", one_by_one


def _differentiated(
    torch: Any, w: _Windows, layer: Callable[..., Any], weights: dict[str, Any], batch: dict[str, Any]
) -> tuple[Any, ...]:
    """The loss and its derivatives by Pose, W, bu and ba."""
    with torch.inference_mode(False), torch.enable_grad():
        names = ("Pose", "W", "bu", "ba")
        by = {n: (batch if n == "Pose" else weights)[n].detach().requires_grad_() for n in names}
        Mu, A = layer(w, by["Pose"], batch["Act"], by["W"], by["bu"], by["ba"])
        loss = (Mu * batch["T"]).sum() + A.square().sum()
        return loss.detach().reshape(()), *torch.autograd.grad(loss, list(by.values()))
