# SPDX-License-Identifier: MIT
"""Normalisation: layer, group, batch and root mean square; variances are taken about the mean, in two passes.

Softmax is the language's own (`ph.softmax`).
"""

from __future__ import annotations

from frontend import lang as ph
from frontend.lang.location import here
from frontend.library.dims import Dims, as_dim, as_dims, needs, private
from polyhedral.errors import ArgumentError


def moments(X: ph.Expr, over: Dims) -> tuple[ph.Tensor, ph.Tensor]:
    """Mean and (biased) variance of `X` over some of its dims, kept: `((X - mean)^2).mean`.

    DimError (PH001) where a dim is missing.
    """
    names = as_dims(over)
    needs("moments", "X", X, names)
    mean = ph.let(X.mean(*names), "Mean")
    return mean, ph.let(((X - mean) ** 2).mean(*names), "Var")


def layer_norm(
    X: ph.Expr, over: Dims, gain: ph.Expr | None = None, bias: ph.Expr | None = None, eps: float = 1e-5
) -> ph.Expr:
    """`(X - mean) / sqrt(var + eps) * gain + bias`, mean and variance over `over`: `layer_norm(X, c, gain, bias)`.

    Any `X`, e.g. `{s c}`; `gain{c}` and `bias{c}` where given.  Source: Ba, Kiros, Hinton 2016.
    """
    mean, var = moments(X, over)
    return _scaled((X - mean) * ph.let(1 / ph.sqrt(var + eps), "InvStd"), gain, bias)


def rms_norm(X: ph.Expr, over: Dims, gain: ph.Expr | None = None, eps: float = 1e-6) -> ph.Expr:
    """`X / sqrt(mean of X^2 + eps) * gain` over `over`.  Source: Zhang, Sennrich 2019."""
    names = as_dims(over)
    needs("rms_norm", "X", X, names)
    return _scaled(X * ph.let(1 / ph.sqrt((X**2).mean(*names) + eps), "InvRms"), gain, None)


def group_norm(
    X: ph.Expr,
    c: ph.Dim | str,
    per_group: int,
    over: Dims = "y x",
    gain: ph.Expr | None = None,
    bias: ph.Expr | None = None,
    eps: float = 1e-5,
) -> ph.Expr:
    """`X{c y x}` normalised over `over` and each block of `per_group` channels; `gain{c}`, `bias{c}`.

    X.c must be a multiple of `per_group`; with 1 it is instance normalisation.  Source: Wu, He 2018.  ArgumentError
    (PH040) where `per_group` is not positive.
    """
    names, channel = as_dims(over), as_dim(c)
    needs("group_norm", "X", X, (channel, *names))
    if per_group < 1:
        raise ArgumentError(
            "PH040",
            f"group_norm(per_group={per_group}): a group has one channel {channel} or more",
            hints=("per_group=16: 64 channels make 4 groups",),
            location=here(),
        )
    ph.assume(X.size(channel) % per_group == 0)
    group, within = ph.fresh("g"), private("w", per_group)
    mean, var = moments(X({channel: per_group * group + within}), (within, *names))
    inverse = ph.let(1 / ph.sqrt(var + eps), "InvStd")
    mine: dict[object, object] = {group: channel // per_group}
    return _scaled((X - mean(mine)) * inverse(mine), gain, bias)


def batch_norm(
    X: ph.Expr,
    mean: ph.Expr,
    var: ph.Expr,
    gain: ph.Expr | None = None,
    bias: ph.Expr | None = None,
    eps: float = 1e-5,
) -> ph.Expr:
    """Inference: `(X - mean) / sqrt(var + eps) * gain + bias` with statistics that are given, all over `{c}`.

    Source: Ioffe, Szegedy 2015.
    """
    return _scaled((X - mean) * (1 / ph.sqrt(var + eps)), gain, bias)


def batch_norm_training(
    X: ph.Expr, over: Dims, gain: ph.Expr | None = None, bias: ph.Expr | None = None, eps: float = 1e-5
) -> tuple[ph.Expr, ph.Tensor, ph.Tensor]:
    """Training: normalised by the batch's own statistics, which are returned too, `(Y, mean, var)`.

    `X{b c y x}`, `over="b y x"`: the batch is a dim of the program here, not lifted over, since it is summed over.
    """
    mean, var = moments(X, over)
    return batch_norm(X, mean, var, gain, bias, eps), mean, var


def running(old: ph.Expr, new: ph.Expr, momentum: float = 0.1) -> ph.Expr:
    """The next running statistic: `(1 - momentum) * old + momentum * new`.

    Frameworks keep the unbiased variance: give `var * (n / (n - 1))` as the new one.
    """
    return (1 - momentum) * old + momentum * new


def _scaled(value: ph.Expr, gain: ph.Expr | None, bias: ph.Expr | None) -> ph.Expr:
    scaled = value if gain is None else value * gain
    return scaled if bias is None else scaled + bias
