# SPDX-License-Identifier: MIT
"""`POLYHEDRAL_LOG` and the loggers behind it say what each stage of a compilation came to."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest

import polyhedral as ph
from frontend.environment import logs
from polyhedral.dim import k

PROGRAM = """
import numpy as np, polyhedral as ph
from polyhedral.dim import k
f = ph.function(A="i k", B="k j")(lambda A, B: (A * B).sum(k))
f(np.ones((2, 3)), np.ones((3, 4)))
"""


def said(topics, cache):
    env = {**os.environ, "POLYHEDRAL_LOG": topics, "POLYHEDRAL_CACHE_DIR": str(cache)}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=100)


def test_topics_of_a_process(tmp_path):
    first = said("cache, schedule", tmp_path)
    assert first.returncode == 0
    assert "polyhedral.cache: <lambda>\n  compiled in" in first.stderr
    assert "polyhedral.schedule: <lambda>\n" in first.stderr
    assert "polyhedral.deps" not in first.stderr
    again = said("all", tmp_path)
    assert "polyhedral.cache: <lambda>\n  found" in again.stderr
    for topic in ("infer", "deps", "layout", "codegen"):
        assert f"polyhedral.{topic}: <lambda>\n  " in again.stderr
    assert first.stdout == again.stdout == ""


def test_silence(tmp_path):
    assert said("", tmp_path).stderr == ""


def test_topics_that_there_are_not(tmp_path):
    wrong = said("shedule", tmp_path)
    assert wrong.returncode == 1
    assert "[PH506] POLYHEDRAL_LOG='shedule': there is no topic 'shedule'" in wrong.stderr
    assert "layout: where the cells" in wrong.stderr


def test_loggers_of_a_program(caplog):
    product = ph.function(A="i k", B="k j", returns="i j")(lambda A, B: (A * B).sum(k))
    with caplog.at_level(logging.INFO, "polyhedral.infer"), caplog.at_level(logging.INFO, "polyhedral.layout"):
        product(np.ones((2, 3)), np.ones((3, 4)))
    told = {r.name: r.getMessage() for r in caplog.records}
    assert "out: { i, j, k : " in told["polyhedral.infer"]
    assert "A: i: 3, k: 1" in told["polyhedral.layout"]
    assert "polyhedral.deps" not in told
    caplog.clear()
    with caplog.at_level(logging.INFO, "polyhedral.schedule"):
        ph.lower(ph.parse(str(product)), sizes={"A.i": 2, "A.k": 3, "B.k": 3, "B.j": 4})
    assert "band" in caplog.text


def test_trials_of_tuning(caplog):
    product = ph.function(A="i k", B="k j", returns="i j")(lambda A, B: (A * B).sum(k))
    with caplog.at_level(logging.INFO, "polyhedral.tune"):
        product.tune(np.ones((64, 64)), np.ones((64, 64)), budget="2s", trials=1, db=None)
    first, *others = [r.getMessage() for r in caplog.records if r.name == "polyhedral.tune"]
    assert first.startswith("<lambda>\n  as predicted: the predicted plan, ")
    assert others


@pytest.mark.parametrize("given", ["", "0", "none", " , "])
def test_nothing_asked_for(given):
    before = [list(logs.logger(t).handlers) for t in logs.TOPICS]
    logs.listen(given)
    assert [list(logs.logger(t).handlers) for t in logs.TOPICS] == before
