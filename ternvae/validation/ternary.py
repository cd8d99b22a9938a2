"""The integers: valuations, distances and digits against division in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import torch

from ternvae import padic
from ternvae.validation.checks import CheckFunction, Finding, both, none_of

__all__ = ["CHECKS"]

_TRIPLES = 20_000
_BATCH = 512

#: Beyond what tensors hold, at the ends of int64, and high powers among them.
_HUGE = (3**200 * 7, 3**41 + 3, 10**40, 2**63 - 1, 2**63, 3**39, -(3**39), 3**63 * 10**20)


def _divide(number: int, most: int) -> int:
    """The valuation by its definition, at most ``most``."""
    v = 0
    while v < most and number % 3 ** (v + 1) == 0:
        v += 1
    return v


def _valuation(device: torch.device) -> Finding:
    space = padic.TernarySpace()
    n = space.n_digits
    want = torch.tensor([_divide(i, n) for i in range(space.size)])
    indices = torch.arange(space.size, device=device)
    of_space = space.valuation(indices).cpu()
    of_negatives = padic.valuation(-indices, cap=n).cpu()
    bad = int(((of_space != want) | (of_negatives != want)).sum())
    numbers = (*range(-100, 0), *range(1, 101), *_HUGE)
    off = sum(padic.valuation(i) != _divide(i, abs(i)) for i in numbers)
    off += padic.valuation(0) != math.inf
    return both(
        none_of(bad, space.size, "indices differ from division"),
        none_of(off, len(numbers) + 1, "other integers do"),
    )


def _distance(device: torch.device) -> Finding:
    space = padic.TernarySpace()
    generator = torch.Generator().manual_seed(1)
    i, j = torch.randint(space.size, (2, 2000), generator=generator)
    # Random pairs seldom share many digits; partners at every valuation do, and i = j too.
    levels = torch.arange(2000) % (space.n_digits + 1)
    near = padic.partners_at_valuation(i, levels, n_digits=space.n_digits, generator=generator)
    i, j = torch.cat([i, i]), torch.cat([j, near])
    want = [
        0.0 if a == b else float(Fraction(1, 3 ** _divide(a - b, 99)))
        for a, b in zip(i.tolist(), j.tolist(), strict=True)
    ]
    i, j = i.to(device), j.to(device)
    got = torch.stack([space.distance(i, j), padic.padic_distance(i, j)]).cpu()
    bad = int((got != torch.tensor(want, dtype=torch.float64)).any(0).sum())
    return none_of(bad, len(want), "pairs are off the distance 3^-v")


def _ultrametric(device: torch.device) -> Finding:
    """The strong triangle inequality, symmetry, and 0 for equal indices only."""
    space = padic.TernarySpace()
    generator = torch.Generator().manual_seed(2)
    i, j, k = torch.randint(space.size, (3, _TRIPLES), generator=generator).to(device)
    ij, jk, ik = space.distance(i, j), space.distance(j, k), space.distance(i, k)
    holds = (ik <= torch.maximum(ij, jk)) & (ij == space.distance(j, i)) & ((ij == 0) == (i == j))
    return none_of(int((~holds).sum()), _TRIPLES, "random triples violate it")


def _level_sizes(device: torch.device) -> Finding:
    space = padic.TernarySpace()
    n = space.n_digits
    counted = Counter(_divide(i, n) for i in range(space.size))
    declared = space.level_sizes()
    found = torch.bincount(space.valuation(torch.arange(space.size)), minlength=n + 1).tolist()
    good = declared == found == [counted[v] for v in range(n + 1)]
    return Finding(good, f"{', '.join(map(str, declared))}; counted: {', '.join(map(str, found))}")


def _digits(device: torch.device) -> Finding:
    space = padic.TernarySpace()
    indices = torch.arange(space.size, device=device)
    sequences = space.sequences(indices)
    want = [[i // 3**k % 3 - 1 for k in range(space.n_digits)] for i in range(space.size)]
    wrong = (sequences.cpu() != torch.tensor(want)).any(-1)
    lost = (space.indices(sequences) != indices).cpu()
    return none_of(int((wrong | lost).sum()), space.size, "are lost between index and digits")


def _shuffled_batches(device: torch.device) -> Finding:
    space = padic.TernarySpace()
    drawn = torch.cat(list(space.batches(_BATCH, shuffle=True, seed=5, device=device))).cpu()
    missed = space.size - len(torch.unique(drawn)) + abs(space.size - len(drawn))
    in_place = float((drawn[: space.size] == torch.arange(len(drawn))[: space.size]).sum())
    # A random permutation keeps one index in place on average; a hundred is no permutation at all.
    return both(
        none_of(missed, space.size, "are missed or repeated in an epoch"),
        Finding(in_place < 100, f"{in_place:.0f} left in place (fewer than 100)"),
    )


CHECKS: dict[str, CheckFunction] = {
    "valuation by division": _valuation,
    "3-adic distance": _distance,
    "ultrametric inequality": _ultrametric,
    "level sizes": _level_sizes,
    "index and digits": _digits,
    "shuffled batches": _shuffled_batches,
}
