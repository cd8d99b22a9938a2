"""``ternvae train``: what is asked for, made a profile and a folder."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from ternvae.cli.options import check_paths, device_option, option
from ternvae.cli.outcome import BadInputError, usable
from ternvae.cli.running import run
from ternvae.cli.together import in_step
from ternvae.config import (
    DEFAULT_PROFILE,
    Profile,
    profile_from_dict,
    profile_keys,
    resolve_profile,
)

__all__ = ["train"]

#: Length of a run in ``--test-mode``, unless the command line says otherwise.
TEST_EPOCHS = 5


def _as_written(value: object) -> str:
    """A default as it would be written in a profile."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value) or "none"


class _TrainCommand(click.Command):
    """Lists the keys of a profile in the help; they are options in all but their number."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (f"--{key}", f"{info.description}  [default: {_as_written(info.default)}]")
            for key, info in profile_keys().items()
        ]
        with formatter.section(
            "Keys of a profile, each as --SECTION.KEY VALUE (defaults before "
            "any profile is applied)"
        ):
            formatter.write_dl(rows, col_max=44)


@click.command(
    cls=_TrainCommand,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@option("--config", metavar="FILE", help="YAML file of overrides; wins over the profile.")
@option("--profile", metavar="NAME", help=f"Shipped profile.  [default: {DEFAULT_PROFILE}]")
@click.option("--test-mode", is_flag=True, help="Five epochs, all metrics after each.")
@option("--checkpoint", metavar="FILE", help="Go on from this checkpoint of an earlier run.")
@option("--run-dir", metavar="DIR", help="Folder of the run.  [default: a new one in runs/]")
@option("--seed", metavar="N", help="Seed of every random draw of the run.")
@device_option
@click.pass_context
def train(
    ctx: click.Context,
    config: str | None,
    profile: str | None,
    test_mode: bool,
    checkpoint: str | None,
    run_dir: str | None,
    seed: str | None,
    device: str,
) -> int:
    """Train a model and keep the run in a folder.

    Precedence: defaults < profile < config file < command line.
    """
    with in_step():
        check_paths(("--config", config), ("--checkpoint", checkpoint), ("--run-dir", run_dir))
        overrides = _key_overrides(ctx)
        if seed is not None:
            overrides["seed"] = seed
        if test_mode:
            overrides = {**_test_mode(resolve_profile(profile, config, {})), **overrides}
        if checkpoint is None:
            resolved = resolve_profile(profile, config, overrides)
            folder = Path(run_dir) if run_dir else None
        else:
            resolved = _profile_to_resume(checkpoint, profile, config, overrides)
            folder = Path(run_dir) if run_dir else _folder_of(checkpoint)
    return run(resolved, folder, device, checkpoint)


def _key_overrides(ctx: click.Context) -> dict[str, Any]:
    """Read ``--SECTION.KEY VALUE`` and ``--SECTION.KEY=VALUE``; keys are judged by the profile."""
    overrides: dict[str, Any] = {}
    rest = iter(ctx.args)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if not flag.startswith("--") or len(flag) == 2:
            raise click.UsageError(f"unexpected argument {argument!r}; options start with --")
        if "." not in flag and flag[2:] not in profile_keys():
            known = [name for option in ctx.command.params for name in option.opts]
            raise click.NoSuchOption(flag, possibilities=get_close_matches(flag, known, n=1))
        if not equals:
            following = next(rest, None)
            if following is None:
                raise click.UsageError(f"{flag} needs a value")
            value = following
        if flag[2:] in overrides:
            raise click.UsageError(f"{flag} is given twice")
        overrides[flag[2:]] = value
    return overrides


def _folder_of(checkpoint: str) -> Path | None:
    """The folder of the run that a checkpoint lies in; None, for a new one, if it is in none."""
    place = Path(checkpoint).absolute().parent
    return place.parent if place.name == "checkpoints" else None


def _test_mode(profile: Profile) -> dict[str, Any]:
    """What ``--test-mode`` sets: few epochs, and whatever has to fit into them."""
    share = min(1.0, TEST_EPOCHS / profile.training.epochs)
    phases = profile.curriculum.model_dump(exclude={"enabled"})
    return {
        "training.epochs": TEST_EPOCHS,
        "monitoring.detailed_metrics_every_n_epochs": 1,
        "scheduler.warmup_epochs": min(profile.scheduler.warmup_epochs, float(TEST_EPOCHS)),
        **{f"curriculum.{name}": int(length * share) for name, length in phases.items()},
    }


def _profile_to_resume(
    checkpoint: str, profile: str | None, config: str | None, overrides: dict[str, Any]
) -> Profile:
    """The checkpoint's own profile, unless the command line names another to go on with."""
    if profile is not None or config is not None:
        return resolve_profile(profile, config, overrides)
    from ternvae.checkpoint import load_checkpoint

    stored = usable(load_checkpoint, checkpoint)["profile"]
    if not isinstance(stored, dict):
        raise BadInputError(f"{checkpoint}: its profile is not a mapping; name one with --config")
    stored = profile_from_dict(stored, origin=checkpoint)
    return resolve_profile(base=stored, overrides=overrides)
