"""A profile written out in full: every key with its value, under its description."""

import textwrap

import yaml

from ternvae.config.errors import shown
from ternvae.config.layers import profile_keys
from ternvae.config.profile import Profile
from ternvae.config.scalars import ProfileDumper

_WIDTH = 96


def profile_template(profile: Profile) -> str:
    """The text of a file to copy and edit; loaded as it is, it gives the same profile.

    Args:
        profile: Whose values to write.

    Returns:
        YAML with a comment above each key.

    Raises:
        TypeError: If it is not a profile.
    """
    if not isinstance(profile, Profile):
        raise TypeError(f"profile must be a Profile, as load_profile gives, got {shown(profile)}")
    values = profile.to_dict()
    lines: list[str] = []
    current = ""
    for key, info in profile_keys().items():
        section, _, name = key.rpartition(".")
        if section != current:
            lines += ["", f"{section}:"]
            current = section
        value = values[section][name] if section else values[name]
        indent = "  " if section else ""
        comment = f"{indent}# "
        lines += textwrap.wrap(
            info.description or "", _WIDTH, initial_indent=comment, subsequent_indent=comment
        )
        # As the whole mapping, so that a text of several lines is indented as it must be.
        written = yaml.dump({name: value}, Dumper=ProfileDumper, allow_unicode=True, width=10**6)
        lines += textwrap.indent(written, indent).splitlines()
    return "\n".join(lines) + "\n"
