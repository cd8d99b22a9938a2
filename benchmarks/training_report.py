"""Claims and tables of ``bench_training.py``, as pure functions of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from bounds import Bound, bounds_markdown
from environment import environment_markdown, markdown_table
from records import shown

__all__ = ["check_claims", "report"]

Record = dict[str, Any]

#: A step of the Trainer may take this many times its bare matrix products.
LARGEST_STEP = 3.0

#: Seconds of evaluation, over those of training.
LARGEST_EVALUATION = 0.05

#: All targets are to be met within so many epochs of the textbook loop.
YARDSTICK_EPOCHS = 10

#: A whole run, over the same number of epochs of the textbook loop.
LARGEST_RUN = 0.4

#: On CUDA: seconds of a whole run, and how many times as fast a captured step is.
LARGEST_CUDA_SECONDS = 10.0
LEAST_GRAPH_RATIO = 4.0

_MOMENTS = {"before": "before the freeze", "after": "after the freeze"}


# --- claims ---------------------------------------------------------------------------------


def check_claims(contents: Record) -> list[Bound]:
    """Every claim with its figures; those that are about another device are skipped."""
    on_cuda = contents["device"] != "cpu"
    other = "claimed of the CPU" if on_cuda else None
    whole = contents["whole_run"]
    textbook = contents["textbook"]["seconds_per_epoch"]
    bounds = [_step_claim(contents, moment, other) for moment in _MOMENTS]
    seconds = whole["seconds"]
    bounds.append(
        Bound(
            "evaluation, as a share of training",
            f"{seconds['evaluate']:.2f} s and {seconds['train']:.2f} s in {whole['epochs']} epochs",
            seconds["evaluate"] / seconds["train"],
            LARGEST_EVALUATION,
            skipped=other,
        )
    )
    median = _median_to_targets(contents)
    yardstick = YARDSTICK_EPOCHS * textbook
    bounds.append(
        Bound(
            f"all targets, in the time of {YARDSTICK_EPOCHS} textbook epochs, median of the seeds",
            f"{shown(median, '.2f', 'never')} s against {yardstick:.2f} s",
            None if median is None else median / yardstick,
            1.0,
            skipped=other,
        )
    )
    epochs = whole["epochs"]
    quality = f"{_quality(whole)}, {'all' if whole['ready'] else 'not all'} targets met"
    bounds.append(
        Bound(
            f"{epochs} epochs over {epochs} of the textbook loop, at full quality",
            f"{whole['fit_seconds']:.2f} s against {epochs * textbook:.2f} s; {quality}",
            whole["fit_seconds"] / (epochs * textbook),
            LARGEST_RUN,
            also=whole["ready"],
            skipped=other,
        )
    )
    return bounds + _cuda_claims(contents, quality)


def _step_claim(contents: Record, moment: str, skipped: str | None) -> Bound:
    floor = contents["floor"][moment]
    step = statistics.median(contents["trainer"][moment]["step_seconds"])
    return Bound(
        f"step {_MOMENTS[moment]} over its bare matrix products",
        f"{1e3 * step:.3f} ms against {1e3 * statistics.median(floor['seconds']):.3f} ms",
        _step_ratio(contents, moment),
        LARGEST_STEP,
        skipped=skipped,
    )


def _step_ratio(contents: Record, moment: str) -> float:
    """The median over the rounds, each of which compares what was timed next to one another."""
    steps = contents["trainer"][moment]["step_seconds"]
    floors = contents["floor"][moment]["seconds"]
    return float(statistics.median(s / f for s, f in zip(steps, floors, strict=True)))


def _median_to_targets(contents: Record) -> float | None:
    """None if a seed never met them."""
    found = [run["seconds"]["to_targets"] for run in contents["runs"]]
    return None if None in found else statistics.median(found)


def _cuda_claims(contents: Record, quality: str) -> list[Bound]:
    whole, executions = contents["whole_run"], contents["executions"]
    none = "no CUDA device" if contents["device"] == "cpu" else None
    return [
        Bound(
            f"CUDA: seconds of {whole['epochs']} epochs",
            f"{whole['fit_seconds']:.2f} s; {quality}",
            whole["fit_seconds"],
            LARGEST_CUDA_SECONDS,
            also=whole["ready"],
            skipped=none,
        ),
        Bound(
            "CUDA: a captured step, times as fast as an eager one",
            _executions_figure(executions),
            executions.get("ratio"),
            LEAST_GRAPH_RATIO,
            least=True,
            skipped=executions.get("skipped"),
        ),
    ]


def _executions_figure(executions: Record) -> str:
    if "skipped" in executions:
        return str(executions["skipped"])
    step = executions["step_seconds"]
    return f"{1e3 * step['cuda_graph']:.3f} ms against {1e3 * step['eager']:.3f} ms"


# --- tables ---------------------------------------------------------------------------------


def report(contents: Record, claims: Sequence[Bound]) -> str:
    """The results as Markdown."""
    threads = contents["threads"]
    where = f"{contents['device']}, {threads} thread{'s' if threads > 1 else ''}"
    return "\n\n".join(
        [
            "# Training speed",
            environment_markdown(contents["environment"]),
            f"{where}, batches of {contents['batch_size']}.",
            "## Claims",
            bounds_markdown(claims),
            "## Seconds per epoch, in turns",
            _epochs_table(contents),
            "## The floor: the matrix products of a step, forward and backward",
            _floor_table(contents),
            "## Where the time of a step goes",
            _phases_table(contents["breakdown"]),
            "The operators of torch with the most time of their own, under the profiler:",
            _operators_table(contents["breakdown"]),
            "## Peak memory, each in a process of its own",
            _memory_table(contents["memory"]),
            "## Time to all targets",
            _targets_table(contents),
            "## Run by run",
            _runs_table(contents),
        ]
    )


def _epochs_table(contents: Record) -> str:
    rows = []
    for moment, words in _MOMENTS.items():
        trainer = contents["trainer"][moment]
        rows.append((f"Trainer, {words}", *_spread(trainer["epoch_seconds"], trainer["steps"])))
    whole, textbook = contents["whole_run"], contents["textbook"]
    rows.append(("textbook", *_spread(textbook["epoch_seconds"], textbook["steps"])))
    mean = whole["fit_seconds"] / whole["epochs"]
    named = f"Trainer, mean of {whole['epochs']} epochs, evaluating and saving"
    rows.append((named, shown(mean, ".3f"), "-", "-", "-", "-"))
    header = ("loop", "s per epoch, median", "fastest", "slowest", "steps", "ms per step")
    return markdown_table(header, rows)


def _spread(seconds: Sequence[float], steps: int) -> tuple[str, ...]:
    median = statistics.median(seconds)
    each = (median, min(seconds), max(seconds))
    return (*(f"{s:.3f}" for s in each), str(steps), f"{1e3 * median / steps:.3f}")


def _floor_table(contents: Record) -> str:
    rows = []
    for moment, words in _MOMENTS.items():
        floor, trainer = contents["floor"][moment], contents["trainer"][moment]
        median, best = statistics.median(floor["seconds"]), floor["best"]
        fastest_step = min(trainer["epoch_seconds"]) / trainer["steps"]
        rows.append(
            (
                words,
                str(floor["products"]),
                f"{floor['flop'] / 1e6:.1f}",
                f"{1e3 * median:.3f}",
                f"{1e3 * best:.3f}",
                f"{floor['flop'] / median / 1e9:.1f}",
                f"{_step_ratio(contents, moment):.2f}",
                f"{fastest_step / best:.2f}",
            )
        )
    header = (
        "step",
        "products",
        "MFLOP",
        "ms, median",
        "ms, best",
        "GFLOP/s",
        "Trainer's step over it",
        "best over best",
    )
    return markdown_table(header, rows)


def _phases_table(breakdown: Record) -> str:
    names = list(breakdown)
    totals = {name: sum(breakdown[name]["phases"].values()) for name in names}
    rows = [
        (
            f"{phase}, us",
            *(_with_share(breakdown[name]["phases"][phase], totals[name]) for name in names),
        )
        for phase in breakdown[names[0]]["phases"]
    ]
    rows.append(("in all, us", *(f"{totals[name]:.0f}" for name in names)))
    for key, words in (
        ("library_calls", "calls of torch"),
        ("extension_calls", "calls of the package's extensions"),
        ("host_reads", "host reads"),
    ):
        rows.append((words, *(f"{breakdown[name][key]:.2f}" for name in names)))
    return markdown_table(("per step", *names), rows)


def _with_share(value: float, total: float) -> str:
    return f"{value:.0f} ({100 * value / total:.0f} %)" if total else "-"


def _operators_table(breakdown: Record) -> str:
    rows = [
        (name, each["name"], f"{each['calls']:.2f}", f"{100 * each['share']:.1f} %")
        for name, seen in breakdown.items()
        for each in seen["operators"]
    ]
    return markdown_table(("loop", "operator", "calls per step", "share"), rows)


def _memory_table(memory: Record) -> str:
    rows = []
    for loop, peak in memory.items():
        if "failed" in peak:
            rows.append((loop, peak["failed"], "-"))
        else:
            rows.append((loop, shown(peak["peak_mib"], ".0f"), shown(peak["cuda_mib"], ".0f")))
    return markdown_table(("process", "MiB resident", "MiB on the GPU"), rows)


def _targets_table(contents: Record) -> str:
    textbook = contents["textbook"]
    rows = [
        (
            f"Trainer, seed {run['seed']}",
            shown(run["epochs_to"]["targets"], "d", "never"),
            shown(run["seconds"]["to_targets"], ".2f"),
        )
        for run in contents["runs"]
    ]
    median = _median_to_targets(contents)
    rows.append(("Trainer, median", "", shown(median, ".2f", "never")))
    met = textbook["to_targets"]
    rows.append(
        ("textbook", f"not within {textbook['epochs']}", "-")
        if met is None
        else ("textbook, evaluations not counted", str(met["epoch"]), f"{met['seconds']:.2f}")
    )
    seconds = YARDSTICK_EPOCHS * textbook["seconds_per_epoch"]
    rows.append((f"{YARDSTICK_EPOCHS} textbook epochs", str(YARDSTICK_EPOCHS), f"{seconds:.2f}"))
    return markdown_table(("run", "epochs to all targets", "s to all targets"), rows)


def _runs_table(contents: Record) -> str:
    rows = []
    for run in (*contents["runs"], contents["whole_run"]):
        seconds = run["seconds"]
        rows.append(
            (
                f"Trainer, seed {run['seed']}",
                str(run["epochs"]),
                shown(run["freeze_epoch"], "d", "never"),
                shown(run["seconds_per_epoch_before_freeze"], ".3f"),
                shown(run["seconds_per_epoch_after_freeze"], ".3f"),
                shown(seconds["train"], ".2f"),
                shown(seconds["evaluate"], ".2f"),
                shown(run["fit_seconds"], ".2f"),
                *_metrics(run["metrics"]),
            )
        )
    for each in contents["textbook"]["evaluations"]:
        figures = (str(each["epoch"]), "", "", "", shown(each["seconds"], ".2f"), "", "")
        rows.append(("textbook", *figures, *_metrics(each["metrics"])))
    header = (
        "run",
        "epochs",
        "freeze",
        "s/epoch before",
        "s/epoch after",
        "s training",
        "s evaluating",
        "s in all",
        "coverage",
        "hierarchy_B",
        "richness",
        "Q_enhanced",
    )
    return markdown_table(header, rows)


def _quality(run: Record) -> str:
    values = _metrics(run["metrics"])
    return ", ".join(f"{n} {v}" for n, v in zip(run["metrics"], values, strict=True))


def _metrics(metrics: Record) -> tuple[str, ...]:
    """In the order that they were measured in: coverage, hierarchy_B, richness, Q_enhanced."""
    return tuple(shown(value, ".5f") for value in metrics.values())
