"""What a report says of a run, whatever has become of the run and its files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ternvae.cli import main
from ternvae.config import load_profile
from ternvae.metrics import ceilings
from ternvae.report import ReportError, facts_of, report_html, write_report
from ternvae.report.markup import Html, element, joined, table
from ternvae.report.training import spread
from tests.report.hostile import EVIL, hostile_run
from tests.runs import fit, tiny

DATA = Path(__file__).parents[1] / "data"


class Read(HTMLParser):
    """The elements of a page with their attributes, and its text, line by line."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.lines: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.lines.append(data)

    def row(self, name: str) -> list[str]:
        """What stands in the row of a table that begins with this cell."""
        start = self.lines.index(name)
        return self.lines[start : start + 8]


def copy(ended: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a run whose summary has other entries; those of None are left out."""
    run = shutil.copytree(ended, folder / "run")
    path = run / "metrics.json"
    whole = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in whole.items() if v is not None}))
    return run


def headline(run: Path) -> str:
    found = re.search(r"<h1>.*?<span class=\"(.*?)\">(.*?)</span></h1>", page_of(run))
    assert found
    return f"{found[1]}: {found[2]}"


def page_of(run: Path) -> str:
    return report_html(facts_of(run))


def test_the_figures_are_those_of_the_terminal(ended: Path) -> None:
    read = Read((ended / "report.html").read_text())
    table_of_the_log = (ended / "train.log").read_text().split("metric  ")[1].splitlines()[2:]
    rows = {line.split()[0]: line.split()[1] for line in table_of_the_log if " " in line}
    names = [
        name
        for name in rows
        if name in json.loads((ended / "metrics.json").read_text())["comprehensive_metrics"]
    ]
    assert len(names) == 13
    for name in names:
        if not name.startswith("r_v"):
            assert rows[name] in read.row(name), name
    for name in names[-4:]:
        level = read.lines.index("Radii by level")
        at = read.lines.index(name[3:], level)
        assert float(read.lines[at + 2]) == pytest.approx(float(rows[name]), abs=1e-6)
    assert "its figures agree with those that the run stored." in " ".join(read.lines)


def test_nothing_is_loaded_and_nothing_runs(ended: Path) -> None:
    page = (ended / "report.html").read_text()
    read = Read(page)
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "iframe", "object", "embed", "base", "form", "video", "audio"}
    for _, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#"))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": policy}) in read.elements
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.usefixtures("plain")
def test_every_text_is_only_text(ended: Path, tmp_path: Path) -> None:
    run = hostile_run(ended, tmp_path)
    read = Read(page_of(run))
    sound = Read((ended / "report.html").read_text())
    assert {tag for tag, _ in read.elements} <= {tag for tag, _ in sound.elements} | {"strong"}
    assert not [k for _, attributes in read.elements for k in attributes if k.startswith("on")]
    assert sum(EVIL in line for line in read.lines) > 12


def test_markup_escapes_what_is_not_markup() -> None:
    assert element("p", 'a < b & "c"', title='"><i>') == (
        '<p title="&quot;&gt;&lt;i&gt;">a &lt; b &amp; &quot;c&quot;</p>'
    )
    assert joined("<", Html("<br>")) == "&lt;<br>"
    assert element("img", alt="") == '<img alt="">'
    found = table("c", ("h", "k"), [("<r>", element("b", "d"))], numbers=(1,))
    assert '<th scope="row">&lt;r&gt;</th><td class="number"><b>d</b></td>' in found
    assert '<th scope="col">h</th><th scope="col" class="number">k</th>' in found


def test_of_many_rows_some_are_shown_with_the_first_and_the_last() -> None:
    assert spread(range(5), 5) == [0, 1, 2, 3, 4]
    assert spread(range(101), 5) == [0, 25, 50, 75, 100]


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "bad: "),
        ({"stop_reason": None}, "bad: .*; not finished"),
        ({"stop_reason": "out_of_memory"}, "bad: .*; stopped itself, out of memory"),
    ],
)
def test_the_headline_is_the_verdict(
    changes: dict[str, Any], expected: str, ended: Path, tmp_path: Path
) -> None:
    assert re.fullmatch(expected + r".*", headline(copy(ended, tmp_path, **changes)))


@pytest.mark.usefixtures("plain")
def test_targets_that_are_met_and_missed_are_counted(ended: Path, tmp_path: Path) -> None:
    figures = json.loads((ended / "metrics.json").read_text())["comprehensive_metrics"]
    good = {**figures, "coverage": 1.0, "hierarchy_B": ceilings(3)["hierarchy"], "richness": 1.0}
    good |= {"Q_enhanced": 2.0, "triplet_accuracy": 1.0}
    wanted = facts_of(ended).targets
    passed = dict.fromkeys(("coverage_precision", "mathematical_foundation_ready"), True)
    run = copy(ended, tmp_path, comprehensive_metrics=good, validation_results=passed)
    assert headline(run) == f"good: all {len(wanted)} targets met"
    path = run / "metrics.json"
    summary = json.loads(path.read_text())
    summary["comprehensive_metrics"] |= {"richness": 0.0, "coverage": None}
    path.write_text(json.dumps(summary))
    assert headline(run) == f"bad: 2 of {len(wanted)} targets missed: coverage, richness"
    summary["comprehensive_metrics"] = good
    summary["validation_results"]["numerical_stability"] = False
    path.write_text(json.dumps(summary))
    failing = "targets met, but a check fails: numerical_stability"
    assert headline(run) == f"bad: all {len(wanted)} {failing}"


def test_a_damaged_model_leaves_the_figures(ended: Path, tmp_path: Path) -> None:
    run = copy(ended, tmp_path)
    best = run / "checkpoints" / "best_Q.pt"
    best.write_bytes(best.read_bytes()[:-3000])
    read = Read(report_html(facts_of(run)))
    text = " ".join(read.lines)
    assert "not measured again: " in text
    assert "No pictures: " in text
    assert "damaged" in text
    figures = json.loads((run / "metrics.json").read_text())["comprehensive_metrics"]
    assert f"{figures['richness']:.7f}".rstrip("0") in read.row("richness")


@pytest.mark.usefixtures("plain")
def test_files_that_are_anything_are_survived(ended: Path, tmp_path: Path) -> None:
    run = copy(ended, tmp_path)
    for name in ("metrics.json", "metrics.jsonl", "train.log", "profile.yaml"):
        (run / name).write_bytes(b"[\xff\x00{" + b"[" * 5000)
    (run / "checkpoints" / "SHA256SUMS").write_bytes(b"\xff")
    assert "not finished" in headline(run)  # the model alone says what there is to say
    (run / "metrics.jsonl").write_text('{"epoch": 1, "coverage": "x", "losses": 3, "events": 7}\n')
    (run / "metrics.json").write_text('{"seconds": [], "epochs_to": 3, "warnings": "no"}')
    assert "not finished" in headline(run)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("version", [1, 2, 3])
def test_runs_of_older_formats_have_reports(version: int, tmp_path: Path) -> None:
    place = tmp_path / "run" / "checkpoints"
    place.mkdir(parents=True)
    shutil.copy(DATA / f"format_{version}.pt", place / "best_Q.pt")
    shutil.copy(DATA / f"format_{version}.pt", place / "last.pt")
    text = " ".join(Read(page_of(tmp_path / "run")).lines)
    assert "Radii by level" in text
    assert "--frozen_checkpoint.path" in text
    assert "ternvae train --checkpoint" not in text


@pytest.mark.usefixtures("plain")
def test_a_run_that_holds_out_shows_both_parts(tmp_path: Path) -> None:
    fit(tiny(space__holdout=0.3), tmp_path / "run")
    read = Read(page_of(tmp_path / "run"))
    assert "30 % of the sequences were held out" in " ".join(read.lines)
    unseen = json.loads((tmp_path / "run" / "metrics.json").read_text())["holdout"]["unseen"]
    at = read.lines.index("unseen - seen")
    row = read.lines.index("hierarchy_A", at)
    assert float(read.lines[row + 2]) == pytest.approx(unseen["hierarchy_A"], abs=1e-6)


@pytest.mark.usefixtures("plain")
def test_the_commands_make_the_run_again_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command as it stands in the page, in a folder whose name needs quotes."""
    monkeypatch.chdir(tmp_path)
    run = Path("it's here")
    profile = tiny(seed=11)
    fit(profile, run)
    read = Read(page_of(run))
    command = next(line for line in read.lines if "--config" in line)
    assert f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')}" in command
    words = shlex.split(command.replace("\\\n", " "))
    assert main(words[words.index("train") :]) == 0
    again = Path("it's here-again")
    assert load_profile(again / "profile.yaml") == profile
    one, other = (json.loads((p / "metrics.json").read_text()) for p in (run, again))
    assert one["comprehensive_metrics"] == other["comprehensive_metrics"]
    onward = next(line for line in read.lines if "ternvae train --checkpoint" in line)
    resumed = next(line for line in onward.splitlines() if "--checkpoint" in line)
    assert main(shlex.split(resumed)[1:]) == 0
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 8


def test_files_are_listed_with_the_digests_that_they_have(ended: Path) -> None:
    read = Read((ended / "report.html").read_text())
    for name in ("metrics.json", "metrics.jsonl", "profile.yaml", "checkpoints/best_Q.pt"):
        content = (ended / name).read_bytes()
        assert read.row(name)[1:3] == [f"{len(content):,}", hashlib.sha256(content).hexdigest()]
    assert "report.html" not in read.lines


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain")
def test_the_command_takes_a_run_or_a_checkpoint_in_it(
    ended: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, written = tmp_path / "page.html", re.compile(r"Written .*? by ")
    page = written.sub("", page_of(ended))
    for given in (ended, ended / "checkpoints" / "last.pt"):
        assert main(["report", str(given), "--out", str(out)]) == 0
        assert capsys.readouterr().out == f"{out}\n"
        assert written.sub("", out.read_text()) == page


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nowhere"], "nowhere: holds no run: "),
        (["."], ".: holds no run: "),
        (["{run}/train.log"], "{run}/train.log: is in no checkpoints/ folder of a run"),
        (["{run}", "--out", "none/page.html"], "cannot write none/page.html: No such file"),
        (["{run}", "--out", "."], "must name a file, got '.'"),
        (["{run}", "--device", "cuda:99"], "device: 'cuda:99' is not there"),
        ([""], "command line: RUN: must not be empty"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str],
    problem: str,
    ended: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(each.format(run=ended) for each in arguments)]) == 2
    err = capsys.readouterr().err
    assert problem.format(run=ended) in err
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_left_alone(ended: Path, tmp_path: Path) -> None:
    run = copy(ended, tmp_path)
    run.chmod(0o500)
    try:
        with pytest.raises(ReportError, match="Permission denied; name another file with --out"):
            write_report(run)
        assert write_report(run, tmp_path / "page.html").is_file()
    finally:
        run.chmod(0o700)
