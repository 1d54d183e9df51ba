# SPDX-License-Identifier: MIT
"""`python -m benchmarks.device`: cases on the GPU of this machine, checked and timed, with torch beside them.

Results are held against f64 in NumPy, from fresh random data, and were poison before; kernels are timed by events of
the device, without copies, and so is torch.  `--target opencl` runs the same on what OpenCL finds, timed by the host.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import torch_forms
from benchmarks.case import Case, as_arrays
from benchmarks.cases import SUITES, case
from benchmarks.peers import optional
from polyhedral.errors import PolyhedralError, ToolchainError

DEFAULT = ("CAP0x16", "T2SP", "C2x16", "C9x16", "SGEMM2048", "BATCHED", "TALL", "TROP", "SOFTMAX", "LAYERNORM", "EM")
HEADER = f"{'case':18}{'ms':>10}{'+-':>7}{'predicted':>11}{'GFLOP/s':>10}{'error':>10}{'torch ms':>10}  torch's form"


def measured(c: Case, target: str, repeat: int, seed: int) -> str:
    """One line of the table; raises where a result is wrong."""
    arrays = c.inputs(seed)
    exe = c.function.lower(**arrays, **c.sizes, target=target).compile()
    mine = {n: a.copy() for n, a in arrays.items()}
    made, seconds = exe.timed(repeat, **mine)
    got = mine[c.inout] if c.inout else as_arrays(made)
    error = c.error(got, c.expected(arrays))
    if not error <= c.tolerance:
        raise SystemExit(f"{c.name} is WRONG: error {error:.2g}, {c.tolerance:.0e} is allowed; {exe!r}")
    middle = statistics.median(seconds)
    apart = (max(seconds) - min(seconds)) / 2 / middle
    form, peer = fastest(c, seed, repeat) if target.startswith("cuda") else ("", None)
    shown = "" if peer is None else f"{peer * 1e3:.3f}"
    return (
        f"{c.name:18}{middle * 1e3:10.3f}{apart:7.0%}{exe.predicted * 1e3:11.3f}{c.flops / middle / 1e9:10.0f}"
        f"{error:10.1e}{shown:>10}  {form}"
    )


def fastest(c: Case, seed: int, repeat: int) -> tuple[str, float | None]:
    """The best form of torch on the same device, in f32 proper, that is right."""
    torch: Any = optional("torch")
    if torch is None or not torch.cuda.is_available():
        return "no torch with CUDA", None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    arrays = c.inputs(seed)
    want, found = c.expected(arrays), list[tuple[float, str]]()
    for name, call in torch_forms.forms(torch, c, arrays, "cuda"):
        got = as_arrays(call(), lambda t: t.cpu().numpy())
        if c.error(got, want) <= 10 * c.tolerance:
            found.append((_timed(torch, call, repeat), name))
    return (min(found)[1], min(found)[0]) if found else ("no form is right", None)


def _timed(torch: Any, call: Callable[[], Any], repeat: int) -> float:
    call()
    seconds: list[float] = []
    for _ in range(repeat):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(seconds)


def main(given: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.device", description="cases on the GPU of this machine")
    p.add_argument("--target", default="cuda", help="cuda, cuda:sm_90 or opencl")
    p.add_argument("--case", action="append", default=[], help="a case or a suite")
    p.add_argument("--small", action="store_true", help="at the sizes of the tests")
    p.add_argument("--repeat", type=int, default=20)
    a = p.parse_args(given)
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    names = list(dict.fromkeys(n for c in a.case or DEFAULT for n in SUITES.get(c, (c,))))
    for n, name in enumerate(names):
        try:
            line = measured(case(name, small=a.small), a.target, a.repeat, seed)
        except ToolchainError as error:
            if error.code in ("PH520", "PH525"):  # nothing of the list can run here
                print(f"nothing was measured: {error}", file=sys.stderr)
                return 4
            line = f"{name:18}{error}"
        except PolyhedralError as error:
            line = f"{name:18}{error}"
        if n == 0:
            print(f"target {a.target}, data of seed {seed}, {a.repeat} runs each")
            print(HEADER)
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
