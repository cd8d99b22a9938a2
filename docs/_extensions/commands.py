"""The reference of the command line, from the commands themselves.

``<!-- commands -->`` in a page becomes a section for each command: usage, text, options.
"""

import inspect
from collections.abc import Iterator
from typing import Any

import click
from sphinx.application import Sphinx

from ternvae.cli import cli

MARK = "<!-- commands -->"


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", _put_in_the_commands)
    return {"version": "1", "parallel_read_safe": True}


def _put_in_the_commands(app: Sphinx, page: str, source: list[str]) -> None:
    if MARK in source[0]:
        source[0] = source[0].replace(MARK, "\n".join(reference(cli)))


def reference(group: click.Group) -> Iterator[str]:
    """Lines of Markdown, in the order of the program's own help."""
    whole = click.Context(group, info_name="ternvae")
    for name in group.list_commands(whole):
        command = group.get_command(whole, name)
        if command is not None and not command.hidden:
            yield from _section(command, click.Context(command, info_name=name, parent=whole))


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    yield from (f"## {context.command_path}", "")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield from ("```text", usage, "```", "")
    yield from (_plain(inspect.cleandoc(command.help or "")), "")
    yield from ("| option | does |", "|---|---|")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            name = record[0].replace("|", r"\|")  # a bar would end the cell, even in code
            yield f"| `{name}` | {_cell(record[1])} |"
    yield ""
    # What stands below the options: keys of a profile, examples.
    formatter = click.HelpFormatter(width=92)
    command.format_epilog(context, formatter)
    if below := click.unstyle(formatter.getvalue()).strip("\n"):
        yield from ("```text", below, "```", "")


def _plain(text: str) -> str:
    r"""Without click's mark of a paragraph that is not to be wrapped."""
    return text.replace("\b\n", "")


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")
