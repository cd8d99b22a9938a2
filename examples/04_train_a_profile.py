"""Train a profile, and look at what came of it.

python examples/04_train_a_profile.py                 (15 seconds on two CPU cores)

The whole default run: 19,683 sequences of 9 digits, 63 epochs, every target met. Fewer digits or
epochs are a matter of overrides, as here the arguments of `run` are.
"""

import tempfile
from pathlib import Path

import torch

from ternvae.config import load_profile
from ternvae.metrics import ceilings, evaluate
from ternvae.models import TernaryVAE
from ternvae.padic import TernarySpace
from ternvae.trainer import Trainer


def run(quiet: bool = False, n_digits: int = 9, epochs: int | None = None) -> dict[str, float]:
    """Train, and measure the best model; returns its metrics."""
    say = (lambda *_: None) if quiet else print
    overrides = {"space.n_digits": n_digits, "training.batch_size": min(1024, 3**n_digits)}
    if epochs is not None:
        overrides["training.epochs"] = epochs
    profile = load_profile("mathematical_foundation", overrides)
    with tempfile.TemporaryDirectory() as folder:
        # The folder keeps the profile, the log, metrics.jsonl, a report and checkpoints. To keep
        # it, give a path of your own; the command line does the same as `ternvae train`.
        result = Trainer(profile, run_dir=Path(folder) / "run", device="cpu").fit()
        model = TernaryVAE.from_checkpoint(result.checkpoint)
    say(f"stopped because of: {result.stop_reason}")
    missed = [name for name, met in result.validation.items() if not met]
    say("every check passed" if not missed else f"checks not passed: {', '.join(missed)}")

    # Where branch B puts sequences: the radius falls as the valuation rises.
    space = TernarySpace(n_digits)
    indices = torch.tensor([1, 3, 9, 27, 0])
    radii = model.ball.dist0(model.embed(indices))
    for index, v, radius in zip(indices, space.valuation(indices), radii, strict=True):
        say(f"index {index:3d}   valuation {v}   hyperbolic radius {radius:.3f}")

    metrics, limits = evaluate(model, space), ceilings(n_digits)
    for name, limit in (("hierarchy_B", "hierarchy"), ("Q_enhanced", "Q_enhanced")):
        say(f"{name} = {metrics[name]:.4f} (ceiling {limits[limit]:.4f})")
    for name in ("coverage", "coverage_B", "richness", "triplet_accuracy"):
        say(f"{name} = {metrics[name]:.5f}")
    return dict(metrics)


if __name__ == "__main__":
    run()
