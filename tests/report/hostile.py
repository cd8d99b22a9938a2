"""A run whose every text tries to be more than text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ternvae.checkpoint import load_checkpoint, save_checkpoint

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;{{7*7}}</style></title>"


def hostile_run(ended: Path, folder: Path) -> Path:
    """A copy of a run in which every text that a report shows is an attack."""
    # In the name of a file there can be no slash.
    run = shutil.copytree(ended, folder / EVIL.replace("/", "\\"))
    (run / "report.html").unlink()
    (run / "<b onclick=alert(3)>.txt").write_text(EVIL)
    summary = json.loads((run / "metrics.json").read_text())
    summary |= {"profile": EVIL, "warnings": [EVIL], "stop_reason": EVIL}
    summary["validation_results"][EVIL] = True
    summary["sampling"]["seed"] = EVIL
    (run / "metrics.json").write_text(json.dumps(summary))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    sign = {"name": EVIL, "epoch": EVIL, "message": EVIL, "remedies": [EVIL, EVIL]}
    lines[0] |= {"events": [{"epoch": EVIL, "text": EVIL}], "warnings": [sign]}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = f"Resumed with another profile: {EVIL}\n{EVIL}; stopped\n"
    (run / "train.log").write_text(log)
    (run / "profile.yaml").write_text(f"name: {EVIL}\n")
    best = run / "checkpoints" / "best_Q.pt"
    contents: dict[str, Any] = load_checkpoint(best)
    contents["profile"] |= {"name": EVIL, "description": EVIL}
    contents["profile"]["frozen_checkpoint"] = {"path": EVIL}
    contents["execution"] = dict.fromkeys((*contents["execution"], EVIL), EVIL)
    contents["comprehensive_metrics"][EVIL] = 1.0
    save_checkpoint(best, contents)
    return run
