"""Cases of the report of a run."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from ternvae import report
from tests.boundary import Argument, Case, given
from tests.boundary_rooms import NEST, NO_FILE_NAME, always, folder, place
from tests.boundary_runs import NO_DEVICE


@functools.cache
def ended() -> Path:
    """A run of which only the summary is left: nothing is measured and nothing drawn."""
    path = folder() / "ended" / "run"
    path.mkdir(parents=True, exist_ok=True)
    summary = {"profile": "small", "seed": 1, "n_digits": 2, "stop_reason": "epochs"}
    (path / "metrics.json").write_text(json.dumps(summary))
    return path


NO_RUN = (
    *NO_FILE_NAME,
    *always("no folder", lambda: folder() / "none", "holds no run"),
    *always("a folder without a run", lambda: place("no_run").parent, "holds no run"),
    *always("a file of no run", lambda: place("no_run", b"no"), "checkpoints/"),
)

DEVICE = Argument(lambda m: "cpu", NO_DEVICE)
RUN = Argument(lambda m: ended(), NO_RUN)

CASES = [
    Case(report.facts_of, {"run": RUN, "device": DEVICE}),
    Case(
        report.report_html,
        {
            "facts": Argument(
                lambda m: report.facts_of(ended()), (*given(None, 3, "text", [], {}), *NEST)
            ),
            "device": DEVICE,
        },
    ),
    Case(
        report.write_report,
        {
            "run": RUN,
            "out": Argument(
                lambda m: place("page"),
                (
                    *(bad for bad in NO_FILE_NAME if bad.label != "None"),
                    *always("a folder", lambda: place("a_page").parent, "cannot write"),
                    *always("no folder", lambda: folder() / "none" / "page", "cannot write"),
                ),
            ),
            "device": DEVICE,
        },
        changes=frozenset({"out"}),
    ),
]
