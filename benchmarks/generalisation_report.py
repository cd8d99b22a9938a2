"""Tables and claims about what training has not seen, as functions of the runs' figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from bounds import Bound, bounds_markdown
from environment import environment_markdown, markdown_table

__all__ = ["COMPARED", "check_claims", "report"]

Row = dict[str, Any]

#: Metrics whose unseen value is held against the seen one, and by how much it may differ.
COMPARED = ("hierarchy_B", "ultrametric_corr", "triplet_accuracy")
LARGEST_DIFFERENCE = 0.005
LEAST_COVERAGE = 0.999

#: Five fair p-values are all above it with probability 0.995.
LEAST_P_VALUE = 0.001

SHOWN = ("coverage", "coverage_B", *COMPARED, "richness", "dist_corr")


def check_claims(rows: Sequence[Row], why_not: str | None) -> list[Bound]:
    """What is claimed of every seed; a run that has not ended counts against all of it."""
    done = [row for row in rows if row["status"] == "done"]
    all_done = bool(rows) and len(done) == len(rows)

    def bound(
        statement: str, figure: str, values: list[float], bar: float, *, least: bool
    ) -> Bound:
        worst = (min if least else max)(values, default=None)
        if any(map(math.isnan, values)):
            worst = math.nan
        return Bound(statement, figure, worst, bar, least, all_done, why_not)

    number = f"{len(rows)} of {len(rows)} seeds"
    claims = [
        bound(
            f"What training has not seen is recovered, {number}",
            "least coverage of the unseen",
            [_value(row["unseen"]["coverage"]) for row in done],
            LEAST_COVERAGE,
            least=True,
        )
    ]
    for name in COMPARED:
        claims.append(
            bound(
                f"Its {name} is that of the seen, {number}",
                f"largest difference of {name}",
                [abs(_difference(row, name)) for row in done],
                LARGEST_DIFFERENCE,
                least=False,
            )
        )
    claims.append(
        bound(
            f"Samples of the fitted mixture have the levels of the space, {number}",
            "least p-value of chi-square",
            [row["samples"]["mixture"]["p_value"] for row in done],
            LEAST_P_VALUE,
            least=True,
        )
    )
    return claims


def report(
    rows: Sequence[Row], claims: Sequence[Bound], where: Row, profile: str, share: float
) -> str:
    """The whole report as Markdown."""
    done = [row for row in rows if row["status"] == "done"]
    parts = [
        "# What training has not seen",
        environment_markdown(where),
        f"Profile `{profile}` with `space.holdout` {share:g}: that share of the sequences, chosen "
        "by the seed, is in no batch, and nothing that decides is measured on it.",
        "## Claims",
        bounds_markdown(claims),
        "## Seen and unseen",
        "Each metric over the unseen sequences, and how far it is from that over the seen ones.",
        _table(done, [(name, _both(name)) for name in SHOWN]),
        "## Neighbours, paths and samples",
        "Sibling retrieval among the seen and among the unseen alone. Paths are geodesics between "
        "the points of random sequences; a monotone one decodes to sequences that leave one end "
        "and arrive at the other without a detour. Samples of the prior and of a mixture that is "
        "fitted to the posterior means: p-value of chi-square of their levels against the sizes of "
        "the levels, and how many of them are different.",
        _table(
            done,
            [
                ("siblings, seen", lambda row: f"{row['sibling_retrieval']['seen']:.4f}"),
                ("siblings, unseen", lambda row: f"{row['sibling_retrieval']['unseen']:.4f}"),
                ("monotone paths, A", _path("A")),
                ("monotone paths, B", _path("B")),
                ("prior: p", lambda row: f"{row['samples']['prior']['p_value']:.3g}"),
                ("mixture: p", lambda row: f"{row['samples']['mixture']['p_value']:.3g}"),
                ("mixture: distinct", lambda row: str(row["samples"]["mixture"]["distinct"])),
            ],
        ),
    ]
    missing = [f"Seed {row['seed']}: {row['status']}." for row in rows if row["status"] != "done"]
    return "\n\n".join([*parts, *missing])


def _table(rows: Sequence[Row], columns: Sequence[tuple[str, Callable[[Row], str]]]) -> str:
    """One line for each quantity, one column for each seed."""
    header = ("figure", *(f"seed {row['seed']}" for row in rows))
    return markdown_table(header, [(name, *map(shown, rows)) for name, shown in columns])


def _value(value: float | None) -> float:
    return math.nan if value is None else value


def _difference(row: Row, name: str) -> float:
    return _value(row["unseen"][name]) - _value(row["seen"][name])


def _both(name: str) -> Callable[[Row], str]:
    return lambda row: f"{_value(row['unseen'][name]):.5f} ({_difference(row, name):+.5f})"


def _path(branch: str) -> Callable[[Row], str]:
    def shown(row: Row) -> str:
        path = row["paths"][branch]
        return f"{path['share']:.4f} +- {path['standard_error']:.4f}"

    return shown
