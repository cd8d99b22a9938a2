"""The page of a run: its sections in their order, and how it comes onto the disk."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources
from os import PathLike
from pathlib import Path

from ternvae import __version__
from ternvae.checkpoint import write_whole
from ternvae.checkpoint.arguments import file_path
from ternvae.report.facts import ReportError, RunFacts, facts_of
from ternvae.report.markup import Html, element, joined
from ternvae.report.pictures import picture_section
from ternvae.report.repeating import file_section, onward_section, profile_section, repeat_section
from ternvae.report.results import check_section, level_section, result_section
from ternvae.report.training import history_section, warning_section
from ternvae.report.verdict import verdict
from ternvae.training.device import choose_device

__all__ = ["report_html", "write_report"]

#: The page may show images that it holds itself, and its own style; nothing else is ever loaded.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(
    run: str | PathLike[str], out: str | PathLike[str] | None = None, device: str = "cpu"
) -> Path:
    """Write the report of a run, whole or not at all; an earlier one is replaced.

    Args:
        run: the folder of the run, or a checkpoint in its ``checkpoints`` folder.
        out: the file; None for ``report.html`` in the folder of the run.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".

    Returns:
        The file.

    Raises:
        ReportError: there is no run, or the file cannot be written.
        TypeError: an argument is of the wrong type.
        ValueError: a path is no possible name of a file, or there is no such device.
    """
    given = None if out is None else file_path("out", out)
    facts = facts_of(run, device)
    path = facts.directory.report if given is None else given
    content = report_html(facts, device).encode("utf-8", errors="replace")
    try:
        write_whole(path, lambda file: file.write(content))
    except OSError as error:
        raise ReportError(
            f"cannot write {path}: {error.strerror or error}; name another file with --out"
        ) from error
    return path


def report_html(facts: RunFacts, device: str = "cpu") -> str:
    """The page, which loads nothing and runs nothing.

    Args:
        facts: of the run, as :func:`facts_of` gives them.
        device: where pictures are made from the model.

    Returns:
        HTML, a whole document.

    Raises:
        TypeError: ``facts`` are not those of a run, or ``device`` not a name of a device.
        ValueError: there is no such device.
    """
    if not isinstance(facts, RunFacts):
        raise TypeError(f"facts must be RunFacts, as facts_of gives, got {type(facts).__name__}")
    choose_device(device)
    found = verdict(facts)
    seed = "" if facts.seed is None else f", seed {facts.seed}"
    name = f"{facts.name}{seed}"
    sections = list(_sections(facts, device))
    links = [element("li", element("a", title, href=f"#{place}")) for place, title, _ in sections]
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = joined(
        element(
            "header",
            element("p", "Report of a training run", class_="kind"),
            element("h1", joined(name, ": ", element("span", found.headline, class_=found.tone))),
            element("p", " ".join(found.lead)),
            _description(facts),
            element("nav", element("ul", *links), aria_label="Sections"),
        ),
        element(
            "main",
            *(
                element("section", element("h2", title), content, id=place)
                for place, title, content in sections
            ),
        ),
        element("footer", element("p", f"Written {written} by ternvae {__version__}.")),
    )
    return _document(f"{name}: {found.headline}", body)


def _sections(facts: RunFacts, device: str) -> Iterator[tuple[str, str, Html]]:
    """Anchor, heading and content of each."""
    yield "result", "Result", result_section(facts)
    yield "pictures", "Pictures", picture_section(facts, device)
    yield "levels", "Levels", level_section(facts)
    yield "training", "Training in short", history_section(facts)
    yield "checks", "Checks", check_section(facts)
    yield "warnings", "Warnings", warning_section(facts)
    yield "repeat", "How to make it again", repeat_section(facts)
    yield "profile", "Profile", profile_section(facts)
    yield "files", "Files", file_section(facts)
    yield "onward", "How to go on", onward_section(facts)


def _description(facts: RunFacts) -> Html:
    text = facts.profile.get("description")
    return element("p", text, class_="note") if isinstance(text, str) and text else Html("")


def _document(title: str, body: Html) -> str:
    style = resources.files("ternvae.report").joinpath("report.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        # A browser would look for an icon elsewhere.
        element("link", rel="icon", href="data:,"),
        element("title", f"{title} - ternvae"),
        element("style", Html(style)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, element('body', body), lang='en')}\n"
