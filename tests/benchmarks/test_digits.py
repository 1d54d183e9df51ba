# SPDX-License-Identifier: MIT
"""Training on a handful of drawn images: the loss falls, and a run that was interrupted ends with the same weights.

How good the network gets on real digits is for `python -m benchmarks.digits` to say.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import polyhedral as ph
from benchmarks import digits as command
from benchmarks.digits import Digits, Settings, Training, main, trained
from benchmarks.digits_network import adam, programs
from benchmarks.digits_state import State, beginning, load, save
from frontend.commands.failures import INTERRUPTED, USAGE
from frontend.commands.progress import Progress

SETTINGS = Settings(
    epochs=20, batch=8, rate=0.05, seed=3, images=24, channels=4, primary=2, capsules=4, iterations=1
)  # fmt: skip


class Interrupting(Progress):
    """Ctrl-C after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def at(self, fraction: float) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def plain():
    """Steps are too short to share out or to plan."""
    with ph.options(threads=1, plan_above=-1):
        yield


@pytest.fixture(scope="module")
def training() -> Training:
    """Ten patterns, with noise."""
    rng = np.random.default_rng(0)
    T = np.arange(24) % 10
    X = (rng.random((10, 1, 8, 8))[T] + 0.1 * rng.random((24, 1, 8, 8))).astype(np.float32)
    return Training(SETTINGS, Digits(X, T, X, T), programs(SETTINGS.network))


@pytest.fixture
def start() -> State:
    """Classes that begin at 1/2 need fewer steps."""
    weights = SETTINGS.network.drawn(np.random.default_rng(SETTINGS.seed))
    SETTINGS.network.named(weights)["ba3"][...] = 0
    return beginning(weights)


def test_the_loss_falls(training: Training, start: State, tmp_path: Path):
    end, finished = trained(training, start, tmp_path / "c.npz", Progress())
    assert finished
    assert end.step == 60
    assert len(end.accuracies) == 20
    data, margin = training.data, np.float32(0.2)
    before, after = (
        float(np.asarray(training.made.gradient(data.X[:8], data.T[:8], margin, **SETTINGS.network.named(w))[0]))
        for w in (start.weights, end.weights)
    )
    assert after < 0.8 * before
    same(load(tmp_path / "c.npz", asdict(SETTINGS)), end)


@pytest.mark.parametrize("steps", [1, 31])
def test_an_interrupted_run_ends_with_the_same_weights(training: Training, start: State, tmp_path: Path, steps: int):
    file = tmp_path / "c.npz"
    *_, straight = training.states(start)
    stopped, finished = trained(training, start, file, Interrupting(steps))
    assert not finished
    assert stopped.step == steps
    assert [f.name for f in tmp_path.iterdir()] == ["c.npz"]
    resumed, finished = trained(training, load(file, asdict(SETTINGS)), file, Progress())
    assert finished
    same(resumed, straight)


def same(one: State, other: State) -> None:
    for name, held in vars(one).items():
        np.testing.assert_array_equal(held, getattr(other, name), err_msg=name)


def test_steps_of_adam():
    rng = np.random.default_rng(0)
    W, (M, V) = rng.standard_normal(50), np.zeros((2, 50))
    want, m, v = W.copy(), 0.0, 0.0
    for t in (1, 2, 3):
        G = rng.standard_normal(50)
        W, M, V = (np.asarray(a) for a in adam(W, G, M, V, np.float64(0.1), np.float64(t)))
        m, v = 0.9 * m + 0.1 * G, 0.999 * v + 0.001 * G**2
        want -= 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(W, want, rtol=1e-12)


# --- the command -----------------------------------------------------------------------------------------------------


def test_ctrl_c_leaves_a_checkpoint(training: Training, tmp_path: Path, monkeypatch, capsys):
    def interrupted(self: Training) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "digits", lambda settings: training.data)
    monkeypatch.setattr(Training, "compiled", interrupted)
    file = tmp_path / "c.npz"
    given = ["--threads", "1", "--progress", "none", "--checkpoint", str(file), "--seed", "5"]
    assert main(given) == INTERRUPTED
    assert "--resume goes on" in capsys.readouterr().err
    assert load(file, asdict(Settings(seed=5))).step == 0
    assert main(given) == USAGE
    assert "exists: --resume" in capsys.readouterr().err
    assert main([*given, "--resume"]) == INTERRUPTED


def test_without_scikit_learn(monkeypatch, capsys, tmp_path: Path):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["--checkpoint", str(tmp_path / "c.npz")]) == USAGE
    assert "pip install 'polyhedral-loops[examples]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_checkpoints_that_do_not_fit(start: State, tmp_path: Path):
    file, mine = tmp_path / "c.npz", asdict(SETTINGS)
    with pytest.raises(command.UsageError, match="cannot read"):
        load(file, mine)
    save(file, start, mine)
    with pytest.raises(command.UsageError, match=r"begun with --rate 0\.05;"):
        load(file, asdict(replace(SETTINGS, rate=0.01)))
    whole = file.read_bytes()
    np.savez(tmp_path / "other.npz", a=1)
    for content in (b"", whole[: len(whole) // 2], b"text", (tmp_path / "other.npz").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(command.UsageError, match="is no checkpoint"):
            load(file, mine)
    with pytest.raises(command.UsageError, match="cannot write"):
        save(tmp_path / "missing" / "c.npz", start, mine)


@pytest.mark.parametrize(("given", "said"), [("--batch 0", "more than 0"), ("--batch 40 --images 30", "30 images")])
def test_numbers_that_cannot_be(given: str, said: str, capsys):
    assert main(given.split()) == USAGE
    assert said in capsys.readouterr().err
