from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ternvae.config import (
    Profile,
    ProfileError,
    load_profile,
    profile_from_dict,
    profile_keys,
    resolve_profile,
)
from tests.config.conftest import WriteProfile

TOKENS = [*"{}[]:,-?&*!|>'\"%@`#~. \n\t\\", "\n  ", ": ", "- ", "<<", "---\n", "...", "&a ", "*a"]
TOKENS += ["!!python/name:x ", "1e-3", ".nan", "true", "\x85", "\u2028", "\ufeff", "\0", "😀"]
TOKENS += ["training", "lr", "seed", "targets", "%YAML 1.2\n", "%TAG ! x\n", "\\x", '"\\u12', "!<"]
garbage = st.lists(st.sampled_from(TOKENS), max_size=25).map("".join)


@given(
    content=garbage.map(str.encode)
    | st.binary(max_size=60)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(str.encode)
)
@example(content=b"!<")
@example(content=b"%TAG ! tag:x,2000:\n--- !")
def test_garbage_raises_nothing_but_a_profile_error(
    content: bytes, write_profile: WriteProfile
) -> None:
    path = write_profile(content)
    try:
        assert isinstance(load_profile(path), Profile)
    except ProfileError as error:
        lines = str(error).split("\n")
        assert len(lines) == len(error.problems) >= 1
        assert all(line.isprintable() and line.startswith(f"{path}:") for line in lines)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.sampled_from(TOKENS), inner)
    ),
    max_leaves=8,
)


@given(
    values=st.dictionaries(
        st.sampled_from([*profile_keys(), "training", "space", "x", "training."]) | st.text(),
        anything,
        max_size=6,
    ),
    typed=st.booleans(),
)
def test_any_dict_raises_nothing_but_a_profile_error(values: dict[str, Any], typed: bool) -> None:
    try:
        profile = resolve_profile(overrides=values) if typed else profile_from_dict(values)
        assert isinstance(profile, Profile)
    except ProfileError as error:
        assert len(str(error).split("\n")) == len(error.problems) >= 1
        assert str(error).replace("\n", "").isprintable()
