# SPDX-License-Identifier: MIT
"""Every benchmark file imports, every case is right at a small size, and so is every peer that is installed.

No test looks at a time: what is measured is only checked for being there.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import benchmarks
from benchmarks import (
    backward,
    capsule,
    chain_compile,
    compare,
    device,
    latency,
    memory,
    nests,
    our_forms,
    predicted,
    routing,
    run,
    training,
)
from benchmarks.attention import seen
from benchmarks.case import parts
from benchmarks.cases import CASES, SUITES, case
from benchmarks.peers import contestants, optional
from codegen.runtime.device import no_device
from codegen.runtime.native import address
from codegen.runtime.roof import Meter, Roof, measure
from frontend.commands.bench_options import REGRESSION
from frontend.environment.session import _driver
from frontend.measuring import timing
from frontend.measuring.ledger import OURS, load
from frontend.measuring.tables import show
from frontend.measuring.timing import native
from tests.device.fake.gpu import Gpu
from tests.device.fake.opened import WAYS, opened
from tests.device.on_opencl import needs_opencl

ROOF = Roof(1, 100.0, 50.0, 20.0, 25.0)


class StillMeter(Meter):
    """Ceilings without measuring them."""

    def __init__(self) -> None:
        pass

    def __call__(self, threads: int = 1, *, streams: bool = True, seconds: float = 0.06) -> Roof:
        return ROOF


@pytest.mark.parametrize("file", sorted(p.stem for p in Path(benchmarks.__file__).parent.glob("*.py")))
def test_imports(file: str):
    assert importlib.import_module("benchmarks" if file == "__init__" else f"benchmarks.{file}").__doc__


@pytest.mark.parametrize("name", CASES)
def test_case(name: str):
    c = case(name, small=True)
    arrays = c.inputs()
    before = {n: a.copy() for n, a in arrays.items()}
    got, want = c.result(arrays), c.expected(arrays)
    shapes = [c.out_shape or c.shapes[c.inout], *c.further]
    assert [a.shape for a in parts(got)] == [a.shape for a in parts(want)] == shapes
    assert c.error(got, want) <= c.tolerance
    for at in range(len(shapes)):  # each result counts
        off = tuple(a + 0.01 * (n == at) for n, a in enumerate(parts(got)))
        assert c.error(off, parts(want)) > c.tolerance
    for n, a in before.items():
        np.testing.assert_array_equal(arrays[n], a)


@pytest.mark.parametrize("name", CASES)
def test_full_size_is_described_without_being_run(name: str):
    c = case(name)
    assert c.name == name == case(name, small=True).name
    assert c.flops > 0
    assert c.bytes > 0


def test_sizes_of_the_published_cases():
    assert case("CAP0").flops == pytest.approx(0.0755e9, rel=1e-3)
    assert case("CAP0x16").bytes == pytest.approx(11.1e6, rel=1e-2)
    assert case("T2SP").flops == pytest.approx(3.70e9, rel=1e-3)
    assert [round(case(f"C{n}").flops / 1e6) for n in (1, 2, 4, 5)] == [236, 231, 116, 13]


@pytest.mark.parametrize("name", ["CAP0", "CAP1-channels", "C2", "C4-nhwc", "TALL", "TROP"])
def test_every_order_of_the_plain_nest_is_right(name: str):
    c = case(name, small=True)
    assert c.nest is not None
    arrays = c.inputs()
    for order in nests.orders(c.nest):
        out = np.full(c.out_shape, np.nan, c.dtype)
        native(nests.text(c, order), nests.SYMBOL, nests.FLAGS)([*(address(arrays[n]) for n in c.shapes), address(out)])
        assert c.error(out, c.expected(arrays)) <= c.tolerance, order


@pytest.mark.parametrize(
    "name",
    [
        "CAP0",
        "CAP0-channels",
        "C2",
        "C4-nhwc",
        "DILATED",
        "BATCHED",
        "TROP",
        "BILIN",
        "LAYERNORM",
        "JACOBI",
        "INVO",
        "ATTENTION-window",
    ],
)
def test_numpy_peer(name: str):
    c = case(name, small=True)
    arrays = c.inputs()
    found, notes = contestants(c, arrays, 1, ("numpy",))
    assert not notes
    for peer in found:
        peer.run()
        assert c.error(peer.result(), c.expected(arrays)) <= 1e-5


LAYERS = ("CAP0", "CAP0-channels", "C2", "C4-nhwc", "C2x16", "GROUPED", "DW2", "TCONV")
PROGRAMS = ("EM", "NET", "RESBLOCK", "RESBLOCK+fresh", "CHAIN3", "CHAIN3+constant")
OTHERS = ("SOFTMAX", "TROP", "INVO", "ATTENTION", "ATTENTION-window", "BILIN", "BATCHED")


@pytest.mark.skipif(optional("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("name", [*LAYERS, *OTHERS, *PROGRAMS])
def test_torch_peer(name: str):
    c = case(name, small=True)
    arrays = c.inputs()
    found, notes = contestants(c, arrays, 1, ("torch",))
    assert not notes
    assert len({peer.name for peer in found}) == len(found)
    for peer in found:
        peer.run()
        assert c.error(peer.result(), c.expected(arrays)) <= 1e-5, peer.name
    packed = name in ("RESBLOCK", "CHAIN3+constant") or (name in LAYERS and name != "TCONV")
    assert ("torch prepacked" in [p.name for p in found]) == packed


@pytest.mark.skipif(optional("torch") is None, reason="torch is not installed")
def test_weights_that_change_are_not_packed():
    c = case("C2+fresh", small=True)
    assert not c.constant
    assert "torch prepacked" not in [p.name for p in contestants(c, c.inputs(), 1, ("torch",))[0]]


@pytest.mark.skipif(optional("jax") is None, reason="jax is not installed")
@pytest.mark.parametrize("name", [*LAYERS, *OTHERS, *PROGRAMS, "JACOBI"])
def test_jax_peer(name: str):
    c = case(name, small=True)
    arrays = c.inputs()
    found, notes = contestants(c, arrays, 1, ("jax",))
    assert not notes
    for peer in found:
        peer.run()
        assert c.error(peer.result(), c.expected(arrays)) <= 1e-5


@pytest.mark.parametrize("name", ["C2", "TCONV"])
def test_polly_runs_or_says_why_not(name: str):
    c = case(name, small=True)
    arrays = c.inputs()
    found, notes = contestants(c, arrays, 1, ("polly",))
    assert len(found) + len(notes) == 1
    for peer in found:
        peer.run()
        assert c.error(peer.result(), c.expected(arrays)) <= c.tolerance


def test_a_plain_nest_leaves_threads_to_the_compiler():
    c = case("C2", small=True)
    order = next(nests.orders(c.nest))
    assert "#pragma" in nests.text(c, order)
    assert "#pragma" not in nests.text(c, order, plain=True)


@pytest.mark.skipif(optional("torch") is None, reason="torch is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of itself
def test_torch_compile_is_given_the_best_forms():
    c = case("RESBLOCK", small=True)
    arrays = c.inputs()
    found, notes = contestants(c, arrays, 1, ("compile",))
    assert not notes
    assert [p.name for p in found] == ["torch.compile", "torch.compile channels_last"]
    for peer in found:
        peer.run()
        assert c.error(peer.result(), c.expected(arrays)) <= 1e-5


def test_a_child_is_shared_out_over_all_windows_that_cover_it():
    at = routing.places(6, 3, 2)
    assert at.shape == (2, 2, 3, 3)
    assert np.bincount(at.ravel(), minlength=36).reshape(6, 6)[:5, :5].tolist() == [
        [1, 1, 2, 1, 1], [1, 1, 2, 1, 1], [2, 2, 4, 2, 2], [1, 1, 2, 1, 1], [1, 1, 2, 1, 1]
    ]  # fmt: skip


def test_an_error_of_any_result_is_the_error():
    c = case("EM", small=True)
    one, two = np.array([1.0, 2.0]), np.array([0.5])
    assert c.error((one, two), (one, two)) == 0
    assert c.error((one, two * 2), (one, two)) == 1
    assert not c.error((one, two * np.nan), (one, two)) <= c.tolerance


@pytest.mark.parametrize("named", [True, False])
def test_a_chain_of_layers_is_what_numpy_says(named: bool):
    rng = np.random.default_rng(0)
    X, W, bias = (rng.random(s) - 0.5 for s in ((3, 4), (2, 4, 4), (2, 4)))
    got = np.asarray(chain_compile.chain(2, named=named)(X=X, W=W, bias=bias))
    for w, b in zip(W, bias, strict=True):
        active = np.maximum(X @ w + b, 0)
        centred = active - active.mean(1, keepdims=True)
        X = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(got, X, rtol=1e-9, atol=1e-12)


def test_growth_of_compile_time_is_reported(capsys: pytest.CaptureFixture[str]):
    assert chain_compile.main(["--layers", "1", "4"]) == 0
    said = capsys.readouterr().out
    assert "statement" in said
    assert "time(4) / time(1)" in said


def test_which_operands_are_constant():
    assert case("CAP0").constant == case("C2").constant == case("DW1", small=True).constant == ("W",)
    for name in ("CAP0x16", "T2SP", "SGEMM512", "CAP0+fresh", "BILIN"):
        assert case(name).constant == ()
    assert case("T2SP+constant").constant == ("W",)
    with pytest.raises(KeyError):
        case("CAP0+sometimes")


def test_suites_hold_every_case():
    suites = {n for suite, names in SUITES.items() if suite != "all" for n in names}
    assert suites == set(CASES) == set(SUITES["all"])


def test_window_of_attention():
    assert seen(4, 0).sum() == 10
    assert seen(4, 2).sum() == 7


@pytest.mark.parametrize("name", ["CAP0", "SEIDEL", "DGEMM512"])
def test_a_measurement_is_a_line_of_json(name: str, capsys: pytest.CaptureFixture[str]):
    records = run.measure(case(name, small=True), StillMeter(), ("numpy", "c"), 1, 0.01)
    assert records[0]["who"] == OURS
    for r in records:
        assert json.loads(json.dumps(r)) == r
        assert r["error"] <= 1e-5
        assert r["median"] > 0
        assert r["of_roof"] > 0
    show([{**r, "threads": 1} for r in records])
    assert name in capsys.readouterr().out


def test_run_writes_results_that_compare_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "results.jsonl"
    assert run.main(["--case", "TALL", "--small", "--peers", "c", "--seconds", "0.01", "-o", str(file)]) == 0
    records = load(file)
    assert {"machine", "versions", "commit", "command", "roof", "iqr"} <= records[0].keys()
    assert compare.main([str(file), str(file)]) == 0
    slow = tmp_path / "slow.jsonl"
    slow.write_text("".join(json.dumps(r | {"of_roof": r["of_roof"] / 10, "iqr": 0.0}) + "\n" for r in records))
    steady = tmp_path / "steady.jsonl"
    steady.write_text("".join(json.dumps(r | {"iqr": 0.0}) + "\n" for r in records))
    assert compare.main([str(steady), str(slow)]) == REGRESSION
    assert compare.main([str(slow), str(steady)]) == 0
    assert "slower" in capsys.readouterr().out


def test_the_main_job(capsys: pytest.CaptureFixture[str]):
    assert capsule.main(["--small", "--seconds", "0.01"]) == 0
    said = capsys.readouterr().out
    for phrase in ("agrees with NumPy", "of the FMA peak", "ratio", "trace", "C compiler", "first run"):
        assert phrase in said


def test_latency_figures(tmp_path: Path):
    assert latency.child(latency.IMPORT, tmp_path)["import"] > 0
    assert set(latency.child(latency.TRACE, tmp_path)) == {
        f"{n}, {when}"
        for n in ("tracing", "assembling and checking", "lowering to C, all stages")
        for when in ("first in a process", "later")
    }
    assert latency.child(latency.CALL, tmp_path)["first call"] > 0


def test_interleaving_takes_turns():
    seen: list[str] = []
    every = [timing.Contestant(n, lambda n=n: seen.append(n), lambda: np.zeros(1), reset=lambda: None) for n in "ab"]
    times, roofs = timing.interleave(every, lambda: ROOF, seconds=0.0, least=3)
    assert seen == ["a", "a", "b", "b"] + ["a", "b"] * 3
    assert len(times["a"].seconds) == 3
    assert timing.middle(roofs) == ROOF


def test_ceilings_are_measured():
    for roof in measure(native, (1, 2)).values():
        ceilings = (roof.fma_f32, roof.fma_f64, roof.triad, roof.fill)  # which is higher depends on who else is here
        assert all(0.01 < c < 1e5 for c in ceilings)
        assert json.loads(json.dumps(roof.record()))["threads"] == roof.threads
    assert ROOF.seconds(100e9, 0) == 1.0
    assert ROOF.seconds(0, 20e9) == 1.0
    assert "GFLOP/s" in str(ROOF)


def test_derivatives_of_routing_by_hand():
    """The reference of EM-backward is what differences of the forward reference say, along one direction of each."""
    case, forward = (make("EM-backward", 1, 4, 2, 2, 3, 1) for make in (backward.em, routing.em))
    at = {name: a.astype(np.float64) for name, a in case.inputs(0).items()}
    rng = np.random.default_rng(1)

    def loss(T: np.ndarray, **arrays: np.ndarray) -> float:
        Mu, A = forward.reference(**arrays)
        return (Mu * T).sum() + (A**2).sum()

    value, *made = case.reference(**at)
    assert value == pytest.approx(loss(**at))
    for name, d in zip(("Pose", "W", "bu", "ba"), made, strict=True):
        along = rng.standard_normal(d.shape)
        ends = [loss(**at | {name: at[name] + step * along}) for step in (1e-5, -1e-5)]
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx((along * d).sum(), rel=1e-6, abs=1e-9)


def test_a_step_of_training_is_one_program():
    """Its kernels take long to compile: that it is lowered is said here, derivatives of the layers elsewhere."""
    function, names = training.step(training.SMALL)
    results = str(function)
    assert all(f"{name}" in results for name in names)
    assert results.count("  output ") == 1 + len(names)


# --- devices ---------------------------------------------------------------------------------------------------------


def test_predictions_for_a_gpu(capsys):
    predicted.main(["--small", "--case", "SGEMM512", "--case", "SOFTMAX", "--case", "LU"])
    title, head, product, rows, recurrence = capsys.readouterr().out.splitlines()
    assert "never measured" in title
    assert head == predicted.HEADER
    assert product.split()[:2] == ["SGEMM512", "1"]
    assert float(rows.split()[2]) > 0
    assert "recurrence" in recurrence


def test_cases_are_checked_and_timed_on_a_device(capsys, monkeypatch: pytest.MonkeyPatch):
    needs_opencl()
    given = ["--small", "--here", "--target", "opencl", "--repeat", "1", "--case", "SGEMM512", "--case", "LU"]
    assert device.main(given) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["SGEMM512", "LU"]
    monkeypatch.setattr("benchmarks.case.Case.expected", lambda c, arrays: c.reference(**arrays) + 1)
    assert device.main(given) == 1
    assert capsys.readouterr().out.count("WRONG") == 2


def test_no_gpu_is_said_and_nothing_else(capsys, monkeypatch: pytest.MonkeyPatch):
    def none(env: object, architecture: object = None) -> None:
        raise no_device("cuda", "there is none", "a GPU")

    monkeypatch.setattr("frontend.environment.session.open_cuda", none)
    _driver.cache_clear()
    assert device.main(["--small", "--here"]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert "PH520" in said.err


@pytest.mark.usefixtures("precompiled_words")
@pytest.mark.parametrize("way", WAYS)
def test_every_case_of_the_table_on_a_stand_in_for_a_gpu(
    capsys, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, way: str
):
    """What a machine with a GPU would be asked for, driver and all, at small sizes; nothing of it is left there."""
    gpu = Gpu(capacity=1 << 30)
    opened(monkeypatch, gpu, way, tmp_path_factory.getbasetemp())
    names = [n for c in ("SGEMM512", "SOFTMAX", "LU") if way != "pycuda" for n in ("--case", c)]
    assert device.main(["--small", "--here", "--repeat", "2", *names]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [x.split()[0] for x in lines[2:]] == (names[1::2] or list(device.DEFAULT))
    assert all(float(x.split()[1]) > 0 and x.endswith("no torch with CUDA") for x in lines[2:])
    assert gpu.used <= 200 << 20


def test_a_case_that_ends_its_process_costs_itself_alone(capfd, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Cases run apart: here there is no GPU, and a compiler that hangs."""
    hangs = tmp_path / "nvcc"
    hangs.write_text("#!/bin/sh\ncase $1 in --version) echo stand-in;; *) sleep 60;; esac\n")
    hangs.chmod(0o755)
    monkeypatch.setenv("NVCC", str(hangs))
    monkeypatch.setenv("POLYHEDRAL_CACHE_DIR", str(tmp_path / "cache"))
    given = ["--small", "--build", "--target", "cuda:sm_90", "--case", "SGEMM512", "--limit", "6"]
    assert device.main(given) == 1
    assert "took more than 6 s" in capfd.readouterr().out


@pytest.mark.parametrize(("name", "who"), [("EM-backward", our_forms.ONE_BY_ONE), ("CHAIN3-few", our_forms.GREEDY)])
def test_other_forms_of_ours_are_right(name: str, who: str):
    c = case(name, small=True)
    arrays = c.inputs()
    (form,) = our_forms.forms(c, arrays)
    assert form.name == who
    form.run()
    assert form.result is not None
    assert c.error(form.result(), c.expected(arrays)) <= c.tolerance
    assert not list(our_forms.forms(case("CAP0", small=True), arrays))


def test_memory_of_each_contestant(capsys: pytest.CaptureFixture[str]):
    assert memory.main(["--small", "--case", "EM-backward", "--peers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [OURS, our_forms.ONE_BY_ONE]
    assert all(re.fullmatch(r".* \d+ MB", line) for line in lines)
