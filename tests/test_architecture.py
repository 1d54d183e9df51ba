# SPDX-License-Identifier: MIT
"""The direction of imports, who may touch isl, cgen and the environment, sizes of files, and how each file opens.

The layers are written in pyproject.toml for import-linter; what it cannot say is checked here on the syntax trees.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import polyhedral as ph

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("polyhedral", "frontend", "codegen")

ISL = {
    "polyhedral/sets/isl.py",
    "polyhedral/sets/isl_schedule.py",
    "polyhedral/sets/dependences.py",
    "codegen/lower.py",
}
"""Positions, alignment and callbacks stay here; everyone else speaks names."""
_PRINTING = "blocks c crossed device kernels unplanned partials reads registers staging strips teams tiles writes"
CGEN = {f"codegen/{name}.py" for name in _PRINTING.split()}
ENVIRONMENT = {
    "frontend/environment/session.py",
    *(f"frontend/commands/{name}.py" for name in ("cli", "failures", "bench_options")),
}
OPTIONAL = {"torch", "jax", "xarray", "matplotlib", "pycuda", "pyopencl", "graphviz", "ml_dtypes"}
"""Packages that may be imported inside a function, because most users do without them."""
LINES = 600
MACHINE_PATHS = re.compile(r"(?:/home|/root|/Users|/mnt|/work)/[A-Za-z]\w*|[A-Z]:\\\\Users")


def sources(*folders: str) -> list[Path]:
    return sorted(f for folder in folders for f in (ROOT / folder).rglob("*.py"))


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imported(node: ast.AST) -> Iterator[str]:
    """Names that an import statement brings in, as far as they may be modules."""
    match node:
        case ast.Import(names):
            yield from (a.name for a in names)
        case ast.ImportFrom(module, names) if module:
            yield module
            yield from (f"{module}.{a.name}" for a in names)


def graph() -> dict[str, set[str]]:
    """Who imports whom, module by module."""
    files = {module_of(f): f for f in sources(*PACKAGES)}
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        below = {i for node in ast.walk(ast.parse(file.read_text())) for i in imported(node)}
        found[name] = (
            (below & files.keys()) - {name} - {".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)}
        )
    return found


def test_layers_hold():
    run = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_no_import_cycles():
    left = graph()
    while True:
        free = [m for m, below in left.items() if not below & left.keys()]
        if not free:
            break
        for m in free:
            del left[m]
    assert not left, f"these import each other: {', '.join(sorted(left))}"


@pytest.mark.parametrize("file", sources(*PACKAGES), ids=relative)
def test_imports_are_at_the_top(file: Path):
    for outer in ast.walk(ast.parse(file.read_text())):
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(outer):
                for name in imported(node):
                    assert name.partition(".")[0] in OPTIONAL, (
                        f"{relative(file)}:{node.lineno} imports {name} inside {outer.name}"
                    )


def test_the_face_looks_up_only_what_exists():
    """`polyhedral.__getattr__` is the one import that no tool sees; it names modules of this project."""
    for name in ph.__all__:
        assert getattr(ph, name) is not None


@pytest.mark.parametrize(("package", "allowed"), [("islpy", ISL), ("cgen", CGEN)])
def test_who_touches_what(package: str, allowed: set[str]):
    users = {
        relative(f)
        for f in sources(*PACKAGES)
        if any(i.partition(".")[0] == package for node in ast.walk(ast.parse(f.read_text())) for i in imported(node))
    }
    assert users <= allowed, f"{package} is imported by {', '.join(sorted(users - allowed))}"


def test_who_reads_the_environment():
    for file in sources(*PACKAGES):
        reads = [
            n.lineno
            for n in ast.walk(ast.parse(file.read_text()))
            if (isinstance(n, ast.Attribute) and n.attr in ("environ", "getenv", "environb", "putenv"))
            or (isinstance(n, ast.Name) and n.id in ("environ", "getenv"))
        ]
        assert not reads or relative(file) in ENVIRONMENT, f"{relative(file)}:{reads[0]} reads the environment"


@pytest.mark.parametrize("file", sources(*PACKAGES, "benchmarks", "tests"), ids=relative)
def test_how_a_file_opens(file: Path):
    text = file.read_text()
    assert text.startswith("# SPDX-License-Identifier: MIT\n")
    assert ast.get_docstring(ast.parse(text)), "what for, and what it leaves to others"
    assert text.count("\n") <= LINES
    assert not re.search(r"\bassert False\b|\bprint\(f?['\"]DEBUG", text)


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a checkout")
def test_the_project_names_no_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        file = ROOT / name
        if not file.is_file() or file == Path(__file__):
            continue
        text = file.read_text(errors="replace")
        found = MACHINE_PATHS.search(text)
        assert found is None, f"{name} names {found[0]}" if found else ""
