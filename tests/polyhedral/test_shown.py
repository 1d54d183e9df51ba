# SPDX-License-Identifier: MIT
"""What programs and their parts look like: a line as `repr`, the canonical text where a program is printed."""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, k


@ph.function(A="i k", v="k")
def product(A, v):
    scaled = ph.let(A * v, "scaled")
    return scaled.sum(k) + ph.where(i > 0, 1, 0)


MODULE = product.trace()


def test_a_printed_program_is_its_text_and_parses_back():
    text = str(MODULE.program)
    assert text == ph.to_text(MODULE.program).rstrip("\n")
    assert ph.parse(text) == MODULE.program
    assert str(MODULE) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (MODULE.program, "<ph.Program product(A{i,k}, v{k}, out{i}); scaled, sum0, out>"),
        (MODULE, "<Module product(A{i,k}, v{k}, out{i}); scaled, sum0, out>"),
        (MODULE.program.array("scaled"), "<temporary scaled: f32[i: A.i, k: A.k]>"),
        (MODULE.program.array("A"), "<input A: f32[i, k]>"),
        (MODULE.program.statement("sum0"), "<statement sum0: sum into sum0 for i < A.i, k < A.k>"),
    ],
)
def test_a_part_is_one_line(value, shown):
    assert repr(value) == shown


def test_no_public_object_shows_how_it_is_stored():
    low = product.lower(np.ones((3, 4), "f4"), np.ones(4, "f4"))
    for value in (
        MODULE.program,
        MODULE,
        ph.check(MODULE.program),
        low,
        product,
        ph.array(np.ones(3), "i"),
        low.program,
    ):
        assert "\n" not in repr(value), type(value)
        assert "Affine(" not in repr(value), type(value)
        assert "Affine(" not in str(value), type(value)
