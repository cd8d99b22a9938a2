import math
import re
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ternvae.config import (
    DEFAULT_PROFILE,
    Profile,
    ProfileError,
    available_profiles,
    load_profile,
    profile_from_dict,
    profile_keys,
    profile_template,
    profile_text,
)
from ternvae.config.conflicts import conflicts
from ternvae.config.scalars import ProfileDumper, scalar
from tests.config.conftest import WriteProfile

SHIPPED = [DEFAULT_PROFILE, "coverage_focused", "hierarchy_focused", "richness_focused"]


TRICKY = ["1e3", "5.e1", "0o7", "010", "no", "null", "~", "", " ", "- a", "a: b", "#", "<<", "'"]
TRICKY += ['"', "é \n\n x\n", "1_0", ".inf", "{", "&a", "2026-01-10", "True", "!x", "? a", "---"]


def bounds(key: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for constraint in profile_keys()[key].metadata:
        for name in ("gt", "ge", "lt", "le"):
            if hasattr(constraint, name):
                found[name] = getattr(constraint, name)
    return found


def members(key: str) -> tuple[Any, ...]:
    """The types that a key takes, `float | None` being two."""
    kind = profile_keys()[key].annotation
    if isinstance(kind, type) or get_origin(kind) is Literal:
        return (kind,)
    return tuple(getattr(member, "__origin__", member) for member in get_args(kind))


def values(key: str) -> st.SearchStrategy[Any]:
    if key == "name":
        return st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
    return st.one_of([member_values(key, member) for member in members(key)])


def member_values(key: str, kind: Any) -> st.SearchStrategy[Any]:
    limit = bounds(key)
    if kind is NoneType:
        return st.none()
    if kind is bool:
        return st.booleans()
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is int:
        upper = limit.get("le", limit.get("lt", 10**9 + 1) - 1)
        return st.integers(limit["ge"], upper)
    if kind is float:
        return st.floats(
            limit.get("ge", limit.get("gt")),
            limit.get("le", limit.get("lt")),
            exclude_min="gt" in limit,
            exclude_max="lt" in limit,
            allow_infinity=False,
        )
    assert kind is str, f"no strategy for {key}: {kind}"
    plain = st.text(max_size=40).filter(lambda t: all(c.isprintable() or c == "\n" for c in t))
    text = plain | st.sampled_from(TRICKY)
    return text.filter(bool) if key == "frozen_checkpoint.path" else text


@st.composite
def partial_settings(draw: st.DrawFn) -> dict[str, Any]:
    chosen = draw(st.sets(st.sampled_from(sorted(profile_keys()))))
    return {key: draw(values(key)) for key in sorted(chosen)}


@given(settings=partial_settings())
def test_any_profile_survives_its_yaml_and_its_dict(
    settings: dict[str, Any], write_profile: WriteProfile
) -> None:
    # Values are fine one by one, so only conflicts are left; without the blamed keys there is
    # a profile in the end.
    while True:
        try:
            profile = profile_from_dict(settings)
            break
        except ProfileError as error:
            blamed = {problem.key for problem in error.problems}
            assert blamed <= set(settings)
            settings = {key: value for key, value in settings.items() if key not in blamed}
    again = load_profile(write_profile(profile.to_yaml()))
    assert again == profile
    assert again.to_yaml() == profile.to_yaml()
    assert load_profile(write_profile(profile_template(profile))) == profile
    assert profile_from_dict(profile.to_dict()) == profile
    assert hash(again) == hash(profile)
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        assert getattr(getattr(profile, section) if section else profile, name) == value


@pytest.mark.parametrize("text", TRICKY)
def test_text_that_looks_like_something_else_stays_text(
    text: str, write_profile: WriteProfile
) -> None:
    profile = profile_from_dict({"description": text})
    assert load_profile(write_profile(profile.to_yaml())) == profile


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_load_and_survive(name: str, write_profile: WriteProfile) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.description == available_profiles()[name]
    assert load_profile(write_profile(profile.to_yaml())) == profile
    assert load_profile(write_profile(profile_text(name))) == profile


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_say_why_beside_every_value(name: str) -> None:
    lines = profile_text(name).splitlines()
    leaves = [line for line in lines if line.startswith(" ")]
    assert leaves
    assert [line for line in leaves if "  # " not in line] == []


def test_the_shipped_profiles_are_these() -> None:
    assert list(available_profiles()) == SHIPPED
    assert all(available_profiles().values())


def test_the_foundation_carries_the_published_figures() -> None:
    profile = load_profile()
    weights = profile.loss_weights
    assert (weights.coverage, weights.hierarchy) == (1.0, 5.0)
    targets = profile.targets.model_dump()
    published = {"coverage": 1.0, "hierarchy_B": -0.8321, "richness": 0.006, "Q_enhanced": 2.0}
    assert published.items() <= targets.items()


def models(model: type[BaseModel]) -> list[type[BaseModel]]:
    found = [model]
    for info in model.model_fields.values():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found += models(info.annotation)
    return found


def test_every_field_is_described_and_every_model_is_strict() -> None:
    for model in models(Profile):
        assert model.__doc__
        assert model.model_config["frozen"] and model.model_config["strict"]
        assert model.model_config["extra"] == "forbid"
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name}"


@pytest.mark.parametrize("key", [k for k in profile_keys() if {int, float} & {*members(k)}])
def test_every_number_is_bounded_finite_and_no_bool(key: str) -> None:
    limit = bounds(key)
    assert "gt" in limit or "ge" in limit
    refused = [True, False, "1", [], {}, math.nan, math.inf, -math.inf, 1j, 10**400]
    if int in members(key):
        refused[-1] = 1.0
    if NoneType not in members(key):
        refused.append(None)
    refused += [limit[name] for name in ("gt", "lt") if name in limit]
    refused += [limit["ge"] - 1] if "ge" in limit else []
    refused += [limit["le"] + 1] if "le" in limit else []
    for value in refused:
        with pytest.raises(ProfileError) as caught:
            profile_from_dict({key: value})
        assert [problem.key for problem in caught.value.problems] == [key]


@pytest.mark.parametrize("key", [k for k in profile_keys() if members(k) == (bool,)])
def test_every_truth_value_is_true_or_false_and_nothing_else(key: str) -> None:
    section, _, name = key.rpartition(".")
    for value in (True, False):
        assert getattr(getattr(profile_from_dict({key: value}), section), name) is value
    refused: list[object] = [1, 0, 1.0, "true", "yes", "", None, [], {}]
    for bad in refused:
        with pytest.raises(ProfileError, match=f"{key}: expected true or false"):
            profile_from_dict({key: bad})


@pytest.mark.parametrize("bad", ["cosine", "Constant", "", "null", None, 1, True, [], {}])
def test_a_choice_is_one_of_its_names_and_nothing_else(bad: object) -> None:
    message = r"scheduler\.type: must be 'mathematical_cosine' or 'constant' \(got"
    with pytest.raises(ProfileError, match=message):
        profile_from_dict({"scheduler.type": bad})
    for good in ("mathematical_cosine", "constant"):
        assert profile_from_dict({"scheduler.type": good}).scheduler.type == good


@pytest.mark.parametrize(
    ("key", "bad", "problem"),
    [
        ("frozen_checkpoint.path", "", "must not be empty (got '')"),
        ("frozen_checkpoint.path", 5, "expected text or null (got 5)"),
        ("frozen_checkpoint.path", True, "expected text or null (got True)"),
        ("frozen_checkpoint.path", "a\0", "must not contain the character U+0000 (got 'a\\x00')"),
        ("training.encoder_a_lr_scale", "x", "expected a number or null (got 'x')"),
        ("training.encoder_a_lr_scale", True, "expected a number or null (got True)"),
        ("training.encoder_a_lr_scale", -0.1, "must be at least 0 (got -0.1)"),
        ("training.encoder_a_lr_scale", 100.1, "must be at most 100 (got 100.1)"),
    ],
)
def test_what_may_be_null_may_not_be_anything(key: str, bad: object, problem: str) -> None:
    with pytest.raises(ProfileError, match=f"^profile: {re.escape(f'{key}: {problem}')}$"):
        profile_from_dict({key: bad})


@pytest.mark.parametrize(
    ("key", "most"), [("name", 64), ("description", 1000), ("frozen_checkpoint.path", 4096)]
)
def test_texts_have_a_greatest_length(key: str, most: int) -> None:
    assert profile_from_dict({key: "a" * most})
    with pytest.raises(ProfileError, match=f"{key}: must have at most {most} characters"):
        profile_from_dict({key: "a" * (most + 1)})


def test_a_profile_cannot_be_changed() -> None:
    profile = load_profile()
    with pytest.raises(ValidationError):
        profile.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        profile.training.lr = 1.0  # type: ignore[misc]


def test_direct_construction_refuses_conflicts() -> None:
    with pytest.raises(ValidationError, match=r"a batch of 512 exceeds the 3\^2 = 9 sequences"):
        Profile.model_validate({"space": {"n_digits": 2}})


SOUND = [
    {"targets.hierarchy_B": -0.8321},
    {"targets.hierarchy_B": -0.83205},
    {"targets.hierarchy_B": -0.866, "space.n_digits": 1, "training.batch_size": 3},
    {"targets.Q_enhanced": 2.1627},
    # The ceiling 2.1650635 would round upwards.
    {"targets.Q_enhanced": 2.165, "space.n_digits": 1, "training.batch_size": 3},
    {"targets.coverage": 1.0},
    {"space.n_digits": 5, "training.batch_size": 243},
    {"scheduler.warmup_epochs": 120.0},
    {"scheduler.eta_min": 3e-3},
    {"targets.richness": 3.0198},
    {
        "curriculum.enabled": True,
        "curriculum.coverage_first_epochs": 40,
        "curriculum.hierarchy_ramp_epochs": 50,
        "curriculum.richness_preserve_epochs": 30,
    },
    # Phases that are not gone through do not have to fit.
    {"curriculum.enabled": False, "curriculum.coverage_first_epochs": 121},
    {"training.encoder_a_lr_scale": 5e-324},
    {"training.encoder_a_lr_scale": None},
    {"training.encoder_a_lr_scale": 0.0, "frozen_checkpoint.path": "a.pt"},
    {
        "training.encoder_a_lr_scale": 0.0,
        "curriculum.enabled": True,
        "curriculum.coverage_first_epochs": 1,
    },
    {"model.learnable_curvature": True},
    {"model.learnable_curvature": False, "frozen_checkpoint.path": "a.pt"},
    {
        "model.learnable_curvature": True,
        "frozen_checkpoint.path": "a.pt",
        "training.encoder_a_lr_scale": 1e-9,
    },
    {"homeostasis.Q_target": 2.1627},
    {"homeostasis.Q_target": 9.0, "homeostasis.enabled": False},
]
NEVER_LEARNED = (
    "encoder A and the decoder would be frozen without ever having been trained; give"
    " frozen_checkpoint.path, or let them learn first with curriculum.enabled true and"
    " curriculum.coverage_first_epochs above 0, or set training.encoder_a_lr_scale above 0"
)
ANOTHER_CURVATURE = (
    "the points of a frozen encoder A hold for the curvature of its checkpoint only; set"
    " model.learnable_curvature to false, or training.encoder_a_lr_scale above 0"
)
UNSOUND = [
    ({"targets.hierarchy_B": -0.83211}, "ceiling -0.8320503 at 9 digits"),
    ({"targets.hierarchy_B": -0.8661, "space.n_digits": 1, "training.batch_size": 3}, "-0.8660254"),
    ({"targets.Q_enhanced": 2.16271}, "ceiling 2.1627074 at 9 digits; ask for 2.1627 or less"),
    (
        {"targets.Q_enhanced": 2.1651, "space.n_digits": 1, "training.batch_size": 3},
        "ask for 2.165 or less",
    ),
    ({"space.n_digits": 5, "training.batch_size": 244}, "exceeds the 3^5 = 243 sequences"),
    ({"scheduler.warmup_epochs": 120.5}, "a warm-up of 120.5 epochs does not fit"),
    ({"scheduler.eta_min": 3.1e-3}, "falls from training.lr 0.003 to 0.0031"),
    ({"targets.richness": 3.0199}, "richness 3.0199 is above 3.02"),
    (
        {
            "curriculum.enabled": True,
            "curriculum.coverage_first_epochs": 40,
            "curriculum.hierarchy_ramp_epochs": 50,
            "curriculum.richness_preserve_epochs": 31,
        },
        "phases of 40 + 50 + 31 = 121 epochs do not fit into a run of 120; shorten them or raise"
        " training.epochs",
    ),
    ({"training.encoder_a_lr_scale": 0.0}, NEVER_LEARNED),
    ({"training.encoder_a_lr_scale": -0.0}, NEVER_LEARNED),
    ({"training.encoder_a_lr_scale": 0.0, "curriculum.enabled": False}, NEVER_LEARNED),
    (
        {
            "training.encoder_a_lr_scale": 0.0,
            "curriculum.enabled": True,
            "curriculum.coverage_first_epochs": 0,
        },
        NEVER_LEARNED,
    ),
    ({"training.encoder_a_lr_scale": 0.0, "frozen_checkpoint.path": None}, NEVER_LEARNED),
    ({"model.learnable_curvature": True, "frozen_checkpoint.path": "a.pt"}, ANOTHER_CURVATURE),
    (
        {
            "model.learnable_curvature": True,
            "frozen_checkpoint.path": "a.pt",
            "training.encoder_a_lr_scale": 0.0,
            "curriculum.enabled": True,
        },
        ANOTHER_CURVATURE,
    ),
    ({"homeostasis.Q_target": 2.16271}, "ceiling 2.1627074 at 9 digits; ask for 2.1627 or less"),
    (
        {
            "homeostasis.Q_target": 2.1651,
            "homeostasis.enabled": True,
            "space.n_digits": 1,
            "training.batch_size": 3,
        },
        "2.1651 is above the ceiling 2.1650635 at 1 digits; ask for 2.165 or less",
    ),
]


@pytest.mark.parametrize("settings", SOUND)
def test_the_last_possible_value_is_accepted(settings: dict[str, Any]) -> None:
    assert conflicts(profile_from_dict(settings)) == []


@pytest.mark.parametrize(("settings", "reason"), UNSOUND)
def test_the_first_impossible_value_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProfileError) as caught:
        profile_from_dict(settings)
    assert len(caught.value.problems) == 1
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("8.0e-4", 0.0008),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("+5", 5),
        ("-0", 0),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("~", None),
        ("", None),
        ("NULL", None),
        ("True", True),
        ("false", False),
        ("-.inf", -math.inf),
        ("1e999", math.inf),
        ("no", "no"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-01-10", "2026-01-10"),
        ("tRUE", "tRUE"),
        ("-0x1F", "-0x1F"),
        ("1e", "1e"),
        (".", "."),
        ("٣", "٣"),
        ("1\n", "1\n"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    read = scalar(text)
    assert read == value
    assert type(read) is type(value)


def test_not_a_number_is_read_as_such() -> None:
    assert math.isnan(scalar(".nan"))  # type: ignore[arg-type]


@given(st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none())
def test_what_is_dumped_is_read_back(value: object) -> None:
    text = yaml.dump(value, Dumper=ProfileDumper).removesuffix("\n").removesuffix("\n...")
    read = scalar(text)
    assert read == value
    assert type(read) is type(value)
