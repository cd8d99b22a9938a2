from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ternvae.padic import TernarySpace, valuation
from ternvae.padic.permutation import permute, round_keys
from tests.padic.oracles import IMPLAUSIBLE

SEEDS = 20_000
PUBLISHED_ORDER = [
    7,
    0,
    10,
    11,
    21,
    14,
    22,
    8,
    19,
    17,
    26,
    18,
    6,
    15,
    12,
    24,
    3,
    23,
    4,
    16,
    20,
    1,
    2,
    13,
    5,
    9,
    25,
]


def joined(n: int, batch_size: int, **options: object) -> Tensor:
    return torch.cat(list(TernarySpace(n).batches(batch_size, **options)))


def images(positions: list[int], n: int, seeds: int = SEEDS) -> Tensor:
    """Row s holds the images of the positions under the permutation of seed s."""
    keys = torch.tensor([round_keys(s, n_digits=n) for s in range(seeds)])
    rows = torch.tensor(positions).expand(seeds, -1)
    return permute(rows, list(keys.T[:, :, None]), n_digits=n)


def pair_p_value(pairs: Tensor, size: int) -> float:
    """Chi-square of ordered pairs against the uniform distribution on pairs of distinct points."""
    counts = torch.bincount(pairs[:, 0] * size + pairs[:, 1], minlength=size**2)
    off_diagonal = counts.reshape(size, size)[~torch.eye(size, dtype=torch.bool)]
    assert off_diagonal.sum() == len(pairs)
    return float(stats.chisquare(off_diagonal.numpy()).pvalue)


# --- batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("n", range(1, 10))
def test_batches_cover_the_space_exactly_once(n: int, shuffle: bool) -> None:
    size = 3**n
    sizes = {1, 2, 7, size - 1, size, size + 1, 10**12} if n < 5 else {97, 512, size}
    for batch_size in sizes - {0}:
        batches = list(TernarySpace(n).batches(batch_size, shuffle=shuffle, seed=11))
        assert all(b.dtype == torch.int64 and b.dim() == 1 for b in batches)
        lengths = [len(b) for b in batches]
        full, rest = divmod(size, batch_size)
        assert lengths == [batch_size] * full + ([rest] if rest else [])
        assert torch.equal(torch.cat(batches).sort().values, torch.arange(size))


def test_chunks_larger_than_the_formula_is_applied_to_still_cover(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = joined(6, 729, shuffle=True, seed=1)
    monkeypatch.setattr("ternvae.padic.space._CHUNK", 50)
    for batch_size in (7, 25, 26, 49, 50, 51, 400):
        assert torch.equal(joined(6, batch_size, shuffle=True, seed=1), expected)


def test_unshuffled_batches_are_in_order() -> None:
    assert torch.equal(joined(7, 100), torch.arange(3**7))
    assert torch.equal(joined(7, 100, seed=5), torch.arange(3**7))


def test_the_seed_and_nothing_else_decides_the_order() -> None:
    first = joined(9, 512, shuffle=True, seed=3)
    torch.manual_seed(123)
    assert torch.equal(joined(9, 512, shuffle=True, seed=3), first)
    assert torch.equal(joined(9, 100, shuffle=True, seed=3), first)
    orders = {
        tuple(joined(4, 81, shuffle=True, seed=s).tolist())
        for s in [*range(200), 2**32, 2**63, 2**64 - 1]
    }
    assert len(orders) == 203


def test_no_two_seeds_share_a_round_key() -> None:
    # Seeds that differ by the counter's increment would, if they were not mixed first.
    seeds = [*range(100), *(k * 0x9E3779B97F4A7C15 % 2**64 for k in range(1, 20))]
    keys = [key for s in seeds for key in round_keys(s, n_digits=9)]
    assert len(set(keys)) == len(keys)
    assert all(-(2**63) <= key < 2**63 for key in keys)


def test_the_order_is_the_one_published() -> None:
    # A changed formula would silently change every "repeatable" run.
    assert joined(3, 9, shuffle=True, seed=0).tolist() == PUBLISHED_ORDER


def test_the_first_batch_of_the_largest_space_needs_no_memory() -> None:
    resource = pytest.importorskip("resource")

    def peak_bytes() -> int:
        peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak

    before = peak_bytes()
    stream = TernarySpace(20).batches(512, shuffle=True, seed=1)
    seen = torch.cat([next(stream) for _ in range(300)])
    assert peak_bytes() - before < 2**28  # the space itself is 26 GiB
    assert len(seen.unique()) == 300 * 512
    assert seen.min() >= 0
    assert seen.max() < 3**20
    p = stats.kstest(seen.numpy() / 3**20, "uniform").pvalue
    assert p > IMPLAUSIBLE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"batch_size": -5}, "batch_size: got -5"),
        ({"batch_size": 2.0}, "batch_size: got 2.0"),
        ({"batch_size": True}, "batch_size: got True"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": 2**64}, f"seed: got {2**64}"),
        ({"seed": 0.5}, "seed: got 0.5"),
        ({"seed": None}, "seed: got None"),
        ({"shuffle": 1}, "shuffle: got 1"),
        ({"shuffle": "no"}, "shuffle: got 'no'"),
        ({"device": "quantum"}, "device: .*'quantum'"),
        ({"device": "cuda:99"}, "device: .*'cuda:99'"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        TernarySpace(3).batches(**({"batch_size": 4} | options))


# --- the permutation itself --------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, 10))
def test_every_seed_gives_a_bijection(n: int) -> None:
    everything = torch.arange(3**n)
    for seed in (0, 1, 2**64 - 1):
        image = permute(everything, round_keys(seed, n_digits=n), n_digits=n)
        assert torch.equal(image.sort().values, everything)


@pytest.mark.parametrize("n", [13, 19, 20])
def test_large_spaces_have_no_collisions(n: int) -> None:
    # Consecutive runs and strides of the radix, where a wrong carry would collide.
    stride = 3 ** ((n + 1) // 2)
    positions = torch.cat(
        [
            torch.arange(50_000),
            torch.arange(2 * 10**4) * stride % 3**n,
            3**n - 1 - torch.arange(999),
        ]
    ).unique()
    image = permute(positions, round_keys(7, n_digits=n), n_digits=n)
    assert len(image.unique()) == len(positions)
    assert image.min() >= 0
    assert image.max() < 3**n


def test_rows_of_keys_and_single_keys_agree_with_the_batches() -> None:
    for n in (1, 2, 5):
        rows = images(list(range(3**n)), n, seeds=5)
        for seed in range(5):
            assert torch.equal(rows[seed], joined(n, 10, shuffle=True, seed=seed))


def test_three_points_see_all_six_permutations_equally_often() -> None:
    codes = images([0, 1, 2], 1) @ torch.tensor([9, 3, 1])
    values, counts = codes.unique(return_counts=True)
    assert len(values) == 6
    assert stats.chisquare(counts.numpy()).pvalue > IMPLAUSIBLE


def test_odd_permutations_are_as_frequent_as_even_ones() -> None:
    rows = images(list(range(9)), 2)
    below = torch.tensor([(a, b) for a in range(9) for b in range(a + 1, 9)])
    odd = int(((rows[:, below[:, 0]] > rows[:, below[:, 1]]).sum(1) % 2).sum())
    assert stats.binomtest(odd, SEEDS).pvalue > IMPLAUSIBLE


PAIRS = [
    (2, (0, 1)),
    (2, (0, 3)),
    (2, (4, 8)),
    (3, (0, 1)),
    (3, (0, 9)),
    (3, (5, 23)),
    (4, (0, 1)),
    (4, (0, 9)),
    (4, (7, 80)),
]


@pytest.mark.parametrize(("n", "pair"), PAIRS)
def test_the_images_of_two_points_are_uniform_over_seeds(n: int, pair: tuple[int, int]) -> None:
    size = 3**n
    rows = images(list(pair), n)
    if n < 4:  # 6480 cells would hold three draws each at n = 4
        assert pair_p_value(rows, size) > IMPLAUSIBLE
    step = torch.bincount((rows[:, 1] - rows[:, 0]) % size, minlength=size)[1:]
    assert stats.chisquare(step.numpy()).pvalue > IMPLAUSIBLE
    for side in (0, 1):
        single = torch.bincount(rows[:, side], minlength=size)
        assert stats.chisquare(single.numpy()).pvalue > IMPLAUSIBLE


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("rule", ["identity", "translation", "affine", "few rounds"])
def test_the_test_above_catches_bad_shuffles(n: int, rule: str) -> None:
    size = 3**n
    draws = np.random.default_rng(0)
    offset = torch.from_numpy(draws.integers(0, size, (SEEDS, 1)))
    unit = torch.from_numpy(draws.choice([a for a in range(size) if a % 3], (SEEDS, 1)))
    pair = torch.tensor([0, 1]).expand(SEEDS, 2)
    few = torch.tensor([round_keys(s, n_digits=n)[:4] for s in range(SEEDS)])
    shuffles: dict[str, Callable[[], Tensor]] = {
        "identity": lambda: pair,
        "translation": lambda: (pair + offset) % size,
        "affine": lambda: (unit * pair + offset) % size,
        "few rounds": lambda: permute(pair, list(few.T[:, :, None]), n_digits=n),
    }
    assert pair_p_value(shuffles[rule](), size) < IMPLAUSIBLE


def test_the_first_batch_is_a_fair_sample_of_the_levels() -> None:
    n, batch = 5, 27
    level = valuation(images(list(range(batch)), n), cap=n)
    sizes = np.array(TernarySpace(n).level_sizes())
    # One draw per seed is independent; draws of one batch are without replacement.
    first = torch.bincount(level[:, 0], minlength=n + 1).numpy()
    assert stats.chisquare(first, sizes / 3**n * SEEDS).pvalue > IMPLAUSIBLE
    units = (level == 0).sum(1).numpy()
    edges = np.arange(14, 23)
    observed = np.histogram(units, [-1, *edges, batch + 1])[0]
    law = stats.hypergeom(3**n, sizes[0], batch)
    expected = np.diff(law.cdf([-2, *(edges - 1), batch]))
    assert stats.chisquare(observed, expected * SEEDS).pvalue > IMPLAUSIBLE


def test_the_permutation_reads_nothing_back() -> None:
    nowhere = torch.empty(3, dtype=torch.int64, device="meta")
    assert permute(nowhere, round_keys(0, n_digits=9), n_digits=9).device.type == "meta"


def test_positions_are_not_mutated() -> None:
    positions = torch.arange(81)
    permute(positions, round_keys(0, n_digits=4), n_digits=4)
    assert torch.equal(positions, torch.arange(81))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("n", [1, 2, 9, 12])
def test_every_device_gives_the_same_order(n: int) -> None:
    for seed in (0, 2**64 - 1):
        on_gpu = joined(n, 1000, shuffle=True, seed=seed, device="cuda")
        assert on_gpu.is_cuda
        assert torch.equal(on_gpu.cpu(), joined(n, 1000, shuffle=True, seed=seed))
