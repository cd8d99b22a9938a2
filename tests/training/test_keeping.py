"""Which checkpoints a run keeps: the best and no others, whatever came in between."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path

import pytest

from ternvae.checkpoint import load_checkpoint
from ternvae.trainer import Trainer
from ternvae.trainer.keeping import Keeper
from ternvae.training.inventory import Inventory, file_digest
from ternvae.training.progress import Best
from tests.runs import fit, last, tiny


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def good(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").glob("best_epoch_*.pt")}


QUALITIES = [0.3, math.nan, 0.5, 0.5, 0.4, math.nan, 0.9, 0.1]


@pytest.mark.parametrize("most", [1, 3, 20])
def test_exactly_the_best_are_kept_nan_is_the_worst_and_of_equals_the_older(
    most: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ternvae.trainer.keeping.rank",
        lambda metrics, targets, n_digits: metrics["mark"],
    )
    given = iter(QUALITIES)

    def marked(quality: float) -> float:
        return -math.inf if math.isnan(quality) else quality

    evaluated = Keeper.evaluated

    def scored(self: Keeper, best: Best) -> None:
        best.metrics["mark"] = marked(next(given))
        evaluated(self, best)

    monkeypatch.setattr(Keeper, "evaluated", scored)
    fit(tiny(training__epochs=8, checkpointing__keep_best_n=most), run)
    order = sorted(range(8), key=lambda k: (-marked(QUALITIES[k]), k))[:most]
    expected = {f"best_epoch_{k + 1:03d}.pt" for k in order} if most > 1 else set()
    assert good(run) == expected
    assert load_checkpoint(run / "checkpoints" / "best_Q.pt")["epoch"] == 7
    listed = {line.split()[1] for line in (run / "checkpoints/SHA256SUMS").read_text().splitlines()}
    assert listed == {p.name for p in (run / "checkpoints").glob("*.pt")}


def test_a_copy_that_a_kill_left_out_of_the_list_is_removed_in_its_turn(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a file and the list of files; the run that goes on counts it as its own."""
    write = Inventory.write
    count = iter(range(1 << 30))

    def killed(self: Inventory) -> None:
        if next(count) == 2:  # the first state, epoch 1, epoch 2
            raise KeyboardInterrupt
        write(self)

    with monkeypatch.context() as patch:
        patch.setattr(Inventory, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny(training__epochs=8), run)
    trainer, _ = fit(tiny(training__epochs=8), run, last(run))
    kept = {f"best_epoch_{best.epoch:03d}.pt" for best in trainer.progress.kept}
    assert "best_epoch_002.pt" not in kept
    assert good(run) == kept


def test_with_fewer_to_keep_fewer_are_kept(run: Path) -> None:
    fit(tiny(checkpointing__keep_best_n=3), run)
    assert len(good(run)) == 3
    # Ruined, so that nothing better comes that would push the others out.
    ruined = tiny(
        checkpointing__keep_best_n=2,
        training__epochs=5,
        training__lr=1.0,
        curriculum__enabled=False,
    )
    fit(ruined, run, last(run))
    assert len(good(run)) == 2


def test_going_back_before_the_first_evaluation_sets_the_best_model_aside(run: Path) -> None:
    settings = {
        "monitoring__detailed_metrics_every_n_epochs": 2,
        "checkpointing__save_every_n_epochs": 1,
    }
    fit(tiny(**settings), run)
    best = (run / "checkpoints" / "best_Q.pt").read_bytes()
    fit(tiny(**settings), run, run / "checkpoints" / "epoch_001.pt")
    assert best in [path.read_bytes() for path in (run / "set_aside").glob("best_Q*.pt")]


@pytest.mark.parametrize("inside", [True, False])
def test_the_newest_state_is_named_as_the_last_good_one(inside: bool, run: Path) -> None:
    _, result = fit(tiny(), run, stop_after=5 if inside else 6)
    assert result.last_good == last(run)
    last(run).write_bytes(b"damaged since")
    trainer = Trainer(tiny(), run, "cpu", resume_from=run / "checkpoints" / "best_Q.pt")
    path, told = trainer.keeper.last_good()
    assert path == run / "checkpoints" / "best_Q.pt"
    assert told.endswith(f"with epoch {load_checkpoint(path)['epoch']} done")


def test_a_file_without_a_step_in_the_place_of_the_best_is_no_trouble(run: Path) -> None:
    """A model of format 1 that the user put there, for one."""
    trainer, _ = fit(tiny(), run, stop_after=7)
    shutil.copy(Path(__file__).parents[1] / "data" / "format_1.pt", run / "checkpoints/best_Q.pt")
    trainer.keeper.last_good()


@pytest.mark.parametrize("most", [1, 2])
def test_a_save_that_fails_half_way_leaves_no_file_too_many(
    most: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full for a while, and the profile says go on."""
    from ternvae.training import run_directory

    copy, refused = run_directory.copy_whole, []

    def full(source: Path, target: Path) -> None:
        epoch = load_checkpoint(source)["epoch"] if target.name == "best_Q.pt" else 0
        if epoch > 1 and not refused:
            refused.append(epoch)
            raise OSError(28, "No space left on device")
        copy(source, target)

    monkeypatch.setattr(run_directory, "copy_whole", full)
    profile = tiny(
        training__epochs=8,
        checkpointing__keep_best_n=most,
        checkpointing__on_save_error="continue",
    )
    trainer, result = fit(profile, run)
    assert result.stop_reason == "epochs"
    kept = {f"best_epoch_{best.epoch:03d}.pt" for best in trainer.progress.kept}
    assert good(run) == (kept if most > 1 else set())
    assert "save_failed" in (run / "metrics.jsonl").read_text()
    assert (run / "train.log").read_text().count("No space left on device; the run goes on") == 1


def test_a_run_that_cannot_begin_keeps_neither_the_folder_nor_the_log(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails once the folder is open is undone as what fails later is."""
    log = logging.getLogger("ternvae")
    before, level = list(log.handlers), log.level

    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    profile = tiny(monitoring__tensorboard=True)
    trainer = Trainer(profile, run, "cpu")
    with monkeypatch.context() as patch:
        patch.setattr("ternvae.training.monitor.TensorBoard", fails)
        with pytest.raises(RuntimeError, match="No space left"):
            trainer.fit()
    assert (log.handlers, log.level) == (before, level)
    assert Trainer(profile, run, "cpu").fit().stop_reason == "epochs"


@pytest.mark.parametrize("left", ["no file", "a file that is not listed"])
def test_a_numbered_checkpoint_that_a_kill_left_out_is_there_on_resumption(
    left: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between last.pt and epoch_002.pt, or between that and SHA256SUMS."""
    fit(tiny(), run, stop_after=6)
    folder = run / "checkpoints"
    assert load_checkpoint(last(run))["epoch"] == 2
    listed = (folder / "SHA256SUMS").read_text().splitlines()
    kept = [line for line in listed if not line.endswith("  epoch_002.pt")]
    assert len(kept) == len(listed) - 1
    (folder / "SHA256SUMS").write_text("".join(f"{line}\n" for line in kept))
    if left == "no file":
        (folder / "epoch_002.pt").unlink()
    fit(tiny(), run, last(run))
    assert load_checkpoint(folder / "epoch_002.pt")["epoch"] == 2
    assert "  epoch_002.pt\n" in (folder / "SHA256SUMS").read_text()


@pytest.mark.parametrize("kill", range(1, 7))
def test_whichever_list_a_kill_prevents_the_run_ends_with_a_true_one(
    kill: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last of them nothing is left to train, so nothing else would write it again."""
    write, count = Inventory.write, iter(range(1 << 30))

    def killed(self: Inventory) -> None:
        if next(count) == kill:
            raise KeyboardInterrupt
        write(self)

    with monkeypatch.context() as patch:
        patch.setattr(Inventory, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny(), run)
    fit(tiny(), run, last(run))
    folder = run / "checkpoints"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert listed == {path.name: file_digest(path) for path in folder.glob("*.pt")}
