"""Real processes, really interrupted: within a step, with the state saved and the way on named."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ternvae.checkpoint import load_checkpoint
from ternvae.cli.running import _way_on

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")

#: One epoch of hundreds of steps, each with a line.
LONG = [
    *("--space.n_digits", "7", "--training.batch_size", "16", "--training.balanced_share", "0.1"),
    *("--training.epochs", "1", "--monitoring.log_every_n_steps", "1", "--device", "cpu"),
    *("--monitoring.report", "false"),
]

#: The program, with a step that takes as long as somebody needs to interrupt it.
SLOW = """
import sys, time
from ternvae.cli import main
from ternvae.training.optimisation import Optimisation
step, count = Optimisation.step, iter(range(1 << 30))
def slow(self, *arguments):
    if next(count) == 3:
        print("a long step", flush=True)
        time.sleep(30)
    return step(self, *arguments)
Optimisation.step = slow
sys.exit(main(sys.argv[1:]))
"""


def started(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read standard output up to a line; the tests' own time limit is the only one."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"it ended without {text!r}")


def way_on(err: str) -> list[str]:
    """The command that is named, for this interpreter."""
    [line] = [line for line in err.splitlines() if "go on with: " in line]
    program, *arguments = shlex.split(line.partition("go on with: ")[2])
    assert program == "ternvae"
    return ["-m", "ternvae", *arguments]


ENDINGS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "status"), ENDINGS)
def test_a_signal_ends_the_run_within_a_step_and_the_command_that_is_named_goes_on(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = started("-m", "ternvae", "train", *LONG, "--run-dir", str(run))
    read_until(process, "Step      5 of epoch 1")
    process.send_signal(number)
    asked = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert time.monotonic() - asked < 10
    assert err.splitlines()[0] == "stopping after this step; once more to stop at once"
    contents = load_checkpoint(run / "checkpoints" / "last.pt")
    assert contents["epoch"] == 0 and 5 <= contents["step"] < 130
    if number == signal.SIGTERM:
        again = started(*way_on(err))
        out, err = again.communicate(timeout=120)
        assert (again.returncode, err) == (0, "")
        first = next(line for line in out.splitlines() if line.startswith("Step"))
        assert int(first.split()[1]) == contents["step"] + 1
        assert load_checkpoint(run / "checkpoints" / "last.pt")["epoch"] == 1


def test_a_second_signal_ends_the_run_at_once_and_the_last_good_state_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started("-c", SLOW, "train", *LONG, "--run-dir", str(run))
    read_until(process, "a long step")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "once more to stop at once" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - asked < 5
    assert process.returncode == 130
    assert "Traceback" not in err
    last = run / "checkpoints" / "last.pt"
    assert err == f"stopped at once; go on with: ternvae train --checkpoint {last}\n"
    contents = load_checkpoint(last)
    assert (contents["epoch"], contents["step"]) == (0, 0)
    assert torch.load(last, weights_only=True).keys() == contents.keys()
    assert not list(run.rglob("*.partial"))


def test_a_run_whose_readers_have_gone_is_stopped_and_saved_all_the_same(tmp_path: Path) -> None:
    """As in ``ternvae train 2>&1 | tee log``, where Ctrl-C reaches tee as well."""
    run = tmp_path / "run"
    process = started("-m", "ternvae", "train", *LONG, "--run-dir", str(run))
    read_until(process, "Step      5 of epoch 1")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    status = process.wait(timeout=60)
    contents = load_checkpoint(run / "checkpoints" / "last.pt")
    assert contents["epoch"] == 0 and contents["step"] >= 5
    assert status == 130


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_run_whose_output_cannot_be_written_says_so_and_goes_on(tmp_path: Path) -> None:
    """As in ``ternvae train > log`` on a full disk."""
    run = tmp_path / "run"
    small = ["--space.n_digits", "3", "--training.batch_size", "27", "--training.epochs", "2"]
    small += ["--monitoring.report", "false"]
    command = ["-m", "ternvae", "train", *small, "--device", "cpu", "--run-dir", str(run)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, *command], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 0
    assert done.stderr.startswith("standard output: No space left on device; train.log has")
    assert len(done.stderr.splitlines()) == 1
    assert "metric " in (run / "train.log").read_text()
    assert load_checkpoint(run / "checkpoints" / "last.pt")["epoch"] == 2


@pytest.mark.parametrize("folder", ["plain", "with a space", "it's", "$HOME", "two;commands"])
def test_the_way_on_can_be_copied_into_a_shell_whatever_the_folder_is_called(folder: str) -> None:
    path = Path("runs") / folder / "checkpoints" / "last.pt"
    command = _way_on(path).partition("go on with: ternvae ")[2]
    shown = f"printf '%s\\n' {command}"
    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True)  # noqa: S607
    assert done.stdout.splitlines() == ["train", "--checkpoint", str(path)]
