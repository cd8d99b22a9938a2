"""Valuations, 3-adic distances, and the space of ternary sequences.

python examples/01_valuations_and_the_space.py        (a second; no model, no training)

Numbers are close when their difference is divisible by a high power of 3. That makes a tree of the
3**n sequences of n ternary digits, and every triangle in it isosceles.
"""

import torch

from ternvae.padic import TernarySpace, padic_distance, valuation


def run(quiet: bool = False, n_digits: int = 9, triangles: int = 10_000) -> dict[str, object]:
    """Look at the space; returns its level sizes and what was counted among random triangles."""
    say = (lambda *_: None) if quiet else print

    say("how often 3 divides a number:")
    for number in (1, 6, 18, -54, 0):
        say(f"  v({number}) = {valuation(number)}")
    say(f"  d(1, 82) = 3^-v(81) = {padic_distance(1, 82):.5f}, d(1, 2) = {padic_distance(1, 2)}")

    # Inside the space an index is a row of n digits, least significant first, as -1, 0 and 1.
    space = TernarySpace(n_digits)
    digits = space.sequences([5])
    say(f"{space.size} sequences of {n_digits} digits; index 5 is {digits[0].tolist()}")
    back = space.indices(digits)

    # A level holds all sequences of one valuation; index 0 alone has the highest.
    sizes = space.level_sizes()
    say("level sizes:", *sizes)

    # Nothing is stored: batches of a million-fold space would cost no more memory than these.
    seen = sum(len(batch) for batch in space.batches(1000, shuffle=True, seed=0))

    # The strong triangle inequality: the two longest sides of a triangle are equal.
    generator = torch.Generator().manual_seed(0)
    i, j, k = torch.randint(space.size, (3, triangles), generator=generator)
    sides = torch.stack([space.distance(i, j), space.distance(j, k), space.distance(i, k)])
    longest, second, _ = sides.sort(dim=0, descending=True).values
    isosceles = int((longest == second).sum())
    say(f"isosceles triangles: {isosceles} of {triangles}")
    return {"level_sizes": sizes, "seen": seen, "isosceles": isosceles, "back": int(back)}


if __name__ == "__main__":
    run()
