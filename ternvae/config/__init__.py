"""Profiles: what a training run is told, checked before anything heavy is imported.

`load_profile` gives a `Profile`, immutable and valid, or a `ProfileError` that lists every problem
with its place. Nothing else influences a profile, no environment variable in particular.
"""

from ternvae.config.errors import Problem, ProfileError
from ternvae.config.layers import DEFAULT_PROFILE, profile_keys
from ternvae.config.loading import (
    available_profiles,
    load_profile,
    profile_from_dict,
    profile_text,
    resolve_profile,
)
from ternvae.config.profile import Profile, profile_json_schema
from ternvae.config.template import profile_template

__all__ = [
    "DEFAULT_PROFILE",
    "Problem",
    "Profile",
    "ProfileError",
    "available_profiles",
    "load_profile",
    "profile_from_dict",
    "profile_json_schema",
    "profile_keys",
    "profile_template",
    "profile_text",
    "resolve_profile",
]
