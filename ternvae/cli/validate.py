"""``ternvae validate``: the checks of the installation and of the mathematics."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ternvae.cli.colour import verdicts_painted
from ternvae.cli.helping import Command
from ternvae.cli.options import device_option, json_option, quiet_option
from ternvae.cli.outcome import CHECK_FAILED, usable
from ternvae.cli.watching import counted, say

__all__ = ["validate"]


@click.command(
    cls=Command,
    examples=[
        ("ternvae validate", "all checks, on a GPU if there is one"),
        ("ternvae validate --quiet || echo broken", "in a script"),
    ],
)
@device_option
@quiet_option("Print the checks that fail, and nothing else.")
@json_option("Print one JSON object per check and line.")
def validate(device: str, quiet: bool, as_json: bool) -> int:
    """Check the installation and the mathematics.

    One PASS or FAIL line for each check.  Exit status 1 if a check fails.
    """
    from ternvae.training.device import choose_device
    from ternvae.validation import GROUPS, check_line, run_checks

    failed = total = 0
    expected = sum(map(len, GROUPS.values()))
    with counted("check", expected, shown=not quiet) as advance:
        for check in run_checks(usable(choose_device, device)):
            total += 1
            failed += not check.passed
            if not (quiet and check.passed):
                line = json.dumps(asdict(check)) if as_json else verdicts_painted(check_line(check))
                say(line)
            advance(1)
    if not as_json and not quiet:
        click.echo(f"{total} checks: {f'{failed} failed' if failed else 'all passed'}")
    return CHECK_FAILED if failed else 0
