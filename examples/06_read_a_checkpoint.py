"""What a trained model is good for: points, sequences, neighbours, valuations, paths.

python examples/06_read_a_checkpoint.py               (3 seconds; a trained model is in the package)

For a run of your own, `TernaryVAE.from_checkpoint("RUN/checkpoints/best_Q.pt")` gives such a model.
"""

import torch

from ternvae import pretrained
from ternvae.models import interpolate


def run(quiet: bool = False, index: int = 5000, neighbours: int = 8) -> dict[str, object]:
    """Ask the shipped model; returns its answers.

    Args:
        quiet: say nothing.
        index: the sequence whose neighbours are looked for.
        neighbours: how many of them.
    """
    say = (lambda *_: None) if quiet else print
    model = pretrained.load("mathematical_foundation")
    space = model.space

    # Every sequence has a point of its own, and comes back from it exactly.
    points = model.embed(range(space.size))
    exact = int((model.decode(points) == space.sequences()).all(-1).sum())
    say(f"read back exactly: {exact} of {space.size}")

    # The nearest in the ball are the 3-adically nearest: what they differ in is the last digits,
    # so their difference is divisible by a high power of 3.
    distances = model.ball.dist(points[index], points)
    nearest = distances.argsort()[1 : neighbours + 1]
    valuations = space.valuation((nearest - index).abs())
    say(f"nearest to {index}:")
    for other, v in zip(nearest, valuations, strict=True):
        say(f"  {int(other):5d}   distance {distances[other]:.3f}   v(difference) = {v}")

    # The valuation of a difference can be read from two points alone.
    others = torch.tensor([1, 3, 9, 27, 81, 243, 729, 2187]) + index
    read = model.valuation_between(model.embed(others), model.embed([index]))
    say(f"valuations read from points: {read.tolist()}")

    # 5000 and 5001 part at the first digit. The geodesic between such two climbs the tree and comes
    # down again: in the middle it is nearer to the origin, where valuations are high.
    path = interpolate(model, [index], [index + 1], steps=9)
    along = space.indices(path.sequences[0])
    climbed = space.valuation(along)
    say(f"decoded on the way from {index} to {index + 1}: {along.tolist()}")
    say(f"their valuations: {climbed.tolist()}")
    return {"exact": exact, "nearest": valuations, "read": read, "climbed": climbed}


if __name__ == "__main__":
    run()
