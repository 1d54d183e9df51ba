# SPDX-License-Identifier: MIT
"""The list of what is measured: every name with the case at full size and at a small size for the tests.

Capsule shapes are from Barham and Isard (2019) and Hinton et al. (2018), convolutions from ResNet-18 (He et al. 2016).
Of convolutions the weights are constant, as they are when a network is used, and prepared by everybody before the clock
starts; of capsules only at N=1.  `NAME+fresh` and `NAME+constant` are the same case the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from benchmarks import algebra as al
from benchmarks import attention as at
from benchmarks import backward as bw
from benchmarks import chains as ch
from benchmarks import convolutions as cv
from benchmarks import network as nw
from benchmarks import routing as ro
from benchmarks.case import Case

Make = Callable[[], Case]

RESNET = (
    (3, 224, 64, 7, 2),
    (64, 56, 64, 3, 1),
    (64, 56, 64, 1, 1),
    (64, 56, 128, 3, 2),
    (64, 56, 128, 1, 2),
    (128, 28, 128, 3, 1),
    (128, 28, 256, 3, 2),
    (128, 28, 256, 1, 2),
    (256, 14, 256, 3, 1),
    (256, 14, 512, 3, 2),
    (256, 14, 512, 1, 2),
    (512, 7, 512, 3, 1),
)
"""C1 to C12: channels, height, output channels, kernel, stride."""

FIXED_FAMILIES = ("conv2d", "transposed", "grouped", "depthwise", "residual", "network")
"""Families whose weights are constant."""
FIXED = ("CAP0", "CAP1", "CAP0-channels", "CAP1-channels")
"""Capsules whose weights are constant."""

DEPTHWISE = ((32, 112, 3, 1), (64, 112, 3, 2), (512, 14, 3, 2), (1024, 7, 3, 1))


def _capsules() -> dict[str, tuple[Make, Make]]:
    found: dict[str, tuple[Make, Make]] = {}
    for base, batch, h, stride, pad in (
        ("CAP0", 1, 16, 2, 1),
        ("CAP1", 1, 8, 1, 1),
        ("CAP0x16", 16, 16, 2, 1),
        ("CAP1x16", 16, 8, 1, 1),
        ("T2SP", 64, 15, 2, 0),
        ("CAPS32", 8, 32, 1, 1),
    ):
        for layout in cv.LAYOUTS:
            name = base if layout == "inside" else f"{base}-{layout}"
            found[name] = (
                lambda n=name, b=batch, h=h, s=stride, p=pad, lay=layout: cv.capsule(n, b, h, 32, 32, 3, s, p, lay),
                lambda n=name, b=batch, s=stride, p=pad, lay=layout: cv.capsule(n, min(b, 2), 5, 3, 2, 3, s, p, lay),
            )
    return found


def _whole_programs() -> dict[str, tuple[Make, Make]]:
    return {
        "EM": (lambda: ro.em("EM", 8, 14, 32, 32, 3, 2), lambda: ro.em("EM", 2, 6, 2, 3, 3, 2)),
        "EM64": (lambda: ro.em("EM64", 64, 14, 32, 32, 3, 2), lambda: ro.em("EM64", 3, 5, 3, 2, 3, 2)),
        "NET": (
            lambda: nw.network("NET", nw.Sizes(8, 28, 32, 32, 32, 32, 5)),
            lambda: nw.network("NET", nw.Sizes(2, 17, 3, 2, 3, 2, 3)),
        ),
        "NET-small": (
            lambda: nw.network("NET-small", nw.Sizes(8, 28, 64, 8, 16, 16, 5)),
            lambda: nw.network("NET-small", nw.Sizes(1, 17, 4, 2, 2, 2, 4)),
        ),
        "RESBLOCK": (lambda: ch.residual("RESBLOCK", 128, 28), lambda: ch.residual("RESBLOCK", 3, 5)),
        "CHAIN3": (lambda: ch.capsules("CHAIN3", 8, 16, 32), lambda: ch.capsules("CHAIN3", 2, 5, 3)),
        "CHAIN3-few": (lambda: ch.capsules("CHAIN3-few", 8, 16, 4), lambda: ch.capsules("CHAIN3-few", 2, 5, 2)),
    }


def _backward() -> dict[str, tuple[Make, Make]]:
    """Of the convolutions, three that a network spends its time in."""
    found: dict[str, tuple[Make, Make]] = {
        "CAP0x16-backward": (
            lambda: bw.capsule("CAP0x16-backward", 16, 16, 32, 32, 3, 2, 1),
            lambda: bw.capsule("CAP0x16-backward", 2, 5, 3, 2, 3, 2, 1),
        ),
        "EM-backward": (
            lambda: bw.em("EM-backward", 8, 14, 32, 32, 3, 2),
            lambda: bw.em("EM-backward", 2, 6, 2, 3, 3, 2),
        ),
    }
    for number in (2, 6, 9):
        c, h, o, r, s = RESNET[number - 1]
        name = f"C{number}x16-backward"
        found[name] = (
            lambda n=name, c=c, h=h, o=o, r=r, s=s: bw.conv2d(n, 16, c, h, o, r, s),
            lambda n=name, r=r, s=s: bw.conv2d(n, 2, 3, 8, 5, r, s),
        )
    return found


def _resnet() -> dict[str, tuple[Make, Make]]:
    found: dict[str, tuple[Make, Make]] = {}
    for batch in (1, 16):
        for number, (c, h, o, r, s) in enumerate(RESNET, 1):
            for layout in ("nchw", "nhwc"):
                name = f"C{number}" + ("" if batch == 1 else f"x{batch}") + ("" if layout == "nchw" else "-nhwc")
                found[name] = (
                    lambda n=name, b=batch, c=c, h=h, o=o, r=r, s=s, lay=layout: cv.conv2d(n, b, c, h, o, r, s, lay),
                    lambda n=name, b=batch, r=r, s=s, lay=layout: cv.conv2d(n, min(b, 2), 3, 8, 5, r, s, lay),
                )
    return found


CASES: Mapping[str, tuple[Make, Make]] = {
    **_capsules(),
    "VOTES": (lambda: cv.votes("VOTES", 14, 32, 32, 3, 2), lambda: cv.votes("VOTES", 5, 2, 3, 3, 2)),
    **_whole_programs(),
    **_resnet(),
    **_backward(),
    "GROUPED": (lambda: cv.grouped("GROUPED", 4, 32, 28, 32, 3), lambda: cv.grouped("GROUPED", 2, 3, 5, 2, 3)),
    "DILATED": (
        lambda: cv.conv2d("DILATED", 1, 128, 28, 128, 3, 1, pad=2, dilation=2),
        lambda: cv.conv2d("DILATED", 1, 2, 7, 3, 3, 1, pad=2, dilation=2),
    ),
    **{
        name: (
            lambda n=name, b=batch: cv.transposed(n, b, 4, 512, 256, 4, 2, 1),
            lambda n=name, b=batch: cv.transposed(n, min(b, 2), 3, 2, 3, 4, 2, 1),
        )
        for name, batch in (("TCONV", 1), ("TCONVx16", 16))
    },
    **{
        f"DW{m}": (
            lambda m=m, c=c, h=h, r=r, s=s: cv.depthwise(f"DW{m}", c, h, r, s),
            lambda m=m, r=r, s=s: cv.depthwise(f"DW{m}", 3, 7, r, s),
        )
        for m, (c, h, r, s) in enumerate(DEPTHWISE, 1)
    },
    "SGEMM512": (lambda: al.gemm("SGEMM512", 512, 512, 512), lambda: al.gemm("SGEMM512", 7, 9, 5)),
    "SGEMM1024": (lambda: al.gemm("SGEMM1024", 1024, 1024, 1024), lambda: al.gemm("SGEMM1024", 17, 33, 5)),
    "SGEMM2048": (lambda: al.gemm("SGEMM2048", 2088, 2048, 2048), lambda: al.gemm("SGEMM2048", 40, 64, 64)),
    "DGEMM512": (
        lambda: al.gemm("DGEMM512", 512, 512, 512, "float64"),
        lambda: al.gemm("DGEMM512", 7, 9, 5, "float64"),
    ),
    "DGEMM1024": (
        lambda: al.gemm("DGEMM1024", 1024, 1024, 1024, "float64"),
        lambda: al.gemm("DGEMM1024", 17, 33, 5, "float64"),
    ),
    "DGEMM2048": (
        lambda: al.gemm("DGEMM2048", 2088, 2048, 2048, "float64"),
        lambda: al.gemm("DGEMM2048", 40, 64, 64, "float64"),
    ),
    "TALL": (lambda: al.gemm("TALL", 4096, 64, 64), lambda: al.gemm("TALL", 50, 3, 4)),
    "BATCHED": (lambda: al.batched("BATCHED", 192, 128, 64, 128), lambda: al.batched("BATCHED", 3, 4, 5, 6)),
    "TROP": (lambda: al.maxplus("TROP", 1024), lambda: al.maxplus("TROP", 9)),
    "INVO": (lambda: cv.involution("INVO", 16, 56), lambda: cv.involution("INVO", 2, 8, 3, 2)),
    "BILIN": (lambda: al.bilinear("BILIN", 512, 256), lambda: al.bilinear("BILIN", 4, 5)),
    "ATTENTION": (lambda: at.attention("ATTENTION", 8, 2048, 64), lambda: at.attention("ATTENTION", 2, 9, 4)),
    "ATTENTION-window": (
        lambda: at.attention("ATTENTION-window", 8, 2048, 64, 128),
        lambda: at.attention("ATTENTION-window", 2, 9, 4, 3),
    ),
    "SOFTMAX": (lambda: al.softmax("SOFTMAX", 4096, 1024), lambda: al.softmax("SOFTMAX", 3, 7)),
    "LAYERNORM": (lambda: al.layer_norm("LAYERNORM", 4096, 1024), lambda: al.layer_norm("LAYERNORM", 3, 7)),
    "JACOBI": (lambda: al.jacobi("JACOBI", 1000, 100), lambda: al.jacobi("JACOBI", 9, 3)),
    "SEIDEL": (lambda: al.seidel("SEIDEL", 1000, 20), lambda: al.seidel("SEIDEL", 9, 3)),
    "LU": (lambda: al.lu("LU", 1000), lambda: al.lu("LU", 8)),
}


SUITES: Mapping[str, tuple[str, ...]] = {
    "capsule": tuple(n for n in CASES if n.startswith("CAP") or n in ("T2SP", "T2SP-channels", "VOTES")),
    "conv": tuple(
        n for n in CASES if n.startswith(("TCONV", "DW", "GROUPED", "DILATED")) or (n[0] == "C" and n[1].isdigit())
    ),
    "gemm": tuple(n for n in CASES if "GEMM" in n or n in ("TALL", "BATCHED")),
    "backward": tuple(n for n in CASES if n.endswith("-backward")),
    "programs": ("EM", "EM64", "NET", "NET-small", "RESBLOCK", "CHAIN3", "CHAIN3-few"),
    "other": (
        *("TROP", "INVO", "BILIN", "ATTENTION", "ATTENTION-window"),
        *("SOFTMAX", "LAYERNORM", "JACOBI", "SEIDEL", "LU"),
    ),
    "all": tuple(CASES),
}
"""What `polyhedral bench` measures by one word; `other` is what no library has a routine for, and classics."""


def case(name: str, *, small: bool = False) -> Case:
    """A case by name, with `+fresh` or `+constant` after it to say how weights are passed; KeyError lists what there
    is.
    """
    base, _, way = name.partition("+")
    if base not in CASES or way not in ("", "fresh", "constant"):
        raise KeyError(f"no case {name!r}; there are {', '.join(CASES)}")
    made = CASES[base][small]()
    weights = tuple(n for n in made.weights if n in made.shapes)
    usual = made.family in FIXED_FAMILIES or base in FIXED
    return replace(made, name=name, constant=weights if way == "constant" or (usual and way == "") else ())
