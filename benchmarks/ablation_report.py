"""What an ablation says: a row per variant, a table per comparison, and the claims.

Pure functions of the records of the runs; nothing here starts a process or reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablation_variants import FROZEN, Comparison, Variant
from environment import environment_markdown, markdown_table
from paired import Paired, holm, least_p, paired
from records import (
    QUANTITIES,
    Claim,
    Quantity,
    Run,
    claims_part,
    count_claim,
    each_claim,
    quantity_row,
    shown,
    troubles,
)

__all__ = ["Compared", "Record", "check_claims", "compare", "report"]

#: A difference whose corrected p-value is below this is called real.
LEVEL = 0.05

READY = Quantity("ready", lambda run: float(run.ready), max, ".2f")
_BY_NAME = {quantity.name: quantity for quantity in (READY, *QUANTITIES)}

COMPARED = tuple(
    _BY_NAME[name]
    for name in (
        "ready",
        "Q_enhanced",
        "richness",
        "epochs to all targets",
        "seconds in all",
        "ultrametric_corr",
    )
)

#: What a mechanism must improve to be worth having.
DECIDING = ("ready", "Q_enhanced", "epochs to all targets", "seconds in all")

#: Columns of the table of variants: a quantity, and 1 for its mean or 2 for its worst value.
_COLUMNS = (
    ("coverage", 2),
    ("coverage_B", 1),
    ("hierarchy_B", 2),
    ("richness", 1),
    ("Q_enhanced", 1),
    ("epochs to coverage 1.0", 1),
    ("epochs to all targets", 1),
    ("seconds to all targets", 1),
    ("seconds in all", 1),
)

BETTER, WORSE, EQUAL = "better", "worse", "the same in every pair"
NOISE, TOO_FEW, NO_PAIRS = "no difference beyond noise", "too few pairs to tell", "no pairs"


@dataclass
class Record(Run):
    """A run of a variant, whose name is its ``profile``.

    Attributes:
        events: epoch and kind of everything that was frozen or thawed.
        changed_parts: names of parameters that were to be those of the frozen checkpoint and are
            not, bit for bit; None if there was no such checkpoint or it could not be compared.
    """

    events: list[tuple[int, str]] = field(default_factory=list)
    changed_parts: list[str] | None = None

    def had(self, kind: str) -> bool:
        """Whether there was such an event."""
        return any(kind == each for _, each in self.events)


# --- the comparisons ------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """One quantity with a mechanism on against off.

    Attributes:
        quantity: its name.
        figures: over the pairs of equal seed in which both runs have it.
        p_corrected: Holm's, over the quantities of the comparison.
        reading: what follows for having the mechanism on.
    """

    quantity: str
    figures: Paired
    p_corrected: float | None
    reading: str


def compare(comparison: Comparison, runs: Sequence[Run]) -> list[Compared]:
    """Compare all quantities of two variants, seed by seed."""
    by_seed = {
        name: {run.seed: run for run in runs if run.profile == name}
        for name in (comparison.on, comparison.off)
    }
    on, off = by_seed[comparison.on], by_seed[comparison.off]
    seeds = [seed for seed in on if seed in off]
    found = [
        paired(
            [_known(quantity, on[seed]) for seed in seeds],
            [_known(quantity, off[seed]) for seed in seeds],
        )
        for quantity in COMPARED
    ]
    corrected = holm([each.p for each in found])
    family = sum(each.p is not None for each in found)
    return [
        Compared(quantity.name, figures, p, _reading(quantity, figures, p, family))
        for quantity, figures, p in zip(COMPARED, found, corrected, strict=True)
    ]


def _known(quantity: Quantity, run: Run) -> float | None:
    """The value of a run that is done; one that is not is not ready, and has no other value."""
    return quantity.value(run) if run.done or quantity is READY else None


def _reading(quantity: Quantity, figures: Paired, p: float | None, family: int) -> str:
    if p is None or figures.difference is None:
        return NO_PAIRS
    if figures.always_equal:
        return EQUAL
    if p < LEVEL:
        rises = figures.difference > 0
        return BETTER if rises == (quantity.best is max) else WORSE
    return TOO_FEW if family * least_p(figures.pairs) >= LEVEL else NOISE


# --- the claims -----------------------------------------------------------------------------


def check_claims(
    runs: Sequence[Record],
    variants: Sequence[Variant],
    targets: Mapping[str, Mapping[str, float]],
    compared: Sequence[tuple[Comparison, Sequence[Compared]]],
) -> list[Claim]:
    """Check every claim on a complete ablation.

    Args:
        runs: all runs.
        variants: all variants, the first one as shipped.
        targets: of each variant's profile.
        compared: the comparisons and what came of them.
    """
    shipped = targets[variants[0].name]
    claims = []
    for variant in variants:
        own = [run for run in runs if run.profile == variant.name]
        if variant.ready_claimed is None:
            claims.append(
                count_claim(f"{variant.name}: meets its own targets", [run.ready for run in own])
            )
        elif variant.ready_claimed:
            same = targets[variant.name] == shipped
            claims.append(_meets_targets(variant.name, own, same_targets=same))
    frozen = [run for run in runs if run.profile == FROZEN]
    return [
        *claims,
        count_claim(
            f"{FROZEN}: encoder A, its chart and the decoder kept bit for bit", _kept(frozen)
        ),
        each_claim(FROZEN, "coverage", "exactly 1.0", frozen, lambda x: x == 1.0, min),
        *(_choice(comparison, rows) for comparison, rows in compared if comparison.claimed),
    ]


def _kept(runs: Sequence[Record]) -> list[bool]:
    """Whether each run has all the parts of its frozen checkpoint, bit for bit."""
    return [run.done and run.changed_parts == [] for run in runs]


def _meets_targets(name: str, runs: Sequence[Run], *, same_targets: bool) -> Claim:
    claim = count_claim(f"{name}: meets the foundation profile's targets", [r.ready for r in runs])
    if same_targets:
        return claim
    return Claim(claim.statement, f"{claim.figure}, of other targets", passed=False)


def _choice(comparison: Comparison, rows: Sequence[Compared]) -> Claim:
    """That the profile's choice is the better one, or else the simpler one: off."""
    deciding = {row.quantity: row for row in rows if row.quantity in DECIDING}
    gains = [name for name, row in deciding.items() if row.reading == BETTER]
    losses = [name for name, row in deciding.items() if row.reading == WORSE]
    if comparison.shipped:
        statement = "shipped on: a real gain in one of the figures, and none in readiness lost"
        passed = bool(gains) and READY.name not in losses
    else:
        statement = "shipped off: to turn it on would be no gain without a loss"
        passed = not gains or bool(losses)
    figures = [f"{name} {_difference(row)}" for name, row in deciding.items()]
    return Claim(f"{comparison.name}, {statement}", "; ".join(figures), passed)


def _difference(row: Compared) -> str:
    """On minus off, its error, and how real it is."""
    if row.figures.always_equal:
        return "+0"
    form = _BY_NAME[row.quantity].format
    error = row.figures.standard_error
    text = shown(row.figures.difference, f"+{form}")
    text += "" if error is None else f" ± {error:{form}}"
    return f"{text} (p {shown(row.p_corrected, '.3f')}, {row.reading})"


# --- the report -----------------------------------------------------------------------------


def report(
    runs: Sequence[Record],
    variants: Sequence[Variant],
    compared: Sequence[tuple[Comparison, Sequence[Compared]]],
    claims: Sequence[Claim],
    unchecked: str | None,
    where: dict[str, Any],
) -> str:
    """The whole report as Markdown."""
    parts = ["# What each mechanism of the foundation profile changes", environment_markdown(where)]
    parts += [*claims_part(claims, unchecked), "## The variants", _variant_table(runs, variants)]
    parts += [
        "Means over the runs that are done and got there; *worst* is over all of them, and *never* "
        "if one did not get there. *A frozen*, *B frozen*: runs in which that encoder was frozen "
        "at some time.",
        markdown_table(("variant", "other than the foundation profile"), _changes(variants)),
    ]
    if kept := _kept([run for run in runs if run.profile == FROZEN]):
        parts.append(
            f"In {sum(kept)} of {len(kept)} runs of `{FROZEN}`, encoder A, its chart and the "
            "decoder of `last.pt` are bit for bit those of the frozen checkpoint."
        )
    if compared:
        parts += ["## On against off", _how_compared()]
    for comparison, rows in compared:
        parts += _comparison_part(comparison, rows)
    return "\n\n".join([*parts, *troubles(runs)])


def _changes(variants: Sequence[Variant]) -> list[tuple[str, str]]:
    return [(variant.name, f"`{variant.change}`") for variant in variants]


def _variant_table(runs: Sequence[Record], variants: Sequence[Variant]) -> str:
    names = [f"{name}, worst" if which == 2 else name for name, which in _COLUMNS]
    rows = [
        _variant_row(variant.name, [run for run in runs if run.profile == variant.name])
        for variant in variants
    ]
    return markdown_table(("variant", "ready", *names, "A frozen", "B frozen"), rows)


def _variant_row(name: str, runs: Sequence[Record]) -> tuple[str, ...]:
    done = [run for run in runs if run.done]
    cells = [quantity_row(_BY_NAME[quantity], done)[which] for quantity, which in _COLUMNS]
    frozen = [sum(run.had(f"freeze_encoder_{each}") for run in done) for each in "ab"]
    ready = f"{sum(run.ready for run in runs)} of {len(runs)}"
    return (name, ready, *cells, *map(str, frozen))


def _how_compared() -> str:
    return (
        "Runs of equal seed are paired. *on - off* is the mean difference with its standard error; "
        "*p* that of the exact two-sided sign-flip test over all patterns of signs, and *p, Holm* "
        f"the same corrected for the {len(COMPARED)} quantities of a comparison. A difference is "
        f"called *better* or *worse* where that is below {LEVEL}. Pairs in which a run never got "
        "to its targets have no epochs to compare: see *ready* for those."
    )


def _comparison_part(comparison: Comparison, rows: Sequence[Compared]) -> list[str]:
    state = "on" if comparison.shipped else "off"
    header = ("quantity", "on", "off", "on - off", "s.e.", "pairs", "p", "p, Holm", "on is")
    return [
        f"### {comparison.name}",
        f"On is `{comparison.on}`, off is `{comparison.off}`; the profile ships it {state}.",
        markdown_table(header, map(_compared_row, rows)),
        _in_words(rows),
    ]


def _compared_row(row: Compared) -> tuple[str, ...]:
    form, figures = _BY_NAME[row.quantity].format, row.figures
    return (
        row.quantity,
        shown(figures.first, form),
        shown(figures.second, form),
        shown(figures.difference, f"+{form}"),
        shown(figures.standard_error, form),
        str(figures.pairs),
        shown(figures.p, ".4f"),
        shown(row.p_corrected, ".4f"),
        row.reading,
    )


def _in_words(rows: Sequence[Compared]) -> str:
    """The readings of a comparison as a sentence, those that say most first."""
    phrases = {
        BETTER: "better in {}",
        WORSE: "worse in {}",
        NOISE: "no difference beyond noise in {}",
        EQUAL: "exactly equal in {}",
        TOO_FEW: "too few pairs to tell in {}",
        NO_PAIRS: "nothing to compare in {}",
    }
    said = []
    for reading, phrase in phrases.items():
        if names := [row.quantity for row in rows if row.reading == reading]:
            said.append(phrase.format(", ".join(names)))
    return f"On against off: {'; '.join(said)}."
