"""The linear construction: its order over all pairs, its limits, and the digits read back."""

from __future__ import annotations

import cmath
import itertools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ternvae.baselines import LinearUltrametric, linear_ultrametric
from ternvae.ceilings import ceilings
from ternvae.manifolds import PoincareBall
from ternvae.metrics import evaluate
from ternvae.padic import TernarySpace

NINE = TernarySpace(9)
BALL = PoincareBall(max_radius=0.95)


def distances(x: Tensor, y: Tensor, c: float) -> Tensor:
    """All distances between two sets of points, by the textbook formula; an oracle."""
    gaps = (x[:, None] - y).square().sum(-1)
    room = (1 - c * x.square().sum(-1))[:, None] * (1 - c * y.square().sum(-1))
    return 2 / math.sqrt(c) * torch.asinh((c * gaps / room).sqrt())


def worst_ratio(space: TernarySpace, points: Tensor, anchors: Tensor, c: float = 1.0) -> float:
    """The least distance at a valuation over the largest above it, the smallest over valuations."""
    d = distances(points[anchors], points, c)
    v = space.valuation((anchors[:, None] - torch.arange(space.size)).abs())
    least = [float(d[v == k].min()) for k in range(space.n_digits)]
    most = [float(d[v == k].max()) for k in range(space.n_digits)]
    return min((a / b for a, b in zip(least[:-1], most[1:], strict=True)), default=math.inf)


@pytest.mark.parametrize("dim", [2, 3, 4, 7, 10, 11, 12])
@pytest.mark.parametrize("n_digits", [1, 2, 5])
def test_distances_are_ordered_over_all_pairs(n_digits: int, dim: int) -> None:
    space = TernarySpace(n_digits)
    made = LinearUltrametric(space, BALL, dim)
    points = made.embed(torch.arange(space.size))
    assert made.ordered
    assert points.shape == (space.size, dim)
    assert worst_ratio(space, points, torch.arange(space.size)) > 1


@settings(max_examples=25, deadline=None)
@given(
    n_digits=st.integers(1, 4),
    dim=st.integers(2, 10),
    ratio=st.floats(0.01, 0.707),
    c=st.floats(1e-3, 1e3),
    share=st.floats(0.01, 1.0),
)
def test_what_is_said_to_be_ordered_is(
    n_digits: int, dim: int, ratio: float, c: float, share: float
) -> None:
    space, ball = TernarySpace(n_digits), PoincareBall(c)
    made = LinearUltrametric(space, ball, dim, ratio=ratio)
    made = LinearUltrametric(space, ball, dim, ratio=ratio, scale=share * 2 * made.scale)
    assume(made.ordered)
    points = made.embed(torch.arange(space.size))
    assert worst_ratio(space, points, torch.arange(space.size), c) > 1
    assert float(ball.dist0(points).max()) == pytest.approx(made.scale, rel=1e-12)


@pytest.mark.parametrize("dim", [2, 16])
def test_nine_digits_are_ordered_around_many_anchors(dim: int) -> None:
    points = linear_ultrametric(NINE, BALL, dim)
    anchors = torch.randint(NINE.size, (40,), generator=torch.Generator().manual_seed(0))
    assert worst_ratio(NINE, points, anchors) > 1.05


@pytest.mark.parametrize("dim", [2, 16])
def test_the_ceilings_are_reached_without_ties(dim: int) -> None:
    made = LinearUltrametric(NINE, BALL, dim)
    metrics, limit = evaluate(made, NINE), ceilings(9)  # a collapsed level would warn
    assert metrics["coverage"] == metrics["coverage_B"] == metrics["triplet_accuracy"] == 1
    assert metrics["hierarchy_B"] == pytest.approx(limit["hierarchy"], abs=1e-9)
    # The sample of pairs has a ceiling of its own, within its standard error.
    error = 4 * metrics.standard_errors["ultrametric_corr"]
    assert metrics["ultrametric_corr"] == pytest.approx(limit["ultrametric_corr"], abs=error)


@pytest.mark.parametrize("dim", [2, 5, 10])
def test_the_ultrametric_ceiling_is_reached_over_all_pairs(dim: int) -> None:
    space = TernarySpace(5)
    metrics = evaluate(LinearUltrametric(space, BALL, dim), space)
    assert metrics.sampling["pairs_exact"]
    for name, ceiling in (("ultrametric_corr", "ultrametric_corr"), ("hierarchy_B", "hierarchy")):
        assert metrics[name] == pytest.approx(ceilings(5)[ceiling], abs=1e-9)  # pairs tie by chance


@pytest.mark.parametrize("dim", [*range(2, 20), 40])
def test_no_two_radii_are_equal(dim: int) -> None:
    radii = BALL.dist0(linear_ultrametric(NINE, BALL, dim))
    assert len(radii.unique()) == NINE.size


def test_large_scales_keep_the_radii_in_order() -> None:
    made = LinearUltrametric(NINE, BALL, 16, scale=3.0)
    metrics = evaluate(made, NINE)
    assert not made.ordered
    assert metrics["hierarchy_B"] == pytest.approx(ceilings(9)["hierarchy"], abs=1e-9)
    assert metrics["richness"] > 0.006
    assert metrics["coverage_B"] == 1


@settings(max_examples=25, deadline=None)
@given(
    n_digits=st.integers(1, 4),
    dim=st.integers(3, 10),
    ratio=st.floats(0.1, 0.707),
    c=st.floats(1e-3, 1e3),
    reach=st.floats(0.01, 8.0),
)
def test_on_a_horosphere_distances_are_those_of_flat_space_at_every_scale(
    n_digits: int, dim: int, ratio: float, c: float, reach: float
) -> None:
    space, ball = TernarySpace(n_digits), PoincareBall(c)
    made = LinearUltrametric(
        space, ball, dim, ratio=ratio, scale=reach / math.sqrt(c), horosphere=True
    )
    points = made.embed(torch.arange(space.size))
    assert made.ordered
    assert worst_ratio(space, points, torch.arange(space.size), c) > 1
    assert torch.equal(made.decode(points), space.sequences())
    chords = torch.sinh(distances(points, points, c) * math.sqrt(c) / 2)
    # Chords of a plane's triangle: those of digit 0, of which two sides are equal.
    assert chords[0, 2] == pytest.approx(float(chords[1, 2]), rel=0.05)
    assert float(ball.dist0(points).max()) == pytest.approx(made.scale, rel=1e-6)


@pytest.mark.parametrize(("dim", "ratio"), [(3, 0.62), (16, 0.65)])
def test_a_horosphere_has_all_of_it_at_once(dim: int, ratio: float) -> None:
    made = LinearUltrametric(NINE, BALL, dim, ratio=ratio, horosphere=True)
    metrics, limit = evaluate(made, NINE), ceilings(9)
    assert metrics["coverage_B"] == metrics["triplet_accuracy"] == 1
    assert metrics["hierarchy_B"] == pytest.approx(limit["hierarchy"], abs=1e-9)
    error = 4 * metrics.standard_errors["ultrametric_corr"]
    assert metrics["ultrametric_corr"] == pytest.approx(limit["ultrametric_corr"], abs=error)
    assert metrics["richness"] > 0.006
    assert metrics["Q_enhanced"] > 2.13


# --- the formula ----------------------------------------------------------------------------


def test_points_of_the_plane_are_sums_of_complex_numbers() -> None:
    space = TernarySpace(3)
    made = LinearUltrametric(space, PoincareBall(), 2, ratio=0.5, scale=0.2)
    third = cmath.exp(2j * cmath.pi / 3)
    shrink = 1 / (2 + math.sqrt(3))
    sides = [0, (third - 1) * (1 + made.stretch), third**2 - 1]
    sums = {
        i: sum(shrink**k * sides[d] for k, d in enumerate(digits))
        for i, digits in enumerate(t[::-1] for t in itertools.product(range(3), repeat=3))
    }
    farthest = max(map(abs, sums.values()))
    for i, total in sums.items():
        radius = 0.2 * abs(total) / farthest
        expected = math.tanh(radius / 2) * total / (abs(total) or 1)
        x, y = made.embed([i])[0].tolist()
        assert complex(x, y) == pytest.approx(expected, abs=1e-15)


def test_digits_have_planes_of_their_own_with_weights_in_ratio() -> None:
    space = TernarySpace(4)
    points = BALL.logmap0(linear_ultrametric(space, BALL, 9, indices=[1, 3, 9, 27, 2, 6]))
    planes = points[:, :8].unflatten(1, (4, 2)).norm(dim=-1)
    assert torch.equal(planes[:4] > 0, torch.eye(4, dtype=torch.bool))
    lengths = planes.diagonal()
    assert torch.allclose(lengths[1:] / lengths[:-1], torch.tensor(0.62).double(), rtol=1e-7)
    assert (points[:, 8] == 0).all()
    # Digit 2 is nearer than digit 1, by eta.
    assert (planes[0, 0] > planes[4, 0]) and (planes[1, 1] > planes[5, 1])


@pytest.mark.parametrize("c", [0.1, 1.0, 7.0])
@pytest.mark.parametrize("max_radius", [None, 0.01, 0.3, 0.95])
def test_points_lie_within_the_ball(c: float, max_radius: float | None) -> None:
    ball = PoincareBall(c, max_radius)
    points = linear_ultrametric(TernarySpace(4), ball, 6)
    ball.assert_check_point_on_manifold(points, atol=0.0, rtol=0.0)
    assert points.dtype == torch.float64
    assert (points[0] == 0).all()


def test_indices_pick_rows_of_the_whole() -> None:
    space = TernarySpace(3)
    points = linear_ultrametric(space, BALL, 5)
    assert torch.equal(linear_ultrametric(space, BALL, 5, indices=[7, 0, 26]), points[[7, 0, 26]])
    made = LinearUltrametric(space, BALL, 5)
    assert torch.equal(made.embed(space.sequences(), "A"), points)


# --- reading back ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [None, 1e-9, 3.66])
@pytest.mark.parametrize("dim", [2, 3, 8, 16, 18])
def test_all_sequences_are_read_back(dim: int, scale: float | None) -> None:
    made = LinearUltrametric(NINE, BALL, dim, scale=scale)
    assert torch.equal(made.decode(made.embed(torch.arange(NINE.size))), NINE.sequences())


@pytest.mark.parametrize("dim", [2, 16, 40])
def test_the_largest_space_is_read_back(dim: int) -> None:
    space = TernarySpace(20)
    indices = torch.randint(space.size, (2000,), generator=torch.Generator().manual_seed(1))
    made = LinearUltrametric(space, BALL, dim)
    assert torch.equal(made.decode(made.embed(indices)), space.sequences(indices))


def test_points_nearby_are_read_as_the_sequence_that_is_there() -> None:
    made = LinearUltrametric(NINE, BALL, 16)
    u = BALL.logmap0(made.embed(torch.arange(NINE.size)))
    lengths = u[3**8].norm()  # the shortest side; half of it is halfway to another corner
    noise = torch.randn(u.shape, dtype=u.dtype, generator=torch.Generator().manual_seed(2))
    moved = BALL.expmap0(u + 0.2 * lengths * noise / noise.norm(dim=-1, keepdim=True))
    assert torch.equal(made.decode(moved), NINE.sequences())


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.0, -0.5, math.sqrt(0.5), 0.8, 1e-7, math.nan, math.inf])
def test_ratios_without_an_order_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio: got"):
        LinearUltrametric(NINE, BALL, ratio=ratio)


def test_an_order_that_drowns_in_rounding_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_digits=9 in dim=2.*take a larger dim"):
        LinearUltrametric(NINE, BALL, 2, ratio=0.01)
    LinearUltrametric(NINE, BALL, 18, ratio=0.1)
    with pytest.raises(ValueError, match="float64"):
        LinearUltrametric(NINE, BALL, scale=1e-120)


def test_a_scale_beyond_the_ball_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scale: got 3\.7, .* 3\.66356"):
        LinearUltrametric(NINE, BALL, scale=3.7)
    with pytest.raises(ValueError, match="24"):
        LinearUltrametric(NINE, PoincareBall(), scale=25.0)


def test_a_horosphere_of_a_disc_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least 3"):
        LinearUltrametric(NINE, BALL, 2, horosphere=True)


def test_all_points_of_a_huge_space_are_refused() -> None:
    with pytest.raises(ValueError, match="n_digits=17"):
        linear_ultrametric(TernarySpace(17), BALL)
