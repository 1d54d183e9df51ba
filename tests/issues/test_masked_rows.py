# SPDX-License-Identifier: MIT
"""gcc 12 computed other rows than it was given, where sums of masked products of a few rows follow one another: the
gradient of routing by agreement over examples of several lengths was wrong.  It took what data mask for loads under a
mask; what is masked is computed before it is chosen now.

The program was right all along, as the interpreter says; the C was compiled wrongly with -O3 and rightly with -O2.
"""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, o, p


def routing(passes):
    @ph.function(V="i o p", L="")
    def route(V, L):
        logits = 0.0
        for _ in range(passes):
            share = ph.softmax(logits + V.sum(p) * 0, o)
            s = (share * V).sum(i, where=i < L)
            square = (s * s).sum(p)
            out = ph.let(s * (square / (1 + square) / ph.sqrt(square + 1e-9)))
            logits = logits + (out * V).sum(p)
        return (out * out * out).sum(o, p)

    return ph.grad(route, wrt="V")


@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize("lengths", [(5, 3), (1, 4)])
def test_gradients_of_examples_of_several_lengths(passes, lengths):
    V = np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype("f4")
    L = np.array(lengths)
    derived = routing(passes)
    found = derived(ph.array(V, "b i o p"), ph.array(L, "b")).order("b i o p").data
    program = derived.trace(V="f32[b, i, o, p]", L="i64[b]").program
    want = ph.interpret(program, {"V": V, "L": L}, dim_order={"dV": ("b", "i", "o", "p")})["dV"]
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)
