# SPDX-License-Identifier: MIT
"""The C compiler found, driven, and failing in every way that a compiler can fail.

What a library does once it is loaded is tested in test_native.
"""

import ctypes
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from codegen.runtime import cc
from codegen.runtime.cc import Compiler, compile_asm, compile_shared, find_compiler, patience
from polyhedral.errors import ToolchainError

SOURCE = "#include <math.h>\nint f(double *x) { return x[0] > sqrt(x[1]); }\n"


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return find_compiler(os.environ)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private folders are made during this test."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def script(tmp_path: Path, body: str, name: str = "fakecc") -> str:
    path = tmp_path / name
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(body)}")
    path.chmod(0o700)
    return str(path)


def fake(tmp_path: Path, body: str) -> Compiler:
    return Compiler(script(tmp_path, body), "gcc", "fake 1", (), (("PATH", os.environ["PATH"]),))


def group_is_gone(pid: int) -> bool:
    """Whether no process of the group is left, zombies aside, soon."""
    for _ in range(200):
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return True
        states = subprocess.run(["ps", "-o", "stat=", "-g", str(pid)], capture_output=True, text=True, check=False)
        if states.stdout.strip() and all(s.strip().startswith("Z") for s in states.stdout.splitlines()):
            return True
        time.sleep(0.05)
    return False


def test_finds_a_compiler_that_links_openmp(compiler: Compiler):
    assert Path(compiler.path).is_absolute()
    assert compiler.version
    assert "-fopenmp" in compiler.flags
    assert not any("fast-math" in f for f in compiler.flags)


def test_each_kind_gets_its_own_flags_alone(tmp_path: Path, compiler: Compiler):
    """clang refuses an option of gcc's optimiser, gcc needs it."""
    body = f"""
        case "$*" in
          *--version*) echo "clang version 1"; exit 0;;
          *predictive-commoning*) echo "unknown argument" >&2; exit 1;;
        esac
        exec {shlex.quote(compiler.path)} "$@"
        """
    memory = tmp_path / "compilers.json"
    for _ in ("probed", "remembered"):
        found = find_compiler({**os.environ, "CC": script(tmp_path, body)}, memory)
        assert found.kind == "clang"
        assert compile_shared(SOURCE, found)[:4] == b"\x7fELF"


def test_the_environment_of_the_compiler_is_minimal():
    found = find_compiler({**os.environ, "SECRET": "1", "LANG": "de_DE", "GCC_EXEC_PREFIX_": "x"})
    assert {n for n, _ in found.env} <= {"PATH", "HOME", "LD_LIBRARY_PATH", "SDKROOT", "LANG", "LC_ALL"}
    assert dict(found.env)["LC_ALL"] == "C"


def test_makes_a_library_and_assembly(compiler: Compiler, scratch: Path):
    assert compile_shared(SOURCE, compiler)[:4] == b"\x7fELF"
    assert ".globl\tf" in compile_asm(SOURCE, compiler)
    assert list(scratch.iterdir()) == []


def test_the_same_source_gives_the_same_bytes(compiler: Compiler):
    assert compile_shared(SOURCE, compiler) == compile_shared(SOURCE, compiler)


def test_nothing_is_contracted_unless_asked(compiler: Compiler):
    fused = "double f(double a, double b, double c) { return a * b + c; }"
    assert "fma" not in compile_asm(fused, compiler)


def test_no_compiler_on_path(tmp_path: Path):
    for path in ("", str(tmp_path)):
        with pytest.raises(ToolchainError, match=r"tried: \$CC, cc, gcc, clang") as caught:
            find_compiler({"PATH": path})
        assert caught.value.code == "PH500"
        assert 'run "polyhedral doctor"' in caught.value.hints
        assert len(caught.value.details) == 3


def test_a_relative_path_entry_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    script(tmp_path, "echo hello", "cc")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ToolchainError) as caught:
        find_compiler({"PATH": "."})
    assert caught.value.code == "PH500"


@pytest.mark.parametrize(
    ("body", "said"),
    [("echo broken >&2; exit 1", "stderr: broken"), ("kill -9 $$", "SIGKILL"), ("sleep 60", "stopped after 0.3")],
)
def test_an_unusable_cc_is_named_with_its_reason(tmp_path: Path, body: str, said: str):
    """$CC is obeyed: another compiler is not taken silently in its place."""
    with pytest.raises(ToolchainError) as caught:
        find_compiler({**os.environ, "CC": script(tmp_path, body)}, timeout=0.3)
    assert caught.value.code == "PH500"
    assert said in str(caught.value)
    assert "fakecc" in str(caught.value)


def test_cc_missing_or_unreadable():
    for given in ("no-such-compiler -O9", "gcc 'unclosed"):
        with pytest.raises(ToolchainError) as caught:
            find_compiler({**os.environ, "CC": given})
        assert caught.value.code == "PH500"
        assert given in str(caught.value)


def test_cc_may_carry_arguments(compiler: Compiler):
    found = find_compiler({**os.environ, "CC": f"{shlex.quote(compiler.path)} -DSOME_FLAG=1"})
    assert found.flags[0] == "-DSOME_FLAG=1"
    assert compile_shared("#ifndef SOME_FLAG\n#error no\n#endif\nint x;", found)


def test_the_probe_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    memory = tmp_path / "folder" / "compilers.json"
    first = find_compiler(os.environ, memory)
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    monkeypatch.setattr(subprocess, "Popen", None)  # a second probe would fail
    assert find_compiler(os.environ, memory) == first


def test_a_changed_compiler_is_probed_again(tmp_path: Path, compiler: Compiler):
    memory = tmp_path / "compilers.json"
    env = {**os.environ, "CC": script(tmp_path, f'exec {compiler.path} "$@"')}
    find_compiler(env, memory)
    script(tmp_path, "exit 1 # changed")
    with pytest.raises(ToolchainError):
        find_compiler(env, memory)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', "[" * 100_000])
def test_a_damaged_memory_is_ignored(tmp_path: Path, content: str):
    memory = tmp_path / "compilers.json"
    memory.write_text(content)
    memory.chmod(0o600)
    assert find_compiler(os.environ, memory) == find_compiler(os.environ)


def test_the_memory_can_neither_add_flags_nor_be_foreign(tmp_path: Path, compiler: Compiler):
    memory = tmp_path / "compilers.json"
    find_compiler(os.environ, memory)
    known = json.loads(memory.read_text())
    for record in known.values():
        record["flags"] = ["-fplugin=evil.so"]
        record["version"] = "planted"
    memory.write_text(json.dumps(known))
    assert find_compiler(os.environ, memory) == replace(compiler, version="planted")
    memory.chmod(0o666)
    assert find_compiler(os.environ, memory) == compiler


def test_an_error_in_the_source(compiler: Compiler, scratch: Path):
    with pytest.raises(ToolchainError, match="exit code 1") as caught:
        compile_shared("int f( {\n", compiler)
    assert caught.value.code == "PH501"
    assert any("kernel.c:1" in d for d in caught.value.details)
    assert caught.value.details[0].startswith("command: " + compiler.path)
    assert list(scratch.iterdir()) == []


def test_long_complaints_are_cut(tmp_path: Path):
    with pytest.raises(ToolchainError) as caught:
        compile_shared(SOURCE, fake(tmp_path, "seq 1 1000 >&2; exit 3"))
    assert len(caught.value.details) < 12
    assert "exit code 3" in caught.value.message


def test_a_compiler_that_writes_nothing(tmp_path: Path):
    with pytest.raises(ToolchainError, match="wrote no output") as caught:
        compile_shared(SOURCE, fake(tmp_path, "exit 0"))
    assert caught.value.code == "PH501"


def test_a_compiler_that_vanished(tmp_path: Path):
    gone = Compiler(str(tmp_path / "gone"), "gcc", "1", (), ())
    with pytest.raises(ToolchainError, match="cannot be started") as caught:
        compile_shared(SOURCE, gone)
    assert caught.value.code == "PH501"


def test_a_hanging_compiler_dies_with_its_children(tmp_path: Path, scratch: Path):
    """The children ignore SIGTERM, as a stuck cc1 may."""
    pids = tmp_path / "pid"
    body = f"trap '' TERM\necho $$ > {pids}\nsleep 300 & sleep 300 & wait"
    begin = time.monotonic()
    with pytest.raises(ToolchainError, match=r"stopped after 0\.5 seconds") as caught:
        compile_shared(SOURCE, fake(tmp_path, body), timeout=0.5)
    assert time.monotonic() - begin < 20
    assert caught.value.code == "PH502"
    assert group_is_gone(int(pids.read_text()))
    assert list(scratch.iterdir()) == []


UNITS = "#if UNIT == 1\nint g(void);\nint f(void) { return g(); }\n#elif UNIT == 2\nint g(void) { return 7; }\n#endif\n"


def test_units_are_compiled_apart_and_linked(compiler: Compiler, scratch: Path):
    path = scratch / "linked.so"
    path.write_bytes(compile_shared(UNITS, compiler, units=2))
    assert ctypes.CDLL(str(path)).f() == 7
    path.unlink()
    assert list(scratch.iterdir()) == []


def test_units_are_compiled_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Three compilers of which each waits for the others."""
    monkeypatch.setattr(cc, "cores", lambda: 3)
    meet = f"""
        case "$*" in
          *-shared*) exec echo linked > kernel.out;;
        esac
        touch {tmp_path}/$$
        while [ $(ls {tmp_path} | grep -c '^[0-9]*$') -lt 3 ]; do sleep 0.02; done
        """
    assert compile_shared(SOURCE, fake(tmp_path, meet), units=3, timeout=30) == b"linked\n"


def test_an_error_in_a_unit_ends_the_others(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cc, "cores", lambda: 2)
    pids = tmp_path / "pid"
    body = f"""
        case "$*" in
          *UNIT=2*) while [ ! -s {pids} ]; do sleep 0.02; done; echo 'kernel.c:3: error: no' >&2; exit 1;;
        esac
        echo $$ > {pids}
        sleep 300 & wait
        """
    with pytest.raises(ToolchainError, match="exit code 1") as caught:
        compile_shared(SOURCE, fake(tmp_path, body), units=2)
    assert "-DUNIT=2" in caught.value.details[0]
    assert "kernel.c:3" in caught.value.details[1]
    assert group_is_gone(int(pids.read_text()))
    assert list(scratch.iterdir()) == []


def test_a_long_text_may_take_longer():
    """The gradient of a network with routing, 570 kB, takes gcc 22 seconds on a fast machine."""
    assert patience(SOURCE) < 61
    assert patience(" " * 570_000) > 10 * 22


@pytest.mark.parametrize(
    "body", ["kill -SEGV $$", "echo 'gcc: fatal error: Killed signal terminated program cc1' >&2; exit 1", "exit 137"]
)
def test_a_compiler_killed_by_a_signal(tmp_path: Path, body: str):
    with pytest.raises(ToolchainError, match="killed") as caught:
        compile_shared(SOURCE, fake(tmp_path, body))
    assert caught.value.code == "PH503"


def test_a_compiler_that_finds_the_disk_full(tmp_path: Path):
    with pytest.raises(ToolchainError, match="nowhere to write") as caught:
        compile_shared(SOURCE, fake(tmp_path, "echo 'as: /tmp/x.o: No space left on device' >&2; exit 1"))
    assert caught.value.code == "PH504"


def test_no_folder_for_the_source(compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ToolchainError, match="cannot write") as caught:
        compile_shared(SOURCE, compiler)
    assert caught.value.code == "PH504"


def test_a_file_size_limit_in_a_real_run(compiler: Compiler, tmp_path: Path):
    """RLIMIT_FSIZE stands in for a full disk: the assembler dies while it writes."""
    code = f"""
import resource, sys
from codegen.runtime.cc import Compiler, compile_shared
from polyhedral.errors import ToolchainError
compiler = Compiler({compiler.path!r}, "gcc", "", ("-O0",), {compiler.env!r})
source = "long table[4096] = {{1}};" + "".join(f"int f{{i}}(int x) {{{{ return x + {{i}}; }}}}" for i in range(99))
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    compile_shared(source, compiler)
except ToolchainError as error:
    print(error.code)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(cc.__file__).parents[2]), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, timeout=60)
    assert done.stdout.strip() == "PH504"
    assert list(tmp_path.iterdir()) == []


def test_memory_is_limited(tmp_path: Path):
    hungry = fake(tmp_path, f"sleep 0.5\nexec {sys.executable} -c 'bytearray(1 << 30)'")
    with pytest.raises(ToolchainError) as caught:
        compile_shared(SOURCE, hungry, memory_limit=1 << 28)
    assert caught.value.code in {"PH501", "PH503"}


@pytest.mark.parametrize("units", [1, 2])
def test_interruption_is_raised_again_and_leaves_nothing(tmp_path: Path, units: int):
    """Ctrl-C while the compiler runs: KeyboardInterrupt arrives, and its processes are gone."""
    pids = tmp_path / "pid"
    slow = fake(tmp_path, f"echo $$ > {pids}.new; mv {pids}.new {pids}\nsleep 300 & wait")
    code = f"""
import signal
from codegen.runtime.cc import Compiler, compile_shared
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what runs in the background without it
try:
    compile_shared("", Compiler({slow.path!r}, "gcc", "", (), {slow.env!r}), units={units})
except KeyboardInterrupt:
    print("interrupted")
"""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = {**os.environ, "PYTHONPATH": str(Path(cc.__file__).parents[2]), "TMPDIR": str(scratch)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env) as child:
        for _ in range(600):
            if pids.exists():
                break
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=30)
    assert out.strip() == "interrupted"
    assert group_is_gone(int(pids.read_text()))
    assert list(scratch.iterdir()) == []
