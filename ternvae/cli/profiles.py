"""``ternvae profiles``: what ships, printed, written out, described."""

from __future__ import annotations

import json

import click

from ternvae.config import (
    available_profiles,
    profile_json_schema,
    profile_template,
    profile_text,
    resolve_profile,
)

__all__ = ["profiles"]


@click.command()
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
