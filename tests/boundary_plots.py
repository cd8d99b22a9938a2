"""Cases of the pictures."""

from __future__ import annotations

from matplotlib.figure import Figure

from ternvae import plots
from tests.boundary import Argument, Case, given, made
from tests.boundary_models import CHECKPOINT
from tests.boundary_rooms import NEST, NO_FILE_NAME, UNREADABLE, always, folder, nest, place
from tests.boundary_runs import NO_DEVICE
from tests.plots import subjects

NO_NAMES = (
    *given(3, True, "disk", ["disc"], [None]),
    *always("a nest", nest, "list"),
    *always("a long name", lambda: ["x" * 40_000], "xxx"),
)

FIGURE = Argument(lambda m: Figure(), (*given(None, 3, "figure", [], {}), *NEST))

CASES = [
    Case(
        plots.subject_of,
        {
            "checkpoint": Argument(lambda m: CHECKPOINT, UNREADABLE),
            "device": Argument(lambda m: "cpu", NO_DEVICE),
            "analysis": Argument(lambda m: None, given(3, "analysis", [])),
        },
    ),
    Case(
        plots.pictures,
        {
            "subject": Argument(
                lambda m: subjects.made(m.n_digits), (*given(None, 3, "text", [], {}), *NEST)
            ),
            "names": Argument(lambda m: ["radii"], NO_NAMES),
            "projection": Argument(lambda m: "pca", (*given(None, 3, "umap", ""), *NEST)),
            "skipped": Argument(lambda m: [].append, given(3, "skipped", [])),
        },
    ),
    Case(plots.require_matplotlib, {}),
    Case(plots.caption_of, {"figure": FIGURE}),
    Case(
        plots.save_picture,
        {
            "figure": FIGURE,
            "path": Argument(
                lambda m: place("picture").with_suffix(".svg"),
                (
                    *NO_FILE_NAME,
                    *made("another kind", lambda v, m: v.with_suffix(".pdf"), ".pdf"),
                    *made("no kind", lambda v, m: v.with_suffix(""), "file"),
                    *always("a folder", lambda: folder(), "expected a name"),
                ),
            ),
        },
        changes=frozenset({"path"}),
    ),
]
