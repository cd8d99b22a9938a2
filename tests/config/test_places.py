# ruff: noqa: E501  (whole messages, one case per line)
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from ternvae.config import Profile, ProfileError, load_profile, resolve_profile
from ternvae.config.conflicts import Conflict
from ternvae.config.scalars import ProfileDumper
from tests.config.conftest import LinesOf, WriteProfile
from tests.config.test_profile import ANOTHER_CURVATURE, NEVER_LEARNED

BAD_FILES = {
    "typo": ("training:\n  epoch: 5\n", ["2:3: training.epoch: unknown key, did you mean 'epochs'? (got 5)"]),
    "typo of a section": ("trainings:\n  lr: 5\n", ["1:1: trainings: unknown key, did you mean 'training'? (got a mapping)"]),
    "wrong section": ("model:\n  lr: 1e-3\n", ["2:3: model.lr: unknown key, did you mean 'training.lr'? (got 0.001)"]),
    "dotted in a file": ("training.lr: 1\n", ["1:1: training.lr: unknown key; in a file, write 'lr' inside the section 'training' (got 1)"]),
    "nothing near": ("space: {wombat: 1}\n", ["1:9: space.wombat: unknown key; valid here: n_digits, holdout (got 1)"]),
    "text for a number": ("seed: one\n", ["1:7: seed: expected an integer (got 'one')"]),
    "quoted number": ("training:\n  lr: '1e-3'\n", ["2:7: training.lr: expected a number (got '1e-3')"]),
    "float for an integer": ("training: {epochs: 3.0}\n", ["1:20: training.epochs: expected an integer (got 3.0)"]),
    "bool for an integer": ("seed: true\n", ["1:7: seed: expected an integer (got True)"]),
    "bool for a number": ("training:\n  lr: true\n", ["2:7: training.lr: expected a number (got True)"]),
    "number for text": ("name: 5\n", ["1:7: name: expected text (got 5)"]),
    "null": ("seed:\n", ["1:6: seed: expected an integer (got None)"]),
    "number for a truth value": ("training:\n  use_amp: 1\n", ["2:12: training.use_amp: expected true or false (got 1)"]),
    "yes for a truth value": ("training:\n  use_amp: yes\n", ["2:12: training.use_amp: expected true or false (got 'yes')"]),
    "null for a truth value": ("curriculum: {enabled: ~}\n", ["1:23: curriculum.enabled: expected true or false (got None)"]),
    "choice": ("scheduler:\n  type: cosine\n", ["2:9: scheduler.type: must be 'mathematical_cosine' or 'constant' (got 'cosine')"]),
    "quoted null for a number": ("training: {encoder_a_lr_scale: 'null'}\n", ["1:32: training.encoder_a_lr_scale: expected a number or null (got 'null')"]),
    "number for a path": ("frozen_checkpoint:\n  path: 5\n", ["2:9: frozen_checkpoint.path: expected text or null (got 5)"]),
    "path for a section": ("frozen_checkpoint: runs/a.pt\n", ["1:20: frozen_checkpoint: expected a section of keys; fill it in or remove it (got 'runs/a.pt')"]),
    "list": ("seed: [1]\n", ["1:7: seed: expected an integer (got a list)"]),
    "mapping": ("seed: {a: 1}\n", ["1:7: seed: expected an integer (got a mapping)"]),
    "section without keys": ("training:\nseed: 1\n", ["1:10: training: expected a section of keys; fill it in or remove it (got None)"]),
    "section with a value": ("training: 5\n", ["1:11: training: expected a section of keys; fill it in or remove it (got 5)"]),
    "too low": ("seed: -1\n", ["1:7: seed: must be at least 0 (got -1)"]),
    "too high": ("seed: 9223372036854775808\n", ["1:7: seed: must be less than 9223372036854775808 (got 9223372036854775808)"]),
    "open bound": ("training: {lr: 0}\n", ["1:16: training.lr: must be greater than 0 (got 0)"]),
    "closed bound": ("targets: {coverage: 1.1}\n", ["1:21: targets.coverage: must be at most 1 (got 1.1)"]),
    "nan": ("training: {lr: .nan}\n", ["1:16: training.lr: must be finite (got nan)"]),
    "infinity": ("training: {lr: .inf}\n", ["1:16: training.lr: must be finite (got inf)"]),
    "overflow": ("training: {lr: 1e999}\n", ["1:16: training.lr: must be finite (got inf)"]),
    "name": ("name: a b\n", ["1:7: name: must match ^[A-Za-z0-9][A-Za-z0-9_.-]*$ (got 'a b')"]),
    "control character": ('description: "a\\eb"\n', ["1:14: description: must not contain the character U+001B (got 'a\\x1bb')"]),
    "repeated key": ("training:\n  lr: 1\n  lr: 2\n", ["3:3: training.lr: set twice, first at line 2, column 3"]),
    "repeated section": ("training: {lr: 1}\ntraining: {epochs: 200}\n", ["2:1: training: set twice, first at line 1, column 1"]),
    "quoted repetition": ('seed: 1\n"seed": 2\n', ["2:1: seed: set twice, first at line 1, column 1"]),
    "key of a number": ("1: 2\n", ["1:1: a key must be text (got 1)"]),
    "key of nothing": ("training:\n  ~: 2\n", ["2:3: training: a key must be text (got None)"]),
    "key of a list": ("? [a]\n: 2\n", ["1:3: a key must be text (got a list)"]),
    "key of a mapping": ("? {a: 1}\n: 2\n", ["1:3: a key must be text (got a mapping)"]),
    "odd key": ('"a\\nb": 1\n', ["1:1: 'a\\nb': unknown key; valid here: " + ", ".join(Profile.model_fields) + " (got 1)"]),
    "merge key": ("b: &b {}\ntraining:\n  <<: *b\n", None),
    "python tag": ("seed: !!python/object:os.system 1\n", ["1:7: the tag 'tag:yaml.org,2002:python/object:os.system' is refused; a profile holds plain values only"]),
    "harmless tag": ("seed: !!int 1\n", ["1:7: the tag 'tag:yaml.org,2002:int' is refused; a profile holds plain values only"]),
    "long tag": ("seed: !" + "a" * 500 + " 1\n", ["1:7: the tag '!" + "a" * 26 + "..." + "a" * 27 + "' is refused; a profile holds plain values only"]),
    "long alias": ("seed: *" + "s" * 5000 + "\n", ["1:7: not valid YAML: found undefined alias '" + "s" * 125 + "..." + "s" * 147 + "'"]),
    "tag of the root": ("!x {}\n", ["1:1: the tag '!x' is refused; a profile holds plain values only"]),
    "alias to itself": ("training: &t\n  lr: *t\n", ["1:11: training.lr: expected a number (got a mapping)"]),
    "root alias": ("&r\ntraining: *r\n", None),
    "undefined alias": ("seed: *s\n", ["1:7: not valid YAML: found undefined alias 's'"]),
    "open bracket": ("seed: [1\n", None),
    "tab": ("training:\n\tlr: 1\n", ["2:1: not valid YAML: while scanning for the next token, found character '\\t' that cannot start any token"]),
    "two documents": ("seed: 1\n---\nseed: 2\n", ["2:1: not valid YAML: expected a single document in the stream, but found another document"]),
    "code point": ('name: "\\UFFFFFFFF"\n', None),
    "directive": ("%YAML " + "1" * 5000 + ".1\n---\nseed: 1\n", None),
    "list at the root": ("- 1\n", ["1:1: expected sections of keys, not a list"]),
    "value at the root": ("\nhello\n", ["2:1: expected sections of keys, not a single value"]),
    "empty": ("", ["1:1: empty; expected sections such as 'training:'"]),
    "comments only": ("# seed: 1\n", ["1:1: empty; expected sections such as 'training:'"]),
    "unprintable": ("seed: 1\nname: a\x07\n", ["2:8: the character U+0007 is not allowed"]),
    "depth": ("seed: " + "[" * 20 + "]" * 20, ["1:26: nested deeper than 20 levels"]),
    "size": ("#" * 1_000_001, ["1:1: longer than 1000000 bytes; a profile is a page of text"]),
    "nodes": ("seed: [" + "1," * 10_000 + "]\n", ["1:20002: more than 10000 nodes"]),
    "long value": ("seed: " + "a" * 500 + "\n", ["1:7: seed: expected an integer (got '" + "a" * 27 + "..." + "a" * 27 + "')"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused_with_the_place(case: str, lines_of: LinesOf) -> None:
    text, expected = BAD_FILES[case]
    Path("bad.yaml").write_text(text, encoding="utf-8")
    for call in (lambda: load_profile("bad.yaml"), lambda: resolve_profile(config="bad.yaml")):
        lines = lines_of(call)
        if expected is None:
            assert len(lines) >= 1
            assert all(line.startswith("bad.yaml:") and line.isprintable() for line in lines)
        else:
            assert lines == [f"bad.yaml:{line}" for line in expected]


def test_limits_are_not_reached_early(write_profile: WriteProfile) -> None:
    deep = "seed: " + "[" * 18 + "]" * 18
    with pytest.raises(ProfileError, match="expected an integer"):
        load_profile(write_profile(deep))
    # The root, its key and the list take three nodes.
    with pytest.raises(ProfileError, match="expected an integer"):
        load_profile(write_profile("seed: [" + "1," * 9997 + "]"))
    with pytest.raises(ProfileError, match="more than 10000 nodes"):
        load_profile(write_profile("seed: [" + "1," * 9998 + "]"))


def test_all_problems_come_at_once_in_order(lines_of: LinesOf) -> None:
    Path("many.yaml").write_text(
        "targets:\n  coverage: 2\nseed: x\nmodle: {}\ntraining:\n  lr: 1\n  lr: 2\n  bs: 4\n",
        encoding="utf-8",
    )
    lines = lines_of(
        resolve_profile,
        profile="coverage_focussed",
        config="many.yaml",
        overrides={"training.epochs": "0", "model.dropout": "1", "zzz": "1"},
    )
    assert [line.partition(": ")[0] for line in lines] == [
        "profile",
        "many.yaml:2:13",
        "many.yaml:3:7",
        "many.yaml:4:1",
        "many.yaml:7:3",
        "many.yaml:8:3",
        "command line",
        "command line",
        "command line",
    ]
    assert lines[0].startswith("profile: no such profile, did you mean 'coverage_focused'?")
    assert lines[0].endswith("(got 'coverage_focussed')")
    assert lines[5].split(": ")[1:] == [
        "training.bs",
        "unknown key, did you mean 'batch_size' or 'balanced_share'? (got 4)",
    ]
    assert [line.split(": ")[1] for line in lines[6:]] == [
        "training.epochs",
        "model.dropout",
        "zzz",
    ]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"space.n_digits": "3"}, ["space.n_digits: a batch of 1024 exceeds the 3^3 = 27 sequences of the space; set training.batch_size to at most 27 (got 3)"]),
        ({"training.batch_size": "20000"}, ["training.batch_size: a batch of 20000 exceeds the 3^9 = 19683 sequences of the space; set training.batch_size to at most 19683 (got 20000)"]),
        ({"space.n_digits": "1", "training.batch_size": "4"}, ["training.batch_size: a batch of 4 exceeds the 3^1 = 3 sequences of the space; set training.batch_size to at most 3 (got 4)"]),
        ({"targets.hierarchy_B": "-0.9"}, ["targets.hierarchy_B: -0.9 is beyond the ceiling -0.8320503 at 9 digits, which only radii tied inside a level can pass; ask for -0.8321 or more (got -0.9)"]),
        ({"targets.Q_enhanced": "2.2"}, ["targets.Q_enhanced: 2.2 is above the ceiling 2.1627074 at 9 digits; ask for 2.1627 or less (got 2.2)"]),
        ({"training.epochs": "5", "scheduler.warmup_epochs": "30"}, ["scheduler.warmup_epochs: a warm-up of 30 epochs does not fit into a run of 5; set scheduler.warmup_epochs to at most 5 (got 30)"]),
        ({"training.lr": "1e-7"}, ["training.lr: a cycle falls from training.lr 1e-07 to 1e-06; set scheduler.eta_min to at most 1e-07 (got 1e-07)"]),
        ({"model.max_radius": "0.01"}, ["model.max_radius: richness 0.006 is above 9.001e-05, the most that radii inside max_radius 0.01 can have at curvature 1.0; lower the target or raise max_radius (got 0.01)"]),
        ({"homeostasis.Q_target": "2.2"}, ["homeostasis.Q_target: 2.2 is above the ceiling 2.1627074 at 9 digits; ask for 2.1627 or less (got 2.2)"]),
        ({"curriculum.enabled": "true", "training.epochs": "51"}, ["curriculum.enabled: phases of 16 + 26 + 10 = 52 epochs do not fit into a run of 51; shorten them or raise training.epochs (got True)"]),
        ({"training.encoder_a_lr_scale": "0"}, [f"training.encoder_a_lr_scale: {NEVER_LEARNED} (got 0)"]),
        ({"model.learnable_curvature": "true", "frozen_checkpoint.path": "a.pt"}, [f"model.learnable_curvature: {ANOTHER_CURVATURE} (got True)"]),
        # An empty argument is no null.
        ({"training.encoder_a_lr_scale": "", "frozen_checkpoint.path": "", "training.lr": "", "training.use_amp": ""}, ["training.encoder_a_lr_scale: expected a number or null (got '')", "frozen_checkpoint.path: must not be empty (got '')", "training.lr: expected a number (got '')", "training.use_amp: expected true or false (got '')"]),
        # A bad value, and a conflict among the good ones.
        ({"training.max_grad_norm": "0", "space.n_digits": "3"}, ["training.max_grad_norm: must be greater than 0 (got 0)", "space.n_digits: a batch of 1024 exceeds the 3^3 = 27 sequences of the space; set training.batch_size to at most 27 (got 3)"]),
        # Nothing is said about how a value that is in doubt combines with others.
        ({"training.epochs": "5", "scheduler.warmup_epochs": "x"}, ["scheduler.warmup_epochs: expected a number (got 'x')"]),
        ({"training.lr": "1e-7", "scheduler.eta_mn": "2"}, ["scheduler.eta_mn: unknown key, did you mean 'scheduler.eta_min'? (got '2')"]),
        ({"space.n_digits": "3", "bath_size": "9"}, ["bath_size: unknown key, did you mean 'training.batch_size'? (got '9')"]),
        ({"space.n_digits": "3", "training": "9"}, ["training: expected a section of keys; fill it in or remove it (got '9')"]),
        ({"training.lr": "1", "training": {"lr": "2"}}, ["training.lr: set twice"]),
        ({"training.lr": "yes"}, ["training.lr: expected a number (got 'yes')"]),
        ({"training.epochs": "6e1"}, ["training.epochs: expected an integer (got 60.0)"]),
        ({"seed.x": "1"}, ["seed.x: unknown key, did you mean 'seed'? (got '1')"]),
        ({5: "1"}, ["a key must be text (got 5)"]),
        ({"": "1"}, ["'': unknown key; valid here: " + ", ".join(Profile.model_fields) + " (got '1')"]),
    ],
)  # fmt: skip
def test_bad_command_lines_are_refused(
    overrides: dict[Any, Any], expected: list[str], lines_of: LinesOf
) -> None:
    lines = lines_of(resolve_profile, overrides=overrides)
    assert lines == [f"command line: {line}" for line in expected]


def test_a_conflict_is_blamed_on_what_was_set_last(lines_of: LinesOf) -> None:
    Path("small.yaml").write_text("space:\n  n_digits: 3\n", encoding="utf-8")
    assert lines_of(resolve_profile, config="small.yaml")[0].startswith(
        "small.yaml:2:13: space.n_digits: a batch of 1024 exceeds"
    )
    assert lines_of(resolve_profile, None, "small.yaml", {"training.batch_size": 28})[0].startswith(
        "command line: training.batch_size: a batch of 28 exceeds"
    )
    assert resolve_profile(config="small.yaml", overrides={"training": {"batch_size": 27}})


NEW_CONFLICTS = [
    ({"training.epochs": 51, "curriculum.enabled": True, "curriculum.coverage_first_epochs": 16, "curriculum.hierarchy_ramp_epochs": 26, "curriculum.richness_preserve_epochs": 10}, "phases of 16 + 26 + 10 = 52"),
    ({"training.encoder_a_lr_scale": 0.0, "frozen_checkpoint.path": None, "curriculum.enabled": False, "curriculum.coverage_first_epochs": 5}, NEVER_LEARNED),
    ({"training.encoder_a_lr_scale": 0.0, "frozen_checkpoint.path": None, "curriculum.enabled": True, "curriculum.coverage_first_epochs": 0}, NEVER_LEARNED),
    ({"model.learnable_curvature": True, "frozen_checkpoint.path": "a.pt"}, ANOTHER_CURVATURE),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "reason"), NEW_CONFLICTS)
def test_whichever_key_is_set_last_gets_the_blame(
    settings: dict[str, Any], reason: str, lines_of: LinesOf
) -> None:
    for last, value in settings.items():
        rest = {key: other for key, other in settings.items() if key != last}
        Path("rest.yaml").write_text(as_yaml(rest), encoding="utf-8")
        text = "null" if value is None else str(value).lower()
        (line,) = lines_of(resolve_profile, None, "rest.yaml", {last: text})
        assert line.startswith(f"command line: {last}: {reason}")
        # In one file the likeliest culprit is blamed, at its own line.
        Path("all.yaml").write_text(as_yaml(settings), encoding="utf-8")
        (line,) = lines_of(resolve_profile, config="all.yaml")
        culprit = conflicts_of(settings)[0].keys[0]
        assert line.split(": ")[1] == culprit
        number = int(line.split(":")[1])
        assert culprit.rpartition(".")[2] in Path("all.yaml").read_text().splitlines()[number - 1]


def as_yaml(settings: dict[str, Any]) -> str:
    nested: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        nested.setdefault(section, {})[name] = value
    return yaml.dump(nested, Dumper=ProfileDumper, sort_keys=False)


def conflicts_of(settings: dict[str, Any]) -> list[Conflict]:
    with pytest.raises(ValidationError) as caught:
        Profile.model_validate(yaml.safe_load(as_yaml(settings)))
    (error,) = caught.value.errors()
    found: list[Conflict] = error["ctx"]["error"].conflicts
    return found


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"seed: 1\nname: \xc3\xa9\xff\n", "2:8: not UTF-8 text: byte 0xff"),
        ("seed: 1".encode("utf-16"), "1:1: not UTF-8 text: byte 0xff"),
        (b"\xef\xbb\xbfa\xff", "1:2: not UTF-8 text: byte 0xff"),
        (b"a: 1\n\xc3", "2:1: not UTF-8 text: byte 0xc3"),
    ],
)
def test_other_encodings_are_refused_with_the_place(
    data: bytes, place: str, lines_of: LinesOf
) -> None:
    Path("raw.yaml").write_bytes(data)
    assert lines_of(load_profile, "raw.yaml") == [f"raw.yaml:{place}"]


def test_a_bomb_of_aliases_does_not_expand(write_profile: WriteProfile) -> None:
    levels = [f"l{k}: &l{k} [{', '.join([f'*l{k - 1}'] * 9)}]" for k in range(1, 12)]
    with pytest.raises(ProfileError) as caught:
        load_profile(write_profile("\n".join(["l0: &l0 [x]", *levels, "seed: *l11"])))
    assert len(caught.value.problems) == 13
    assert "seed: expected an integer (got a list)" in str(caught.value)
