# SPDX-License-Identifier: MIT
"""The matrix capsule network with EM routing (Hinton, Sabour, Frosst 2018) as one program per example; its loss.

A batch is lifted over; training is left to gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from frontend import lang as ph
from frontend.library.capsules import capsule_votes, class_votes
from frontend.library.conv import conv2d, pointwise_conv2d
from frontend.library.dims import as_dim, needs
from frontend.library.em_routing import EM, em_routing, em_routing_dense

EM_NETWORK: Mapping[str, str] = MappingProxyType(
    {
        "X": "c y x",
        "W0": "a c ky kx",
        "b0": "a",
        "Wp": "a i p r",
        "bp": "i p r",
        "Wa": "a i",
        "ba": "i",
        "W1": "ky kx i o r q",
        "bu1": "o",
        "ba1": "o",
        "W2": "ky kx i o r q",
        "bu2": "o",
        "ba2": "o",
        "W3": "i o r q",
        "bu3": "o",
        "ba3": "o",
    }
)
"""Axes of `em_network`'s arguments: `ph.function(**EM_NETWORK)(em_network)`."""


@dataclass(frozen=True)
class Widths:
    """How many channels (A) and capsules (B, C, D) the layers have, how many input channels and classes there are."""

    A: int = 32
    B: int = 32
    C: int = 32
    D: int = 32
    classes: int = 5
    channels: int = 1

    def shapes(self, height: int = 32, width: int = 32) -> dict[str, tuple[int, ...]]:
        """Shape of each argument of `em_network`, axes as in EM_NETWORK; 5x5, 3x3 and 3x3 windows, 4x4 poses."""
        A, B, C, D, E = self.A, self.B, self.C, self.D, self.classes
        return {
            "X": (self.channels, height, width),
            "W0": (A, self.channels, 5, 5),
            "b0": (A,),
            "Wp": (A, B, 4, 4),
            "bp": (B, 4, 4),
            "Wa": (A, B),
            "ba": (B,),
            "W1": (3, 3, B, C, 4, 4),
            "bu1": (C,),
            "ba1": (C,),
            "W2": (3, 3, C, D, 4, 4),
            "bu2": (D,),
            "ba2": (D,),
            "W3": (D, E, 4, 4),
            "bu3": (E,),
            "ba3": (E,),
        }


SMALL = Widths(A=64, B=8, C=16, D=16)


def em_network(
    X: ph.Expr,
    W0: ph.Expr,
    b0: ph.Expr,
    Wp: ph.Expr,
    bp: ph.Expr,
    Wa: ph.Expr,
    ba: ph.Expr,
    W1: ph.Expr,
    bu1: ph.Expr,
    ba1: ph.Expr,
    W2: ph.Expr,
    bu2: ph.Expr,
    ba2: ph.Expr,
    W3: ph.Expr,
    bu3: ph.Expr,
    ba3: ph.Expr,
    padding: int = 0,
    em: EM = EM(),  # noqa: B008  frozen
) -> tuple[ph.Tensor, ph.Tensor]:
    """Image `X{c y x}` -> poses `{o p q}` and activations `{o}` of the classes; axes of the parameters in EM_NETWORK.

    conv 5x5 stride 2, ReLU; primary capsules by a 1x1 convolution, activations through a sigmoid; convolutional
    capsules 3x3 stride 2, then 3x3 stride 1; class capsules with matrices shared between positions and coordinates
    added; EM routing between capsule layers.  32x32 images without padding, or 28x28 with padding 2, go
    14 -> 14 -> 6 -> 4 -> classes.  Source: Hinton, Sabour, Frosst 2018.
    """
    stem = ph.let(ph.relu(conv2d(X, W0, "c", b0, stride=2, padding=padding)), "Stem")
    P = ph.let(pointwise_conv2d(stem, Wp, "a", bp), "Primary")
    A = ph.let(ph.sigmoid(pointwise_conv2d(stem, Wa, "a", ba)), "PrimaryAct")
    P1, A1 = _as_children(*em_routing(capsule_votes(P, W1, stride=2), A, bu1, ba1, stride=2, em=em))
    P2, A2 = _as_children(*em_routing(capsule_votes(P1, W2), A1, bu2, ba2, em=em))
    return em_routing_dense(class_votes(P2, W3), A2, bu3, ba3, children="y x i", em=em)


def _as_children(P: ph.Expr, A: ph.Expr) -> tuple[ph.Expr, ph.Expr]:
    """Capsules above as the capsules below of the next layer: `{y x o p q}` -> `{y x i p r}`."""
    return P(o=ph.Dim("i"), q=ph.Dim("r")), A(o=ph.Dim("i"))


def spread_loss(A: ph.Expr, target: ph.Expr, margin: float | ph.Expr, o: ph.Dim | str = "o") -> ph.Expr:
    """`sum_{i != t} max(0, margin - (a_t - a_i))^2` for activations `A{o}` and the class t, an integer.

    The margin grows from 0.2 to 0.9 in training.  Source: Hinton, Sabour, Frosst 2018.  DimError (PH001) where `A` has
    no such dim; a target that is no class makes the loss inf.
    """
    needs("spread_loss", "A", A, (o,))
    at = as_dim(o)
    mine = A.max(at, where=at == target)
    short = ph.maximum(margin - (mine - A), 0)
    return (short**2).sum(at, where=at != target)
