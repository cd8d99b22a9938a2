"""``ternvae plot`` as a user runs it."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ternvae.cli import main
from ternvae.plots import PICTURES
from tests.runs import fit, tiny

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    fit(tiny(), folder)
    return folder


def plot(*arguments: object) -> int:
    return main(["plot", *map(str, arguments), "--device", "cpu"])


def test_all_pictures_go_to_the_run_and_their_paths_are_printed(
    run: Path, capsys: Captured
) -> None:
    assert plot(run / "checkpoints" / "best_Q.pt") == 0
    told = capsys.readouterr()
    folder = run / "pictures" / "best_Q"
    assert told.out.splitlines() == [str(folder / f"{name}.png") for name in PICTURES]
    assert told.err == ""
    for path in told.out.splitlines():
        assert Path(path).read_bytes().startswith(b"\x89PNG")
    assert plot(run / "checkpoints" / "last.pt", "--picture", "radii") == 0
    assert (run / "pictures" / "last" / "radii.png").is_file()


def test_svg_of_what_was_asked_for_where_it_was_asked_for(
    run: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "a" / "b"
    chosen = ["--picture", "radii", "--picture", "disk", "--picture", "radii", "--format", "svg"]
    assert plot(run / "checkpoints" / "best_Q.pt", *chosen, "--out", out) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(out / f"{name}.svg") for name in ("radii", "disk")
    ]
    for path in out.iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")  # noqa: S314 - just written


def test_the_projection_can_be_chosen(run: Path, tmp_path: Path) -> None:
    chosen = [run / "checkpoints" / "best_Q.pt", "--picture", "disk", "--format", "svg"]
    assert plot(*chosen, "--out", tmp_path / "tree") == 0
    assert plot(*chosen, "--out", tmp_path / "pca", "--projection", "pca") == 0
    assert "principal axes" not in (tmp_path / "tree" / "disk.svg").read_text()
    assert "principal axes" in (tmp_path / "pca" / "disk.svg").read_text()


def test_outside_a_run_pictures_go_here_and_curves_are_left_out(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    model = tmp_path / "models" / "one.pt"
    model.parent.mkdir()
    model.write_bytes((run / "checkpoints" / "best_Q.pt").read_bytes())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert plot(model) == 0
    told = capsys.readouterr()
    folder = Path("pictures") / "one"
    assert told.out.splitlines() == [
        str(folder / f"{name}.png") for name in PICTURES if name != "curves"
    ]
    assert told.err.startswith("curves: not drawn: there is no metrics.jsonl")
    assert list(model.parent.iterdir()) == [model]
    # Asked for by name, it is missed.
    assert plot(model, "--picture", "curves") == 2
    assert capsys.readouterr().err.startswith("curves: not drawn: ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["none.pt"], "none.pt: no such checkpoint file"),
        (["none.pt", "--picture", "disc"], "--picture: got 'disc', expected one of disk, radii"),
        (["none.pt", "--format", "pdf"], "'pdf' is not one of 'png', 'svg'"),
        (["none.pt", "--projection", "umap"], "'umap' is not one of 'tree', 'pca'"),
        (["none.pt", "--out", ""], "--out: must not be empty"),
        (["none.pt", "--out", "a", "--out", "b"], "--out is given twice"),
        ([], "Missing argument 'CHECKPOINT'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], complaint: str, capsys: Captured
) -> None:
    assert plot(*arguments) == 2
    told = capsys.readouterr()
    assert complaint in told.err and told.err.count("\n") == 1 and told.out == ""


def test_a_folder_that_cannot_be_made_is_bad_input(
    run: Path, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "below"
    assert plot(run / "checkpoints" / "best_Q.pt", "--picture", "radii", "--out", out) == 2
    assert (
        capsys.readouterr().err == f"--out: {out}/radii.png: cannot be written: Not a directory\n"
    )


def test_without_matplotlib_one_line_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert plot(run / "checkpoints" / "best_Q.pt") == 2
    told = capsys.readouterr()
    assert told.err == "pictures need the package matplotlib; pip install 'ternvae[plot]'\n"


def test_the_help_names_every_picture(capsys: Captured) -> None:
    assert main(["plot", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} (" in told for name in PICTURES)
    assert "pip install 'ternvae[plot]'" in told
