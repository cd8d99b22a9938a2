"""What branch B has of its own: a straight path from the digits, a chart that bends, thresholds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mpmath as mp
import pytest
import torch
from torch import Tensor, nn

from ternvae.config import profile_from_dict
from ternvae.models import TernaryVAE
from ternvae.padic import TernarySpace
from ternvae.trainer import Trainer


def model_of(n_digits: int = 4, **keywords: Any) -> TernaryVAE:
    torch.manual_seed(1)
    return TernaryVAE(n_digits, latent_dim=5, hidden_dim=12, **keywords).eval()


def points_of(model: TernaryVAE, count: int, seed: int = 0) -> Tensor:
    """(count, latent_dim) points, near and far from the origin."""
    drawn = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))
    lengths = torch.logspace(-3, 0.5, count).unsqueeze(-1) / model.config["curvature"] ** 0.5
    tangent = drawn / drawn.norm(dim=-1, keepdim=True) * lengths
    with torch.no_grad():
        return model.ball.projx(model.ball.expmap0(tangent.to(model.point_dtype)))


# --- the path from the digits -----------------------------------------------------------------


@pytest.mark.parametrize("branch", ["A", "B"])
def test_the_straight_path_is_a_sum_of_one_vector_per_digit(branch: str) -> None:
    """Beside hidden layers that say nothing, the direction is that sum; and it is added to them."""
    model = model_of()
    encoder = model.encoder(branch)
    sequences = model.space.sequences()
    with torch.no_grad():
        whole = encoder(sequences).direction
        encoder.projection.direction[-1].weight.zero_()
        encoder.projection.direction[-1].bias.zero_()
        straight = encoder(sequences).direction
        columns = encoder.digits.weight.view(5, 4, 3)  # latent dimension, digit, its value
        wanted = encoder.digits.bias.expand(81, 5).clone()
        for k in range(4):
            wanted += columns[:, k, :].T[sequences[:, k] + 1]
        torch.testing.assert_close(straight, wanted)
        # Without it the hidden layers are left, to which it was added.
        other = model_of().encoder(branch)
        other.digits.weight.zero_()
        other.digits.bias.zero_()
        torch.testing.assert_close(whole, other(sequences).direction + wanted)


def test_the_straight_path_alone_can_put_sequences_in_3_adic_order() -> None:
    """Corners of a triangle in a plane of each digit, shrinking: who is 3-adically nearer is."""
    n = 4
    torch.manual_seed(0)
    model = TernaryVAE(n, latent_dim=2 * n, hidden_dim=8)
    encoder = model.encoder("B")
    with torch.no_grad():
        for head in (encoder.projection.direction, encoder.projection.radius):
            head[-1].weight.zero_()
            head[-1].bias.zero_()
        encoder.digits.weight.zero_()
        encoder.digits.bias.zero_()
        for k in range(n):
            for value in range(3):
                angle = 2 * math.pi * value / 3
                corner = torch.tensor([math.cos(angle), math.sin(angle)])
                encoder.digits.weight[2 * k : 2 * k + 2, 3 * k + value] = 0.5**k * corner
    space = TernarySpace(n)
    points = model.embed(torch.arange(space.size))
    distances = model.ball.dist(points.unsqueeze(0), points.unsqueeze(1))
    indices = torch.arange(space.size)
    between = space.valuation((indices.unsqueeze(0) - indices.unsqueeze(1)).abs())
    for v in range(n - 1):
        assert distances[between == v].min() > distances[between == v + 1].max()


# --- charts -----------------------------------------------------------------------------------


def is_straight(chart: nn.Module) -> bool:
    """Whether the chart takes midpoints to midpoints."""
    x, y = torch.randn(2, 50, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        middle = chart((x + y) / 2)
        return bool(torch.allclose(middle, (chart(x) + chart(y)) / 2, rtol=0, atol=1e-12))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_chart_of_b_bends_from_two_layers_on(layers: int) -> None:
    model = model_of(chart_layers=layers).double()
    assert is_straight(model.charts["A"])
    assert is_straight(model.charts["B"]) is (layers == 1)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_a_chart_has_as_many_layers_as_it_is_told(layers: int) -> None:
    model = model_of(chart_layers=layers)
    shapes = [tuple(p.shape) for p in model.charts["B"].parameters()]
    assert shapes == [(12, 5), (12,), *[(12, 12), (12,)] * (layers - 1)]
    assert [tuple(p.shape) for p in model.charts["A"].parameters()] == [(12, 5), (12,)]
    assert model.config["chart_layers"] == layers


# --- thresholds -------------------------------------------------------------------------------


@pytest.mark.parametrize("n_digits", [1, 2, 9])
def test_there_is_a_threshold_between_two_valuations_and_they_fall(n_digits: int) -> None:
    model = model_of(n_digits)
    assert model.thresholds.shape == (n_digits - 1,)
    assert model.thresholds.requires_grad
    assert bool((model.thresholds.diff() < 0).all())
    assert model.thresholds.tolist() == pytest.approx((-model.thresholds.flip(0)).tolist())


def exact_reading(x: Tensor, y: Tensor, thresholds: Tensor, c: float) -> int:
    """Thresholds above log(sinh^2(sqrt(c) d / 2) + 1e-6), by the formula of the ball's metric."""
    with mp.workdps(40):
        one, other = ([mp.mpf(e) for e in t.double().tolist()] for t in (x, y))
        apart = sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
        rooms = [1 - c * sum(e**2 for e in each) for each in (one, other)]
        chord = mp.log(c * apart / (rooms[0] * rooms[1]) + mp.mpf(1e-6))
        return sum(chord < threshold for threshold in thresholds.double().tolist())


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"curvature": 4.0},
        {"curvature": 0.1, "learnable_curvature": True},
        {"mathematical_precision": True},
    ],
    ids=str,
)
def test_the_valuation_is_the_number_of_thresholds_above_the_distance(
    keywords: dict[str, Any],
) -> None:
    model = model_of(9, **keywords)
    with torch.no_grad():
        model.thresholds.copy_(torch.tensor([2.0, 1.0, 0.0, -2.0, -4.0, -6.0, -8.0, -12.0]))
    first, second = points_of(model, 60), points_of(model, 60, seed=1).flip(0)
    second[40:] = 0.999 * first[40:] + 1e-4
    found = model.valuation_between(first, second)
    assert found.dtype == torch.int64
    c = model.config["curvature"]
    wanted = [exact_reading(x, y, model.thresholds.detach(), c) for x, y in zip(first, second)]  # noqa: B905 - tensors
    assert found.tolist() == wanted
    assert len(set(wanted)) > 4
    assert torch.equal(model.valuation_between(second, first), found)


def test_equal_points_are_of_sequences_as_near_as_different_ones_can_be() -> None:
    for n_digits in (1, 2, 5):
        model = model_of(n_digits)
        points = points_of(model, 7)
        assert model.valuation_between(points, points).tolist() == [n_digits - 1] * 7


def test_one_point_can_be_compared_with_many() -> None:
    model = model_of()
    many, one = points_of(model, 20), points_of(model, 1, seed=5)
    found = model.valuation_between(many, one)
    assert torch.equal(found, model.valuation_between(many, one.expand(20, 5)))
    assert model.valuation_between(many[:0], one).shape == (0,)
    assert torch.equal(model.valuation_between(many.numpy(), one.tolist()), found)


def test_neither_isometries_nor_the_way_there_change_what_is_read() -> None:
    """Moved along a geodesic, a point is read as ever farther away."""
    model = model_of(9).double()
    first, second = points_of(model, 40).double(), points_of(model, 40, seed=1).double()
    ball, centre = model.ball, 0.3 * torch.ones(1, 5, dtype=torch.float64)
    moved = (ball.mobius_add(centre, each) for each in (first, second))
    assert torch.equal(model.valuation_between(*moved), model.valuation_between(first, second))
    along = [
        model.valuation_between(first, ball.geodesic(torch.tensor([[t]]).double(), first, second))
        for t in (0.0, 0.01, 0.1, 0.4, 0.8, 1.0)
    ]
    assert bool((torch.stack(along).diff(dim=0) <= 0).all())


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (torch.zeros(3, 5), torch.zeros(2, 5), "got 3 and 2"),
        (torch.zeros(1, 5), torch.zeros(2, 5), "got 1 and 2"),
        (torch.zeros(2, 5), torch.zeros(0, 5), "got 2 and 0"),
        (torch.zeros(2, 4), torch.zeros(2, 5), r"\(2, 4\)"),
        (torch.zeros(2, 5), torch.zeros(5), r"\(5,\)"),
        (torch.zeros(2, 5), torch.ones(2, 5), "max_radius"),
        (torch.full((2, 5), math.nan), torch.zeros(2, 5), "nan"),
        (torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5), "int64"),
    ],
)
def test_what_cannot_be_compared_is_refused(first: Any, second: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of().valuation_between(first, second)


def test_points_of_half_precision_are_refused() -> None:
    with pytest.raises(TypeError, match="float16"):
        model_of().valuation_between(torch.zeros(2, 5), torch.zeros(2, 5).half())


def test_a_model_that_has_learned_no_thresholds_says_so() -> None:
    model = model_of()
    with torch.no_grad():
        model.thresholds[1] = math.nan
    with pytest.raises(ValueError, match=r"no thresholds.*train it again"):
        model.valuation_between(torch.zeros(2, 5), torch.zeros(2, 5))


def test_reading_leaves_model_and_points_as_they_are() -> None:
    model = model_of().train()
    points = points_of(model, 6).requires_grad_()
    found = model.valuation_between(points, points.flip(0))
    assert model.training
    assert not found.requires_grad
    assert points.grad is None


def test_training_places_them(tmp_path: Path) -> None:
    """From points alone the valuation of nearly all differences; of most of 0 it is 0 anyway."""
    settings = {
        "space.n_digits": 4,
        "model.hidden_dim": 32,
        "training.epochs": 60,
        "training.batch_size": 27,
        "training.lr": 0.01,
        "scheduler.T_0": 59.0,
        "monitoring.detailed_metrics_every_n_epochs": 60,
        "monitoring.report": False,
    }
    result = Trainer(profile_from_dict(settings), tmp_path / "run", "cpu").fit()
    assert result.checkpoint is not None
    model = TernaryVAE.from_checkpoint(result.checkpoint)
    i, j = torch.triu_indices(81, 81, 1)
    points = model.embed(torch.arange(81))
    wanted = model.space.valuation((j - i).abs())
    read = model.valuation_between(points[i], points[j])
    for v in range(4):
        right = (read[wanted == v] == v).double().mean()
        assert right > 0.9, (v, float(right))
    fresh = model_of().valuation_between(points[i, :5], points[j, :5])
    assert (fresh == wanted).double().mean() < 0.9
