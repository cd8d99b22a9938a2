"""The JSON schema as an editor reads it: what it offers, and what it underlines."""

from __future__ import annotations

import json
import math
import re
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given

from ternvae.config import (
    Profile,
    ProfileError,
    available_profiles,
    load_profile,
    profile_from_dict,
    profile_json_schema,
    profile_keys,
)
from tests.config.test_profile import bounds, members, partial_settings

SCHEMA = profile_json_schema()
KINDS = {int: "integer", float: "number", str: "string", bool: "boolean", NoneType: "null"}

#: Everything that the validator below reads, and what an editor shows beside it.
UNDERSTOOD = {
    *("type", "enum", "anyOf", "$ref", "properties", "additionalProperties"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "pattern"),
    *("title", "description", "default"),
}


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = SCHEMA
    for part in node["$ref"].removeprefix("#/").split("/") if "$ref" in node else ():
        found = found[part]
    return found if "$ref" in node else node


def has_type(value: object, name: str) -> bool:
    if name in ("integer", "number"):
        whole = isinstance(value, float) and value.is_integer()
        number = isinstance(value, int if name == "integer" else int | float) or whole
        return number and not isinstance(value, bool)
    kinds = {"string": str, "boolean": bool, "null": NoneType, "object": dict}
    return isinstance(value, kinds[name])


def faults(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Where a value breaks a schema, by the few words of JSON Schema that a profile needs."""
    node = resolved(schema)
    if "anyOf" in node:
        return [] if any(not faults(value, each, path) for each in node["anyOf"]) else [path]
    if not has_type(value, node["type"]) or value not in node.get("enum", [value]):
        return [path]
    if isinstance(value, dict):
        known = node["properties"]
        extra = [f"{path}.{key}" for key in value if key not in known]
        assert node["additionalProperties"] is False
        inside = [
            f for k, v in value.items() if k in known for f in faults(v, known[k], f"{path}.{k}")
        ]
        return extra + inside
    if isinstance(value, str):
        short = len(value) < node.get("minLength", 0)
        long = len(value) > node.get("maxLength", math.inf)
        odd = not re.search(node.get("pattern", ""), value)
        return [path] if short or long or odd else []
    if isinstance(value, int | float) and not isinstance(value, bool):
        low = value < node.get("minimum", -math.inf) or value <= node.get(
            "exclusiveMinimum", -math.inf
        )
        high = value > node.get("maximum", math.inf) or value >= node.get(
            "exclusiveMaximum", math.inf
        )
        return [path] if low or high else []
    return []


def words(node: Any) -> set[str]:
    """The keywords of a schema and of all schemas in it."""
    inner = [*node.get("properties", {}).values(), *node.get("$defs", {}).values()]
    return {*node}.union(*map(words, [*inner, *node.get("anyOf", [])]))


def entry_of(key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The section of a key and the key itself, as the schema has them."""
    section, _, name = key.rpartition(".")
    node = resolved(SCHEMA["properties"][section]) if section else SCHEMA
    return node, node["properties"][name]


# --- what an editor offers ------------------------------------------------------------------


def test_the_schema_is_json_and_says_nothing_that_is_not_tested_here() -> None:
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert words(SCHEMA) == UNDERSTOOD | {"$schema", "$defs"}


@pytest.mark.parametrize("key", profile_keys())
def test_the_schema_describes_every_key(key: str) -> None:
    section, entry = entry_of(key)
    info = profile_keys()[key]
    assert section["type"] == "object" and section["additionalProperties"] is False
    assert "required" not in section
    assert entry["description"] == info.description
    assert entry["default"] == info.default and type(entry["default"]) is type(info.default)
    offered = {each["type"]: each for each in entry.get("anyOf", [entry])}
    for member in members(key):
        if get_origin(member) is Literal:
            assert entry["type"] == "string" and entry["enum"] == list(get_args(member))
        else:
            assert KINDS[member] in offered
    assert len(offered) == len(members(key))
    limits = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
    numeric = offered.get("integer") or offered.get("number") or {}
    assert {limits[name]: limit for name, limit in bounds(key).items()} == {
        word: numeric[word] for word in limits.values() if word in numeric
    }


def test_every_section_is_described_and_has_its_defaults() -> None:
    for name, info in Profile.model_fields.items():
        entry = SCHEMA["properties"][name]
        assert entry["description"] == info.description
        if "$ref" in entry:
            assert entry["default"] == info.default.model_dump()
            assert resolved(entry)["description"].endswith(".")
            assert list(resolved(entry)["properties"]) == list(entry["default"])
    assert set(SCHEMA["$defs"]) == {
        entry["$ref"].rpartition("/")[2]
        for entry in SCHEMA["properties"].values()
        if "$ref" in entry
    }


# --- what it underlines ---------------------------------------------------------------------


def test_an_empty_file_and_every_shipped_profile_are_fine() -> None:
    assert faults({}, SCHEMA) == []
    for name in available_profiles():
        assert faults(load_profile(name).to_dict(), SCHEMA) == []


@given(settings=partial_settings())
def test_values_that_a_profile_takes_are_fine(settings: dict[str, Any]) -> None:
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
    assert faults(tree, SCHEMA) == []


@pytest.mark.parametrize("key", profile_keys())
def test_what_is_underlined_is_refused_and_null_is_fine_where_it_is(key: str) -> None:
    section, _, name = key.rpartition(".")
    tried: list[object] = [None, True, 0, -1, 2**70, 0.5, 1e300, "x", "", "constant", {}]
    for value in tried:
        tree = {section: {name: value}} if section else {name: value}
        underlined = faults(tree, SCHEMA)
        assert underlined in ([], [f".{key}"])
        try:
            profile_from_dict(tree)
            refused = False
        except ProfileError as error:
            # That a value is impossible beside the others, no schema says.
            refused = any("expected" in str(p) or "must " in str(p) for p in error.problems)
        # A schema cannot tell 1e300 from an integer.
        assert refused == bool(underlined) or (value == 1e300 and int in members(key)), value
    assert (faults({section: {name: None}}, SCHEMA) == []) is (NoneType in members(key))


@pytest.mark.parametrize(
    ("tree", "where"),
    [
        ({"lr": 1}, ".lr"),
        ({"training": {"epoch": 5}}, ".training.epoch"),
        ({"training": None}, ".training"),
        ({"training": [1]}, ".training"),
        ({"scheduler": {"type": "cosine"}}, ".scheduler.type"),
        ({"training": {"use_amp": "true"}}, ".training.use_amp"),
        ({"training": {"use_amp": 1}}, ".training.use_amp"),
        ({"training": {"encoder_a_lr_scale": "null"}}, ".training.encoder_a_lr_scale"),
        ({"frozen_checkpoint": {"path": 1}}, ".frozen_checkpoint.path"),
        ({"targets": {"coverage": 1.5}}, ".targets.coverage"),
        ({"name": "a b"}, ".name"),
    ],
)
def test_mistakes_are_underlined_where_they_are(tree: dict[str, Any], where: str) -> None:
    assert faults(tree, SCHEMA) == [where]
