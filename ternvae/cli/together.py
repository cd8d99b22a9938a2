"""One program in several processes, as torchrun starts them: one of them speaks for all."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from ternvae.cli.outcome import STOPPED_ITSELF, BadInputError, complain, several

__all__ = ["in_step", "taking_part"]


def taking_part(arguments: Sequence[str], run: Callable[[], int]) -> int:
    """Run the program, if it trains, as one of the processes that there are.

    They meet before anything can be wrong, and part when the first of them has said what is: as
    soon as one of them ends with an error, torchrun ends the others.  Of several processes, this
    function does not return.

    Args:
        arguments: of the command line.
        run: gives the exit status.
    """
    if not several() or list(arguments[:1]) != ["train"]:
        return run()
    from ternvae.training.processes import LostProcessError, Processes

    try:
        processes = Processes.joined()
    except ValueError as error:
        return complain(str(error), for_all=False)
    except LostProcessError as error:
        return complain(str(error), STOPPED_ITSELF, for_all=False)
    try:
        status = run()
        processes.close()
    except LostProcessError as error:
        status = complain(str(error), STOPPED_ITSELF)
    except Exception:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody may be listening any more
            stream.flush()
    # Threads of gloo outlive the connection.  One that lets go of a tensor while Python is being
    # taken down aborts the process, so Python is not taken down.
    os._exit(status)


@contextmanager
def in_step() -> Iterator[None]:
    """A block that all of the processes get through, or none; alone, nothing.

    Raises:
        BadInputError: another process did not.
    """
    if not several():
        yield
        return
    from ternvae.training.processes import OtherProcessError, Processes

    try:
        with Processes.joined().together():
            yield
    except OtherProcessError as error:
        raise BadInputError(str(error)) from error
