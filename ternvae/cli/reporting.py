"""``ternvae report``: the page of a run."""

from __future__ import annotations

import click

from ternvae.cli.completion import complete_folder
from ternvae.cli.helping import Command
from ternvae.cli.options import check_paths, device_option, option
from ternvae.cli.outcome import usable

__all__ = ["report"]


@click.command(
    cls=Command,
    examples=[
        ("ternvae report runs/mine", "make or renew runs/mine/report.html"),
        ("ternvae report runs/mine --out mine.html", "to send to somebody"),
    ],
)
@click.argument("run", metavar="RUN", shell_complete=complete_folder)
@option("--out", metavar="FILE", help="The page.  [default: report.html in the folder of the run]")
@device_option
def report(run: str, out: str | None, device: str) -> None:
    """Write the report of a run, finished or not: one page of HTML.

    RUN is its folder, or a checkpoint in it.  The page holds figures, pictures, warnings and how to
    make the run again; it can be opened, printed and sent without anything else.
    """
    from ternvae.report import write_report

    check_paths(("RUN", run), ("--out", out))
    click.echo(usable(write_report, run, out, device))
