"""Checkpoints measured anew: against brute force, against the run, and against what they say."""

import json
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ternvae.analysis.measuring as measuring
import ternvae.training.device as device
from ternvae.analysis import (
    Difference,
    analysis_json,
    analysis_text,
    analyze,
    comparison_text,
)
from ternvae.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ternvae.config import load_profile
from ternvae.metrics import ceilings, measure_structure, metric_names
from ternvae.models import TernaryVAE
from ternvae.trainer import Trainer
from ternvae.training.verdict import asked_for
from ternvae.training.wording import final_table

Change = Callable[[dict[str, Any]], object]


def trained(run_dir: Path, **overrides: Any) -> Path:
    """A run of a few steps; returns the folder of its checkpoints."""
    settings = {
        "space.n_digits": 4,
        "monitoring.report": False,
        "training.batch_size": 40,
        "training.epochs": 4,
        "model.hidden_dim": 16,
        "monitoring.detailed_metrics_every_n_epochs": 2,
        "checkpointing.save_every_n_epochs": 1,
    }
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    Trainer(load_profile("mathematical_foundation", settings | dotted), run_dir, "cpu").fit()
    return run_dir / "checkpoints"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluated after epochs 2 and 4, saved after each: epoch 3 keeps the figures of epoch 2."""
    return trained(tmp_path_factory.mktemp("four") / "run")


@pytest.fixture(scope="module")
def smaller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("three") / "run"
    return trained(
        directory, space__n_digits=3, training__batch_size=20, training__epochs=2, seed=7
    )


@pytest.fixture
def altered(run: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """The best checkpoint with a change made to its contents."""

    def alter(change: Change) -> Path:
        contents = load_checkpoint(run / "best_Q.pt")
        change(contents)
        save_checkpoint(tmp_path / "altered.pt", contents)
        return tmp_path / "altered.pt"

    return alter


def untrained(path: Path, model: TernaryVAE, **contents: Any) -> Path:
    """What someone saves who has a model, and no run."""
    nothing: dict[str, Any] = {
        "model_state_dict": model.state_dict(),
        "model_config": model.config,
        "optimizer_state_dict": {},
        "epoch": 0,
        "comprehensive_metrics": {},
        "validation_results": {},
        "profile": {},
    }
    save_checkpoint(path, nothing | contents)
    return path


# --- measuring ------------------------------------------------------------------------------


def test_the_best_model_measures_what_its_run_reported(run: Path) -> None:
    summary = json.loads((run.parent / "metrics.json").read_text())
    found = analyze(run / "best_Q.pt")
    assert found.metrics == summary["comprehensive_metrics"] == found.stored_metrics
    assert found.validation == summary["validation_results"] == found.stored_validation
    assert found.sampling == summary["sampling"]
    assert found.ceilings == summary["ceilings"] == ceilings(4)
    assert found.epoch == found.stored_epoch == summary["best_epoch"]
    assert found.differences == ()


def test_the_facts_of_the_file(smaller: Path) -> None:
    path = smaller / "last.pt"
    found = analyze(path)
    contents = torch.load(path, weights_only=True)
    assert (found.path, found.device) == (str(path), "cpu")
    assert found.file_bytes == len(path.read_bytes())
    assert (found.profile, found.seed, found.epoch) == ("mathematical_foundation", 7, 2)
    assert (found.n_digits, found.latent_dim, found.curvature) == (3, 16, 1.0)
    assert found.targets == asked_for(contents["profile"]["targets"])
    model = TernaryVAE(**contents["model_config"])
    assert found.parameters == sum(p.numel() for p in model.parameters())


def test_levels_are_those_of_brute_force(run: Path) -> None:
    path = run / "best_Q.pt"
    model = TernaryVAE.from_checkpoint(path)
    by_level: dict[int, list[float]] = {level: [] for level in range(5)}
    for index in range(81):
        level = next(v for v in range(5) if v == 4 or index % 3 ** (v + 1))
        point = model.embed([index]).numpy()[0].astype(np.float64)
        by_level[level].append(2 * np.arctanh(np.sqrt(np.sum(point**2))))
    found = analyze(path)
    assert [row.count for row in found.levels] == [54, 18, 6, 2, 1]
    for row in found.levels:
        radii = np.array(by_level[row.valuation])
        # Radii around 1 in float32, whose last digit is 1e-7.
        assert [row.mean, row.std, row.least, row.largest] == pytest.approx(
            [np.mean(radii), np.std(radii), np.min(radii), np.max(radii)], rel=1e-5, abs=2e-7
        )
        assert row.mean == pytest.approx(found.metrics[f"r_v{row.valuation}"], rel=1e-12)
    spreads = [row.std**2 for row in found.levels]
    assert np.mean(spreads) == pytest.approx(found.metrics["richness"], rel=1e-12)


def test_radii_are_in_units_of_the_metric_of_any_ball(tmp_path: Path) -> None:
    model = TernaryVAE(3, latent_dim=2, curvature=4.0, learnable_curvature=True)
    found = analyze(untrained(tmp_path / "curved.pt", model))
    point = model.eval().embed([0]).numpy()[0].astype(np.float64)
    assert found.curvature == 4.0
    assert found.levels[3].mean == pytest.approx(
        2 / 2 * np.arctanh(2 * np.sqrt(np.sum(point**2))), rel=1e-5
    )
    assert "2 dimensions of curvature -4," in analysis_text(found)


def test_analyzing_twice_gives_the_same_and_leaves_the_callers_random_state(run: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    once, twice = (analyze(run / "epoch_003.pt") for _ in range(2))
    assert torch.equal(torch.rand(2), expected)
    assert once == twice
    assert analysis_text(once) == analysis_text(twice)


def test_a_collapse_is_told_and_not_warned_of(tmp_path: Path) -> None:
    model = TernaryVAE(1)
    with torch.no_grad():  # two of the three digits become one, and their level one point
        for layer in (model.encoders["B"].features[0], model.encoders["B"].digits):
            layer.weight[:, 2] = layer.weight[:, 1]
    path = untrained(tmp_path / "collapsed.pt", model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = analyze(path)
    assert len(found.warnings) == 1
    assert re.search(r"hierarchy_B = -?1\.0+ lies .* radii are tied", found.warnings[0])
    assert f"\nWarning     {found.warnings[0]}\n" in analysis_text(found)
    assert comparison_text([found]).endswith(f"[1]: warning: {found.warnings[0]}")


@pytest.mark.parametrize("branch", ["A", "B"])
def test_points_outside_max_radius_are_unstable(
    branch: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file can hold such a model today, so the radii are made up."""
    monkeypatch.setattr(
        measuring.Evaluator,
        "level_radii",
        lambda _, __, b: [np.array([1.0, 3.7 if b == branch else 3.6])] * 5,
    )
    assert 3.6 < 2 * math.atanh(0.95) < 3.7
    assert analyze(run / "best_Q.pt").validation["numerical_stability"] is False


# --- against what the file says -------------------------------------------------------------


def test_figures_of_an_earlier_model_are_not_held_against_this_one(run: Path) -> None:
    found = analyze(run / "epoch_003.pt")
    assert (found.epoch, found.stored_epoch) == (3, 2)
    assert found.stored_metrics == analyze(run / "epoch_002.pt").metrics != found.metrics
    assert found.differences is None
    assert (
        "not compared: the metrics in the file are those of an earlier model of its run, of epoch 2"
        in analysis_text(found)
    )


def test_inside_an_epoch_the_weights_have_moved_on(altered: Callable[[Change], Path]) -> None:
    found = analyze(altered(lambda contents: contents.update(step=1)))
    assert found.epoch == found.stored_epoch
    assert found.differences is None


def test_the_first_epoch_has_no_figures_yet(run: Path) -> None:
    found = analyze(run / "epoch_001.pt")
    assert (found.stored_metrics, found.stored_validation) == ({}, {})
    assert (found.stored_epoch, found.differences) == (None, None)
    assert "Stored      none: the file holds no metrics\n" in analysis_text(found)


def test_tampered_figures_are_noticed(altered: Callable[[Change], Path]) -> None:
    def tamper(contents: dict[str, Any]) -> None:
        contents["comprehensive_metrics"] |= {"richness": 0.5, "dist_corr": math.nan}
        contents["validation_results"]["numerical_stability"] = False

    found = analyze(altered(tamper))
    assert found.differences is not None
    assert found.differences[0] == Difference(
        "comprehensive_metrics.richness", 0.5, found.metrics["richness"]
    )
    assert [each.key for each in found.differences] == [
        "comprehensive_metrics.richness",
        "comprehensive_metrics.dist_corr",
        "validation_results.numerical_stability",
    ]
    text = analysis_text(found)
    assert "Stored      the metrics in the file disagree with those measured here\n" in text
    assert "Differs     comprehensive_metrics.richness is 0.5 in the file and 0.0" in text
    assert "comprehensive_metrics.dist_corr is undefined in the file and " in text
    assert "validation_results.numerical_stability is FAIL in the file and PASS here" in text


def test_other_weights_than_the_figures_are_noticed(
    run: Path, altered: Callable[[Change], Path]
) -> None:
    other = load_checkpoint(run / "epoch_001.pt")["model_state_dict"]
    found = analyze(altered(lambda contents: contents.update(model_state_dict=other)))
    assert found.metrics == analyze(run / "epoch_001.pt").metrics
    assert found.differences
    assert len(found.differences) > 5


@pytest.mark.parametrize(("change", "seen"), [(1e-7, False), (1 / 19683, True)])
def test_rounding_is_no_difference_and_one_lost_sequence_is(
    altered: Callable[[Change], Path], change: float, seen: bool
) -> None:
    def tamper(contents: dict[str, Any]) -> None:
        contents["comprehensive_metrics"]["triplet_accuracy"] -= change

    assert bool(analyze(altered(tamper)).differences) is seen


@pytest.mark.parametrize("epoch", [None, "lost", {}, 1.5])
def test_without_an_epoch_nobody_knows_whose_the_figures_are(
    epoch: object, altered: Callable[[Change], Path]
) -> None:
    found = analyze(altered(lambda contents: contents.update(metrics_epoch=epoch)))
    assert found.stored_metrics == found.metrics
    assert (found.stored_epoch, found.differences) == (None, None)
    assert "not compared: the file does not say of which epoch its metrics are" in (
        analysis_text(found)
    )


@pytest.mark.parametrize("profile", [{}, None, {"targets": None, "seed": "x", "name": 3}])
def test_a_model_without_a_run_is_measured_all_the_same(profile: object, tmp_path: Path) -> None:
    path = untrained(tmp_path / "mine.pt", TernaryVAE(3), profile=profile, epoch=None)
    found = analyze(path)
    assert (found.profile, found.seed, found.epoch, found.targets) == (None, None, None, {})
    assert list(found.metrics) == list(metric_names(3))
    assert list(found.validation) == ["numerical_stability", "p_adic_structure"]
    assert "Trained     the file does not say how\n" in analysis_text(found)
    json.dumps(analysis_json(found), allow_nan=False)


def test_targets_that_are_there_are_decided(altered: Callable[[Change], Path]) -> None:
    targets = {"richness": 1e9, "coverage": 0, "sweetness": 1}
    found = analyze(altered(lambda contents: contents.update(profile={"targets": targets})))
    assert found.targets == {"richness": 1e9, "coverage": 0.0}
    assert found.validation["richness_preservation"] is False
    assert found.validation["coverage_precision"] is True
    assert "hierarchy_ceiling" not in found.validation
    assert "mathematical_foundation_ready" not in found.validation
    assert found.warnings == (
        "profile.targets.sweetness: there is no such metric, so it is left out",
    )


# --- what cannot be measured ----------------------------------------------------------------


@pytest.mark.parametrize("value", ["high", None, True, math.nan, [1.0]])
def test_a_target_that_is_no_number_is_named(
    value: object, altered: Callable[[Change], Path]
) -> None:
    def tamper(contents: dict[str, Any]) -> None:
        contents["profile"]["targets"]["Q_enhanced"] = value

    path = altered(tamper)
    with pytest.raises(CheckpointError, match=r"targets\.Q_enhanced: not a number") as caught:
        analyze(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_bad_files_are_named(tmp_path: Path, altered: Callable[[Change], Path]) -> None:
    text = tmp_path / "text.pt"
    text.write_text("not a checkpoint")
    misfit = altered(lambda contents: contents["model_config"].update(hidden_dim=5))
    for path in (tmp_path / "none.pt", tmp_path, text, misfit):
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            analyze(path)


def test_weights_that_give_no_points_are_refused_in_one_line(
    altered: Callable[[Change], Path],
) -> None:
    def poison(contents: dict[str, Any]) -> None:
        for weight in contents["model_state_dict"].values():
            weight.fill_(math.nan)

    path = altered(poison)
    with pytest.raises(CheckpointError, match=r"the model cannot be measured: .* nan") as caught:
        analyze(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_space_too_large_for_the_memory_is_refused_before_it_is_filled(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "memory_of", lambda _: 2**20)
    path = untrained(tmp_path / "large.pt", TernaryVAE(20, hidden_dim=2))
    with pytest.raises(ValueError, match=r"3\^20 = 3486784401 sequences .* cpu has 0\.000977"):
        analyze(path)
    monkeypatch.setattr(device, "memory_of", lambda _: None)
    assert analyze(run / "last.pt").n_digits == 4


def test_devices_that_are_not_there(run: Path) -> None:
    with pytest.raises(ValueError, match="'cuda:77' is not there; choose from auto, cpu"):
        analyze(run / "last.pt", "cuda:77")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_another_device_measures_the_same(run: Path) -> None:
    found = analyze(run / "best_Q.pt", "cuda")
    assert found.device == "cuda"
    assert found.differences == ()


# --- showing --------------------------------------------------------------------------------


def table(text: str, first: str) -> dict[str, list[str]]:
    """The rows of an aligned table by their first cells; blank rows part it and are left out."""
    lines = text.splitlines()
    top = next(i for i, line in enumerate(lines) if line.startswith(first))
    edges = [m.span() for m in re.finditer("-+", lines[top + 1])]
    found = {}
    for line in (lines[top], *lines[top + 2 :]):
        for (_, end), (start, _) in pairwise(edges):
            assert line[end:start].strip() == "", f"{line!r} reaches between the columns"
        assert line == line.rstrip()
        cells = [line[a:b] for a, b in edges]
        # Figures are flush right under the rule.
        assert not any(cell.strip() and cell.endswith(" ") for cell in cells[1:])
        name, *rest = (cell.strip() for cell in cells)
        # Q_enhanced is a metric and a check, and both have a row.
        found[f"{name}, again" if name in found else name] = rest
    return found


def test_the_text_holds_the_tables_and_the_checks(run: Path) -> None:
    found = analyze(run / "best_Q.pt")
    heading, metrics, levels, checks = analysis_text(found).split("\n\n")
    assert heading.splitlines()[:2] == [
        f"Checkpoint  {found.path} ({found.file_bytes} bytes)",
        f"Trained     profile mathematical_foundation, seed 0, epoch {found.epoch}",
    ]
    assert "4 digits (81 sequences), 16 dimensions of curvature -1, " in heading
    assert "all sequences, 3240 pairs (all), 65536 triples (drawn), seed " in heading
    assert metrics == final_table(found.metrics, found.targets, n_digits=4)
    assert "units of the metric" in levels.splitlines()[0]
    rows = table(levels, "valuation")
    assert rows.pop("valuation") == ["count", "mean", "spread", "least", "largest"]
    assert rows == {
        str(row.valuation): [
            str(row.count),
            *(f"{figure:.6f}" for figure in (row.mean, row.std, row.least, row.largest)),
        ]
        for row in found.levels
    }
    assert dict(line.split("  ")[::-1] for line in checks.splitlines()) == {
        check: "PASS" if passed else "FAIL" for check, passed in found.validation.items()
    }


def test_the_structure_is_measured_where_it_is_asked_for(run: Path) -> None:
    path = run / "best_Q.pt"
    plain, found = analyze(path), analyze(path, structure=True)
    assert plain.structure is None and replace(found, structure=None) == plain
    model = TernaryVAE.from_checkpoint(path)
    # Not by ==: where there is no cell, tables hold NaN.
    assert repr(found.structure) == repr(measure_structure(model, model.space))
    structure = found.structure
    assert structure is not None
    assert analysis_text(found).startswith(analysis_text(plain))
    measures, triplets = analysis_text(found).split("\n\n")[4:]
    assert measures.startswith("Structure of branch B")
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in measures.splitlines()[3:])
    assert lines["siblings"].split()[:2] == [f"{structure.siblings.share:.7f}".rstrip("0"), "0"]
    assert lines["siblings"].endswith("81 sequences (all) against all")
    assert lines["tree distortion, worst"].endswith("3240 pairs (all)")
    assert lines["2 delta / diameter"].endswith("262144 quadruples (drawn)")
    cells = [line.split("=")[-1].split()[1:] for line in triplets.splitlines()[3:]]
    accuracy = structure.triplets.accuracy
    assert cells == [[f"{accuracy[a][b]:.4f}" for b in range(a)] for a in range(1, 4)]
    rows = table(comparison_text([found, plain]), "checkpoint")
    assert rows["triplets, mean"][0] == f"{structure.triplets.mean:.7f}".rstrip("0")
    assert rows["triplets, mean"][1:] == ["", ""]
    stored = analysis_json(found)["structure"]
    assert stored["siblings"]["share"] == structure.siblings.share
    assert stored["triplets"]["accuracy"][1] == [accuracy[1][0], None, None, None]
    assert stored["distortion"]["tree"]["worst"] == structure.distortion.tree.worst
    assert analysis_json(plain)["structure"] is None


def test_one_digit_has_no_structure(tmp_path: Path) -> None:
    path = untrained(tmp_path / "one.pt", TernaryVAE(1))
    with pytest.raises(ValueError, match="1 digits"):
        analyze(path, structure=True)


def test_several_checkpoints_share_a_table(run: Path) -> None:
    analyses = [analyze(run / name) for name in ("epoch_001.pt", "epoch_003.pt", "best_Q.pt")]
    legend, body = comparison_text(analyses).split("\n\n", 1)
    assert legend.splitlines() == [
        f"{Path(analysis.path).name:<12}  {analysis.path}" for analysis in analyses
    ]
    rows = table(body, "checkpoint")
    assert rows["checkpoint"] == ["epoch_001.pt", "epoch_003.pt", "best_Q.pt", "ceiling"]
    assert rows["epoch"][:2] == ["1", "3"]
    assert rows["stored metrics"] == ["none", "not compared", "agree", ""]
    alone = [
        table(final_table(each.metrics, each.targets, n_digits=4), "metric") for each in analyses
    ]
    for name in metric_names(4):
        assert rows[name] == [*(each[name][0] for each in alone), alone[0][name][2]]
    for check in analyses[0].validation:
        verdicts = ["PASS" if each.validation[check] else "FAIL" for each in analyses]
        assert rows[f"{check}, again" if check in metric_names(4) else check] == [*verdicts, ""]


def test_spaces_of_different_size_have_their_own_ceilings(run: Path, smaller: Path) -> None:
    four, three = analyze(run / "best_Q.pt"), analyze(smaller / "best_Q.pt")
    rows = table(comparison_text([four, three]), "checkpoint")
    assert rows["checkpoint"][2:] == ["ceiling, n = 3", "ceiling, n = 4"]
    assert rows["n_digits"] == ["4", "3", "", ""]
    assert rows["hierarchy_B"][2:] == [f"{ceilings(n)['hierarchy']:.7f}" for n in (3, 4)]
    assert rows["coverage_B"][2:] == ["1", "1"]
    assert rows["r_v4"][1:] == ["", "", ""]
    assert rows["r_v4"][0] != ""


def test_checks_that_one_checkpoint_lacks_are_blank(run: Path, tmp_path: Path) -> None:
    mine = analyze(untrained(tmp_path / "mine.pt", TernaryVAE(4), epoch=None))
    rows = table(comparison_text([mine, analyze(run / "best_Q.pt")]), "checkpoint")
    assert rows["profile"] == ["", "mathematical_foundation", ""]
    assert (rows["seed"], rows["hierarchy_ceiling"][0]) == (["", "0", ""], "")
    assert rows["hierarchy_ceiling"][1] in {"PASS", "FAIL"}


def test_no_checkpoints_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="at least one"):
        comparison_text([])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["r/a/checkpoints/best_Q.pt", "r/b/checkpoints/best_Q.pt"], ["a", "b"]),
        (["r/a/checkpoints/best_Q.pt", "r/a/checkpoints/last.pt"], ["best_Q.pt", "last.pt"]),
        (["r/a/c/x.pt", "r/a/c/y.pt", "r/b/c/x.pt"], ["a/x.pt", "a/y.pt", "b/x.pt"]),
        (["/r/a/c/x.pt", "b/c/y.pt"], ["x.pt", "y.pt"]),
        (["x.pt", "a/x.pt"], [".", "a"]),
        (["x.pt", "x.pt"], ["[1]", "[2]"]),
        ([f"r/{'long' * 7}{i}/x.pt" for i in range(2)], ["[1]", "[2]"]),
        (["x.pt"], ["[1]"]),
    ],
)
def test_columns_are_named_by_what_tells_the_paths_apart(
    paths: list[str], names: list[str], run: Path
) -> None:
    found = analyze(run / "last.pt")
    analyses = [replace(found, path=path) for path in paths]
    legend, body = comparison_text(analyses).split("\n\n", 1)
    assert table(body, "checkpoint")["checkpoint"] == [*names, "ceiling"]
    assert [line.split() for line in legend.splitlines()] == [
        [name, path] for name, path in zip(names, paths, strict=True)
    ]


def test_json_is_strict_and_complete(run: Path) -> None:
    found = analyze(run / "best_Q.pt")
    plain = analysis_json(found)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["metrics"] == found.metrics
    assert plain["differences"] == []
    mean = found.levels[4].mean
    only = {"count": 1, "std": 0.0, "mean": mean, "least": mean, "largest": mean}
    assert plain["levels"][4] == {"valuation": 4} | only


def test_json_has_null_where_a_metric_is_undefined(tmp_path: Path) -> None:
    found = analyze(untrained(tmp_path / "one.pt", TernaryVAE(1)))
    plain = analysis_json(found)
    assert math.isnan(found.metrics["ultrametric_corr"])
    assert plain["metrics"]["ultrametric_corr"] is None
    assert plain["ceilings"]["ultrametric_corr"] is None
    assert plain["sampling"]["triples"] == 0
    json.dumps(plain, allow_nan=False)
    row = table(comparison_text([found]), "checkpoint")["ultrametric_corr"]
    assert row == ["undefined", "undefined"]
