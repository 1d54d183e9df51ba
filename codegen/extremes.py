# SPDX-License-Identifier: MIT
"""Minima and maxima of vectors in C, where a NaN wins, as in the scalar functions."""

from __future__ import annotations


def vector_extreme(name: str, op: str, vector: str, mask: str, bits: int, lanes: int, *, floats: bool) -> str:
    """min or max of two vectors.

    x86's instruction gives b where either is a NaN, so that only those of a are left to keep: all bits set are one.
    """
    kind = "ps" if bits == 32 else "pd"
    wide = {
        512: f"""\
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
  return __builtin_ia32_{op}{kind}512_mask(a, b, a, __builtin_ia32_cmp{kind}512_mask(a, a, 7, -1, 4), 4);
#else
""",
        256: f"""\
#if defined(__AVX__) && defined(__GNUC__) && !defined(__clang__)
  return __builtin_ia32_or{kind}256(__builtin_ia32_{op}{kind}256(a, b), __builtin_ia32_cmp{kind}256(a, a, 3));
#else
""",
    }
    head = wide.get(bits * lanes, "") if floats else ""
    first = f"({mask})(a {'<' if op == 'min' else '>'} b)" + (f" | ({mask})(a != a)" if floats else "")
    return f"""\
static inline {vector} {name}({vector} a, {vector} b) {{
{head}  const {mask} first = {first};
  return ({vector})((first & ({mask})a) | (~first & ({mask})b));
{"#endif" + chr(10) if head else ""}}}"""


def vector_extreme_of_three(name: str, op: str, two: str, vector: str, bits: int, lanes: int) -> str:
    """min or max of three vectors of floats, `two` being the function for two; a NaN wins.

    x86's instruction gives its second operand where either is a NaN: that of a stays, and one comparison finds those of
    b and c.
    """
    kind = "ps" if bits == 32 else "pd"
    wide = {
        512: f"""\
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
  const {vector} most = __builtin_ia32_{op}{kind}512_mask(b, a, a, -1, 4);
  const {vector} none = ({vector}){{0}} + __builtin_nanf("");
  return __builtin_ia32_{op}{kind}512_mask(c, most, none, __builtin_ia32_cmp{kind}512_mask(b, c, 7, -1, 4), 4);
#else
""",
        256: f"""\
#if defined(__AVX__) && defined(__GNUC__) && !defined(__clang__)
  const {vector} most = __builtin_ia32_{op}{kind}256(c, __builtin_ia32_{op}{kind}256(b, a));
  return __builtin_ia32_or{kind}256(most, __builtin_ia32_cmp{kind}256(b, c, 3));
#else
""",
    }
    head = wide.get(bits * lanes, "")
    return f"""\
static inline {vector} {name}({vector} a, {vector} b, {vector} c) {{
{head}  return {two}({two}(a, b), c);
{"#endif" + chr(10) if head else ""}}}"""
