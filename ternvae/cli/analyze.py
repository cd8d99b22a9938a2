"""``ternvae analyze``: checkpoints, measured anew."""

from __future__ import annotations

import json

import click

from ternvae.cli.colour import verdicts_painted
from ternvae.cli.completion import complete_checkpoint
from ternvae.cli.helping import Command
from ternvae.cli.options import check_paths, device_option, json_option
from ternvae.cli.outcome import usable
from ternvae.cli.watching import counted

__all__ = ["analyze"]


@click.command(
    cls=Command,
    examples=[
        ("ternvae analyze runs/mine/checkpoints/best_Q.pt", "one, in full"),
        ("ternvae analyze runs/*/checkpoints/best_Q.pt", "several, side by side"),
        ("ternvae analyze runs/mine/checkpoints/best_Q.pt --json", "for a script"),
    ],
)
@click.argument(
    "checkpoints",
    metavar="CHECKPOINT...",
    nargs=-1,
    required=True,
    shell_complete=complete_checkpoint,
)
@device_option
@click.option("--structure", is_flag=True, help="Measure the 3-adic structure, too.")
@json_option("Print a JSON list with one object for each checkpoint.")
def analyze(checkpoints: tuple[str, ...], device: str, structure: bool, as_json: bool) -> None:
    """Measure checkpoints anew: metrics, ceilings, levels, checks.

    Several are compared in one table.
    """
    from ternvae.analysis import analysis_json, analysis_text, analyze, comparison_text

    check_paths(*(("CHECKPOINT", checkpoint) for checkpoint in checkpoints))
    with counted("sequence") as advance:
        found = [
            usable(analyze, checkpoint, device, structure, progress=advance)
            for checkpoint in checkpoints
        ]
    if as_json:
        click.echo(json.dumps([analysis_json(each) for each in found], indent=2, allow_nan=False))
    else:
        text = analysis_text(found[0]) if len(found) == 1 else comparison_text(found)
        click.echo(verdicts_painted(text))
