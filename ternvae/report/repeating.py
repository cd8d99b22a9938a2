"""How to make a run again, how to go on from it, and which files it left."""

from __future__ import annotations

import shlex
from pathlib import Path

from ternvae.checkpoint import FORMAT_VERSION
from ternvae.checkpoint.durable import PARTIAL
from ternvae.report.facts import RunFacts, entry
from ternvae.report.markup import Html, bullets, code, element, joined, table
from ternvae.training.inventory import file_digest, recorded_digests

__all__ = ["file_section", "onward_section", "profile_section", "repeat_section"]

#: Files that do not stay as they are.
_CHANGING = {
    "train.log": "grows by a line when training has written a report",
    "lock": "names the process that wrote here last",
}

#: Folders of which only the number of files is told.
_FOLDERS = ("pictures", "set_aside", "tensorboard")

#: Lines of a log that say that a run is not the one its profile describes.
_CHANGED = ("Resumed with another profile: ", "Resumed in another way")


def repeat_section(facts: RunFacts) -> Html:
    """A command that makes the run again, and all that its last bits depend on."""
    execution = entry(facts.stored, "execution", dict) or {}
    parts: list[str] = [code(_command(facts, execution))]
    if execution:
        parts.append(
            element(
                "p",
                "With the same profile, device, number of threads and processes, and versions, "
                "the run ends with the same weights and figures, to the bit. Compare "
                "comprehensive_metrics in metrics.json: checkpoints hold clock times as well, so "
                "their SHA-256 differ.",
            )
        )
        rows = [(str(name), str(value)) for name, value in execution.items()]
        seed = [] if facts.seed is None else [("seed", str(facts.seed))]
        parts.append(table("How it was executed", ("what", "value"), [*seed, *rows]))
    else:
        parts.append(element("p", "No checkpoint says with which versions the run was executed."))
    if cautions := _cautions(facts):
        parts += [element("h3", "What the command leaves out"), bullets(cautions)]
    return joined(*parts)


def _command(facts: RunFacts, execution: dict[str, str]) -> str:
    run = facts.directory.path
    profile = shlex.quote(str(facts.directory.profile))
    again = shlex.quote(str(run.with_name(run.name + "-again")) if run.name else "again")
    threads = execution.get("threads")
    several = execution.get("processes", "1")
    program = "ternvae"
    if several != "1":
        program = f"torchrun --nproc-per-node {shlex.quote(str(several))} -m ternvae"
    device = "cpu" if execution.get("device", "cpu") == "cpu" else "cuda"
    setting = f"OMP_NUM_THREADS={shlex.quote(str(threads))} " if threads else ""
    options = (f"--config {profile}", f"--device {device}", f"--run-dir {again}")
    return " \\\n    ".join((f"{setting}{program} train", *options))


def _cautions(facts: RunFacts) -> list[str]:
    source = entry(entry(facts.profile, "frozen_checkpoint", dict), "path", str)
    found = [f"It needs {source}, from which encoder A and the decoder come."] if source else []
    return found + [line for line in facts.log if line.startswith(_CHANGED)]


def onward_section(facts: RunFacts) -> Html:
    """Commands to go on with."""
    directory = facts.directory
    lines = []
    if facts.checkpoint is not None:
        best = shlex.quote(str(facts.checkpoint))
        lines += [
            "# measure it anew, with its 3-adic structure",
            f"ternvae analyze {best} --structure",
            "# the pictures as files, for a paper",
            f"ternvae plot {best} --format svg",
        ]
    if directory.last.is_file():
        if entry(facts.stored, "format_version", int) == FORMAT_VERSION:
            lines += ["# train on", _resumption(facts)]
        else:
            lines += [
                "# of an older format: a new run can begin with its encoder A and decoder",
                f"ternvae train --frozen_checkpoint.path {shlex.quote(str(directory.last))}",
            ]
    lines += ["# this page again", f"ternvae report {shlex.quote(str(directory.path))}"]
    parts: list[str] = [code("\n".join(lines))]
    if facts.checkpoint is not None:
        parts.append(
            code(
                "from ternvae.models import TernaryVAE\n\n"
                f"model = TernaryVAE.from_checkpoint({str(facts.checkpoint)!r})\n"
                "points = model.embed([0, 1, 3, 9])  # on the ball\n"
                "model.decode(points)  # the sequences, digit by digit"
            )
        )
    return joined(*parts)


def _resumption(facts: RunFacts) -> str:
    command = f"ternvae train --checkpoint {shlex.quote(str(facts.directory.last))}"
    epochs = entry(entry(facts.profile, "training", dict), "epochs", int)
    if facts.ended == "epochs" and epochs:
        return f"{command} --training.epochs {2 * epochs}"
    return command


def profile_section(facts: RunFacts) -> Html:
    """The profile as it was resolved, folded away."""
    if not facts.profile_text:
        return element("p", "No file has the profile.")
    summary = element("summary", "profile.yaml: every key, defaults included")
    return element("details", summary, code(facts.profile_text.rstrip("\n"), "profile"))


def file_section(facts: RunFacts) -> Html:
    """The files of the run, with their sizes and SHA-256."""
    directory = facts.directory
    known = recorded_digests(directory.checkpoints)
    rows: list[tuple[str, str, str]] = []
    for path in sorted([*_files(directory.path), *_files(directory.checkpoints)]):
        name = path.relative_to(directory.path).as_posix()
        if path.name in _CHANGING:
            rows.append((name, "", _CHANGING[path.name]))
            continue
        digest = known.get(path.name) if path.parent == directory.checkpoints else None
        rows.append((name, f"{path.stat().st_size:,}", element("code", digest or _digest(path))))
    for folder in (directory.path / name for name in _FOLDERS):
        count = sum(path.is_file() for path in folder.rglob("*"))
        rows += [(f"{folder.name}/", "", f"{count} files")] if count else []
    note = joined(
        "Those of checkpoints are as the run recorded them; in checkpoints/, ",
        element("code", "sha256sum --check SHA256SUMS"),
        " compares them with the files.",
    )
    heading = ("file", "bytes", "SHA-256")
    return joined(
        table("Files of the run", heading, rows, numbers=(1,)), element("p", note, class_="note")
    )


def _files(folder: Path) -> list[Path]:
    """Plain files, without reports and what is being written."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix not in (".html", PARTIAL)
    ]


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        return f"(cannot be read: {error.strerror})"
