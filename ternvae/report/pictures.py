"""The pictures of a report, inside its page."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

from ternvae.plots import (
    PICTURES,
    PicturesError,
    Subject,
    caption_of,
    pictures,
    require_matplotlib,
    save_picture,
    subject_of,
)
from ternvae.report.facts import RunFacts
from ternvae.report.markup import Html, element, joined

__all__ = ["picture_section"]

#: Pictures that a run does not wait for at its end, and why.
LEFT_OUT = {
    "frontier": "richness against Q, whose curves take seconds to search (ternvae plot draws it)"
}

#: Of a page; a picture is drawn with half as many again.
_DOTS_PER_INCH = 96


def picture_section(facts: RunFacts, device: str) -> Html:
    """All pictures that can be drawn, and of the others why not.

    Args:
        facts: of the run.
        device: where its model is embedded.
    """
    if facts.checkpoint is None or facts.analysis is None:
        return element("p", f"No pictures: {facts.problem}.", class_="missing")
    try:
        require_matplotlib()
    except PicturesError as error:
        again = f"{error}, then ternvae report {facts.directory.path}"
        return element("p", f"No pictures: {again}", class_="missing")
    try:
        subject = subject_of(facts.checkpoint, device, facts.analysis)
    except Exception as error:
        # The figures are what counts; whatever befalls the pictures, the page comes to be.
        return element("p", f"No pictures: {_reason(error)}", class_="missing")
    left_out = [f"Not drawn here: {name}, {why}." for name, why in LEFT_OUT.items()]
    return joined(
        *(_shown(subject, name) for name in PICTURES if name not in LEFT_OUT),
        element("p", *left_out, class_="note"),
    )


def _shown(subject: Subject, name: str) -> Html:
    title = element("h3", PICTURES[name].title)
    skipped: list[str] = []
    try:
        for _, figure in pictures(subject, [name], skipped=lambda _, why: skipped.append(why)):
            # The page has its own heading and its own caption, which can be read aloud.
            caption = caption_of(figure)
            figure.suptitle("")
            figure.supxlabel("")
            width, height = (str(round(_DOTS_PER_INCH * x)) for x in figure.get_size_inches())
            image = element(
                "img", src=_data(figure), alt=PICTURES[name].alt, width=width, height=height
            )
            plate = element(
                "div",
                image,
                class_="plate",
                tabindex="0",
                role="region",
                aria_label=f"picture: {PICTURES[name].title}",
            )
            return joined(title, element("figure", plate, element("figcaption", caption)))
    except Exception as error:
        skipped.append(_reason(error))
    why = "; ".join(skipped) or "nothing was drawn"
    return joined(title, element("p", f"Picture {name} is left out: {why}", class_="missing"))


def _data(figure: object) -> str:
    """A figure as the address of an image that holds the image."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        save_picture(figure, path)  # type: ignore[arg-type]  # matplotlib's, which may be missing
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
