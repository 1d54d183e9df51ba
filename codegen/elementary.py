# SPDX-License-Identifier: MIT
"""Elementary functions of whole vectors, where the C library has them (glibc's libmvec on x86-64); lanes elsewhere.

Infinities and NaN mean what they do in the scalar functions.  Which function a value needs is left to `codegen.scalar`
and `codegen.steps`.
"""

from __future__ import annotations

from collections.abc import Mapping

OLD = ("exp", "log", "sin", "cos", "pow")
NEW = (
    "acos", "asin", "atan", "atan2", "cosh", "erf", "exp2", "expm1", "hypot", "log1p", "log2", "sinh", "tan", "tanh",
)  # fmt: skip
"""What the C library computes for whole vectors, to 4 units in the last place: since its release 2.22, and 2.35."""
VECTORS = frozenset((*OLD, *NEW))
_BINARY = ("pow", "atan2", "hypot")


def _library(fn: str) -> str:
    """The preprocessor's test for a C library that has a function for vectors, and a compiler that knows of it."""
    return f"VECTOR_LIBRARY({'2, 22' if fn in OLD else '2, 35'})"


_LIBRARY = """\
#if defined(__GLIBC_PREREQ) && defined(__x86_64__) && !defined(__clang__)
#define VECTOR_LIBRARY(major, minor) __GLIBC_PREREQ(major, minor)
#else
#define VECTOR_LIBRARY(major, minor) 0
#endif"""


def _declared(fn: str, suffix: str) -> str:
    """An elementary function that loops over lanes may call for a whole vector at once."""
    kind = "float" if suffix else "double"
    taken = ", ".join([kind] * (2 if fn in _BINARY else 1))
    return f'#if {_library(fn)}\n__attribute__((simd("notinbranch"))) {kind} {fn}{suffix}({taken});\n#endif'


DECLARED: Mapping[str, str] = {
    "VECTOR_LIBRARY": _LIBRARY,
    **{f"{fn}{suffix}": _declared(fn, suffix) for fn in (*OLD, *NEW) for suffix in ("f", "")},
}


def vector_elementary(name: str, fn: str, vector: str, bits: int, lanes: int) -> str:
    """An elementary function in all lanes: the C library's, where it has one, lane by lane elsewhere."""
    wide = {128: ("b", "__SSE4_1__"), 256: ("d", "__AVX2__"), 512: ("e", "__AVX512F__")}
    count = 2 if fn in _BINARY else 1
    suffix = "f" if bits == 32 else ""
    given = ", ".join(f"{vector} {x}" for x in "ab"[:count])
    each = f"{fn}{suffix}({', '.join(f'{x}[i]' for x in 'ab'[:count])})"
    plain = f"  for (int i = 0; i < {lanes}; ++i) a[i] = {each};\n  return a;"
    letter, machine = wide.get(bits * lanes, ("", ""))
    if not letter or fn not in VECTORS:
        return f"static inline {vector} {name}({given}) {{\n{plain}\n}}"
    there = f"_ZGV{letter}N{lanes}{'v' * count}_{fn}{suffix}"
    test = f"{_library(fn)} && defined({machine})"
    return f"""\
#if {test}
{vector} {there}({", ".join([vector] * count)});
#endif
static inline {vector} {name}({given}) {{
#if {test}
  return {there}({", ".join("ab"[:count])});
#else
{plain}
#endif
}}"""
