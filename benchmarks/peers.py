# SPDX-License-Identifier: MIT
"""Other ways to run a case, each in its best known form: NumPy with BLAS, torch, torch.compile, JAX, C, C with Polly.

A peer that is not installed, or has no form for a case, is left out with a note; weights are put into a peer's
favourite layout before the clock starts, inputs are not.  Torch's forms are in `benchmarks.torch_forms`, JAX's in
`benchmarks.jax_forms`.
"""

from __future__ import annotations

import ctypes
import importlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import attention, autograd, jax_forms, nests, torch_forms
from benchmarks.case import Arrays, Case, as_arrays, out_size
from codegen.runtime.native import address, load
from frontend.measuring.timing import Contestant, native

PEERS = ("numpy", "torch", "compile", "jax", "c", "polly")
POLLY = ("-O3", "-march=native", "-fopenmp", "-mllvm", "-polly", "-mllvm", "-polly-parallel", "-ffp-contract=fast")


def optional(name: str) -> Any | None:
    """A package, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def circumstances(wanted: tuple[str, ...]) -> list[str]:
    """What a reader should know of the peers: which kernels NumPy's BLAS chose."""
    core = openblas_core() if "numpy" in wanted else None
    return [f"NumPy's OpenBLAS runs its {core} kernels"] if core else []


def openblas_core() -> str | None:
    """The processor that NumPy's own OpenBLAS takes this one for, or None where it has none or does not say."""
    for library in Path(np.__file__).parents[1].glob("numpy.libs/*openblas*"):
        for symbol in ("scipy_openblas_get_corename64_", "openblas_get_corename64_", "openblas_get_corename"):
            told = getattr(ctypes.CDLL(str(library)), symbol, None)
            if told is not None:
                told.restype = ctypes.c_char_p
                return told().decode()
    return None


def contestants(
    case: Case, arrays: Arrays, threads: int, wanted: tuple[str, ...]
) -> tuple[list[Contestant], list[str]]:
    """The peers of a case that can run here, and notes on those that cannot."""
    makers = {"numpy": _numpy, "torch": _torch, "compile": _compiled, "jax": _jax, "c": _plain, "polly": _polly}
    found: list[Contestant] = []
    notes: list[str] = []
    for name in wanted:
        made = list(makers[name](case, arrays, threads))
        found += made
        if not made:
            notes.append(f"{name}: {_missing(name) or f'no form of {case.family}'}")
    return found, notes


def _missing(name: str) -> str | None:
    """Why a peer cannot run here at all, or None."""
    if name in ("torch", "compile", "jax") and optional("torch" if name == "compile" else name) is None:
        return "not installed"
    return "there is no clang with Polly here" if name == "polly" and polly() is None else None


def _kept(
    name: str, compute: Callable[[], Any], array: Callable[[Any], Any] = np.asarray, note: str = ""
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


@cache
def polly() -> str | None:
    """The clang that has Polly, or None."""
    clang = shutil.which("clang")
    if clang is None:
        return None
    command = [clang, *POLLY, "-x", "c", "-c", "-o", "/dev/null", "-"]
    done = subprocess.run(command, input="int f(void) { return 0; }", text=True, capture_output=True, check=False)
    return clang if done.returncode == 0 else None


def _polly(case: Case, arrays: Arrays, threads: int) -> Iterator[Contestant]:
    """The nest in textual order, which Polly tiles and runs in parallel as it likes (Grosser et al. 2012)."""
    clang = polly()
    if case.nest is None or clang is None:
        return
    text = nests.text(case, next(nests.orders(case.nest)), plain=True)
    with tempfile.TemporaryDirectory(prefix="polly-") as folder:
        library = str(Path(folder) / "nest.so")
        command = [clang, *POLLY, "-fPIC", "-shared", "-x", "c", "-o", library, "-"]
        subprocess.run(command, input=text, text=True, capture_output=True, check=True)
        run = load(Path(library), nests.SYMBOL)
    out = np.empty(case.out_shape, case.dtype)
    prepared = run.prepare(len(arrays) + 1, (), threads)
    pointers = [*(address(arrays[n]) for n in case.shapes), address(out)]
    yield Contestant("clang -O3, Polly", lambda: prepared(*pointers), lambda: out, note="textual order")


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
    seen = attention.seen(a["Q"].shape[1], case.numbers["window"]) if case.family == "attention" else None
    match case.family:
        case "gemm" | "batched":
            yield _kept("NumPy", lambda: a["A"] @ a["B"])
        case "maxplus":
            yield _kept("NumPy", lambda: _maxplus(a["A"], a["B"]))
        case "bilinear":
            yield _kept("NumPy", lambda: np.einsum("ni,oij,nj->no", a["X"], a["W"], a["Y"], optimize=True))
        case "softmax" | "layer_norm" | "jacobi":
            yield _kept("NumPy", lambda: case.reference(**a))
        case "attention":
            yield _kept("NumPy", lambda: _attention(a["Q"], a["K"], a["V"], seen))
        case "involution":
            yield _kept("NumPy", lambda: _involution(a["X"], a["K"]))
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


def _attention(Q: np.ndarray, K: np.ndarray, V: np.ndarray, seen: np.ndarray) -> np.ndarray:
    scores = Q @ K.transpose(0, 2, 1)
    scores *= Q.shape[-1] ** -0.5
    np.copyto(scores, -np.inf, where=~seen)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores @ V


def _involution(X: np.ndarray, K: np.ndarray) -> np.ndarray:
    kernel, h = K.shape[2], X.shape[-1]
    pad = kernel // 2
    padded = np.pad(X, [(0, 0)] * 3 + [(pad, pad)] * 2)
    out = np.zeros_like(X)
    for ty, tx in np.ndindex(kernel, kernel):
        out += padded[..., ty : ty + h, tx : tx + h] * K[:, :, None, ty, tx]
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


# --- torch and JAX ---------------------------------------------------------------------------------------------------


def _torch(case: Case, arrays: Arrays, threads: int) -> Iterator[Contestant]:
    torch = optional("torch")
    if torch is None:
        return
    torch.set_num_threads(threads)
    for name, compute in torch_forms.forms(torch, case, arrays):
        yield _kept(name, _without_gradients(torch, compute), _from_torch)


def _from_torch(result: Any) -> Any:
    return as_arrays(result, lambda r: r.numpy())


def _compiled(case: Case, arrays: Arrays, threads: int) -> Iterator[Contestant]:
    torch = optional("torch")
    if torch is None:
        return
    torch.set_num_threads(threads)
    if case.family == "em-backward":
        t = {n: torch.from_numpy(v) for n, v in arrays.items()}
        for name, compute in autograd.compiled(torch, case, t):
            yield _kept(name, compute, _from_torch)
        return
    for name, compute in COMPILED.get(case.family, _plainest)(list(torch_forms.forms(torch, case, arrays))):
        compiled = torch.compile(compute, dynamic=False)
        yield _kept(name.replace("torch", "torch.compile", 1), _without_gradients(torch, compiled), _from_torch)


def _plainest(forms: list[torch_forms.Form]) -> list[torch_forms.Form]:
    """What a compiler may do with the others' formats and packed weights it does by itself."""
    return [("torch", compute) for _, compute in forms[:1]]


def _whole(forms: list[torch_forms.Form]) -> list[torch_forms.Form]:
    """Every order, but no loops over a batch, which would be unrolled."""
    return [form for form in forms if "one by one" not in form[0]]


COMPILED: Mapping[str, Callable[[list[torch_forms.Form]], list[torch_forms.Form]]] = {
    "em": _whole,
    "network": _whole,
    "residual": lambda forms: forms[:2],
    "capsule_chain": lambda forms: forms[:2],
}
"""The forms that torch.compile is given, by family, where not the plainest alone."""


def _without_gradients(torch: Any, compute: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with torch.inference_mode():
            return compute()

    return run


def _jax(case: Case, arrays: Arrays, threads: int) -> Iterator[Contestant]:
    jax = optional("jax")
    if jax is None:
        return
    if case.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    placed = {n: jax.device_put(v) for n, v in arrays.items()}
    fixed = {n: placed.pop(n) for n in case.constant}
    for name, form in jax_forms.forms(jax, case):
        compiled = jax.jit(partial(form, **fixed))  # XLA folds what depends on constants alone
        yield _kept(name, lambda compiled=compiled: jax.block_until_ready(compiled(**placed)), as_arrays)
