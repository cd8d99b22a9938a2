"""Any points as a model: the nearest point by every distance, and what the metrics make of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ternvae.baselines import LinearUltrametric, PointTable, linear_ultrametric
from ternvae.manifolds import PoincareBall
from ternvae.metrics import evaluate
from ternvae.padic import TernarySpace

SPACE = TernarySpace(3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), dim=st.integers(1, 5), c=st.floats(0.1, 10.0))
def test_decoding_finds_the_nearest_point(seed: int, dim: int, c: float) -> None:
    ball = PoincareBall(c)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, 27, dim, dtype=torch.float64, generator=generator) / c**0.5
    points, wanted = ball.expmap0(drawn)
    nearest = ball.dist(wanted[:, None], points).argmin(-1)
    found = PointTable(ball, points, SPACE).decode(wanted)
    assert torch.equal(found, SPACE.sequences(nearest))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_points_of_the_table_are_decoded_as_themselves(dtype: torch.dtype) -> None:
    space, ball = TernarySpace(9), PoincareBall(max_radius=0.95)
    table = PointTable(ball, linear_ultrametric(space, ball, 16).to(dtype), space)
    rows = torch.arange(0, space.size, 7)
    assert table.embed(rows).dtype == dtype
    assert torch.equal(table.decode(table.embed(rows)), space.sequences(rows))
    assert torch.equal(table.embed(space.sequences(rows), "A"), table.embed(rows.tolist()))


def test_of_equal_points_the_first_is_found() -> None:
    ball = PoincareBall()
    points = linear_ultrametric(SPACE, ball, 4)
    points[[5, 20]] = points[3].clone()
    metrics = evaluate(PointTable(ball, points, SPACE), SPACE)
    assert metrics["coverage"] == metrics["coverage_B"] == 25 / 27


def test_two_lines_compare_a_table_with_a_construction() -> None:
    ball = PoincareBall(max_radius=0.95)
    made = LinearUltrametric(SPACE, ball, 4)
    table = PointTable(ball, linear_ultrametric(SPACE, ball, 4), SPACE)
    assert dict(evaluate(made, SPACE)) == dict(evaluate(table, SPACE))


def test_a_decoder_that_is_given_decodes() -> None:
    ball = PoincareBall()
    asked = []

    def decode(points: torch.Tensor) -> torch.Tensor:
        asked.append(points)
        return SPACE.sequences(torch.zeros(len(points), dtype=torch.int64))

    table = PointTable(ball, linear_ultrametric(SPACE, ball, 4), SPACE, decode)
    assert (table.decode(table.embed([1, 2])) == -1).all()
    assert len(asked) == 1


def test_nothing_to_decode_is_nothing() -> None:
    ball = PoincareBall()
    table = PointTable(ball, linear_ultrametric(SPACE, ball, 4), SPACE)
    nothing = torch.empty(0, 4)
    assert table.decode(nothing).shape == (0, 3)
    assert LinearUltrametric(SPACE, ball, 4).decode(nothing).shape == (0, 3)


def test_points_that_do_not_fit_are_refused() -> None:
    ball = PoincareBall(max_radius=0.5)
    points = linear_ultrametric(SPACE, ball, 4)
    with pytest.raises(ValueError, match=r"expected \(27, dim\)"):
        PointTable(ball, points[1:], SPACE)
    with pytest.raises(ValueError, match="row 3 of 27"):
        points[3] = 0.3
        PointTable(ball, points, SPACE)
    with pytest.raises(TypeError, match="decode"):
        PointTable(ball, linear_ultrametric(SPACE, ball, 4), SPACE, "nearest")  # type: ignore[arg-type]
