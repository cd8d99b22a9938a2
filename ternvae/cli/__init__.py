"""The command line.

Exit status: 0 done; 1 a check of ``ternvae validate`` failed; 2 bad input, one line per problem on
standard error; 3 training stopped itself; 130, 143 or 129 interrupted by Ctrl-C, SIGTERM or SIGHUP,
with the state saved.
"""

from ternvae.cli.commands import cli, main

__all__ = ["cli", "main"]
