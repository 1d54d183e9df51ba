# SPDX-License-Identifier: MIT
"""The plain-C peer: a case's nest written out by hand at -O3, in textual order and in a few other orders.

Text only; compiling goes through the same cache as kernels, with the compiler's own default for fused multiply-adds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from math import prod

from benchmarks.case import Case, Nest

SYMBOL = "plain_nest"
FLAGS = ("-ffp-contract=fast",)
_NAME = re.compile(r"[a-z]\w*")


def orders(nest: Nest) -> Iterator[tuple[str, ...]]:
    """Textual order, then the orders people try: one or two kept loops innermost, for the vectoriser."""
    kept = [d for d, _ in nest.loops if d not in nest.reduced]
    reduced = [d for d, _ in nest.loops if d in nest.reduced]
    yield (*kept, *reduced)
    for inner in ([d] for d in reversed(kept[1:])):
        yield (*(d for d in kept if d not in inner), *reduced, *inner)
    if len(kept) > 2:
        yield (*kept[:-2], *reduced, *kept[-2:])
        yield (*kept[:-2], reduced[0], kept[-2], *reduced[1:], kept[-1])


def text(case: Case, order: tuple[str, ...], *, plain: bool = False) -> str:
    """One C function for one order; the outermost loop is shared by the threads, unless a `plain` text is wanted for a
    compiler that decides this itself.
    """
    nest = case.nest
    assert nest is not None
    kind = {"float32": "float", "float64": "double"}[case.dtype]
    extents = dict(nest.loops)
    cells = {a: f"{a}[{_address(case.shapes[a], index)}]" for a, index in nest.reads.items()}
    value = re.sub(r"\b[A-Z]\b", lambda m: cells[m[0]], nest.value)
    target = f"OUT[{_address(case.out_shape, nest.write)}]"
    start = "0" if nest.op == "sum" else "-__builtin_inf()"
    first = next((at for at, d in enumerate(order) if d in nest.reduced), len(order))
    scalar = all(d in nest.reduced for d in order[first:])
    place = "sum" if scalar else target
    update = (
        f"{place} += {value};"
        if nest.op == "sum"
        else f"{{ {kind} v = {value}; {place} = v > {place} ? v : {place}; }}"
    )
    lines = [f"  const {kind} *restrict {a} = buffers[{at}];" for at, a in enumerate(case.shapes)]
    lines.append(f"  {kind} *restrict OUT = buffers[{len(case.shapes)}];")
    if not scalar:
        lines += [
            "#pragma omp parallel for num_threads(threads) if (threads > 1)",
            f"  for (long cell = 0; cell < {prod(case.out_shape)}; ++cell) OUT[cell] = {start};",
        ]
    lines.append("#pragma omp parallel for num_threads(threads) if (threads > 1)")
    bound: set[str] = set()
    needed = set(_NAME.findall(nest.guard))
    for at, d in enumerate(order):
        if scalar and at == first:
            lines.append(f"  {kind} sum = {start};")
        lines.append(f"  for (long {d} = 0; {d} < {extents[d]}; ++{d}) {{")
        bound.add(d)
        if needed and needed <= bound:
            lines.append(f"  if (!({nest.guard})) continue;")
            needed = set()
    lines.append(f"  {update}")
    closing = "  }" * (len(order) - first)
    lines.append(f"{closing} {target} = sum; {'}' * first}" if scalar else "  " + "}" * len(order))
    body = "\n".join(lines)
    head = f"int32_t {SYMBOL}(void *const *buffers, const int64_t *sizes, int32_t threads) {{"
    whole = f"#include <stdint.h>\n{head}\n{body}\n  return 0;\n}}\n"
    return re.sub(r"^#pragma .*\n", "", whole, flags=re.MULTILINE) if plain else whole


def _address(shape: tuple[int, ...], index: tuple[str, ...]) -> str:
    strides = [*list(accumulate(reversed(shape[1:]), int.__mul__, initial=1))][::-1]
    return " + ".join(f"{s} * ({i})" for i, s in zip(index, strides, strict=True))
