"""How a run went: its epochs in short, its decisions and its warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from ternvae.report.facts import RunFacts, entry, numbers
from ternvae.report.markup import Html, bullets, element, joined, table
from ternvae.training.wording import cell

__all__ = ["history_section", "warning_section"]

#: As many evaluations are shown; of more, some evenly between the first and the last.
MOST_ROWS = 16

#: As many decisions are shown; metrics.jsonl has all.
MOST_EVENTS = 40

Item = TypeVar("Item")

_REACHED = {
    "coverage_99": "coverage 0.99",
    "coverage_100": "coverage 1",
    "targets": "all targets",
}

_SHOWN = {
    "coverage": "coverage",
    "coverage_B": "coverage_B",
    "hierarchy_B": "hierarchy_B",
    "richness": "richness",
    "Q_enhanced": "Q_enhanced",
}


def history_section(facts: RunFacts) -> Html:
    """Firsts and times, some of the evaluations, and what was decided on the way."""
    evaluated = [line for line in facts.history if "coverage" in line]
    parts: list[str] = [_firsts(facts)]
    if evaluated:
        shown = spread(evaluated, MOST_ROWS)
        caption = (
            f"{len(shown)} of {len(evaluated)} evaluations"
            if len(shown) < len(evaluated)
            else "Evaluations"
        )
        heading = ("epoch", "loss", *_SHOWN.values())
        rows = [_row(line) for line in shown]
        parts.append(table(caption, heading, rows, numbers=range(len(heading))))
    else:
        parts.append(element("p", "No epoch has been evaluated."))
    parts.append(_decisions(facts))
    return joined(*parts)


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, evenly, with the first and the last."""
    if len(items) <= most:
        return list(items)
    places = [round(k * (len(items) - 1) / (most - 1)) for k in range(most)]
    return [items[place] for place in places]


def _row(line: dict[str, Any]) -> tuple[str, ...]:
    figures = numbers(line)
    total = numbers(line.get("losses")).get("total")
    loss = "" if total is None else f"{total:.4f}"
    return (
        str(line["epoch"]),
        loss,
        *(f"{figures[name]:.6f}" if name in figures else "" for name in _SHOWN),
    )


def _firsts(facts: RunFacts) -> Html:
    reached = entry(facts.summary, "epochs_to", dict) or {}
    seconds = numbers(facts.summary.get("seconds"))
    rows = [
        (f"first epoch with {what}", cell(reached[name]) or "never")
        for name, what in _REACHED.items()
        if name in reached
    ]
    of = {
        "train": "seconds of training steps",
        "evaluate": "seconds of evaluations",
        "total": "seconds from the first step to the end",
        "to_targets": "seconds from the first step to all targets",
    }
    rows += [
        (what, f"{seconds[name]:.2f}" if seconds[name] == seconds[name] else "never")
        for name, what in of.items()
        if name in seconds
    ]
    return table("Firsts and times", ("what", "figure"), rows, numbers=(1,)) if rows else Html("")


def _decisions(facts: RunFacts) -> Html:
    events = [
        f"Epoch {each.get('epoch')}: {each.get('text')}"
        for line in facts.history
        for each in entry(line, "events", list) or []
        if isinstance(each, dict)
    ]
    if not events:
        return Html("")
    shown = spread(events, MOST_EVENTS)
    left = len(events) - len(shown)
    note = element("p", f"{left} more are in metrics.jsonl.") if left else Html("")
    return joined(element("h3", "What was decided on the way"), bullets(shown), note)


def warning_section(facts: RunFacts) -> Html:
    """What looked wrong, and which settings answer it."""
    found = {
        str(each.get("name")): each
        for line in facts.history
        for each in entry(line, "warnings", list) or []
        if isinstance(each, dict)
    }
    named = entry(facts.summary, "warnings", list) or []
    items: list[str] = [_warning(each) for each in found.values()]
    items += [str(name) for name in named if str(name) not in found]
    if facts.analysis is not None:
        items += facts.analysis.warnings
    parts: list[str] = [bullets(items)] if items else [element("p", "None was raised.")]
    told = [line for line in facts.log if ": warning: " not in line and _is_trouble(line)]
    if told:
        parts += [element("h3", "From the log"), bullets(told)]
    return joined(*parts)


def _warning(sign: dict[str, Any]) -> Html:
    remedies = [str(each) for each in entry(sign, "remedies", list) or []]
    first = joined(
        element("strong", str(sign.get("name"))),
        f" (epoch {sign.get('epoch')}): {sign.get('message')}.",
    )
    if not remedies:
        return joined(first, " No setting is left to try.")
    return joined(first, " Settings to try:", bullets(element("code", each) for each in remedies))


def _is_trouble(line: str) -> bool:
    """Whether a line of the log says that something did not go as it should."""
    return line.endswith("; stopped") or "cannot write" in line or "damaged" in line
