"""The program: its commands, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import click

from ternvae import __version__
from ternvae.cli.analyze import analyze
from ternvae.cli.completion import completion
from ternvae.cli.helping import Group
from ternvae.cli.outcome import BadInputError, complain, discard, interrupted
from ternvae.cli.plotting import plot
from ternvae.cli.profiles import profiles
from ternvae.cli.reporting import report
from ternvae.cli.together import taking_part
from ternvae.cli.train import train
from ternvae.cli.validate import validate
from ternvae.config import ProfileError
from ternvae.config.errors import one_line

__all__ = ["cli", "main"]


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=[
        ("ternvae validate", "is this installation sound?"),
        ("ternvae train --test-mode", "five epochs, to see it work"),
        ("ternvae train --run-dir runs/mine", "the real thing, ten seconds on two cores"),
        ("ternvae analyze runs/mine/checkpoints/best_Q.pt", "measure it anew"),
    ],
    epilog="Exit status: 0 done; 1 a check of validate failed; 2 bad input; 3 training stopped "
    "itself; 130 interrupted, with the state saved.",
)
@click.version_option(__version__, prog_name="ternvae")
def cli() -> None:
    """Hierarchical representation learning over the 3-adic numbers.

    Each command has a --help of its own.
    """


#: In the order of the help.
for _command in (train, plot, analyze, report, validate, profiles, completion):
    cli.add_command(_command)


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
        discard(sys.stdout)
        return 0
    return status if isinstance(status, int) else 0
