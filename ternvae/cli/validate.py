"""``ternvae validate``: the checks of the installation and of the mathematics."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ternvae.cli.options import device_option
from ternvae.cli.outcome import CHECK_FAILED, usable

__all__ = ["validate"]


@click.command()
@device_option
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
