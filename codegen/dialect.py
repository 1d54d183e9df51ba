# SPDX-License-Identifier: MIT
"""How CUDA and OpenCL spell what the loops of a kernel need; what a kernel computes is the same text in both.

Scalars and support functions are C's (`codegen.scalar`, `codegen.support`); a dialect says what it calls otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from codegen import support
from codegen.exponential import SCALAR

_LIBRARY = (
    "exp|exp2|expm1|log|log2|log1p|sqrt|sin|cos|tan|tanh|sinh|cosh|asin|acos|atan|atan2|erf|floor|ceil|rint|trunc|fabs|"
    "fmod|pow|hypot|fma|ldexp|copysign"
)


@dataclass(frozen=True)
class Dialect:
    """Words of a language: `{}` stands for an axis (x, y, z) or a number.  `functions` take the place of support
    functions of the same name; `renamed` are (pattern, replacement) over the whole text."""

    language: str
    head: tuple[str, ...]
    kernel: str
    pointer: str
    shared: str
    constant: str
    block: Mapping[str, str]
    blocks: Mapping[str, str]
    thread: Mapping[str, str]
    threads: Mapping[str, str]
    barrier: str
    fence: str
    """A barrier after which the threads of a block see what each other wrote to any memory."""
    atomic: str
    moved: Mapping[int, str]
    """Types of so many bytes, that are copied as bits."""
    zero: str
    """Of such a type."""
    at: Mapping[str, str]
    """A cell as such a type: in `memory`, in what a block has `shared`, or a thread's `own`."""
    copied: tuple[str, str, str] = ("", "", "")
    """An asynchronous copy of 4, 8 or 16 bytes, the end of a group of them, and waiting for all; empty where there are
    none."""
    own: str = "{type} {name}"
    """Memory of a thread."""
    shuffle: str = ""
    """The value that a thread some places further in a group of so many has; empty where threads have no such way."""
    functions: Mapping[str, str] = field(default_factory=dict[str, str])
    prefix: str = "static inline"
    includes: tuple[tuple[str, str], ...] = ()
    """Lines that are needed where a word is used."""
    renamed: tuple[tuple[str, str], ...] = ()
    reserved: frozenset[str] = frozenset()

    def spelled(self, text: str) -> str:
        """The text with its words in place of C's."""
        for pattern, replacement in self.renamed:
            text = re.sub(pattern, replacement, text)
        return text

    def support(self, used: set[str], bits: int) -> str:
        """The functions that are used, with indices of so many bits."""
        names = {n for n in used if n in support.FUNCTIONS} | {n for u in used for n in support.NEEDS.get(u, ())}
        lines: list[str] = []
        for name, body in support.FUNCTIONS.items():
            if name in names:
                text = self.functions.get(name, body).replace("static inline", self.prefix)
                lines.append(
                    text.replace("int64_t", "int") if name in ("floord", "imin", "imax") and bits == 32 else text
                )
        return "\n".join(lines)


def _axes(word: str) -> Mapping[str, str]:
    return {a: word.format(a) for a in "xyz"}


def _numbered(word: str) -> Mapping[str, str]:
    return {a: word.format(k) for k, a in enumerate("xyz")}


_GATHER = """\
static inline int64_t gather(int64_t i, int64_t extent, int32_t site, {pointer} fault) {{
  if (i >= 0 && i < extent) return i;
  {atomic};
  return 0;
}}"""

_EXTREME = """\
static inline float f{op}_f32(float a, float b) {{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float r;
  asm("{op}.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
#else
  return a {sign} b || a != a ? a : b;
#endif
}}"""
"""One instruction that keeps a NaN, where the device has it: comparisons and a choice are three."""

CUDA = Dialect(
    "cuda",
    ("#include <stdint.h>", "#include <cuda_fp16.h>"),
    'extern "C" __global__ void __launch_bounds__({threads})\n{name}({parameters})',
    "{const}{type} *__restrict__ {name}",
    "__shared__ __align__(32) {type} {name}",
    "__device__ const {type} {name}",
    _axes("blockIdx.{}"),
    _axes("gridDim.{}"),
    _axes("threadIdx.{}"),
    _axes("blockDim.{}"),
    "__syncthreads()",
    "__syncthreads()",
    "atomicExch(fault, site)",
    {16: "uint4", 8: "uint2", 4: "uint32_t"},
    "{type}{{}}",
    {"memory": "*(const {type} *)&{cell}", "shared": "*({type} *)&{cell}", "own": "*({type} *){cell}"},
    ("__pipeline_memcpy_async(&{to}, &{cell}, {bytes})", "__pipeline_commit()", "__pipeline_wait_prior(0)"),
    "__align__(16) {type} {name}",
    "__shfl_down_sync(0xffffffffu, {value}, {span}, {group})",
    {
        SCALAR: f"static inline float {SCALAR}(float x) {{ return expf(x); }}",
        "fmax_f32": _EXTREME.format(op="max", sign=">"),
        "fmin_f32": _EXTREME.format(op="min", sign="<"),
        "gather": _GATHER.format(pointer="int32_t *", atomic="atomicExch(fault, site)"),
        "f16": """\
static inline float f16_to_f32(uint16_t h) { return __half2float(__ushort_as_half(h)); }
static inline uint16_t f32_to_f16(float x) { return __half_as_ushort(__float2half_rn(x)); }""",
        "bits_f32": """\
static inline uint32_t f32_bits(float x) { return __float_as_uint(x); }
static inline float bits_f32(uint32_t u) { return __uint_as_float(u); }""",
    },
    "static __device__ __forceinline__",
    (
        ("__nv_bfloat16", "#include <cuda_bf16.h>"),
        ("__pipeline_", "#include <cuda_pipeline.h>"),
        ("nvcuda::wmma", "#include <mma.h>"),
    ),
    renamed=((r"\bNAN\b", "__int_as_float(0x7fffffff)"), (r"\bINFINITY\b", "__int_as_float(0x7f800000)")),
    reserved=frozenset((
        "threadIdx", "blockIdx", "blockDim", "gridDim", "warpSize", "half", "asm", "class", "new", "delete", "this",
        "template", "typename", "namespace", "operator", "private", "public", "protected", "virtual", "friend", "bool",
        "true", "false", "try", "catch", "throw", "using", "explicit", "export", "mutable", "and", "or", "not", "xor",
    )),
)  # fmt: skip

OPENCL = Dialect(
    "opencl",
    (
        "typedef char int8_t; typedef short int16_t; typedef int int32_t; typedef long int64_t;",
        "typedef uchar uint8_t; typedef ushort uint16_t; typedef uint uint32_t; typedef ulong uint64_t;",
        "#pragma OPENCL FP_CONTRACT OFF",
    ),
    "__kernel __attribute__((reqd_work_group_size({block})))\nvoid {name}({parameters})",
    "__global {const}{type} *restrict {name}",
    "__local {type} {name} __attribute__((aligned(16)))",
    "__constant {type} {name}",
    _numbered("(int)get_group_id({})"),
    _numbered("(int)get_num_groups({})"),
    _numbered("(int)get_local_id({})"),
    _numbered("(int)get_local_size({})"),
    "barrier(CLK_LOCAL_MEM_FENCE)",
    "barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)",
    "atomic_xchg(fault, site)",
    {16: "uint4", 8: "uint2", 4: "uint"},
    "({type})(0)",
    {
        "memory": "*(const __global {type} *)&{cell}",
        "shared": "*(__local {type} *)&{cell}",
        "own": "*({type} *){cell}",
    },
    ("", "", ""),
    "{type} {name} __attribute__((aligned(16)))",
    "",
    {
        SCALAR: f"static inline float {SCALAR}(float x) {{ return exp(x); }}",
        "gather": _GATHER.format(pointer="__global int32_t *", atomic="atomic_xchg(fault, site)"),
        "f16": """\
static inline float f16_to_f32(uint16_t h) { return vload_half(0, (const half *)&h); }
static inline uint16_t f32_to_f16(float x) { uint16_t h; vstore_half_rte(x, 0, (half *)&h); return h; }""",
        "bits_f32": """\
static inline uint32_t f32_bits(float x) { return as_uint(x); }
static inline float bits_f32(uint32_t u) { return as_float(u); }""",
    },
    renamed=(
        (rf"\b({_LIBRARY})f\(", r"\1("),
        (r"\bUINT64_C\((\d+)\)", r"\1UL"),
        (r"\bINT64_C\((\d+)\)", r"\1L"),
        (r"\bINT64_MIN\b", "LONG_MIN"),
    ),
    reserved=frozenset((
        "kernel", "global", "local", "constant", "private", "half", "bool", "uchar", "ushort", "uint", "ulong", "image",
        "sampler_t", "event_t", "size_t", "read_only", "write_only", "barrier", "vec", "dot", "cross", "length", "mix",
        "step", "sign", "clamp", "degrees", "radians", "normalize", "distance", "select", "max", "min", "mad", "abs",
    )),
)  # fmt: skip
DIALECTS: Mapping[str, Dialect] = {d.language: d for d in (CUDA, OPENCL)}
