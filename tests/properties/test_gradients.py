# SPDX-License-Identifier: MIT
"""Random accesses are inverted exactly, random programs have the derivatives of differences, which are those of
tangents, wrong adjoints are found.

Sizes are small numbers, so that instances and cells can be listed.
"""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polyhedral as ph
from frontend.autodiff import reverse
from frontend.autodiff.inverse import inverse
from polyhedral.dim import i, j, k, m, n
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.program import Domain, Program, Range
from tests.differentiated import gradient, held


@st.composite
def accesses(draw):
    """A domain over i, j, k and one or two indices over it, floors included, moved to start at 0."""
    sizes = {d: draw(st.integers(1, 4)) for d in "ijk"}
    guard = draw(
        st.sampled_from([aff.TRUE, aff.at_least(aff.var("j"), aff.var("i")), aff.equal(aff.var("i") * 2, aff.var("k"))])
    )
    index = []
    for _ in range(draw(st.integers(1, 2))):
        e = aff.const(draw(st.integers(0, 2)))
        for d in "ijk":
            e = e + aff.var(d) * draw(st.integers(-2, 3))
        if draw(st.booleans()):
            e = e // draw(st.integers(2, 3)) + aff.var("i") % 2
        index.append(e)
    return Domain(tuple(Range(d, aff.const(0), aff.const(s)) for d, s in sizes.items()), guard), index


@settings(max_examples=60, deadline=None, derandomize=True)
@given(accesses())
def test_every_instance_is_found_at_its_cell_and_no_other(case):
    domain, index = case
    points = [dict(zip("ijk", at, strict=True)) for at in product(*(range(r.hi.const) for r in domain.ranges))]
    points = [p for p in points if aff.holds(domain.guard, p, {})]
    low = [min((aff.evaluate(e, p, {}) for p in points), default=0) for e in index]
    index = [e - least for e, least in zip(index, low, strict=True)]
    names = [f"c{n}" for n in range(len(index))]
    extents = [max((aff.evaluate(e, p, {}) for p in points), default=0) + 1 for e in index]
    found = inverse(
        domain, list(zip(names, index, strict=True)), dict(zip(names, map(aff.const, extents), strict=True)), ("i", "j")
    )
    want = {(tuple(aff.evaluate(e, p, {}) for e in index), tuple(p.values())) for p in points}
    got = []
    for cell in product(*map(range, extents)):
        envs = [dict(zip(names, cell, strict=True))]
        for r in found.ranges:
            envs = [{**e, r.dim: v} for e in envs for v in range(aff.evaluate(r.lo, e, {}), aff.evaluate(r.hi, e, {}))]
        got += [
            (cell, tuple(aff.evaluate(found.at[d], e, {}) for d in "ijk"))
            for e in envs
            if aff.holds(found.guard, e, {})
        ]
    assert len(got) == len(set(got))
    assert set(got) == want


@st.composite
def functions(draw):
    """A program of a few steps over A{i j} and B{j k}: windows, reductions, functions, choices."""
    return draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)), draw(st.integers(0, 5))


STEPS = (
    lambda A, B: ph.exp(A * 0.3),
    lambda A, B: A * A.sum(i) / A.size(i),
    lambda A, B: ph.let(A - A.max(j)),
    lambda A, B: ph.where(A > 1, A * A, 2 * A),
    lambda A, B: A * B.sum(k),
    lambda A, B: ph.softmax(A, j),
    lambda A, B: ph.let(A.pad(j=1)[j - 1] + A),
    lambda A, B: A * A.sum(j, where=j <= i),
    lambda A, B: ph.scan("sum", A, along=j),
    lambda A, B: ph.maximum(A, 0.5 * A.mean(j)),
)
LAST = (
    lambda A, B: (A * B).sum(j),
    lambda A, B: (A(j=2 * m + n) * B(j=n)).sum(n),
    lambda A, B: (A + B).max(j),
    lambda A, B: (A * B).prod(j),
    lambda A, B: (A(i=i, j=j // 2) * B).sum(i, k),
    lambda A, B: A(i=(i + 1) % 3, j=j) * A,
)


def program(steps, last):
    def python(A, B):
        for step in steps:
            A = STEPS[step](A, B)
        return LAST[last](A, B)

    return python


@settings(max_examples=25, deadline=None, derandomize=True)
@given(functions(), st.integers(0, 100))
def test_random_programs(case, seed):
    steps, last = case
    rng = np.random.default_rng(seed)
    width = 3 if last == 1 else 4
    values = {"A": rng.uniform(0.5, 1.5, (3, 5 if last == 1 else 4)), "B": rng.uniform(0.5, 1.5, (width, 2))}
    if last == 1 and 4 in steps:
        steps = [s for s in steps if s != 4] or [1]
    held(program(steps, last), {"A": "i j", "B": "j k"}, values, tol=1e-4)


MUTANTS = {
    "a guard is dropped": lambda s: replace(s, domain=Domain(s.domain.ranges)) if s.name == "dX" else s,
    "a sign is turned": lambda s: replace(s, value=ex.Unary("-", s.value)) if s.name == "dW" else s,
    "a range is short": lambda s: (
        replace(
            s,
            domain=Domain(
                (*s.domain.ranges[:-1], replace(s.domain.ranges[-1], hi=s.domain.ranges[-1].hi - 1)), s.domain.guard
            ),
        )
        if s.name in ("dX", "dW")
        else s
    ),
    "an operand is another": lambda s: (
        replace(s, value=ex.rewrite(s.value, lambda e: e if not isinstance(e, ex.Binary) else e.lhs))
        if s.name == "dX"
        else s
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_adjoints_are_found(name):
    def conv(X, W):
        return (X(i=2 * m + n) * W).sum(n)

    def wrong(p: Program) -> Program:
        mutated = replace(p, statements=tuple(map(MUTANTS[name], p.statements)))
        assert mutated != p
        return mutated

    rng = np.random.default_rng(3)
    values = {"X": rng.standard_normal(7), "W": rng.standard_normal((3, 2))}
    axes = {"X": "i", "W": "n k"}
    held(conv, axes, values)
    found = gradient(conv, axes, values, alter=wrong)
    assert abs(found.differences - found.adjoints) > 1e-3 * max(1, abs(found.differences))
    assert abs(found.tangents - found.adjoints) > 1e-3 * max(1, abs(found.tangents))


def _without_guard(found):
    return replace(found, guard=aff.TRUE)


def _turned(found):
    return replace(found, at={d: 2 - e if d == "n" else e for d, e in found.at.items()})


@pytest.mark.parametrize("fault", [_without_guard, _turned])
def test_a_fault_in_every_inverse_is_found_by_tangents(fault, monkeypatch):
    """Tangents invert nothing, so that both sides cannot be wrong in the same way."""
    monkeypatch.setattr(reverse, "inverse", lambda *given: fault(inverse(*given)))
    rng = np.random.default_rng(3)
    values = {"X": rng.standard_normal(9), "W": rng.standard_normal((3, 2))}
    found = gradient(lambda X, W: (X.pad(i=2)(i=2 * m + n - 2) * W).sum(n), {"X": "i", "W": "n k"}, values)
    assert abs(found.tangents - found.differences) < 1e-6 * max(1, abs(found.differences))
    assert abs(found.tangents - found.adjoints) > 1e-3 * max(1, abs(found.tangents))
