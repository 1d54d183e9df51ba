# SPDX-License-Identifier: MIT
"""The README is true: its Python runs, what it shows is what the program prints, its commands and files exist.

`python tests/test_readme.py` rewrites the blocks that show output.  A block shown "on" some vectors and
caches is compared only there, because plans depend on them.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from polyhedral.machine.target import host

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
_BLOCK = re.compile(
    r"(?:<!-- shows(?: on (?P<machine>[\w ]+))?: (?P<shows>.*?) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)```\n", re.DOTALL
)
_WIDTH, _HEIGHT = 130, 22


def core(source: str) -> str:
    """The last loop nest of a kernel, long lines and long runs of like lines shortened."""
    lines = source.split("\n")
    start = max(at for at, line in enumerate(lines) if "#pragma omp for" in line)
    end = next(at for at in range(start, len(lines)) if lines[at].startswith("}"))

    def like(line: str) -> str:
        return re.sub(r"\d+", "#", line)[:40]

    kept: list[str] = []
    for _, run in groupby(lines[start:end], like):
        these = list(run)
        kept += [line if len(line) <= _WIDTH else line[:_WIDTH] + " ..." for line in these[:2]]
        if len(these) > 2:
            indent = these[0][: len(these[0]) - len(these[0].lstrip())]
            kept.append(f"{indent}... {len(these) - 2} more like these")
    if len(kept) > _HEIGHT:
        kept = [*kept[:_HEIGHT], "  ..."]
    return "\n".join(line.removeprefix("  ") for line in kept)


def without_places(message: str) -> str:
    """A diagnostic without file names and line numbers."""
    return re.sub(r"^  \S+:\d+  +", "  ", message, flags=re.MULTILINE)


def machine() -> str:
    """What plans depend on: vectors, what a cycle does with them, and caches."""
    target = host(1)
    rates = (f"{rate:g}" for rate in (target.fma_per_cycle, target.loads_per_cycle))
    return " ".join((target.name, *rates, *(f"{size >> 10}K" for size in (target.l1, target.l2, target.l3))))


def walk(text: str, *, check: bool) -> str:
    """Run the Python blocks in order in one namespace; give the text with shown output filled in, or compare it."""
    space: dict[str, Any] = {"__name__": "readme", "core": core, "without_places": without_places}
    number = 0

    def visit(m: re.Match[str]) -> str:
        nonlocal number
        if m["kind"] == "python":
            number += 1
            file = f"README.md, block {number}"
            exec(compile(m["text"], file, "exec"), space)
        if not m["shows"] or (m["machine"] and machine() != m["machine"]):
            return m[0]
        made = eval(m["shows"], space).rstrip("\n") + "\n"
        if check:
            assert m["text"] == made, f"{m['shows']} prints something else now; run python tests/test_readme.py"
        return m[0].replace(f"```{m['kind']}\n{m['text']}```", f"```{m['kind']}\n{made}```")

    return _BLOCK.sub(visit, text)


def blocks(kind: str) -> list[str]:
    return [m["text"] for m in _BLOCK.finditer(README.read_text()) if m["kind"] == kind]


def test_python_runs_and_prints_what_is_shown():
    walk(README.read_text(), check=True)


def test_named_files_exist():
    for row in re.findall(r"^\| (`.*?`) \|", README.read_text(), re.MULTILINE):
        folder = ""
        for name in re.findall(r"`([^`]+)`", row):
            path = name if (ROOT / name).exists() else f"{folder}/{name}"
            folder = path.rpartition("/")[0]
            assert (ROOT / path).exists(), path


def test_the_two_lines_are_complete_and_are_what_ci_runs():
    main, tests = (block.strip() for block in blocks("sh"))
    for line in (main, tests):
        assert "\n" not in line
        assert "python3 -m venv .venv" in line
        assert "pip install" in line
    assert main.endswith("python -m benchmarks.capsule")
    assert tests.endswith("python -m pytest -n auto --dist worksteal")
    assert next(line for line in README.read_text().splitlines() if "-m pytest" in line) == tests
    assert "grep -m1 -e '-m pytest' README.md" in (ROOT / ".ci" / "run").read_text()


def commands() -> list[str]:
    return [
        line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")
    ]


@pytest.mark.parametrize("command", commands())
def test_commands_answer(command: str, tmp_path: Path):
    program, name, *rest = shlex.split(command)
    assert program == "polyhedral"
    (tmp_path / "capsule.py").write_text(blocks("python")[0])
    run = "import sys; from frontend.commands.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", run, name, *rest], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


if __name__ == "__main__":
    README.write_text(walk(README.read_text(), check=False))
