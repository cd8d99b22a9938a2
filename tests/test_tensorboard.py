"""Event files, read back with TensorBoard's own readers."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as ServedAccumulator,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray

from ternvae.training.tensorboard import TensorBoard, TensorBoardError, require_tensorboard

ALL = {"scalars": 0, "tensors": 0}
MISSING = (
    "monitoring.tensorboard: needs the package tensorboard; "
    "pip install 'ternvae[tensorboard]', or set monitoring.tensorboard: false"
)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance=ALL).Reload()


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(name)]


def texts(folder: Path, name: str) -> list[tuple[int, str]]:
    events = read(folder).Tensors(f"{name}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in events]


def served(folder: Path, name: str) -> list[tuple[int, float]]:
    """A curve in the reader that TensorBoard's server uses, which purges by other rules."""
    events = ServedAccumulator(str(folder), size_guidance=ALL).Reload().Tensors(name)
    return [(event.step, float(make_ndarray(event.tensor_proto))) for event in events]


def entry(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Settings and names of the metrics of the run's entry in the table of runs."""
    contents = read(folder).PluginTagToContent("hparams")
    data = {tag: HParamsPluginData.FromString(content) for tag, content in contents.items()}
    start = data["_hparams_/session_start_info"].session_start_info
    experiment = data["_hparams_/experiment"].experiment
    assert data["_hparams_/session_end_info"].HasField("session_end_info")
    settings = {
        key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()
    }
    assert {info.name for info in experiment.hparam_infos} == set(settings)
    return settings, [info.name.tag for info in experiment.metric_infos]


def single(value: float) -> float:
    """The nearest number of single precision."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


# --- curves ---------------------------------------------------------------------------------


def test_curves_keep_steps_and_values_to_single_precision(tmp_path: Path) -> None:
    points = {5: 0.1, 10: -0.8320503, 15: 1e-30}
    with TensorBoard(tmp_path) as board:
        for step, value in points.items():
            board.scalars(step, {"metrics/hierarchy_B": value, "losses/total": 2 * value})
    assert curve(tmp_path, "metrics/hierarchy_B") == [(s, single(v)) for s, v in points.items()]
    assert curve(tmp_path, "losses/total") == [(s, single(2 * v)) for s, v in points.items()]
    assert served(tmp_path, "losses/total") == curve(tmp_path, "losses/total")


def test_what_is_not_finite_is_shown_and_none_is_left_out(tmp_path: Path) -> None:
    with TensorBoard(tmp_path) as board:
        board.scalars(1, {"nan": math.nan, "inf": -math.inf, "huge": 1e300, "none": None})
    assert sorted(read(tmp_path).Tags()["scalars"]) == ["huge", "inf", "nan"]
    ((step, value),) = curve(tmp_path, "nan")
    assert step == 1 and math.isnan(value)
    assert curve(tmp_path, "inf") == [(1, -math.inf)]
    assert curve(tmp_path, "huge") == [(1, math.inf)]  # beyond single precision


def test_points_are_in_the_file_while_the_run_goes_on(tmp_path: Path) -> None:
    with TensorBoard(tmp_path) as board:
        board.scalars(1, {"loss": 1.0})
        board.text("profile", "seed: 0")
        assert curve(tmp_path, "loss") == [(1, 1.0)]
        assert len(texts(tmp_path, "profile")) == 1


def test_the_files_are_closed_when_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="training failed"), TensorBoard(tmp_path) as board:
        board.scalars(1, {"loss": 1.0})
        raise RuntimeError("training failed")
    board.close()
    assert curve(tmp_path, "loss") == [(1, 1.0)]
    assert len(list(tmp_path.iterdir())) == 1


# --- texts ----------------------------------------------------------------------------------


# TensorBoard's viewer, not its writer, carries an old copy of html5lib that warns on import.
@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated:DeprecationWarning")
def test_a_text_is_shown_as_it_is_written(tmp_path: Path) -> None:
    from tensorboard.plugin_util import markdown_to_safe_html

    profile = "name: x\n\nmodel:\n  description: '# no *heading*'\n```\n<b>\n"
    with TensorBoard(tmp_path) as board:
        board.text("profile", profile)
    ((step, markdown),) = texts(tmp_path, "profile")
    assert step == 0
    escaped = profile.replace("<b>", "&lt;b&gt;")
    assert markdown_to_safe_html(markdown) == f"<pre><code>{escaped}</code></pre>"


# --- the table of runs ----------------------------------------------------------------------


def test_settings_are_flat_and_keep_what_they_say(tmp_path: Path) -> None:
    settings = {
        "name": "x",
        "seed": 2**63 - 1,
        "training": {"lr": 3e-3, "epochs": 63, "stop_early": False, "patience": None},
        "scheduler.T_0": 25.0,
        "odd": {"limit": math.inf, "shape": [1, None, "a"], "true": True},
    }
    with TensorBoard(tmp_path) as board:
        board.hyperparameters(settings, {})
    assert entry(tmp_path) == (
        {
            "name": "x",
            "seed": str(2**63 - 1),
            "training.lr": 3e-3,
            "training.epochs": 63.0,
            "training.stop_early": "false",
            "training.patience": "null",
            "scheduler.T_0": 25.0,
            "odd.limit": "inf",
            "odd.shape": "[1, null, a]",
            "odd.true": "true",
        },
        [],
    )


def test_the_entry_lies_in_the_folder_of_the_run(tmp_path: Path) -> None:
    with TensorBoard(tmp_path / "run") as board:
        board.scalars(63, {"Q_enhanced": 2.0})
        board.hyperparameters({"seed": 1}, {"Q_enhanced": 2.14, "gone": None}, step=63)
        board.scalars(64, {"Q_enhanced": 2.5})
    (file,) = tmp_path.rglob("*.*")
    assert file.parent == tmp_path / "run"
    assert entry(tmp_path / "run") == ({"seed": 1.0}, ["final/Q_enhanced"])
    assert curve(tmp_path / "run", "final/Q_enhanced") == [(63, single(2.14))]
    assert curve(tmp_path / "run", "Q_enhanced") == [(63, 2.0), (64, 2.5)]


def test_a_whole_profile_fits(tmp_path: Path) -> None:
    from ternvae.config import load_profile

    profile = load_profile()
    with TensorBoard(tmp_path) as board:
        board.text("profile", profile.to_yaml())
        board.hyperparameters(profile.to_dict(), {})
    settings, _ = entry(tmp_path)
    assert settings["space.n_digits"] == profile.space.n_digits
    assert settings["training.lr"] == profile.training.lr
    ((_, markdown),) = texts(tmp_path, "profile")
    shown = "".join(line.removeprefix("    ") for line in markdown.splitlines(keepends=True))
    assert yaml.safe_load(shown) == profile.to_dict()


# --- going on with a run --------------------------------------------------------------------


def test_a_resumed_run_shows_no_epoch_twice(tmp_path: Path) -> None:
    with TensorBoard(tmp_path) as board:
        board.text("profile", "first")
        for step in range(1, 8):
            board.scalars(step, {"loss": 1.0})
    with TensorBoard(tmp_path, purge_step=5) as board:
        board.text("profile", "again", step=4)
        for step in (5, 6):
            board.scalars(step, {"loss": 2.0})
    expected = [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0), (6, 2.0)]
    assert curve(tmp_path, "loss") == expected
    assert served(tmp_path, "loss") == expected
    assert texts(tmp_path, "profile") == [(0, "    first"), (4, "    again")]


def test_a_new_run_hides_what_the_folder_held(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        with TensorBoard(tmp_path) as board:
            board.scalars(0, {"loss": value})
            board.scalars(1, {"loss": value})
    assert curve(tmp_path, "loss") == served(tmp_path, "loss") == [(0, 2.0), (1, 2.0)]


def test_files_are_named_in_the_order_in_which_they_were_begun(tmp_path: Path) -> None:
    begun: list[str] = []
    for _ in range(2):
        TensorBoard(tmp_path).close()
        begun += [path.name for path in tmp_path.iterdir() if path.name not in begun]
    assert len({name.split(".")[3] for name in begun}) == 2
    assert begun == sorted(begun)


def test_a_clock_that_was_set_back_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))
    (tmp_path / "events.out.tfevents.9999999999.vm.1.0").write_bytes(b"")
    TensorBoard(tmp_path).close()
    assert len(list(tmp_path.iterdir())) == 2


# --- refusals -------------------------------------------------------------------------------


@pytest.fixture
def without_the_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in [m for m in sys.modules if m.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    yield


@pytest.mark.usefixtures("without_the_package")
def test_a_missing_package_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    for attempt in (require_tensorboard, lambda: TensorBoard(tmp_path / "run")):
        with pytest.raises(TensorBoardError) as caught:
            attempt()
        assert str(caught.value) == MISSING
        assert isinstance(caught.value, ValueError)
    assert list(tmp_path.iterdir()) == []


def test_the_package_is_there_again() -> None:
    require_tensorboard()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.write_text("")
    with pytest.raises(TensorBoardError, match=r"TensorBoard folder .*taken: File exists"):
        TensorBoard(path)


def test_the_package_is_loaded_only_when_it_is_asked_for() -> None:
    code = (
        "import sys, ternvae.training.tensorboard as t\n"
        "assert not {'tensorboard', 'torch.utils.tensorboard'} & set(sys.modules)\n"
        "t.require_tensorboard()\n"
        "assert 'tensorboard' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
