# SPDX-License-Identifier: MIT
"""Small C functions that generated code may call; only those used are printed.

Each is exact about the edge that C leaves undefined: floor division, NaN in minima, narrow floats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from codegen import exponential
from codegen.elementary import DECLARED

_NARROW = """\
static inline float {name}_to_f32(uint{bits}_t h) {{ {load} }}
static inline uint{bits}_t f32_to_{name}(float x) {{ {store} }}"""

FUNCTIONS: Mapping[str, str] = {
    "floord": """\
static inline int64_t floord(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }""",
    "imin": "static inline int64_t imin(int64_t a, int64_t b) { return a < b ? a : b; }",
    "imax": "static inline int64_t imax(int64_t a, int64_t b) { return a > b ? a : b; }",
    "gather": """\
static inline int64_t gather(int64_t i, int64_t extent, int32_t site, int32_t *fault) {
  if (i >= 0 && i < extent) return i;
  __atomic_store_n(fault, site, __ATOMIC_RELAXED);
  return 0;
}""",
    "floor_div_i": """\
static inline int64_t floor_div_i(int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (b == -1) return (int64_t)(0 - (uint64_t)a);
  int64_t q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}""",
    "floor_mod_i": """\
static inline int64_t floor_mod_i(int64_t a, int64_t b) {
  if (b == 0 || b == -1) return 0;
  int64_t r = a % b;
  return (r != 0 && ((r < 0) != (b < 0))) ? r + b : r;
}""",
    "floor_div_u": "static inline uint64_t floor_div_u(uint64_t a, uint64_t b) { return b == 0 ? 0 : a / b; }",
    "floor_mod_u": "static inline uint64_t floor_mod_u(uint64_t a, uint64_t b) { return b == 0 ? 0 : a % b; }",
    "power_i": """\
static inline int64_t power_i(int64_t a, int64_t b) {
  uint64_t r = 1, x = (uint64_t)a;
  if (b < 0) return a == 1 ? 1 : a == -1 ? 1 - 2 * (b & 1) : 0;
  for (; b != 0; b >>= 1, x *= x) if (b & 1) r *= x;
  return (int64_t)r;
}""",
    "power_u": """\
static inline uint64_t power_u(uint64_t a, uint64_t b) {
  uint64_t r = 1;
  for (; b != 0; b >>= 1, a *= a) if (b & 1) r *= a;
  return r;
}""",
    "floor_mod_f64": """\
static inline double floor_mod_f64(double a, double b) {
  double r = fmod(a, b);
  if (b == 0) return r;
  if (r == 0) return copysign(0.0, b);
  return ((b < 0) != (r < 0)) ? r + b : r;
}""",
    "floor_div_f64": """\
static inline double floor_div_f64(double a, double b) {
  if (b == 0) return a / b;
  double r = fmod(a, b);
  double q = (a - r) / b;
  if (r != 0 && ((b < 0) != (r < 0))) q -= 1.0;
  if (q == 0) return copysign(0.0, a / b);
  double f = floor(q);
  return q - f > 0.5 ? f + 1.0 : f;
}""",
    "floor_mod_f32": """\
static inline float floor_mod_f32(float a, float b) {
  float r = fmodf(a, b);
  if (b == 0) return r;
  if (r == 0) return copysignf(0.0f, b);
  return ((b < 0) != (r < 0)) ? r + b : r;
}""",
    "floor_div_f32": """\
static inline float floor_div_f32(float a, float b) {
  if (b == 0) return a / b;
  float r = fmodf(a, b);
  float q = (a - r) / b;
  if (r != 0 && ((b < 0) != (r < 0))) q -= 1.0f;
  if (q == 0) return copysignf(0.0f, a / b);
  float f = floorf(q);
  return q - f > 0.5f ? f + 1.0f : f;
}""",
    "fmax_f32": "static inline float fmax_f32(float a, float b) { return a > b || a != a ? a : b; }",
    "fmax_f64": "static inline double fmax_f64(double a, double b) { return a > b || a != a ? a : b; }",
    "fmin_f32": "static inline float fmin_f32(float a, float b) { return a < b || a != a ? a : b; }",
    "fmin_f64": "static inline double fmin_f64(double a, double b) { return a < b || a != a ? a : b; }",
    exponential.SCALAR: exponential.TEXT,
    "store_fence": """\
static inline void store_fence(void) {
#if defined(__SSE2__)
  __builtin_ia32_sfence();
#endif
}""",
    "bits_f32": """\
static inline uint32_t f32_bits(float x) { union { float f; uint32_t u; } v = {x}; return v.u; }
static inline float bits_f32(uint32_t u) { union { uint32_t u; float f; } v = {u}; return v.f; }""",
    "bf16": _NARROW.format(
        name="bf16",
        bits=16,
        load="return bits_f32((uint32_t)h << 16);",
        store="uint32_t u = f32_bits(x); if (x != x) return (uint16_t)((u >> 16) | 0x40);"
        " return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);",
    ),
    # clang has _Float16 on x86 from version 15 on, and __fp16 for storage before
    "f16": """\
#if defined(__FLT16_MAX__)
typedef _Float16 f16;
#else
typedef __fp16 f16;
#endif
static inline float f16_to_f32(uint16_t h) { union { uint16_t u; f16 f; } v = {h}; return (float)v.f; }
static inline uint16_t f32_to_f16(float x) { union { f16 f; uint16_t u; } v = {(f16)x}; return v.u; }""",
    "f8": """\
static inline uint8_t f32_to_f8(float x, int mantissa, int bias, uint32_t top, uint8_t inf, uint8_t nan) {
  uint32_t u = f32_bits(x);
  uint8_t sign = (uint8_t)((u >> 24) & 0x80);
  float a = bits_f32(u & 0x7fffffff);
  if (a != a) return sign | nan;
  int e = (int)(f32_bits(a) >> 23) - 127;
  if (e < 1 - bias) e = 1 - bias;
  float scaled = ldexpf(a, mantissa - e);
  uint32_t q = (uint32_t)rintf(scaled > 64.0f ? 64.0f : scaled);
  uint32_t code = (uint32_t)(e - (1 - bias)) * (1u << mantissa) + q;
  return sign | (a > 1e30f || code > top ? inf : (uint8_t)code);
}
static inline float f8_to_f32(uint8_t h, int mantissa, int bias, uint8_t inf, uint8_t nan_from) {
  uint32_t code = h & 0x7f;
  float sign = h & 0x80 ? -1.0f : 1.0f;
  if (code >= nan_from) return sign * NAN;
  if (code == inf) return sign * INFINITY;
  uint32_t e = code >> mantissa, m = code & ((1u << mantissa) - 1);
  return sign * (e ? ldexpf((float)(m | (1u << mantissa)), (int)e - bias - mantissa)
                   : ldexpf((float)m, 1 - bias - mantissa));
}""",
    "f8e4m3": """\
static inline float f8e4m3_to_f32(uint8_t h) { return f8_to_f32(h, 3, 7, 0xff, 0x7f); }
static inline uint8_t f32_to_f8e4m3(float x) { return f32_to_f8(x, 3, 7, 0x7e, 0x7f, 0x7f); }""",
    "f8e5m2": """\
static inline float f8e5m2_to_f32(uint8_t h) { return f8_to_f32(h, 2, 15, 0x7c, 0x7d); }
static inline uint8_t f32_to_f8e5m2(float x) { return f32_to_f8(x, 2, 15, 0x7b, 0x7c, 0x7e); }""",
}

NEEDS: Mapping[str, tuple[str, ...]] = {
    "bf16": ("bits_f32",),
    "f8": ("bits_f32",),
    "f8e4m3": ("bits_f32", "f8"),
    "f8e5m2": ("bits_f32", "f8"),
}


def vector_fma(name: str, vector: str, bits: int, lanes: int) -> str:
    """a * b + c in all lanes, rounded once.  gcc names the instruction per width; elsewhere it is a loop over lanes."""
    kind, wide = ("ps" if bits == 32 else "pd"), bits * lanes
    plain = {128: f"__builtin_ia32_vfmadd{kind}", 256: f"__builtin_ia32_vfmadd{kind}256"}
    call = f"{plain[wide]}(a, b, c)" if wide in plain else f"__builtin_ia32_vfmadd{kind}512_mask(a, b, c, -1, 4)"
    machine = "__AVX512F__" if wide == 512 else "__FMA__"
    fma = "fmaf" if bits == 32 else "fma"
    return f"""\
static inline {vector} {name}({vector} a, {vector} b, {vector} c) {{
#if defined({machine}) && defined(__GNUC__) && !defined(__clang__)
  return {call};
#else
  for (int i = 0; i < {lanes}; ++i) c[i] = {fma}(a[i], b[i], c[i]);
  return c;
#endif
}}"""


def vector_not_negative(name: str, mask: str, bits: int, lanes: int) -> str:
    """All bits of a lane where `first + step * lane >= 0`, none elsewhere."""
    count = ", ".join(map(str, range(lanes)))
    kind = f"int{bits}_t"
    return f"""\
static inline {mask} {name}({kind} first, {kind} step) {{
  return first + step * ({mask}){{{count}}} >= 0;
}}"""


def vector_choose(name: str, vector: str, mask: str) -> str:
    """a where the mask is set, b elsewhere."""
    return f"""\
static inline {vector} {name}({mask} where, {vector} a, {vector} b) {{
  return ({vector})((where & ({mask})a) | (~where & ({mask})b));
}}"""


REGISTERS = {16: "defined(__SSE2__)", 32: "defined(__AVX__)", 64: "defined(__AVX512F__)"}
"""What x86 must have for a register of so many bytes."""


def vector_kept(name: str, vector: str, size: int) -> str:
    """The vector, in a register from here on: gcc would sooner read it from memory again for each of its uses, and
    loads would bind where multiply-adds could.
    """
    machine = REGISTERS.get(size, "0")
    return f"""\
static inline {vector} {name}({vector} v) {{
#if {machine}
  __asm__("" : "+v"(v));
#elif defined(__aarch64__) && {size} == 16
  __asm__("" : "+w"(v));
#endif
  return v;
}}"""


def vectors_kept(name: str, vector: str, size: int, count: int) -> str:
    """Several vectors, in a register each at this place.

    What a loop that is unrolled whole does to its accumulators looks to gcc like as many new variables in each step: it
    moves them between registers, and one to memory and back.
    """
    each = [f"v{n}" for n in range(count)]

    def held(kind: str) -> str:
        return f'  __asm__("" : {", ".join(f"{kind}(*{v})" for v in each)});'

    return f"""\
static inline __attribute__((always_inline)) void {name}({", ".join(f"{vector} *{v}" for v in each)}) {{
#if {REGISTERS.get(size, "0")}
{held('"+v"')}
#elif defined(__aarch64__) && {size} == 16
{held('"+w"')}
#endif
}}"""


def vector_pick(name: str, vector: str, mask: str, lanes: Sequence[int]) -> str:
    """For each lane, one of the lanes of a followed by those of b."""
    chosen = ", ".join(map(str, lanes))
    return f"""\
static inline {vector} {name}({vector} a, {vector} b) {{
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, {chosen});
#else
  return __builtin_shuffle(a, b, ({mask}){{{chosen}}});
#endif
}}"""


def vector_slide(name: str, vector: str, mask: str, bits: int, lanes: int, by: int) -> str:
    """The lanes of a from one on, then those of b."""
    kind, whole = ("d", f"int{bits}_t") if bits == 32 else ("q", "long long")
    plain = vector_pick(name, vector, mask, range(by, by + lanes))
    if bits * lanes != 512:
        return plain
    head, body = plain.split("\n", 1)
    return f"""\
{head}
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
  typedef {whole} whole __attribute__((vector_size(64)));
  return ({vector})__builtin_ia32_align{kind}512_mask((whole)b, (whole)a, {by}, (whole)a, -1);
#else
{body.removesuffix("}")}#endif
}}"""


def vector_join(name: str, kind: str, scalar: str, lanes: int, count: int) -> str:
    """A vector of runs from `count` places: loads of what each holds, joined in pairs."""
    places = [f"p{i}" for i in range(count)]
    run = lanes // count
    lines = [f"  const {kind}x{run} v{i} = *(const {kind}x{run} *){p};" for i, p in enumerate(places)]
    parts = [f"v{i}" for i in range(count)]
    while len(parts) > 1:
        run *= 2
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
        every = ", ".join(map(str, range(run)))
        parts = [f"__builtin_shufflevector({a}, {b}, {every})" for a, b in pairs]
        if len(parts) > 1:
            names = [f"w{run}_{i}" for i in range(len(parts))]
            lines += [f"  const {kind}x{run} {n} = {p};" for n, p in zip(names, parts, strict=True)]
            parts = names
    cells = ", ".join(f"{p}[{i}]" for p in places for i in range(lanes // count))
    head = ", ".join(f"const {scalar} *{p}" for p in places)
    body = "\n".join([*lines, f"  return {parts[0]};"])
    return f"""\
static inline {kind}x{lanes} {name}({head}) {{
#if defined(__clang__) || __GNUC__ >= 12
{body}
#else
  return ({kind}x{lanes}){{{cells}}};
#endif
}}"""


def vector_part(name: str, vector: str, scalar: str, size: int, lanes: int, count: int) -> str:
    """Store the first `count` lanes."""
    kind, element = ("pd", "double") if size == 8 else ("ps", "float")
    masked = f"""\
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
  typedef {element} whole __attribute__((vector_size(64)));
  __builtin_ia32_storeu{kind}512_mask(({element} *)p, (whole)v, {(1 << count) - 1});
#elif"""
    head = masked if size * lanes == 64 else "#if"
    pieces = "\n".join(_piece(scalar, size, first, cells) for first, cells in _pieces(count))
    return f"""\
static inline void {name}({scalar} *p, {vector} v) {{
{head} defined(__clang__) || __GNUC__ >= 12
{pieces}
#else
  for (int i = 0; i < {count}; ++i) p[i] = v[i];
#endif
}}"""


def _pieces(count: int) -> Iterator[tuple[int, int]]:
    """The first lane and the number of lanes of each piece of a power of two, the longest first."""
    first = 0
    while first < count:
        cells = 1 << (count - first).bit_length() - 1
        yield first, cells
        first += cells


def _piece(scalar: str, size: int, first: int, cells: int) -> str:
    """Store some lanes by their value: by an address, the compiler would keep the whole vector in memory."""
    if cells == 1:
        return f"  p[{first}] = v[{first}];"
    lanes = ", ".join(map(str, range(first, first + cells)))
    attributes = f"vector_size({cells * size}), aligned({size}), may_alias"
    return f"""\
  typedef {scalar} part{cells} __attribute__(({attributes}));
  *(part{cells} *)(p + {first}) = __builtin_shufflevector(v, v, {lanes});"""


def vector_window(name: str, vector: str, scalar: str, size: int, lanes: int) -> str:
    """The cells from `first` to before `last` of those at p, `pad` in the other lanes, which are not read."""
    kind, element = ("pd", "double") if size == 8 else ("ps", "float")
    within = "(int32_t)({0} < 0 ? 0 : {0} > {1} ? {1} : {0})"
    lo, hi = within.format("first", lanes), within.format("last", lanes)
    wide = {
        64: f"""\
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
  typedef {element} whole __attribute__((vector_size(64)));
  const uint32_t before = (1u << {lo}) - 1;
  const uint32_t upto = (1u << {hi}) - 1;
  return ({vector})__builtin_ia32_loadu{kind}512_mask((const {element} *)p, (whole)all, upto & ~before);
#else
""",
        32: f"""\
#if defined(__AVX2__) && defined(__GNUC__) && !defined(__clang__)
  typedef {element} whole __attribute__((vector_size(32)));
  typedef {"int" if size == 4 else "long long"} places __attribute__((vector_size(32)));
  const places lane = {{{", ".join(map(str, range(lanes)))}}}, inside = (lane >= {lo}) & (lane < {hi});
  const places read = (places)__builtin_ia32_maskload{kind}256((const whole *)p, inside);
  return ({vector})(read | (~inside & (places)all));
#else
""",
    }
    head = wide.get(size * lanes, "")
    return f"""\
static inline {vector} {name}(const {scalar} *p, int64_t first, int64_t last, {scalar} pad) {{
  {vector} all = pad - ({vector}){{0}};
{head}  for (int i = 0; i < {lanes}; ++i)
    if (i >= first && i < last) all[i] = p[i];
  return all;
{"#endif" + chr(10) if head else ""}}}"""


def vector_every_other(name: str, window: str, vector: str, scalar: str, lanes: int) -> str:
    """Every other cell of a window, from two whose last and first cell are the same: nothing beyond is read."""
    chosen = ", ".join(map(str, [*range(0, lanes, 2), *range(lanes + 1, 2 * lanes, 2)]))
    rest = lanes - 1
    return f"""\
static inline {vector} {name}(const {scalar} *p, int64_t first, int64_t last, {scalar} pad) {{
  const {vector} a = {window}(p, first, last, pad), b = {window}(p + {rest}, first - {rest}, last - {rest}, pad);
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, {chosen});
#else
  {vector} v;
  for (int i = 0; i < {lanes}; ++i) v[i] = i < {lanes // 2} ? a[2 * i] : b[2 * i - {rest}];
  return v;
#endif
}}"""


def vector_stream(name: str, vector: str, scalar: str, size: int) -> str:
    """A store past the caches where the address is a multiple of the vector's bytes, an ordinary one elsewhere."""
    machine = REGISTERS.get(size, "0")
    kind, element = ("pd", "double") if scalar == "double" else ("ps", "float")
    width = {16: "", 32: "256", 64: "512"}.get(size, "")
    whole = f"{element} whole __attribute__((vector_size({size})))"
    return f"""\
static inline void {name}({scalar} *p, {vector} v) {{
#if {machine}
  typedef {whole};
  if ((uintptr_t)p % {size} == 0) {{
#if defined(__clang__)
    __builtin_nontemporal_store((whole)v, (whole *)p);
#else
    __builtin_ia32_movnt{kind}{width}(({element} *)p, (whole)v);
#endif
    return;
  }}
#endif
  *({vector} *)p = v;
}}"""


def text(used: set[str]) -> str:
    """The functions that `used` needs, in a fixed order."""
    wanted = used | {n for u in used for n in NEEDS.get(u, ())}
    return "\n".join(body for name, body in {**DECLARED, **FUNCTIONS}.items() if name in wanted)
