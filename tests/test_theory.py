"""docs/theory.md, statement by statement: against brute force, or derived another way."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import rankdata, spearmanr

from ternvae.ceilings import ceilings
from ternvae.manifolds import PoincareBall
from ternvae.metrics import COLLAPSE_TOLERANCE, evaluate
from ternvae.padic import TernarySpace
from tests.embeddings import TableEmbedding
from tests.padic.oracles import relaxed, valuation_by_definition

Floats = NDArray[np.float64]

PAGE = " ".join((Path(__file__).parents[1] / "docs" / "theory.md").read_text().split())
RIM = 2 * math.atanh(0.95)
SHELL = RIM / 10


def says(text: str) -> bool:
    return text in PAGE


def valuation(n: int, i: int) -> int:
    return int(min(valuation_by_definition(i, 3), n))


def between(n: int) -> NDArray[np.int64]:
    """(N, N) valuations of differences."""
    return np.array([[valuation(n, i - j) for j in range(3**n)] for i in range(3**n)])


def bands(distances: Floats, n: int) -> list[tuple[float, float]]:
    """Least and largest distance of the pairs of each valuation below n."""
    v = between(n)
    return [(float(distances[v == k].min()), float(distances[v == k].max())) for k in range(n)]


def ordered(distances: Floats, n: int) -> bool:
    found = bands(distances, n)
    return all(outer[0] > inner[1] for outer, inner in itertools.pairwise(found))


def euclidean(x: Floats) -> Floats:
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))


def hyperbolic(z: Floats) -> Floats:
    """Distances in the ball of curvature -1, through the formula of section 2."""
    inside = 1 - (z**2).sum(-1)
    ratio = ((z[:, None] - z[None]) ** 2).sum(-1) / (inside[:, None] * inside)
    return 2 * np.arcsinh(np.sqrt(ratio))


# --- 1: the 3-adic space ---------------------------------------------------------------------


@given(st.integers(0, 3**9 - 1), st.integers(0, 3**9 - 1), st.integers(0, 3**9 - 1))
def test_residues_and_the_strong_triangle_inequality(i: int, j: int, k: int) -> None:
    digits = TernarySpace(9).sequences([i, j]).tolist()
    for depth in range(10):
        agree = digits[0][:depth] == digits[1][:depth]
        assert (valuation(9, i - j) >= depth) == (i % 3**depth == j % 3**depth) == agree
    a, b, c = sorted(valuation(9, d) for d in (i - j, j - k, i - k))
    assert a == b <= c


def test_tree_distance_and_balls() -> None:
    n = 3
    nodes = [[(depth, i % 3**depth) for depth in range(n + 1)] for i in range(3**n)]
    assert Counter(depth for depth, _ in set().union(*nodes)) == {k: 3**k for k in range(n + 1)}
    for i, j in itertools.product(range(3**n), repeat=2):
        path = len(set(nodes[i]) ^ set(nodes[j]))
        assert path == 2 * (n - valuation(n, i - j))


def test_counts_of_pairs_and_their_limits() -> None:
    n, size = 4, 81
    pairs = list(itertools.combinations(range(size), 2))
    by_valuation = Counter(valuation(n, i - j) for i, j in pairs)
    assert by_valuation == {k: size * 3 ** (n - 1 - k) for k in range(n)}
    gaps = Counter(abs(valuation(n, i) - valuation(n, j)) for i, j in pairs)
    sizes = TernarySpace(n).level_sizes()
    assert gaps[0] == sum(s * (s - 1) // 2 for s in sizes)
    assert gaps[2] == sum(a * b for a, b in zip(sizes, sizes[2:], strict=False))
    large = [float(Fraction(s, 3**20)) for s in TernarySpace(20).level_sizes()]
    for k in range(1, 4):
        share = 2 * sum(a * b for a, b in zip(large, large[k:], strict=False))
        assert share == pytest.approx(3.0**-k, abs=1e-9)
    assert sum(a * a for a in large) == pytest.approx(1 / 2, abs=1e-9)


# --- 2: the ball -----------------------------------------------------------------------------


@relaxed
@given(st.floats(0.1, 4), st.floats(0.01, 3), st.floats(0.01, 3), st.floats(0, math.pi))
def test_law_of_cosines_radius_and_curvature(c: float, a: float, b: float, angle: float) -> None:
    ball = PoincareBall(c)
    x = ball.expmap0(torch.tensor([a / 2, 0.0], dtype=torch.float64))
    turned = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    y = ball.expmap0(turned * b / 2)
    assert ball.dist0(x).item() == pytest.approx(a, rel=1e-9)
    k = math.sqrt(c)
    across = math.sinh(k * a) * math.sinh(k * b) * math.cos(angle)
    by_law = math.cosh(k * a) * math.cosh(k * b) - across
    assert math.cosh(k * ball.dist(x, y).item()) == pytest.approx(by_law, rel=1e-7)
    ratio = (x - y).square().sum() / ((1 - c * x.square().sum()) * (1 - c * y.square().sum()))
    assert 1 + 2 * c * ratio.item() == pytest.approx(by_law, rel=1e-7)
    unit = PoincareBall(1.0).dist(k * x, k * y).item()
    assert unit / k == pytest.approx(ball.dist(x, y).item(), rel=1e-9)


@pytest.mark.parametrize("c", [0.5, 1.0, 3.0])
def test_length_across_the_rays_and_its_curvature(c: float) -> None:
    with mpmath.workdps(30):
        k, t = mpmath.sqrt(c), mpmath.mpf("0.4")
        r = mpmath.quad(lambda x: 2 / (1 - c * x**2), [0, t])
        across = mpmath.sinh(k * r) / k
        assert abs(2 * t / (1 - c * t**2) - across) < 1e-25
        bent = mpmath.diff(lambda x: mpmath.sinh(k * x) / k, r, 2)
        assert abs(bent / across - c) < 1e-12


# --- 3: ceilings -----------------------------------------------------------------------------

columns = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=3, max_size=25)


def free(values: list[int]) -> float:
    return len(values) ** 3 - len(values) - sum(t**3 - t for t in Counter(values).values())


@given(columns)
def test_theorem_1(rows: list[tuple[int, int]]) -> None:
    x, y = map(list, zip(*rows, strict=True))
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert abs(spearmanr(x, y)[0]) <= math.sqrt(free(x) / free(y)) + 1e-12
    if len(set(x)) > 1:
        tie_free = rankdata(y, method="ordinal")
        bound = math.sqrt(free(x) / (len(x) ** 3 - len(x)))
        steps = [(a, b) for a, b in itertools.combinations(zip(x, tie_free, strict=True), 2)]
        agree = all((a[0] - b[0]) * (a[1] - b[1]) >= 0 for a, b in steps)
        assert (spearmanr(x, tie_free)[0] >= bound - 1e-9) == agree


@pytest.mark.parametrize("n", range(1, 21))
def test_closed_forms_of_the_ceilings(n: int) -> None:
    size = 3**n
    hierarchy = 3 / math.sqrt(13) * math.sqrt((27**n - 1) / (27**n - size))
    assert ceilings(n)["hierarchy"] == pytest.approx(-hierarchy, abs=1e-15)
    pairs = size * (size - 1) // 2
    cubes = size**3 * (27**n - 1) // 26
    free_pairs = pairs**3 - cubes  # the linear terms cancel: groups add up to all pairs
    ultrametric = math.sqrt(Fraction(free_pairs, pairs**3 - pairs))
    if n > 1:
        assert ceilings(n)["ultrametric_corr"] == pytest.approx(ultrametric, abs=1e-12)


def test_figures_of_section_3() -> None:
    assert says("0.8660254 at $n = 1$") and round(-ceilings(1)["hierarchy"], 7) == 0.8660254
    limit = 3 / math.sqrt(13)
    left = -ceilings(9)["hierarchy"] - limit
    assert says(rf"$3/\sqrt{{13}}$ = {limit:.7f}; at $n = 9$ {left:.1e} is left")
    gaps = math.sqrt(87 / 104)
    at_nine = {name: f"{value:.7f}" for name, value in ceilings(9).items()}
    assert says(rf"\sqrt{{87/104}}$ = {gaps:.7f}, at $n = 9$ {at_nine['dist_corr']};")
    assert Fraction(87, 104) == 1 - Fraction(1, 8) - Fraction(1, 26)
    q = gaps + 4.5 / math.sqrt(13)
    assert says(rf"4.5/\sqrt{{13}}$ = {q:.7f}, at $n = 9$ {at_nine['Q_enhanced']}.")
    assert ceilings(20)["dist_corr"] == pytest.approx(gaps, abs=1e-9)
    assert ceilings(20)["Q_enhanced"] == pytest.approx(q, abs=1e-9)


@relaxed
@given(st.integers(0, 2**32))
def test_theorem_2(seed: int) -> None:
    n = 3
    rng = np.random.default_rng(seed)
    v = np.array([valuation(n, i) for i in range(3**n)])
    r = n - v + 0.5 + rng.uniform(-0.2499, 0.2499, 3**n)
    i, j = np.triu_indices(3**n, 1)
    hierarchy, dist_corr = spearmanr(v, r)[0], spearmanr(abs(v[i] - v[j]), abs(r[i] - r[j]))[0]
    assert hierarchy == pytest.approx(ceilings(n)["hierarchy"], abs=1e-12)
    assert dist_corr == pytest.approx(ceilings(n)["dist_corr"], abs=1e-12)


def test_what_lies_beyond_the_ceiling_is_tied() -> None:
    size, ceiling = 3**9, -ceilings(9)["hierarchy"]
    assert COLLAPSE_TOLERANCE == 1e-4
    least = math.sqrt(1 + (size**2 - 1) * (1 - (ceiling / (ceiling + 1e-4)) ** 2))
    assert says(f"takes {math.ceil(least)} equal radii")
    assert says(f"another level has {math.ceil((math.ceil(least) - 1) / 9)} or more")
    v = np.array([valuation(9, i) for i in range(size)])
    for tied in (200, 20_000):
        r = 9 - v + np.random.default_rng(0).uniform(0, 0.5, size)
        r[np.flatnonzero(v == 0)[:tied]] = 9.25
        beyond = -spearmanr(v, r)[0] - ceiling
        assert beyond > 0 and (beyond > 1e-4) == (tied > least)


# --- 4: richness against Q -------------------------------------------------------------------


def levels_of(n: int) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    v = np.array([valuation(n, i) for i in range(3**n)])
    return v, [np.flatnonzero(v == level) for level in range(n + 1)]


def richness_of(r: Floats, n: int) -> float:
    return float(np.mean([r[level].var() for level in levels_of(n)[1]]))


def lost_of_q(r: Floats, n: int) -> float:
    """What dist_corr and hierarchy together miss of their ceilings."""
    v, _ = levels_of(n)
    i, j = np.triu_indices(3**n, 1)
    dist_corr = spearmanr(abs(v[i] - v[j]), abs(r[i] - r[j]))[0]
    return float(ceilings(n)["Q_enhanced"] - dist_corr - 1.5 * abs(spearmanr(v, r)[0]))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_theorem_3_is_sharp(n: int) -> None:
    bound = RIM**2 / (16 * n * (n + 1))
    w, f, rng = RIM / (2 * n), 0.999, np.random.default_rng(n)
    for factor, good in ((f, True), (1.1, False)):
        r = np.zeros(3**n)
        for m, level in enumerate(reversed(levels_of(n)[1][:-1]), start=1):
            side = np.where(np.arange(len(level)) % 2, 0.5, -0.5)
            inwards = -1e-5 * np.sign(side) * rng.uniform(size=len(level))
            r[level] = (2 * m - 0.5 + side * factor + inwards) * w
        assert (abs(lost_of_q(r, n)) < 1e-12) == good
        assert (0.99 * bound < richness_of(r, n) < bound) == good


@relaxed
@given(st.integers(0, 2**32))
def test_theorem_3_is_never_passed(seed: int) -> None:
    """Random intervals and fillings: where Q is at its ceiling, richness is below the bound."""
    n, rng = 2, np.random.default_rng(seed)
    ends = np.concatenate([[0], np.cumsum(rng.dirichlet(np.full(2 * n, rng.choice([1, 9, 99]))))])
    r = np.zeros(3**n)
    for m, level in enumerate(reversed(levels_of(n)[1][:-1]), start=1):
        low, high = ends[2 * m - 1], ends[2 * m]
        r[level] = RIM * (low + (high - low) * rng.beta(0.3, 0.3, len(level)))
    if lost_of_q(r, n) < 1e-12:
        assert richness_of(r, n) < RIM**2 / (16 * n * (n + 1))


def test_figures_of_section_4() -> None:
    bound = RIM**2 / (16 * 90)
    assert says(f"it is {bound:.7f}") and says(f"a third of it, {bound / 3:.7f}")
    assert says(f"{0.9 * (SHELL / 2) ** 2 / 12:.7f} at $f = 1/2$")
    assert says(f"{0.9 * SHELL**2 / 12:.7f} when they are full")
    assert says(f"0.33 of richness, {RIM**2 / 40 / bound:.0f} times the bound")


@pytest.mark.parametrize("n", [3, 4])
def test_theorem_4(n: int) -> None:
    lost = []
    for j in range(1, n):
        rng = np.random.default_rng(j)
        v, levels = levels_of(n)
        r = RIM * (1 - 1e-3 * (v + 0.2 + rng.uniform(0, 0.4, 3**n)) / n)
        for level in levels[n - j : n]:
            r[level] = np.where(np.arange(len(level)) % 2, RIM, 0) + rng.uniform(0, 1e-9)
            r[level] -= np.sign(r[level] - 1) * rng.uniform(0, 1e-6, len(level))
        r[0] = 0
        assert richness_of(r, n) == pytest.approx(j / (n + 1) * RIM**2 / 4, rel=1e-3)
        lost.append(lost_of_q(r, n) * 3 ** (n - j))
    assert max(lost) < 6


# --- 5: radius and distance ------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("form", ["euclidean", "hyperbolic"])
def test_theorem_5(n: int, form: str) -> None:
    delta = np.append(np.sort(np.random.default_rng(n).uniform(0.5, 4, n))[::-1], 0)
    f = delta**2 if form == "euclidean" else np.cosh(delta)
    found = np.linalg.eigvalsh(f[between(n)])
    expected = []
    for k in range(n):
        inside = sum(2 * 3 ** (n - 1 - v) * f[v] for v in range(k + 1, n)) + f[n]
        expected += [inside - 3 ** (n - k - 1) * f[k]] * (2 * 3**k)
    assert found[:-1] == pytest.approx(np.sort(expected), abs=1e-9)
    assert found[-2] < 0 < found[-1]


def linear_code(n: int, ratio: float) -> Floats:
    """Theorem 6: triangles of side 1, ratio**k, each in a plane of its own; (N, 2 n)."""
    digits = (TernarySpace(n).sequences() + 1).numpy()
    corners = np.array([[0, 0], [1, 0], [0.5, math.sqrt(0.75)]])
    weights = ratio ** np.arange(n)
    return (weights[:, None] * corners[digits]).reshape(3**n, 2 * n)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_theorem_6(n: int) -> None:
    limit = 1.0 if n == 2 else brentq(lambda x: sum(x**k for k in range(1, n)) - 1, 0.4, 0.99)
    for square in (0.3, 0.5 if n > 2 else 0.9, 0.999 * limit, min(1.001 * limit, 1.0)):
        distances = euclidean(linear_code(n, math.sqrt(square)))
        sums = [sum(square**k for k in range(v, n)) for v in range(n)]
        for v, (low, high) in enumerate(bands(distances, n)):
            assert (low, high) == pytest.approx((square ** (v / 2), math.sqrt(sums[v])))
        assert ordered(distances, n) == (square < limit)


def test_limit_of_the_ratio_at_nine_digits() -> None:
    limit = brentq(lambda x: sum(x**k for k in range(1, 9)) - 1, 0.4, 0.6)
    assert says(rf"the exact limit is $\rho^2 < {limit:.5f}$")


@pytest.mark.parametrize("n", [3, 4])
def test_two_digits_in_one_plane(n: int) -> None:
    def code(ratio: float, last: float) -> Floats:
        x = linear_code(n, ratio)
        shared = x[:, -4:-2] + x[:, -2:] / ratio * last
        return np.concatenate([x[:, :-4], shared], axis=1)

    half = math.sqrt(0.5)
    assert code(half, 0.4).shape[1] == 2 * (n - 1)
    assert ordered(euclidean(code(half, 0.414)), n)
    assert not ordered(euclidean(code(half, 0.416)), n)
    assert ordered(euclidean(code(0.4, 0.49)), n) and not ordered(euclidean(code(0.4, 0.51)), n)
    low, high = bands(euclidean(code(0.5, 0.3)), n)[n - 2]
    weight = 0.5 ** (n - 2)
    assert (low, high) == pytest.approx((0.7 * weight, 1.3 * weight))


def test_order_in_a_plane_and_on_a_line() -> None:
    n = 5
    digits = (TernarySpace(n).sequences() + 1).numpy()
    corners = np.array([[0, 0], [1, 0], [0.5, math.sqrt(0.75)]])
    for ratio, good in ((0.333, True), (0.345, False)):
        x = (ratio ** np.arange(n)[:, None] * corners[digits]).sum(1)
        assert ordered(euclidean(x), n) == good
    for ratio, good in ((0.2, True), (0.202, False)):
        x = ((digits - 1) @ ratio ** np.arange(n))[:, None]
        assert ordered(euclidean(x), n) == good


@relaxed
@given(st.integers(0, 2**32), st.floats(0.01, 6))
def test_what_exp_0_does_to_distances(seed: int, m: float) -> None:
    u = np.random.default_rng(seed).normal(size=(30, 3))
    u *= m / 2 / np.linalg.norm(u, axis=1).max()
    z = PoincareBall().expmap0(torch.tensor(u)).numpy()
    i, j = np.triu_indices(30, 1)
    ratio = hyperbolic(z)[i, j] / (2 * euclidean(u)[i, j])
    assert ratio.min() >= 1 - 1e-9 and ratio.max() <= math.sinh(m) / m + 1e-9


def test_how_far_exp_0_keeps_the_order() -> None:
    def reach(ratio: float) -> float:
        return float(brentq(lambda m: math.sinh(m) / m - ratio, 0.01, 3))

    square = 0.62**2
    plain = math.sqrt((1 - square) / square)
    assert says(f"= {plain:.5f}, enough for $m = {math.floor(1000 * reach(plain)) / 1000}$")
    shared = 1 / (0.62 * 1.4)  # w_6 over w_7 + w_8; the other ratios of the bands are larger
    others = [1.5 * 0.4 / 0.4] + [
        1 / math.sqrt(sum(square**k for k in range(1, steps)) + square**steps * 1.96)
        for steps in range(2, 8)
    ]
    assert shared < min(others)
    assert says(f"{shared:.5f}, enough for $m = {math.floor(1000 * reach(shared)) / 1000}$")
    assert says(f"{math.sinh(RIM) / RIM:.2f} at $r = R$")
    n = 4
    for m, good in ((reach(plain), True), (RIM, False)):
        u = linear_code(n, 0.62)
        u *= m / 2 / np.linalg.norm(u, axis=1).max()
        z = PoincareBall().expmap0(torch.tensor(u)).numpy()
        assert ordered(hyperbolic(z), n) == good


# --- 6: at any radius ------------------------------------------------------------------------


def by_law(a: float, b: float, cosine: float) -> float:
    return math.acosh(math.cosh(a) * math.cosh(b) - math.sinh(a) * math.sinh(b) * cosine)


@given(st.floats(0.05, 6), st.floats(0.05, 1))
def test_angles_of_isosceles_triangles(r: float, share: float) -> None:
    inner = r * share
    assert by_law(r, inner, math.tanh(inner / 2) / math.tanh(r)) == pytest.approx(r, rel=1e-6)
    assert by_law(r, r, math.cosh(r) / (math.cosh(r) + 1)) == pytest.approx(r, rel=1e-6)
    cosine = (math.cosh(r) ** 2 - math.cosh(inner)) / math.sinh(r) ** 2
    assert by_law(r, r, cosine) == pytest.approx(inner, rel=1e-5)


def test_angles_in_equal_shells() -> None:
    def angle(v: int, w: int) -> float:
        outer, inner = (SHELL * (9.5 - level) for level in (v, w))
        return math.degrees(math.acos(math.tanh(inner / 2) / math.tanh(outer)))

    figures = f"{angle(0, 0):.1f} degrees apart, levels 0 and 1 are {angle(0, 1):.1f} degrees"
    assert says(f"{figures} apart, levels 0 and 8 {angle(0, 8):.1f}.")
    u = linear_code(3, 0.6)
    assert u[1] @ u[3] == 0


def test_gram_matrix() -> None:
    n = 3
    delta = np.append(SHELL * (9.5 - np.arange(n)), 0)
    d = delta[between(n)]
    gram = np.cosh(d[0, 1:])[:, None] * np.cosh(d[0, 1:]) - np.cosh(d[1:, 1:])
    assert np.linalg.eigvalsh(gram).min() > 1e-9  # so its rank is N - 1
    z = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    z[0] = 0
    d = hyperbolic(z)
    gram = np.cosh(d[0, 1:])[:, None] * np.cosh(d[0, 1:]) - np.cosh(d[1:, 1:])
    values = np.linalg.eigvalsh(gram)
    assert values[:-3] == pytest.approx(np.zeros(16), abs=1e-9) and values[-3] > 1e-3


def horosphere(x: Floats) -> Floats:
    """H of theorem 7."""
    half = (x**2).sum(1, keepdims=True) / 2
    return np.concatenate([x, half], axis=1) / (2 + half)


@relaxed
@given(st.integers(0, 2**32), st.floats(0.01, 30))
def test_theorem_7(seed: int, scale: float) -> None:
    x = scale * np.random.default_rng(seed).normal(size=(12, 4))
    x[0] = 0
    z = horosphere(x)
    assert (z[0] == 0).all()
    assert hyperbolic(z) == pytest.approx(2 * np.arcsinh(euclidean(x) / 2), rel=1e-6, abs=1e-9)
    assert 2 * z[:, :-1] / (1 - z[:, -1:]) == pytest.approx(x, rel=1e-6, abs=1e-9)
    curved = PoincareBall(2.0).dist(torch.tensor(z[1:]) / 2**0.5, torch.tensor(z[:-1]) / 2**0.5)
    apart = 2 * np.arcsinh(np.linalg.norm(x[1:] - x[:-1], axis=1) / 2) / 2**0.5
    assert curved.numpy() == pytest.approx(apart, rel=1e-6)


@pytest.mark.parametrize("max_radius", [0.5, 0.95, 0.999])
def test_order_at_any_scale(max_radius: float) -> None:
    n = 4
    x = linear_code(n, 0.7)
    largest = 2 * max_radius / math.sqrt(1 - max_radius**2)
    assert largest == pytest.approx(2 * math.sinh(math.atanh(max_radius)))
    z = horosphere(x * largest / np.linalg.norm(x, axis=1).max())
    assert z.shape[1] == 2 * n + 1
    assert np.linalg.norm(z, axis=1).max() == pytest.approx(max_radius)
    assert ordered(hyperbolic(z), n)


def compact_code(n: int, square: float, max_radius: float, skew: float = 3e-3) -> Floats:
    """Points in 2 n - 2 dimensions: all digits but three in planes, two in one, the last on a line.

    Triangles are a little unequal, so that no two radii agree.
    """
    digits = (TernarySpace(n).sequences() + 1).numpy()
    weights = square ** (np.arange(n - 2) / 2)
    weights = [*weights, 0.4 * weights[-1], 0.16 * weights[-1]]
    x = np.zeros((3**n, 2 * n - 3))
    for k in range(n - 1):
        corners = np.array([[0, 0], [1, 0], [0.5, math.sqrt(0.75)]])
        corners[2] *= 1 - skew * math.sqrt(k + 2)
        plane = 2 * min(k, n - 3)
        x[:, plane : plane + 2] += weights[k] * corners[digits[:, k]]
    x[:, -1] = weights[-1] * np.array([0, 1, skew - 1])[digits[:, -1]]
    x *= 2 * math.sinh(math.atanh(max_radius)) / np.linalg.norm(x, axis=1).max()
    return horosphere(x)


def test_compact_code_pair_by_pair() -> None:
    n = 5
    assert ordered(hyperbolic(compact_code(n, 0.47, 0.95)), n)
    assert not ordered(hyperbolic(compact_code(n, 0.5, 0.95)), n)
    x = compact_code(n, 0.4, 0.95, skew=0.0)
    x = 2 * x[:, :-1] / (1 - x[:, -1:])
    found = np.array(bands(euclidean(x), n)[-3:])
    found /= found[0, 0] / 0.6
    assert found == pytest.approx(np.array([[0.6, 1.436], [0.4, 0.512], [0.16, 0.32]]), abs=5e-4)
    assert says("$[0.6, 1.436]$, $[0.4, 0.512]$ and $[0.16, 0.32]$")
    assert says(rf"$1.436 \rho < 1$, $\rho^2 < {1 / 1.436**2:.3f}$")


def test_nine_digits_in_sixteen_dimensions_have_it_all() -> None:
    z = torch.tensor(compact_code(9, 0.4, 0.95))
    assert z.shape == (3**9, 16)
    space = TernarySpace(9)
    found = evaluate(TableEmbedding(space, z, ball=PoincareBall()), space)
    assert found["coverage"] == found["triplet_accuracy"] == 1.0
    assert found["hierarchy_B"] == pytest.approx(ceilings(9)["hierarchy"], abs=1e-9)
    above = found["ultrametric_corr"] - ceilings(9)["ultrametric_corr"]
    assert abs(above) < 3 * found.standard_errors["ultrametric_corr"]
    assert says(
        f"hierarchy {found['hierarchy_B']:.5f}, richness {found['richness']:.4f}, "
        f"Q {found['Q_enhanced']:.4f}"
    )


# --- 7: max_radius ---------------------------------------------------------------------------


@pytest.mark.parametrize("rim", [0.9, 0.95, 0.99, 0.999])
def test_table_of_section_7(rim: float) -> None:
    r = 2 * math.atanh(rim)
    row = f"| {rim} | {r:.4f} | {r / 10:.4f} | {r * r / 1440:.5f} | {math.sinh(r) * 2**-24:.1e} |"
    assert says(row)
    moved = 2 * math.atanh(rim * (1 + 2**-24)) - r
    assert moved == pytest.approx(math.sinh(r) * 2**-24, rel=1e-3)
    assert 2 * rim / (1 - rim**2) == pytest.approx(math.sinh(r))


def test_spacing_of_radii_against_float32() -> None:
    apart = [2 * math.atanh(rim) / 10 / 13_122 for rim in (0.95, 0.999)]
    times = apart[0] / (math.sinh(RIM) * 2**-24)
    assert says(f"at 0.95 they are {apart[0]:.1e} apart".replace("e-05", "e-5"))
    assert says(f"{times:.0f} times $dr$") and says(
        f"they are {apart[1]:.1e}".replace("e-05", "e-5")
    )
    assert apart[1] < math.sinh(2 * math.atanh(0.999)) * 2**-24
