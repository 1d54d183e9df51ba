# SPDX-License-Identifier: MIT
"""Building, loading and calling a C function; forks after threads ran.

How the compiler and the cache fail is tested in test_cc and test_cache.
"""

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codegen.runtime import build as build_module
from codegen.runtime.build import build, build_key
from codegen.runtime.cache import Cache
from codegen.runtime.cc import Compiler, find_compiler
from codegen.runtime.native import Team, address, load
from polyhedral.errors import ToolchainError

SUM = """
#include <stdint.h>
#include <omp.h>
int32_t sum(void *const *buffers, const int64_t *sizes, int32_t threads) {
  const double *x = buffers[0];
  double *out = buffers[1], s = 0.0;
  int32_t team = 1;
#pragma omp parallel num_threads(threads)
  {
#pragma omp single
    team = omp_get_num_threads();
#pragma omp for reduction(+ : s)
    for (int64_t i = 0; i < sizes[0]; i++) s += x[i];
  }
  out[0] = s;
  return team;
}
"""


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return find_compiler(os.environ)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def in_child(work: Callable[[], int]) -> int:
    """Run in a forked child and give its exit status; a child that hangs is killed by its own alarm."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        status = 99
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(5.0),
        np.arange(5.0)[::-1],
        np.arange(20.0).reshape(4, 5)[1:, ::2],
        np.broadcast_to(np.float32(1), (3, 4)),
        np.array(1.0),
        np.arange(3).view(np.recarray),
    ],
)
def test_address_is_that_of_numpy(array: np.ndarray):
    assert address(array) == array.ctypes.data


def test_build_call_and_hit(compiler: Compiler, cache: Cache):
    native, info = build(SUM, "sum", compiler, cache)
    assert (info.hit, info.seconds > 0, info.remark) == (False, True, None)
    x, out = np.arange(100.0), np.zeros(1)
    assert native([address(x), address(out)], [100]) == 1
    assert out[0] == x.sum()
    _, again = build(SUM, "sum", compiler, cache)
    assert (again.hit, again.seconds, again.path) == (True, 0.0, info.path)


def test_several_threads(compiler: Compiler, cache: Cache):
    native, _ = build(SUM, "sum", compiler, cache)
    x, out = np.ones(1000), np.zeros(1)
    call = native.prepare(2, [1000], 3)
    for _ in range(3):
        out[:] = 0
        assert call(address(x), address(out)) == 3
        assert out[0] == 1000


def test_python_threads_may_share_a_prepared_call(compiler: Compiler, cache: Cache):
    native, _ = build(SUM, "sum", compiler, cache)
    call = native.prepare(2, [50])
    xs = [np.full(50, float(i)) for i in range(8)]
    outs = [np.zeros(1) for _ in xs]

    def many(i: int) -> None:
        for _ in range(200):
            call(address(xs[i]), address(outs[i]))

    workers = [threading.Thread(target=many, args=(i,)) for i in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert [o[0] for o in outs] == [50.0 * i for i in range(8)]


def test_a_wrong_number_of_buffers_never_reaches_c(compiler: Compiler, cache: Cache):
    call = build(SUM, "sum", compiler, cache)[0].prepare(2, [1])
    for given in ((), (1,), (1, 2, 3)):
        with pytest.raises((TypeError, IndexError, ValueError)):
            call(*given)
    with pytest.raises(ValueError, match="threads"):
        build(SUM, "sum", compiler, cache)[0].prepare(2, [1], 0)


def test_the_key_sees_everything_that_matters(compiler: Compiler, cache: Cache, monkeypatch: pytest.MonkeyPatch):
    first = build_key(SUM, compiler)
    others = {
        build_key(SUM + " ", compiler),
        build_key(SUM, replace(compiler, flags=(*compiler.flags, "-O1"))),
        build_key(SUM, replace(compiler, version="other")),
        build_key(SUM, replace(compiler, path="/other/gcc")),
        build_key(SUM, compiler, ("-ffp-contract=off",)),
        build_key(SUM, compiler, (), ("part",)),
    }
    monkeypatch.setattr(build_module, "machine_identity", lambda: "another CPU")
    others.add(build_key(SUM, compiler))
    monkeypatch.setattr(build_module, "package_version", lambda: "99")
    others.add(build_key(SUM, compiler))
    assert len(others) == 8
    assert first not in others


@pytest.mark.parametrize("damage", ["truncate", "flip", "unlink", "mode"])
def test_a_damaged_entry_is_compiled_again(compiler: Compiler, cache: Cache, damage: str):
    path = build("int g(void) { return 7; }", "g", compiler, cache)[1].path
    # A new file each time: the old one is mapped into this process.
    raw = path.read_bytes()
    path.unlink()
    if damage != "unlink":
        changed = raw[: len(raw) // 2] if damage == "truncate" else raw[:-100] + b"\x01" + raw[-99:]
        path.write_bytes(raw if damage == "mode" else changed)
        path.chmod(0o644 if damage == "mode" else 0o600)
    native, info = build("int g(void) { return 7; }", "g", compiler, cache)
    assert not info.hit
    assert native([]) == 7
    assert stat.S_IMODE(info.path.stat().st_mode) == 0o600


def test_a_sound_entry_that_does_not_load_is_compiled_again(compiler: Compiler, cache: Cache):
    source = "int h(void) { return 8; }"
    cache.store(build_key(source, compiler), b"built for another machine", {})
    native, info = build(source, "h", compiler, cache)
    assert not info.hit
    assert native([]) == 8


def test_a_failing_compiler_leaves_no_entry(compiler: Compiler, cache: Cache):
    with pytest.raises(ToolchainError):
        build("int f( {", "f", compiler, cache)
    assert cache.stat().entries == 0
    assert not list(cache.folder.glob("*.so"))


def test_a_missing_symbol_or_file(compiler: Compiler, cache: Cache, tmp_path: Path):
    path = build(SUM, "sum", compiler, cache)[1].path
    for where, symbol in ((path, "nothing"), (tmp_path / "gone.so", "sum")):
        with pytest.raises(ToolchainError) as caught:
            load(where, symbol)
        assert caught.value.code == "PH505"


def test_denormals_stay_on(compiler: Compiler, cache: Cache):
    """gcc 12 with -ffast-math -shared switches them off for the process at load."""
    build("int d(void) { return 0; }", "d", compiler, cache)
    tiny = np.array([5e-324])
    assert (tiny * 1.0)[0] == 5e-324


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork")  # of a library that some other test loaded
def test_a_child_forked_after_threads_ran_is_refused(compiler: Compiler, cache: Cache):
    team = Team()
    native, _ = build(SUM, "sum", compiler, cache, team=team)
    other, _ = build(SUM + "/* another kernel */", "sum", compiler, cache, team=team)
    x, out = np.ones(10), np.zeros(1)
    buffers = [address(x), address(out)]
    native(buffers, [10], 2)

    def refused() -> int:
        for kernel in (native, other):
            with pytest.raises(RuntimeError, match="spawn"):
                kernel(buffers, [10], 2)
        return 0 if native(buffers, [10], 1) == 1 and out[0] == 10 else 2

    assert in_child(refused) == 0
    assert native(buffers, [10], 2) == 2


def test_a_child_forked_before_may_use_threads(compiler: Compiler, cache: Cache):
    """In a fresh process: this one's libgomp has run threads, which its children could not."""
    path = build(SUM, "sum", compiler, cache)[1].path
    code = f"""
import os
from pathlib import Path
import numpy as np
from codegen.runtime.native import address, load
call = load(Path({str(path)!r}), "sum").prepare(2, [10], 2)
x, out = np.ones(10), np.zeros(1)
pid = os.fork()
if pid == 0:
    os._exit(call(address(x), address(out)))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), call(address(x), address(out)))
"""
    env = {**os.environ, "PYTHONPATH": str(Path(build_module.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, timeout=60)
    assert done.stdout.split() == ["2", "2"]
