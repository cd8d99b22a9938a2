"""How analyses read on a terminal: one in full, several side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

from ternvae.analysis.measuring import Analysis, check_analysis
from ternvae.analysis.parts import parts_text
from ternvae.analysis.structure import in_short, structure_text
from ternvae.metrics import metric_names
from ternvae.training.wording import aligned, cell, final_table, metric_ceilings

__all__ = ["analysis_text", "comparison_text"]

#: Longer names of columns would make a comparison wider than a terminal.
LONGEST_NAME = 24

#: What a comparison shows of sequences that a run has held out.
UNSEEN_SHOWN = ("coverage", "coverage_B", "hierarchy_B", "ultrametric_corr", "triplet_accuracy")


def analysis_text(analysis: Analysis) -> str:
    """One checkpoint for the terminal: what it is, its metrics, levels and checks.

    Args:
        analysis: what :func:`ternvae.analysis.analyze` gave.

    Returns:
        Lines, without the last end of line.

    Raises:
        TypeError: it is not an analysis.
    """
    check_analysis("analysis", analysis)
    header = ("valuation", "count", "mean", "spread", "least", "largest")
    radii = [
        (
            str(row.valuation).rjust(len(header[0])),
            str(row.count),
            *(f"{r:.6f}" for r in (row.mean, row.std, row.least, row.largest)),
        )
        for row in analysis.levels
    ]
    parts = [
        "\n".join(f"{label:<10}  {text}" for label, text in _heading(analysis)),
        final_table(analysis.metrics, analysis.targets, n_digits=analysis.n_digits),
        "Radii of branch B by level: hyperbolic distance from the origin, in units of the metric\n"
        + aligned([header, *radii]),
        "\n".join(f"{cell(passed)}  {check}" for check, passed in analysis.validation.items()),
    ]
    if analysis.unseen:
        parts.append(parts_text(analysis.metrics, analysis.unseen))
    if analysis.structure is not None:
        parts.append(structure_text(analysis.structure))
    return "\n\n".join(parts)


def comparison_text(analyses: Sequence[Analysis]) -> str:
    """Several checkpoints side by side: one column each, and the ceilings of each space last.

    Args:
        analyses: at least one; their spaces may differ.

    Returns:
        Lines, without the last end of line.

    Raises:
        TypeError: these are not analyses.
        ValueError: there is nothing to compare.
    """
    if not isinstance(analyses, Sequence):
        raise TypeError(
            f"analyses must be a list of Analysis, as analyze gives, got {type(analyses).__name__}"
        )
    for k, analysis in enumerate(analyses):
        check_analysis(f"analyses[{k}]", analysis)
    if not analyses:
        raise ValueError("analyses: got none, expected at least one")
    names = _column_names([analysis.path for analysis in analyses])
    sizes = sorted({analysis.n_digits for analysis in analyses})
    titles = ["ceiling"] if len(sizes) == 1 else [f"ceiling, n = {n}" for n in sizes]
    limits = [metric_ceilings(n_digits) for n_digits in sizes]
    rows: list[Sequence[str]] = [("checkpoint", *names, *titles)]

    def add(label: str, values: Iterable[object], bounds: Iterable[object] = ()) -> None:
        cells = [label, *map(cell, values), *map(cell, bounds)]
        rows.append(cells + [""] * (len(rows[0]) - len(cells)))

    for fact in ("profile", "seed", "epoch", "n_digits", "parameters"):
        add(fact, [getattr(analysis, fact) for analysis in analyses])
    add("stored metrics", map(_stored_in_short, analyses))
    add("", ())
    for name in metric_names(sizes[-1]):
        values = [analysis.metrics.get(name) for analysis in analyses]
        add(name, values, [limit.get(name) for limit in limits])
    add("", ())
    # A dict for its order: the checks as the first checkpoint that has them lists them.
    for check in dict.fromkeys(check for analysis in analyses for check in analysis.validation):
        add(check, [analysis.validation.get(check) for analysis in analyses])
    if any(analysis.unseen for analysis in analyses):
        add("", ())
        for name in UNSEEN_SHOWN:
            add(f"unseen {name}", [analysis.unseen.get(name) for analysis in analyses])
    if any(analysis.structure for analysis in analyses):
        add("", ())
        columns = [{} if a.structure is None else in_short(a.structure) for a in analyses]
        for name in dict.fromkeys(name for column in columns for name in column):
            add(name, [column.get(name) for column in columns])
    remarks = [
        f"{name}: {label.lower()}: {text}"
        for name, analysis in zip(names, analyses, strict=True)
        for label, text in _cautions(analysis)
    ]
    width = max(map(len, names))
    legend = [f"{name:<{width}}  {a.path}" for name, a in zip(names, analyses, strict=True)]
    parts = ["\n".join(legend), aligned(rows), "\n".join(remarks)]
    return "\n\n".join(part for part in parts if part)


def _heading(analysis: Analysis) -> list[tuple[str, str]]:
    sampling = analysis.sampling
    rows = "all" if sampling["rows_exact"] else f"{sampling['rows']} drawn"
    how = "all" if sampling["pairs_exact"] else "drawn"
    trained = [
        f"{what} {value}"
        for what in ("profile", "seed", "epoch")
        if (value := getattr(analysis, what)) is not None
    ]
    return [
        ("Checkpoint", f"{analysis.path} ({analysis.file_bytes} bytes)"),
        ("Trained", ", ".join(trained) or "the file does not say how"),
        (
            "Model",
            f"{analysis.n_digits} digits ({3**analysis.n_digits} sequences), "
            f"{analysis.latent_dim} dimensions of curvature {-analysis.curvature:.6g}, "
            f"{analysis.parameters} parameters",
        ),
        (
            "Measured",
            f"on {analysis.device}: {rows} sequences, {sampling['pairs']} pairs ({how}), "
            f"{sampling['triples']} triples (drawn), seed {sampling['seed']}",
        ),
        ("Stored", _stored_in_words(analysis)),
        *_cautions(analysis),
    ]


def _stored_in_words(analysis: Analysis) -> str:
    verdict = _stored_in_short(analysis)
    if analysis.differences is not None:
        return f"the metrics in the file {verdict} with those measured here"
    if not analysis.stored_metrics:
        return f"{verdict}: the file holds no metrics"
    if analysis.stored_epoch is None:
        return f"{verdict}: the file does not say of which epoch its metrics are"
    return (
        f"{verdict}: the metrics in the file are those of an earlier model of its run, "
        f"of epoch {analysis.stored_epoch}"
    )


def _stored_in_short(analysis: Analysis) -> str:
    if analysis.differences is None:
        return "not compared" if analysis.stored_metrics else "none"
    return "disagree" if analysis.differences else "agree"


def _cautions(analysis: Analysis) -> list[tuple[str, str]]:
    """A label and a sentence for each difference and each warning."""
    return [
        (
            "Differs",
            f"{each.key} is {cell(each.stored)} in the file and {cell(each.measured)} here",
        )
        for each in analysis.differences or ()
    ] + [("Warning", text) for text in analysis.warnings]


def _column_names(paths: Sequence[str]) -> list[str]:
    """The parts of the paths that tell them apart, as few as will do; numbers if that is long."""
    numbers = [f"[{i}]" for i in range(1, len(paths) + 1)]
    # Columns of the paths set flush right, so that the names of the files are under one another.
    parts = zip_longest(*(reversed(Path(path).parts) for path in paths), fillvalue="")
    columns = [column for column in parts if len(set(column)) > 1]
    for depth in range(1, len(columns) + 1):
        rows = zip(*columns[:depth], strict=True)
        names = [str(Path(*filter(None, reversed(row)))) for row in rows]
        if len(set(names)) == len(names):
            return names if max(map(len, names)) <= LONGEST_NAME else numbers
    return numbers
