# SPDX-License-Identifier: MIT
"""Tiling: split a permutable band into loops over tiles and loops inside a tile.

Whether the band may be tiled is the caller's question to `polyhedral.oracle.legality`; this only rewrites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polyhedral.ir.tree import Band, Member, Run


def tile(band: Band, sizes: Sequence[int]) -> Band:
    """One band of tiles above one of points; a size of 0 leaves the member untiled, among the points.

    band y, x (permutable)          band y_tile, x_tile (permutable)
      S[y, x]               ->        band y, x (permutable)
                                        S[y//8, x//8, y, x]
    """
    tiles = tuple(_tile_member(m, s) for m, s in zip(band.members, sizes, strict=True) if s > 0)
    inner = tuple(replace(m, run=Run.SERIAL) if s > 0 else m for m, s in zip(band.members, sizes, strict=True))
    points = replace(band, members=inner)
    return Band(tiles, points, band.permutable) if tiles else band


def _tile_member(m: Member, size: int) -> Member:
    return Member(f"{m.name}_tile", tuple((f, t // size) for f, t in m.times), m.coincident, m.run)
