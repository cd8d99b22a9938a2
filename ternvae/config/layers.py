"""Sources of settings laid over one another, and all that is wrong with them."""

import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ternvae.config.conflicts import Conflict, ConflictError
from ternvae.config.errors import Problem, ProfileError, shown, shown_key
from ternvae.config.profile import Profile
from ternvae.config.reading import (
    MAX_BYTES,
    Branch,
    DictBranch,
    Entry,
    Place,
    UnusableText,
    YamlBranch,
    composed,
    decoded,
)
from ternvae.config.scalars import scalar
from ternvae.config.suggestions import did_you_mean, nearest, suggestions

#: The profile that holds where none is named.
DEFAULT_PROFILE = "mathematical_foundation"


def shipped_profiles() -> dict[str, Traversable]:
    """The profiles that are part of the package, by name, the default one first."""
    folder = files(__package__) / "profiles"
    found = {f.name.removesuffix(".yaml"): f for f in folder.iterdir() if f.name.endswith(".yaml")}
    return dict(sorted(found.items(), key=lambda item: (item[0] != DEFAULT_PROFILE, item[0])))


def unknown_profile(name: str) -> Problem:
    """The problem that no shipped profile has this name."""
    shipped = list(shipped_profiles())
    near = nearest(name, shipped)
    question = f", {did_you_mean([near])}" if near else ";"
    message = (
        f"no such profile{question} shipped: {', '.join(shipped)};"
        " a file is named by its path, as in ./mine.yaml"
    )
    return Problem("profile", "", message, shown(name))


def profile_keys() -> dict[str, FieldInfo]:
    """Every dotted key, in order, with its pydantic field (type, bounds, default, description).

    The fields are copies: what is done to them changes no profile.
    """
    return deepcopy(_keys(Profile, ""))


def _keys(model: type[BaseModel], prefix: str) -> dict[str, FieldInfo]:
    keys: dict[str, FieldInfo] = {}
    for name, info in model.model_fields.items():
        section = _section(info)
        keys |= _keys(section, f"{prefix}{name}.") if section else {f"{prefix}{name}": info}
    return keys


def _section(info: FieldInfo) -> type[BaseModel] | None:
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


@dataclass(frozen=True)
class Setting:
    """A value and the place that set it."""

    value: object
    place: Place


@dataclass
class Layers:
    """Settings gathered source by source, later ones winning, and the problems on the way.

    Attributes:
        settings: The winning setting of every dotted key that was set.
        problems: Every problem so far.
        doubtful: Dotted keys and sections ("" for everything) about which a problem leaves open
            what was meant; nothing is said about how they combine with others.
        layer: Number of sources so far.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
    layer: int = 0

    def source(self, name_or_path: str | os.PathLike[str]) -> "Layers":
        """Adds a shipped profile or a file; returns itself."""
        is_path = isinstance(name_or_path, os.PathLike)
        if not is_path and not isinstance(name_or_path, str):
            raise TypeError(
                f"a profile must be given by its name or its path, got {shown(name_or_path)}"
            )
        name = os.fspath(name_or_path)
        if is_path or name.endswith((".yaml", ".yml")) or "/" in name or os.sep in name:
            return self.file(name)
        if name not in (shipped := shipped_profiles()):
            self.layer += 1
            self._refuse(unknown_profile(name), doubt="")
            return self
        return self._text(shipped[name].read_bytes(), str(shipped[name]))

    def file(self, path: str | os.PathLike[str]) -> "Layers":
        """Adds a file, which may set only some keys; returns itself."""
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"a path must be text or a path, got {shown(path)}")
        name = os.fspath(path)
        if not isinstance(name, str):
            raise TypeError(f"a path must be text, got {shown(name)}")
        try:
            with Path(name).open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte or a lone surrogate
            self.layer += 1
            reason = getattr(error, "strerror", None) or str(error)
            place = Place(self.layer, name)
            self._refuse(place.problem("", f"cannot be read: {reason}"), doubt="")
            return self
        return self._text(data, name)

    def values(
        self, values: Mapping[str, Any] | None, origin: str, *, typed: bool = False
    ) -> "Layers":
        """Adds nested or dotted values, texts from a command line if `typed`; returns itself."""
        if values is not None and not isinstance(values, Mapping):
            raise TypeError(f"{origin} must be a mapping of keys to values, got {shown(values)}")
        self.layer += 1
        return self._tree(DictBranch(values or {}, self.layer, origin, typed))

    def profile(self) -> Profile:
        """Validates what was gathered.

        Returns:
            The profile.

        Raises:
            ProfileError: If there was any problem, here or on the way.
        """
        good = dict(self.settings)
        profile = self._validated(good)
        if len(good) < len(self.settings):
            # The bad values are gone now: on to the conflicts among the good ones.
            self._validated(good)
        if profile is None or self.problems:
            raise ProfileError(self.problems)
        return profile

    def _text(self, data: bytes, name: str) -> "Layers":
        self.layer += 1
        try:
            root = composed(decoded(data))
        except UnusableText as error:
            place = Place(self.layer, name, error.line, error.column)
            self._refuse(place.problem("", str(error)), doubt="")
            return self
        return self._tree(YamlBranch(root, self.layer, name))

    def _tree(self, root: Branch) -> "Layers":
        found: dict[str, Setting] = {}
        self._branch(root, Profile, "", found)
        self.settings |= found
        return self

    def _branch(
        self, branch: Branch, model: type[BaseModel], prefix: str, found: dict[str, Setting]
    ) -> None:
        seen: dict[str, Place] = {}
        for entry in branch.entries():
            key, place = entry.key, entry.key_place
            if not isinstance(key, str):
                section = prefix.rstrip(".")
                shown_value = shown({} if isinstance(key, Branch) else key)
                self._refuse(place.problem(section, "a key must be text", shown_value), section)
            elif key in seen:
                self._refuse_repetition(f"{prefix}{key}", place, seen[key])
            else:
                seen[key] = place
                self._entry(branch, entry, key, model, prefix, found)

    def _entry(
        self,
        branch: Branch,
        entry: Entry,
        key: str,
        model: type[BaseModel],
        prefix: str,
        found: dict[str, Setting],
    ) -> None:
        name, dot, rest = key.partition(".") if branch.dotted else (key, "", "")
        info = model.model_fields.get(name)
        section = _section(info) if info else None
        path = f"{prefix}{name}"
        if info is None or (dot and section is None):
            self._refuse_unknown(branch, entry, key, model, prefix)
        elif section is None:
            if path in found:
                self._refuse_repetition(path, entry.key_place, found[path].place)
            found[path] = Setting(_leaf(entry.value, info, branch.typed), entry.value_place)
        elif dot:
            self._entry(branch, entry, rest, section, f"{path}.", found)
        elif isinstance(entry.value, Branch):
            self._branch(entry.value, section, f"{path}.", found)
        else:
            message = "expected a section of keys; fill it in or remove it"
            problem = entry.value_place.problem(path, message, shown(entry.value))
            self._refuse(problem, doubt=path)

    def _refuse(self, problem: Problem, doubt: str) -> None:
        self.problems.append(problem)
        self.doubtful.add(doubt)

    def _refuse_repetition(self, path: str, place: Place, first: Place) -> None:
        where = f", first at line {first.line}, column {first.column}" if first.line else ""
        parent, dot, name = path.rpartition(".")
        shown_path = f"{parent}{dot}{shown_key(name)}"
        self._refuse(place.problem(shown_path, f"set twice{where}"), doubt=path)

    def _refuse_unknown(
        self, branch: Branch, entry: Entry, key: str, model: type[BaseModel], prefix: str
    ) -> None:
        keys = _keys(Profile, "")
        parent, _, leaf = key.rpartition(".")
        siblings = list(model.model_fields)
        if key in keys and not prefix:
            message = f"unknown key; in a file, write {leaf!r} inside the section {parent!r}"
        elif names := suggestions(key, siblings, keys, prefix):
            # On one line the section belongs to the name; in a file it is the line above.
            full = prefix if branch.dotted else ""
            names = [f"{full}{name}" if name in siblings else name for name in names]
            message = f"unknown key, {did_you_mean(names)}"
        else:
            message = f"unknown key; valid here: {', '.join(siblings)}"
        value = {} if isinstance(entry.value, Branch) else entry.value
        problem = entry.key_place.problem(f"{prefix}{shown_key(key)}", message, shown(value))
        self._refuse(problem, doubt=prefix.rstrip("."))

    def _validated(self, good: dict[str, Setting]) -> Profile | None:
        try:
            return Profile.model_validate(_nested(good))
        except ValidationError as error:
            details = error.errors(include_url=False)
        for detail in details:
            if isinstance(conflict := detail.get("ctx", {}).get("error"), ConflictError):
                for found in conflict.conflicts:
                    self._refuse_conflict(found)
            elif setting := good.pop(key := _key(detail["loc"], self.settings), None):
                required, info = _requirement(detail), _keys(Profile, "")[key]
                if required.startswith("expected") and type(None) in _kinds(info):
                    required += " or null"
                problem = setting.place.problem(key, required, shown(setting.value))
                self._refuse(problem, doubt=key)
        return None

    def _refuse_conflict(self, conflict: Conflict) -> None:
        for key in conflict.keys:
            if any(doubt in ("", key) or key.startswith(f"{doubt}.") for doubt in self.doubtful):
                return
        # What was set last made it impossible; of equals, max keeps the likeliest culprit.
        involved = [(key, self.settings[key]) for key in conflict.keys if key in self.settings]
        key, setting = max(involved, key=lambda item: item[1].place.layer)
        self.problems.append(setting.place.problem(key, conflict.reason, shown(setting.value)))


def _leaf(value: object, info: FieldInfo, typed: bool) -> object:
    if isinstance(value, Branch):
        return {}  # No key takes a mapping, so its content does not matter.
    if not (typed and isinstance(value, str)):
        return value
    if not value:
        return value  # A shell variable that was not set must not pass for null.
    kinds, read = _kinds(info), scalar(value)
    return value if str in kinds and not (read is None and type(None) in kinds) else read


def _kinds(info: FieldInfo) -> set[object]:
    """The types that a key takes."""
    members = get_args(info.annotation) or (info.annotation,)
    return {getattr(member, "__origin__", member) for member in members}  # Annotated[str, ...]


def _nested(settings: Mapping[str, Setting]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, setting in settings.items():
        *sections, name = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = setting.value
    return tree


def _key(location: tuple[int | str, ...], settings: Mapping[str, Setting]) -> str:
    # pydantic adds the member of a union to the location of the field.
    parts = [str(part) for part in location]
    while parts and ".".join(parts) not in settings:
        parts.pop()
    return ".".join(parts)


_REQUIREMENTS = {
    "int_type": "expected an integer",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "finite_number": "must be finite",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "value_error": "{error}",
}


def _requirement(detail: ErrorDetails) -> str:
    if template := _REQUIREMENTS.get(detail["type"]):
        # A bound of 0.0 is meant as 0.
        context = detail.get("ctx", {}).items()
        whole = {k: int(v) for k, v in context if isinstance(v, float) and v.is_integer()}
        return template.format(**{**dict(context), **whole})
    return detail["msg"]
