# SPDX-License-Identifier: MIT
"""The machine's measured ceilings, from small C kernels: what it does in a second, and in a cycle.

Times only itself, so that it can be sampled between the cases of a benchmark; what a kernel's share of a ceiling means,
and where results are kept, is the caller's (`codegen.runtime.machine` keeps what plans need).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from codegen.runtime.native import Native, Prepared, address

Build = Callable[[str, str, tuple[str, ...]], Native]
"""C text, symbol and extra compiler flags to a function; `codegen.runtime.build.build` behind a cache."""

SYMBOL = "ph_roof"
FLAGS = ("-ffp-contract=fast",)
CHAINS = 12
READERS = 8
"""Sums side by side where a buffer is read."""
_FMA_F32, _FMA_F64, _TRIAD, _FILL, _ADD, _CHAIN, _DOT, _READ, _EXTREMES = range(9)

SOURCE = """\
/* ceilings: chains of fused multiply-adds in registers, vectors from caches, and streams through memory */
#include <stdint.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#define CHAINS %(chains)d
#define READERS %(readers)d
#define FMA(NAME, T, BYTES) \\
  typedef T NAME##_v __attribute__((vector_size(BYTES))); \\
  static __attribute__((noinline)) void NAME(T *out, int64_t n) { \\
    const NAME##_v a = (NAME##_v){} + out[0], b = (NAME##_v){} + out[1]; \\
    NAME##_v x[CHAINS]; \\
    for (int c = 0; c < CHAINS; ++c) x[c] = b * (T)c; \\
    for (int64_t i = 0; i < n; ++i) { \\
      _Pragma("GCC unroll 16") for (int c = 0; c < CHAINS; ++c) x[c] = x[c] * a + b; \\
    } \\
    NAME##_v sum = x[0]; \\
    for (int c = 1; c < CHAINS; ++c) sum += x[c]; \\
    T total = 0; \\
    for (unsigned l = 0; l < sizeof sum / sizeof total; ++l) total += sum[l]; \\
    volatile T sink = total; \\
    (void)sink; \\
  }
FMA(fma_f32, float, %(bytes)d)
FMA(fma_f64, double, %(bytes)d)

/* one cycle an iteration and addition: each waits for the one before */
static __attribute__((noinline)) void add(int64_t n) {
  int64_t x = n, y = n | 1;
  for (int64_t i = 0; i < n; ++i) {
    _Pragma("GCC unroll 16") for (int c = 0; c < 16; ++c) { x += y; __asm__ volatile("" : "+r"(x)); }
  }
}

/* an addition and a maximum each */
static __attribute__((noinline)) void extremes(float *out, int64_t n) {
  const fma_f32_v a = (fma_f32_v){} + out[1], b = (fma_f32_v){} + out[0];
  fma_f32_v x[CHAINS];
  for (int c = 0; c < CHAINS; ++c) x[c] = b * (float)c;
  for (int64_t i = 0; i < n; ++i) {
    _Pragma("GCC unroll 16") for (int c = 0; c < CHAINS; ++c) {
      const fma_f32_v y = x[c] + a;
#if defined(__AVX512F__) && %(bytes)d == 64 && !defined(__clang__)
      x[c] = __builtin_ia32_maxps512_mask(y, b, y, -1, 4);
#elif defined(__AVX__) && %(bytes)d == 32 && !defined(__clang__)
      x[c] = __builtin_ia32_maxps256(y, b);
#else
      for (unsigned l = 0; l < %(bytes)d / sizeof(float); ++l) x[c][l] = y[l] > b[l] ? y[l] : b[l];
#endif
    }
  }
  for (int c = 1; c < CHAINS; ++c) x[0] += x[c];
  volatile float sink = x[0][0];
  (void)sink;
}

static __attribute__((noinline)) void chain(float *out, int64_t n) {
  const fma_f32_v a = (fma_f32_v){} + out[0], b = (fma_f32_v){} + out[1];
  fma_f32_v x = b;
  for (int64_t i = 0; i < n; ++i) {
    _Pragma("GCC unroll 16") for (int c = 0; c < 16; ++c) x = x * a + b;
  }
  volatile float sink = x[0];
  (void)sink;
}

/* two loads for each multiply-add, from the first cache: n passes over 64 vectors each */
static __attribute__((noinline)) void dot(const fma_f32_v *p, const fma_f32_v *q, int64_t n) {
  fma_f32_v x[READERS] = {};
  for (int64_t i = 0; i < n; ++i) {
    for (int k = 0; k < 64; k += READERS) {
      _Pragma("GCC unroll 16") for (int c = 0; c < READERS; ++c) x[c] = p[k + c] * q[k + c] + x[c];
    }
    __asm__ volatile("" ::: "memory");
  }
  for (int c = 1; c < READERS; ++c) x[0] += x[c];
  volatile float sink = x[0][0];
  (void)sink;
}

static __attribute__((noinline)) void read(const fma_f32_v *p, int64_t vectors, int64_t passes) {
  fma_f32_v x[READERS] = {};
  for (int64_t i = 0; i < passes; ++i) {
    for (int64_t k = 0; k < vectors; k += READERS) {
      _Pragma("GCC unroll 16") for (int c = 0; c < READERS; ++c) x[c] += p[k + c];
    }
    __asm__ volatile("" ::: "memory");
  }
  for (int c = 1; c < READERS; ++c) x[0] += x[c];
  volatile float sink = x[0][0];
  (void)sink;
}

static void triad(float *restrict a, const float *restrict b, const float *restrict c, int64_t n) {
#pragma omp for schedule(static)
  for (int64_t i = 0; i < n; ++i) a[i] = b[i] + 0.5f * c[i];
}

/* past the caches: no line is read before it is written */
static void fill(float *a, int64_t n) {
#pragma omp for schedule(static)
  for (int64_t i = 0; i < n / 16; ++i) {
#if defined(__AVX512F__)
    _mm512_stream_ps(a + 16 * i, _mm512_set1_ps(1.0f));
#elif defined(__AVX__)
    for (int k = 0; k < 2; ++k) _mm256_stream_ps(a + 16 * i + 8 * k, _mm256_set1_ps(1.0f));
#elif defined(__SSE2__)
    for (int k = 0; k < 4; ++k) _mm_stream_ps(a + 16 * i + 4 * k, _mm_set1_ps(1.0f));
#else
    for (int k = 0; k < 16; ++k) a[16 * i + k] = 1.0f;
#endif
  }
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

int32_t %(symbol)s(void *const *buffers, const int64_t *sizes, int32_t threads) {
  const int64_t what = sizes[0], n = sizes[1];
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    if (what == 0) fma_f32(buffers[3], n);
    if (what == 1) fma_f64(buffers[4], n);
    if (what == 2) triad(buffers[0], buffers[1], buffers[2], n);
    if (what == 3) fill(buffers[0], n);
    if (what == 4) add(n);
    if (what == 5) chain(buffers[3], n);
    if (what == 6) dot(buffers[0], buffers[1], n);
    if (what == 7) read(buffers[0], n, sizes[2]);
    if (what == 8) extremes(buffers[3], n);
  }
  return 0;
}
"""


@dataclass(frozen=True)
class Roof:
    """GFLOP/s of fused multiply-adds (2 each) and GB/s that so many threads reached together.

    Bytes are those that the program names: the line that a plain store first reads is not counted.
    """

    threads: int
    fma_f32: float
    fma_f64: float
    triad: float
    fill: float

    def fma(self, bits: int) -> float:
        """GFLOP/s in a type of so many bits."""
        return self.fma_f64 if bits == 64 else self.fma_f32

    def seconds(self, flops: float, moved: float, bits: int = 32) -> float:
        """The least time for so many operations and bytes (the roofline of Williams, Waterman and Patterson 2009)."""
        return max(flops / self.fma(bits), moved / self.triad) / 1e9

    def record(self) -> dict[str, Any]:
        return {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        return (
            f"{self.threads} thread{'s' if self.threads > 1 else ''}: "
            f"{self.fma_f32:.0f} GFLOP/s f32, {self.fma_f64:.0f} f64, "
            f"triad {self.triad:.1f} GB/s, streaming fill {self.fill:.1f} GB/s"
        )


@dataclass(frozen=True)
class Pace:
    """What one core does in a cycle, whatever its frequency: vectors multiplied and added, vectors loaded; the cycles
    of one multiply-add that waits for another; bytes read from the three caches, and streamed through memory (triad)
    and into it (fill).  `cycles` a second are those of a chain of additions, one cycle each.
    """

    cycles: float
    fma: float
    loads: float
    latency: float
    near: tuple[float, float, float]
    memory: float
    fill: float


class Meter:
    """Kernels and buffers made once; calling it takes one sample, in a fraction of a second."""

    def __init__(self, build: Build, vector_bytes: int = 32, stream_bytes: int = 96 << 20) -> None:
        text = SOURCE % {"chains": CHAINS, "readers": READERS, "bytes": vector_bytes, "symbol": SYMBOL}
        self._native = build(text, SYMBOL, FLAGS)
        self._vector = vector_bytes
        self._cells = stream_bytes // 3 // 64 * 16
        self._data = [np.ones(self._cells + 16, np.float32) for _ in range(3)]
        self._seeds = [np.array([0.999, 0.001], t) for t in (np.float32, np.float64)]
        self._streams = [a[-(address(a) // 4) % 16 :] for a in self._data]
        self._addresses = [address(a) for a in (*self._streams, *self._seeds)]

    def __call__(self, threads: int = 1, *, streams: bool = True, seconds: float = 0.06) -> Roof:
        """Best of several short runs of each kernel within `seconds` each; without `streams` only the arithmetic."""
        rates = [
            self._fma(what, lanes, threads, seconds)
            for what, lanes in ((_FMA_F32, self._vector // 4), (_FMA_F64, self._vector // 8))
        ]
        moved = [
            self._stream(what, arrays, threads, seconds) if streams else 0.0
            for what, arrays in ((_TRIAD, 3), (_FILL, 1))
        ]
        return Roof(threads, rates[0], rates[1], moved[0], moved[1])

    def filling(self, cells: int, threads: int) -> Callable[[], object]:
        """Stores f32 to so many places, as far as there are, past the caches: the least that such a result takes."""
        run = self._prepared(_FILL, min(cells, self._cells), threads)
        return lambda: run(*self._addresses)

    def extremes(self, pairs: float, threads: int) -> Callable[[], object]:
        """So many additions of f32, each with a maximum, in registers."""
        run = self._prepared(_EXTREMES, round(pairs / (CHAINS * self._vector // 4 * threads)), threads)
        return lambda: run(*self._addresses)

    def pace(self, caches: tuple[int, int, int], *, rounds: int = 12, seconds: float = 0.02) -> Pace:
        """One core, cycle by cycle; `caches` are the sizes of its three caches.  Each figure is the best of several
        rounds, in each of which the frequency is measured anew: it may change between them.
        """
        return best_of([self._pace(caches, seconds) for _ in range(rounds)])

    def _pace(self, caches: tuple[int, int, int], seconds: float) -> Pace:
        n = 100_000
        hz = 16.0 * n / self._best(self._prepared(_ADD, n, 1), seconds)

        def cycles(what: int, size: int, *more: int) -> float:
            return self._best(self._native.prepare(len(self._addresses), (what, size, *more), 1), seconds) * hz

        l1, l2, l3 = caches
        memory, fill = (self._stream(what, arrays, 1, seconds) * 1e9 / hz for what, arrays in ((_TRIAD, 3), (_FILL, 1)))
        sizes = l1 // 2, max(l2 // 2, 2 * l1), max(l3 // 4, 2 * l2)
        return Pace(
            hz,
            CHAINS * n / cycles(_FMA_F32, n),
            2.0 * 64 * n / 10 / cycles(_DOT, n // 10),
            cycles(_CHAIN, n) / (16.0 * n),
            (self._near(sizes[0], cycles), self._near(sizes[1], cycles), self._near(sizes[2], cycles)),
            memory,
            fill,
        )

    def _near(self, size: int, cycles: Callable[..., float]) -> float:
        """Bytes a cycle from a buffer of about so many bytes, read again and again."""
        step = READERS * self._vector
        held = max(step, min(size, 4 * self._cells) // step * step)
        passes = max(2, (1 << 22) // held)
        return held * passes / cycles(_READ, held // self._vector, passes)

    def _fma(self, what: int, lanes: int, threads: int, seconds: float) -> float:
        rounds = 1_000_000
        best = self._best(self._prepared(what, rounds, threads), seconds)
        return 2.0 * CHAINS * lanes * rounds * threads / best / 1e9

    def _stream(self, what: int, arrays: int, threads: int, seconds: float) -> float:
        best = self._best(self._prepared(what, self._cells, threads), seconds)
        return 4.0 * arrays * self._cells / best / 1e9

    def _prepared(self, what: int, n: int, threads: int) -> Prepared:
        return self._native.prepare(len(self._addresses), (what, n), threads)

    def _best(self, run: Prepared, seconds: float) -> float:
        best = float("inf")
        end = time.perf_counter() + seconds
        while True:
            start = time.perf_counter()
            run(*self._addresses)
            now = time.perf_counter()
            best = min(best, now - start)
            if now >= end:
                return best


def best_of(rounds: Sequence[Pace]) -> Pace:
    """The most of every rate and the least of the latency: what disturbs a measurement only slows it down."""

    def most(pick: Callable[[Pace], float]) -> float:
        return max(pick(r) for r in rounds)

    return Pace(
        most(lambda r: r.cycles),
        most(lambda r: r.fma),
        most(lambda r: r.loads),
        min(r.latency for r in rounds),
        (most(lambda r: r.near[0]), most(lambda r: r.near[1]), most(lambda r: r.near[2])),
        most(lambda r: r.memory),
        most(lambda r: r.fill),
    )


def measure(build: Build, threads: tuple[int, ...] = (1,), vector_bytes: int = 32) -> dict[int, Roof]:
    """The ceilings for each number of threads, about a third of a second each."""
    meter = Meter(build, vector_bytes)
    return {n: meter(n) for n in threads}
