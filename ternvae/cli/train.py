"""``ternvae train``: what is asked for, made a profile and a folder."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ternvae.cli.completion import (
    complete_checkpoint,
    complete_file,
    complete_folder,
    complete_key,
    complete_profile,
    complete_section,
)
from ternvae.cli.helping import Command, key_sections, keys_chosen, write_keys
from ternvae.cli.options import check_paths, device_option, json_option, option, quiet_option
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


class _Train(Command):
    """Shows the keys of a profile, which are options in all but their number."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        rows = [("--seed, --name, --description", "What run it is")]
        rows += [(f"--{name}.KEY", text) for name, text in key_sections().items()]
        with formatter.section("Keys of a profile (each of them: --help-keys)"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [*super().shell_complete(ctx, incomplete), *complete_key(ctx, incomplete)]


def _help_keys(ctx: click.Context, param: click.Parameter, chosen: str | None) -> None:
    if chosen is None or ctx.resilient_parsing:
        return
    formatter = ctx.make_formatter()
    write_keys(formatter, keys_chosen(chosen))
    click.echo(formatter.getvalue().rstrip("\n"))
    ctx.exit()


@click.command(
    cls=_Train,
    options_metavar="[OPTIONS] [--SECTION.KEY VALUE]...",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    examples=[
        ("ternvae train", "the default profile, into a new folder in runs/"),
        ("ternvae train --profile hierarchy_focused --seed 3 --run-dir runs/mine", "another one"),
        ("ternvae train --space.n_digits 6 --training.batch_size 243", "a space of 3^6 sequences"),
        ("ternvae train --checkpoint runs/mine/checkpoints/last.pt", "go on with a run"),
        ("ternvae train --help-keys training", "what --training.KEY can be"),
        (
            'best=$(ternvae train --quiet --run-dir runs/mine) && ternvae analyze "$best"',
            "a script",
        ),
    ],
)
@option(
    "--profile",
    metavar="NAME",
    help=f"Shipped profile.  [default: {DEFAULT_PROFILE}]",
    shell_complete=complete_profile,
)
@option(
    "--config",
    metavar="FILE",
    help="YAML file of overrides; wins over the profile.",
    shell_complete=complete_file,
)
@click.option("--test-mode", is_flag=True, help="Five epochs, all metrics after each.")
@option("--seed", metavar="N", help="Seed of every random draw of the run.  [default: 0]")
@option(
    "--run-dir",
    metavar="DIR",
    help="Folder of the run.  [default: a new one in runs/]",
    shell_complete=complete_folder,
)
@option(
    "--checkpoint",
    metavar="FILE",
    help="Go on from this checkpoint of an earlier run.",
    shell_complete=complete_checkpoint,
)
@device_option
@quiet_option("Print the path of the best checkpoint alone; warnings and errors on stderr.")
@json_option("Print one JSON object at the end; what is said on the way, on stderr.")
@click.option(
    "--help-keys",
    metavar="[SECTION]",
    is_flag=False,
    flag_value="all",
    is_eager=True,
    expose_value=False,
    callback=_help_keys,
    shell_complete=complete_section,
    help="Show all keys of a profile, or those of a section, and exit.",
)
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
    quiet: bool,
    as_json: bool,
) -> int:
    """Train a model and keep the run in a folder.

    Every key of a profile can be set, too: --training.lr 1e-3.  Precedence: defaults < profile <
    config file < command line.
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
    return run(resolved, folder, device, checkpoint, quiet=quiet, as_json=as_json)


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
    place = Path(checkpoint).parent
    if place.name != "checkpoints":
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
