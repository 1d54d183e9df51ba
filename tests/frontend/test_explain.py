# SPDX-License-Identifier: MIT
"""`low.explain`: three parts, true when legal, JSON with stable keys."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest

import polyhedral as ph
from frontend.commands.ask import ask
from frontend.environment.options import from_environment
from frontend.inspection.why import CAUSES
from frontend.units import cycles
from frontend.usage import UsageError
from polyhedral.dim import j, k, t, x, y
from polyhedral.errors import ArgumentError
from polyhedral.plans.cycles import Prediction


@ph.function(u0="x")
def jacobi(u0, steps: ph.Size):
    u = ph.var("u", like=u0, t=steps + 1)
    u(t=0)[...] = u0
    u[t + 1] = ph.orelse(0.33 * (u + u[x - 1] + u[x + 1]), u)
    return u(t=steps)


@ph.function(X="y x", W="k")
def blur(X, W):
    blur1 = ph.let((X[x + k] * W).sum(k), "blur1")
    return (blur1[x + k] * W).sum(k)


@ph.function(A="i k", B="k j")
def mm(A, B):
    return (A * B).sum(k)


KEYS = {
    "schema", "code", "question", "legal", "statement", "dims", "point", "sizes", "dependence", "distance", "deltas",
    "answer", "chosen", "change", "hint", "predicted",
}  # fmt: skip


def test_a_tile_in_three_parts():
    answer = jacobi.lower().explain.tile("u", t=8, x=64)
    assert not answer
    legal, chosen, change = (str(answer).index(w) for w in ("legal?", "chosen:", "change:"))
    assert legal < chosen < change
    text = str(answer)
    assert "u(t,x) -> u(t+1,x-1) has distance (1,-1), negative in x" in text
    assert "witness: S1(" in text
    assert "{(1,x): -1<=x<=1}" in text
    assert "S1 runs in" in text[chosen:change]
    assert "footprint" in text[chosen:change]
    assert 'hint skew("u", x=t)' in text[change:]


def test_a_legal_question_says_how_to_ask_for_it():
    answer = jacobi.lower().explain.tile("u", x=64)
    assert answer
    assert 'tile("u", x=64)' in answer.change[0]


def test_fusion():
    explain = blur.lower(X="f32[y:32, x:32]", W="f32[k:3]").explain
    assert explain.fuse("blur1", "out", at="y")
    refused = explain.fuse("blur1", "out", at=(y, x))
    assert not refused
    assert "LATER in the fused order" in str(refused)
    assert any("recompute blur1 (3-fold work)" in c for c in refused.change)
    assert any("blur1 takes 3.8 KiB" in c for c in refused.chosen)


def test_parallel_and_vector():
    explain = mm.lower(A="f32[i:8, k:8]", B="f32[k:8, j:8]").explain
    assert not explain.parallel(k)
    assert explain.parallel(j)
    assert any("j has 8 iterations" in c for c in explain.parallel("j").chosen)
    assert explain.vectorize(j)
    assert any("B 1" in c and "A 0" in c for c in explain.vectorize(j).chosen)


def test_bounds_layout_and_why():
    explain = blur.lower().explain
    assert any("out reads blur1(x=k + x): proved" in a for a in explain.bounds("out").answer)
    assert explain.layout("out")
    assert not explain.layout("X")
    why = explain.why()
    assert why
    assert any("blur1 runs in" in c for c in why.chosen)
    assert all("blur1" in c for c in explain.why("blur1").chosen)
    with pytest.raises(ArgumentError, match="no tensor 'Z'"):
        explain.layout("Z")


TURNED = """
program turned
  input X: f32[y: 256, x: 256]
  temporary T: f32[y: 256, x: 256]
  output Y: f32[y: 256, x: 256]
  output s: f32[y: 256]
  T: for y < 256, x < 256: T = exp(exp(exp(exp(X))))
  Y: for y < 256, x < 256 at (1): Y = T + T(y=x, x=y)
  s: for y < 256 at (2): s = sum[x < 256] T
"""


def test_a_layout_says_what_the_next_best_would_cost():
    low = ph.lower(ph.parse(TURNED))
    answer = low.explain.layout("T")
    assert answer
    place, why, *_ = answer.chosen
    assert place == "order y x (strides y: 256, x: 1)"
    reason = low.built.assigned.reasons["T"]
    assert reason.order == ("y", "x")
    assert reason.others[0][0] == ("x", "y")
    assert why.startswith(f"chosen, best for the whole program: {cycles(reason.cycles)} cycles")
    assert f"next best x y, {cycles(reason.others[0][1])} cycles" in why
    assert answer.change[0].startswith('hint layout("T", "x y"): ')
    assert low.explain.layout("T", "y x").change == ("T lies so already",)
    assert "given by the caller" in low.explain.layout("X").chosen
    assert "there is nothing to choose" in low.explain.layout("s").chosen
    with pytest.raises(ArgumentError, match="name each dim once"):
        low.explain.layout("T", "y z")


def test_a_hint_on_a_layout_wins():
    low = ph.lower(ph.parse(TURNED), hints=ph.hints().layout("T", "x y"))
    assert low.layouts["T"].order == ("x", "y")
    assert low.explain.layout("T").chosen == ("order x y (strides x: 256, y: 1)", "asked for by a hint")
    assert "T" not in low.built.assigned.reasons


def test_layouts_may_be_chosen_one_by_one():
    with ph.options(layouts="greedy"):
        low = ph.lower(ph.parse(TURNED))
    assert "as its first statement likes" in str(low.explain.layout("T"))
    with pytest.raises(ArgumentError, match=r"layouts='best' is no way") as e, ph.options(layouts="best"):
        ph.lower(ph.parse(TURNED))
    assert e.value.code == "PH506"
    assert from_environment({"POLYHEDRAL_LAYOUTS": "greedy"}) == {"layouts": "greedy"}


def test_questions_survive_register_tiles():
    low = mm.lower(A="f32[i:256, k:256]", B="f32[k:256, j:256]")
    answer = low.explain.tile("out", i=8, j=32)
    assert answer
    assert any("(unroll)" in c for c in answer.chosen)
    assert any("fits L" in c for c in answer.chosen)


def test_why_says_what_bounds_a_planned_statement():
    low = mm.lower(A="f32[i:256, k:256]", B="f32[k:256, j:256]", threads=1)
    answer = low.explain.why()
    (found,) = answer.predicted
    assert found["planned"] is True
    causes: dict[str, dict[str, float]] = found["causes"]  # type: ignore[assignment]
    assert set(causes) <= set(CAUSES.values())
    assert {"multiply-adds", "loads", "latency", "partial tiles"} <= set(causes)
    assert found["bound"] == max(causes, key=lambda c: causes[c]["cycles"])
    assert 0 < found["peak"] <= 1  # type: ignore[operator]
    assert f"out is bound by {found['bound']}: predicted" in str(answer)
    assert any("register tile" in line and "accumulators" in line for line in answer.chosen)
    assert json.loads(json.dumps(answer.to_json()))["predicted"] == [found]


def test_why_knows_what_is_relaid_once():
    weights = np.ones((256, 256), np.float32)
    bound = mm.bind(B=weights).lower(A="f32[i:256, k:256]", threads=1)
    assert all("at each call" not in line for line in bound.explain.why().chosen if "B re-laid" in line)
    assert bound.explain.why().predicted[0]["planned"] is True


def test_why_of_statements_without_a_plan():
    low = blur.lower(X="f32[y:64, x:64]", W="f32[k:3]", threads=1)
    answer = low.explain.why("blur1")
    (found,) = answer.predicted
    assert (found["planned"], found["because"]) == (False, "it is small")
    assert "at least" in str(answer)
    assert any("plan_above=0" in c for c in answer.change)
    assert set(found["causes"]) == {"arithmetic", "bandwidth of L3"}  # type: ignore[call-overload]
    (symbolic,) = blur.lower().explain.why("blur1").predicted
    assert symbolic["cycles"] is None
    assert "-s fixes them" in symbolic["bound"]  # type: ignore[operator]


@ph.function(X="x")
def doubled(X):
    return X * 2.0


def test_why_of_what_reduces_nothing():
    (found,) = doubled.lower(X=f"f32[x:{1 << 24}]", threads=1).explain.why().predicted
    assert "reduces nothing" in str(found["because"])
    assert found["bound"] == "bandwidth of memory"


def test_why_of_what_is_not_stored():
    p = ph.parse("""
    program pairs
      input X: f32[i: 4096]
      input Y: f32[j: 256]
      output A: f32[i: 4096]
      output B: f32[i: 4096]
      temporary V: f32[i: 4096, j: 256]
      V: for i < 4096, j < 256: V = X + Y
      A: for i < 4096: A = sum[j < 256] V * V
      B: for i < 4096: B = sum[j < 256] V
    """)
    answer = ph.lower(p).explain.why()
    assert [w["statement"] for w in answer.predicted] == ["V", "A", "B"]
    assert "not stored" in str(answer.predicted[0]["bound"])


def test_every_cause_has_words_and_a_remedy():
    assert {f.name for f in fields(Prediction)} - {"imbalance"} <= set(CAUSES)


def test_json():
    low = jacobi.lower()
    for answer in (
        low.explain.tile("u", t=8, x=64),
        low.explain.parallel(x),
        low.explain.bounds("u"),
        low.explain.why(),
    ):
        data = json.loads(json.dumps(answer.to_json()))
        assert set(data) == KEYS
        assert data["legal"] is bool(answer)
    data = low.explain.tile("u", t=8, x=64).to_json()
    assert data["code"] == "PH401"
    assert data["statement"] == "S1"
    assert data["hint"] == ['skew("u", x=t)']
    assert data["dims"] == ["t", "x"]
    assert data["point"] is not None


def test_questions_in_words():
    low = jacobi.lower()
    assert not ask(low, "tile", ["u", "t=8,x=64"], None)
    assert ask(low, "parallel", ["x", "u"], None)
    assert ask(low, "why", [], None)
    for question, words in (("tile", ["u"]), ("tile", ["u", "t:8"]), ("nope", []), ("fuse", ["u"]), ("parallel", [])):
        with pytest.raises(UsageError):
            ask(low, question, words, None)
    assert repr(t) == "t"


# --- why slow --------------------------------------------------------------------------------------------------------


@ph.function(A="i k", B="k j", v="j")
def two_products(A, B, v):
    first = ph.let((A * B).sum(k), "first")
    return (first * v).sum(j)


def test_why_slow_ranks_statements():
    sizes = {"A": "f32[i:128, k:128]", "B": "f32[k:128, j:128]", "v": "f32[j:128]"}
    low = two_products.lower(**sizes, threads=1)
    answer = low.explain.slow()
    assert answer.kind == "slow"
    cycles_of = [p["cycles"] for p in answer.predicted if p["cycles"] is not None]
    assert cycles_of == sorted(cycles_of, reverse=True)
    assert answer.predicted[0]["statement"] == "first"
    text = str(answer)
    assert f"its {2 * 128**3 + 2 * 128**2:,} operations take" in text
    assert "first is bound by" in text
    assert "out is bound by" not in text  # far less than a tenth
    assert any(line.startswith("first: ") for line in answer.change)
    assert ask(low, "why", ["slow"], None).predicted == answer.predicted


def test_why_slow_without_sizes():
    answer = two_products.lower().explain.slow()
    assert "nothing is predicted of two_products" in answer.answer
    assert sum("-s fixes them" in line for line in answer.answer) == 2
    assert "operations" not in str(answer)


def test_why_slow_of_a_tensor_of_that_name():
    low = ph.lower(ph.parse("program p\n input X: f32[x: 4]\n output slow: f32[x: 4]\n S: for x < 4: slow = X"))
    assert ask(low, "why", ["slow"], None).question == "why slow"
    assert ask(low, "why", ["slow"], None).kind == "why"
    assert ask(low, "why", ["p"], None).question == "why p"


def test_why_of_the_kernels_of_a_device():
    low = mm.lower(A="f32[i:512, k:512]", B="f32[k:512, j:512]", target="cuda:sm_90")
    assert low.built.mapped is not None
    ((_, price),) = low.built.mapped.prices
    assert price is not None
    for answer in (low.explain.slow(), low.explain.why(), low.explain.why("out")):
        (found,) = answer.predicted
        assert (found["bound"], found["cycles"]) == (price.bound, price.whole)
    assert "hints ask for its loops" not in str(low.explain.why())
    assert " us\n" in str(low.explain.slow())


def test_why_of_a_device_that_predicts_nothing():
    low = jacobi.lower(u0="f32[x: 64]", sizes={"steps": 10}, target="cuda:sm_90")
    assert "is not predicted" in str(low.explain.slow())
