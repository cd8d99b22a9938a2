"""Summary, claims and tables of ``bench_mobius.py``, as pure functions of its records."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from environment import environment_markdown, markdown_table

__all__ = ["check_claims", "report", "summarise"]

Record = dict[str, Any]

#: (mode, batch) -> how many times as fast as geoopt, in float32, as a geometric mean.
LEAST_RATIO = {
    ("eager", 512): 2.0,
    ("eager", 19683): 3.0,
    ("eager", 262144): 4.0,
    ("compiled", 19683): 6.0,
    ("compiled", 262144): 10.0,
}

#: A step of our optimizer may take this many steps of fused AdamW.
LARGEST_STEP = 1.5

#: Worst relative error of ours in float32 for the operations below.
LARGEST_ERROR = 2.5e-7
ACCURATE = ("dist", "dist0", "expmap0", "logmap0", "mobius_add", "expmap", "logmap")

_LIBRARIES = {"ours": "ours", "geoopt": "geoopt", "hypll": "HypLL"}


def summarise(rows: Sequence[Record]) -> list[Record]:
    """Geometric means over the operations for each mode, dtype and batch."""
    found: dict[tuple[str, str, int], list[Record]] = {}
    for row in rows:
        found.setdefault((row["mode"], row["dtype"], row["batch"]), []).append(row)
    summary = []
    for (mode, dtype, batch), group in found.items():
        least = min(group, key=lambda row: row["ratio"]["geoopt"])
        summary.append(
            {
                "mode": mode,
                "dtype": dtype,
                "batch": batch,
                "operations": len(group),
                "ratio": {
                    name: statistics.geometric_mean(ratios)
                    for name in ("geoopt", "hypll")
                    if (ratios := [r["ratio"][name] for r in group if name in r["ratio"]])
                },
                "fastest_ratio": statistics.geometric_mean(
                    [r["fastest_seconds"]["geoopt"] / r["fastest_seconds"]["ours"] for r in group]
                ),
                "least": {"operation": least["operation"], "ratio": least["ratio"]["geoopt"]},
            }
        )
    return summary


def check_claims(
    rows: Sequence[Record], optimizer: Record, all_operations: Iterable[str]
) -> list[Record]:
    """The claims that can be checked, each with its figure.

    The geometric means are claimed of all operations together, and left out if only some were run.
    """
    claims = []
    complete = {row["operation"] for row in rows} == set(all_operations)
    for group in summarise(rows) if complete else []:
        least = LEAST_RATIO.get((group["mode"], group["batch"]))
        if least is not None and group["dtype"] == "float32":
            figure = group["ratio"]["geoopt"]
            where = f"{group['mode']}, float32, batch {group['batch']}"
            text = f"{where}: at least {least:g} times as fast as geoopt"
            claims.append({"claim": text, "figure": f"{figure:.2f}", "passed": figure >= least})
    ratio = optimizer["ratio"]["ours"]
    text = f"optimizer step: at most {LARGEST_STEP:g} steps of fused AdamW"
    claims.append({"claim": text, "figure": f"{ratio:.2f}", "passed": ratio <= LARGEST_STEP})
    measured = [r for r in rows if r["dtype"] == "float32" and r["operation"] in ACCURATE]
    if measured:
        worst = max(measured, key=lambda row: _or_infinite(row["error"]["ours"]))
        error = _or_infinite(worst["error"]["ours"])
        seen = [name for name in ACCURATE if any(r["operation"] == name for r in measured)]
        text = f"error in float32 at most {LARGEST_ERROR:g}: {', '.join(seen)}"
        figure = f"{error:.2g} ({worst['operation']})"
        claims.append({"claim": text, "figure": figure, "passed": error <= LARGEST_ERROR})
    return claims


def _or_infinite(error: float | None) -> float:
    return math.inf if error is None else error


# --- the report -----------------------------------------------------------------------------


def report(contents: Record) -> str:
    """The results as Markdown."""
    parts = ["# The ball's operations, forward and backward"]
    parts.append(environment_markdown(contents["environment"]))
    parts.append(_setting(contents))
    parts += ["## Claims", _claims_markdown(contents["claims"])]
    if not any("geoopt" in claim["claim"] for claim in contents["claims"]):
        parts.append(
            "The claims on the geometric means are about all operations in float32 at certain "
            "batches, which this run did not cover."
        )
    parts += ["## Geometric means over the operations", _summary_markdown(contents["summary"])]
    parts += ["## Optimizer step", _optimizer_markdown(contents["optimizer"])]
    parts += ["## How to read the tables", _NOTES]
    for group in contents["summary"]:
        rows = [
            row
            for row in contents["rows"]
            if all(row[key] == group[key] for key in ("mode", "dtype", "batch"))
        ]
        parts.append(f"## {group['mode']}, {group['dtype']}, batch {group['batch']}")
        parts.append(_rows_markdown(rows))
    return "\n\n".join(parts)


def _setting(contents: Record) -> str:
    extension = "available" if contents["extension"] else "NOT available: torch operations instead"
    hypll = "installed" if contents["hypll"] else "not installed, its columns are empty"
    threads = contents["threads"]
    return (
        f"Device: {contents['device']}, {threads} thread{'s' if threads > 1 else ''}; "
        f"the package's compiled extension: {extension}; HypLL: {hypll}; "
        f"about {contents['seconds']:g} s per implementation and case"
    )


def _claims_markdown(claims: Sequence[Record]) -> str:
    rows = [(c["claim"], c["figure"], "PASS" if c["passed"] else "FAIL") for c in claims]
    return markdown_table(("claim", "figure", "verdict"), rows)


def _summary_markdown(summary: Sequence[Record]) -> str:
    rows = [
        (
            group["mode"],
            group["dtype"],
            str(group["batch"]),
            str(group["operations"]),
            _times(group["ratio"].get("geoopt")),
            _times(group["fastest_ratio"]),
            _times(group["ratio"].get("hypll")),
            f"{_times(group['least']['ratio'])} ({group['least']['operation']})",
        )
        for group in summary
    ]
    ratios = ("geoopt/ours", "in fastest rounds", "HypLL/ours", "least geoopt/ours")
    return markdown_table(("mode", "dtype", "batch", "operations", *ratios), rows)


def _optimizer_markdown(optimizer: Record) -> str:
    names = {
        "ours": "RiemannianAdam, ours",
        "geoopt": "RiemannianAdam, geoopt's",
        "adamw_fused": "AdamW(fused=True), plain tensors",
    }
    rows = [
        (
            text,
            _milliseconds(optimizer["seconds"][name]),
            _times(optimizer["ratio"][name]),
            _times(optimizer["fastest_ratio"][name]),
        )
        for name, text in names.items()
    ]
    header = (f"step over {optimizer['tensors']} tensors", "ms", "to AdamW", "in fastest rounds")
    return markdown_table(header, rows)


_NOTES = """\
* ms: median of forward and backward, `torch.autograd.grad(f(x, ...), inputs, G)`; the
  implementations took turns.  The ratios say how many times as fast ours is; where those in the
  fastest rounds differ much from those of the medians, something else ran on the machine.
* compiled: ours under `torch.compile(fullgraph=True)` against the others as in eager mode;
  geoopt's functions are TorchScript.
* error: the worst relative error of the value against 60-digit arithmetic on the same floats, at
  norms 0.1, 0.95 and 0.99, for far pairs and for pairs at 1e-4 of the distance from the rim.
  geoopt, and HypLL's exponential maps, move float32 results beyond norm 0.996 inside; what this
  moves is part of their error.
* calls, of ours / of geoopt's forward and backward: outermost ATen operators that torch's profiler
  sees, and one for each call of the package's compiled extension, which it sees in compiled graphs
  only.  The kernels that torch.compile generates are not seen and not counted.
* reads, of ours / of geoopt's forward and backward: numbers read from tensors, each a
  synchronisation if the tensor is on an accelerator.  Those with a star are on the host: they read
  the curvature from the host's memory, and none is made where the ball is on an accelerator."""


def _rows_markdown(rows: Sequence[Record]) -> str:
    header = (
        "operation",
        *(f"{name}, ms" for name in _LIBRARIES.values()),
        "geoopt/ours",
        "HypLL/ours",
        *(f"error, {name}" for name in _LIBRARIES.values()),
        "calls",
        "reads",
    )
    cells = [
        (
            row["operation"],
            *(_milliseconds(row["seconds"].get(name)) for name in _LIBRARIES),
            *(_times(row["ratio"].get(name)) for name in ("geoopt", "hypll")),
            *(_error(row["error"], name) for name in _LIBRARIES),
            " / ".join(str(row["calls"][name]) for name in ("ours", "geoopt")),
            _reads(row["host_reads"]),
        )
        for row in rows
    ]
    return markdown_table(header, cells)


def _reads(reads: Record) -> str:
    starred = f" ({reads['ours_of_the_host']}*)" if reads["ours_of_the_host"] else ""
    return f"{reads['ours']}{starred} / {reads['geoopt']}"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.4g}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _error(errors: Record, name: str) -> str:
    if name not in errors:
        return ""
    return "not finite" if errors[name] is None else f"{errors[name]:.1e}"
