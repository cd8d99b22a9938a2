"""Several processes train what one trains, as torchrun starts them: gloo, on the CPU."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from ternvae.checkpoint import load_checkpoint
from ternvae.config import Profile, load_profile
from ternvae.trainer import Trainer
from ternvae.training.execution import execution, execution_differences
from ternvae.training.processes import Processes
from tests.runs import fit, history, last

WORLD = 2

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch has no gloo"
)

#: 6 epochs of 4 steps on 81 sequences, with every epoch in ``metrics.jsonl``.
SMALL: dict[str, Any] = {
    "space.n_digits": 4,
    "training.batch_size": 36,  # nine of them partners
    "training.epochs": 6,
    "training.lr": 3e-3,  # what differs in the last bits grows with it
    "monitoring.detailed_metrics_every_n_epochs": 1,
    "monitoring.log_every_n_steps": 1,
    "monitoring.report": False,
    "checkpointing.save_every_n_epochs": 2,
    "curriculum.coverage_first_epochs": 2,
    "scheduler.warmup_epochs": 1,
}


def small(**overrides: Any) -> Profile:
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_profile("mathematical_foundation", SMALL | dotted)


def options(settings: dict[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


def started(*arguments: str) -> subprocess.Popen[str]:
    """Two processes by torchrun, which finds a free port."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(WORLD)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def done(*arguments: str) -> tuple[int, str, str]:
    """Status of torchrun, and what the processes wrote."""
    process = started(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def training(run: Path, *arguments: str) -> list[str]:
    return ["-m", "ternvae", "train", "--device", "cpu", "--run-dir", str(run), *arguments]


def statuses(err: str) -> list[int]:
    """Exit statuses of the processes, from what torchrun reports."""
    return [int(found) for found in re.findall(r"^ +exitcode +: (-?\d+)", err, re.MULTILINE)]


# --- the same run -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    _, result = fit(small(), run)
    assert result.stop_reason == "epochs"
    return run


def check_same_end(run: Path, alone: Path) -> None:
    """All metrics of the last epoch to 1e-3, and as many epochs."""
    one, other = history(alone), history(run)
    assert [line["epoch"] for line in other] == [line["epoch"] for line in one]
    names = load_checkpoint(last(alone))["comprehensive_metrics"]
    assert len(names) > 10
    for name in names:
        assert other[-1][name] == pytest.approx(one[-1][name], abs=1e-3), name


def test_two_processes_train_what_one_trains(alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    status, out, err = done(*training(run), *options(SMALL))
    assert (status, err) == (0, "")
    for one, other in zip(history(alone), history(run), strict=True):
        assert other["losses"] == pytest.approx(one["losses"], rel=1e-5), one["epoch"]
    check_same_end(run, alone)
    # One of them speaks and writes, and says how many there are.
    assert (run / "train.log").read_text() == out
    assert "on cpu, 2 processes, threads of each: 1" in out
    assert len([line for line in out.splitlines() if line.startswith("Step")]) == 24
    assert load_checkpoint(last(run))["execution"]["processes"] == "2"
    summary = json.loads((run / "metrics.json").read_text())
    assert (summary["stop_reason"], summary["epochs"]) == ("epochs", 6)


#: The program, with a second process that gets a signal of its own in the first step of epoch 3.
SIGNALLED = """
import os, signal, sys
from ternvae.cli import main
from ternvae.training.processes import Processes
ask, calls = Processes.any, iter(range(1, 1 << 30))
def asking(self, flag):
    if next(calls) == 9 and self.rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return ask(self, flag)
Processes.any = asking
sys.exit(main(sys.argv[1:]))
"""


def test_two_are_stopped_and_one_goes_on(alone: Path, tmp_path: Path) -> None:
    run, script = tmp_path / "run", tmp_path / "signalled.py"
    script.write_text(SIGNALLED)
    _, _, err = done(str(script), *training(run)[2:], *options(SMALL))
    contents = load_checkpoint(last(run))
    # The second process asks in the second step, and in the third one both know.
    assert (contents["epoch"], contents["step"]) == (2, 3)
    assert contents["execution"]["processes"] == "2"
    said = [line for line in err.splitlines() if "ternvae train --checkpoint" in line]
    assert said == [f"interrupted; go on with: ternvae train --checkpoint {last(run)}"]
    assert set(statuses(err)) <= {128 + signal.SIGINT, 128 + signal.SIGTERM}
    _, result = fit(small(), run, last(run))
    assert result.stop_reason == "epochs"
    log = (run / "train.log").read_text()
    assert "the last bits may differ: processes 2 then, 1 now" in log
    check_same_end(run, alone)


def test_one_is_stopped_and_two_go_on(alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    _, result = fit(small(), run, stop_after=10)
    assert result.stop_reason == "interrupted"
    assert load_checkpoint(last(run))["step"] == 2
    status, out, err = done(*training(run), "--checkpoint", str(last(run)))
    assert (status, err) == (0, "")
    assert "the last bits may differ: processes 1 then, 2 now" in out
    check_same_end(run, alone)


def test_a_signal_to_torchrun_stops_all_of_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(*training(run), *options(SMALL | {"training.epochs": 10_000}))
    assert process.stdout is not None
    assert any("of epoch 2" in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - asked < 20
    assert load_checkpoint(last(run))["epoch"] >= 1
    assert err.count("stopping after this step") == err.count("interrupted; go on with: ") == 1


# --- what cannot be -----------------------------------------------------------------------------


def test_bad_input_is_said_once_and_all_end_with_status_2(tmp_path: Path) -> None:
    settings = options(SMALL | {"training.batch_size": 1, "training.balanced_share": 0})
    status, out, err = done(*training(tmp_path / "run"), *settings)
    assert status != 0
    assert out == ""
    assert err.splitlines()[0] == (
        "2 processes: more than the 1 rows of training.batch_size; start at most 1"
    )
    assert err.count("2 processes: more") == 1
    assert set(statuses(err)) == {2}
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("world", "limit"),
    [(4, "4 processes: more than the 3 sequences"), (3, None), (1, None)],
)
def test_there_must_be_a_sequence_for_each(world: int, limit: str | None) -> None:
    processes = Processes(0, world)
    if limit is None:
        processes.check_work(3, 3)
        return
    with pytest.raises(ValueError, match=limit):
        processes.check_work(3, 3)


@pytest.mark.parametrize(
    ("wanted", "local", "gpus", "complaint"),
    [
        ("cuda:1", 2, 2, "'cuda:1' is one device, and each of the 2 processes"),
        ("cuda", 3, 2, "3 processes on this machine and 2 GPUs; start at most 2"),
        ("auto", 3, 1, "3 processes on this machine and 1 GPUs; start at most 1"),
        ("cuda:2", 2, 2, "'cuda:2' is not there"),
    ],
)
def test_a_gpu_for_each(
    wanted: str, local: int, gpus: int, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ValueError, match=complaint):
        Processes(0, 4, local_rank=1, local_world=local).device(wanted)


@pytest.mark.parametrize(("wanted", "local", "chosen"), [("cuda", 2, 1), ("cuda:1", 1, 1)])
def test_each_takes_its_own_gpu(
    wanted: str, local: int, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    processes = Processes(3, 4, local_rank=local - 1, local_world=local)
    assert processes.device(wanted) == torch.device("cuda", chosen)
    assert taken == [torch.device("cuda", chosen)]
    assert processes.device("cpu") == torch.device("cpu")


ENVIRONMENT = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
MEETING = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: expected a number from 1 (got 'two')"),
        ({"RANK": "-1"}, "RANK: expected a number from 0 (got '-1')"),
        ({"RANK": "2"}, "RANK=2, WORLD_SIZE=2, LOCAL_RANK=1, LOCAL_WORLD_SIZE=2 contradict"),
        ({"LOCAL_WORLD_SIZE": "3"}, "LOCAL_WORLD_SIZE=3 contradict"),
        ({"MASTER_ADDR": ""}, "WORLD_SIZE=2 but no MASTER_ADDR; start with torchrun, or unset"),
    ],
)
def test_an_environment_that_contradicts_itself_is_refused(
    change: dict[str, str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in (ENVIRONMENT | MEETING | change).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Trainer(small(), tmp_path / "run", "cpu")
    from ternvae.cli import main

    assert main(["train", "--run-dir", str(tmp_path / "run")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert not (tmp_path / "run").exists()


def test_without_gloo_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (ENVIRONMENT | MEETING).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "is_gloo_available", lambda: False)
    with pytest.raises(ValueError, match="no gloo to connect processes with"):
        Processes.joined()


# --- what they tell one another -----------------------------------------------------------------

PARTS = """
import os, sys
import torch
from ternvae.trainer.leading import led
from ternvae.training.finite import NonFiniteError
from ternvae.training.processes import OtherProcessError, Processes, ProcessesDifferError
from ternvae.training.saving import SaveError

here = Processes.joined()
assert (here.rank, here.world, here.leads) == (int(os.environ["RANK"]), 2, here.rank == 0)

# A sum of squares of sums: by hand, with rows 1, 2 | 3, 4 and a weight of 2.
weight = torch.tensor(2.0, requires_grad=True)
rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[here.rank]
(here.total((weight * rows).sum()) ** 2).backward()
assert weight.grad == 2 * 20 * rows.sum()  # this process's part of d (10 w)^2 / dw = 200 w
assert here.sum_(weight.grad) == 400
assert torch.equal(here.sum_(torch.arange(3)), torch.tensor([0, 2, 4]))

# A flag is heard of by all at the same call, the next one.
flags = [here.any(here.rank == 1 and call == 2) for call in range(5)]
assert flags == [False, False, False, True, False], flags

assert here.agree({"mine": here.rank, "nan": [float("nan")]})["mine"] == 0
assert here.agree(None) is None


def refusing(rank):
    with here.together():
        if here.rank == rank:
            raise ValueError("no such\\nthing")
        assert here.agree(3) == 3
    return "through"


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return error


assert outcome(refusing, None) == "through"
for rank in (0, 1):
    error = outcome(refusing, rank)
    if rank == here.rank:
        assert type(error) is ValueError and str(error) == "no such\\nthing"
    else:
        assert type(error) is OtherProcessError
        assert str(error) == f"process {rank}: no such\\nprocess {rank}: thing"

same = {"a": torch.ones(3), "b": torch.tensor(1), "c": torch.zeros(2, dtype=torch.bfloat16)}
here.check_equal(same)
error = outcome(here.check_equal, same | {"b": torch.tensor(here.rank)})
assert type(error) is ProcessesDifferError and "different weights: b" in str(error)


def acting(error=None):
    assert here.leads, "only the first one acts"
    if error is not None:
        raise error
    return [1, "two"]


assert led(here, acting) == [1, "two"]
error = outcome(led, here, lambda: acting(SaveError("disk full")))
assert type(error) is SaveError and str(error) == "disk full"
error = outcome(led, here, lambda: acting(NonFiniteError(["x"], "x is nan")))
assert (type(error), error.names, error.text) == (NonFiniteError, ("x",), "x is nan")

here.close()
here.close()
os.write(1, f"process {here.rank} is through\\n".encode())  # whole, or not at all
os._exit(0)
"""


def test_what_the_processes_tell_one_another(tmp_path: Path) -> None:
    script = tmp_path / "parts.py"
    script.write_text(PARTS)
    status, out, err = done(str(script))
    assert status == 0, err
    assert sorted(out.split("\n")) == ["", "process 0 is through", "process 1 is through"]


def test_one_process_alone_needs_no_connection() -> None:
    here = Processes.joined()
    assert (here.rank, here.world, here.leads) == (0, 1, True)
    x = torch.ones(2)
    assert here.total(x) is x and here.sum_(x) is x
    assert here.any(True) and not here.any(False)
    assert here.agree(x) is x
    with pytest.raises(KeyError), here.together():
        raise KeyError
    here.check_equal({"x": x})
    here.close()
    assert not dist.is_initialized()


#: The program, with a first process that at some time cannot write its log any more.
FULL = """
import os, sys
from ternvae.cli import main
from ternvae.training.record import Record
from ternvae.training.saving import SaveError
add = Record.add
def full(self, text, **keywords):
    assert os.environ["RANK"] == "0", "only the first one writes"
    if self.path.name == "train.log" and "of epoch 3" in str(text):
        raise SaveError(f"cannot write {self.path}: no space left on device")
    add(self, text, **keywords)
Record.add = full
sys.exit(main(sys.argv[1:]))
"""


def test_what_one_cannot_write_ends_the_run_in_all(tmp_path: Path) -> None:
    run, script = tmp_path / "run", tmp_path / "full.py"
    script.write_text(FULL)
    _, _, err = done(str(script), *training(run)[2:], *options(SMALL))
    said = [line for line in err.splitlines() if "no space left" in line]
    log = run / "train.log"
    assert said == [
        f"cannot write {log}: no space left on device; stopped; go on with: ternvae train "
        f"--checkpoint {last(run)}"
    ]
    assert set(statuses(err)) == {3}
    assert json.loads((run / "metrics.json").read_text())["stop_reason"] == "save_failed"
    assert load_checkpoint(last(run))["epoch"] == 2


def test_how_many_there_were_is_said_once_it_changes() -> None:
    now = execution(torch.device("cpu"))
    assert now["processes"] == "1"
    assert execution_differences(now | {"processes": "2"}, now) == ["processes 2 then, 1 now"]
    # Earlier versions had one and did not say so.
    earlier = {name: value for name, value in now.items() if name != "processes"}
    assert execution_differences(earlier, now) == []
