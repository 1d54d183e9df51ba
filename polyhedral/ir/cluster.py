# SPDX-License-Identifier: MIT
"""Clusters: which statements are scheduled together, and in which order the clusters run.

Statements that depend on each other in a cycle need one schedule; everything else stands alone for now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def components(nodes: Sequence[str], edges: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Strongly connected components in an order that keeps the edges (Tarjan 1972, iterative); ties as in `nodes`."""
    after: dict[str, list[str]] = {n: [] for n in nodes}
    rank = {n: i for i, n in enumerate(nodes)}
    for a, b in sorted(set(edges), key=lambda e: (rank[e[0]], -rank[e[1]])):
        after[a].append(b)
    found: list[tuple[str, ...]] = []
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    for root in reversed(nodes):
        if root not in index:
            _visit(root, after, index, low, stack, found)
    return tuple(tuple(sorted(c, key=rank.__getitem__)) for c in reversed(found))


def _visit(
    root: str,
    after: Mapping[str, list[str]],
    index: dict[str, int],
    low: dict[str, int],
    stack: list[str],
    found: list[tuple[str, ...]],
) -> None:
    work = [(root, iter(after[root]))]
    index[root] = low[root] = len(index)
    stack.append(root)
    while work:
        node, rest = work[-1]
        for n in rest:
            if n not in index:
                index[n] = low[n] = len(index)
                stack.append(n)
                work.append((n, iter(after[n])))
                break
            if n in stack:
                low[node] = min(low[node], index[n])
        else:
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[node])
            if low[node] == index[node]:
                at = stack.index(node)
                found.append(tuple(stack[at:]))
                del stack[at:]
