"""The benchmarks run, report what they saw, and compare like with like."""

from __future__ import annotations

import argparse
import copy
import json
from importlib import import_module as module
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.config import load_profile
from ternvae.losses import geometry_losses, kl_loss, reconstruction_loss
from ternvae.models import BRANCHES, TernaryVAE
from ternvae.padic import TernarySpace
from tests.benchmarks.small import NO_TARGETS, SMALL, as_options

# --- the textbook loop does the same job ----------------------------------------------------


def batches(n_digits: int) -> dict[str, torch.Tensor]:
    """Valuations of batches that go where loops over levels and matrix products could differ."""
    space = TernarySpace(n_digits)
    everything = space.valuation(torch.arange(space.size))
    generator = torch.Generator().manual_seed(7)
    uniform = torch.randint(space.size, (200,), generator=generator)
    return {
        "whole space": everything,
        "uniform": space.valuation(uniform),
        "one row": everything[1:2],
        "deepest level only": torch.full((3,), n_digits),
        "level 0 missing": everything[everything > 0],
        "single rows": torch.arange(n_digits + 1),
    }


@pytest.mark.parametrize("floor", [0.0, 0.006, 50.0])
@pytest.mark.parametrize("case", batches(4))
def test_textbook_losses_are_those_of_the_package(case: str, floor: float) -> None:
    valuation = batches(4)[case]
    generator = torch.Generator().manual_seed(3)
    radius = 3.6 * torch.rand(len(valuation), generator=generator, dtype=torch.float64)
    both = []
    for function in (module("textbook").textbook_geometry_losses, geometry_losses):
        leaf = radius.clone().requires_grad_()
        terms = function(leaf, valuation, n_digits=4, radius_max=3.66, richness_floor=floor)
        (2 * terms.hierarchy + 3 * terms.richness + 5 * terms.separation).backward()
        both.append((torch.stack(list(terms)), leaf.grad))
    torch.testing.assert_close(both[0], both[1], rtol=1e-10, atol=1e-12)


def model_and_textbook(dtype: torch.dtype, curvature: float) -> tuple[TernaryVAE, Any]:
    torch.manual_seed(5)
    model = TernaryVAE(n_digits=4, curvature=curvature).to(dtype)
    with torch.no_grad():  # prototypes away from the origin, where nothing cancels
        model.prototypes.copy_(model.ball.expmap0(0.3 * torch.randn_like(model.prototypes)))
    return model, module("textbook").TextbookVAE(model).to(dtype)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("curvature", [1.0, 0.5])
def test_textbook_model_computes_the_same_for_equal_noise(branch: str, curvature: float) -> None:
    model, textbook = model_and_textbook(torch.float64, curvature)
    space = model.space
    indices = torch.arange(space.size)
    outputs = []
    for each in (textbook, model):
        torch.manual_seed(11)
        outputs.append(each(space.sequences(indices), space.valuation(indices), branch))
    for name, mine in outputs[0]._asdict().items():
        theirs = getattr(outputs[1], name)
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8, msg=lambda m, n=name: n + m)


def test_textbook_objective_is_that_of_the_package() -> None:
    model, textbook = model_and_textbook(torch.float32, 1.0)
    profile = load_profile(
        overrides={"space.n_digits": 4, "training.batch_size": 81, "targets.Q_enhanced": 1.0}
    )
    weights = profile.loss_weights
    indices = torch.arange(model.space.size)
    sequences, levels = model.space.sequences(indices), model.space.valuation(indices)
    torch.manual_seed(11)
    found = module("textbook").textbook_loss(
        textbook, sequences, levels, profile, textbook.radius_max
    )
    torch.manual_seed(11)
    wanted = torch.zeros(())
    for branch in BRANCHES:
        out = model(sequences, levels, branch)
        wanted = wanted + weights.coverage * reconstruction_loss(out.logits, sequences)
        wanted = wanted + weights.kl * kl_loss(out.posterior_log_prob, out.prior_log_prob)
    terms = geometry_losses(
        out.radius,
        levels,
        n_digits=4,
        radius_max=model.ball.hyperbolic_radius_max,
        richness_floor=profile.targets.richness,
    )
    wanted = wanted + weights.hierarchy * terms.hierarchy + weights.richness * terms.richness
    wanted = wanted + weights.separation * terms.separation
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0.0)


def test_textbook_loop_trains_the_model_that_it_shares() -> None:
    profile = load_profile(
        overrides={"space.n_digits": 4, "training.batch_size": 27, "targets.Q_enhanced": 1.0}
    )
    training = module("textbook").TextbookTraining(profile)
    before = {name: p.detach().clone() for name, p in training.vae.named_parameters()}
    losses = [training.epoch() for _ in range(6)]
    assert losses[-1] < losses[0] / 2
    still = [n for n, p in training.vae.named_parameters() if torch.equal(p, before[n])]
    assert still == ["ball.isp_c"]  # geoopt's curvature; all else moved, in both branches


# --- bench_training -------------------------------------------------------------------------

ROWS = (
    "step before the freeze over its bare matrix products",
    "step after the freeze over its bare matrix products",
    "evaluation, as a share of training",
    "all targets, in the time of 10 textbook epochs, median of the seeds",
    "over 3 of the textbook loop, at full quality",
    "CUDA: seconds of 3 epochs",
    "CUDA: a captured step, times as fast as an eager one",
    "Trainer, before the freeze",
    "Trainer, after the freeze",
    "Trainer, mean of 3 epochs, evaluating and saving",
    "GFLOP/s",
    "best over best",
    *("batch, us", "forward and loss, us", "backward, us", "gradient, us", "optimizer, us"),
    *("the rest, us", "in all, us", "calls of torch", "host reads"),
    "aten::",
    *("import of torch alone", "MiB resident"),
    *("Trainer, seed 0", "Trainer, seed 4", "Trainer, median", "10 textbook epochs"),
    *("coverage", "hierarchy_B", "richness", "Q_enhanced"),
)


def test_bench_training_measures_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = module("bench_training")
    base = {"import of torch alone": {"peak_mib": 200.0, "cuda_mib": None}}
    monkeypatch.setattr(bench, "peak_memory", lambda *given: base)  # tested below
    threads = torch.get_num_threads()
    at_once = {"homeostasis.coverage_precision_threshold": "0"}  # frozen after the first epoch
    options = as_options({**SMALL, **NO_TARGETS, **at_once})
    fewest = ["--epochs", "3", "--rounds", "2", "--textbook-epochs", "12"]
    where = ["--seeds", "0,4", "--threads", "1", "--out", str(tmp_path)]
    status = bench.main([*fewest, *where, *options])
    assert torch.get_num_threads() == threads
    results = json.loads((tmp_path / "bench_training.json").read_text())
    assert status == int("FAIL" in {claim["result"] for claim in results["claims"]})
    assert [run["seed"] for run in results["runs"]] == [0, 4]
    for run in results["runs"]:
        assert run["epochs"] == run["epochs_to"]["targets"] < 12
        assert run["freeze_epoch"] == 1
        assert 0 < run["seconds"]["to_targets"] < run["fit_seconds"]
    assert results["whole_run"]["epochs"] == 3
    assert results["textbook"]["epochs"] == 12
    assert len(results["textbook"]["epoch_seconds"]) == 11  # the first warms up
    assert [each["epoch"] for each in results["textbook"]["evaluations"]] == [5, 10, 12]
    assert results["trainer"]["before"]["parameters"] == results["textbook"]["parameters"]
    text = (tmp_path / "bench_training.md").read_text()
    assert text == capsys.readouterr().out
    assert [row for row in ROWS if row not in text] == []


def sound() -> dict[str, Any]:
    """What was measured, of a run that keeps every claim that is about the CPU."""
    metrics = {"coverage": 1.0, "hierarchy_B": -0.83205, "richness": 0.007, "Q_enhanced": 2.15}
    run = {
        "seed": 0,
        "epochs": 120,
        "epochs_to": {"targets": 15},
        "seconds": {"train": 20.0, "evaluate": 0.9, "total": 21.0, "to_targets": 3.0},
        "fit_seconds": 22.0,
        "seconds_per_epoch_before_freeze": 0.2,
        "seconds_per_epoch_after_freeze": 0.1,
        "freeze_epoch": 9,
        "metrics": metrics,
        "ready": True,
    }
    moments = ("before", "after")
    seen = {"library_calls": 9.0, "extension_calls": 1.0, "host_reads": 0.0, "operators": []}
    seen |= {"phases": {"batch": 10.0, "backward": 30.0}}
    return {
        "environment": {
            "command": "python",
            "date": "today",
            "versions": {},
            "machine": {"cpu": "x", "cores": 2, "load_before": 0.0, "system": "y"},
        },
        "device": "cpu",
        "threads": 2,
        "batch_size": 512,
        "trainer": {
            m: {"steps": 48, "epoch_seconds": [0.096] * 3, "step_seconds": [0.002] * 3}
            for m in moments
        },
        "floor": {
            m: {"products": 20, "flop": 10**8, "seconds": [0.001] * 3, "best": 0.0009}
            for m in moments
        },
        "breakdown": {"Trainer": seen, "textbook": seen},
        "runs": [run, run, run],
        "whole_run": run,
        "textbook": {
            "seconds_per_epoch": 0.5,
            "epoch_seconds": [0.5] * 3,
            "steps": 39,
            "epochs": 40,
            "to_targets": None,
            "evaluations": [],
        },
        "executions": {"skipped": "no CUDA device"},
        "memory": {"loop": {"failed": "exit status 1"}},
    }


def failed(contents: dict[str, Any]) -> list[int]:
    """The numbers of the claims that fail; the report has to say so too."""
    reporting = module("training_report")
    claims = reporting.check_claims(contents)
    found = [number for number, claim in enumerate(claims) if claim.result == "FAIL"]
    assert reporting.report(contents, claims).count("FAIL") == len(found)
    assert module("bounds").exit_status(claims) == bool(found)
    return found


def test_sound_figures_keep_every_claim() -> None:
    assert failed(sound()) == []
    claims = module("training_report").check_claims(sound())
    assert [claim.result for claim in claims] == ["PASS"] * 5 + ["skipped"] * 2
    assert "not within 40" in module("training_report").report(sound(), claims)


def _set(contents: dict[str, Any], keys: str, value: Any) -> None:
    *path, last = keys.split(".")
    for key in path:
        contents = contents[key]
    contents[last] = value


@pytest.mark.parametrize(
    ("keys", "value", "number"),
    [
        ("trainer.before.step_seconds", [0.0031] * 3, 0),
        ("floor.after.seconds", [0.0006, 0.0006, 0.001], 1),
        ("whole_run.seconds.evaluate", 1.01, 2),
        ("textbook.seconds_per_epoch", 0.45, 4),
        ("whole_run.fit_seconds", 24.1, 4),
        ("whole_run.ready", False, 4),
    ],
)
def test_a_claim_fails_when_its_figure_is_bad(keys: str, value: Any, number: int) -> None:
    contents = copy.deepcopy(sound())
    _set(contents, keys, value)
    assert failed(contents) == [number]


@pytest.mark.parametrize("to_targets", [[5.1, 5.1, 0.1], [1.0, 1.0, None]])
def test_the_median_of_the_seeds_decides_and_every_seed_must_arrive(to_targets: list[Any]) -> None:
    contents = copy.deepcopy(sound())
    contents["runs"] = [copy.deepcopy(contents["whole_run"]) for _ in to_targets]
    for run, seconds in zip(contents["runs"], to_targets, strict=True):
        run["seconds"]["to_targets"] = seconds
    assert failed(contents) == [3]


def test_on_cuda_its_own_claims_are_checked() -> None:
    contents = copy.deepcopy(sound()) | {"device": "cuda"}
    contents["executions"] = {"step_seconds": {"eager": 4e-3, "cuda_graph": 1e-3}, "ratio": 4.0}
    claims = module("training_report").check_claims(contents)
    assert [claim.result for claim in claims] == ["skipped"] * 5 + ["FAIL", "PASS"]  # 22 s
    contents["whole_run"]["fit_seconds"], contents["executions"]["ratio"] = 9.9, 3.9
    assert failed(contents) == [6]


# --- the floor ------------------------------------------------------------------------------


def test_floor_has_the_products_of_every_linear_layer() -> None:
    floor = module("training_floor")
    _, vae = model_and_textbook(torch.float32, 1.0)
    state = torch.get_rng_state()
    before, after = (
        getattr(floor, f"products_{when}_the_freeze")(vae, 27) for when in ("before", "after")
    )
    assert torch.equal(torch.get_rng_state(), state)
    layers = [each for each in vae.modules() if isinstance(each, torch.nn.Linear)]
    of_decoder = [each for each in vae.decoder.modules() if isinstance(each, torch.nn.Linear)]
    shapes = sorted((each.in_features, each.out_features) for each in layers + of_decoder)
    assert sorted((p.inputs, p.outputs) for p in before) == shapes  # the decoder serves both
    assert {p.rows for p in before} == {27}
    assert all(p.weight_gradient for p in before)
    # Only the digits need no gradient: a first layer and the straight path in each branch.
    firsts = [(p.inputs, p.outputs) for p in before if not p.input_gradient]
    assert firsts == [(12, 64), (12, 16)] * 2
    assert len(after) == len(before) // 2 + 1  # the chart of B has one layer more
    frozen = [(p.inputs, p.outputs) for p in after if not p.weight_gradient]
    assert frozen == [(each.in_features, each.out_features) for each in of_decoder]
    assert sum(not p.input_gradient for p in after) == 2
    assert all(each.weight.requires_grad for each in layers)
    assert floor.Product(5, 2, 3, True, False).flop == 2 * 5 * 2 * 3 * 2


def test_floor_computes_the_products() -> None:
    floor = module("training_floor")
    product = floor.Product(5, 2, 3, True, True)
    made = floor.Floor([product], torch.device("cpu"))
    assert len(made.time(0.0)) == 1 == len(made.seconds)
    assert made.flop == product.flop
    assert len(made._forward) + len(made._backward) == 3
    for first, second, result in made._forward + made._backward:
        torch.testing.assert_close(result, first @ second)


# --- a step, and memory ---------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["Trainer", "textbook"])
def test_breakdown_sees_every_phase_and_leaves_nothing_behind(loop: str) -> None:
    overrides = {"space.n_digits": 4, "training.batch_size": 27, "targets.Q_enhanced": 1.0}
    profile, device = load_profile(overrides=overrides), torch.device("cpu")
    if loop == "Trainer":
        training = module("training_measure").ManualTraining(profile, device, frozen=False)
    else:
        training = module("textbook").TextbookTraining(profile)
    training.epoch()
    before = vars(training.trainer.steps if loop == "Trainer" else training).copy()
    backward = torch.autograd.backward
    found = module("training_steps").breakdown(training, device)
    assert set(found["phases"]) == set(module("training_steps").PHASES)
    assert all(microseconds > 0 for microseconds in found["phases"].values())
    assert found["library_calls"] > 20
    assert found["operators"]
    if loop == "textbook":
        assert found["host_reads"] > 1  # a mask for each level
    assert torch.autograd.backward is backward
    after = vars(training.trainer.steps if loop == "Trainer" else training)
    source = "batches" if loop == "Trainer" else "loader"
    assert after[source] is before[source]


def test_memory_is_that_of_a_process_of_its_own() -> None:
    memory, children = module("training_memory"), module("children")
    job = {"overrides": SMALL, "device": "cpu", "threads": 1}
    script = Path(memory.__file__)

    def peak(name: str) -> float:
        return float(children.in_child(script, {**job, "loop": name})["peak_mib"])

    alone, loop = peak("import of torch alone"), peak("Trainer, training")
    ballast = torch.ones(2**27)  # half a gigabyte, which a child must not be charged for
    beside = peak("Trainer, training")
    assert 0 < alone < loop
    assert abs(beside - loop) < ballast.nbytes / 2**20 / 2
    assert children.in_child(script / "missing", job) == {"failed": "exit status 2"}


# --- shared parts ---------------------------------------------------------------------------


def test_integers_reads_ranges_and_lists() -> None:
    integers = module("environment").integers
    assert integers("0-3") == [0, 1, 2, 3]
    assert integers("7,0-1, 5") == [7, 0, 1, 5]
    for text in ("", "a", "1-", "-1", "1,,2", "2-1", "1.5", "0-99999999"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected numbers"):
            integers(text)


def test_markdown_table_is_aligned() -> None:
    text = module("environment").markdown_table(("a", "value"), [("long name", "1"), ("b", "22")])
    assert text.splitlines() == [
        "| a         | value |",
        "| --------- | ----: |",
        "| long name |     1 |",
        "| b         |    22 |",
    ]
