"""Sequences that are held out: no step sees them, and nothing that decides knows of them."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ternvae.analysis import analysis_text, analyze, comparison_text
from ternvae.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ternvae.config import ProfileError, load_profile
from ternvae.metrics import Evaluator, ceilings, evaluate, metric_names
from ternvae.metrics.rows import Rows
from ternvae.models import TernaryVAE
from ternvae.padic import Holdout, TernarySpace
from ternvae.trainer import Trainer
from ternvae.trainer.holding_out import holdout_of
from ternvae.training.batches import BatchPlan
from ternvae.training.verdict import reachable_hierarchy
from tests.runs import fit, last, tiny

SHARE = {"space__holdout": 0.4, "training__batch_size": 6}
BRIEF = {"training__epochs": 1, "curriculum__enabled": False}


@st.composite
def plans(draw: st.DrawFn) -> BatchPlan:
    space = TernarySpace(draw(st.integers(1, 6)))
    unseen = draw(st.integers(1, space.size - 1))
    holdout = Holdout(space, unseen / space.size, draw(st.integers(0, 2**32)))
    batch_size = draw(st.integers(1, min(holdout.sizes.seen, 200)))
    return BatchPlan(
        space,
        batch_size,
        draw(st.sampled_from([0.0, 0.2, 0.6, 0.99])),
        draw(st.sampled_from([0.0, 0.25])),
        holdout,
    )


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(0, 2**62), st.sampled_from([1, 2, 3]))
def test_an_epoch_shows_every_seen_sequence_and_no_other(
    plan: BatchPlan, seed: int, world: int
) -> None:
    assert plan.holdout is not None
    seen = set(plan.holdout.seen_indices().tolist())
    shares = [list(plan.epoch(seed, rank=rank, world=world)) for rank in range(world)]
    shown: Counter[int] = Counter()
    for batches in zip(*shares, strict=True):
        rows = [index for batch in batches for index in batch.indices.tolist()]
        assert len(rows) == batches[0].total
        assert set(rows) <= seen
        shown.update(rows)
    assert set(shown) == seen


@settings(max_examples=30, deadline=None)
@given(plans(), st.integers(0, 2**62))
def test_of_each_level_as_many_as_there_is_room_for(plan: BatchPlan, seed: int) -> None:
    assert plan.holdout is not None
    first = next(plan.epoch(seed))
    levels = Counter(plan.space.valuation(first.indices).tolist())
    for level in range(plan.space.n_digits + 1):
        there = len(plan.holdout.seen_of_level(level))
        assert levels[level] >= min(plan.rows_per_level, there)


def test_draws_of_a_level_are_fair_among_the_seen() -> None:
    plan = BatchPlan(TernarySpace(5), 60, 0.5, holdout=Holdout(TernarySpace(5), 0.5, 0))
    assert plan.holdout is not None
    times: Counter[int] = Counter()
    for seed in range(400):
        for batch in plan.epoch(seed):
            times.update(batch.indices[plan.passing_rows :].tolist())
    seen = plan.holdout.seen_of_level(0).tolist()
    counts = torch.tensor([times[index] for index in seen]).double()
    expected = counts.mean()
    assert ((counts - expected).square().sum() / expected) < 1.6 * len(seen)


# --- runs -----------------------------------------------------------------------------------


def watched(profile: Any, run: Path) -> tuple[Trainer, set[int]]:
    """A trainer, and what the steps of its run, and its evaluator, get to see."""
    trainer = Trainer(profile, run, "cpu")
    seen: set[int] = set()
    embed, step = trainer.model.embed, trainer.steps._step

    def embedded(rows: Any, branch: str = "B") -> torch.Tensor:
        seen.update(rows.flatten().tolist())
        return embed(rows, branch)

    def stepped(epoch: int, seed: int, group: Any, factors: Any) -> None:
        for batch in group:
            seen.update(batch.indices.tolist())
        step(epoch, seed, group, factors)

    trainer.model.embed = embedded  # type: ignore[method-assign]
    trainer.steps._step = stepped  # type: ignore[method-assign]
    return trainer, seen


def test_no_batch_of_a_run_has_an_unseen_sequence(tmp_path: Path) -> None:
    """Nor does anything that is measured before the end."""
    profile = tiny(**SHARE)
    trainer, touched = watched(profile, tmp_path / "run")
    result = trainer.fit()
    holdout = holdout_of(profile)
    assert holdout is not None
    assert touched == set(holdout.seen_indices().tolist())
    assert result.stop_reason == "epochs"


def test_nothing_that_decides_knows_of_the_unseen(tmp_path: Path) -> None:
    """The metrics of the run are those of the seen part; the unseen part comes at the end."""
    profile = tiny(**SHARE)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("ternvae")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        _, result = fit(profile, tmp_path / "run")
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert result.checkpoint is not None
    model = TernaryVAE.from_checkpoint(result.checkpoint)
    holdout = Holdout(TernarySpace(3), 0.4, profile.seed)
    seen = evaluate(model, model.space, holdout.seen_indices())
    unseen = evaluate(model, model.space, holdout.unseen_indices())
    assert same(result.metrics, seen)
    assert result.unseen is not None
    assert same(result.unseen, unseen)
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert summary["holdout"]["share"] == 0.4
    assert summary["holdout"]["seen"] == summary["comprehensive_metrics"]
    assert summary["sampling"]["rows"] == 16
    for name, value in summary["holdout"]["unseen"].items():
        assert value is None or value == unseen[name]
    assert any("11 of 27 sequences are held out" in line for line in said)
    assert said[-1].startswith("Unseen: 11 sequences | Coverage: ")


def same(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(torch.tensor(one[k]).nan_to_num(9), torch.tensor(other[k]).nan_to_num(9))
        for k in one
    )


def test_without_a_holdout_there_is_no_word_of_it(tmp_path: Path) -> None:
    _, result = fit(tiny(**BRIEF), tmp_path / "run")
    assert result.unseen is None
    assert "holdout" not in json.loads((tmp_path / "run" / "metrics.json").read_text())


def test_a_run_that_is_stopped_has_not_looked_at_the_unseen(tmp_path: Path) -> None:
    profile = tiny(**SHARE)
    _, result = fit(profile, tmp_path / "run", stop_after=4)
    assert result.stop_reason == "interrupted"
    assert result.unseen is None
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert summary["holdout"]["unseen"] is None
    _, ended = fit(profile, tmp_path / "run", resume_from=last(tmp_path / "run"))
    _, whole = fit(profile, tmp_path / "other")
    assert ended.unseen is not None
    assert whole.unseen is not None
    assert same(ended.unseen, whole.unseen)


@pytest.mark.parametrize("change", [{"space__holdout": 0.2}, {"space__holdout": 0.0}, {"seed": 2}])
def test_what_is_held_out_cannot_change(tmp_path: Path, change: dict[str, Any]) -> None:
    profile = tiny(**(SHARE | BRIEF))
    fit(profile, tmp_path / "run")
    other = tiny(**(SHARE | BRIEF | change | {"training__epochs": 2}))
    with pytest.raises(CheckpointError, match="which sequences training never sees"):
        Trainer(other, tmp_path / "run", "cpu", resume_from=last(tmp_path / "run"))


def test_coverage_is_not_taken_from_who_has_seen_the_unseen(tmp_path: Path) -> None:
    _, whole = fit(tiny(**BRIEF), tmp_path / "whole")
    _, part = fit(tiny(**(SHARE | BRIEF)), tmp_path / "part")
    settings = SHARE | BRIEF | {"training__encoder_a_lr_scale": 0.1}

    def taking(result: Any, **changes: Any) -> Trainer:
        path = str(result.checkpoint)
        profile = tiny(**(settings | changes), frozen_checkpoint__path=path)
        return Trainer(profile, tmp_path / "new", "cpu")

    with pytest.raises(CheckpointError, match=r"was trained on sequences that space\.holdout 0\.4"):
        taking(whole)
    with pytest.raises(CheckpointError, match="with seed 2"):
        taking(part, seed=2)
    taking(part)
    taking(part, space__holdout=0.3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"space.holdout": 0.5, "training.batch_size": 20}, "leaves 13 of 27 sequences, fewer"),
        ({"space.holdout": 0.99, "training.batch_size": 1}, "leaves 0 of 27 sequences"),
        ({"space.holdout": 1.0}, "space.holdout"),
    ],
)
def test_a_holdout_that_leaves_too_little_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProfileError, match=reason):
        load_profile("mathematical_foundation", {"space.n_digits": 3} | changes)


def test_a_level_that_is_never_seen_moves_the_target_of_the_hierarchy(tmp_path: Path) -> None:
    """Without sequence 0 the ceiling is nearer to 0, and the target goes no further than that."""
    seed = next(s for s in range(99) if not Holdout(TernarySpace(3), 0.4, s).seen(0))
    trainer = Trainer(tiny(**SHARE, seed=seed), tmp_path / "run", "cpu")
    ceiling = trainer.examination.evaluator.hierarchy_ceiling
    assert trainer.examination.targets["hierarchy_B"] == round(ceiling, 4) > -0.8321
    result = trainer.fit()
    assert set(metric_names(3)) - set(result.metrics) >= {"r_v3"}
    assert Evaluator(TernarySpace(3)).hierarchy_ceiling < ceiling


def test_a_checkpoint_is_analysed_in_two_parts(tmp_path: Path) -> None:
    _, result = fit(tiny(**SHARE), tmp_path / "run")
    assert result.checkpoint is not None
    found = analyze(result.checkpoint)
    assert result.unseen is not None
    assert same(found.metrics, result.metrics)
    assert same(found.unseen, result.unseen)
    assert found.differences == ()
    assert sum(row.count for row in found.levels) == 16
    text = analysis_text(found)
    assert "Held out: sequences that training has never seen, against the others" in text
    assert "unseen coverage_B" in comparison_text([found, found])
    other = tmp_path / "other.pt"
    contents = load_checkpoint(result.checkpoint)
    for strange in (None, 0.0, 1, 2.0, "0.4", 0.999):
        contents["profile"]["space"]["holdout"] = strange
        save_checkpoint(other, contents)
        assert analyze(other).unseen == {}


@pytest.mark.parametrize("n", range(1, 21))
def test_what_is_measured_whole_has_the_targets_as_they_are(n: int) -> None:
    """The ceiling of the rows is that of the space, also after rounding."""
    exact = ceilings(n)["hierarchy"]
    own = Rows(TernarySpace(n), TernarySpace(n).level_sizes()).ceiling
    assert own == pytest.approx(-exact, rel=1e-12)
    assert reachable_hierarchy(round(exact, 4), -own) == round(exact, 4)
