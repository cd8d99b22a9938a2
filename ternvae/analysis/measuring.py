"""Measuring the model of a checkpoint, and holding the result against what the file says.

The metrics stored in a checkpoint are those of the best model that its run had found by then.  In
``best_Q.pt`` that is the model in the file; in ``last.pt`` or ``epoch_020.pt`` it is often an
earlier one.  Stored and measured values are compared only where both are about the same weights.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ternvae.analysis.parts import held_out, unseen_metrics
from ternvae.ceilings import ceilings
from ternvae.checkpoint import CheckpointError, load_checkpoint
from ternvae.metrics import (
    CollapsedLevelsWarning,
    Evaluator,
    Metrics,
    Structure,
    measure_structure,
    metric_names,
)
from ternvae.models import BRANCHES, TernaryVAE
from ternvae.training.device import check_memory, choose_device
from ternvae.training.verdict import (
    CHECKS,
    OPTIONAL,
    asked_for,
    reachable_hierarchy,
    validation_results,
)

__all__ = ["Analysis", "Difference", "LevelRow", "analysis_json", "analyze", "check_analysis"]

#: Stored and measured metrics closer than this are the same.  Float32 points are rounded otherwise
#: on another device, which moves a metric by some 1e-7 of its size and at most tips one triple in
#: 65536; one sequence more or less of 19683 is no rounding.
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-5, 1e-6

#: As a profile allows it; longer names, and odd ones, are shown cut short and quoted.
_LONGEST_NAME = 64

_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class LevelRow:
    """The radii of branch B in one level, hyperbolic and in units of the metric.

    Holds what it is given, check-free.

    Attributes:
        valuation: which level.
        count: measured sequences of the level; all of them up to 15 digits.
        mean: mean radius.
        std: population standard deviation; richness is the mean of its square over the levels.
        least: smallest radius.
        largest: largest radius.
    """

    valuation: int
    count: int
    mean: float
    std: float
    least: float
    largest: float


@dataclass(frozen=True)
class Difference:
    """A value in the file that is not what its model measures; held check-free.

    Attributes:
        key: where the value stands in the file, for instance ``comprehensive_metrics.richness``.
        stored: the value in the file.
        measured: the value measured now.
    """

    key: str
    stored: float
    measured: float


@dataclass(frozen=True)
class Analysis:
    """A checkpoint, measured; figures that the file need not hold are None or empty without it.

    Holds what it is given, check-free.

    Attributes:
        path: the file, as given.
        file_bytes: its size.
        profile: name of the profile.
        seed: seed of the run.
        epoch: epochs that the model was trained for.
        n_digits: digits of a sequence.
        latent_dim: dimension of the ball.
        curvature: c of the ball, which has sectional curvature -c.
        parameters: number of trainable values.
        device: where it was measured.
        metrics: all metrics, measured now over all sequences; of a run with ``space.holdout``,
            over those that training has seen, as are levels, checks and what is stored.
        sampling: how the pairs and triples behind some of the metrics were chosen.
        ceilings: how high the rank statistics of this space can go.
        targets: what the stored profile asks for, by metric name.
        validation: the checks, decided now; a missing target leaves out its own and readiness.
        levels: one row per level, from valuation 0 to ``n_digits``.
        stored_metrics: the metrics in the file, of the model of ``stored_epoch``.
        stored_validation: the checks in the file, of the same model.
        stored_epoch: of which epoch the stored figures are.
        differences: stored values that the measured ones contradict; None where they cannot be
            compared, since the file holds none or those of another model than its own.
        warnings: what there is to beware of, in sentences.
        structure: measures of 3-adic structure of branch B; None where they were not asked for.
        unseen: the metrics over the other sequences; empty without ``space.holdout``.
    """

    path: str
    file_bytes: int
    profile: str | None
    seed: int | None
    epoch: int | None
    n_digits: int
    latent_dim: int
    curvature: float
    parameters: int
    device: str
    metrics: dict[str, float]
    sampling: dict[str, Any]
    ceilings: dict[str, float]
    targets: dict[str, float]
    validation: dict[str, bool]
    levels: tuple[LevelRow, ...]
    stored_metrics: dict[str, float]
    stored_validation: dict[str, bool]
    stored_epoch: int | None
    differences: tuple[Difference, ...] | None
    warnings: tuple[str, ...]
    structure: Structure | None = None
    unseen: dict[str, float] = field(default_factory=dict)


def check_analysis(name: str, value: object) -> None:
    """Raise ``TypeError`` unless the argument is an analysis."""
    if not isinstance(value, Analysis):
        raise TypeError(f"{name} must be an Analysis, as analyze gives, got {type(value).__name__}")


# --- measuring ------------------------------------------------------------------------------


def analyze(
    path: str | PathLike[str],
    device: str = "cpu",
    structure: bool = False,
    *,
    progress: Callable[[int], object] | None = None,
) -> Analysis:
    """Load a checkpoint, measure its model over the whole space and compare with what it says.

    The model of a run with ``space.holdout`` is measured in two parts, the seen and the unseen.

    Args:
        path: a checkpoint of a run, or one saved through :func:`ternvae.checkpoint.save_checkpoint`
            with any profile.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
        structure: whether to measure the 3-adic structure, too; see
            :func:`ternvae.metrics.measure_structure`.
        progress: called after each chunk with the number of sequences embedded in it.

    Returns:
        What the checkpoint says and what was measured.

    Raises:
        CheckpointError: the file is missing, unreadable or not such a checkpoint, its model does
            not give points of the ball, or one of its targets is not a number.
        TypeError: ``path`` is not a path, ``device`` not a name of a device, ``structure`` not a
            bool, or ``progress`` cannot be called.
        ValueError: no such device, its memory is too small for the space, ``path`` is no possible
            name of a file, or ``structure`` of a space of one digit or more than 15.
    """
    if not isinstance(structure, bool):
        raise TypeError(f"structure must be True or False, got {structure!r}")
    place = choose_device(device)
    contents = load_checkpoint(path)
    model = TernaryVAE.from_checkpoint(path, place)
    model.requires_grad_(False)  # so that nothing records a graph for a curvature that is learned
    n_digits = model.space.n_digits
    targets, doubts = _targets(path, contents["profile"], n_digits)
    check_memory(model.space, model.config["latent_dim"], place)
    holdout = held_out(contents["profile"], model.space)
    seen = None if holdout is None else holdout.is_seen
    evaluator = Evaluator(model.space, among=seen, progress=progress)
    if holdout is not None and "hierarchy_B" in targets:
        ceiling = evaluator.hierarchy_ceiling
        targets["hierarchy_B"] = reachable_hierarchy(targets["hierarchy_B"], ceiling)
    metrics, complaints = _measure(path, evaluator, model)
    # Embedding once more costs a tenth of the metrics; keeping the points would cost their memory.
    radii = {branch: evaluator.level_radii(model, branch) for branch in BRANCHES}
    limit = float(model.ball.hyperbolic_radius_max)
    points_valid = all(bool(part[-1] <= limit) for parts in radii.values() for part in parts)
    validation = _validation(metrics, targets, n_digits=n_digits, points_valid=points_valid)
    stored_metrics = _numbers(contents["comprehensive_metrics"])
    stored_validation = _truths(contents["validation_results"])
    epoch, name = _entry(contents, "epoch", int), _entry(contents["profile"], "name", str)
    stored_epoch = _entry(contents, "metrics_epoch", int)
    differences = None
    # Inside an epoch the weights have moved on from those that were measured.
    measured_here = stored_epoch == epoch and not contents.get("step")
    if stored_metrics and stored_epoch is not None and measured_here:
        differences = (
            *_differences("comprehensive_metrics", stored_metrics, metrics),
            *_differences("validation_results", stored_validation, validation),
        )
    return Analysis(
        path=os.fspath(path),
        file_bytes=Path(path).stat().st_size,
        profile=None if name is None else _shown(name),
        seed=_entry(contents["profile"], "seed", int),
        epoch=epoch,
        n_digits=n_digits,
        latent_dim=model.config["latent_dim"],
        curvature=float(model.ball.c),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        device=str(place),
        metrics=dict(metrics),
        sampling=metrics.sampling,
        ceilings=ceilings(n_digits),
        targets=targets,
        validation=validation,
        levels=_levels(radii["B"], [v for v in range(n_digits + 1) if f"r_v{v}" in metrics]),
        stored_metrics=stored_metrics,
        stored_validation=stored_validation,
        stored_epoch=stored_epoch,
        differences=differences,
        warnings=(*doubts, *complaints),
        structure=measure_structure(model, model.space) if structure else None,
        unseen={} if holdout is None else unseen_metrics(model, holdout),
    )


def analysis_json(analysis: Analysis) -> dict[str, Any]:
    """All fields as plain values for strict JSON: NaN and infinities become None.

    Args:
        analysis: what :func:`analyze` gave.

    Returns:
        Fields by name, nested as in :class:`Analysis`.

    Raises:
        TypeError: it is not an analysis.
    """
    check_analysis("analysis", analysis)
    plain: dict[str, Any] = json.loads(json.dumps(asdict(analysis)), parse_constant=lambda _: None)
    return plain


def _measure(
    path: str | PathLike[str], evaluator: Evaluator, model: TernaryVAE
) -> tuple[Metrics, list[str]]:
    """All metrics, and the warnings that came with them."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CollapsedLevelsWarning)
            metrics = evaluator(model)
    except ValueError as error:
        # The decoder takes points of the ball only; weights that are not finite give none.
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: the model cannot be measured: {reason}") from error
    return metrics, [str(warning.message) for warning in caught]


def _levels(radii: list[NDArray[np.float64]], valuations: list[int]) -> tuple[LevelRow, ...]:
    return tuple(
        LevelRow(level, len(r), float(r.mean()), float(r.std()), float(r.min()), float(r.max()))
        for level, r in zip(valuations, radii, strict=True)
    )


def _validation(
    metrics: Metrics, targets: Mapping[str, float], *, n_digits: int, points_valid: bool
) -> dict[str, bool]:
    """The checks that do not hang on a missing target."""
    missing = CHECKS.keys() - OPTIONAL - targets.keys()
    whole = {**dict.fromkeys(missing, 0.0), **targets}  # any number: its check is dropped again
    results = validation_results(metrics, whole, n_digits=n_digits, points_valid=points_valid)
    if missing:
        # Several targets may decide one check.
        for check in {*(CHECKS[name] for name in missing), "mathematical_foundation_ready"}:
            del results[check]
    return results


def _differences(
    key: str, stored: Mapping[str, float], measured: Mapping[str, float]
) -> list[Difference]:
    return [
        Difference(f"{key}.{name}", value, measured[name])
        for name, value in stored.items()
        if name in measured and not _same(value, measured[name])
    ]


def _same(a: float, b: float) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)


# --- reading what the file says -------------------------------------------------------------


def _targets(
    path: str | PathLike[str], profile: object, n_digits: int
) -> tuple[dict[str, float], list[str]]:
    """The targets in the profile, and a sentence for each that no metric answers to."""
    known, targets, doubts = metric_names(n_digits), {}, []
    for name, value in _items(_entry(profile, "targets", dict)):
        if name not in known:
            place = f"profile.targets.{_shown(name)}"
            doubts.append(f"{place}: there is no such metric, so it is left out")
        elif not _numbers({name: value}) or not math.isfinite(value):
            # The value itself may be of any size.
            told = reprlib.repr(value) if isinstance(value, float) else type(value).__name__
            raise CheckpointError(f"{path}: profile.targets.{name}: not a number: {told}")
        else:
            targets[name] = float(value)
    return asked_for(targets), doubts


def _entry(values: object, key: str, kind: type[_Kind]) -> _Kind | None:
    """``values[key]`` if there is such an entry and it is of that kind."""
    value: Any = values.get(key) if isinstance(values, dict) else None
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _shown(name: object) -> str:
    """A name out of a file as a terminal can show it."""
    plain = isinstance(name, str) and name.isprintable() and len(name) <= _LONGEST_NAME
    return str(name) if plain else reprlib.repr(name)


def _items(values: object) -> Iterable[tuple[Any, Any]]:
    """The entries, none if these are not entries."""
    return values.items() if isinstance(values, dict) else ()


def _numbers(values: object) -> dict[str, float]:
    return {
        str(name): float(value)
        for name, value in _items(values)
        if isinstance(value, int | float) and not isinstance(value, bool) and _fits(value)
    }


def _fits(value: float) -> bool:
    """Whether a number is no integer beyond the range of floats."""
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _truths(values: object) -> dict[str, bool]:
    return {str(name): value for name, value in _items(values) if isinstance(value, bool)}
