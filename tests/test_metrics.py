"""Every metric against brute force in plain Python, and embeddings whose scores are known."""

from __future__ import annotations

import itertools
import math
import statistics
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor

from ternvae.manifolds import PoincareBall
from ternvae.metrics import (
    SAMPLE_SIZE,
    CollapsedLevelsWarning,
    Evaluator,
    ceilings,
    collapse_excess,
    evaluate,
    metric_names,
    richness,
    spearman,
)
from ternvae.padic import TernarySpace
from ternvae.training.verdict import validation_results
from tests.embeddings import (
    TableEmbedding,
    at_random,
    closed_form,
    on_one_ray,
    shell_radii,
    valuations,
)
from tests.padic.oracles import distance_by_definition, relaxed, valuation_by_definition

NINE = TernarySpace(9)

#: Largest plausible error of a sampled statistic: five standard errors of a mean of values with
#: standard deviation at most 1 (rank products) or 1/2 (shares).
PAIR_ERROR = 5 / math.sqrt(SAMPLE_SIZE)
TRIPLE_ERROR = 2.5 / math.sqrt(SAMPLE_SIZE // 8)


@pytest.fixture(scope="module")
def nine() -> Evaluator:
    return Evaluator(NINE)


# --- brute force ----------------------------------------------------------------------------


def distance(x: np.ndarray, y: np.ndarray, c: float) -> float:
    """The arcosh form, which the package does not use."""
    gap = (1 - c * float(x @ x)) * (1 - c * float(y @ y))
    return math.acosh(1 + 2 * c * float((x - y) @ (x - y)) / gap) / math.sqrt(c)


def levels(n: int) -> list[int]:
    return [int(min(valuation_by_definition(i, 3), n)) for i in range(3**n)]


def pair_scores(points: Tensor, n: int, c: float) -> tuple[float, float]:
    """dist_corr and ultrametric_corr over all pairs."""
    rows, v = points.numpy(), levels(n)
    radii = [distance(row, np.zeros_like(row), c) for row in rows]
    pairs = list(itertools.combinations(range(3**n), 2))
    gaps = [abs(radii[i] - radii[j]) for i, j in pairs]
    level_gaps = [abs(v[i] - v[j]) for i, j in pairs]
    distances = [distance(rows[i], rows[j], c) for i, j in pairs]
    padic = [float(distance_by_definition(i, j, 3)) for i, j in pairs]
    return float(spearmanr(gaps, level_gaps)[0]), float(spearmanr(distances, padic)[0])


def triplet_score(points: Tensor, n: int, c: float) -> float:
    """The share of right triples, every triple with the weight that the definition gives it."""
    rows, indices = points.numpy(), range(3**n)
    table = [[distance(rows[i], rows[j], c) for j in indices] for i in indices]
    shares = []
    for low, high in itertools.combinations(range(n), 2):
        for i in indices:
            near = [table[i][j] for j in indices if valuation_by_definition(i - j, 3) == high]
            far = [table[i][k] for k in indices if valuation_by_definition(i - k, 3) == low]
            right = [a < b for a, b in itertools.product(near, far)]
            shares.append(sum(right) / len(right))
    return statistics.fmean(shares)


CASES = [(n, seed, c) for n in (1, 2, 3, 4) for seed, c in ((0, 1.0), (1, 0.1), (2, 4.0))]


@pytest.mark.parametrize(("n", "seed", "c"), CASES)
def test_pair_metrics_equal_brute_force(n: int, seed: int, c: float) -> None:
    space = TernarySpace(n)
    points = at_random(space, seed, dim=3, c=c)
    # Half of the cases lean towards the 3-adic order, so that scores are not all near zero.
    if seed == 1 and n > 1:
        points = closed_form(space, scale=0.2)
    metrics = evaluate(TableEmbedding(space, points, ball=PoincareBall(c)), space)
    if n == 1:
        dist_corr = spearmanr(*_one_digit_gaps(points, c))[0]
        assert metrics["dist_corr"] == pytest.approx(dist_corr, abs=1e-12)
        assert math.isnan(metrics["ultrametric_corr"])
        return
    dist_corr, ultrametric_corr = pair_scores(points, n, c)
    assert metrics["dist_corr"] == pytest.approx(dist_corr, abs=1e-12)
    assert metrics["ultrametric_corr"] == pytest.approx(ultrametric_corr, abs=1e-12)
    assert metrics.sampling["pairs_exact"] is True


def _one_digit_gaps(points: Tensor, c: float) -> tuple[list[float], list[int]]:
    a, b, z = (distance(row, np.zeros_like(row), c) for row in points.numpy())
    return [abs(a - b), abs(a - z), abs(b - z)], [1, 1, 0]


@pytest.mark.parametrize(("n", "seed", "c"), [case for case in CASES if case[0] in (2, 3)])
def test_triplet_accuracy_equals_weighted_enumeration(n: int, seed: int, c: float) -> None:
    space = TernarySpace(n)
    points = at_random(space, seed, dim=2, c=c)
    points[: space.size // 3] *= 0.3  # a mixture, so that the valuations score unequally
    exact = triplet_score(points, n, c)
    metrics = evaluate(TableEmbedding(space, points, ball=PoincareBall(c)), space)
    assert metrics["triplet_accuracy"] == pytest.approx(exact, abs=TRIPLE_ERROR)


def test_triplet_accuracy_weighs_pairs_of_valuations_alike() -> None:
    """Knowing only the last two digits orders few of all triples, but many pairs of valuations."""
    space = TernarySpace(4)
    kept = torch.arange(space.size) // 9 * 9
    points = closed_form(space, scale=0.2)[kept]
    exact = triplet_score(points, 4, 1.0)
    gap = valuation_table(4)
    triples = [
        (i, j, k) for i in range(81) for j in range(81) for k in range(81) if gap[i][j] > gap[i][k]
    ]
    rows = points.numpy()
    table = [[distance(x, y, 1.0) for y in rows] for x in rows]
    right = sum(table[i][j] < table[i][k] for i, j, k in triples if j != i)
    unweighted = right / sum(j != i for i, j, _ in triples)
    assert abs(exact - unweighted) > 10 * TRIPLE_ERROR
    metrics = evaluate(TableEmbedding(space, points), space)
    assert metrics["triplet_accuracy"] == pytest.approx(exact, abs=TRIPLE_ERROR)


def valuation_table(n: int) -> list[list[float]]:
    return [[valuation_by_definition(i - j, 3) for j in range(3**n)] for i in range(3**n)]


@relaxed
@given(
    st.lists(
        st.tuples(
            st.integers(-3, 3) | st.floats(-1e300, 1e300), st.integers(0, 4) | st.floats(0, 1)
        ),
        min_size=2,
        max_size=60,
    )
)
def test_spearman_equals_scipys(rows: list[tuple[float, float]]) -> None:
    x, y = (list(column) for column in zip(*rows, strict=True))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(spearman(x, y))
    else:
        assert spearman(x, y) == pytest.approx(spearmanr(x, y)[0], abs=1e-12)
        assert spearman(x, y) == spearman(y, x)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_hierarchy_equals_scipys_spearman_for_each_branch(n: int) -> None:
    space, ball = TernarySpace(n), PoincareBall(2.0)
    a, b = at_random(space, 1, dim=2, c=2.0), at_random(space, 2, dim=2, c=2.0)
    metrics = evaluate(TableEmbedding(space, b, a, ball=ball), space)
    for name, points in (("hierarchy_A", a), ("hierarchy_B", b)):
        radii = [distance(row, np.zeros(2), 2.0) for row in points.numpy()]
        assert metrics[name] == pytest.approx(spearmanr(levels(n), radii)[0], abs=1e-12)
    expected = metrics["dist_corr"] + 1.5 * abs(metrics["hierarchy_B"])
    assert metrics["Q_enhanced"] == expected


@pytest.mark.parametrize("n", [1, 3, 6])
def test_level_statistics_equal_numpys(n: int) -> None:
    space = TernarySpace(n)
    points = at_random(space, 5, dim=3, c=0.5)
    metrics = evaluate(TableEmbedding(space, points, ball=PoincareBall(0.5)), space)
    radii = np.array([distance(row, np.zeros(3), 0.5) for row in points.numpy()])
    v = np.array(levels(n))
    variances = [np.var(radii[v == level]) for level in range(n + 1)]
    assert metrics["richness"] == pytest.approx(np.mean(variances), rel=1e-10)
    assert richness(radii, v, n) == pytest.approx(np.mean(variances), rel=1e-10)
    for level in range(n + 1):
        assert metrics[f"r_v{level}"] == pytest.approx(radii[v == level].mean(), rel=1e-12)


def test_richness_of_a_part_of_the_space() -> None:
    assert richness([1.0, 3.0, 5.0], [0, 0, 2], n_digits=3) == 1.0 / 4
    assert richness([0.0, 2.0, 1.0, 1.0], [1, 1, 3, 3], n_digits=3) == 1.0 / 4
    with pytest.raises(ValueError, match="radius: got nan at position 1"):
        richness([1.0, math.nan, 5.0], [0, 0, 1], n_digits=1)


def test_richness_survives_a_large_common_radius() -> None:
    """Two passes: the textbook difference of squares would lose all digits here."""
    spread = np.linspace(0, 1e-4, 50)
    found = richness(1e4 + spread, np.zeros(50, dtype=int), n_digits=1)
    assert found == pytest.approx(np.var(spread) / 2, rel=1e-6)


# --- figures beside the metrics -------------------------------------------------------------

BESIDE_A = ("richness_A", "r_v0_A", "r_vn_A", "points_valid_A")
BESIDE_B = ("tied_share", "limit_share", "points_valid")


@pytest.mark.parametrize("n", [1, 3, 4])
def test_the_branches_give_all_metrics_and_their_figures_beside(n: int) -> None:
    space, ball = TernarySpace(n), PoincareBall(0.5, max_radius=0.9)
    a, b = at_random(space, 1, dim=3, c=0.5), at_random(space, 2, dim=3, c=0.5)
    model, evaluator = TableEmbedding(space, b, a, ball=ball), Evaluator(space)
    figures = {**evaluator.branch_a(model), **evaluator.branch_b(model)}
    drawn = {"standard_error_of_triplet_accuracy"} if n > 1 else set()
    assert set(figures) == {*metric_names(n), *BESIDE_A, *BESIDE_B, *drawn}
    assert all(type(value) is float for value in figures.values())
    metrics = evaluator(model)
    assert tuple(metrics) == metric_names(n)
    np.testing.assert_equal(dict(metrics), {name: figures[name] for name in metrics})
    radii, v = np.array([distance(row, np.zeros(3), 0.5) for row in a.numpy()]), np.array(levels(n))
    means = [radii[v == level].mean() for level in range(n + 1)]
    variances = [np.var(radii[v == level]) for level in range(n + 1)]
    assert figures["richness_A"] == pytest.approx(np.mean(variances), rel=1e-10)
    assert figures["r_v0_A"] == pytest.approx(means[0], rel=1e-12)
    assert figures["r_vn_A"] == pytest.approx(means[-1], rel=1e-12)
    assert figures["points_valid_A"] == figures["points_valid"] == 1
    assert figures["tied_share"] == figures["limit_share"] == 0


def figures_b(points: Tensor, n: int, ball: PoincareBall | None = None) -> dict[str, float]:
    space = TernarySpace(n)
    model = TableEmbedding(space, points, at_random(space, 9, dim=points.shape[1]), ball=ball)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedLevelsWarning)
        return Evaluator(space).branch_b(model)


@relaxed
@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, math.nan]), min_size=27, max_size=27),
    st.booleans(),
)
def test_ties_are_counted_within_their_level_as_by_brute_force(
    steps: list[float], mirrored: bool
) -> None:
    """Radii from few values meet within levels and across; a NaN equals nothing."""
    points = torch.zeros(27, 2, dtype=torch.float64)
    # Whatever the direction: exactly mirrored points have exactly equal radii.
    points[:, 0] = torch.tensor(steps) * (1 - 2 * (torch.arange(27) % 2) if mirrored else 1)
    v = levels(3)
    tied = [
        any(i != j and v[i] == v[j] and steps[i] == steps[j] for j in range(27)) for i in range(27)
    ]
    assert figures_b(points, 3)["tied_share"] == pytest.approx(sum(tied) / 27, abs=1e-15)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_one_tie_made_on_purpose_is_found(level: int) -> None:
    space = TernarySpace(4)
    radii, v = shell_radii(space), valuations(space)
    first, second = torch.nonzero(v == level).flatten()[:2].tolist()
    radii[first] = radii[second]
    assert figures_b(on_one_ray(radii), 4)["tied_share"] == 2 / 81
    # The next float is another radius; so is the same one in another level.
    points = on_one_ray(radii)
    points[first, 0] = math.nextafter(points[first, 0].item(), 0)
    assert figures_b(points, 4)["tied_share"] == 0
    points = on_one_ray(shell_radii(space))
    points[80] = points[27]
    assert v[80] != v[27] and figures_b(points, 4)["tied_share"] == 0


def test_a_collapsed_space_is_tied_throughout_but_for_its_last_level() -> None:
    space = TernarySpace(4)
    points = on_one_ray((4.5 - valuations(space)).double() / 4)
    assert figures_b(points, 4)["tied_share"] == 80 / 81
    assert figures_b(torch.zeros(81, 2, dtype=torch.float64), 4)["tied_share"] == 80 / 81
    assert figures_b(torch.full((81, 2), math.nan, dtype=torch.float64), 4)["tied_share"] == 0


@pytest.mark.parametrize("c", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("max_radius", [0.5, 0.95, 0.9999])
def test_points_at_the_limit_are_counted_as_by_brute_force(c: float, max_radius: float) -> None:
    ball = PoincareBall(c, max_radius=max_radius)
    limit = 2 / math.sqrt(c) * math.atanh(max_radius)
    shares = torch.linspace(0.99, 1.0, 27, dtype=torch.float64)
    points = torch.zeros(27, 3, dtype=torch.float64)
    points[:, 1] = torch.tanh(math.sqrt(c) * limit * shares / 2) / math.sqrt(c)
    points = ball.projx(points)
    figures = figures_b(points, 3, ball)
    radii = [distance(row, np.zeros(3), c) for row in points.numpy()]
    assert figures["limit_share"] == sum(r >= 0.999 * limit for r in radii) / 27
    assert 0 < figures["limit_share"] < 0.2
    assert figures["points_valid"] == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_radius", [0.1, 0.95, 0.999999])
def test_points_that_the_ball_has_clipped_are_valid(dtype: torch.dtype, max_radius: float) -> None:
    """A figure that failed them by a rounding error would fail every model at the limit."""
    for seed in range(20):
        ball = PoincareBall(math.exp(seed / 4 - 2), max_radius=max_radius)
        far = 100 * torch.randn(27, 5, generator=torch.Generator().manual_seed(seed))
        figures = figures_b(ball.expmap0(far.to(dtype)), 3, ball)
        assert figures["points_valid"] == 1
        # Nearer the rim, float32 keeps a distance from it that is more than 0.1 % of the radius.
        if dtype == torch.float64 or max_radius < 0.9999:
            assert figures["limit_share"] == 1


def test_without_a_limit_no_point_is_at_it() -> None:
    points = on_one_ray(torch.linspace(0, 30, 27, dtype=torch.float64))
    figures = figures_b(points, 3, PoincareBall())
    assert (figures["limit_share"], figures["points_valid"]) == (0, 1)


@pytest.mark.parametrize("branch", ["A", "B"])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 0.9001, 1.0, 2.0])
def test_one_point_that_is_no_point_is_not_valid(branch: str, odd: float) -> None:
    space, ball = TernarySpace(3), PoincareBall(max_radius=0.9)
    good = ball.projx(at_random(space, 4, dim=2))
    bad = good.clone()
    bad[13] = torch.tensor([odd, 0.0])
    points = (bad, good) if branch == "B" else (good, bad)
    model, evaluator = TableEmbedding(space, *points, ball=ball), Evaluator(space)
    valid = (evaluator.branch_a(model)["points_valid_A"], evaluator.branch_b(model)["points_valid"])
    assert valid == ((1, 0) if branch == "B" else (0, 1))


def test_a_nan_leaves_the_other_points_their_shares() -> None:
    ball = PoincareBall(max_radius=0.9)
    points = torch.zeros(27, 2, dtype=torch.float64)
    points[:, 0] = torch.linspace(0.1, 0.7, 27, dtype=torch.float64)
    points[4], points[5], points[7], points[8] = points[1], points[1], math.nan, math.nan
    points[10, 0] = 0.9
    figures = figures_b(points, 3, ball)
    assert figures["tied_share"] == 3 / 27  # 1, 4 and 5, all of level 0; no NaN with another
    assert figures["limit_share"] == 1 / 27
    assert figures["points_valid"] == 0


# --- names, repetition, precision -----------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 4])
def test_keys_are_exactly_the_metric_names(n: int) -> None:
    space = TernarySpace(n)
    metrics = evaluate(TableEmbedding(space, at_random(space, 0)), space)
    assert tuple(metrics) == metric_names(n)
    assert tuple(metrics)[-(n + 1) :] == tuple(f"r_v{v}" for v in range(n + 1))
    assert all(type(value) is float for value in metrics.values())


def test_metric_names_at_nine_digits() -> None:
    assert metric_names(9) == (
        *("coverage", "coverage_B", "hierarchy_A", "hierarchy_B", "richness", "dist_corr"),
        *("Q_enhanced", "ultrametric_corr", "triplet_accuracy"),
        *("r_v0", "r_v1", "r_v2", "r_v3", "r_v4", "r_v5", "r_v6", "r_v7", "r_v8", "r_v9"),
    )


def test_only_the_undefined_is_nan_at_one_digit() -> None:
    space = TernarySpace(1)
    metrics = evaluate(TableEmbedding(space, at_random(space, 0)), space)
    undefined = {name for name, value in metrics.items() if math.isnan(value)}
    assert undefined == {"ultrametric_corr", "triplet_accuracy"}


def test_evaluation_repeats_itself_and_leaves_the_random_state_alone() -> None:
    model = TableEmbedding(NINE, at_random(NINE, 0))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = evaluate(model, NINE)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert evaluate(model, NINE) == first


def test_float32_points_are_scored_in_float64() -> None:
    space = TernarySpace(5)
    points = at_random(space, 4).float()
    narrow = evaluate(TableEmbedding(space, points), space)
    assert narrow == evaluate(TableEmbedding(space, points.double()), space)


def test_points_that_are_not_numbers_score_nan() -> None:
    space = TernarySpace(3)
    points = at_random(space, 0)
    points[5] = math.nan
    metrics = evaluate(TableEmbedding(space, points), space)
    for name in ("hierarchy_A", "hierarchy_B", "richness", "dist_corr", "ultrametric_corr", "r_v0"):
        assert math.isnan(metrics[name]), name


def test_a_space_that_is_not_the_models_is_refused() -> None:
    points = at_random(TernarySpace(3), 0)
    model = TableEmbedding(TernarySpace(3), points)
    for n in (1, 2):
        with pytest.raises(ValueError, match=f"n_digits={n}, but the model decodes 3"):
            evaluate(model, TernarySpace(n))


# --- coverage -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong_a", "wrong_b"),
    [
        ([], [0]),
        ([0], []),
        # Around the borders of the chunks in which the space is embedded.
        ([8191, 8192, 16383, 16384, 19682], [1, 2, 3]),
        (list(range(0, 19683, 3)), list(range(19683))),
    ],
)
def test_coverage_counts_every_sequence_once(
    nine: Evaluator, wrong_a: list[int], wrong_b: list[int]
) -> None:
    model = TableEmbedding(
        NINE, closed_form(NINE), at_random(NINE, 0), wrong_a=wrong_a, wrong_b=wrong_b
    )
    assert nine.coverage(model, "A") == (19683 - len(wrong_a)) / 19683
    assert nine.coverage(model, "B") == (19683 - len(wrong_b)) / 19683


def test_evaluate_reports_the_coverage_of_each_branch() -> None:
    space = TernarySpace(4)
    model = TableEmbedding(space, at_random(space, 0), wrong_a=[3], wrong_b=[5, 7])
    metrics = evaluate(model, space)
    assert (metrics["coverage"], metrics["coverage_B"]) == (80 / 81, 79 / 81)


# --- embeddings with known scores -----------------------------------------------------------


def test_the_closed_form_reaches_the_ceilings_in_sixteen_dimensions(nine: Evaluator) -> None:
    points = closed_form(NINE)
    assert points.shape == (19683, 16)
    metrics, limit = nine(TableEmbedding(NINE, points)), ceilings(9)
    assert metrics["coverage"] == metrics["coverage_B"] == 1
    assert metrics["hierarchy_A"] == pytest.approx(limit["hierarchy"], abs=1e-9)
    assert metrics["hierarchy_B"] == pytest.approx(limit["hierarchy"], abs=1e-9)
    assert metrics["ultrametric_corr"] == pytest.approx(limit["ultrametric_corr"], abs=PAIR_ERROR)
    assert metrics["triplet_accuracy"] == 1
    radii = [metrics[f"r_v{v}"] for v in range(10)]
    assert radii == sorted(radii, reverse=True)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_closed_form_reaches_the_ultrametric_ceiling_over_all_pairs(n: int) -> None:
    space = TernarySpace(n)
    metrics = evaluate(TableEmbedding(space, closed_form(space)), space)
    assert metrics.sampling["pairs_exact"] is True
    limit = ceilings(n)["ultrametric_corr"]
    assert metrics["ultrametric_corr"] == pytest.approx(limit, abs=1e-12)
    assert metrics["triplet_accuracy"] == 1


def test_perfect_radii_on_one_ray_reach_q_and_know_nothing_of_the_distances(
    nine: Evaluator,
) -> None:
    radii = shell_radii(NINE)
    metrics, limit = nine(TableEmbedding(NINE, on_one_ray(radii))), ceilings(9)
    assert metrics["hierarchy_B"] == pytest.approx(limit["hierarchy"], abs=1e-9)
    assert metrics["dist_corr"] == pytest.approx(limit["dist_corr"], abs=PAIR_ERROR)
    assert metrics["Q_enhanced"] == pytest.approx(limit["Q_enhanced"], abs=PAIR_ERROR)
    v = valuations(NINE)
    variances = [np.var(radii[v == level].numpy()) for level in range(10)]
    assert metrics["richness"] == pytest.approx(np.mean(variances), rel=1e-9)
    # Radii alone tell v(i) and v(j), not v(i - j).
    assert metrics["ultrametric_corr"] < limit["ultrametric_corr"] - 0.3
    assert metrics["triplet_accuracy"] < 0.7


@pytest.mark.parametrize("n", [1, 2, 4])
def test_perfect_radii_reach_q_exactly_over_all_pairs(n: int) -> None:
    space = TernarySpace(n)
    metrics = evaluate(TableEmbedding(space, on_one_ray(shell_radii(space))), space)
    for name, ceiling in (("hierarchy_B", "hierarchy"), ("dist_corr", "dist_corr")):
        assert metrics[name] == pytest.approx(ceilings(n)[ceiling], abs=1e-12)
    assert metrics["Q_enhanced"] == pytest.approx(ceilings(n)["Q_enhanced"], abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_random_embedding_scores_nothing(nine: Evaluator, seed: int) -> None:
    metrics = nine(TableEmbedding(NINE, at_random(NINE, seed)))
    # N independent points: hierarchy has standard error 1/sqrt(N), and the pair statistics share
    # points, so theirs is of the same order.
    bound = 5 / math.sqrt(NINE.size)
    for name in ("hierarchy_A", "hierarchy_B", "dist_corr", "ultrametric_corr"):
        assert abs(metrics[name]) < bound, name
    assert metrics["triplet_accuracy"] == pytest.approx(0.5, abs=bound)


def test_reversed_radii_score_the_reverse(nine: Evaluator) -> None:
    radii = shell_radii(NINE)
    metrics = nine(TableEmbedding(NINE, on_one_ray(3.7 - radii)))
    assert metrics["hierarchy_B"] == pytest.approx(-ceilings(9)["hierarchy"], abs=1e-9)


def swapped(space: TernarySpace, first: int, second: int) -> TableEmbedding:
    """Perfect radii, but two levels have changed shells."""
    v, radii = valuations(space), shell_radii(space)
    width = 3.6 / (space.n_digits + 1)
    shift = torch.zeros_like(radii)
    shift[v == first] = width * (first - second)
    shift[v == second] = width * (second - first)
    return TableEmbedding(space, on_one_ray(radii + shift))


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (3, 6), (7, 8), (8, 9)])
def test_two_levels_in_each_others_place_are_told_apart(
    nine: Evaluator, first: int, second: int
) -> None:
    metrics = nine(swapped(NINE, first, second))
    assert metrics["hierarchy_B"] > ceilings(9)["hierarchy"] + 1e-13
    # In the small levels the loss is far below the rounding of the target: the order of the mean
    # radii catches it.
    targets = {"coverage": 1.0, "hierarchy_B": -0.8321, "richness": 0.0, "Q_enhanced": 2.0}
    results = validation_results(metrics, targets, n_digits=9, points_valid=True)
    assert not results["p_adic_structure"]
    assert not results["mathematical_foundation_ready"]
    assert results["hierarchy_ceiling"] is (first >= 7)


# --- collapse -------------------------------------------------------------------------------


def collapsed(space: TernarySpace, collapsed_levels: list[int]) -> TableEmbedding:
    v, radii = valuations(space), shell_radii(space)
    width = 3.6 / (space.n_digits + 1)
    same = torch.isin(v, torch.tensor(collapsed_levels))
    radii[same] = (width * (space.n_digits - v + 0.5))[same].double()
    return TableEmbedding(space, on_one_ray(radii))


def test_collapsed_levels_score_beyond_the_ceiling_and_are_warned_of() -> None:
    with pytest.warns(CollapsedLevelsWarning, match=r"-1\.0000000 .*beyond the ceiling"):
        metrics = evaluate(collapsed(NINE, list(range(10))), NINE)
    assert metrics["hierarchy_B"] == pytest.approx(-1, abs=1e-12)
    assert metrics["richness"] == pytest.approx(0, abs=1e-12)
    assert collapse_excess(metrics["hierarchy_B"], 9) == pytest.approx(1 - 0.8320503, abs=1e-7)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_one_collapsed_level_is_warned_of_although_richness_is_fine(level: int) -> None:
    """Tied values leave fewer ranks, so the correlation rises by a computable amount."""
    with pytest.warns(CollapsedLevelsWarning):
        metrics = evaluate(collapsed(NINE, [level]), NINE)
    size, tied = 3**9, 2 * 3 ** (8 - level)
    left = math.sqrt(1 - (tied**3 - tied) / (size**3 - size))
    assert metrics["hierarchy_B"] == pytest.approx(ceilings(9)["hierarchy"] / left, abs=1e-12)
    assert metrics["richness"] > 0


def test_ties_that_move_the_score_by_less_than_the_tolerance_are_no_collapse() -> None:
    metrics = evaluate(collapsed(NINE, [5, 6, 7]), NINE)  # warnings are errors here
    assert metrics["hierarchy_B"] < ceilings(9)["hierarchy"]


@pytest.mark.parametrize("n", [1, 3, 9, 20])
def test_collapse_excess(n: int) -> None:
    limit = ceilings(n)["hierarchy"]
    assert collapse_excess(limit, n) == 0
    assert collapse_excess(limit - 0.99e-4, n) == 0
    assert collapse_excess(limit - 1.01e-4, n) == pytest.approx(1.01e-4, rel=1e-6)
    assert collapse_excess(-limit + 1e-3, n) == pytest.approx(1e-3, rel=1e-6)
    assert collapse_excess(0.0, n) == 0
    assert collapse_excess(math.nan, n) == 0
