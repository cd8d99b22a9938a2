"""How help reads: commands with examples, headings that stand out, the keys of a profile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from ternvae.cli.colour import painted
from ternvae.config import DEFAULT_PROFILE, Profile, profile_keys, resolve_profile
from ternvae.config.suggestions import did_you_mean, nearest

__all__ = ["Command", "Group", "key_sections", "keys_chosen", "values_of_key", "write_keys"]


#: Names of bounds in pydantic's metadata.
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


class _Formatter(click.HelpFormatter):
    def write_heading(self, heading: str) -> None:
        super().write_heading(painted(heading, bold=True))


class _Context(click.Context):
    formatter_class = _Formatter


class Command(click.Command):
    """A command whose help ends with examples.

    Args:
        examples: command lines, each with what it does.
    """

    context_class = _Context

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_examples(formatter, self._examples)


class Group(click.Group):
    """Commands, listed as they were added, and examples."""

    context_class = _Context

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._examples = examples

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in order."""
        return list(self.commands)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, and what an exit status means."""
        write_examples(formatter, self._examples)
        super().format_epilog(ctx, formatter)


def write_examples(formatter: click.HelpFormatter, examples: Sequence[tuple[str, str]]) -> None:
    """Write command lines, each under what it does; they are not broken, so they can be copied."""
    if not examples:
        return
    with formatter.section("Examples"):
        for command, purpose in examples:
            formatter.write_text(f"# {purpose}")
            formatter.write(f"{'':>{formatter.current_indent}}{command}\n")


# --- the keys of a profile ------------------------------------------------------------------


def key_sections() -> dict[str, str]:
    """What each section is about, in order."""
    sections = {key.partition(".")[0] for key in profile_keys() if "." in key}
    return {
        name: info.description or ""
        for name, info in Profile.model_fields.items()
        if name in sections
    }


def keys_chosen(chosen: str) -> list[str]:
    """All dotted keys ("all"), those of a section, or the one of that name.

    Raises:
        click.UsageError: there is none.
    """
    keys = list(profile_keys())
    found = [
        key for key in keys if chosen == "all" or key == chosen or key.startswith(f"{chosen}.")
    ]
    if not found:
        near = nearest(chosen, [*key_sections(), *keys])
        hint = did_you_mean([near]) if near else f"choose from {', '.join(key_sections())}"
        raise click.UsageError(f"--help-keys: no section or key {chosen!r}; {hint}")
    return found


def write_keys(formatter: click.HelpFormatter, chosen: Sequence[str]) -> None:
    """Write keys, section by section, with type, bounds and defaults."""
    fields, shipped = profile_keys(), resolve_profile().to_dict()
    titles = {name: f"{name}: {text}" for name, text in key_sections().items()}
    by_section: dict[str, list[tuple[str, str]]] = {}
    for key in chosen:
        section, _, name = key.rpartition(".")
        value = (shipped[section] if section else shipped)[name]
        row = (f"--{key} {_metavar(fields[key])}", _told(fields[key], value))
        by_section.setdefault(titles.get(section, "The run"), []).append(row)
    for title, rows in by_section.items():
        with formatter.section(title):
            formatter.write_dl(rows, col_max=38)


def values_of_key(info: FieldInfo) -> list[str]:
    """What can stand after a key, if that is one of a few words."""
    if info.annotation is bool:
        return ["true", "false"]
    return list(get_args(info.annotation)) if get_origin(info.annotation) is Literal else []


def _metavar(info: FieldInfo) -> str:
    if words := values_of_key(info):
        return "|".join(words)
    kinds = get_args(info.annotation) or (info.annotation,)
    return "N" if int in kinds else "X" if float in kinds else "TEXT"


def _told(info: FieldInfo, in_default_profile: object) -> str:
    """Description, bounds, default, and what the default profile sets if that is another value."""
    facts = [_bounds(info), f"default: {_as_written(info.default)}"]
    # What it is called and what it is for differ in every profile, which says nothing.
    if in_default_profile != info.default and not isinstance(in_default_profile, str):
        facts.append(f"{DEFAULT_PROFILE}: {_as_written(in_default_profile)}")
    return f"{info.description}  [{'; '.join(filter(None, facts))}]"


def _bounds(info: FieldInfo) -> str:
    return ", ".join(
        f"{sign} {bound:,}"
        for each in info.metadata
        for name, sign in _SIGNS.items()
        if (bound := getattr(each, name, None)) is not None
    )


def _as_written(value: object) -> str:
    """A value as it would be written in a profile."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value) or "none"
