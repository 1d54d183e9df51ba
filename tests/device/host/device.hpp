// SPDX-License-Identifier: MIT
// CUDA's words on a processor, for tests: each thread of a block is a fiber, blocks run one after another.  Threads run in
// a shuffled order between barriers; copies that are under way are poison until they are waited for.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>
#include <ucontext.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

struct Three { int x, y, z; };
static Three threadIdx, blockIdx, blockDim, gridDim;
struct __align__(16) float4 { float x, y, z, w; };
struct __align__(16) uint4 { uint32_t x, y, z, w; };
struct __align__(8) uint2 { uint32_t x, y; };

namespace host {

enum class State { Ready, Block, Warp, Done };
struct Copy { void *to; const void *from; size_t size; int group; };
struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  Three at;
  State state;
  int word;  // which statement it waits at, for all of a block must wait at the same one
  std::vector<Copy> copies;
  int groups;
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static int current, wrong;
static std::function<void()> body;
static unsigned char slots[64 * 16 * 32];

inline void fail(const char *why) { std::fprintf(stderr, "host: %s\n", why); wrong = 1; }

inline void wait(State how, int word) {
  Fiber &me = fibers[current];
  me.state = how;
  me.word = word;
  swapcontext(&me.context, &scheduler);
}

inline void entry() {
  body();
  fibers[current].state = State::Done;
  swapcontext(&fibers[current].context, &scheduler);
}

inline bool released(int from, int to, State how) {
  for (int k = from; k < to; ++k)
    if (fibers[k].state != how) return false;
  for (int k = from; k < to; ++k)
    if (fibers[k].word != fibers[from].word) fail("threads wait at different barriers");
  for (int k = from; k < to; ++k) fibers[k].state = State::Ready;
  return true;
}

inline void block(std::mt19937 &random) {
  int n = blockDim.x * blockDim.y * blockDim.z;
  fibers.resize(n);
  for (int k = 0; k < n; ++k) {
    Fiber &f = fibers[k];
    f.stack.resize(64 << 10);
    f.at = {k % blockDim.x, k / blockDim.x % blockDim.y, k / (blockDim.x * blockDim.y)};
    f.state = State::Ready;
    f.copies.clear();
    f.groups = 0;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = nullptr;
    makecontext(&f.context, entry, 0);
  }
  std::vector<int> order(n);
  for (int k = 0; k < n; ++k) order[k] = k;
  for (int left = n; left;) {
    std::shuffle(order.begin(), order.end(), random);
    bool moved = false;
    if (wrong) return;
    for (int k : order) {
      if (fibers[k].state != State::Ready) continue;
      current = k;
      threadIdx = fibers[k].at;
      swapcontext(&scheduler, &fibers[k].context);
      left -= fibers[k].state == State::Done;
      moved = true;
    }
    for (int w = 0; w < n; w += 32) moved |= released(w, w + 32 < n ? w + 32 : n, State::Warp);
    moved |= released(0, n, State::Block);
    if (left && !moved) fail("threads of a block wait for each other for ever");
  }
  for (int k = 0; k < n; ++k)
    if (!fibers[k].copies.empty()) fail("a thread ends while its copies are under way");
}

template <class F> void launch(F f, Three grid, Three threads, int seed) {
  std::mt19937 random(seed);
  gridDim = grid;
  blockDim = threads;
  body = f;
  for (int z = 0; z < grid.z; ++z)
    for (int y = 0; y < grid.y; ++y)
      for (int x = 0; x < grid.x; ++x) blockIdx = {x, y, z}, block(random);
}

template <class... A> struct Call {
  template <size_t... I>
  static void go(void (*kernel)(A...), void **args, Three grid, Three threads, int seed, std::index_sequence<I...>) {
    launch([=] { kernel(*(A *)args[I]...); }, grid, threads, seed);
  }
};
template <class... A> int call(void (*kernel)(A...), void **args, const int *shape, int seed) {
  wrong = 0;
  Call<A...>::go(kernel, args, {shape[0], shape[1], shape[2]}, {shape[3], shape[4], shape[5]}, seed,
                 std::index_sequence_for<A...>());
  return wrong;
}

// One letter for each argument: p for a pointer, i for 4 bytes, l for 8.
template <class... A> const char *kinds(void (*)(A...)) {
  static const char letters[] = {(std::is_pointer_v<A> ? 'p' : sizeof(A) == 4 ? 'i' : 'l')..., 0};
  return letters;
}

// Every thread of a warp leaves a value, and takes that of another.
template <class T> T exchanged(T value, int from) {
  static_assert(sizeof(T) <= 16, "registers");
  unsigned char *mine = slots + current / 32 * 32 * 16;
  std::memcpy(mine + current % 32 * 16, &value, sizeof(T));
  wait(State::Warp, -1);
  T found;
  std::memcpy(&found, mine + from * 16, sizeof(T));
  wait(State::Warp, -2);
  return found;
}

}  // namespace host

#define __syncthreads() host::wait(host::State::Block, __LINE__)
#define __syncwarp(...) host::wait(host::State::Warp, __LINE__)

template <class T> T __shfl_down_sync(unsigned mask, T value, int span, int width) {
  if (mask != 0xffffffffu) host::fail("a part of a warp");
  int lane = host::current % 32, last = lane / width * width + width - 1;
  return host::exchanged(value, lane + span <= last ? lane + span : lane);
}
inline int32_t atomicExch(int32_t *at, int32_t value) { int32_t old = *at; *at = value; return old; }
inline float __int_as_float(int v) { float f; std::memcpy(&f, &v, 4); return f; }
inline float __uint_as_float(unsigned v) { float f; std::memcpy(&f, &v, 4); return f; }
inline unsigned __float_as_uint(float f) { unsigned v; std::memcpy(&v, &f, 4); return v; }

// --- asynchronous copies ---------------------------------------------------------------------------------------------

inline void __pipeline_memcpy_async(void *to, const void *from, size_t size, size_t zeros = 0) {
  if ((size != 4 && size != 8 && size != 16) || (uintptr_t)to % size || (uintptr_t)from % size)
    host::fail("a copy of a size that is none, or not aligned to it");
  if (zeros) host::fail("no partial copies");
  std::memset(to, 0xff, size);
  host::Fiber &me = host::fibers[host::current];
  me.copies.push_back({to, from, size, me.groups});
}
inline void __pipeline_commit() { ++host::fibers[host::current].groups; }
inline void __pipeline_wait_prior(int left) {
  host::Fiber &me = host::fibers[host::current];
  std::vector<host::Copy> later;
  for (auto &c : me.copies)
    if (c.group < me.groups - left) std::memcpy(c.to, c.from, c.size);
    else later.push_back(c);
  me.copies = later;
}

// --- halves ------------------------------------------------------------------------------------------------------------

struct __half { uint16_t bits; };
struct __nv_bfloat16 { uint16_t bits; };
inline __half __ushort_as_half(uint16_t h) { return {h}; }
inline uint16_t __half_as_ushort(__half h) { return h.bits; }
inline float __half2float(__half h) {
  int e = h.bits >> 10 & 31, m = h.bits & 1023;
  float v = e == 31 ? (m ? NAN : INFINITY) : e ? std::ldexp(1024 + m, e - 25) : std::ldexp(m, -24);
  return h.bits & 0x8000 ? -v : v;
}
inline __half __float2half_rn(float x) {
  uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  float a = std::fabs(x);
  if (a != a) return {uint16_t(sign | 0x7e00)};
  if (a >= 65520) return {uint16_t(sign | 0x7c00)};
  int e = std::max(a > 0 ? std::ilogb(a) : -14, -14);
  int m = std::nearbyint(std::ldexp(a, 10 - e));
  return {uint16_t(sign + ((e + 14) << 10) + m)};
}

// --- matrix units: every thread of a warp has the whole tile ------------------------------------------------------------

inline float to_float(__half v) { return __half2float(v); }
inline float to_float(__nv_bfloat16 v) { return __uint_as_float((unsigned)v.bits << 16); }
inline float to_float(float v) { return v; }

namespace nvcuda::wmma {
struct matrix_a {}; struct matrix_b {}; struct accumulator {}; struct row_major {}; struct col_major {};
namespace precision { struct tf32 {}; }
enum layout_t { mem_row_major, mem_col_major };
inline float __float_to_tf32(float x) { return __uint_as_float((__float_as_uint(x) + 0x1000) & 0xffffe000u); }

template <class Use, int M, int N, int K, class T, class Order = void> struct fragment {
  static constexpr int rows = std::is_same_v<Use, matrix_b> ? K : M, columns = std::is_same_v<Use, matrix_a> ? K : N;
  static constexpr int num_elements = rows * columns;
  float x[rows * columns];
};
template <class F> void fill_fragment(F &f, float v) { for (float &e : f.x) e = v; }
template <class Use, int M, int N, int K, class T, class Order, class P>
void load_matrix_sync(fragment<Use, M, N, K, T, Order> &f, const P *from, unsigned apart) {
  if ((uintptr_t)from % 32 || apart * sizeof(P) % 16) host::fail("a tile that is not aligned");
  if (host::exchanged(from, 0) != from) host::fail("threads of a warp load different tiles");
  for (int r = 0; r < f.rows; ++r)
    for (int c = 0; c < f.columns; ++c)
      f.x[r * f.columns + c] = to_float(from[std::is_same_v<Order, row_major> ? r * apart + c : c * apart + r]);
}
template <class D, class A, class B, class C> void mma_sync(D &d, const A &a, const B &b, const C &c) {
  D sum = c;
  for (int m = 0; m < d.rows; ++m)
    for (int n = 0; n < d.columns; ++n)
      for (int k = 0; k < a.columns; ++k)
        sum.x[m * d.columns + n] += a.x[m * a.columns + k] * b.x[k * b.columns + n];
  d = sum;
  host::wait(host::State::Warp, -3);
}
template <class F> void store_matrix_sync(float *to, const F &f, unsigned apart, layout_t order) {
  if ((uintptr_t)to % 32 || apart % 4) host::fail("a tile that is not aligned");
  host::wait(host::State::Warp, -4);
  int lane = host::current % 32;  // each thread stores its share, so that who reads before all have is seen
  for (int e = lane; e < f.num_elements; e += 32) {
    int r = e / f.columns, c = e % f.columns;
    to[order == mem_row_major ? r * apart + c : c * apart + r] = f.x[e];
  }
}
}  // namespace nvcuda::wmma
