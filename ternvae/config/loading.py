"""From names, files and overrides to a profile: defaults < profile < config file < command line."""

import os
from collections.abc import Mapping
from typing import Any

from ternvae.config.errors import ProfileError, checked_text, shown
from ternvae.config.layers import DEFAULT_PROFILE, Layers, shipped_profiles, unknown_profile
from ternvae.config.profile import Profile


def load_profile(
    name_or_path: str | os.PathLike[str] = DEFAULT_PROFILE,
    overrides: Mapping[str, Any] | None = None,
) -> Profile:
    """Loads a shipped profile or a profile file.

    Args:
        name_or_path: Name of a shipped profile, or a file: anything with a path separator or
            the suffix .yaml or .yml, and every `os.PathLike`. A file may be partial; keys that
            it does not set keep their defaults.
        overrides: Values that win over the file's, nested (`{"training": {"lr": 1e-4}}`) or
            dotted (`{"training.lr": 1e-4}`). Values are taken as they are: "1" is no number.

    Returns:
        The profile.

    Raises:
        ProfileError: Naming every problem and its place.
        TypeError: If an argument is of the wrong type.
    """
    return Layers().source(name_or_path).values(overrides, "overrides").profile()


def resolve_profile(
    profile: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    base: Profile | None = None,
    overrides_origin: str = "command line",
) -> Profile:
    """Resolves what a command line asks for: defaults < profile < config file < overrides.

    Args:
        profile: As in `load_profile`; None is `base`, and without one `mathematical_foundation`.
        config: A file, possibly partial, whatever its name looks like.
        overrides: As in `load_profile`, except that text for a key that takes no text is read
            as an unquoted YAML scalar: "1e-3" is a number, "true" a truth value, "null" nothing.
        base: A profile to start from, such as that of a checkpoint, in place of a named one.
        overrides_origin: The place that messages about the overrides name.

    Returns:
        The profile.

    Raises:
        ProfileError: Naming every problem and its place.
        ValueError: If both `profile` and `base` are given.
        TypeError: If an argument is of the wrong type.
    """
    checked_text("overrides_origin", overrides_origin)
    if base is not None and not isinstance(base, Profile):
        raise TypeError(f"base must be a Profile, as load_profile gives, got {shown(base)}")
    if base is None:
        layers = Layers().source(DEFAULT_PROFILE if profile is None else profile)
    elif profile is None:
        layers = Layers().values(base.to_dict(), "base")
    else:
        raise ValueError(
            f"profile and base exclude each other, got profile={shown(profile)} and a base;"
            " leave one of them out"
        )
    if config is not None:
        layers.file(config)
    return layers.values(overrides, overrides_origin, typed=True).profile()


def profile_from_dict(values: Mapping[str, Any], *, origin: str = "profile") -> Profile:
    """Rebuilds a profile from nested or dotted values, such as `Profile.to_dict` gives.

    Args:
        values: The values; keys that are not set keep their defaults.
        origin: The place that messages name.

    Returns:
        The profile.

    Raises:
        ProfileError: Naming every problem.
        TypeError: If `values` is not a mapping, or `origin` not a text.
    """
    checked_text("origin", origin)
    if values is None:
        raise TypeError(f"{origin} must be a mapping of keys to values, got None")
    return Layers().values(values, origin).profile()


def available_profiles() -> dict[str, str]:
    """Names and descriptions of the shipped profiles, the default one first."""
    return {name: load_profile(name).description for name in shipped_profiles()}


def profile_text(name: str) -> str:
    """The YAML text of a shipped profile, comments included.

    Args:
        name: One of `available_profiles`.

    Returns:
        The text.

    Raises:
        ProfileError: If no such profile is shipped.
        TypeError: If the name is not a text.
    """
    checked_text("name", name)
    shipped = shipped_profiles()
    if name not in shipped:
        raise ProfileError([unknown_profile(name)])
    return shipped[name].read_text(encoding="utf-8")
