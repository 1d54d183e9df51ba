# SPDX-License-Identifier: MIT
"""Banks of shared memory: counts against a plain enumeration, and paddings than which no other takes fewer."""

from __future__ import annotations

import random
import re
from itertools import product

import pytest

from polyhedral.devices.banks import Access, asked, digits_of, strides_of, wavefronts
from polyhedral.devices.swizzles import Addressing, addressing, price
from tests.device.on_host import lowered
from tests.programs import CASES


def one_by_one(offsets: list[int], width: int) -> int:
    """Rounds in which each bank gives one word, until all lanes have all of theirs."""
    left = {o // 4 + k for o in offsets for k in range(width // 4)}
    rounds = 0
    while left:
        given: dict[int, int] = {}
        for word in sorted(left):
            given.setdefault(word % 32, word)
        left -= set(given.values())
        rounds += 1
    return rounds


@pytest.mark.parametrize("width", [4, 8, 16])
def test_counts_are_those_of_an_enumeration(width: int):
    rng = random.Random(width)
    for _ in range(200):
        offsets = [width * rng.randrange(200) for _ in range(32)]
        assert wavefronts(offsets, width) == one_by_one(offsets, width)


def test_known_counts():
    assert wavefronts([4 * k for k in range(32)], 4) == 1
    assert wavefronts([0] * 32, 4) == 1
    assert wavefronts([128 * k for k in range(32)], 4) == 32
    assert wavefronts([132 * k for k in range(32)], 4) == 1
    assert wavefronts([8 * k for k in range(32)], 4) == 2
    assert wavefronts([2 * k for k in range(32)], 2) == 1
    assert wavefronts([16 * k for k in range(32)], 16) == 4


@pytest.mark.parametrize("gap", [16, 48, 272])
def test_rows_of_matrix_units_meet_in_no_bank(gap: int):
    assert wavefronts([gap * k for k in range(8)], 16) == 1
    assert wavefronts([(gap + 16) * k for k in range(8)], 16) > 1


def test_no_other_padding_takes_fewer():
    """Random boxes: reads by lanes whose digits are in any order, and copies of rows or of columns."""
    rng = random.Random(1)
    for _ in range(60):
        axes = (("r", rng.choice((4, 8, 16, 32))), ("c", rng.choice((4, 8, 16, 32, 64, 100))))
        threads = [("c", rng.choice((2, 4, 8, 16))), ("r", 0)]
        threads[1] = ("r", 32 // threads[0][1])
        rng.shuffle(threads)
        run = rng.choice((1, 2, 4))
        lanes = [digits_of(lane, threads) for lane in range(32)]
        read = Access(tuple((("r", at["r"]), ("c", run * at["c"])) for at in lanes), run, rng.choice((1, 8)))
        copied = Access(tuple((("r", lane % axes[0][1]), ("c", lane // axes[0][1])) for lane in range(32)))
        candidates, item = tuple(range(33)), rng.choice((2, 4, 8))
        best = addressing((read, copied), axes, item, candidates, 1)
        costs = [price(read, axes, Addressing(p), item) + price(copied, axes, Addressing(p), item) for p in candidates]
        if best.swizzle is None:
            assert costs[best.pad] == min(costs)
            assert all(c > costs[best.pad] for c in costs[: best.pad])
        else:
            assert price(read, axes, best, item) + price(copied, axes, best, item) < min(costs)


def test_a_run_is_as_wide_as_its_rows_are_aligned():
    access = Access(tuple((("r", 0), ("c", 4 * lane)) for lane in range(32)), 4)
    axes = (("r", 2), ("c", 128))
    assert asked(access, strides_of(axes, 0), 4) == (1, 4)
    assert asked(access, strides_of(axes, 2), 4)[0] == 2
    assert asked(access, strides_of(axes, 1), 4)[0] == 4
    assert strides_of(axes, 2) == {"c": 1, "r": 130}


@pytest.mark.parametrize(("name", "sizes"), [("matmul", {"A.i": 256, "A.k": 64, "B.j": 256}), ("conv_strided", {
    "X.c": 16, "X.y": 33, "X.x": 33, "W.o": 64, "W.ky": 3, "W.kx": 3,
})])  # fmt: skip
def test_what_is_printed_reads_without_conflicts(name: str, sizes: dict[str, int]):
    """Of the kernel's own text: every lane of the first warp evaluates where it reads staged operands."""
    built = lowered(CASES[name].program, sizes, "cuda:sm_80")
    text = built.source.text
    nest = next(iter(built.mapped.nests.values()))
    declared = dict(re.findall(r"__shared__ [^;]*?(\w+_block)((?:\[\d+\])+);", text))
    assert declared
    zero = {d: 0 for d in re.findall(r"\b([a-z]\w*)\b", text)}
    for block, dims in declared.items():
        shape = [int(n) for n in re.findall(r"\d+", dims)]
        reads = re.findall(rf"\b{block}((?:\[[^\]]+\])+)", text.partition("#pragma unroll")[2])
        read = next(r for r in reversed(reads) if "_thread" in r)
        index = re.findall(r"\[([^\]]+)\]", read)
        offsets = []
        for lane in range(32):
            at = {**zero, **digits_of(lane, nest.threads)}
            cell = 0
            for n, e in zip(shape, index, strict=True):
                cell = cell * n + int(eval(e, {}, at))  # our own text, an index of numbers and names
            offsets.append(4 * cell)
        distinct = len({o // 16 for o in offsets})
        assert wavefronts(offsets, 4) <= max(1, -(-distinct // 8)), (block, shape, read)


def test_digits_of_threads():
    threads = [("a", 4), ("b", 8)]
    found = [tuple(digits_of(lane, threads).values()) for lane in range(32)]
    assert sorted(found) == sorted((b, a) for a, b in product(range(4), range(8)))
    assert digits_of(9, threads) == {"b": 1, "a": 1}
