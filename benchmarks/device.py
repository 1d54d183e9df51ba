# SPDX-License-Identifier: MIT
"""`python -m benchmarks.device`: cases on the GPU of this machine, checked and timed, with torch beside them.

Results are held against f64 in NumPy, from fresh random data, and were poison before; kernels are timed by events of
the device, with a cold cache and without copies, and so is torch.  Each case is a process of its own, so that one that
fails or hangs costs itself alone.  `--target opencl` runs the same on what OpenCL finds, timed by the host.

A GPU machine needs NVIDIA's driver, nvcc, and this checkout with what `pip install -e .` brings; neither pycuda nor
cuda-python, and torch only for its column.  Where it has no nvcc, build on another, and carry the cache:

    POLYHEDRAL_CACHE_DIR=$PWD/cubins python -m benchmarks.device --target cuda:sm_90 --build      (here)
    POLYHEDRAL_CACHE_DIR=$PWD/cubins python -m benchmarks.device --target cuda:sm_90              (there)
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from benchmarks import torch_forms
from benchmarks.case import Case, as_arrays
from benchmarks.cases import SUITES, case
from benchmarks.peers import optional
from frontend.running.loading import compiled_cuda, resources
from polyhedral.errors import PolyhedralError, ToolchainError

DEFAULT = ("CAP0x16", "T2SP", "C2x16", "C9x16", "SGEMM2048", "BATCHED", "TALL", "TROP", "SOFTMAX", "LAYERNORM", "EM")
HEADER = f"{'case':18}{'ms':>10}{'+-':>7}{'predicted':>11}{'GFLOP/s':>10}{'error':>10}{'torch ms':>10}  torch's form"
WARM = 3
"""Runs that are not counted: a device that was idle is slow at first."""
NOTHING = 4
"""The exit code where there is nothing to run on."""
FLUSH = 256 << 20


class WrongError(Exception):
    """A result that is not what NumPy computes."""


def measured(c: Case, target: str, repeat: int, seed: int) -> str:
    """One line of the table; raises where a result is wrong."""
    arrays = c.inputs(seed)
    exe = c.function.lower(**arrays, **c.sizes, target=target).compile()
    mine = {n: a.copy() for n, a in arrays.items()}
    made, seconds = exe.timed(repeat + WARM, **mine)
    got = mine[c.inout] if c.inout else as_arrays(made)
    error = c.error(got, c.expected(arrays))
    if not error <= c.tolerance:
        raise WrongError(f"WRONG: error {error:.2g}, {c.tolerance:.0e} is allowed; {exe!r}")
    seconds = seconds[WARM:]
    middle = statistics.median(seconds)
    apart = (max(seconds) - min(seconds)) / 2 / middle
    form, peer = fastest(c, seed, repeat) if target.startswith("cuda") else ("", None)
    shown = "" if peer is None else f"{peer * 1e3:.3f}"
    return (
        f"{c.name:18}{middle * 1e3:10.3f}{apart:7.0%}{exe.predicted * 1e3:11.3f}{c.flops / middle / 1e9:10.0f}"
        f"{error:10.1e}{shown:>10}  {form}"
    )


def fastest(c: Case, seed: int, repeat: int) -> tuple[str, float | None]:
    """The best form of torch on the same device, in f32 proper, that is right; what fails there is left out."""
    torch: Any = optional("torch")
    if torch is None or not torch.cuda.is_available():
        return "no torch with CUDA", None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    arrays = c.inputs(seed)
    want, found, failed = c.expected(arrays), list[tuple[float, str]](), ""
    forms: Iterator[torch_forms.Form] = torch_forms.forms(torch, c, arrays, "cuda")
    while True:
        try:
            name, call = next(forms)
            got = as_arrays(call(), lambda t: t.cpu().numpy())
            if c.error(got, want) <= 10 * c.tolerance:
                found.append((_timed(torch, call, repeat), name))
        except StopIteration:
            break
        except Exception as error:  # whatever another library raises: its column is not why we are here
            failed = f"torch: {type(error).__name__}: {str(error).splitlines()[0][:60] if str(error) else ''}"
    return (min(found)[1], min(found)[0]) if found else (failed or "no form is right", None)


def _timed(torch: Any, call: Callable[[], Any], repeat: int) -> float:
    """As ours are: a cold cache, and work before so that the host is ahead."""
    other = torch.empty(FLUSH, dtype=torch.uint8, device="cuda")
    seconds: list[float] = []
    for n in range(repeat + WARM):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(1 if n == 0 else 4):
            other.zero_()
        begin.record()
        call()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(seconds[WARM:])


def built(c: Case, target: str) -> str:
    """The cubin of a case is in the cache; what its kernels take."""
    low = c.function.lower(**c.inputs(0), **c.sizes, target=target)
    compiled_cuda(low.built, "cubin")
    return "\n".join((f"{c.name}: {len(low.built.source.launches)} kernels", *(f"  {r}" for r in resources(low.built))))


def line(name: str, a: argparse.Namespace) -> tuple[str, int]:
    """What is said of one case, and the exit code of a process that did no more than that."""
    try:
        c = case(name, small=a.small)
        return (built(c, a.target) if a.build else measured(c, a.target, a.repeat, a.seed)), 0
    except ToolchainError as error:
        if error.code in ("PH520", "PH525"):
            return f"nothing was measured: {error}", NOTHING
        return f"{name:18}{error}", 1
    except (PolyhedralError, WrongError) as error:
        return f"{name:18}{error}", 1


def apart(name: str, a: argparse.Namespace) -> tuple[str, int]:
    """The same in a process of its own."""
    options = ["--target", a.target, "--repeat", str(a.repeat), "--seed", str(a.seed), "--case", name]
    options += ["--small"] * a.small + ["--build"] * a.build
    command = [sys.executable, "-m", "benchmarks.device", "--here", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, errors = process.communicate(timeout=a.limit)
        except subprocess.TimeoutExpired:
            return f"{name:18}took more than {a.limit:.0f} s, and was stopped", 1
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its compiler too
    code = process.returncode
    said = (errors if code == NOTHING else out).strip()
    if code in (0, 1, NOTHING) and said:
        return said if a.build or code == NOTHING else _last(said), code
    return f"{name:18}ended with exit code {code}: {_last(errors.strip() or 'nothing was said')}", 1


def _last(text: str) -> str:
    """Without the head of a table of one line."""
    return text.partition(HEADER)[2].strip("\n") or text.splitlines()[-1]


def main(given: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.device", description="cases on the GPU of this machine")
    p.add_argument("--target", default="cuda", help="cuda, cuda:sm_90 or opencl")
    p.add_argument("--case", action="append", default=[], help="a case or a suite")
    p.add_argument("--small", action="store_true", help="at the sizes of the tests")
    p.add_argument("--repeat", type=int, default=20)
    p.add_argument("--build", action="store_true", help="only compile, into the cache; no GPU is needed")
    p.add_argument("--here", action="store_true", help="all cases in this process")
    p.add_argument("--limit", type=float, default=240.0, help="seconds for one case")
    p.add_argument("--seed", type=int, default=None)
    a = p.parse_args(given)
    a.seed = int(np.random.SeedSequence().generate_state(1)[0]) if a.seed is None else a.seed
    names = list(dict.fromkeys(n for c in a.case or DEFAULT for n in SUITES.get(c, (c,))))
    worst = 0
    for n, name in enumerate(names):
        said, code = line(name, a) if a.here else apart(name, a)
        if code == NOTHING:  # nor can anything else of the list
            print(said, file=sys.stderr)
            return NOTHING
        if n == 0 and not a.build:
            print(f"target {a.target}, data of seed {a.seed}, {a.repeat} runs each")
            print(HEADER)
        print(said, flush=True)
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
