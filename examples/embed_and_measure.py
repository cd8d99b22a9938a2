"""Use the library from Python: train briefly, embed, decode, measure.

python examples/embed_and_measure.py
"""

import tempfile
from pathlib import Path

import torch

from ternvae.config import load_profile
from ternvae.metrics import ceilings, evaluate
from ternvae.models import TernaryVAE
from ternvae.padic import TernarySpace
from ternvae.trainer import Trainer


def run(quiet: bool = False, n_digits: int = 9, epochs: int = 5) -> dict[str, float]:
    """Train for a few epochs and look at the embedding; returns the metrics."""
    say = (lambda *_: None) if quiet else print
    profile = load_profile(
        "mathematical_foundation",
        {
            "space.n_digits": n_digits,
            "training.epochs": epochs,
            "training.batch_size": min(512, 3**n_digits),
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        result = Trainer(profile, run_dir=Path(folder) / "run", device="cpu").fit()
        model = TernaryVAE.from_checkpoint(result.checkpoint)

    # Five operations and where branch B puts them: radius falls as the valuation rises.
    space = TernarySpace(n_digits)
    indices = torch.tensor([1, 3, 9, 27, 0])
    points = model.embed(indices)
    for i, v, r in zip(indices, space.valuation(indices), model.ball.dist0(points), strict=True):
        say(f"index {i:3d}   valuation {v}   hyperbolic radius {r:.3f}")

    # The decoder sees the point of the ball and nothing else.
    decoded = model.decode(model.embed(indices, branch="A"), branch="A")
    right = (decoded == space.sequences(indices)).all(-1)
    say(f"decoded exactly: {int(right.sum())} of {len(indices)}")

    # 3-adic against hyperbolic distance, for one pair.
    i, j = torch.tensor([4]), torch.tensor([13])
    hyperbolic = model.ball.dist(model.embed(i), model.embed(j)).item()
    say(f"d3(4, 13) = {space.distance(i, j).item():.4f}, d(z_4, z_13) = {hyperbolic:.3f}")

    metrics = evaluate(model, space)
    limits = ceilings(n_digits)
    for name, limit in (("hierarchy_B", "hierarchy"), ("Q_enhanced", "Q_enhanced")):
        say(f"{name} = {metrics[name]:.4f} (ceiling {limits[limit]:.4f})")
    say(f"coverage = {metrics['coverage']:.4f}, richness = {metrics['richness']:.5f}")
    return metrics


if __name__ == "__main__":
    run()
