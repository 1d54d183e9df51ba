# SPDX-License-Identifier: MIT
"""The exponential function in f32, written out: no call, no branch, the same in a scalar as in any lane of a vector.

`x = k ln 2 + r` with whole k, a polynomial for `exp(r)` over |r| <= ln(2) / 2 (minimax in relative error, 3e-9), and k
added to the exponent; the reduction in two steps is Cody's and Waite's (1980).  Below 0.9 units in the last place with
fused multiply-adds, below 1.2 without; NaN stays, and results overflow to infinity and underflow gradually.
"""

from __future__ import annotations

HIGHEST, LOWEST = "89.0f", "(-104.0f)"
"""From where on results are infinite, or zero."""
_PER_DOUBLING, _ROUNDS, _ONE = "1.442695f", "12582912.0f", "0x3f800000u"
"""1 / ln 2; what makes a sum that rounds to whole numbers (3 * 2^22); the bits of 1.0."""
_REST = ("(-0.693359375f)", "2.1219444e-4f")
"""What is subtracted for each doubling: the first has so few bits that its product is exact."""
_POLYNOMIAL = ("0.0013814467f", "0.008368781f", "0.041668393f", "0.1666652f", "0.49999994f", "1.0f", "1.0f")

SCALAR = "exp_f32"
"""The function's name in C."""


def _steps(fma: str, real: str, whole: str = "{}") -> str:
    """t = k + 3 * 2^22, k, and p = exp(r) from x, with constants as `whole` has them."""
    ln = [whole.format(c) for c in _REST]
    lines = [
        f"const {real} t = {fma}(x, {whole.format(_PER_DOUBLING)}, {whole.format(_ROUNDS)});",
        f"const {real} k = t - {_ROUNDS};",
        f"const {real} r = {fma}(k, {ln[1]}, {fma}(k, {ln[0]}, x));",
        f"{real} p = {fma}({whole.format(_POLYNOMIAL[0])}, r, {whole.format(_POLYNOMIAL[1])});",
        *(f"p = {fma}(p, r, {whole.format(c)});" for c in _POLYNOMIAL[2:]),
    ]
    return "\n".join(f"  {line}" for line in lines)


TEXT = f"""\
#if defined(__FMA__) || defined(__aarch64__)
#define EXP_STEP(a, b, c) fmaf(a, b, c)
#else
#define EXP_STEP(a, b, c) ((a) * (b) + (c))
#endif
static inline float {SCALAR}(float x) {{
{_steps("EXP_STEP", "float")}
  uint32_t bits;
  __builtin_memcpy(&bits, &t, 4);
  const uint32_t half = bits >> 1 << 23, first = half + {_ONE}, second = (bits << 23) - half + {_ONE};
  float a, b;
  __builtin_memcpy(&a, &first, 4);
  __builtin_memcpy(&b, &second, 4);
  p = p * a * b;
  p = x > {HIGHEST} ? INFINITY : p;
  return x < {LOWEST} ? 0.0f : p;
}}"""
"""2^k is the product of two powers that exist, since k may be beyond what an exponent holds; its bits are the last of
t's."""


def vector_exp(name: str, vector: str, lanes: int) -> str:
    """The function in all lanes: AVX-512 has instructions for the limits (NaN is what it does not compare with) and for
    the exponent; elsewhere compilers turn lanes of the scalar function into vectors.
    """
    plain = f"  for (int i = 0; i < {lanes}; ++i) x[i] = {SCALAR}(x[i]);\n  return x;"
    if lanes != 16:
        return f"static inline {vector} {name}({vector} x) {{\n{plain}\n}}"
    spread = f"({{}} - ({vector}){{{{0}}}})"
    return f"""\
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
#define EXP_STEPS(a, b, c) __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4)
#endif
static inline {vector} {name}({vector} x) {{
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
  x = __builtin_ia32_minps512_mask({spread.format(HIGHEST)}, x, x, -1, 4);
  x = __builtin_ia32_maxps512_mask({spread.format(LOWEST)}, x, x, -1, 4);
{_steps("EXP_STEPS", vector, spread)}
  return __builtin_ia32_scalefps512_mask(p, k, p, -1, 4);
#else
{plain}
#endif
}}"""


def several_exps(name: str, vector: str, whole: str, count: int) -> str:
    """`void name(vector *v)`: the exponentials of `count` vectors of 8 lanes in their place, step by step in turn.

    The steps of one vector wait for each other, and behind them in the core's queue those of the vectors that follow:
    in turn, few of them wait.  The limits move to where the result is 0 or infinite by itself; of NaN and a limit, the
    machine's instructions give back the second.
    """
    spread = f"({{}} - ({vector}){{{{0}}}})"
    high, low, doubling, rounds = (spread.format(c) for c in (HIGHEST, LOWEST, _PER_DOUBLING, _ROUNDS))
    most, least = (spread.format(c) for c in _REST)
    factors = [spread.format(c) for c in _POLYNOMIAL]

    def fma(a: str, b: str, c: str) -> str:
        return f"__builtin_ia32_vfmaddps256({a}, {b}, {c})"

    steps = [
        f"x[j] = __builtin_ia32_minps256({high}, v[j])",
        f"x[j] = __builtin_ia32_maxps256({low}, x[j])",
        f"t[j] = {fma('x[j]', doubling, rounds)}",
        f"k[j] = t[j] - {_ROUNDS}",
        f"x[j] = {fma('k[j]', most, 'x[j]')}",
        f"x[j] = {fma('k[j]', least, 'x[j]')}",
        f"p[j] = {fma(factors[0], 'x[j]', factors[1])}",
        *(f"p[j] = {fma('p[j]', 'x[j]', c)}" for c in factors[2:]),
        f"half[j] = ({whole})t[j] >> 1 << 23",
        f"rest[j] = (({whole})t[j] << 23) - half[j] + {_ONE}",
        f"p[j] = p[j] * ({vector})(half[j] + {_ONE})",
        f"v[j] = p[j] * ({vector})rest[j]",
    ]
    lines = "\n".join(f"  for (int j = 0; j < {count}; ++j) {step};" for step in steps)
    return f"""\
static inline __attribute__((always_inline)) void {name}({vector} *v) {{
#if defined(__FMA__) && defined(__GNUC__) && !defined(__clang__)
  {vector} {", ".join(f"{x}[{count}]" for x in "xtkp")};
  {whole} half[{count}], rest[{count}];
{lines}
#else
  for (int j = 0; j < {count}; ++j)
    for (int i = 0; i < 8; ++i) v[j][i] = {SCALAR}(v[j][i]);
#endif
}}"""
