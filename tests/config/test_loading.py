import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from ternvae.config import (
    Problem,
    Profile,
    ProfileError,
    load_profile,
    profile_from_dict,
    profile_text,
    resolve_profile,
)
from ternvae.config.errors import shown
from tests.config.conftest import LinesOf, WriteProfile


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        ({"training.lr": "1e-3"}, "lr", 0.001),
        ({"training.lr": "5"}, "lr", 5.0),
        ({"training.lr": 8e-4}, "lr", 8e-4),
        ({"training": {"lr": "0.5"}}, "lr", 0.5),
        ({"training": {"epochs": "0x40"}}, "epochs", 64),
        ({"training.use_amp": "true"}, "use_amp", True),
        ({"training.use_amp": "FALSE"}, "use_amp", False),
        ({"training.use_amp": True}, "use_amp", True),
        ({"training.encoder_a_lr_scale": "5e-2"}, "encoder_a_lr_scale", 0.05),
        ({"training.encoder_a_lr_scale": "1"}, "encoder_a_lr_scale", 1.0),
        ({"training.encoder_a_lr_scale": "null"}, "encoder_a_lr_scale", None),
        ({"training.encoder_a_lr_scale": "~"}, "encoder_a_lr_scale", None),
        ({"training.encoder_a_lr_scale": None}, "encoder_a_lr_scale", None),
    ],
)
def test_command_line_text_is_read_as_a_scalar(
    overrides: dict[str, Any], key: str, value: object
) -> None:
    assert getattr(resolve_profile(overrides=overrides).training, key) == value


@pytest.mark.parametrize(
    ("text", "path"),
    [
        *(("null", None), ("~", None), ("NULL", None), ("nul", "nul"), ("'null'", "'null'")),
        *(("5", "5"), ("1e-3", "1e-3"), ("true", "true"), ("a b.pt", "a b.pt")),
    ],
)
def test_command_line_text_for_a_path_is_a_path_or_null(text: str, path: str | None) -> None:
    assert (
        resolve_profile(overrides={"frozen_checkpoint.path": text}).frozen_checkpoint.path == path
    )


@pytest.mark.parametrize("nothing", ["null", "~", "Null", ""])
def test_null_in_a_file_or_on_the_command_line_takes_a_value_back(
    nothing: str, write_profile: WriteProfile
) -> None:
    base = profile_from_dict({"training.encoder_a_lr_scale": 0.5, "frozen_checkpoint.path": "a.pt"})
    config = write_profile(
        f"training:\n  encoder_a_lr_scale: {nothing}\nfrozen_checkpoint:\n  path: {nothing}\n"
    )
    assert resolve_profile(config=config, base=base) == profile_from_dict({})
    texts = {"training.encoder_a_lr_scale": nothing, "frozen_checkpoint.path": nothing}
    if nothing:
        assert resolve_profile(overrides=texts, base=base) == profile_from_dict({})


def test_a_file_holds_values_of_every_kind(write_profile: WriteProfile) -> None:
    profile = load_profile(
        write_profile(
            "training: {lr: 1e-3, use_amp: true, encoder_a_lr_scale: 1e-1, epochs: 200}\n"
            "scheduler: {type: constant}\n"
            "curriculum: {enabled: True}\n"
            "homeostasis: {enabled: false}\n"
            "frozen_checkpoint: {path: '5'}\n"
        )
    )
    training = profile.training
    assert (training.lr, training.use_amp, training.encoder_a_lr_scale) == (1e-3, True, 0.1)
    assert (profile.scheduler.type, profile.frozen_checkpoint.path) == ("constant", "5")
    assert profile.curriculum.enabled is True and profile.homeostasis.enabled is False


@pytest.mark.parametrize("text", ["5", "null", "1e-3", "true"])
def test_command_line_text_for_a_text_key_stays_text(text: str) -> None:
    assert resolve_profile(overrides={"name": text}).name == text


def test_text_in_api_overrides_is_no_number(lines_of: LinesOf) -> None:
    assert lines_of(load_profile, overrides={"training.lr": "1e-3", "seed": "1"}) == [
        "overrides: training.lr: expected a number (got '1e-3')",
        "overrides: seed: expected an integer (got '1')",
    ]


def test_the_origin_of_overrides_can_be_named(lines_of: LinesOf) -> None:
    assert lines_of(resolve_profile, overrides={"seed": -1}, overrides_origin="checkpoint") == [
        "checkpoint: seed: must be at least 0 (got -1)"
    ]
    assert lines_of(profile_from_dict, {"seed": -1}, origin="a\nb") == [
        "a\\nb: seed: must be at least 0 (got -1)"
    ]


def test_each_layer_overrides_the_ones_before(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("loss_weights: {hierarchy: 7, separation: 8}\nseed: 4\n", encoding="utf-8")
    profile = resolve_profile("hierarchy_focused", config, {"loss_weights.separation": "9"})
    defaults, shipped = Profile(), load_profile("hierarchy_focused")
    assert profile.loss_weights.coverage == defaults.loss_weights.coverage
    assert profile.loss_weights.richness == shipped.loss_weights.richness
    assert shipped.loss_weights.richness != defaults.loss_weights.richness
    assert profile.loss_weights.hierarchy == 7.0
    assert profile.loss_weights.separation == 9.0
    assert (profile.seed, profile.name) == (4, "hierarchy_focused")
    assert resolve_profile() == load_profile() == load_profile("mathematical_foundation")
    assert resolve_profile(overrides={}) == load_profile(overrides={})


def test_a_base_takes_the_place_of_the_named_profile(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("training: {epochs: 200}\n", encoding="utf-8")
    base = load_profile("richness_focused", {"seed": 7, "training.lr": 0.5})
    assert resolve_profile(base=base) == base
    profile = resolve_profile(None, config, {"seed": "8"}, base=base)
    assert (profile.seed, profile.training.lr, profile.training.epochs) == (8, 0.5, 200)
    assert profile.targets == base.targets
    with pytest.raises(ValueError, match="profile and base exclude each other"):
        resolve_profile("coverage_focused", base=base)


def test_a_file_of_its_own_stands_on_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("\ufeffname: mine\r\ntraining:\r\n  lr: 5\r\n", encoding="utf-8")
    assert load_profile(path) == Profile.model_validate({"name": "mine", "training": {"lr": 5.0}})


def test_anchors_are_fine_where_the_keys_fit(write_profile: WriteProfile) -> None:
    profile = load_profile(write_profile("training: {lr: &x 0.25, weight_decay: *x}\n"))
    assert profile.training.lr == profile.training.weight_decay == 0.25


def test_a_dict_that_contains_itself_is_refused(lines_of: LinesOf) -> None:
    loop: dict[str, Any] = {}
    loop["training"] = loop
    assert lines_of(profile_from_dict, loop)[0].startswith("profile: training.training: unknown")


@pytest.mark.parametrize(
    "name", ["./a", "a.yaml", "a.yml", "b/c", Path("a"), Path("coverage_focused")]
)
def test_what_looks_like_a_path_is_a_file(name: str | Path, lines_of: LinesOf) -> None:
    assert lines_of(load_profile, name) == [f"{name}: cannot be read: {os.strerror(errno.ENOENT)}"]


@pytest.mark.parametrize("name", ["", "coverage", "Mathematical_Foundation", "a\x1b[2J", "x" * 500])
def test_what_looks_like_a_name_is_a_name(name: str, lines_of: LinesOf) -> None:
    Path("coverage").write_text("seed: 1\n", encoding="utf-8")
    (line,) = lines_of(load_profile, name)
    assert line.startswith("profile: no such profile")
    assert line.endswith(f"(got {shown(name)})")
    assert line.isprintable()
    (same,) = lines_of(profile_text, name)
    assert same == line


def test_a_near_name_is_suggested(lines_of: LinesOf) -> None:
    assert lines_of(load_profile, "mathematical_fundation") == [
        "profile: no such profile, did you mean 'mathematical_foundation'? shipped:"
        " mathematical_foundation, coverage_focused, hierarchy_focused, richness_focused;"
        " a file is named by its path, as in ./mine.yaml (got 'mathematical_fundation')"
    ]


def test_a_config_is_a_file_whatever_its_name(lines_of: LinesOf) -> None:
    Path("coverage_focused").write_text("seed: 3\n", encoding="utf-8")
    assert resolve_profile(config="coverage_focused").seed == 3
    assert lines_of(resolve_profile, config="nowhere")[0].startswith("nowhere: cannot be read")


def test_unreadable_files_are_one_line(lines_of: LinesOf) -> None:
    Path("loop.yaml").symlink_to("loop.yaml")
    Path("folder.yaml").mkdir()
    expected = {
        "loop.yaml": os.strerror(errno.ELOOP),
        "folder.yaml": os.strerror(errno.EISDIR),
        "x" * 300 + ".yaml": os.strerror(errno.ENAMETOOLONG),
    }
    for name, reason in expected.items():
        assert lines_of(load_profile, name) == [f"{name}: cannot be read: {reason}"]
    for name in ("a\x00.yaml", "\ud800.yaml", ""):
        (line,) = lines_of(resolve_profile, config=name)
        assert "cannot be read" in line
        assert line.isprintable()


def test_a_file_without_permission_is_one_line(
    lines_of: LinesOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    expected = f"a.yaml: cannot be read: {os.strerror(errno.EACCES)}"
    assert lines_of(load_profile, "a.yaml") == [expected]


@pytest.mark.parametrize("argument", [None, 5, b"a.yaml", ["a"]])
def test_a_name_of_the_wrong_type_is_a_type_error(argument: Any) -> None:
    with pytest.raises(TypeError, match="by its name or its path, got"):
        load_profile(argument)


@pytest.mark.parametrize("argument", [5, "training.lr=1", [("seed", 1)]])
def test_overrides_of_the_wrong_type_are_a_type_error(argument: Any) -> None:
    with pytest.raises(TypeError, match="overrides must be a mapping of keys to values, got"):
        load_profile(overrides=argument)


def test_values_are_shown_short_and_on_one_line() -> None:
    class Alien:
        def __repr__(self) -> str:
            raise RuntimeError("no picture of me")

    assert shown("a\n\x1b[2J\u202e") == r"'a\n\x1b[2J\u202e'"
    assert shown("x" * 100) == "'" + "x" * 27 + "..." + "x" * 27 + "'"
    assert shown(10**5000) == "a value of type int"
    assert shown(Alien()) == "a value of type Alien"
    assert shown({"a": 1}) == "a mapping"
    assert shown((1,)) == "a list"


def test_a_problem_leaves_out_what_is_empty() -> None:
    assert str(Problem("f:1:2", "a.b", "is wrong", "5")) == "f:1:2: a.b: is wrong (got 5)"
    assert str(Problem("f", "", "is wrong")) == "f: is wrong"


def test_the_error_is_a_value_error_and_travels() -> None:
    assert issubclass(ProfileError, ValueError)
    with pytest.raises(ProfileError, match="seed") as caught:
        load_profile(overrides={"seed": -1, "x": 1})
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert str(copy) == str(caught.value)
    assert copy.problems == caught.value.problems
