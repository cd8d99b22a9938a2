import re

import pytest

from ternvae.config import ProfileError, profile_from_dict, profile_keys
from ternvae.config.suggestions import did_you_mean, nearest, suggestions

KEYS = list(profile_keys())
SECTIONS = sorted({key.partition(".")[0] for key in KEYS})
NAMES = sorted({*KEYS, *SECTIONS})


def typos(name: str) -> set[str]:
    places = range(len(name))
    deleted = {name[:k] + name[k + 1 :] for k in places if len(name) > 1}
    replaced = {name[:k] + "x" + name[k + 1 :] for k in places}
    inserted = {name[:k] + "x" + name[k:] for k in range(len(name) + 1)}
    swapped = {name[:k] + name[k + 1] + name[k] + name[k + 2 :] for k in places[:-1]}
    changed = {name.upper(), name.replace("_", "-")}
    return (deleted | replaced | inserted | swapped | changed) - {name}


@pytest.mark.parametrize("key", NAMES)
def test_every_one_letter_typo_is_answered_with_the_right_name(key: str) -> None:
    section, _, name = key.rpartition(".")
    for typo in typos(name):
        misspelt = f"{section}.{typo}" if section else typo
        with pytest.raises(ProfileError) as caught:
            profile_from_dict({misspelt: 1})
        answers = re.findall("'([^']+)'", str(caught.value).partition("did you mean ")[2])
        # Names one letter apart (encoder_a_lr_scale, encoder_b_lr_scale) may have to share a typo.
        apart = sum(a != b for a, b in zip(answers[0], key, strict=False))
        twins = len(answers[0]) == len(key) and apart == 1
        assert answers[0] == key or (twins and answers[1] == key), (misspelt, answers)


@pytest.mark.parametrize("key", [key for key in KEYS if "." in key])
def test_a_key_in_the_wrong_place_is_answered_with_its_path(key: str) -> None:
    leaf = key.rpartition(".")[2]
    with pytest.raises(ProfileError, match=f"did you mean .*'{key}'"):
        profile_from_dict({leaf: 1})


TWINS = "'training.encoder_a_lr_scale' or 'training.encoder_b_lr_scale'"
PRECISIONS = "'model.mathematical_precision' or 'homeostasis.mathematical_precision'"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("lr", "'training.lr'"),
        ("learning_rate", "'training.lr'"),
        ("learnin_rate", "'training.lr'"),
        ("coverage_weight", "'loss_weights.coverage'"),
        ("hierarchy_weight", "'loss_weights.hierarchy'"),
        ("richness_weight", "'loss_weights.richness'"),
        ("bs", "'training.batch_size' or 'training.balanced_share'"),
        ("training.bs", "'training.batch_size' or 'training.balanced_share'"),
        ("training.training_lr", "'training.lr'"),
        ("n_epochs", "'training.epochs'"),
        ("warmup_epoch", "'scheduler.warmup_epochs'"),
        ("Q_target", "'homeostasis.Q_target' or 'targets.Q_enhanced'"),
        ("targets.Q_target", "'homeostasis.Q_target' or 'targets.Q_enhanced'"),
        ("batch-size", "'training.batch_size'"),
        ("max_radus", "'model.max_radius'"),
        ("separaton", "'loss_weights.separation'"),
        ("richness", "'loss_weights.richness' or 'targets.richness'"),
        ("richnes", "'loss_weights.richness' or 'targets.richness'"),
        ("model.lr", "'training.lr'"),
        ("trainng.lr", "'training.lr'"),
        # The guide's names, where the guide has them and where they might be put.
        ("model.coverage_weight", "'loss_weights.coverage'"),
        ("training.coverage_weight", "'loss_weights.coverage'"),
        ("loss_weights.coverage_weight", "'loss_weights.coverage'"),
        ("model.hierarchy_weight", "'loss_weights.hierarchy'"),
        ("training.hierarchy_weight", "'loss_weights.hierarchy'"),
        ("encoder_a_lr_scale", "'training.encoder_a_lr_scale'"),
        ("model.encoder_a_lr_scale", "'training.encoder_a_lr_scale'"),
        ("encoder_b_lr_scale", "'training.encoder_b_lr_scale'"),
        ("model.encoder_b_lr_scale", "'training.encoder_b_lr_scale'"),
        ("use_amp", "'training.use_amp'"),
        ("model.use_amp", "'training.use_amp'"),
        ("gradient_accumulation_steps", "'training.gradient_accumulation_steps'"),
        ("model.gradient_accumulation_steps", "'training.gradient_accumulation_steps'"),
        ("max_grad_norm", "'training.max_grad_norm'"),
        ("model.max_grad_norm", "'training.max_grad_norm'"),
        ("num_workers", "'training.num_workers'"),
        ("log_every_n_steps", "'monitoring.log_every_n_steps'"),
        ("type", "'scheduler.type'"),
        ("training.encoder_x_lr_scale", TWINS),
        ("encoder_x_lr_scale", TWINS),
        ("mathematical_precision", PRECISIONS),
        ("targets.hierarchy", "'targets.hierarchy_B' or 'loss_weights.hierarchy'"),
    ],
)
def test_names_people_try(written: str, meant: str) -> None:
    with pytest.raises(ProfileError) as caught:
        profile_from_dict({written: 1})
    assert str(caught.value) == f"profile: {written}: unknown key, did you mean {meant}? (got 1)"


def test_nothing_near_suggests_nothing() -> None:
    assert suggestions("wombat", SECTIONS, KEYS) == []
    assert nearest("zzzzzz", KEYS) is None
    assert did_you_mean([]) == ""


@pytest.mark.parametrize("name", ["", ".", "..", "_", "-._", "\x00", "é" * 10, "a." * 10**5])
def test_odd_names_are_survived(name: str) -> None:
    assert isinstance(suggestions(name, SECTIONS, KEYS), list)
    with pytest.raises(ProfileError):
        profile_from_dict({name: 1})
