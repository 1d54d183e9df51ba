# SPDX-License-Identifier: MIT
"""Blocks come back when the last view of them is gone, and not before."""

import gc
import threading

import numpy as np

from frontend.arrays.pool import HUGE, Pool


def place(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]


def test_a_block_is_used_again_once_no_view_is_left():
    pool = Pool()
    first = pool.take(1000)
    view = first[10:20].view("u2")
    where = place(first)
    del first
    other = pool.take(1000)
    assert not np.shares_memory(other, view)
    del view, other
    gc.collect()
    assert {place(pool.take(1000)) for _ in range(3)} <= {where, place(pool.take(HUGE))}


def test_blocks_are_whole_and_aligned():
    pool = Pool()
    for size in (1, HUGE, HUGE + 1, 5 * HUGE):
        block = pool.take(size)
        assert block.nbytes >= size
        assert place(block) % 64 == 0
        block[...] = 7


def test_a_small_array_ties_up_no_large_block():
    pool = Pool()
    large = pool.take(8 * HUGE)
    where = place(large)
    del large
    assert place(pool.take(HUGE)) != where
    assert place(pool.take(4 * HUGE)) == where


def test_no_more_than_so_many_bytes_are_kept():
    pool = Pool(kept=2 * HUGE)
    blocks = [pool.take(HUGE) for _ in range(4)]
    last = {place(b) for b in blocks[2:]}
    while blocks:
        del blocks[0]
    assert {place(b) for b in (pool.take(HUGE), pool.take(HUGE))} <= last | {place(pool.take(HUGE))}


def test_threads_never_share_a_block():
    pool = Pool()
    wrong: list[int] = []

    def work(n: int):
        for _ in range(200):
            block = pool.take(4096)[:4096]
            block[...] = n
            if not (block == n).all():
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
