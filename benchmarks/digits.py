# SPDX-License-Identifier: MIT
"""`python -m benchmarks.digits`: train a small EM capsule network on scikit-learn's 8x8 digits, and see how good it is.

Ctrl-C leaves a checkpoint, `--resume` goes on with it to the same weights.  The network is in `digits_network`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from importlib.util import find_spec
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np

import polyhedral as ph
from benchmarks.digits_network import Network, Programs, programs
from benchmarks.digits_state import State, beginning, load, save
from frontend.commands.failures import INTERRUPTED, OK, USAGE
from frontend.commands.progress import Progress, progress
from frontend.measuring import charts
from frontend.usage import UsageError

HELD_OUT = 360
"""Of 1797 images."""
MARGIN = 0.2, 0.9
"""Of the loss: it grows in the first half of training."""


def _option(default: int | float, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """What decides the weights that come out, along with the number of threads."""

    epochs: int = _option(20, "how often every image is seen")
    batch: int = _option(32, "images of a step")
    rate: float = _option(3e-3, "of Adam at first; it falls along a cosine")
    seed: int = _option(0, "of the split, the first weights and the order of images")
    images: int = _option(1437, "how many to train on")
    channels: int = _option(32, "of the convolution")
    primary: int = _option(8, "capsule types of the first layer")
    capsules: int = _option(8, "capsule types of the second layer")
    iterations: int = _option(2, "of routing")

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name != "seed" and not getattr(self, f.name) > 0:
                raise UsageError(f"--{f.name} {getattr(self, f.name)}: it must be more than 0")
        if self.batch > self.images:
            raise UsageError(f"--batch {self.batch}: there are {self.images} images")

    @property
    def network(self) -> Network:
        return Network(self.channels, self.primary, self.capsules, iterations=self.iterations)

    @property
    def steps(self) -> int:
        """Of an epoch; images that do not fill a batch wait for another epoch."""
        return self.images // self.batch


@dataclass(frozen=True)
class Digits:
    """Images `[n, 1, 8, 8]` between 0 and 1 and their classes, to train on; others held out, and their classes."""

    X: np.ndarray
    T: np.ndarray
    held_out: np.ndarray
    answers: np.ndarray


def digits(settings: Settings) -> Digits:
    """A split with the same share of each class on both sides.  UsageError without scikit-learn."""
    if find_spec("sklearn") is None:
        raise UsageError("the digits are scikit-learn's: pip install 'polyhedral-loops[examples]'")
    every = import_module("sklearn.datasets").load_digits()
    split = import_module("sklearn.model_selection").train_test_split
    images = (every.images / 16).astype(np.float32)[:, None]
    X, held_out, T, answers = split(
        images, every.target, test_size=HELD_OUT, stratify=every.target, random_state=settings.seed
    )
    return Digits(X[: settings.images], T[: settings.images], held_out, answers)


def logistic_regression(data: Digits) -> float:
    """Held-out accuracy of scikit-learn's on the same split."""
    flat, held = (images.reshape(len(images), -1) for images in (data.X, data.held_out))
    model = import_module("sklearn.linear_model").LogisticRegression(max_iter=5000)
    return float(model.fit(flat, data.T).score(held, data.answers))


@dataclass(frozen=True)
class Training:
    """Programs and data of a run: from one state to the next."""

    settings: Settings
    data: Digits
    made: Programs

    def states(self, state: State) -> Iterator[State]:
        """Every state after this one, to the last epoch."""
        s = self.settings
        while state.step < s.epochs * s.steps:
            epoch, at = divmod(state.step, s.steps)
            order = np.random.default_rng((s.seed, epoch)).permutation(len(self.data.X))
            for start in range(at * s.batch, s.steps * s.batch, s.batch):
                state = self.after(state, order[start : start + s.batch])
                if state.step % s.steps == 0:
                    state = self.judged(state)
                yield state

    def after(self, state: State, chosen: np.ndarray) -> State:
        """One step of Adam down the gradient of the mean loss of some images."""
        s, named = self.settings, self.settings.network.named(state.weights)
        done = state.step / (s.epochs * s.steps)
        margin = np.float32(min(MARGIN[1], MARGIN[0] + 2 * done * (MARGIN[1] - MARGIN[0])))
        rate = s.rate * (1 + cos(pi * done)) / 2
        loss, gradient = self.made.gradient(self.data.X[chosen], self.data.T[chosen], margin, **named)
        down = np.concatenate([np.asarray(d).ravel() for d in gradient])
        moved = self.made.adam(
            state.weights, down, state.first, state.second, np.float64(rate), np.float64(state.step + 1)
        )
        weights, first, second = map(np.asarray, moved)
        return State(weights, first, second, np.append(state.losses, np.asarray(loss)), state.accuracies)

    def judged(self, state: State) -> State:
        """The same with one more held-out accuracy."""
        seen = self.made.predicted(self.data.held_out, **self.settings.network.named(state.weights))
        right = float((np.asarray(seen) == self.data.answers).mean())
        return State(state.weights, state.first, state.second, state.losses, np.append(state.accuracies, right))

    def compiled(self) -> float:
        """Seconds until the first step and the first judgement are done, on weights that are thrown away."""
        begin = time.perf_counter()
        first = beginning(self.settings.network.drawn(np.random.default_rng(self.settings.seed)))
        self.judged(self.after(first, np.arange(self.settings.batch)))
        return time.perf_counter() - begin


def trained(training: Training, begun: State, checkpoint: Path, bar: Progress) -> tuple[State, bool]:
    """The last state, and whether it is the end: an interruption leaves a checkpoint of what is done."""
    state = begun
    settings, per = asdict(training.settings), training.settings.steps
    last = training.settings.epochs * per
    if state.step == last:
        return state, True
    try:
        bar.begin("compile")
        seconds = training.compiled()
        print(f"compiled in {seconds:.1f} s", file=sys.stderr)
        bar.begin(f"epoch {state.step // per + 1}")
        for state in training.states(begun):
            bar.at(state.step % per / per)
            if state.step % per == 0:
                save(checkpoint, state, settings)
                if state.step < last:
                    bar.begin(
                        f"epoch {state.step // per + 1}: loss {state.losses[-per:].mean():.4f}, "
                        f"held-out accuracy {state.accuracies[-1]:.1%}"
                    )
    except KeyboardInterrupt:
        save(checkpoint, state, settings)
        return state, False
    return state, True


def curve(state: State, settings: Settings) -> Any:
    """The loss of every step and the held-out accuracy of every epoch."""
    figure = import_module("matplotlib.figure").Figure(figsize=(7.0, 4.0))
    ax = figure.add_subplot()
    ax.plot(np.arange(1, state.step + 1) / settings.steps, state.losses, color="0.6", linewidth=0.8)
    ax.set(xlabel="epoch", ylabel="spread loss (its margin grows)", yscale="log")
    beside = ax.twinx()
    beside.plot(np.arange(1, len(state.accuracies) + 1), 100 * state.accuracies, "o-", markersize=3)
    beside.set(ylabel="held-out accuracy, percent")
    return ax


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        settings = Settings(**{f.name: getattr(args, f.name) for f in fields(Settings)})
        if args.plot:
            charts.ready(args.plot)
        data = digits(settings)
        state = _begun(args, settings)
        training = Training(settings, data, programs(settings.network))
        with ph.options(threads=args.threads), progress(settings.epochs + 1, args.progress) as bar:
            state, finished = trained(training, state, args.checkpoint, bar)
        if not finished:
            print(f"interrupted after {state.step} steps; --resume goes on from {args.checkpoint}", file=sys.stderr)
            return INTERRUPTED
        if args.plot:
            charts.save(curve(state, settings), args.plot)
    except UsageError as error:
        print(f"usage: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    print(f"loss of the last epoch        {state.losses[-settings.steps :].mean():.4f}")
    print(f"held-out accuracy             {state.accuracies[-1]:.1%}")
    print(f"of a logistic regression      {logistic_regression(data):.1%}")
    return OK


def _begun(args: argparse.Namespace, settings: Settings) -> State:
    """The checkpoint to go on with, or new weights; nothing is written over unasked."""
    if args.resume:
        return load(args.checkpoint, asdict(settings))
    if args.checkpoint.exists():
        raise UsageError(f"{args.checkpoint} exists: --resume goes on with it, --checkpoint FILE writes elsewhere")
    state = beginning(settings.network.drawn(np.random.default_rng(settings.seed)))
    save(args.checkpoint, state, asdict(settings))
    return state


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m benchmarks.digits", description=__doc__)
    for f in fields(Settings):
        p.add_argument(
            f"--{f.name}", type=type(f.default), default=f.default, help=f"{f.metadata['help']} ({f.default})"
        )
    p.add_argument("--threads", type=int, help="all cores by default")
    p.add_argument("--checkpoint", type=Path, default=Path("digits.npz"), help="(digits.npz)")
    p.add_argument("--resume", action="store_true", help="go on with the checkpoint")
    p.add_argument("--plot", type=Path, metavar="FILE", help="draw losses and accuracies: .svg, .png or .pdf")
    p.add_argument("--progress", choices=("auto", "plain", "none"), default="auto")
    return p


if __name__ == "__main__":
    sys.exit(main())
