"""Runs that stop themselves, for want of memory or for figures that are not finite.

As in ``test_troubleshooting.py`` the remedies are followed as they are printed, here through the
command line.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ternvae.trainer
import ternvae.trainer.steps
from ternvae.checkpoint import load_checkpoint
from ternvae.cli import main
from ternvae.config import Profile
from ternvae.models import TernaryVAE
from ternvae.trainer import Trainer
from tests.test_troubleshooting import SEEDS, SMALL, remedies

# --- memory runs out ----------------------------------------------------------------------------

#: A batch of the whole space needs 600 MiB more than a small one before it, half of it 320; the
#: cap lies between.  So many layers do not run as one call, which would need a third of that.
DEEP = {
    "space.n_digits": 7,
    "model.latent_dim": 2,
    "model.hidden_dim": 128,
    "model.projection_layers": 64,
    "training.epochs": 1,
    "scheduler.warmup_epochs": 0,
    "training.batch_size": 2187,
    "monitoring.report": False,
}

CAPPED = """
import resource, sys, tempfile
from pathlib import Path
from ternvae.cli import main
# What a first run loads and keeps counts as used: a CUDA build of torch takes gigabytes more.
with tempfile.TemporaryDirectory() as folder:
    small = {
        "--run-dir": folder + "/run",
        "--training.batch_size": "32",
        "--training.gradient_accumulation_steps": "64",
    }
    options = dict(zip(sys.argv[2::2], sys.argv[3::2])) | small
    assert main(["train", *(text for option in options.items() for text in option)]) == 0
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + 450 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
print("CAPPED", flush=True)
sys.exit(main(sys.argv[1:]))
"""


#: One thread, and memory that is freed goes back to the system, so that a cap is one on its use.
FRUGAL = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}


def train_in_little_memory(path: Path, settings: dict[str, Any]) -> tuple[int, str]:
    """Exit status of the command line, and what it printed."""
    options = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            CAPPED,
            "train",
            "--run-dir",
            str(path),
            "--device",
            "cpu",
            *options,
        ],
        capture_output=True,
        text=True,
        env=os.environ | FRUGAL,
        check=False,
    )
    return done.returncode, done.stdout.partition("CAPPED\n")[2] + done.stderr


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is capped as Linux does")
@SEEDS
def test_memory_that_runs_out(seed: int, tmp_path: Path) -> None:
    settings = DEEP | {"seed": seed}
    status, said = train_in_little_memory(tmp_path / "run_0", settings)
    assert status == 3, said
    for attempt in range(1, 5):
        (sign,) = json.loads((tmp_path / f"run_{attempt - 1}" / "metrics.jsonl").read_text())[
            "warnings"
        ]
        assert sign["name"] == "out_of_memory"
        (line,) = [line for line in said.splitlines() if "warning: out of memory" in line]
        told = remedies(sign["remedies"])
        keys = ("training.batch_size", "training.gradient_accumulation_steps")
        rows = settings["training.batch_size"] * settings.get(keys[1], 1)
        assert [key for key in keys if f"{key}: {told[key]}" not in line] == []
        settings |= {key: told[key] for key in keys}
        assert told[keys[0]] * told[keys[1]] == pytest.approx(rows, rel=0.01)
        status, said = train_in_little_memory(tmp_path / f"run_{attempt}", settings)
        if status == 0:
            break
        assert status == 3, said
    assert status == 0, said
    assert "out of memory" not in said
    assert load_checkpoint(tmp_path / f"run_{attempt}" / "checkpoints" / "last.pt")["epoch"] == 1


# --- figures that are not finite ----------------------------------------------------------------


def a_term(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one epoch one term of the loss is NaN."""
    steps, calls = ternvae.trainer.steps, iter(range(1, 1000))
    genuine, by_hand = steps.loss_terms, steps.accumulate

    def loss_terms(*arguments: Any, **keywords: Any) -> dict[str, Tensor]:
        terms = genuine(*arguments, **keywords)
        return terms | {"kl": terms["kl"] * torch.nan} if next(calls) == epoch else terms

    def accumulate(*arguments: Any, **keywords: Any) -> list[float] | None:
        terms = by_hand(*arguments, **keywords)
        return terms and [*terms[:-1], terms[-1] * torch.nan if next(calls) == epoch else terms[-1]]

    monkeypatch.setattr(steps, "loss_terms", loss_terms)
    monkeypatch.setattr(steps, "accumulate", accumulate)


def a_gradient(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one epoch the loss is fine and the gradient of one weight is not."""
    calls = iter(range(1, 1000))

    def poisoned(gradient: Tensor) -> Tensor:
        return gradient * torch.nan if next(calls) == epoch else gradient

    def trainer(profile: Profile, *arguments: Any, **keywords: Any) -> Trainer:
        made = Trainer(profile, *arguments, **keywords)
        made.model.prototypes.register_hook(poisoned)
        return made

    monkeypatch.setattr(ternvae.trainer, "Trainer", trainer)


@SEEDS
@pytest.mark.parametrize(("poison", "named"), [(a_term, "kl"), (a_gradient, "gradient_norm")])
def test_figures_that_are_not_finite(
    poison: Callable[[int, pytest.MonkeyPatch], None],
    named: str,
    seed: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = SMALL | {
        "training.epochs": 6,
        "training.balanced_share": 0.0,
        "training.paired_share": 0.0,  # one step in each epoch
        "checkpointing.save_every_n_epochs": 1,
    }
    options = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    path = tmp_path / "run"
    last, best = (path / "checkpoints" / f"{name}.pt" for name in ("last", "best_Q"))
    with pytest.MonkeyPatch.context() as patch:
        poison(4, patch)
        command = ["train", "--run-dir", str(path), "--device", "cpu", "--seed", str(seed)]
        assert main([*command, *options]) == 3
    said = capsys.readouterr()
    assert re.search(rf"^Epoch 4: warning: NaN or infinite: .*\b{named}\b.*; try ", said.out, re.M)
    assert json.loads((path / "metrics.json").read_text())["stop_reason"] == "non_finite_loss"
    sign = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])["warnings"][-1]
    assert (sign["name"], sign["epoch"]) == ("non_finite", 4)
    assert load_checkpoint(last)["epoch"] == 3
    for checkpoint in (last, best):
        assert TernaryVAE.from_checkpoint(checkpoint).embed(range(81)).isfinite().all()

    # The last good checkpoint and the remedies as printed: the run goes on to its end.
    told = remedies(sign["remedies"])
    keys = ("training.lr", "training.max_grad_norm")
    calmer = [text for key in keys for text in (f"--{key}", str(told[key]))]
    assert main(["train", "--checkpoint", str(last), "--device", "cpu", *calmer]) == 0
    assert load_checkpoint(last)["epoch"] == 6
    assert "NaN" not in capsys.readouterr().out
