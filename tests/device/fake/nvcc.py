# SPDX-License-Identifier: MIT
"""nvcc that makes kernels of a processor: what it calls a cubin is a library that `tests.device.fake.gpu` loads.

Called as the real one is, after flags for g++ and a comma: `python nvcc.py -O1 , --version`.  Each kernel gets an
entry, and says what its arguments are.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ENTRY = re.compile(r'extern "C" __global__ void __launch_bounds__\(\d+\)\s+(\w+)\(')


def main(flags: list[str], given: list[str]) -> int:
    if given == ["--version"]:
        print("nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 0.0, V0.0.0, a stand-in")
        return 0
    text, made = Path(given[-1]).read_text(), Path(given[given.index("-o") + 1])
    entries: list[str] = []
    for name in ENTRY.findall(text):
        entries.append(
            f'extern "C" int run_{name}(void **a, const int *n, int seed) {{\n'
            f"  return host::call({name}, a, n, seed);\n}}\n"
            f'extern "C" const char *kinds_{name}() {{ return host::kinds({name}); }}\n'
        )
        print(f"ptxas info    : Compiling entry function '{name}' for 'sm_00'", file=sys.stderr)
        print("ptxas info    : Used 32 registers, 0 bytes smem", file=sys.stderr)
    source = made.with_suffix(".cc")
    source.write_text(text + "".join(entries))
    return subprocess.run(["g++", *flags, "-shared", "-o", str(made), str(source)], check=False).returncode


if __name__ == "__main__":
    comma = sys.argv.index(",")
    sys.exit(main(sys.argv[1:comma], sys.argv[comma + 1 :]))
