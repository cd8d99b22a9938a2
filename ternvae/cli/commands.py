"""The commands: arguments first, torch only inside the command that needs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import click

from ternvae import __version__
from ternvae.cli.outcome import (
    CHECK_FAILED,
    BadInputError,
    complain,
    discard_standard_output,
    interrupted,
    usable,
)
from ternvae.cli.running import run
from ternvae.cli.together import in_step, taking_part
from ternvae.config import (
    DEFAULT_PROFILE,
    Profile,
    ProfileError,
    available_profiles,
    profile_from_dict,
    profile_json_schema,
    profile_keys,
    profile_template,
    profile_text,
    resolve_profile,
)
from ternvae.config.errors import one_line
from ternvae.config.sections import LONGEST_PATH

__all__ = ["cli", "main"]

#: Length of a run in ``--test-mode``, unless the command line says otherwise.
TEST_EPOCHS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status.

    Args:
        arguments: as on the command line, without the program's name; default ``sys.argv[1:]``.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    return taking_part(given, partial(_status_of, given))


def _status_of(arguments: list[str]) -> int:
    try:
        status = cli.main(args=arguments, prog_name="ternvae", standalone_mode=False)
    except click.ClickException as error:
        return complain(f"command line: {one_line(error.format_message())}")
    except (BadInputError, ProfileError) as error:
        return complain(str(error))
    except (click.Abort, KeyboardInterrupt):
        return interrupted()
    except BrokenPipeError:
        # The reader has gone; keep Python from complaining about it once more at exit.
        discard_standard_output()
        return 0
    return status if isinstance(status, int) else 0


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


def _once(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> str | None:
    """The value of an option; click itself takes the last of several without a word."""
    if len(given) > 1:
        raise click.UsageError(f"{option.opts[0]} is given twice")
    return given[0] if given else None


_option = partial(click.option, multiple=True, callback=_once)

_device_option = _option(
    "--device",
    metavar="DEVICE",
    default=["auto"],
    help="auto (CUDA where there is one), cpu, cuda or cuda:N.  [default: auto]",
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ternvae")
def cli() -> None:
    """Hierarchical representation learning over the 3-adic numbers."""


@cli.command(
    cls=_TrainCommand,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@_option("--config", metavar="FILE", help="YAML file of overrides; wins over the profile.")
@_option("--profile", metavar="NAME", help=f"Shipped profile.  [default: {DEFAULT_PROFILE}]")
@click.option("--test-mode", is_flag=True, help="Five epochs, all metrics after each.")
@_option("--checkpoint", metavar="FILE", help="Go on from this checkpoint of an earlier run.")
@_option("--run-dir", metavar="DIR", help="Folder of the run.  [default: a new one in runs/]")
@_option("--seed", metavar="N", help="Seed of every random draw of the run.")
@_device_option
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
        _check_paths(("--config", config), ("--checkpoint", checkpoint), ("--run-dir", run_dir))
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


@cli.command()
@_device_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per check and line.")
def validate(device: str, as_json: bool) -> int:
    """Check the installation and the mathematics, one PASS or FAIL line each.

    Exit status 1 if a check fails.
    """
    from ternvae.training.device import choose_device
    from ternvae.validation import check_line, run_checks

    failed = total = 0
    for check in run_checks(usable(choose_device, device)):
        total += 1
        failed += not check.passed
        click.echo(json.dumps(asdict(check)) if as_json else check_line(check))
    if not as_json:
        click.echo(f"{total} checks: {f'{failed} failed' if failed else 'all passed'}")
    return CHECK_FAILED if failed else 0


@cli.command()
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True)
@_device_option
@click.option("--structure", is_flag=True, help="Measure the 3-adic structure, too.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list with one object each.")
def analyze(checkpoints: tuple[str, ...], device: str, structure: bool, as_json: bool) -> None:
    """Measure checkpoints anew: metrics, ceilings, levels, checks.

    Several are compared in one table.
    """
    from ternvae.analysis import analysis_json, analysis_text, analyze, comparison_text

    _check_paths(*(("CHECKPOINT", checkpoint) for checkpoint in checkpoints))
    found = [usable(analyze, checkpoint, device, structure) for checkpoint in checkpoints]
    if as_json:
        click.echo(json.dumps([analysis_json(each) for each in found], indent=2, allow_nan=False))
    elif len(found) == 1:
        click.echo(analysis_text(found[0]))
    else:
        click.echo(comparison_text(found))


@cli.command()
@click.argument("name", required=False)
@click.option("--full", is_flag=True, help="Print every key, each under its description.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of a profile file.")
def profiles(name: str | None, full: bool, schema: bool) -> None:
    """List the shipped profiles, or print one as it stands.

    To make your own: ternvae profiles mathematical_foundation --full > mine.yaml
    """
    if schema:
        if name is not None or full:
            other = repr(name) if name is not None else "--full"
            raise click.UsageError(f"--schema takes no profile name (got {other})")
        click.echo(json.dumps(profile_json_schema(), indent=2))
    elif full:
        click.echo(profile_template(resolve_profile(name)), nl=False)
    elif name is not None:
        click.echo(profile_text(name), nl=False)
    else:
        shipped = available_profiles()
        width = max(map(len, shipped))
        for each, description in shipped.items():
            click.echo(f"{each:<{width}}  {description}")


def _check_paths(*paths: tuple[str, str | None]) -> None:
    """Refuse paths that name nothing or would not be shown as they are; each with its option."""
    for option, path in paths:
        if path == "":
            raise BadInputError(f"command line: {option}: must not be empty (got '')")
        if path is not None and len(path) > LONGEST_PATH:
            raise BadInputError(
                f"command line: {option}: is longer than {LONGEST_PATH} characters "
                f"(got {path[:20]!r}...)"
            )
        if bad := next((c for c in path or "" if not c.isprintable()), None):
            raise BadInputError(
                f"command line: {option}: must not contain the character U+{ord(bad):04X} "
                f"(got {path!r})"
            )


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
