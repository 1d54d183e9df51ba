# SPDX-License-Identifier: MIT
"""Building blocks written in the language itself: convolutions, capsules and their routing, attention, norms, networks.

Plain functions over expressions, as a user would write them: they compose anywhere inside `@ph.function`, and lift over
a batch like everything else.  Nothing below knows them by name.
"""

from frontend.library.attention import attention, causal_attention, window_attention
from frontend.library.capsules import add_coordinates, capsule_conv, capsule_votes, class_votes
from frontend.library.conv import conv2d, depthwise_conv2d, merge, pointwise_conv2d, split, transposed_conv2d
from frontend.library.em_routing import EM, em_routing, em_routing_dense, inverse_temperature, log_sigmoid
from frontend.library.mlp import Dense, dense, gated, gelu, mlp, silu, softplus
from frontend.library.network import EM_NETWORK, SMALL, Widths, em_network, spread_loss
from frontend.library.norms import batch_norm, batch_norm_training, group_norm, layer_norm, moments, rms_norm, running
from frontend.library.routing import dynamic_routing, self_routing, squash

__all__ = [
    "EM",
    "EM_NETWORK",
    "SMALL",
    "Dense",
    "Widths",
    "add_coordinates",
    "attention",
    "batch_norm",
    "batch_norm_training",
    "capsule_conv",
    "capsule_votes",
    "causal_attention",
    "class_votes",
    "conv2d",
    "dense",
    "depthwise_conv2d",
    "dynamic_routing",
    "em_network",
    "em_routing",
    "em_routing_dense",
    "gated",
    "gelu",
    "group_norm",
    "inverse_temperature",
    "layer_norm",
    "log_sigmoid",
    "merge",
    "mlp",
    "moments",
    "pointwise_conv2d",
    "rms_norm",
    "running",
    "self_routing",
    "silu",
    "softplus",
    "split",
    "spread_loss",
    "squash",
    "transposed_conv2d",
    "window_attention",
]
