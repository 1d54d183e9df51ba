# SPDX-License-Identifier: MIT
"""The zoo and random programs under the address and undefined-behaviour sanitizers, in an executable of their own.

Every array is one exact allocation, so an access one cell outside is seen; NumPy buffers would hide it.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from codegen.scalar import STORAGE
from frontend.environment import session
from frontend.environment.options import Options
from polyhedral.ir import affine as aff
from polyhedral.ir.program import Array, specialise
from tests.programs import CASES
from tests.properties.batch import Kernel, isolated
from tests.properties.schedules import COMPILED, Proposals, compiled, from_tree, interned
from tests.properties.test_random_programs import SEED
from tests.strategies import programs

EXAMPLES = int(os.environ.get("POLYHEDRAL_EXAMPLES", "200")) // 2
FLAGS = (
    "-std=gnu11",
    "-O1",
    "-g1",
    "-fopenmp",
    "-march=native",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)

MAIN = """
#include <stdio.h>
#include <stdlib.h>
static uint32_t state = 1;
static int draw(void) { state = state * 1664525u + 1013904223u; return (int)(state >> 24) % 7 - 3; }
"""


def harness(kernels: list[Kernel]) -> str:
    """A C program that runs each kernel once on fresh memory, and prints how many it ran."""
    calls = "\n".join(f"  fault |= run_{i}();" for i in range(len(kernels)))
    bodies = "\n".join(_call(i, k) for i, k in enumerate(kernels))
    texts = "\n".join(isolated(k.source.text, i) for i, k in enumerate(kernels))
    main = (
        f'int main(void) {{\n  int fault = 0;\n{calls}\n  printf("%d kernels\\n", {len(kernels)});\n  return fault;\n}}'
    )
    return f"{texts}\n{MAIN}\n{bodies}\n{main}\n"


def _call(i: int, k: Kernel) -> str:
    arrays = {a.name: a for a in k.arrays}
    lines = [f"static int run_{i}(void) {{"]
    for n, name in enumerate(k.source.buffers):
        first, cells = _extent(k, arrays[name])
        kind = STORAGE[arrays[name].dtype.name]
        value = "(draw() & 1)" if arrays[name].dtype.kind == "b" else "draw()"
        lines.append(f"  {kind} *m{n} = malloc({cells} * sizeof({kind}));")
        lines.append(f"  for (int64_t i = 0; i < {cells}; ++i) m{n}[i] = ({kind}){value};")
        lines.append(f"  {kind} *at{n} = m{n} + {first};")
    sizes = [k.sizes[n] if n in k.sizes else _stride(k, n) for n in k.source.sizes]
    lines.append(f"  void *buffers[] = {{{', '.join(f'at{n}' for n in range(len(k.source.buffers))) or '0'}}};")
    lines.append(f"  int64_t sizes[] = {{{', '.join(map(str, sizes)) or '0'}}};")
    lines.append(f"  int fault = {k.source.symbol}_{i}(buffers, sizes, {k.threads});")
    lines += [f"  free(m{n});" for n in range(len(k.source.buffers))]
    return "\n".join([*lines, "  return fault;", "}"])


def _extent(k: Kernel, a: Array) -> tuple[int, int]:
    """(the place of the first cell, cells) of an exact allocation."""
    shape = [max(0, aff.evaluate(e, {}, k.sizes)) for _, e in a.stored]
    if 0 in shape:
        return 0, 0
    reach = [(n - 1) * k.strides[a.name][d] for n, d in zip(shape, a.dim_names, strict=True)]
    low = -sum(r for r in reach if r < 0)
    return low, low + sum(r for r in reach if r > 0) + 1


def _stride(k: Kernel, name: str) -> int:
    array, dim, _ = name.split(".")
    return k.strides[array][dim]


def run(kernels: list[Kernel], folder: Path) -> subprocess.CompletedProcess[str]:
    source, binary = folder / "harness.c", folder / "harness"
    source.write_text(harness(kernels))
    cc = session.current().compiler(Options())
    built = subprocess.run(
        [cc.path, *FLAGS, "-o", str(binary), str(source), "-lm"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if "cannot find -lasan" in built.stderr or "unsupported option '-fsanitize" in built.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert built.returncode == 0, built.stderr[:3000]
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return subprocess.run([str(binary)], capture_output=True, text=True, timeout=600, env=env, check=False)


def clean(kernels: list[Kernel], folder: Path) -> None:
    done = run(kernels, folder)
    assert done.returncode == 0, done.stderr[:4000]
    assert done.stdout == f"{len(kernels)} kernels\n"


def test_zoo(tmp_path: Path):
    rng = random.Random(0)
    kernels = []
    for case in CASES.values():
        exact = specialise(case.program, case.sizes)
        kernels += [compiled(exact, {}, {}, {}, rng, what) for what in COMPILED]
        kernels.append(compiled(case.program, _all_sizes(case), {}, {}, rng, "default"))
    clean(kernels, tmp_path)


def _all_sizes(case) -> dict[str, int]:  # type: ignore[no-untyped-def]
    return {n: case.sizes.get(n, 3) for n in case.program.sizes}


def test_random_programs(tmp_path: Path):
    kernels: list[Kernel] = []

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(), st.integers(0, 1 << 30))
    def collect(p, salt: int) -> None:  # type: ignore[no-untyped-def]
        kernels.extend(_variants(interned(p), random.Random(salt)))

    collect()
    for first in range(0, len(kernels), 100):
        clean(kernels[first : first + 100], tmp_path)


def _variants(p, rng: random.Random) -> Iterator[Kernel]:  # type: ignore[no-untyped-def]
    yield compiled(p, {}, {}, {}, rng, rng.choice(list(COMPILED)))
    found = Proposals(p, rng).legal()
    if found is not None:
        yield from_tree(Proposals(p, rng).analyzed, {}, {}, rng, *found)


def test_the_harness_sees_an_access_one_cell_outside(tmp_path: Path):
    case = CASES["copy"]
    k = compiled(specialise(case.program, case.sizes), {}, {}, {}, random.Random(0), "serial")
    text = k.source.text.replace("< 3", "< 4").replace("< 5", "< 6").replace("< 15", "< 16")
    assert text != k.source.text
    from_source = type(k.source)(text, k.source.symbol, k.source.buffers, k.source.sizes)
    broken = Kernel(k.program, k.arrays, k.sizes, from_source, k.strides, {}, {}, "broken")
    done = run([broken], tmp_path)
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
