# SPDX-License-Identifier: MIT
"""Wavefronts: make a permutable band whose outer member carries dependences run its other members in parallel.

The loop hyperplane method (Lamport 1974), on points or on tiles.
"""

from __future__ import annotations

from dataclasses import replace

from polyhedral.ir.affine import const
from polyhedral.ir.tree import Band, Member, Run


def wavefront(band: Band) -> Band:
    """Replace the first member by the sum of all; what is left of a dependence is then carried there.

    band t_tile, x_tile (permutable)  ->  band t_tile+x_tile; x_tile: coincident
    """
    families = tuple(f for f, _ in band.members[0].times)
    total = tuple((f, sum((m.time(f) for m in band.members), const(0))) for f in families)
    front = Member("wave", total, False, Run.SERIAL)
    return replace(band, members=(front, *(replace(m, coincident=True) for m in band.members[1:])))
