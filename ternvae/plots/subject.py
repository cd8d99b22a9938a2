"""What the pictures are of: one checkpoint, embedded and measured, with the history of its run.

Nothing here knows matplotlib, and no picture knows torch: a subject is numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ternvae.analysis import Analysis, analyze
from ternvae.checkpoint import load_checkpoint
from ternvae.metrics.rows import AllRows, LevelSample
from ternvae.metrics.survey import rows_at_a_time
from ternvae.models import TernaryVAE
from ternvae.padic import TernarySpace, valuation
from ternvae.padic.sampling import partners_at_valuation
from ternvae.training.device import choose_device

__all__ = ["PairSample", "Subject", "subject_of"]

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

#: Spaces of up to this many digits are drawn point by point, 3^10 = 59,049 of them; of larger ones
#: a sample of each level is, small levels complete.
EXACT_DIGITS = 10

#: Rows of the first level of a sample; see :class:`ternvae.metrics.rows.LevelSample`.
SAMPLE_SIZE = 2**14

#: Pairs of each valuation of their difference, all of them where there are no more.
PAIRS_PER_VALUATION = 4000

#: Seed of both samples.
SEED = 20_260_110


@dataclass(frozen=True)
class PairSample:
    """Pairs of sequences and their distances; holds what it is given, check-free.

    Attributes:
        first: (P,) indices.
        second: (P,) indices, each another one than the first.
        valuation: (P,) v(first - second), 0 to n - 1.
        distance: (P,) hyperbolic distances of their points, in units of the metric.
    """

    first: Whole
    second: Whole
    valuation: Whole
    distance: Floats


@dataclass(frozen=True)
class Subject:
    """A checkpoint as the pictures see it; holds what it is given, check-free.

    Attributes:
        name: what to call it: the folder of its run and the name of the file.
        points: (N, d) points of branch B on the ball, float64.
        indices: (N,) the sequences that they belong to.
        valuation: (N,) 3-adic valuations of the indices, n for index 0.
        weight: (N,) how many sequences of the space a point stands for; 1 unless ``sampled``.
        c: of the ball, which has sectional curvature -c.
        radius_max: the largest hyperbolic radius that a point can have, in units of the metric.
        n_digits: digits n of a sequence.
        epoch: epochs that the model was trained for; None if the file does not say.
        profile: the profile in the file.
        targets: what it asks for, by metric name.
        ceilings: how high the rank statistics of this space can go.
        metrics: all metrics, measured from the model.
        history: the objects of ``metrics.jsonl`` of its run; empty if there is none.
        pairs: pairs of each valuation, drawn with a fixed seed.
        sampled: whether the points are a sample of the space.
    """

    name: str
    points: Floats
    indices: Whole
    valuation: Whole
    weight: Floats
    c: float
    radius_max: float
    n_digits: int
    epoch: int | None
    profile: dict[str, Any]
    targets: dict[str, float]
    ceilings: dict[str, float]
    metrics: dict[str, float]
    history: list[dict[str, Any]] = field(repr=False)
    pairs: PairSample = field(repr=False)
    sampled: bool

    @property
    def radius(self) -> Floats:
        """(N,) hyperbolic distances from the origin, 2/sqrt(c) artanh(sqrt(c) norm)."""
        norms = np.sqrt(self.c) * np.linalg.norm(self.points, axis=1)
        return np.asarray(2 / np.sqrt(self.c) * np.arctanh(norms), dtype=np.float64)


def subject_of(
    checkpoint: str | Path, device: str = "cpu", analysis: Analysis | None = None
) -> Subject:
    """Load a checkpoint, embed and measure it, and read the history of its run.

    Args:
        checkpoint: a checkpoint of a run, or one saved through
            :func:`ternvae.checkpoint.save_checkpoint`.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
        analysis: of this checkpoint, where it has been measured already; None measures it.

    Returns:
        All that is drawn of it: every point up to 10 digits, beyond that a seeded sample of each
        level.

    Raises:
        CheckpointError: the file is missing, unreadable or no such checkpoint, or its model does
            not give points of the ball.
        TypeError: ``checkpoint`` is not a path, ``device`` not a name of a device, or ``analysis``
            not an :class:`ternvae.analysis.Analysis`.
        ValueError: no such device, or its memory is too small for the space.
    """
    if analysis is None:
        analysis = analyze(checkpoint, device)
    elif not isinstance(analysis, Analysis):
        raise TypeError(
            f"analysis must be an Analysis, as analyze gives, got {type(analysis).__name__}"
        )
    path = Path(checkpoint)
    model = TernaryVAE.from_checkpoint(path, choose_device(device))
    model.requires_grad_(False)
    space = model.space
    sampled = space.n_digits > EXACT_DIGITS
    rows = LevelSample(space, SAMPLE_SIZE, SEED) if sampled else AllRows(space)
    indices = rows.chunk(0, rows.total)
    levels = valuation(indices, cap=space.n_digits)
    weights = torch.from_numpy(rows.sizes / rows.counts)
    stored = load_checkpoint(path)["profile"]
    return Subject(
        name=_name(path),
        points=_embedded(model, indices).numpy(),
        indices=indices.numpy(),
        valuation=levels.numpy(),
        weight=weights[levels].numpy(),
        c=float(model.ball.c),
        radius_max=float(model.ball.hyperbolic_radius_max),
        n_digits=space.n_digits,
        epoch=analysis.epoch,
        profile=stored if isinstance(stored, dict) else {},
        targets=analysis.targets,
        ceilings=analysis.ceilings,
        metrics=analysis.metrics,
        history=_history(_run_of(path) / "metrics.jsonl"),
        pairs=_pairs(model),
        sampled=sampled,
    )


def _run_of(path: Path) -> Path:
    """The folder of the run that a checkpoint lies in, or else its own."""
    folder = path.absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder


def _name(path: Path) -> str:
    """The name of the file, and of its run if it lies in one."""
    in_a_run = path.absolute().parent.name == "checkpoints"
    return f"{_run_of(path).name}/{path.name}" if in_a_run else path.name


def _history(file: Path) -> list[dict[str, Any]]:
    """The evaluated epochs; a line that was cut off, as by a full disk, is none."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and type(entry.get("epoch")) is int:
            found.append(entry)
    return found


def _embedded(model: TernaryVAE, indices: Tensor) -> Tensor:
    """Points of branch B in float64 on the CPU, (rows, latent_dim)."""
    size = rows_at_a_time(model.config["latent_dim"])
    starts = range(0, len(indices), size)
    with torch.no_grad():
        parts = [model.embed(indices[at : at + size], "B").double().cpu() for at in starts]
    return torch.cat(parts)


def _pairs(model: TernaryVAE) -> PairSample:
    space, generator = model.space, torch.Generator().manual_seed(SEED)
    drawn = [_pairs_at(space, v, generator) for v in range(space.n_digits)]
    first, second = (torch.cat(side) for side in zip(*drawn, strict=True))
    points = _embedded(model, torch.cat([first, second]))
    x, y = points.tensor_split(2)
    distance = model.ball.cpu().dist(x, y)
    levels = torch.cat([torch.full_like(i, v) for v, (i, _) in enumerate(drawn)])
    return PairSample(first.numpy(), second.numpy(), levels.numpy(), distance.numpy())


def _pairs_at(space: TernarySpace, v: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs i, j with v(i - j) = v: all with i < j, or as many as a sample has."""
    n, wanted = space.n_digits, PAIRS_PER_VALUATION
    if space.size * 3 ** (n - 1 - v) <= wanted:
        steps = torch.arange(space.size)
        steps = steps[valuation(steps, cap=n) == v]
        first = torch.arange(space.size).repeat_interleave(len(steps))
        second = (first + steps.repeat(space.size)) % space.size
        once = first < second
        return first[once], second[once]
    first = torch.randint(0, space.size, (wanted,), generator=generator)
    level = torch.full_like(first, v)
    return first, partners_at_valuation(first, level, n_digits=n, generator=generator)
