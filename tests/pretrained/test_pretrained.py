"""Models that come with the package: they load, they are what was made, and damage is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ternvae import pretrained
from ternvae.analysis import analyze
from ternvae.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ternvae.config import load_profile, profile_from_dict
from ternvae.padic import TernarySpace
from ternvae.pretrained import making, shelf
from ternvae.pretrained.__main__ import main
from ternvae.trainer.saving import profile_differences

NAME = "mathematical_foundation"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files that the package then reads instead of its own."""
    for name in shelf.SHELF:
        shutil.copy(pretrained.path(name), tmp_path)
    monkeypatch.setattr(shelf.resources, "files", lambda package: tmp_path)
    return tmp_path


def test_three_lines_lead_to_points() -> None:
    model = pretrained.load("mathematical_foundation")
    points = model.embed([1, 3, 9, 27, 0])
    assert points.shape == (5, 16)
    radii = model.ball.dist0(points)
    assert bool((radii.diff() < 0).all())  # valuations 0, 1, 2, 3 and 9
    assert not model.training


def test_every_sequence_comes_back_from_its_point() -> None:
    model, space = pretrained.load(NAME), TernarySpace(9)
    for branch in ("A", "B"):
        points = model.embed(range(space.size), branch=branch)
        assert torch.equal(model.decode(points, branch=branch), space.sequences())


def test_two_models_are_two_and_give_the_same_points() -> None:
    first, second = pretrained.load(NAME), pretrained.load(NAME)
    assert torch.equal(first.embed([5, 4711]), second.embed([5, 4711]))
    with torch.no_grad():
        for weight in first.encoder("B").parameters():
            weight.zero_()
    assert not torch.equal(first.embed([5, 4711]), second.embed([5, 4711]))


def test_measured_anew_it_is_what_its_file_says_and_meets_every_target() -> None:
    analysis = analyze(pretrained.path(NAME))
    assert analysis.differences == ()
    assert analysis.stored_metrics.keys() == analysis.metrics.keys()
    assert all(analysis.validation.values())
    assert analysis.validation["mathematical_foundation_ready"]
    metrics = analysis.metrics
    assert metrics["coverage"] == metrics["coverage_B"] == 1.0
    assert metrics["hierarchy_B"] == pytest.approx(analysis.ceilings["hierarchy"], abs=1e-7)
    assert metrics["Q_enhanced"] == pytest.approx(2.16, abs=5e-3)
    assert metrics["triplet_accuracy"] > 0.999


def test_all_that_are_listed_are_there_and_nothing_else() -> None:
    there = {file.stem for file in Path(shelf.__file__).parent.glob("*.pt")}
    assert there == set(pretrained.available()) == set(shelf.SHELF)
    for name in pretrained.available():
        assert pretrained.path(name).stat().st_size < 2**20


def test_the_profile_is_the_one_that_ships_today() -> None:
    """Otherwise make it again, as ``python -m ternvae.pretrained`` says, and ship that."""
    for name, recipe in shelf.SHELF.items():
        stored = load_checkpoint(pretrained.path(name))["profile"]
        today = load_profile(recipe.profile, {"seed": recipe.seed})
        assert list(profile_differences(stored, today)) == []


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'mathematical-fondation'.*did you mean 'mathemat"):
        pretrained.load("mathematical-fondation")
    with pytest.raises(ValueError, match=r"'x' comes with ternvae; there is mathematical_foun"):
        pretrained.path("x")
    with pytest.raises(ValueError, match=r"no model '\.\./"):
        pretrained.path("../" * 3 + NAME)
    with pytest.raises(TypeError, match="got int: 3"):
        pretrained.load(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [0, 100, 100_000, -1])
def test_one_flipped_bit_is_noticed_before_anything_is_read(folder: Path, place: int) -> None:
    file = folder / f"{NAME}.pt"
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    for use in (pretrained.load, pretrained.path):
        with pytest.raises(CheckpointError, match=r"damaged: its SHA-256 is .* install ternvae"):
            use(NAME)


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_file_cut_short_is_noticed(folder: Path, size: int) -> None:
    file = folder / f"{NAME}.pt"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="damaged"):
        pretrained.load(NAME)


def test_another_good_checkpoint_in_its_place_is_noticed(folder: Path) -> None:
    contents = load_checkpoint(folder / f"{NAME}.pt")
    other = {**contents, "epoch": contents["epoch"] + 1}
    save_checkpoint(folder / f"{NAME}.pt", other)
    assert load_checkpoint(folder / f"{NAME}.pt")["epoch"] == other["epoch"]
    with pytest.raises(CheckpointError, match="damaged"):
        pretrained.load(NAME)


def test_a_missing_file_is_told(folder: Path) -> None:
    (folder / f"{NAME}.pt").unlink()
    with pytest.raises(CheckpointError, match=r"mathematical_foundation\.pt: cannot be read: No"):
        pretrained.load(NAME)


def test_importing_loads_no_torch_and_neither_does_a_path() -> None:
    code = (
        "import sys; from ternvae import pretrained; pretrained.available(); "
        f"pretrained.path({NAME!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# --- made again -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ternvae.trainer import Trainer

    settings = {"space.n_digits": 3, "training.batch_size": 12, "training.epochs": 2}
    folder = tmp_path_factory.mktemp("small") / "run"
    return Path(
        Trainer(load_profile(NAME, settings), run_dir=folder, device="cpu").fit().checkpoint
    )


def test_the_cut_is_a_checkpoint_with_the_same_model(small_run: Path, tmp_path: Path) -> None:
    making.cut(small_run, tmp_path / "cut.pt")
    whole, kept = load_checkpoint(small_run), load_checkpoint(tmp_path / "cut.pt")
    assert kept.keys() < whole.keys()
    for key, weight in whole["model_state_dict"].items():
        assert torch.equal(weight, kept["model_state_dict"][key])
    for key in kept.keys() - {"model_state_dict", "optimizer_state_dict"}:
        assert kept[key] == whole[key], key
    assert (tmp_path / "cut.pt").stat().st_size < small_run.stat().st_size
    assert analyze(tmp_path / "cut.pt").differences == ()
    torch.load(tmp_path / "cut.pt", weights_only=True)
    assert profile_from_dict(kept["profile"]).name == NAME


def test_two_cuts_of_equal_runs_are_equal_bytes(small_run: Path, tmp_path: Path) -> None:
    from ternvae.trainer import Trainer

    profile = profile_from_dict(load_checkpoint(small_run)["profile"])
    repeated = Trainer(profile, run_dir=tmp_path / "run", device="cpu").fit().checkpoint
    assert Path(repeated).read_bytes() != small_run.read_bytes()  # seconds
    for source, target in ((small_run, "one.pt"), (Path(repeated), "two.pt")):
        making.cut(source, tmp_path / target)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()


def test_the_shipped_file_is_cut_as_files_are_cut_today(tmp_path: Path) -> None:
    making.cut(pretrained.path(NAME), tmp_path / "again.pt")
    shipped, again = load_checkpoint(pretrained.path(NAME)), load_checkpoint(tmp_path / "again.pt")
    assert shipped.keys() == again.keys()
    assert shipped["optimizer_state_dict"] == again["optimizer_state_dict"]


def test_trained_again_it_agrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole run, as the command makes it: what the package ships is what it trains."""
    assert main([NAME, "--again", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    assert "same weights, bit by bit: " in out
    assert out.count("  yes\n") == len(making.WITHIN)
    assert making.compare(NAME, tmp_path / "new" / f"{NAME}.pt").agrees


def test_another_model_does_not_agree(tmp_path: Path) -> None:
    contents = load_checkpoint(pretrained.path(NAME))
    contents["comprehensive_metrics"] = {**contents["comprehensive_metrics"], "coverage": 0.99}
    contents["model_state_dict"]["prototypes"] += 1.0
    save_checkpoint(tmp_path / "other.pt", contents)
    found = making.compare(NAME, tmp_path / "other.pt")
    assert not found.agrees
    assert not found.same_weights
    assert [figure.name for figure in found.figures if not figure.agrees] == ["coverage"]
    itself = making.compare(NAME, pretrained.path(NAME))
    assert itself.agrees
    assert itself.same_weights


def test_the_command_lists_and_prints_paths(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert main([NAME]) == 0
    alone = capsys.readouterr().out
    assert Path(alone.strip()) == pretrained.path(NAME)
    assert alone.strip() in listed
    assert shelf.SHELF[NAME].sha256 in listed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mathematical"], "no model 'mathematical'"),
        (["mathematical", "--again", "x"], "no model 'mathematical'"),
        (["--again", "x"], "--again needs the NAME"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    problem = capsys.readouterr().err
    assert told in problem
    assert problem.count("\n") == 1
