# SPDX-License-Identifier: MIT
"""Other ways to run a case, each in its best known form: NumPy with BLAS, torch, torch.compile, JAX, plain C.

A peer that is not installed, or has no form for a case, is left out with a note; weights are put into a peer's
favourite layout before the clock starts, inputs are not.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import nests
from benchmarks.case import Arrays, Case
from benchmarks.convolutions import out_size
from codegen.runtime.native import address
from frontend.timing import Contestant, native

PEERS = ("numpy", "torch", "compile", "jax", "c")


def optional(name: str) -> Any | None:
    """A package, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("polyhedral-loops", "numpy", "islpy", "torch", "jax"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def contestants(
    case: Case, arrays: Arrays, threads: int, wanted: tuple[str, ...]
) -> tuple[list[Contestant], list[str]]:
    """The peers of a case that can run here, and notes on those that cannot."""
    makers = {"numpy": _numpy, "torch": _torch, "compile": _compiled, "jax": _jax, "c": _plain}
    found: list[Contestant] = []
    notes: list[str] = []
    for name in wanted:
        made = list(makers[name](case, arrays, threads))
        found += made
        if not made:
            notes.append(
                f"{name}: not installed"
                if name in ("torch", "compile", "jax") and optional(_package(name)) is None
                else f"{name}: no form of {case.family}"
            )
    return found, notes


def _package(name: str) -> str:
    return "torch" if name == "compile" else name


def _kept(
    name: str, compute: Callable[[], Any], array: Callable[[Any], np.ndarray] = np.asarray, note: str = ""
) -> Contestant:
    """A contestant that remembers its last result."""
    last: list[Any] = [None]

    def run() -> object:
        last[0] = compute()
        return last[0]

    return Contestant(name, run, lambda: array(last[0]), note=note)


# --- plain C ---------------------------------------------------------------------------------------------------------


def _plain(case: Case, arrays: Arrays, threads: int) -> Iterator[Contestant]:
    """Textual order, and the fastest of the others by a quick trial."""
    if case.nest is None:
        return
    every = [plain_c(case, arrays, threads, order) for order in nests.orders(case.nest)]
    yield every[0]
    others = every[1:]
    if others:
        timed = [(min(_once(c) for _ in range(2)), at) for at, c in enumerate(others)]
        best = others[min(timed)[1]]
        yield Contestant("C -O3, best order", best.run, best.result, note=best.note)


def plain_c(case: Case, arrays: Arrays, threads: int, order: tuple[str, ...]) -> Contestant:
    run = native(nests.text(case, order), nests.SYMBOL, nests.FLAGS)
    out = np.empty(case.out_shape, case.dtype)
    prepared = run.prepare(len(arrays) + 1, (), threads)
    pointers = [*(address(arrays[n]) for n in case.shapes), address(out)]
    return Contestant("C -O3, textual order", lambda: prepared(*pointers), lambda: out, note=" ".join(order))


def _once(c: Contestant) -> float:
    start = time.perf_counter()
    c.run()
    return time.perf_counter() - start


# --- NumPy -----------------------------------------------------------------------------------------------------------


def _windows(a: np.ndarray, axes: tuple[int, int], case: Case, kernel: int) -> np.ndarray:
    """A view with two more axes (ky, kx) at the end."""
    pad, stride, dilation = case.numbers.get("pad", 0), case.numbers["stride"], case.numbers.get("dilation", 1)
    padded = np.pad(a, [(pad, pad) if ax in axes else (0, 0) for ax in range(a.ndim)]) if pad else a
    shape, strides = list(padded.shape), list(padded.strides)
    steps = [strides[ax] * dilation for ax in axes]
    for ax in axes:
        shape[ax] = out_size(a.shape[ax], kernel, stride, pad, dilation)
        strides[ax] *= stride
    return np.lib.stride_tricks.as_strided(padded, (*shape, kernel, kernel), (*strides, *steps), writeable=False)


def _numpy(case: Case, arrays: Arrays, threads: int) -> Iterator[Contestant]:
    a = arrays
    match case.family:
        case "gemm" | "batched":
            yield _kept("NumPy", lambda: a["A"] @ a["B"])
        case "maxplus":
            yield _kept("NumPy", lambda: _maxplus(a["A"], a["B"]))
        case "bilinear":
            yield _kept("NumPy", lambda: np.einsum("ni,oij,nj->no", a["X"], a["W"], a["Y"], optimize=True))
        case "softmax" | "layer_norm" | "jacobi":
            yield _kept("NumPy", lambda: case.reference(**a))
        case "capsule":
            yield _numpy_capsule(case, a)
        case "conv2d" if not case.numbers["nhwc"]:
            k = a["W"].shape[2]
            flat = np.ascontiguousarray(a["W"].reshape(a["W"].shape[0], -1))
            yield _kept("NumPy", lambda: _im2col_nchw(_windows(a["X"], (2, 3), case, k), flat))
        case "conv2d":
            k = a["W"].shape[0]
            flat = a["W"].transpose(2, 0, 1, 3).reshape(-1, a["W"].shape[3])
            yield _kept("NumPy", lambda: _im2col_nhwc(_windows(a["X"], (1, 2), case, k), flat))


def _im2col_nchw(w: np.ndarray, flat: np.ndarray) -> np.ndarray:
    b, c, y, x, ky, kx = w.shape
    columns = w.transpose(0, 1, 4, 5, 2, 3).reshape(b, c * ky * kx, y * x)
    return (flat @ columns).reshape(b, -1, y, x)


def _im2col_nhwc(w: np.ndarray, flat: np.ndarray) -> np.ndarray:
    b, y, x, c, ky, kx = w.shape
    return (w.reshape(b * y * x, c * ky * kx) @ flat).reshape(b, y, x, -1)


def _maxplus(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    out = np.full((A.shape[0], B.shape[1]), -np.inf, A.dtype)
    for k in range(A.shape[1]):
        np.maximum(out, A[:, k, None] + B[k], out=out)
    return out


def _numpy_capsule(case: Case, a: Arrays) -> Contestant:
    """Rows (n, y, x, i), columns (co, j), summed over (ky, kx, ci, k): one matrix product after gathering."""
    P, W = a["P"], a["W"]
    if case.numbers["channels"]:  # n y x i k ci; ky kx k j ci co
        flat = np.ascontiguousarray(W.transpose(2, 4, 0, 1, 5, 3)).reshape(-1, W.shape[5] * 4)

        def run() -> np.ndarray:
            w = _windows(P, (1, 2), case, W.shape[0])
            n, y, x = w.shape[:3]
            out = w.reshape(n * y * x * 4, -1) @ flat
            return out.reshape(n, y, x, 4, W.shape[5], 4).transpose(0, 1, 2, 3, 5, 4)
    else:  # n y x ci i k; ky kx ci co k j
        flat = np.ascontiguousarray(W.transpose(2, 4, 0, 1, 3, 5)).reshape(-1, W.shape[3] * 4)

        def run() -> np.ndarray:
            w = _windows(P, (1, 2), case, W.shape[0]).transpose(0, 1, 2, 4, 3, 5, 6, 7)
            n, y, x = w.shape[:3]
            out = w.reshape(n * y * x * 4, -1) @ flat
            return out.reshape(n, y, x, 4, W.shape[3], 4).transpose(0, 1, 2, 4, 3, 5)

    return _kept("NumPy", lambda: np.ascontiguousarray(run()), note="windows gathered, one matrix product")


# --- torch -----------------------------------------------------------------------------------------------------------


def _torch(case: Case, arrays: Arrays, threads: int) -> Iterator[Contestant]:
    torch = optional("torch")
    if torch is None:
        return
    torch.set_num_threads(threads)
    for name, compute in torch_forms(torch, case, arrays):
        yield _kept(name, _without_gradients(torch, compute), lambda r: r.numpy())


def _compiled(case: Case, arrays: Arrays, threads: int) -> Iterator[Contestant]:
    torch = optional("torch")
    if torch is None:
        return
    torch.set_num_threads(threads)
    for _, compute in list(torch_forms(torch, case, arrays))[:1]:
        yield _kept(
            "torch.compile", _without_gradients(torch, torch.compile(compute, dynamic=False)), lambda r: r.numpy()
        )


def _without_gradients(torch: Any, compute: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with torch.inference_mode():
            return compute()

    return run


def torch_forms(torch: Any, case: Case, arrays: Arrays) -> Iterator[tuple[str, Callable[[], Any]]]:
    t = {n: torch.from_numpy(v) for n, v in arrays.items()}
    f = torch.nn.functional
    n = case.numbers
    last = torch.channels_last
    match case.family:
        case "gemm" | "batched":
            yield "torch", lambda: t["A"] @ t["B"]
        case "maxplus" if case.shapes["A"][0] <= 256:
            yield "torch", lambda: (t["A"][:, :, None] + t["B"]).amax(1)
        case "bilinear":
            yield "torch", lambda: torch.einsum("noj,nj->no", torch.einsum("ni,oij->noj", t["X"], t["W"]), t["Y"])
        case "softmax":
            yield "torch", lambda: torch.softmax(t["X"], 1)
        case "layer_norm":
            yield "torch", lambda: f.layer_norm(t["X"], t["gain"].shape, t["gain"], t["bias"])
        case "capsule":
            yield from _torch_capsule(f, t, n, last)
        case _:
            yield from _torch_convolution(f, t, case, last)


def _torch_convolution(f: Any, t: dict[str, Any], case: Case, last: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    n = case.numbers
    match case.family:
        case "conv2d":
            nhwc = bool(n["nhwc"])
            w_last = (t["W"].permute(3, 2, 0, 1) if nhwc else t["W"]).contiguous(memory_format=last)
            args = {"stride": n["stride"], "padding": n["pad"], "dilation": n["dilation"]}
            if nhwc:
                yield "torch", lambda: f.conv2d(t["X"].permute(0, 3, 1, 2), w_last, **args).permute(0, 2, 3, 1)
                return
            yield "torch", lambda: f.conv2d(t["X"], t["W"], **args)
            x = t["X"]
            yield "torch channels_last", lambda: f.conv2d(x.contiguous(memory_format=last), w_last, **args).contiguous()
        case "grouped":
            g, o, c, k, _ = t["W"].shape
            w, h = t["W"].reshape(g * o, c, k, k), t["X"].shape[-1]
            x = t["X"].reshape(1, g * c, h, h)
            yield "torch", lambda: f.conv2d(x, w, padding=n["pad"], groups=g).reshape(g, o, h, h)
        case "depthwise":
            w, x = t["W"][:, None], t["X"][None]
            yield "torch", lambda: f.conv2d(x, w, stride=n["stride"], padding=n["pad"], groups=n["groups"])[0]


def _torch_capsule(f: Any, t: dict[str, Any], n: Any, last: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """As an ordinary convolution: pose rows i join the batch, (ci, k) are its channels, (co, j) its results."""
    P, W = t["P"], t["W"]
    inside = not n["channels"]
    kernel = W.shape[0]
    w = (W.permute(3, 5, 2, 4, 0, 1) if inside else W.permute(5, 3, 4, 2, 0, 1)).reshape(
        -1, 4 * (W.shape[2] if inside else W.shape[4]), kernel, kernel
    )
    into = (0, 4, 3, 5, 1, 2) if inside else (0, 3, 5, 4, 1, 2)
    b, h = P.shape[0], P.shape[1]

    def run(weights: Any, memory: Any) -> Any:
        x = P.permute(*into).reshape(b * 4, -1, h, h)
        if memory is not None:
            x = x.contiguous(memory_format=memory)
        y = f.conv2d(x, weights, stride=n["stride"], padding=n["pad"])
        y = y.reshape(b, 4, -1, 4, y.shape[2], y.shape[3])  # n i co j y x
        return (y.permute(0, 4, 5, 2, 1, 3) if inside else y.permute(0, 4, 5, 1, 3, 2)).contiguous()

    w, w_last = w.contiguous(), w.contiguous(memory_format=last)
    yield "torch", lambda: run(w, None)
    yield "torch channels_last", lambda: run(w_last, last)


# --- JAX -------------------------------------------------------------------------------------------------------------


def _jax(case: Case, arrays: Arrays, threads: int) -> Iterator[Contestant]:
    jax = optional("jax")
    if jax is None:
        return
    if case.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    form = _jax_form(jax, case)
    if form is None:
        return
    placed = {n: jax.device_put(v) for n, v in arrays.items()}
    compiled = jax.jit(form)
    yield _kept("JAX", lambda: compiled(**placed).block_until_ready())


def _jax_form(jax: Any, case: Case) -> Callable[..., Any] | None:
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
        case "conv2d":
            spec = ("NHWC", "HWIO", "NHWC") if n["nhwc"] else ("NCHW", "OIHW", "NCHW")
            window = {
                "window_strides": (n["stride"],) * 2,
                "padding": ((n["pad"],) * 2,) * 2,
                "rhs_dilation": (n["dilation"],) * 2,
            }
            return lambda X, W: jax.lax.conv_general_dilated(X, W, **window, dimension_numbers=spec)
        case _:
            return None
