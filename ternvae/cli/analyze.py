"""``ternvae analyze``: checkpoints, measured anew."""

from __future__ import annotations

import json

import click

from ternvae.cli.options import check_paths, device_option
from ternvae.cli.outcome import usable

__all__ = ["analyze"]


@click.command()
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True)
@device_option
@click.option("--structure", is_flag=True, help="Measure the 3-adic structure, too.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list with one object each.")
def analyze(checkpoints: tuple[str, ...], device: str, structure: bool, as_json: bool) -> None:
    """Measure checkpoints anew: metrics, ceilings, levels, checks.

    Several are compared in one table.
    """
    from ternvae.analysis import analysis_json, analysis_text, analyze, comparison_text

    check_paths(*(("CHECKPOINT", checkpoint) for checkpoint in checkpoints))
    found = [usable(analyze, checkpoint, device, structure) for checkpoint in checkpoints]
    if as_json:
        click.echo(json.dumps([analysis_json(each) for each in found], indent=2, allow_nan=False))
    elif len(found) == 1:
        click.echo(analysis_text(found[0]))
    else:
        click.echo(comparison_text(found))
