"""What came of a run: its metrics, its levels and its checks, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ternvae.report.facts import RunFacts, entry, numbers
from ternvae.report.markup import Html, element, joined, table
from ternvae.training.verdict import CHECKS
from ternvae.training.wording import cell, final_rows

__all__ = ["check_section", "level_section", "result_section"]

#: What each metric is, in short; docs/metrics.md has the definitions.
MEANINGS = {
    "coverage": "share of the sequences read back without an error, branch A",
    "coverage_B": "the same, branch B",
    "hierarchy_A": "rank correlation of valuation and hyperbolic radius, branch A",
    "hierarchy_B": "the same, branch B",
    "richness": "mean variance of the radii inside a level, branch B",
    "dist_corr": "rank correlation of differences of radii and of valuations, branch B",
    "Q_enhanced": "dist_corr + 1.5 |hierarchy_B|",
    "ultrametric_corr": "rank correlation of hyperbolic and 3-adic distances, branch B",
    "triplet_accuracy": "share of triples whose 3-adically closer pair is the closer one, branch B",
}

#: What a check asks for beside its targets.
_BESIDE = {
    "numerical_stability": "finite metrics, and every point inside the ball's largest radius",
    "p_adic_structure": "mean radii that fall from level to level",
    "mathematical_foundation_ready": "all of the others",
}

_VERDICTS = {"yes": "yes", "NO": "no", "": ""}


def result_section(facts: RunFacts) -> Html:
    """The figures that the terminal shows, but for the radii, with what each metric is."""
    if not facts.metrics or facts.n_digits is None:
        return element("p", f"There are no figures: {facts.problem or 'nothing was evaluated'}.")
    rows = final_rows(facts.metrics, facts.targets, n_digits=facts.n_digits)[1:]
    shown = [
        (_named(name), _mark(_VERDICTS[met]), value, target, ceiling)
        for name, value, target, ceiling, met in rows
        if not name.startswith("r_v")
    ]
    # The verdict comes second, so that a narrow window shows it.
    heading = ("metric", "met", "value", "target", "ceiling")
    parts = [table("Metrics of the best model", heading, shown, numbers=(2, 3, 4))]
    sampling = entry(facts.summary, "sampling", dict)
    if sampling is None and facts.analysis is not None:
        sampling = facts.analysis.sampling
    if sampling:
        parts.append(element("p", _sampled(sampling), class_="note"))
    parts.append(element("p", _measured_again(facts), class_="note"))
    return joined(*parts, _unseen(facts))


def _named(name: str) -> Html:
    meaning = MEANINGS.get(name)
    return joined(name, element("small", meaning) if meaning else "")


def _mark(word: str) -> Html:
    """A verdict that does not hang on its colour."""
    return element("span", word, class_=f"mark {word}") if word else Html("")


def _sampled(sampling: Mapping[str, Any]) -> str:
    """On what the metrics were measured."""
    errors = numbers(sampling.get("standard_error_at_most"))

    def count(what: str) -> str:
        return f"{sampling.get(what, 0):,}"

    rows = "all" if sampling.get("rows_exact") else "a fixed sample of"
    pairs = "all" if sampling.get("pairs_exact") else "a fixed sample of"
    told = f"Measured on {rows} {count('rows')} sequences, {pairs} {count('pairs')} pairs"
    if "pairs" in errors and not sampling.get("pairs_exact"):
        told += f" (standard error at most {errors['pairs']:.4f})"
    told += f" and a fixed sample of {count('triples')} triples"
    if "triples" in errors:
        told += f" (at most {errors['triples']:.4f})"
    return (
        f"{told}, seed {sampling.get('seed')}. A ceiling is what embeddings with distinct radii "
        "and distances cannot exceed; a target of a hierarchy is compared to four decimals."
    )


def _measured_again(facts: RunFacts) -> str:
    """Whether the file of the model says the same as the figures."""
    if facts.analysis is None:
        return f"The figures are those that the run wrote; not measured again: {facts.problem}."
    file = facts.directory.best.name if facts.checkpoint == facts.directory.best else "last.pt"
    told = f"For this page {file} was loaded and measured again on {facts.analysis.device}: "
    if facts.analysis.differences is None:
        return told + "the file holds no figures of its own model to compare with."
    if not facts.analysis.differences:
        return told + "its figures agree with those that the run stored."
    which = ", ".join(each.key for each in facts.analysis.differences)
    return told + f"its figures differ from those that the run stored in {which}."


def _unseen(facts: RunFacts) -> Html:
    holdout = entry(facts.summary, "holdout", dict) or {}
    seen, unseen = numbers(holdout.get("seen")), numbers(holdout.get("unseen"))
    if not unseen and facts.analysis is not None:
        seen, unseen = facts.metrics, facts.analysis.unseen
    rows = [
        (name, cell(seen[name]), cell(unseen[name]), cell(unseen[name] - seen[name]))
        for name in MEANINGS
        if name in seen and name in unseen
    ]
    if not rows:
        return Html("")
    heading = ("metric", "seen", "unseen", "unseen - seen")
    caption = "Sequences held out from training, against the others"
    return table(caption, heading, rows, numbers=(1, 2, 3))


def level_section(facts: RunFacts) -> Html:
    """Mean radius and spread of each level; without a measurement the means alone."""
    told = (
        "The radius of a sequence is the hyperbolic distance of its point (branch B) from the "
        "origin, in units of the metric; the spread is its standard deviation inside the level, "
        "and richness the mean of the squares of these."
    )
    note = element("p", told, class_="note")
    if facts.analysis is not None:
        heading = ("valuation", "sequences", "mean radius", "spread", "least", "largest")
        rows = [
            (
                str(row.valuation),
                f"{row.count:,}",
                *(f"{r:.6f}" for r in (row.mean, row.std, row.least, row.largest)),
            )
            for row in facts.analysis.levels
        ]
        return joined(table("Radii by level", heading, rows, numbers=range(6)), note)
    means = [(k[3:], cell(v)) for k, v in facts.metrics.items() if k.startswith("r_v")]
    if not means:
        return element("p", "No radii were measured.")
    return joined(table("Radii by level", ("valuation", "mean radius"), means, numbers=(0, 1)))


def check_section(facts: RunFacts) -> Html:
    """The checks of the run, and what each of them asks for."""
    if not facts.checks:
        return element("p", "Nothing was checked.")
    rows = []
    for name, passed in facts.checks.items():
        asked = [target for target in facts.targets if CHECKS.get(target) == name]
        asks = [f"targets: {', '.join(asked)}"] if asked else []
        asks += [_BESIDE[name]] if name in _BESIDE else []
        rows.append((name, _mark("yes" if passed else "no"), "; ".join(asks) or "no target"))
    return table("Checks of the best model", ("check", "passed", "what it asks for"), rows)
