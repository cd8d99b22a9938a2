"""How the shipped files are made: trained as stated, cut down to what the model is, and compared.

On one machine a run repeats to the last bit, so the file does, too. On another one the last digits
of a step differ, and sixty epochs make other weights of that: then it is the figures that have to
agree, as closely as :data:`WITHIN` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ternvae.pretrained.shelf import path, shelved

__all__ = ["WITHIN", "Comparison", "Figure", "compare", "cut", "make"]

#: What stays of a checkpoint: seconds, sizes of logs and the like differ between equal runs.
_KEPT = (
    *("model_state_dict", "model_config", "optimizer_state_dict", "epoch", "metrics_epoch"),
    *("comprehensive_metrics", "validation_results", "profile"),
)

#: How far the figures of a repetition may be from those of the shipped model. What is not here,
#: hierarchy_A and the mean radii, is free: no term of the loss asks for a value of it. Without the
#: compiled extensions, or with ATEN_CPU_CAPABILITY=default, Q_enhanced moved by less than 5e-4,
#: ultrametric_corr by less than 1e-3 and triplet_accuracy by less than 4e-5.
WITHIN = {
    "coverage": 0.0,
    "coverage_B": 0.0,
    "hierarchy_B": 1e-6,
    "richness": 1e-3,
    "dist_corr": 5e-3,
    "Q_enhanced": 5e-3,
    "ultrametric_corr": 3e-3,
    "triplet_accuracy": 3e-4,
}


@dataclass(frozen=True)
class Figure:
    """One metric of the shipped model and of its repetition; held check-free.

    Attributes:
        name: of the metric.
        shipped: its value in the shipped file.
        again: its value in the repetition.
        within: how far apart they may be.
    """

    name: str
    shipped: float
    again: float
    within: float

    @property
    def agrees(self) -> bool:
        """Whether the two are close enough; NaN never is."""
        return math.isclose(self.shipped, self.again, rel_tol=0.0, abs_tol=self.within)


@dataclass(frozen=True)
class Comparison:
    """A repetition against the shipped file; held check-free.

    Attributes:
        same_weights: whether every weight has the same bits.
        figures: the metrics that count.
    """

    same_weights: bool
    figures: tuple[Figure, ...]

    @property
    def agrees(self) -> bool:
        """Whether all figures agree."""
        return all(figure.agrees for figure in self.figures)


def make(name: str, folder: Path) -> Path:
    """Train a model of the shelf again and cut its file.

    Args:
        name: one of :func:`ternvae.pretrained.available`.
        folder: for the run, as ``run``, and for the file, as ``NAME.pt``.

    Returns:
        The new file.

    Raises:
        TypeError: ``name`` is not a text.
        ValueError: there is no model of that name, or the folder holds a run already.
        OSError: the folder cannot be written.
    """
    from ternvae.config import load_profile
    from ternvae.trainer import Trainer

    recipe = shelved(name)
    profile = load_profile(recipe.profile, {"seed": recipe.seed})
    Trainer(profile, run_dir=folder / "run", device="cpu").fit()
    file = folder / f"{name}.pt"
    cut(folder / "run" / "checkpoints" / "best_Q.pt", file)
    return file


def cut(source: Path, target: Path) -> None:
    """Write a checkpoint anew with what the model is, and nothing that differs between equal runs.

    The moments of the optimizer go, too: they are two thirds of the file, and inference has no use
    for them. What is left is a checkpoint that can be loaded, measured and begun from, but not
    resumed.

    Args:
        source: a checkpoint of a run.
        target: the file to write.

    Raises:
        CheckpointError: ``source`` is not a checkpoint.
        OSError: ``target`` cannot be written.
    """
    from ternvae.checkpoint import load_checkpoint, save_checkpoint

    contents = load_checkpoint(source)
    kept: dict[str, Any] = {key: contents[key] for key in _KEPT}
    groups = contents["optimizer_state_dict"]["param_groups"]
    kept["optimizer_state_dict"] = {"state": {}, "param_groups": groups}
    save_checkpoint(target, kept)


def compare(name: str, file: Path) -> Comparison:
    """Hold a file that :func:`make` wrote against the shipped one.

    Args:
        name: one of :func:`ternvae.pretrained.available`.
        file: what was made.

    Raises:
        TypeError: ``name`` is not a text.
        ValueError: there is no model of that name.
        CheckpointError: one of the two files cannot be used.
    """
    import torch

    from ternvae.checkpoint import load_checkpoint

    shipped, again = load_checkpoint(path(name)), load_checkpoint(file)
    weights, others = shipped["model_state_dict"], again["model_state_dict"]
    same = weights.keys() == others.keys() and all(
        torch.equal(weight, others[key]) for key, weight in weights.items()
    )
    metrics = shipped["comprehensive_metrics"], again["comprehensive_metrics"]
    return Comparison(same, tuple(_figures(*metrics)))


def _figures(shipped: dict[str, float], again: dict[str, float]) -> Iterator[Figure]:
    for name, within in WITHIN.items():
        yield Figure(name, shipped[name], again[name], within)
