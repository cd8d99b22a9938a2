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
        first = str(caught.value).partition("did you mean ")[2]
        assert first.startswith(f"'{key}'"), (misspelt, str(caught.value))


@pytest.mark.parametrize("key", [key for key in KEYS if "." in key])
def test_a_key_in_the_wrong_place_is_answered_with_its_path(key: str) -> None:
    leaf = key.rpartition(".")[2]
    with pytest.raises(ProfileError, match=f"did you mean .*'{key}'"):
        profile_from_dict({leaf: 1})


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
        ("Q_target", "'targets.Q_enhanced'"),
        ("batch-size", "'training.batch_size'"),
        ("max_radus", "'model.max_radius'"),
        ("separaton", "'loss_weights.separation'"),
        ("richness", "'loss_weights.richness' or 'targets.richness'"),
        ("richnes", "'loss_weights.richness' or 'targets.richness'"),
        ("model.lr", "'training.lr'"),
        ("trainng.lr", "'training.lr'"),
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
