"""``ternvae profiles``: what ships, printed, written out, described."""

from __future__ import annotations

import json

import click

from ternvae.cli.completion import complete_profile
from ternvae.cli.helping import Command
from ternvae.cli.options import json_option
from ternvae.config import (
    available_profiles,
    profile_json_schema,
    profile_template,
    profile_text,
    resolve_profile,
)

__all__ = ["profiles"]


@click.command(
    cls=Command,
    examples=[
        ("ternvae profiles", "what there is"),
        ("ternvae profiles mathematical_foundation --full > mine.yaml", "make your own"),
        ("ternvae profiles coverage_focused --json", "every key and its value, for a script"),
    ],
)
@click.argument("name", required=False, shell_complete=complete_profile)
@click.option("--full", is_flag=True, help="Print every key, each under its description.")
@json_option("Print JSON: the list, or every key of the profile NAME.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of a profile file.")
def profiles(name: str | None, full: bool, as_json: bool, schema: bool) -> None:
    """List the shipped profiles, or print one as it stands."""
    if schema:
        if name is not None or full:
            other = repr(name) if name is not None else "--full"
            raise click.UsageError(f"--schema takes no profile name (got {other})")
        click.echo(json.dumps(profile_json_schema(), indent=2))
    elif as_json:
        shown = resolve_profile(name).to_dict() if name is not None or full else _listed()
        click.echo(json.dumps(shown, indent=2))
    elif full:
        click.echo(profile_template(resolve_profile(name)), nl=False)
    elif name is not None:
        click.echo(profile_text(name), nl=False)
    else:
        shipped = available_profiles()
        width = max(map(len, shipped))
        for each, description in shipped.items():
            click.echo(f"{each:<{width}}  {description}")


def _listed() -> list[dict[str, str]]:
    return [{"name": name, "description": text} for name, text in available_profiles().items()]
