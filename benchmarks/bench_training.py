"""Time the Trainer against the textbook loop and against its bare matrix products, in one run.

What is compared is timed in turns, so that both sides see the same weather of the machine.  Every
claim is printed with its figures and PASS or FAIL.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import torch
from bounds import as_records, exit_status
from children import progress
from environment import add_shared_options, environment, integers, pairs, write_results
from textbook import TextbookTraining
from training_floor import Floor, products_after_the_freeze, products_before_the_freeze
from training_measure import (
    ManualTraining,
    TextbookRun,
    compare_executions,
    parameters_of,
    run_trainer,
    with_execution,
)
from training_memory import peak_memory
from training_report import check_claims, report
from training_steps import breakdown

from ternvae.config import Profile, resolve_profile

__all__ = ["main"]

#: The floor is repeated for about this long on each side of an epoch.
FLOOR_SECONDS = 0.05

#: Epochs of the textbook loop between two runs of the Trainer.
TEXTBOOK_TURN = 2


def measure_epochs(
    profile: Profile, textbook: TextbookRun, device: torch.device, rounds: int
) -> dict[str, Any]:
    """Epochs of both loops and the floor, in turns.

    Returns:
        ``trainer`` and ``floor``, each before and after the freeze, and ``breakdown`` of all.
    """
    progress(f"{rounds} rounds: Trainer before and after the freeze, textbook, floor")
    vae, rows = textbook.training.vae, profile.training.batch_size
    loops = {
        "before": ManualTraining(profile, device, frozen=False),
        "after": ManualTraining(profile, device, frozen=True),
    }
    floors = {
        "before": Floor(products_before_the_freeze(vae, rows), device),
        "after": Floor(products_after_the_freeze(vae, rows), device),
    }
    around: dict[str, list[float]] = {moment: [] for moment in floors}
    for each in (*loops.values(), *loops.values()):  # what is compiled is, after two epochs
        each.epoch()
    textbook.run(1)
    for _ in range(rounds):
        for moment, loop in loops.items():
            seconds = floors[moment].time(FLOOR_SECONDS)
            loop.time()
            seconds += floors[moment].time(FLOOR_SECONDS)
            around[moment].append(statistics.median(seconds))
        textbook.run(1)
    progress("phases, library calls and host reads")
    # One of its own: the epochs made here would be missing from the account of the other.
    another = TextbookTraining(profile, device)
    another.epoch()
    return {
        "trainer": {
            moment: {
                "steps": loop.steps,
                "epoch_seconds": loop.seconds,
                "step_seconds": [seconds / loop.steps for seconds in loop.seconds],
                "parameters": parameters_of(loop.trainer.model),
            }
            for moment, loop in loops.items()
        },
        "floor": {
            moment: {
                "products": len(floor.products),
                "shapes": [product._asdict() for product in floor.products],
                "flop": floor.flop,
                "seconds": around[moment],
                "best": min(floor.seconds),
            }
            for moment, floor in floors.items()
        },
        "breakdown": {
            "Trainer, before the freeze": breakdown(loops["before"], device),
            "Trainer, after the freeze": breakdown(loops["after"], device),
            "textbook": breakdown(another, device),
        },
    }


def measure_runs(
    profiles: Sequence[Profile], epochs: int, textbook: TextbookRun, device: torch.device
) -> dict[str, Any]:
    """Runs to all targets, one for each profile, and a whole run, between textbook epochs.

    Args:
        profiles: the same profile with one seed each; the first makes the whole run.
        epochs: of the whole run.
        textbook: whose epochs are the yardstick.
        device: where.

    Returns:
        ``runs`` and ``whole_run``.
    """
    runs = []
    for profile in profiles:
        progress(f"Trainer to all targets, seed {profile.seed}")
        runs.append(run_trainer(profile, device, stop_at_targets=True))
        textbook.run(TEXTBOOK_TURN)
    whole = resolve_profile(base=profiles[0], overrides={"training.epochs": epochs})
    if device.type == "cuda":
        whole = with_execution(whole, "cuda_graph") or whole
    progress(f"Trainer, {epochs} epochs, seed {whole.seed}")
    whole_run = run_trainer(whole, device, stop_at_targets=False)
    textbook.run(TEXTBOOK_TURN)
    return {"runs": runs, "whole_run": whole_run}


def measure(profiles: Sequence[Profile], given: argparse.Namespace) -> dict[str, Any]:
    """Everything but memory, which processes of their own tell."""
    device = torch.device(given.device)
    before = torch.get_num_threads()
    torch.set_num_threads(given.threads)
    try:
        textbook = TextbookRun(profiles[0], device)
        found = measure_epochs(profiles[0], textbook, device, given.rounds)
        found |= measure_runs(profiles, given.epochs, textbook, device)
        progress(f"textbook to {given.textbook_epochs} epochs")
        textbook.run(max(0, given.textbook_epochs - textbook.epochs))
        textbook.evaluate()
        found["executions"] = compare_executions(profiles[0], device, given.rounds)
    finally:
        torch.set_num_threads(before)
    return found | {"textbook": textbook.summary()}


# --- the program ----------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 if every claim that can be checked here holds, 1 if not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=integers, default="0-4", help="default 0-4")
    parser.add_argument("--threads", type=_count, default=2, help="torch's; default 2")
    parser.add_argument("--epochs", type=_count, default=120, help="of the whole run; default 120")
    parser.add_argument(
        "--textbook-epochs",
        type=_count,
        default=40,
        help="least number of epochs that the textbook loop gets to meet the targets; default 40",
    )
    parser.add_argument(
        "--rounds", type=_count, default=10, help="epochs that are timed in turns; default 10"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    add_shared_options(parser, "the foundation profile")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no CUDA device here")
    try:
        overrides = pairs(given.overrides)
        profiles = [resolve_profile(None, None, {**overrides, "seed": s}) for s in given.seeds]
        resolve_profile(base=profiles[0], overrides={"training.epochs": given.epochs})
    except ValueError as error:
        parser.error(str(error))
    contents = {
        "environment": environment(arguments),
        "overrides": overrides,
        "device": given.device,
        "threads": given.threads,
        "batch_size": profiles[0].training.batch_size,
        **measure(profiles, given),
    }
    progress("peak memory")
    seeded = {**overrides, "seed": given.seeds[0]}
    contents["memory"] = peak_memory(seeded, given.device, given.threads)
    claims = check_claims(contents)
    contents["claims"] = as_records(claims)
    text = report(contents, claims)
    print(text)
    for file in write_results(given.out, "bench_training", contents, text):
        progress(f"Written: {file}")
    return exit_status(claims)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
