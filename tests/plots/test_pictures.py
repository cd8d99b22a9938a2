"""All pictures: what they show, what they leave out and why, and the files that become of them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import ternvae.plots.gallery as gallery
from ternvae.ceilings import ceilings
from ternvae.plots import (
    PICTURES,
    PicturesError,
    SkippedPictureWarning,
    Subject,
    caption_of,
    pictures,
    save_picture,
)
from tests.plots.subjects import history, made


def drawn(subject: Subject, name: str) -> Figure:
    ((found, figure),) = pictures(subject, [name])
    assert found == name
    return figure


def words(figure: Figure) -> list[str]:
    figure.draw_without_rendering()  # ticks have no text before
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


# --- what is drawn --------------------------------------------------------------------------


@pytest.mark.parametrize("n_digits", [1, 3])
def test_every_picture_is_there_in_order_with_title_and_caption(n_digits: int) -> None:
    found = dict(pictures(made(n_digits)))
    assert list(found) == list(PICTURES)
    for name, figure in found.items():
        assert figure.get_suptitle() == f"{PICTURES[name].title}: run/best_Q.pt"
        caption = caption_of(figure)
        assert len(caption) > 40 and caption in " ".join(words(figure)).replace("\n", " ")
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
        assert min(sizes) >= 8


def test_radii_show_the_bands_of_their_levels() -> None:
    subject = made(3)
    above, below = drawn(subject, "radii").axes
    for level in range(4):
        r = subject.radius[subject.valuation == level]
        all_of_it, most_of_it = above.patches[2 * level : 2 * level + 2]
        assert (all_of_it.get_y(), all_of_it.get_height()) == pytest.approx((r.min(), np.ptp(r)))
        assert most_of_it.get_y() == pytest.approx(np.percentile(r, 5))
        assert below.patches[level].get_height() == pytest.approx(r.std(), abs=1e-15)
        assert above.lines[level].get_ydata()[0] == pytest.approx(r.mean())
    assert [text.get_text() for text in above.texts] == ["18", "6", "2", "1"]
    # The line stands where n levels of equal spread and one point make the target.
    spread = below.lines[0].get_ydata()[0]
    assert 3 * spread**2 / 4 == pytest.approx(0.006)


def test_curves_have_a_panel_for_each_metric_and_the_targets_of_the_profile() -> None:
    targets = {"coverage": 1.0, "coverage_B": 1.0, "richness": 0.0061, "triplet_accuracy": 0.75}
    figure = drawn(made(3, targets=targets), "curves")
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == [
        *("coverage", "hierarchy_B", "richness", "Q"),
        *("dist_corr", "ultrametric_corr", "triplet_accuracy", "loss (log scale)"),
    ]
    said = {name: [text.get_text() for text in axes.texts] for name, axes in panels.items()}
    assert said["richness"] == ["target 0.0061"]
    assert said["triplet_accuracy"] == ["target 0.75", "ceiling 1"]
    assert said["coverage"] == ["target and ceiling 1"]
    assert said["dist_corr"] == [f"ceiling {ceilings(3)['dist_corr']:.5g}"]
    assert said["hierarchy_B"] == [f"ceiling {ceilings(3)['hierarchy']:.5g}"]
    assert said["Q"] == [f"ceiling {ceilings(3)['Q_enhanced']:.5g}"]
    for name, value in (("richness", 0.0061), ("Q", ceilings(3)["Q_enhanced"])):
        axes = panels[name]
        line = axes.lines[1].get_ydata()
        assert line[0] == pytest.approx(value)
        assert axes.get_ylim()[0] < line[0] < axes.get_ylim()[1]
    assert panels["loss (log scale)"].get_yscale() == "log"
    curve = panels["richness"].lines[0]
    assert curve.get_xdata().tolist() == [1, 2, 3, 4]
    assert curve.get_ydata() == pytest.approx([0.002, 0.004, 0.006, 0.008])
    gap = panels["ultrametric_corr"].lines[0].get_ydata()
    assert np.isnan(gap[-1]) and np.isfinite(gap[:-1]).all()


def test_an_earlier_epoch_is_marked_in_the_curves() -> None:
    early = drawn(made(3, epoch=2), "curves")
    assert [line.get_xdata()[0] for line in early.axes[2].lines if line.get_linestyle() == ":"] == [
        2
    ]
    assert "The checkpoint is of epoch 2" in caption_of(early)
    unknown = drawn(made(3, epoch=None), "curves")
    assert "The checkpoint" not in caption_of(unknown)


def test_one_epoch_and_odd_values_are_curves_too() -> None:
    odd: list[dict[str, Any]] = [{"epoch": 3, "richness": "much", "losses": [1], "coverage": True}]
    figure = drawn(made(3, history=odd), "curves")
    assert words(figure).count("not measured") == 8


def test_violins_hold_the_distances_of_their_valuation() -> None:
    subject = made(4)
    (axes,) = drawn(subject, "distances").axes
    bodies = [body.get_paths()[0].vertices for body in axes.collections]
    assert len(bodies) == 4
    for v, outline in enumerate(bodies):
        own = subject.pairs.distance[subject.pairs.valuation == v]
        assert outline[:, 1].min() == pytest.approx(own.min())
        assert outline[:, 1].max() == pytest.approx(own.max())
        assert outline[:, 0].mean() == pytest.approx(v, abs=0.05)


def test_few_pairs_are_dots() -> None:
    (axes,) = drawn(made(1), "distances").axes
    assert not axes.collections
    assert sorted(axes.lines[0].get_ydata()) == pytest.approx(sorted(made(1).pairs.distance))


def test_the_frontier_has_curves_targets_and_the_way_of_the_run() -> None:
    subject = made(3)
    (axes,) = drawn(subject, "frontier").axes
    lines = {line.get_label(): line for line in axes.lines}
    here = lines["this checkpoint"]
    lost = ceilings(3)["Q_enhanced"] - 2.05
    assert (here.get_xdata()[0], here.get_ydata()[0]) == pytest.approx((0.004, lost))
    way = lines["the run, epoch by epoch"]
    assert way.get_xdata() == pytest.approx([0.002, 0.004, 0.006, 0.008])
    for family in ("equal shells", "levels disjoint", "levels anywhere"):
        losses = lines[family].get_ydata()
        assert len(losses) > 3 and (np.diff(losses) > -2e-4).all()
    assert "target 0.006" in words(axes.figure) and "target of Q: 2" in words(axes.figure)
    low, high = axes.get_ylim()
    assert low > here.get_ydata()[0] > high  # the best is above


def test_what_is_not_a_number_is_left_out() -> None:
    lines = history()
    lines[1]["richness"] = None
    (axes,) = drawn(made(3, history=lines), "frontier").axes
    (way,) = [line for line in axes.lines if str(line.get_label()).startswith("the run")]
    assert way.get_xdata() == pytest.approx([0.002, 0.006, 0.008])


# --- what is not drawn ----------------------------------------------------------------------


def test_a_picture_that_cannot_be_drawn_is_skipped_and_named() -> None:
    told: list[tuple[str, str]] = []
    bare = made(2, history=[], metrics={"richness": float("nan"), "Q_enhanced": 2.0})
    found = pictures(bare, skipped=lambda name, why: told.append((name, why)))
    assert [name for name, _ in found] == ["disk", "radii", "distances"]
    assert [name for name, _ in told] == ["curves", "frontier"]
    assert "metrics.jsonl" in told[0][1] and "not a number" in told[1][1]
    with pytest.warns(
        SkippedPictureWarning, match=r"no picture curves: there is no metrics\.jsonl"
    ):
        assert list(pictures(bare, ["curves"])) == []


@pytest.mark.parametrize(
    ("arguments", "refusal", "message"),
    [
        (("run",), TypeError, "subject must be a Subject, as subject_of gives, got str"),
        ((made(1), "disk"), TypeError, "names: got 'disk', expected a list of some of disk, radii"),
        ((made(1), 3), TypeError, "names: got 3"),
        ((made(1), ["disc"]), PicturesError, "names: got 'disc', expected some of disk, radii"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(
    arguments: Any, refusal: type[Exception], message: str
) -> None:
    with pytest.raises(refusal, match=message):
        pictures(*arguments)


def test_bad_options_are_refused_at_the_call() -> None:
    with pytest.raises(PicturesError, match="projection: got 'umap', expected one of tree, pca"):
        pictures(made(1), projection="umap")
    with pytest.raises(TypeError, match="skipped must be a function, got int"):
        pictures(made(1), skipped=3)  # type: ignore[arg-type]


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Figure()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for ask in (lambda: pictures(made(1)), lambda: save_picture(figure, "x.png")):
        with pytest.raises(PicturesError, match=r"pip install 'ternvae\[plot\]'"):
            ask()


def test_nothing_of_the_user_is_touched(tmp_path: Path) -> None:
    """No pyplot, no backend, and whatever the settings were, they are still."""
    code = (
        "import sys\n"
        "import ternvae.plots as plots\n"
        "assert not any(name.startswith('matplotlib') for name in sys.modules)\n"
        "import matplotlib\n"
        "matplotlib.rcParams['font.size'] = 31.0\n"
        "def settings():  # reading the backend would choose one\n"
        "    return {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'}\n"
        "before = settings()\n"
        "from tests.plots.subjects import made\n"
        "for name, figure in plots.pictures(made(3)):\n"
        "    plots.save_picture(figure, sys.argv[1] + name + '.svg')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "after = settings()\n"
        "assert before == after, {k for k in after if before[k] != after[k]}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# --- files ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Path]]]:
    """Every picture drawn and saved twice in both formats."""
    folder = tmp_path_factory.mktemp("saved")
    found: dict[str, list[Path]] = {}
    for k in range(2):
        with mpl.rc_context({"font.size": 10.0 + 7 * k, "svg.fonttype": "none"}):
            for (name, figure), kind in itertools.product(pictures(made(3)), ("png", "svg")):
                path = folder / f"{name}{k}.{kind}"
                save_picture(figure, path)
                found.setdefault(f"{name}.{kind}", []).append(path)
    yield found


@pytest.mark.parametrize("name", [f"{n}.{k}" for n in PICTURES for k in ("png", "svg")])
def test_files_are_the_same_each_time(saved: dict[str, list[Path]], name: str) -> None:
    first, second = saved[name]
    assert first.read_bytes() == second.read_bytes()
    assert not first.with_name(first.name + ".partial").exists()


@pytest.mark.parametrize("name", PICTURES)
def test_an_svg_is_well_formed_and_says_what_it_is(saved: dict[str, list[Path]], name: str) -> None:
    root = ElementTree.parse(saved[f"{name}.svg"][0]).getroot()  # noqa: S314 - just written
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert (
        root.findtext("{http://www.w3.org/2000/svg}title")
        == f"{PICTURES[name].title}: run/best_Q.pt"
    )
    told = {element.tag.rpartition("}")[2]: element.text for element in root.iter()}
    assert len(told["description"] or "") > 40
    assert "date" not in told
    assert b"<image" not in saved[f"{name}.svg"][0].read_bytes()  # few points are shapes


def test_a_png_has_its_size_and_no_date(saved: dict[str, list[Path]]) -> None:
    from PIL import Image

    figure = drawn(made(3), "disk")
    with Image.open(saved["disk.png"][0]) as image:
        width, height = figure.get_size_inches() * 150
        assert image.size == (int(width), int(height))
        assert image.info["Title"].startswith("Poincaré disk")
        assert "Creation Time" not in image.info


def test_many_points_are_an_image_in_a_small_svg(tmp_path: Path) -> None:
    subject = made(8, 3, pairs=made(2).pairs)
    save_picture(drawn(subject, "disk"), tmp_path / "disk.svg")
    written = (tmp_path / "disk.svg").read_bytes()
    assert written.count(b"<image") == 2 and len(written) < 1_000_000


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    for name in ("a$b$c_d^e/x.pt", "名/x.pt", "x" * 200):
        figure = drawn(made(2, name=name), "radii")
        save_picture(figure, tmp_path / "x.svg")
        title = figure.get_suptitle().removeprefix("Hyperbolic radius by level: ")
        assert title == name if len(name) < 40 else name.endswith(title[1:]) and len(title) == 40


def test_files_that_cannot_be_are_refused(tmp_path: Path) -> None:
    figure = Figure()
    with pytest.raises(PicturesError, match=r"x\.pdf', expected a name ending in \.png or \.svg"):
        save_picture(figure, tmp_path / "x.pdf")
    with pytest.raises(TypeError, match="figure must be a matplotlib Figure"):
        save_picture("figure", tmp_path / "x.png")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="path"):
        save_picture(figure, 3)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No such file"):
        save_picture(figure, tmp_path / "none" / "x.png")
    with pytest.raises(TypeError, match="figure must be"):
        caption_of("figure")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_there_is_no_picture_without_an_entry() -> None:
    assert list(gallery.PICTURES) == ["disk", "radii", "curves", "distances", "frontier"]
    assert all(entry.title and entry.alt.endswith(".") for entry in PICTURES.values())
