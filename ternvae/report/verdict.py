"""Whether a run has come to what was asked of it, in words."""

from __future__ import annotations

from dataclasses import dataclass

from ternvae.report.facts import RunFacts, entry, numbers
from ternvae.training.verdict import targets_met

__all__ = ["Verdict", "met_targets", "verdict"]

_STOPPED = {
    "interrupted": "interrupted",
    "non_finite_loss": "stopped itself at a NaN or an infinity",
    "out_of_memory": "stopped itself, out of memory",
    "save_failed": "stopped itself, as its files could not be written",
    "processes_differ": "stopped itself, as its processes disagreed",
}


@dataclass(frozen=True)
class Verdict:
    """What stands above everything else.

    Attributes:
        tone: "good", "bad" or "open".
        headline: in a few words.
        lead: sentences with the figures of the training.
    """

    tone: str
    headline: str
    lead: tuple[str, ...]


def met_targets(facts: RunFacts) -> dict[str, bool]:
    """Of each target whether it is met."""
    metrics, targets, n_digits = facts.metrics, facts.targets, facts.n_digits
    if n_digits is None or "hierarchy_B" not in metrics:
        return {}
    return targets_met(metrics, targets, n_digits=n_digits)


def verdict(facts: RunFacts) -> Verdict:
    """Judge a run."""
    tone, judged = _judged(facts)
    if facts.ended == "epochs":
        return Verdict(tone, judged, _lead(facts))
    how = _STOPPED.get(facts.ended or "", "stopped itself" if facts.ended else "not finished")
    return Verdict("open" if tone == "good" else tone, f"{judged}; {how}", _lead(facts))


def _judged(facts: RunFacts) -> tuple[str, str]:
    met = met_targets(facts)
    missed = [name for name, is_met in met.items() if not is_met]
    if not facts.metrics:
        return "open", "not evaluated yet"
    if not met:
        return "open", "no targets to meet"
    if missed:
        return "bad", f"{len(missed)} of {len(met)} targets missed: {', '.join(missed)}"
    failed = [name for name, passed in facts.checks.items() if not passed]
    if failed:
        return "bad", f"all {len(met)} targets met, but a check fails: {failed[0]}"
    return "good", f"all {len(met)} targets met"


def _lead(facts: RunFacts) -> tuple[str, ...]:
    summary, found = facts.summary, []
    epochs, best = entry(summary, "epochs", int), entry(summary, "best_epoch", int)
    wanted = entry(entry(facts.profile, "training", dict), "epochs", int)
    seconds = numbers(summary.get("seconds"))
    if epochs is not None:
        of = f" of {wanted}" if wanted is not None and wanted != epochs else ""
        told = f", {seconds['train']:.1f} s of training" if "train" in seconds else ""
        found.append(f"{epochs}{of} epochs{told}.")
    elif facts.analysis is not None and facts.checkpoint is not None:
        epoch = facts.analysis.epoch
        found.append(f"The figures are of {facts.checkpoint.name}, epoch {epoch}.")
    reached = entry(entry(summary, "epochs_to", dict), "targets", int)
    if reached is not None and "to_targets" in seconds:
        found.append(
            f"All targets were met first after epoch {reached}, {seconds['to_targets']:.1f} s "
            "after the first step."
        )
    if best is not None:
        found.append(f"The figures are of the best model, that of epoch {best}.")
    holdout = entry(entry(facts.profile, "space", dict), "holdout", float)
    if holdout:
        found.append(
            f"{100 * holdout:g} % of the sequences were held out from training; the figures are of "
            "the others unless they say unseen."
        )
    return tuple(found)
