"""The pictures by name, drawn and saved; matplotlib is loaded with the first one."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ternvae.plots.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "PICTURES",
    "Picture",
    "PicturesError",
    "SkippedPictureWarning",
    "caption_of",
    "pictures",
    "require_matplotlib",
    "save_picture",
]

#: Natural size: what a figure measures in inches, at this many dots each.
DOTS_PER_INCH = 150

#: Text becomes outlines, so that an SVG looks the same without the font; its names of parts come
#: from the salt.
_STYLE = {
    "svg.hashsalt": "ternvae",
    "svg.fonttype": "path",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "figure.titlesize": 11,
    "axes.linewidth": 0.7,
}


class PicturesError(ValueError):
    """A picture was asked for that cannot be drawn."""


class SkippedPictureWarning(UserWarning):
    """A picture is left out, and why."""


@dataclass(frozen=True)
class Picture:
    """One kind of picture; holds what it is given, check-free.

    Attributes:
        title: a heading, without the name of the checkpoint.
        alt: what is to be seen in it, for those who cannot see it.
    """

    title: str
    alt: str


#: The pictures in their order.
PICTURES: Mapping[str, Picture] = MappingProxyType(
    {
        "disk": Picture(
            "Poincaré disk",
            "The points of branch B in the Poincaré disk, coloured by 3-adic valuation, and the "
            "3-adic tree between them along geodesics; beside it the same in hyperbolic polar "
            "coordinates.",
        ),
        "radii": Picture(
            "Hyperbolic radius by level",
            "For each 3-adic valuation a band of the hyperbolic radii of its points, with their "
            "mean, and below it their standard deviation.",
        ),
        "curves": Picture(
            "Training",
            "Coverage, hierarchy, richness, Q, the three measures of distances and the loss over "
            "the epochs, with targets and ceilings as lines.",
        ),
        "distances": Picture(
            "Distances of pairs",
            "Violins of the hyperbolic distance of two points, one for each 3-adic valuation of "
            "the difference of their sequences.",
        ),
        "frontier": Picture(
            "Richness against Q",
            "Idealised curves of the best Q for a given richness, the targets as lines, and where "
            "the checkpoint and the epochs before it lie.",
        ),
    }
)


def require_matplotlib() -> None:
    """Do nothing if pictures can be drawn.

    Raises:
        PicturesError: matplotlib is not installed, or cannot be loaded.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise PicturesError(
            "pictures need the package matplotlib; pip install 'ternvae[plot]'"
        ) from error


def pictures(
    subject: Subject,
    names: Iterable[str] | None = None,
    skipped: Callable[[str, str], object] | None = None,
) -> Iterator[tuple[str, Figure]]:
    """Draw pictures of a checkpoint, one after the other.

    Args:
        subject: what they are of.
        names: which, keys of :data:`PICTURES`; None means all, in their order.
        skipped: called with the name of each picture that cannot be drawn, and why; without it, a
            :class:`SkippedPictureWarning` says so.

    Returns:
        An iterator of names and figures.

    Raises:
        PicturesError: at the call: matplotlib is missing, or there is no picture of that name.
        TypeError: ``subject`` is no :class:`Subject`.
    """
    if not isinstance(subject, Subject):
        raise TypeError(
            f"subject must be a Subject, as subject_of gives, got {type(subject).__name__}"
        )
    wanted = list(PICTURES) if names is None else list(names)
    for name in wanted:
        if name not in PICTURES:
            raise PicturesError(f"names: got {name!r}, expected some of {', '.join(PICTURES)}")
    require_matplotlib()
    return _drawn(subject, wanted, skipped or _warn)


def _drawn(
    subject: Subject, wanted: list[str], skipped: Callable[[str, str], object]
) -> Iterator[tuple[str, Figure]]:
    for name in wanted:
        draw: Callable[[Subject], Any] = getattr(
            importlib.import_module(f"ternvae.plots.{name}"), name
        )
        with _own_style():
            found = draw(subject)
        if isinstance(found, str):
            skipped(name, found)
        else:
            yield name, found


@contextmanager
def _own_style() -> Iterator[None]:
    """Whatever the user's settings of matplotlib are, pictures look and are stored the same."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def _warn(name: str, why: str) -> None:
    warnings.warn(f"no picture {name}: {why}", SkippedPictureWarning, stacklevel=4)


def caption_of(figure: Figure) -> str:
    """What a figure shows of its subject, in sentences: its caption, and its alternative text."""
    return str(figure.get_label())


def save_picture(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG or SVG; the same figure gives the same bytes.

    Args:
        figure: one of :func:`pictures`.
        path: a name that ends in ``.png`` or ``.svg``.

    Raises:
        PicturesError: another ending.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise PicturesError(f"path: got {str(path)!r}, expected a name ending in .png or .svg")
    told = {"Title": figure.get_suptitle(), "Description": caption_of(figure)}
    undated = {"Date": None} if path.suffix == ".svg" else {}
    with _own_style():
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata=told | undated)
