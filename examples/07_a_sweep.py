"""A sweep: several profiles and seeds, one table.

python examples/07_a_sweep.py                         (20 seconds: 2 profiles, 3 seeds, 7 digits)

Any key of a profile can be swept this way. For the full space and all profiles, with what was
measured, see benchmarks/sweep.py and docs/benchmarks.md.
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ternvae.config import load_profile
from ternvae.trainer import Trainer

COLUMNS = ("coverage", "hierarchy_B", "richness", "Q_enhanced", "triplet_accuracy")


def run(
    quiet: bool = False,
    profiles: Sequence[str] = ("mathematical_foundation", "richness_focused"),
    seeds: Sequence[int] = (0, 1, 2),
    n_digits: int = 7,
    epochs: int = 40,
) -> dict[str, list[dict[str, float]]]:
    """Train every profile with every seed; returns the metrics of each run, by profile."""
    say = (lambda *_: None) if quiet else print
    say(f"{'profile':24}", *(f"{name:>17}" for name in COLUMNS))
    results: dict[str, list[dict[str, float]]] = {}
    for name in profiles:
        for seed in seeds:
            overrides = {
                "seed": seed,
                "space.n_digits": n_digits,
                "training.epochs": epochs,
                "training.batch_size": min(256, 3**n_digits),
                "monitoring.report": False,  # one page per run would be many
            }
            with tempfile.TemporaryDirectory() as folder:
                trainer = Trainer(load_profile(name, overrides), run_dir=Path(folder) / "run")
                results.setdefault(name, []).append(trainer.fit().metrics)
        runs = results[name]
        means = [statistics.fmean(each[column] for each in runs) for column in COLUMNS]
        say(f"{name:24}", *(f"{mean:17.5f}" for mean in means))
        spread = [statistics.pstdev(each[column] for each in runs) for column in COLUMNS]
        say(f"{'  standard deviation':24}", *(f"{value:17.5f}" for value in spread))
    return results


if __name__ == "__main__":
    run()
