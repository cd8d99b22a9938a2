"""A run that was stopped anywhere and went on ends where an uninterrupted one ends, to the bit."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ternvae.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ternvae.config import Profile
from ternvae.trainer import Trainer
from ternvae.trainer.steps import Steps
from ternvae.training.batches import epoch_seed
from ternvae.training.controller import Controller
from tests.runs import differing, fit, history, last, log_of_one_run, tiny

#: 4 epochs of 3 steps.
STEPS, PER_EPOCH = 12, 3


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ternvae")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stopped; every test leaves it as it is."""
    run = tmp_path_factory.mktemp("whole") / "run"
    trainer, result = fit(tiny(), run)
    assert (len(trainer.steps), trainer.batches.steps_per_epoch) == (PER_EPOCH, 5)
    assert result.stop_reason == "epochs"
    return run


def stopped_after(step: int, run: Path) -> Path:
    """The last state of a run that was stopped during that step, from 1."""
    _, result = fit(tiny(), run, stop_after=step)
    assert result.stop_reason == "interrupted"
    return last(run)


def test_the_run_has_everything_that_could_be_forgotten(whole: Path) -> None:
    kinds = {event["kind"] for line in history(whole) for event in line["events"]}
    assert {"freeze_encoder_a", "thaw_encoder_a", "anneal_thresholds"} <= kinds
    assert {"curriculum_hierarchy_ramp", "curriculum_richness_preserve"} <= kinds
    assert all(line["controller"] for line in history(whole))
    assert len(set(map(str, (line["controller"] for line in history(whole))))) > 1


@pytest.mark.parametrize("step", range(1, STEPS))
def test_stopped_after_any_step_it_ends_with_the_same_bits(
    step: int, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    checkpoint = stopped_after(step, run)
    contents = load_checkpoint(checkpoint)
    assert (contents["epoch"], contents["step"]) == divmod(step, PER_EPOCH)
    assert (contents["within_epoch"] is None) == (step % PER_EPOCH == 0)
    _, result = fit(tiny(), run, checkpoint)
    assert result.stop_reason == "epochs"
    assert differing(whole, run) == []
    best = (run / "checkpoints" / "best_Q.pt", whole / "checkpoints" / "best_Q.pt")
    states = [load_checkpoint(path)["model_state_dict"] for path in best]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("seed", range(4))
def test_stopped_many_times_it_ends_with_the_same_bits(
    seed: int, whole: Path, tmp_path: Path
) -> None:
    choice, run, checkpoint, done = random.Random(seed), tmp_path / "run", None, 0
    stops = 0
    while True:
        count = choice.randint(1, 4)
        _, result = fit(tiny(), run, checkpoint, stop_after=count)
        if result.stop_reason == "epochs":
            break
        done, stops, checkpoint = done + count, stops + 1, last(run)
        contents = load_checkpoint(checkpoint)
        assert PER_EPOCH * contents["epoch"] + contents["step"] == done
    assert stops >= 2
    assert differing(whole, run) == []


def test_stopped_after_each_single_step_the_log_tells_one_run_and_every_stop(
    whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    checkpoint = None
    for _ in range(STEPS - 1):
        fit(tiny(), run, checkpoint, stop_after=1)
        checkpoint = last(run)
    fit(tiny(), run, checkpoint)
    assert differing(whole, run) == []
    lines = (run / "train.log").read_text().splitlines()
    assert len([line for line in lines if line.startswith("Resumed from")]) == STEPS - 1
    # What each process said after its last state was taken out, and is not lost.
    aside = (run / "set_aside" / "train.log").read_text()
    assert aside.count("Stopped (interrupted)") == STEPS - 1
    assert not any("Stopped (interrupted)" in line for line in lines)


def test_a_killed_run_repeats_what_was_not_saved_and_says_it_once(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kill -9 leaves it: lines after the last state, and nothing that says why."""
    run = tmp_path / "run"
    step = Steps._step

    def killed(self: Steps, epoch: int, *rest: Any) -> None:
        if (epoch, self.done) == (4, 2):
            raise KeyboardInterrupt
        step(self, epoch, *rest)

    monkeypatch.setattr(Steps, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), run)
    monkeypatch.setattr(Steps, "_step", step)
    assert load_checkpoint(last(run))["epoch"] == 3
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "torn')
    fit(tiny(), run, last(run))
    assert differing(whole, run) == []


# --- a branch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2, 4, 6, 8])
def test_a_branch_ends_with_the_same_bits_and_leaves_the_original_alone(
    step: int, whole: Path, tmp_path: Path
) -> None:
    original, branch = tmp_path / "original", tmp_path / "branch"
    checkpoint = stopped_after(step, original)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files(original)}
    fit(tiny(), branch, checkpoint)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files(original)} == before
    # It has the epochs that it did, and only those models whose files it has.
    assert set(differing(whole, branch)) <= {"progress", "metrics.jsonl", "train.log"}
    assert history(branch) == history(whole)[step // PER_EPOCH :]
    log = log_of_one_run(branch)
    assert log_of_one_run(whole)[-len(log) :] == log


def files(run: Path) -> list[Path]:
    return [path for path in run.rglob("*") if path.is_file()]


# --- the comparison would see it ----------------------------------------------------------------


def with_draws_of_another_seed(patch: pytest.MonkeyPatch) -> None:
    seed = Steps._seed
    patch.setattr(Steps, "_seed", lambda self, number: seed(self, number + 1))


def with_draws_as_at_the_start(patch: pytest.MonkeyPatch) -> None:
    """Draws that know how many steps this process did, and not how many are done."""
    seed, seen = Steps._seed, []

    def forgetful(self: Steps, number: int) -> None:
        seen.append(number)
        seed(self, epoch_seed(number, len(seen)))

    patch.setattr(Steps, "_seed", forgetful)


def without_sums(patch: pytest.MonkeyPatch) -> None:
    restore = Steps.restore

    def forgetful(self: Steps, done: int, state: Any) -> None:
        restore(self, done, state)
        self._sums = torch.zeros_like(self._sums)

    patch.setattr(Steps, "restore", forgetful)


def without_position(patch: pytest.MonkeyPatch) -> None:
    restore = Steps.restore

    def forgetful(self: Steps, done: int, state: Any) -> None:
        restore(self, done, state)
        self.done = 0

    patch.setattr(Steps, "restore", forgetful)


def without_moments(patch: pytest.MonkeyPatch) -> None:
    load = torch.optim.Optimizer.load_state_dict

    def forgetful(self: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        load(self, {**state, "state": {}})

    patch.setattr(torch.optim.Optimizer, "load_state_dict", forgetful)


def without_controller(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Controller, "restore", lambda self, state: None)


def without_pending(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("ternvae.training.monitor.Monitor.restore", lambda self, pending: None)


def without_frozen(patch: pytest.MonkeyPatch) -> None:
    resume = Trainer._resume

    def forgetful(self: Trainer, path: Any) -> None:
        resume(self, path)
        self.optimisation.frozen.update(encoder_a=False, encoder_b=False)

    patch.setattr(Trainer, "_resume", forgetful)


@pytest.mark.parametrize(
    ("forget", "seen"),
    [
        (with_draws_of_another_seed, "model_state_dict"),
        (with_draws_as_at_the_start, "model_state_dict"),
        (without_sums, "metrics.jsonl"),
        (without_position, "model_state_dict"),
        (without_moments, "model_state_dict"),
        (without_controller, "controller"),
        (without_pending, "metrics.jsonl"),
        (without_frozen, "model_state_dict"),
    ],
)
def test_what_is_forgotten_shows(
    forget: Callable[[pytest.MonkeyPatch], None],
    seen: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, spare = tmp_path / "run", tmp_path / "spare"
    checkpoint = stopped_after(5, run)
    shutil.copytree(run, spare)
    with monkeypatch.context() as patch:
        forget(patch)
        fit(tiny(), run, checkpoint)
    assert seen in differing(whole, run)
    shutil.rmtree(run)
    shutil.move(spare, run)
    fit(tiny(), run, checkpoint)
    assert differing(whole, run) == []


# --- draws ---------------------------------------------------------------------------------------


def noise_of(run: Path, profile: Profile, stop_after: tuple[int, ...] = ()) -> list[Tensor]:
    """What is drawn for each batch of a run, which is stopped and goes on after so many steps."""
    seen: list[Tensor] = []
    draw = Steps._draw

    def watched(self: Steps, *arguments: Any) -> Tensor:
        seen.append(draw(self, *arguments))
        return seen[-1].clone()

    checkpoint = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Steps, "_draw", watched)
        for count in (*stop_after, None):
            torch.manual_seed(len(seen))  # the random state of whoever calls is of no matter
            fit(profile, run, checkpoint, stop_after=count)
            checkpoint = last(run)
    return seen


def test_draws_are_a_function_of_seed_epoch_and_step(tmp_path: Path) -> None:
    profile = tiny()
    straight = noise_of(tmp_path / "straight", profile)
    resumed = noise_of(tmp_path / "resumed", profile, (1, 3, 1))
    assert len(straight) == len(resumed) == 4 * 5
    assert all(map(torch.equal, straight, resumed))
    # No two batches get the same, whether of one step or of the same place in two epochs; and
    # another seed gives others.
    other = noise_of(tmp_path / "other", tiny(seed=2))
    first = [tuple(each.flatten()[:4].tolist()) for each in (*straight, *other)]
    assert len(set(first)) == len(first)
    drawn = torch.cat([each.flatten() for each in (*straight, *other)])
    assert abs(float(drawn.mean())) < 5 / len(drawn) ** 0.5
    assert abs(float(drawn.var()) - 1) < 5 * (2 / len(drawn)) ** 0.5


def test_no_two_generators_of_an_epoch_begin_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise, masks and the choice of rows: of equal seeds they would be functions of another."""
    seeds: list[int] = []
    begin = torch.manual_seed

    class Watched(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            seeds.append(seed)
            return super().manual_seed(seed)

    def watched(seed: int) -> torch.Generator:
        seeds.append(seed)
        return begin(seed)

    monkeypatch.setattr(torch, "Generator", Watched)
    monkeypatch.setattr(torch, "manual_seed", watched)
    trainer = Trainer(tiny(model__dropout=0.3), tmp_path / "run", "cpu")
    seeds.clear()
    trainer.steps.run(1, lambda: False)
    assert len(seeds) >= 1 + 2 * PER_EPOCH
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("step", [1, 4, 5, 10])
def test_masks_of_dropout_are_those_of_the_step(step: int, tmp_path: Path) -> None:
    profile = tiny(model__dropout=0.3)
    straight, run = tmp_path / "straight", tmp_path / "run"
    fit(profile, straight)
    fit(profile, run, stop_after=step)
    torch.rand(7)
    fit(profile, run, last(run))
    assert differing(straight, run) == []


def test_the_random_state_of_an_old_checkpoint_is_passed_over(whole: Path, tmp_path: Path) -> None:
    """Formerly draws went on from a state that was saved inside the epoch."""
    run = tmp_path / "run"
    contents = load_checkpoint(stopped_after(5, run))
    contents["within_epoch"]["random"] = {"cpu": torch.get_rng_state()}
    save_checkpoint(last(run), contents)
    fit(tiny(), run, last(run))
    assert differing(whole, run) == []


# --- another profile, another machine -----------------------------------------------------------


def test_every_difference_of_the_profile_is_said_with_both_values(tmp_path: Path) -> None:
    run = tmp_path / "run"
    checkpoint = stopped_after(5, run)
    changed = {"training__lr": 0.001, "model__hidden_dim": 16, "targets__richness": 0.01}
    fit(tiny(**changed), run, checkpoint)
    log = (run / "train.log").read_text()
    said = [line for line in log.splitlines() if "Resumed with another profile" in line]
    assert sorted(said) == [
        "Resumed with another profile: targets.richness was 0.006 and is 0.01 from here on",
        "Resumed with another profile: training.lr was 0.008 and is 0.001 from here on",
    ]


ORDER = {
    "seed": 2,
    "training.batch_size": 9,
    "training.balanced_share": 0.3,
    "training.gradient_accumulation_steps": 1,
}


@pytest.mark.parametrize("key", ORDER)
def test_inside_an_epoch_the_order_of_the_data_cannot_change(key: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    inside = stopped_after(5, run)
    before = {path: path.read_bytes() for path in files(run)}
    with pytest.raises(CheckpointError) as refusal:
        Trainer(tiny(**{key: ORDER[key]}), run, "cpu", resume_from=inside)
    text = str(refusal.value)
    assert f": {key} was " in text and f"cannot become {ORDER[key]!r}" in text
    assert "inside epoch 2" in text and str(inside) in text and "\n" not in text
    assert {path: path.read_bytes() for path in files(run)} == before


@pytest.mark.parametrize("key", ORDER)
def test_between_epochs_it_can(key: str, whole: Path, tmp_path: Path) -> None:
    between = whole / "checkpoints" / "epoch_002.pt"
    trainer, result = fit(tiny(**{key: ORDER[key]}), tmp_path / "branch", between)
    assert result.stop_reason == "epochs"
    assert f"{key} was" in (tmp_path / "branch" / "train.log").read_text()
    assert trainer.progress.epoch == 4


@pytest.mark.parametrize("inside", [True, False])
def test_the_model_that_coverage_came_from_cannot_be_changed(
    inside: bool, whole: Path, tmp_path: Path
) -> None:
    checkpoint = whole / "checkpoints" / "epoch_002.pt"
    if inside:
        checkpoint = stopped_after(4, tmp_path / "run")
    profile = tiny(frozen_checkpoint__path=str(whole / "checkpoints" / "best_Q.pt"))
    with pytest.raises(CheckpointError, match=r"frozen_checkpoint\.path was None and cannot"):
        Trainer(profile, tmp_path / "branch", "cpu", resume_from=checkpoint)
    assert not (tmp_path / "branch").exists()


def test_another_way_of_running_is_said(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = whole / "checkpoints" / "epoch_002.pt"
    stored = load_checkpoint(checkpoint)["execution"]
    elsewhere = stored | {"threads": "77"}
    monkeypatch.setattr("ternvae.trainer.opening.execution", lambda device: elsewhere)
    fit(tiny(), tmp_path / "branch", checkpoint)
    said = [
        line
        for line in (tmp_path / "branch" / "train.log").read_text().splitlines()
        if "another way" in line
    ]
    assert said == [
        "Resumed in another way, so the last bits may differ: "
        f"threads {stored['threads']} then, 77 now"
    ]


@pytest.mark.parametrize("gone", ["_say_end", "_write_end"])
def test_a_run_that_was_killed_at_its_very_end_ends_on_resumption(
    gone: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, gone, killed)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny(), run)
    _, result = fit(tiny(), run, last(run))
    assert result.stop_reason == "epochs"
    assert differing(whole, run) == []
    with pytest.raises(CheckpointError, match=r"all 4 epochs are done; raise training\.epochs"):
        Trainer(tiny(), run, "cpu", resume_from=last(run))
