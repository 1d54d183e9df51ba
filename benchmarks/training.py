# SPDX-License-Identifier: MIT
"""`python -m benchmarks.training`: one step of training of a capsule network with EM routing, as one program.

The network and its loss are those of `benchmarks.network`; a step is the mean loss, its derivative by every weight, and
every weight moved against it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import polyhedral as ph
from benchmarks.network import AXES, Sizes, network
from polyhedral.dim import n

RATE = 0.01
FULL = Sizes(8, 28, 32, 32, 32, 32, 5)
SMALL = Sizes(2, 17, 3, 2, 3, 2, 3)


def step(sizes: Sizes) -> tuple[Any, tuple[str, ...]]:
    """The program, and the names of the weights that it returns after the loss."""
    forward = network("NET", sizes).function
    names = tuple(sizes.weights())

    @ph.function(**AXES, returns=((), *(AXES[name] for name in names)))
    def training_step(X, T, K, bK, M, bM, G, bG, W1, W2, W3, bu1, ba1, bu2, ba2, bu3, ba3):
        weights = dict(K=K, bK=bK, M=M, bM=bM, G=G, bG=bG, W1=W1, W2=W2, W3=W3)
        weights |= dict(bu1=bu1, ba1=ba1, bu2=bu2, ba2=ba2, bu3=bu3, ba3=ba3)
        _, each = forward(X=X, T=T, **weights)
        loss, made = ph.value_and_grad(each.mean(n), tuple(weights[name] for name in names))
        return (loss, *(weights[name] - RATE * d for name, d in zip(names, made, strict=True)))

    return training_step, names


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a network of a few capsules")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args(argv)
    sizes = SMALL if args.small else FULL
    function, names = step(sizes)
    arrays = network("NET", sizes).inputs()
    shapes = {name: zip(AXES[name].split(), a.shape, strict=True) for name, a in arrays.items()}
    specs = {name: f"f32[{', '.join(f'{d}:{e}' for d, e in shape)}]" for name, shape in shapes.items()}
    start = time.perf_counter()
    lowered = function.lower(**specs, threads=args.threads)
    middle = time.perf_counter()
    run = lowered.compile()
    done = time.perf_counter()
    print(f"planned in {middle - start:.1f} s, compiled in {done - middle:.1f} s; {run.cost()}")
    times: list[float] = []
    losses: list[float] = []
    for _ in range(args.steps):
        start = time.perf_counter()
        loss, *made = run(**arrays)
        times.append(time.perf_counter() - start)
        losses.append(float(loss))
        arrays |= dict(zip(names, made, strict=True))
    print(f"least {1e3 * min(times):.2f} ms a step; loss {losses[0]:.6f} to {losses[-1]:.6f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
