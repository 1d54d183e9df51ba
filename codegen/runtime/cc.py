# SPDX-License-Identifier: MIT
"""Find and drive the C compiler: argument lists, no shell, a minimal environment.

Gives bytes and text back; running processes is left to `processes`, keeping and loading what they make to `cache` and
`native`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codegen.runtime.cache import key_of, read_json, write_private
from codegen.runtime.processes import Command, cannot_write, cores, execute, failure, head, private_folder
from polyhedral.errors import ToolchainError

# Safe for values: no NaN, infinity, signed zero or denormal changes its meaning under these.  `-fno-math-errno` lets
# sqrt be one instruction, `-fno-trapping-math` only forgets the exception flags that nobody reads; both are needed
# before gcc vectorises conditionals.  `-ffp-contract=off` keeps every a*b + c of the program as two roundings: where a
# reduction may fuse them, the generated text says fma.
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-fopenmp",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
)

Kind = Literal["gcc", "clang"]

# Unknown to the other kind.  For correctness: gcc 12 delays the stores of a loop by some iterations, and writes cells
# of the neighbouring thread back as it had read them.  For time: it threads jumps through unrolled loops one by one,
# which took most of a minute for a small gradient.
OWN_FLAGS: Mapping[Kind, tuple[str, ...]] = {"gcc": ("-fno-predictive-commoning", "-fno-thread-jumps"), "clang": ()}
MEMORY_LIMIT = 8 << 30

_LETTERS_A_SECOND = 2000
_PASSED_ON = ("PATH", "HOME", "LD_LIBRARY_PATH", "SDKROOT")
_SCHEMA = "polyhedral.compiler/1"
_PROBE = """\
#include <math.h>
#include <stdint.h>
#include <omp.h>
int32_t probe(void *const *buffers, const int64_t *sizes, int32_t threads) {
  double *out = buffers[0], sum = 0.0;
#pragma omp parallel for num_threads(threads) reduction(+ : sum)
  for (int64_t i = 0; i < sizes[0]; i++) sum += sqrt((double)i) + omp_get_thread_num();
  out[0] = sum;
  return 0;
}
"""


@dataclass(frozen=True)
class Compiler:
    """A C compiler that has proved to link OpenMP here.

    `path` is absolute, `version` the first line of `--version`, `flags` go before the caller's, and `env` is the whole
    environment it runs in.
    """

    path: str
    kind: Kind
    version: str
    flags: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Candidate:
    label: str
    path: str
    arguments: tuple[str, ...]


def find_compiler(env: Mapping[str, str], cache_file: Path | None = None, *, timeout: float = 30.0) -> Compiler:
    """The first of cc, gcc and clang on `PATH` that links OpenMP; `$CC`, which may carry arguments, is the only
    candidate where it is set.  The answer is remembered in `cache_file`.  ToolchainError PH500 when none does."""
    tried: list[str] = []
    path = os.pathsep.join(p for p in env.get("PATH", "").split(os.pathsep) if Path(p).is_absolute())
    for candidate in _candidates(env, path, tried):
        run_env = _environment(env, path, candidate)
        found = _remembered(candidate, run_env, cache_file) or _probed(candidate, run_env, tried, timeout, cache_file)
        if found is not None:
            return found
    looked_for = f"$CC = {env['CC']}" if env.get("CC") else "$CC, cc, gcc, clang"
    raise ToolchainError(
        "PH500",
        f"no C compiler with OpenMP found (tried: {looked_for})",
        details=tuple(tried),
        hints=('run "polyhedral doctor"', "install gcc, or set CC to a compiler that accepts -fopenmp"),
    )


def compile_shared(
    source: str,
    compiler: Compiler,
    *,
    units: int = 1,
    timeout: float | None = None,
    extra: tuple[str, ...] = (),
    memory_limit: int | None = MEMORY_LIMIT,
) -> bytes:
    """C text to the bytes of a shared library; `units` of it are compiled at the same time, each with its number as
    the macro UNIT, and linked.

    `timeout` is in seconds of wall clock, `patience(source)` where none is given; `memory_limit` in bytes of address
    space per process.  ToolchainError PH501 failed, PH502 took too long, PH503 killed by a signal, PH504 nowhere to
    write.
    """
    call = (compiler.path, *compiler.flags, *extra)
    objects = [f"unit{k}.o" for k in range(1, units + 1)] if units > 1 else []
    parts = [(*call, f"-DUNIT={k}", "-c", "-o", made, "kernel.c") for k, made in enumerate(objects, 1)]
    whole = (*call, "-shared", "-o", "kernel.out", *(objects or ["kernel.c"]), "-lm")
    return _run(source, compiler, [*parts, whole], timeout, memory_limit)


def compile_asm(
    source: str,
    compiler: Compiler,
    *,
    timeout: float | None = None,
    extra: tuple[str, ...] = (),
    memory_limit: int | None = MEMORY_LIMIT,
) -> str:
    """C text to assembly text, with the flags of `compile_shared` and its errors."""
    command = (compiler.path, *compiler.flags, *extra, "-S", "-o", "kernel.out", "kernel.c")
    return _run(source, compiler, [command], timeout, memory_limit).decode(errors="replace")


def patience(source: str) -> float:
    """Seconds after which a compiler counts as hanging: a minute, and for a long text several times what gcc takes."""
    return 60.0 + len(source) / _LETTERS_A_SECOND


def machine_identity() -> str:
    """What `-march=native` depends on: architecture, CPU model and feature flags of the first core."""
    wanted = ("model name", "cpu family", "model", "stepping", "flags", "Features", "CPU part", "CPU implementer")
    parts = [sys.platform, platform.machine()]
    try:
        with Path("/proc/cpuinfo").open("rb", buffering=0) as f:
            text = f.read(4096).decode(errors="replace")
    except OSError:
        return "\n".join([*parts, platform.processor()])
    for line in text.split("\n\n", 1)[0].splitlines():
        name, _, value = line.partition(":")
        if name.strip() in wanted:
            parts.append(f"{name.strip()}: {value.strip()}")
    return "\n".join(parts)


def _candidates(env: Mapping[str, str], path: str, tried: list[str]) -> list[_Candidate]:
    """Where each name leads; what leads nowhere goes to `tried`."""
    found: list[_Candidate] = []
    given = env.get("CC", "")
    try:
        named = [("$CC", shlex.split(given))] if given.strip() else [(n, [n]) for n in ("cc", "gcc", "clang")]
    except ValueError as error:
        tried.append(f"$CC = {given}: cannot be read: {error}")
        return found
    for label, words in named:
        where = shutil.which(words[0], path=path)
        if where is None:
            tried.append(f"{label}{f' = {given}' if label == '$CC' else ''}: not found on PATH")
        else:
            found.append(_Candidate(label, str(Path(where).absolute()), tuple(words[1:])))
    return found


def _environment(env: Mapping[str, str], path: str, candidate: _Candidate) -> tuple[tuple[str, str], ...]:
    kept = {name: env[name] for name in _PASSED_ON if env.get(name)}
    kept["PATH"] = path or str(Path(candidate.path).parent)
    return tuple(sorted({**kept, "LANG": "C", "LC_ALL": "C"}.items()))


def _flags(candidate: _Candidate, kind: Kind, native: bool) -> tuple[str, ...]:
    """No `-mprefer-vector-width=512`: streaming loops ran no faster with it on Zen 4 (gcc 12), stencils 12 % slower,
    and register tiles have explicit vector types, which it does not concern."""
    named_by_cpu = platform.machine().startswith(("aarch64", "arm", "ppc"))
    march = ("-mcpu=native",) if named_by_cpu else ("-march=native",)
    return (*candidate.arguments, *FLAGS, *OWN_FLAGS[kind], *(march if native else ()))


def _probed(
    candidate: _Candidate,
    run_env: tuple[tuple[str, str], ...],
    tried: list[str],
    timeout: float,
    cache_file: Path | None,
) -> Compiler | None:
    """Try the candidate on a small OpenMP program, tuned to this machine if it can be; failures go to `tried`."""
    try:
        version = _version(candidate, run_env, timeout)
        kind: Kind = "clang" if any(w in version for w in ("clang", "Intel")) else "gcc"
        for native in (True, False):
            compiler = Compiler(candidate.path, kind, version, _flags(candidate, kind, native), run_env)
            try:
                compile_shared(_PROBE, compiler, timeout=timeout)
            except ToolchainError as error:
                if native and error.code == "PH501":
                    continue
                raise
            _remember(candidate, compiler, native, cache_file)
            return compiler
    except ToolchainError as error:
        tried.append(f"{candidate.label}: {error.message}")
        tried.extend(f"  {d}" for d in error.details)
    return None


def _version(candidate: _Candidate, run_env: tuple[tuple[str, str], ...], timeout: float) -> str:
    with private_folder() as folder:
        command = (candidate.path, *candidate.arguments, "--version")
        execute([command], folder, dict(run_env), timeout, MEMORY_LIMIT)
        with (folder / "stdout").open("rb") as out:
            text = head(out)
    return text.splitlines()[0].strip() if text.strip() else "unknown"


def _probe_key(candidate: _Candidate, run_env: tuple[tuple[str, str], ...]) -> str:
    real = Path(candidate.path).resolve()
    at = real.stat()
    stamp = f"{real} {at.st_mtime_ns} {at.st_size}"
    return key_of(
        candidate.path, stamp, *candidate.arguments, repr(run_env), repr((FLAGS, OWN_FLAGS)), machine_identity()
    )


def _remembered(
    candidate: _Candidate, run_env: tuple[tuple[str, str], ...], cache_file: Path | None
) -> Compiler | None:
    """An earlier probe of exactly this executable on this machine.  The file chooses among our own flags, it cannot
    add any."""
    if cache_file is None:
        return None
    match (read_json(cache_file) or {}).get(_probe_key(candidate, run_env)):
        case {"schema": "polyhedral.compiler/1", "kind": str(kind), "version": str(version), "native": bool(native)}:
            known: Kind = "clang" if kind == "clang" else "gcc"
            return Compiler(candidate.path, known, version, _flags(candidate, known, native), run_env)
        case _:
            return None


def _remember(candidate: _Candidate, compiler: Compiler, native: bool, cache_file: Path | None) -> None:
    if cache_file is None:
        return
    known = read_json(cache_file) or {}
    record = {"schema": _SCHEMA, "kind": compiler.kind, "version": compiler.version, "native": native}
    kept = {k: v for k, v in list(known.items())[-15:]} | {_probe_key(candidate, compiler.env): record}
    with contextlib.suppress(OSError):
        cache_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(cache_file, json.dumps(kept, sort_keys=False).encode())


def _run(
    source: str,
    compiler: Compiler,
    commands: Sequence[Command],
    timeout: float | None,
    memory_limit: int | None,
) -> bytes:
    """What the last of these commands writes to kernel.out from kernel.c, and from what the others write at once."""
    limit = patience(source) if timeout is None else timeout
    end = time.monotonic() + limit
    env = dict(compiler.env)
    with private_folder() as folder:
        try:
            (folder / "kernel.c").write_text(source, encoding="utf-8")
        except OSError as error:
            raise cannot_write(error) from error
        if len(commands) > 1:
            execute(commands[:-1], folder, env, limit, memory_limit, cores())
            limit = max(end - time.monotonic(), 1.0)
        (said,) = execute(commands[-1:], folder, env, limit, memory_limit)
        try:
            return (folder / "kernel.out").read_bytes()
        except OSError as error:
            raise failure("PH501", "wrote no output", commands[-1], said) from error
