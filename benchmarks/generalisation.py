"""Train with half of the sequences held out, many seeds, and see what becomes of the other half.

Each run is a process of its own, ``python -m ternvae train --space.holdout SHARE``.  The best model
of each, chosen by what it has seen, is then measured on what it has not.  Walks between sequences
are decoded, and so are new points: of the prior, and of a mixture fitted to the posteriors.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from bounds import as_records, exit_status
from environment import add_shared_options, environment, pairs, write_results
from generalisation_report import check_claims, report
from sweep import INTERRUPTED, Job, Sweep, add_run_options, as_options, progress
from sweep import refuse_bad_run_options as refuse

from ternvae.config import resolve_profile
from ternvae.metrics import level_frequencies, monotone_change, sibling_retrieval
from ternvae.models import LevelMixture, TernaryVAE, interpolate, sample
from ternvae.padic import Holdout

__all__ = ["main", "measured"]

#: What is drawn of each model, with a generator of this seed.
PATHS, SAMPLES, STEPS, SEED = 5000, 20_000, 33, 1


def measured(checkpoint: Path, share: float, seed: int) -> dict[str, Any]:
    """What the command line does not say of a model: paths, samples, nearest neighbours."""
    model = TernaryVAE.from_checkpoint(checkpoint)
    space, generator = model.space, torch.Generator().manual_seed(SEED)
    holdout = Holdout(space, share, seed)
    parts = {"seen": holdout.seen_indices(), "unseen": holdout.unseen_indices()}
    ends = torch.randint(space.size, (2, PATHS), generator=generator)
    drawn = {
        "prior": sample(model, SAMPLES, generator=generator),
        "mixture": sample(model, SAMPLES, mixture=LevelMixture.fit(model), generator=generator),
    }
    return {
        "sibling_retrieval": {
            name: sibling_retrieval(model.embed(rows), model.ball, space, indices=rows).share
            for name, rows in parts.items()
        },
        "paths": {
            branch: asdict(monotone_change(interpolate(model, *ends, STEPS, branch).sequences))
            for branch in ("A", "B")
        },
        "samples": {
            name: asdict(level_frequencies(each.sequences, space)) for name, each in drawn.items()
        },
    }


def as_row(run: Any, share: float, folder: Path) -> dict[str, Any]:
    """A run as plain values; without figures if it has not come to its end."""
    row = {"seed": run.seed, "status": run.status, "seconds": run.wall_seconds}
    if not run.done:
        return row
    held_out = run.summary["holdout"]
    best = folder / f"{run.profile}-seed{run.seed}" / "checkpoints" / "best_Q.pt"
    progress(f"measuring seed {run.seed}")
    return {
        **row,
        "epochs": run.summary["epochs"],
        "best_epoch": run.summary["best_epoch"],
        "seen": held_out["seen"],
        "unseen": held_out["unseen"],
        **measured(best, share, run.seed),
    }


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a share in (0, 1), got {text}")
    return value


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profile", default="mathematical_foundation", help="default: %(default)s")
    parser.add_argument("--holdout", type=_share, default=0.5, help="share; default %(default)s")
    add_run_options(parser)
    parser.set_defaults(seeds=list(range(5)))
    add_shared_options(parser, "the profile (the claims are not checked then)")
    given = parser.parse_args(arguments)
    refuse(parser, given)
    try:
        given.overrides = pairs(given.overrides)
        if "space.holdout" in given.overrides:
            raise ValueError("--set space.holdout: use --holdout for the share")
        given.keys = {"space.holdout": str(given.holdout), **given.overrides}
        resolve_profile(given.profile, None, given.keys)
    except ValueError as error:
        parser.error(str(error))
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report; returns 0, 1 if a claim or a run failed, or 130 if interrupted."""
    given = _arguments(arguments)
    options = ("--profile", given.profile, *as_options(given.keys))
    where, started = environment(arguments), time.perf_counter()
    with ExitStack() as stack:
        folder = given.runs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [Job(given.profile, seed, options) for seed in given.seeds]
        sweep = Sweep(jobs, given.jobs, folder.absolute())
        rows = [as_row(run, given.holdout, folder.absolute()) for run in sweep.run()]
    why_not = "--set changes the profile" if given.overrides else None
    claims = check_claims(rows, why_not)
    text = report(rows, claims, where, given.profile, given.holdout)
    contents = {
        "environment": where,
        "profile": given.profile,
        "holdout": given.holdout,
        "overrides": given.overrides,
        "seconds": time.perf_counter() - started,
        "claims": as_records(claims),
        "runs": _plain(rows),
    }
    print(text)
    for file in write_results(given.out, "generalisation", contents, text):
        progress(f"Written: {file}")
    if sweep.interrupted:
        return INTERRUPTED
    return max(exit_status(claims), int(any(row["status"] != "done" for row in rows)))


def _plain(value: Any) -> Any:
    """For strict JSON: what is not a number becomes None."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    # The runs have sessions of their own and would outlive a sweep that is merely killed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
