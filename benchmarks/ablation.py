"""Train the foundation profile with each optional mechanism on and off, and compare over seeds.

Each run is a process of its own, as in the sweep.  Runs of the same seed follow one another, so
that all variants meet the same conditions on the machine, and are compared pair by pair.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ablation_report import Compared, Record, check_claims, compare, report
from ablation_variants import Comparison, Variant, comparisons, variants
from environment import add_shared_options, environment, pairs, write_results
from paired import MOST_PAIRS
from records import Run, unchecked_reason
from sweep import (
    Job,
    Sweep,
    add_run_options,
    as_options,
    exit_status,
    progress,
    refuse_bad_run_options,
)
from sweep_report import FOUNDATION

from ternvae.checkpoint import load_checkpoint
from ternvae.config import resolve_profile
from ternvae.training.run_directory import RunDirectory

__all__ = ["main"]

#: Beginnings of the names of what a frozen checkpoint provides.
FROZEN_PARTS = ("encoders.A.", "charts.A.", "decoder.")


def job(variant: Variant, seed: int, folder: Path, overrides: dict[str, str]) -> Job:
    """The run of a variant.

    Args:
        variant: the variant.
        seed: the run's seed.
        folder: where the run directories are.
        overrides: for every variant; its own win over them.
    """
    options = ["--profile", variant.profile]
    if variant.config is not None:
        options += ["--config", str(variant.config)]
    own = dict(variant.overrides)
    if variant.source is not None:
        source = RunDirectory(folder / Job(variant.source, seed).name)
        own["frozen_checkpoint.path"] = str(source.best)
    options += as_options({**overrides, **own})
    return Job(variant.name, seed, tuple(options), after=variant.source)


def record(run: Run, variant: Variant, folder: Path) -> Record:
    """A run with what its folder says beside the summary."""
    directory = RunDirectory(folder / Job(run.profile, run.seed).name)
    found = Record(**vars(run))
    if not run.done:
        return found
    found.events = events(directory.history)
    if variant.source is not None:
        source = RunDirectory(folder / Job(variant.source, run.seed).name)
        try:
            found.changed_parts = changed_parts(source.best, directory.last)
        except ValueError as error:
            progress(str(error))  # counts against the claim
    return found


def events(history: Path) -> list[tuple[int, str]]:
    """Epoch and kind of every freeze and thaw in a ``metrics.jsonl``."""
    lines = map(json.loads, history.read_text(encoding="utf-8").splitlines())
    found = [(each["epoch"], each["kind"]) for line in lines for each in line["events"]]
    return [(epoch, kind) for epoch, kind in found if kind.startswith(("freeze_", "thaw_"))]


def changed_parts(before: Path, after: Path) -> list[str]:
    """Names of the frozen parts that are not bit for bit equal in two checkpoints.

    Raises:
        ValueError: a checkpoint cannot be read, or has no such parts.
    """
    kept = []
    for path in (before, after):
        state = load_checkpoint(path)["model_state_dict"]
        parts = {name: state[name] for name in state if name.startswith(FROZEN_PARTS)}
        if missing := [part for part in FROZEN_PARTS if not any(n.startswith(part) for n in parts)]:
            raise ValueError(f"{path}: holds no {missing[0]}*")
        kept.append(
            {n: (t.dtype, t.shape, t.contiguous().numpy().tobytes()) for n, t in parts.items()}
        )
    first, second = kept
    return sorted(name for name in first | second if first.get(name) != second.get(name))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    known = list(variants(resolve_profile(FOUNDATION)))
    parser.add_argument(
        "--variants",
        type=lambda text: text.split(","),
        default=None,
        metavar="A,B",
        help=f"default: all of {', '.join(known)}",
    )
    add_run_options(parser)
    add_shared_options(parser, "every variant (the claims are not checked then)")
    given = parser.parse_args(arguments)
    refuse_bad_run_options(parser, given)
    if len(given.seeds) > MOST_PAIRS:
        parser.error(
            f"--seeds: {len(given.seeds)} seeds; the exact test takes at most {MOST_PAIRS}"
        )
    try:
        given.overrides = pairs(given.overrides)
        given.shipped = resolve_profile(FOUNDATION, None, given.overrides)
        given.all = variants(given.shipped)
        given.chosen = _chosen(given.variants, given.all)
        given.targets = {
            each.name: each.resolve(given.overrides).targets.model_dump() for each in given.chosen
        }
    except ValueError as error:
        parser.error(str(error))
    return given


def _chosen(names: Sequence[str] | None, known: dict[str, Variant]) -> list[Variant]:
    """The variants of these names and those that they build on, in the usual order.

    Raises:
        ValueError: a name is unknown or comes twice.
    """
    wanted = list(known) if names is None else list(names)
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"--variants: {unknown[0]!r} is none of {', '.join(known)}")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"--variants: a name comes twice in {','.join(wanted)}")
    sources = {source for name in wanted if (source := known[name].source) is not None}
    return [variant for name, variant in known.items() if name in sources.union(wanted)]


def _contents(
    given: argparse.Namespace,
    runs: Sequence[Record],
    compared: Sequence[tuple[Comparison, Sequence[Compared]]],
) -> dict[str, Any]:
    """What the JSON file says beside the claims and the circumstances."""
    return {
        "jobs": given.jobs,
        "seeds": given.seeds,
        "overrides": given.overrides,
        "variants": [
            {"name": each.name, "change": each.change, "targets": given.targets[each.name]}
            for each in given.chosen
        ],
        "comparisons": [
            {**asdict(comparison), "quantities": [asdict(row) for row in rows]}
            for comparison, rows in compared
        ],
        "runs": [{"variant": run.profile, **_without_profile(asdict(run))} for run in runs],
    }


def _without_profile(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "profile"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ablation and report it.

    Returns:
        0; 1 if a claim or a run failed; 130 if interrupted.
    """
    given = _arguments(arguments)
    where = environment(arguments)
    started = time.perf_counter()
    with ExitStack() as stack:
        folder = given.runs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.absolute()
        jobs = [
            job(each, seed, folder, given.overrides)
            for seed in given.seeds
            for each in given.chosen
        ]
        progress(f"{len(jobs)} runs, {given.jobs} at a time")
        sweep = Sweep(jobs, given.jobs, folder)
        runs = [record(run, given.all[run.profile], folder) for run in sweep.run()]
    pairings = comparisons(given.shipped, [each.name for each in given.chosen])
    compared = [(each, compare(each, runs)) for each in pairings]
    unchecked = unchecked_reason(runs, given.all, given.overrides, interrupted=sweep.interrupted)
    claims = [] if unchecked else check_claims(runs, given.chosen, given.targets, compared)
    text = report(runs, given.chosen, compared, claims, unchecked, where)
    contents = {
        "environment": where,
        "seconds": time.perf_counter() - started,
        "claims_unchecked": unchecked,
        "claims": [asdict(claim) for claim in claims],
        **_contents(given, runs, compared),
    }
    print(text)
    for file in write_results(given.out, "ablation", contents, text):
        progress(f"Written: {file}")
    return exit_status(claims, runs, interrupted=sweep.interrupted)


if __name__ == "__main__":
    # The runs have sessions of their own and would outlive an ablation that is merely killed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
