"""``ternvae completion``, and what the shell is told when Tab is pressed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from ternvae.cli.helping import Command, key_sections, values_of_key
from ternvae.config import available_profiles, profile_keys

__all__ = [
    "complete_checkpoint",
    "complete_device",
    "complete_file",
    "complete_folder",
    "complete_key",
    "complete_profile",
    "complete_section",
    "completion",
]

#: Where a run without --run-dir goes, and what is in it.
CHECKPOINTS = "runs/*/checkpoints/*.pt"


@click.command(
    cls=Command,
    examples=[
        ('eval "$(ternvae completion bash)"', "in ~/.bashrc (with zsh in ~/.zshrc)"),
        ("ternvae completion fish > ~/.config/fish/completions/ternvae.fish", "for fish, once"),
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that lets a shell complete commands.

    It completes commands, options, profiles, keys of a profile with their values, and checkpoints.
    """
    from ternvae.cli.commands import cli

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - the three are part of click
    click.echo(made(cli, {}, "ternvae", "_TERNVAE_COMPLETE").source())


def _beginning(texts: Mapping[str, str], start: str) -> list[CompletionItem]:
    return [CompletionItem(n, help=text) for n, text in texts.items() if n.startswith(start)]


def complete_profile(
    ctx: click.Context, param: click.Parameter, start: str
) -> list[CompletionItem]:
    """Names of shipped profiles, each with what it is for."""
    return _beginning(available_profiles(), start)


def complete_section(
    ctx: click.Context, param: click.Parameter, start: str
) -> list[CompletionItem]:
    """Names of sections."""
    return _beginning(key_sections(), start)


def complete_checkpoint(
    ctx: click.Context, param: click.Parameter, start: str
) -> list[CompletionItem]:
    """Checkpoints of runs in the usual place; failing those, files."""
    found = [path.as_posix() for path in sorted(Path().glob(CHECKPOINTS))]
    items = [CompletionItem(path) for path in found if path.startswith(start)]
    return items or [CompletionItem(start, type="file")]


def complete_device(ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    """What a device can be called; how many there are, only torch knows, which takes a second."""
    return [CompletionItem(name) for name in ("auto", "cpu", "cuda") if name.startswith(start)]


def complete_file(ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    """Files, as the shell knows them."""
    return [CompletionItem(start, type="file")]


def complete_folder(ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    """Folders, as the shell knows them."""
    return [CompletionItem(start, type="dir")]


def complete_key(ctx: click.Context, start: str) -> list[CompletionItem]:
    """``--SECTION.KEY``, or what can stand after the one that was written last."""
    keys = profile_keys()
    if start.startswith("-"):
        return [
            CompletionItem(f"--{key}", help=info.description)
            for key, info in keys.items()
            if f"--{key}".startswith(start)
        ]
    last = keys.get(ctx.args[-1].removeprefix("--")) if ctx.args else None
    return [CompletionItem(v) for v in values_of_key(last) if v.startswith(start)] if last else []
