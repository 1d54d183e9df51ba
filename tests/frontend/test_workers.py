# SPDX-License-Identifier: MIT
"""`polyhedral tune --executor`: Dask and MPI as their packages offer them, stood in for here; and what is refused."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import polyhedral as ph
from frontend.commands import tune_target
from frontend.commands.cli import main
from frontend.environment.options import Options
from frontend.tuning import workers
from frontend.tuning.workers import Workers, asked
from frontend.usage import UsageError

PROGRAM = """
import polyhedral as ph
from polyhedral.dim import k

@ph.function(A="i k", B="k j", returns="i j")
def mm(A, B):
    return (A * B).sum(k)
"""
TUNE = ("tune", "programs_of_workers.py:mm", "-s", "i=60", "-s", "j=70", "-s", "k=50", "--budget", "10m",
        "--trials", "1", "--threads", "1")  # fmt: skip


class Pool(ThreadPoolExecutor):
    """An executor that remembers what it was asked."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(1)
        self.arguments, self.asked, self.stopped = arguments, [], False
        made.append(self)

    def submit(self, f: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(f.__name__)
        return super().submit(f, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.stopped = True
        super().shutdown(wait, cancel_futures=cancel_futures)


class Client:
    """What of distributed's client is used."""

    def __init__(self, address: str, timeout: float) -> None:
        if "nowhere" in address:
            raise OSError("timed out")
        self.address, self.closed = address, False
        clients.append(self)

    def get_executor(self) -> Executor:
        return Pool(self.address)

    def close(self) -> None:
        self.closed = True


made: list[Pool] = []
clients: list[Client] = []


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "programs_of_workers.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    dask, mpi, futures = ModuleType("distributed"), ModuleType("mpi4py"), ModuleType("mpi4py.futures")
    vars(dask)["Client"], vars(futures)["MPIPoolExecutor"] = Client, Pool
    for module in (dask, mpi, futures):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(workers, "find_spec", lambda _: True)
    made.clear()
    clients.clear()
    with ph.options(cache_dir=str(tmp_path / "cache")):
        yield tmp_path
    sys.modules.pop("programs_of_workers", None)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (("--executor", "dask://localhost:8786"), ("tcp://localhost:8786",)),
        (("--executor", "mpi"), (None,)),
        (("--executor", "mpi", "--jobs", "3"), (3,)),
    ],
)
def test_plans_are_compiled_there_and_measured_here(
    here: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], arguments: tuple[Any, ...]
):
    measured: list[str] = []

    def measure(runner: Any) -> float:
        measured.append(threading.current_thread().name)
        assert all(f.done() for f in waiting)
        return 1.0

    waiting: list[Any] = []
    submit = Pool.submit

    def watched(self: Pool, f: Any, /, *args: Any, **kwargs: Any) -> Any:
        waiting.append(submit(self, f, *args, **kwargs))
        return waiting[-1]

    monkeypatch.setattr(Pool, "submit", watched)
    monkeypatch.setattr(tune_target, "MEASURE", measure)
    assert main([*TUNE, *words]) == 0
    (pool,) = made
    assert pool.arguments == arguments
    assert pool.asked[0] == "nature"
    assert "compiled" in pool.asked[1:]
    assert set(measured) == {"MainThread"}
    assert pool.stopped
    assert all(c.closed for c in clients)


def test_workers_must_be_like_us(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    own = workers.nature(Options())
    for at, what in enumerate(("version", "processor", "machine model")):
        other = (*own[:at], "another", *own[at + 1 :])
        monkeypatch.setattr(workers, "nature", _answers(iter([other, own])))
        assert main([*TUNE, "--executor", "mpi"]) == 2
        assert f"workers have another {what}" in capsys.readouterr().err
    assert all(p.stopped and p.asked == ["answer"] for p in made)


def _answers(values: Iterator[Any]) -> Any:
    def answer(options: Options) -> Any:
        return next(values)

    return answer


def test_workers_that_cannot_answer(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def broken(options: Options) -> None:
        raise ModuleNotFoundError("No module named 'frontend'")

    monkeypatch.setattr(workers, "nature", broken)
    assert main([*TUNE, "--executor", "dask://localhost:8786"]) == 2
    assert "No module named 'frontend'" in capsys.readouterr().err
    assert clients[-1].closed
    monkeypatch.setattr(workers, "ANSWER", 0.05)
    gate = threading.Event()
    monkeypatch.setattr(workers, "nature", lambda options: gate.wait(20))
    assert main([*TUNE, "--executor", "dask://localhost:8786"]) == 2
    assert "no worker answered" in capsys.readouterr().err
    gate.set()
    assert main([*TUNE, "--executor", "dask://nowhere:8786"]) == 2
    assert "no Dask scheduler at tcp://nowhere:8786" in capsys.readouterr().err


def test_what_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "find_spec", lambda _: True)
    assert asked(None, None, 3) == Workers(3)
    assert asked("dask://[::1]:8786", None, 1) == Workers(1, "dask", "tcp://[::1]:8786")
    assert asked("mpi", None, 4) == Workers(4, "mpi")
    for wrong in (
        "dask://",
        "dask://host",
        "dask://host:port",
        "dask://a b:1",
        "dask://h:99999",
        "ray://h:1",
        "MPI",
        "",
    ):
        with pytest.raises(UsageError, match="executors are dask://HOST:PORT and mpi"):
            asked(wrong, None, 1)
    with pytest.raises(UsageError, match="leave --jobs out"):
        asked("dask://host:8786", None, 2)
    with pytest.raises(UsageError, match="--executor dask://HOST:8786"):
        asked(None, "a,b", 1)


@pytest.mark.parametrize(
    ("executor", "package", "extra"), [("mpi", "mpi4py", "mpi"), ("dask://h:1", "distributed", "dask")]
)
def test_packages_that_are_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, executor: str, package: str, extra: str
):
    monkeypatch.setattr(workers, "find_spec", lambda _: None)
    assert main([*TUNE, "--executor", executor]) == 2
    said = capsys.readouterr().err
    assert f"needs {package}: pip install 'polyhedral-loops[{extra}]'" in said
