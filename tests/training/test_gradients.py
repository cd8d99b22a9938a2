"""Gradients that lie next to each other are the gradients that autograd finds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ternvae.training.gradients import ALIGNMENT, Gradients


def parameters() -> list[nn.Parameter]:
    """Of two dtypes and all kinds of shapes; the third does not learn."""
    torch.manual_seed(0)
    shapes = [(), (3,), (2, 5), (4, 1, 2), (17,)]
    found = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    found += [nn.Parameter(torch.randn(3, dtype=torch.float64))]
    found[2].requires_grad_(False)
    return found


def loss(own: list[nn.Parameter]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for k, each in enumerate(own, start=1):
        total = total + k * each.double().pow(3).sum()
    return total


def backward(value: Tensor) -> None:
    value.backward()  # type: ignore[no-untyped-call]  # torch's own


def expected(own: list[nn.Parameter]) -> list[Tensor | None]:
    learning = [each for each in own if each.requires_grad]
    found = iter(torch.autograd.grad(loss(own), learning))
    return [next(found) if each.requires_grad else None for each in own]


def check(gradients: Gradients, own: list[nn.Parameter]) -> None:
    """All that a step does with gradients, against autograd and torch."""
    gradients.begin()
    backward(loss(own))
    for each, wanted in zip(own, expected(own), strict=True):
        assert (each.grad is None) == (wanted is None)
        if wanted is not None:
            assert each.grad is not None and torch.equal(each.grad, wanted)
    found = [each.grad for each in own if each.grad is not None]
    total = nn.utils.get_total_norm(found)
    assert gradients.norm().dtype == total.dtype
    torch.testing.assert_close(gradients.norm(), total)
    gradients.scale(0.25)
    for each, wanted in zip(own, expected(own), strict=True):
        if wanted is not None:
            assert each.grad is not None and torch.equal(each.grad, 0.25 * wanted)
    assert sum(b.count_nonzero() for b in gradients.buffers) == sum(g.numel() for g in found)


def test_they_are_those_of_autograd_in_one_buffer_per_dtype() -> None:
    own = parameters()
    gradients = Gradients(own)
    check(gradients, own)
    buffers = gradients.buffers
    assert {each.dtype for each in buffers} == {torch.float32, torch.float64} and len(buffers) == 2
    for each in own:
        if each.grad is not None:
            assert (each.grad.data_ptr() - buffers[each.dtype == torch.float64].data_ptr()) % (
                ALIGNMENT
            ) == 0
    check(gradients, own)
    assert all(a is b for a, b in zip(buffers, gradients.buffers, strict=True))


def test_who_learns_may_change() -> None:
    own = parameters()
    gradients = Gradients(own)
    check(gradients, own)
    own[2].requires_grad_(True)
    own[0].requires_grad_(False).grad = None
    check(gradients, own)
    for each in own:
        each.requires_grad_(False).grad = None
    gradients.begin()
    assert gradients.buffers == [] and gradients.norm() == 0.0
    for each in own:
        each.requires_grad_(True)
    check(gradients, own)


def test_gradients_that_somebody_took_away_are_given_again() -> None:
    own = parameters()
    gradients = Gradients(own)
    check(gradients, own)
    own[1].grad = None
    check(gradients, own)
    own[1].grad = torch.ones(3)
    check(gradients, own)
    assert gradients.buffers[0].untyped_storage().data_ptr() == (
        own[1].grad.untyped_storage().data_ptr()
    )


def test_a_model_that_was_moved_takes_them_along() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    gradients = Gradients(module.parameters())
    check(gradients, list(module.parameters()))
    module.double()
    check(gradients, list(module.parameters()))
    assert [each.dtype for each in gradients.buffers] == [torch.float64]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows_in_the_norm(value: float) -> None:
    own = parameters()
    gradients = Gradients(own)
    for buffer in range(2):
        gradients.begin()
        gradients.buffers[buffer][1] = value
        assert not gradients.norm().isfinite()


def test_they_stay_while_a_flag_is_set() -> None:
    own = parameters()
    gradients, flag = Gradients(own), torch.zeros(())
    gradients.begin(flag)
    backward(loss(own))
    kept = [each.clone() for each in gradients.buffers]
    flag.fill_(1.0)
    gradients.begin(flag)
    assert all(torch.equal(a, b) for a, b in zip(kept, gradients.buffers, strict=True))
    flag.fill_(0.0)
    gradients.begin(flag)
    assert not any(each.any() for each in gradients.buffers)
