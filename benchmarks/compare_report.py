"""Tables and claims of the comparison, as pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bounds import Bound, bounds_markdown
from environment import environment_markdown, markdown_table
from records import shown

__all__ = ["COLUMNS", "check_claims", "report"]

#: Metrics of the table: name, heading, format.
COLUMNS = (
    ("coverage_B", "coverage_B", ".6f"),
    ("hierarchy_B", "hierarchy_B", ".7f"),
    ("richness", "richness", ".5f"),
    ("Q_enhanced", "Q_enhanced", ".4f"),
    ("ultrametric_corr", "ultrametric_corr", ".4f"),
    ("triplet_accuracy", "triplet_accuracy", ".4f"),
    ("sibling_retrieval", "siblings", ".4f"),
)

#: How far a construction may stay from the ceiling of the hierarchy.
TOLERANCE = 1e-4


def report(contents: Mapping[str, Any], claims: Sequence[Bound]) -> str:
    """Everything as Markdown."""
    rows = contents["rows"]
    targets = ", ".join(f"{name} {value:g}" for name, value in contents["targets"].items())
    parts = [
        "# Learned and constructed",
        environment_markdown(contents["environment"]),
        f"n = {contents['n_digits']}, {3 ** contents['n_digits']} sequences; profile "
        f"`{contents['profile']}`, seed {contents['seed']}"
        + "".join(f", {key} {value}" for key, value in contents["overrides"].items())
        + f"; torch's threads: {contents['threads']}.",
        "## Claims",
        bounds_markdown(claims),
        "## The models",
        markdown_table(
            ("model", "dim", *(heading for _, heading, _ in COLUMNS), "targets", "seconds"),
            [_row(row) for row in rows],
        ),
        f"*Targets* are those of the profile: {targets}.  *Siblings*: the share of sequences whose "
        "nearest neighbour is a sibling, over all.  *Seconds* are those of making the model, "
        "evaluation left out.  A table of points is decoded as the nearest point, so its coverage "
        "says no more than that points are apart.  Ceilings of this sample of pairs lie a little "
        "beside those of all pairs, so ultrametric_corr may show more than its ceiling "
        f"{contents['ceilings']['ultrametric_corr']:.7f}.",
        "## How they were made",
        "\n".join(f"- **{row['name']}**: {row['how']}{_collapse(row)}." for row in rows),
    ]
    return "\n\n".join(parts)


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    metrics = row["metrics"]
    return (
        row["name"],
        str(row["dim"]),
        *(shown(metrics[name], form) for name, _, form in COLUMNS),
        "met" if row["targets_met"] else "not met",
        shown(row["seconds"], ".2f"),
    )


def _collapse(row: Mapping[str, Any]) -> str:
    return "; radii are tied inside a level, so hierarchy_B is beyond its ceiling" * row["tied"]


def check_claims(contents: Mapping[str, Any]) -> list[Bound]:
    """What is claimed of the constructions; nothing is claimed of what is trained."""
    ceilings = contents["ceilings"]
    claims = []
    for row in contents["rows"]:
        if not row["exact"]:
            continue
        name, metrics = row["name"], row["metrics"]
        gap = abs(metrics["hierarchy_B"] - ceilings["hierarchy"])
        least = ceilings["ultrametric_corr"] - 4 * row["ultrametric_error"]
        claims += [
            _exactly(f"{name}: every sequence is read back", metrics["coverage_B"]),
            Bound(
                f"{name}: hierarchy_B is at its ceiling",
                f"{metrics['hierarchy_B']:.7f} of {ceilings['hierarchy']:.7f}",
                gap,
                TOLERANCE,
            ),
            Bound(
                f"{name}: ultrametric_corr is at its ceiling, within 4 standard errors",
                f"{metrics['ultrametric_corr']:.7f} of {ceilings['ultrametric_corr']:.7f}",
                metrics["ultrametric_corr"],
                least,
                least=True,
            ),
            _exactly(f"{name}: no triple is out of order", metrics["triplet_accuracy"]),
            _exactly(f"{name}: siblings are nearest", metrics["sibling_retrieval"]),
        ]
    return claims


def _exactly(statement: str, share: float | None) -> Bound:
    return Bound(statement, shown(share, ".7f"), share, 1.0, least=True)
