# SPDX-License-Identifier: MIT
"""Building blocks written in the language itself: convolutions, capsules and their routing, attention, norms, networks.

Plain functions over expressions, as a user would write them: they compose anywhere inside `@ph.function`, and lift over
a batch like everything else.  Nothing below knows them by name.
"""

from frontend.library.capsules import capsule_conv, capsule_votes
from frontend.library.em_routing import EM, em_routing, em_routing_dense, inverse_temperature

__all__ = ["EM", "capsule_conv", "capsule_votes", "em_routing", "em_routing_dense", "inverse_temperature"]
