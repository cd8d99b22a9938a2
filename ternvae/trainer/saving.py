"""What a checkpoint of a run holds beside the weights, and how a run goes on from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ternvae.checkpoint import FORMAT_VERSION, CheckpointError, load_checkpoint
from ternvae.config import Profile, profile_keys
from ternvae.models.stored import stored_config
from ternvae.trainer.examination import Examination
from ternvae.trainer.steps import Steps
from ternvae.training.execution import execution
from ternvae.training.finite import check_saved
from ternvae.training.inventory import file_digest
from ternvae.training.optimisation import Optimisation
from ternvae.training.progress import Progress

__all__ = ["checkpoint_contents", "digest_of", "load_run", "profile_differences", "restore_run"]

#: What the position in an epoch is a position in.
_ORDER_OF_THE_DATA = (
    *("seed", "training.batch_size", "training.balanced_share", "training.paired_share"),
    "training.gradient_accumulation_steps",
)

#: What a run goes on from beside the model, and of which types it is.
_OF_A_RUN: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "within_epoch": (dict, type(None)),
    "execution": (dict, type(None)),
    "progress": (dict,),
    "frozen": (dict,),
    "homeostasis": (dict, type(None)),
    "controller": (dict, type(None)),
    "warning_signs": (list, tuple),
    "unwritten": (dict,),
}

#: Types of the values of a profile.
_PLAIN = (type(None), bool, int, float, str)

#: No text in a profile is longer.
_LONGEST_TEXT = 5000


def checkpoint_contents(
    examination: Examination, optimisation: Optimisation, steps: Steps
) -> dict[str, Any]:
    """Everything that a run needs to go on, and the figures of its last evaluation.

    The learning rate, the curriculum and the order of the data are functions of the profile, the
    epoch and the step, so these are all that is kept of them.

    Raises:
        NonFiniteError: a weight or a moment is NaN or infinite, so nobody could go on from it.
    """
    check_saved(optimisation.tensors())
    homeostasis, controller = examination.homeostasis, examination.controller
    latest = examination.progress.latest
    return {
        "model_state_dict": examination.model.state_dict(),
        "model_config": examination.model.config,
        "optimizer_state_dict": optimisation.optimizer.state_dict(),
        "epoch": examination.progress.epoch,
        "step": steps.done,
        "within_epoch": steps.state(),
        "metrics_epoch": latest.epoch if latest else None,
        "comprehensive_metrics": latest.metrics if latest else {},
        "validation_results": latest.validation if latest else {},
        "profile": examination.profile.to_dict(),
        "progress": examination.progress.to_dict(),
        "frozen": dict(optimisation.frozen),
        "homeostasis": homeostasis.to_dict() if homeostasis is not None else None,
        "controller": controller.to_dict() if controller is not None else None,
        "warning_signs": examination.signs.state(),
        "unwritten": examination.monitor.pending(),
        "execution": execution(steps.device),
    }


def digest_of(path: Path) -> str:
    """SHA-256 of a file; empty if it cannot be read, which loading it explains."""
    try:
        return file_digest(path)
    except (OSError, ValueError):
        return ""


def load_run(path: str | Path, profile: Profile, model_config: dict[str, Any]) -> dict[str, Any]:
    """Read a checkpoint that a run with this profile can go on from.

    Raises:
        CheckpointError: the file cannot be used, holds another model, is beyond the end of the
            profile, or the profile changes what cannot change any more.
    """
    contents = load_checkpoint(path)
    if "progress" not in contents:
        version = contents["format_version"]
        older = f" that can go on (format {version})" if version < FORMAT_VERSION else ""
        raise CheckpointError(
            f"{path}: holds a model but not the progress of a run{older}; to begin a new run with "
            "its encoder A and decoder, set frozen_checkpoint.path to it"
        )
    _check_entries(path, contents)
    _check_model(path, contents, model_config)
    if contents["epoch"] > profile.training.epochs:
        raise CheckpointError(
            f"{path}: epoch {contents['epoch']} is done and the profile ends at epoch "
            f"{profile.training.epochs}; raise training.epochs to go on"
        )
    _check_changes(path, contents, profile)
    return contents


def _check_entries(path: str | Path, contents: Mapping[str, Any]) -> None:
    """Raise ``CheckpointError`` unless what a run goes on from is there, of the right types."""
    if not isinstance(contents["profile"], dict):
        raise CheckpointError(f"{path}: its profile is not a mapping")
    if type(contents["epoch"]) is not int or contents["epoch"] < 0:
        raise CheckpointError(f"{path}: its epoch is not a number of epochs")
    sizes = contents.get("record_bytes")
    if not isinstance(sizes, dict) or not all(type(n) is int and n >= 0 for n in sizes.values()):
        raise CheckpointError(f"{path}: its record_bytes are not sizes of files")
    if missing := [name for name in _OF_A_RUN if name not in contents]:
        raise CheckpointError(f"{path}: incomplete checkpoint, without {', '.join(missing)}")
    for name, kinds in _OF_A_RUN.items():
        if type(contents[name]) not in kinds:
            # The value itself may be of any size.
            raise CheckpointError(f"{path}: its {name} is of type {type(contents[name]).__name__}")


def _check_model(
    path: str | Path, contents: Mapping[str, Any], model_config: Mapping[str, Any]
) -> None:
    """Raise ``CheckpointError`` unless the stored model is of the same architecture."""
    try:
        stored = stored_config(contents["model_config"], contents["model_state_dict"])
    except ValueError as error:
        raise CheckpointError(f"{path}: the stored model does not fit: {error}") from error
    other = [name for name, value in model_config.items() if stored.get(name) != value]
    if other:
        told = "; ".join(f"{n} is {stored.get(n)}, not {model_config[n]}" for n in other)
        raise CheckpointError(
            f"{path}: holds another model than the profile asks for: {told}; resume with the "
            "profile of that run"
        )


def _check_changes(path: str | Path, contents: Mapping[str, Any], profile: Profile) -> None:
    """Raise ``CheckpointError`` if the profile changes what cannot change any more."""
    for key, then, now in profile_differences(contents["profile"], profile):
        why = None
        if key in _ORDER_OF_THE_DATA and contents["step"]:
            why = f"the checkpoint is inside epoch {contents['epoch'] + 1}, whose data it orders"
        if key == "space.holdout" or (key == "seed" and profile.space.holdout):
            why = "it decides which sequences training never sees, and some would have been seen"
        if key == "frozen_checkpoint.path":
            why = "it is read at the start of a run only, and changes nothing later"
        if why is not None:
            raise CheckpointError(
                f"{path}: {key} was {then!r} and cannot become {now!r}: {why}; leave it as it was, "
                "or begin a new run"
            )


def profile_differences(
    stored: Mapping[str, Any], profile: Profile
) -> Iterator[tuple[str, Any, Any]]:
    """Each key that has another value than in a stored profile: key, value then, value now.

    A key that an older version did not know had its default.  Of a stored value that no profile
    has, a container for instance, the type is given in its place, in words.
    """
    now = profile.to_dict()
    for key, info in profile_keys().items():
        value, then = _at(now, key, None), _at(stored, key, info.default)
        if isinstance(then, str) and len(then) > _LONGEST_TEXT:
            yield key, f"a text of {len(then)} characters", value
        elif not isinstance(then, _PLAIN):
            yield key, f"of type {type(then).__name__}", value
        elif then != value:
            yield key, then, value


def _at(values: Mapping[str, Any], key: str, default: object) -> Any:
    """The value of a dotted key; of a key that is not there, the default."""
    section, _, name = key.rpartition(".")
    inside = values.get(section, {}) if section else values
    return inside.get(name, default) if isinstance(inside, Mapping) else inside


def restore_run(
    contents: dict[str, Any], examination: Examination, optimisation: Optimisation, steps: Steps
) -> None:
    """Put a run where the checkpoint left it.

    What only one of the two profiles has, homeostasis or the controller, begins afresh.
    """
    examination.model.load_state_dict(contents["model_state_dict"])
    optimisation.optimizer.load_state_dict(contents["optimizer_state_dict"])
    optimisation.frozen.update(contents["frozen"])
    examination.progress = Progress.from_dict(contents["progress"])
    if examination.homeostasis is not None and contents["homeostasis"] is not None:
        examination.homeostasis.restore(contents["homeostasis"])
    if examination.controller is not None and contents["controller"] is not None:
        examination.controller.restore(contents["controller"])
    examination.signs.restore(contents["warning_signs"])
    examination.monitor.restore(contents["unwritten"])
    if type(contents["step"]) is not int or not 0 <= contents["step"] < len(steps):
        raise ValueError(f"its step is not one of the {len(steps)} steps of an epoch")
    steps.restore(contents["step"], contents["within_epoch"])
