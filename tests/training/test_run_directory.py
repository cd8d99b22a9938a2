"""The folder of a run: one run at a time, nothing of the user's touched, nothing lost."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ternvae.checkpoint import load_checkpoint
from ternvae.trainer import Trainer
from ternvae.training.lock import FolderLock
from ternvae.training.run_directory import RunDirectory, RunDirectoryError
from ternvae.training.saving import SaveError
from tests.runs import fit, last, point, tiny

PROFILE = "name: custom\n"

CONTENTS: dict[str, Any] = {
    "model_state_dict": {"weight": torch.zeros(3)},
    "model_config": {},
    "epoch": 1,
    "step": 0,
    "optimizer_state_dict": {},
    "comprehensive_metrics": {},
    "validation_results": {},
    "profile": {},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def opened(run: Path, resume_epoch: int | None = None, **sizes: int) -> RunDirectory:
    directory = RunDirectory(run)
    dotted = {name.replace("__", "."): size for name, size in sizes.items()}
    directory.open(PROFILE, point(directory, resume_epoch, dotted))
    return directory


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def content(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


# --- opening ------------------------------------------------------------------------------------


def test_nothing_is_there_before_it_is_opened(run: Path) -> None:
    directory = RunDirectory(run)
    directory.check(resuming=False)
    assert not run.exists()
    assert directory.open(PROFILE) is True
    directory.close()
    assert (run / "profile.yaml").read_text() == PROFILE
    assert names(run) == {"profile.yaml", "checkpoints", "metrics.jsonl", "lock"}


def test_two_runs_cannot_have_it_at_once_and_the_second_changes_nothing(run: Path) -> None:
    first = opened(run)
    for resume_epoch in (None, 3):
        point(first, resume_epoch)
        before = content(run)
        with pytest.raises(RunDirectoryError, match=rf"process {os.getpid()} on .* is writing"):
            opened(run, resume_epoch)
        assert content(run) == before
    first.close()
    opened(run, 3).close()


def test_a_run_that_is_resumed_while_it_still_goes_on_changes_nothing(run: Path) -> None:
    fit(tiny(), run, stop_after=2)
    trainer = Trainer(tiny(), run, "cpu", resume_from=last(run))
    lock = FolderLock(run / "lock")
    lock.acquire()
    before = content(run)
    with pytest.raises(RunDirectoryError, match="wait for it to end, or name another directory"):
        trainer.fit()
    assert content(run) == before
    lock.release()
    assert trainer.fit().stop_reason == "epochs"


def test_a_new_run_that_comes_second_does_not_begin(run: Path) -> None:
    """Both found the folder free; when the second one may write, the first has finished."""
    second = Trainer(tiny(), run, "cpu")
    fit(tiny(), run)
    before = content(run)
    with pytest.raises(RunDirectoryError, match="holds a run already"):
        second.fit()
    assert {path: each for path, each in content(run).items() if path.name != "lock"} == {
        path: each for path, each in before.items() if path.name != "lock"
    }
    # The refused one does not keep the folder.
    opened(run, 4).close()


def test_a_state_that_another_process_has_replaced_since_is_not_lost(run: Path) -> None:
    """Read before the lock was taken, while the run was still going on."""
    fit(tiny(), run, stop_after=2)
    second = Trainer(tiny(), run, "cpu", resume_from=last(run))
    fit(tiny(), run, last(run), stop_after=7)
    newer, lines = last(run).read_bytes(), (run / "metrics.jsonl").read_text()
    try:
        second.request_stop()
        second.fit()
    except ValueError:
        assert (run / "metrics.jsonl").read_text() == lines
    assert newer in content(run).values()


def test_no_checkpoint_is_recommended_that_is_not_there(run: Path) -> None:
    """The disk was full at the first save; what there is of the run says so."""
    opened(run).close()
    (run / "metrics.json").write_text("{}")
    with pytest.raises(RunDirectoryError) as caught:
        RunDirectory(run).check(resuming=False)
    assert "last.pt" not in str(caught.value)


def test_a_way_back_that_is_cut_short_loses_no_line_of_the_newer_state(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the lines were cut: by then the older state is the last one."""
    fit(tiny(), run)
    lines, newer = (run / "metrics.jsonl").read_text(), last(run).read_bytes()

    def killed(self: Trainer) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_begin", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny(), run, run / "checkpoints" / "epoch_002.pt")
    assert load_checkpoint(last(run))["epoch"] == 2
    assert newer in content(run / "set_aside").values()
    fit(tiny(), run, last(run))
    assert (run / "metrics.jsonl").read_text() == lines


def test_what_fails_after_the_lock_was_taken_gives_it_back(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ternvae.training.run_directory.write_whole", fails)
        with pytest.raises(SaveError, match="No space left"):
            opened(run)
    opened(run).close()


def test_a_folder_where_a_run_was_killed_before_its_first_checkpoint_is_free(run: Path) -> None:
    opened(run).close()
    RunDirectory(run).check(resuming=False)
    assert fit(tiny(), run)[1].stop_reason == "epochs"
    with pytest.raises(RunDirectoryError, match="holds a run already"):
        RunDirectory(run).check(resuming=False)


@pytest.mark.parametrize("left", ["metrics.json", "metrics.jsonl", "checkpoints/epoch_020.pt"])
def test_a_folder_where_a_run_left_something_is_not_free(left: str, run: Path) -> None:
    opened(run).close()
    (run / left).write_text("{}\n")
    with pytest.raises(RunDirectoryError, match="holds a run already; name another one"):
        RunDirectory(run).check(resuming=False)


def test_a_folder_with_a_profile_of_the_users_is_not_free(run: Path) -> None:
    run.mkdir()
    (run / "profile.yaml").write_text("training: {lr: 1}\n")
    with pytest.raises(RunDirectoryError, match="holds a run already"):
        opened(run)
    assert {path.name: text for path, text in content(run).items()} == {
        "profile.yaml": b"training: {lr: 1}\n"
    }


def test_what_was_cut_off_is_removed_and_what_is_the_users_stays(run: Path) -> None:
    opened(run).close()
    folder = run / "checkpoints"
    stale = ["last.pt", "best_Q.pt", "epoch_020.pt", "best_epoch_003.pt", "SHA256SUMS"]
    foreign = ["notes.partial", "my_epoch_3.pt.partial", "model.pt.partial", "epoch_x.partial"]
    for name in stale:
        (folder / f"{name}.partial").write_text("half")
    for name in foreign:
        (folder / name).write_text("mine")
    (run / "profile.yaml.partial").write_text("half")
    (run / "notes.partial").write_text("mine")
    opened(run).close()
    assert names(folder) == set(foreign)
    assert names(run) == {
        *("profile.yaml", "checkpoints", "metrics.jsonl", "lock", "notes.partial")
    }


# --- what a resumption cuts ---------------------------------------------------------------------

LINES = [json.dumps({"epoch": epoch}) + "\n" for epoch in (1, 2, 3, 4)]


def written(run: Path) -> None:
    opened(run).close()
    (run / "metrics.jsonl").write_text("".join(LINES))
    (run / "train.log").write_text("one\ntwo\nthree\n")


def test_what_comes_after_the_checkpoint_is_set_aside(run: Path) -> None:
    written(run)
    opened(run, 2, train__log=4, metrics__jsonl=sum(map(len, LINES[:2]))).close()
    assert (run / "metrics.jsonl").read_text() == "".join(LINES[:2])
    assert (run / "train.log").read_text() == "one\n"
    assert (run / "set_aside" / "metrics.jsonl").read_text() == "".join(LINES[2:])
    assert (run / "set_aside" / "train.log").read_text() == "two\nthree\n"


def test_without_sizes_the_epochs_decide_and_the_log_stays(run: Path) -> None:
    written(run)
    opened(run, 3).close()
    assert (run / "metrics.jsonl").read_text() == "".join(LINES[:3])
    assert (run / "train.log").read_text() == "one\ntwo\nthree\n"
    assert not (run / "set_aside" / "train.log").exists()


@pytest.mark.parametrize("torn", ['{"epoch": 2', '{"epoch": 2}', "[]\n", "null\n", "\x00\x00"])
def test_a_torn_last_line_is_set_aside(torn: str, run: Path) -> None:
    written(run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(torn)
    opened(run, 4).close()
    assert (run / "metrics.jsonl").read_text() == "".join(LINES)
    assert (run / "set_aside" / "metrics.jsonl").read_text() == torn.removesuffix("\n") + "\n"


@pytest.mark.parametrize("size", [2, 10**6])
def test_a_size_that_cannot_be_right_cuts_nothing(size: int, run: Path) -> None:
    written(run)
    opened(run, 4, train__log=size, metrics__jsonl=size).close()
    assert (run / "metrics.jsonl").read_text() == "".join(LINES)
    assert (run / "train.log").read_text() == "one\ntwo\nthree\n"


def test_what_is_set_aside_is_never_overwritten(run: Path) -> None:
    directory = opened(run)
    for text in ("first", "second", "third"):
        directory.last.write_text(text)
        directory.set_aside(directory.last)
        if text == "second":
            (run / "set_aside" / "last_1.pt").unlink()
    kept = {path.read_text() for path in (run / "set_aside").iterdir()}
    directory.close()
    assert kept == {"second", "third"}


# --- keeping and removing -----------------------------------------------------------------------


def test_an_old_file_goes_only_when_the_new_one_is_durable(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = opened(run)
    old, new = directory.good(1), directory.good(2)
    directory.save(CONTENTS, directory.last, old)
    done: list[str] = []
    fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        done.append("fsync")

    def noted_replace(self: Path, target: Path) -> Path:
        done.append(f"replace {target.name}")
        return replace(self, target)

    def noted_unlink(self: Path, missing_ok: bool = False) -> None:
        done.append(f"unlink {self.name}")
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    monkeypatch.setattr(Path, "unlink", noted_unlink)
    directory.save(CONTENTS, directory.last, new, dropped=[old])
    directory.close()
    records = ["fsync"] * 2

    def whole(name: str) -> list[str]:
        return ["fsync", f"replace {name}", "fsync"]

    files = whole("last.pt") + whole("best_epoch_002.pt")
    assert done == [*records, *files, "unlink best_epoch_001.pt", *whole("SHA256SUMS")]


def test_a_save_that_fails_removes_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = opened(run)
    directory.save(CONTENTS, directory.last, directory.good(1))
    before = content(run)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ternvae.training.run_directory.copy_whole", fails)
    with pytest.raises(SaveError, match=r"best_epoch_002\.pt: No space left"):
        directory.save(CONTENTS, directory.last, directory.good(2), dropped=[directory.good(1)])
    directory.close()
    after = content(run)
    assert after.keys() == before.keys()
    assert load_checkpoint(directory.last)["epoch"] == 1


def test_what_the_user_replaced_or_put_there_stays(run: Path) -> None:
    directory = opened(run)
    directory.save(CONTENTS, directory.last, directory.good(1), directory.good(2))
    directory.good(1).write_text("replaced")
    directory.good(9).write_text("put there")
    assert directory.superseded([2]) == [directory.good(1)]
    directory.save(CONTENTS, directory.last, dropped=directory.superseded([]))
    directory.close()
    assert directory.good(1).read_text() == "replaced"
    assert directory.good(9).read_text() == "put there"
    assert not directory.good(2).exists()


def test_a_summary_that_may_not_last_does_not_say_that_the_run_has_ended(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = opened(run)

    def fails(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("ternvae.checkpoint.durable.sync_folder", fails)
    with pytest.raises(SaveError, match=r"metrics\.json: Input/output error"):
        directory.write_summary({"stop_reason": "epochs"})
    assert not directory.is_finished()
