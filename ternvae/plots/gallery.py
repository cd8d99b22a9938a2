"""The pictures by name, drawn and saved; matplotlib is loaded with the first one."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ternvae.checkpoint.arguments import file_path
from ternvae.checkpoint.durable import write_whole
from ternvae.plots.projection import PROJECTIONS
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

#: Endings of the names of files.
FORMATS = ("png", "svg")

#: Natural size: what a figure measures in inches, at this many dots each.
DOTS_PER_INCH = 150

#: Text becomes outlines, so that an SVG looks the same without the font; its names of parts come
#: from the salt.
_STYLE: Mapping[Any, Any] = {
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
    *,
    projection: str = "tree",
    skipped: Callable[[str, str], object] | None = None,
) -> Iterator[tuple[str, Figure]]:
    """Draw pictures of a checkpoint, one after the other.

    Args:
        subject: what they are of.
        names: which, keys of :data:`PICTURES`; None means all, in their order.
        projection: how the disk shows more than two dimensions, "tree" or "pca"; see
            :mod:`ternvae.plots.projection`.
        skipped: called with the name of each picture that cannot be drawn, and why; without it, a
            :class:`SkippedPictureWarning` says so.

    Returns:
        An iterator of names and figures.

    Raises:
        PicturesError: at the call: matplotlib is missing, or there is no such picture, or no such
            projection.
        TypeError: ``subject`` is no :class:`Subject`, ``names`` a text or no names, or ``skipped``
            cannot be called.
    """
    if not isinstance(subject, Subject):
        raise TypeError(
            f"subject must be a Subject, as subject_of gives, got {type(subject).__name__}"
        )
    if skipped is not None and not callable(skipped):
        raise TypeError(f"skipped must be a function, got {type(skipped).__name__}")
    if not isinstance(projection, str) or projection not in PROJECTIONS:
        text = isinstance(projection, str)
        got = reprlib.repr(projection) if text else type(projection).__name__
        raise PicturesError(f"projection: got {got}, expected one of {', '.join(PROJECTIONS)}")
    wanted = _wanted(names)
    require_matplotlib()
    return _drawn(subject, wanted, projection, skipped or _warn)


def _wanted(names: Iterable[str] | None) -> list[str]:
    if names is None:
        return list(PICTURES)
    known = ", ".join(PICTURES)
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"names: got {reprlib.repr(names)}, expected a list of some of {known}")
    wanted = list(names)
    for name in wanted:
        if not isinstance(name, str):
            raise TypeError(f"names: got a {type(name).__name__}, expected some of {known}")
        if name not in PICTURES:
            raise PicturesError(f"names: got {reprlib.repr(name)}, expected some of {known}")
    return list(dict.fromkeys(wanted))


def _drawn(
    subject: Subject,
    wanted: list[str],
    projection: str,
    skipped: Callable[[str, str], object],
) -> Iterator[tuple[str, Figure]]:
    # These load matplotlib, which whoever draws nothing need not have.
    from ternvae.plots.curves import curves
    from ternvae.plots.disk import disk
    from ternvae.plots.distances import distances
    from ternvae.plots.frontier import frontier
    from ternvae.plots.radii import radii

    drawing: dict[str, Callable[[Subject], Figure | str]] = {
        "disk": lambda subject: disk(subject, projection),
        "radii": radii,
        "curves": curves,
        "distances": distances,
        "frontier": frontier,
    }
    for name in wanted:
        with _own_style():
            found = drawing[name](subject)
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
    """What a figure shows of its subject, and how to read it, in sentences.

    Args:
        figure: one of :func:`pictures`.

    Returns:
        Its caption; empty for a figure that is none of these.

    Raises:
        PicturesError: matplotlib is missing.
        TypeError: it is no figure.
    """
    require_matplotlib()
    _check_figure(figure)
    return str(figure.get_label())


def save_picture(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG or SVG; the same figure gives the same bytes.

    Its title and caption are in the file, too, as ``Title`` and ``Description``.

    Args:
        figure: one of :func:`pictures`.
        path: a name that ends in ``.png`` or ``.svg``; the file is replaced if there is one.

    Raises:
        PicturesError: matplotlib is missing, or ``path`` has another ending.
        ValueError: ``path`` is no possible name of a file.
        TypeError: ``figure`` is no figure, or ``path`` no path.
        OSError: the file cannot be written; what was there is as it was.
    """
    require_matplotlib()
    _check_figure(figure)
    target = file_path("path", path)
    kind = target.suffix[1:]
    if kind not in FORMATS:
        raise PicturesError(f"path: got {str(path)!r}, expected a name ending in .png or .svg")
    told = {"Title": figure.get_suptitle(), "Description": caption_of(figure)}
    undated = {"Date": None} if kind == "svg" else {}
    with _own_style(), warnings.catch_warnings():
        # Of a name in letters that the font lacks, boxes are good enough.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        write_whole(
            target,
            lambda file: figure.savefig(
                file, format=kind, dpi=DOTS_PER_INCH, metadata=told | undated
            ),
        )


def _check_figure(figure: object) -> None:
    from matplotlib.figure import Figure

    if not isinstance(figure, Figure):
        raise TypeError(
            f"figure must be a matplotlib Figure, as pictures gives, got {type(figure).__name__}"
        )
