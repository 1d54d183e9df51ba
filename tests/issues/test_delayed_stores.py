# SPDX-License-Identifier: MIT
"""gcc's predictive commoning delayed the stores of a parallel loop, and wrote cells of another thread back as it had
read them: about one call in a thousand undid what the other thread had just stored.
"""

from __future__ import annotations

import numpy as np

from codegen.runtime.cc import compile_shared
from codegen.runtime.native import address, load
from frontend.environment import session
from frontend.environment.options import Options

TEXT = """\
#include <stdint.h>
static __attribute__((noinline)) void body(const float *restrict X, float *restrict out) {
  #pragma omp for schedule(static)
  for (int64_t y = 0; y < 2; ++y) {
    float acc[6][4];
    for (int i = 0; i < 6; ++i)
      for (int lane = 0; lane < 4; ++lane)
        acc[i][lane] = X[4 * i + lane + 24 * y];
    for (int i = 0; i < 3; ++i)
      for (int half = 0; half < 2; ++half)
        for (int lane = 0; lane < 4; ++lane)
          out[lane + 8 * y + 4 * half + 16 * i] = acc[2 * i + half][lane];
  }
}
int32_t kernel(void *const *buffers, const int64_t *sizes, int32_t threads) {
  (void)sizes;
  #pragma omp parallel num_threads(threads)
  body(buffers[0], buffers[1]);
  return 0;
}
"""


def test_threads_store_nothing_but_their_own(tmp_path):
    compiler = session.current().compiler(Options())
    assert compiler.kind != "gcc" or "-fno-predictive-commoning" in compiler.flags
    path = tmp_path / "kernel.so"
    path.write_bytes(compile_shared(TEXT, compiler))
    X = np.arange(48, dtype=np.float32)
    out = np.empty(48, np.float32)
    prepared = load(path, "kernel", session.current().team).prepare(2, (), 2)
    want = X.reshape(2, 3, 8).transpose(1, 0, 2).reshape(-1)
    for _ in range(20_000):
        out[...] = -1
        prepared(address(X), address(out))
        assert np.array_equal(out, want)
