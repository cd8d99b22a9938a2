"""The wrapped normal: its density is a density, and it is that of the samples."""

import math

import pytest
import torch
from numpy.polynomial.legendre import leggauss
from scipy.integrate import quad
from scipy.special import gammaln
from torch import Tensor
from torch.distributions import Normal

from ternvae.manifolds import PoincareBall, WrappedNormal
from ternvae.manifolds.normal import kl_monte_carlo
from tests.manifolds import oracle

F64 = torch.float64


def vec(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def polar_grid(
    c: float, radius: float, n_r: int = 500, n_angle: int = 500
) -> tuple[Tensor, Tensor]:
    """Quadrature of the 2-D ball out to hyperbolic ``radius``: points (n, 2), volume weights (n,).

    Geodesic polar coordinates: the point at distance r is at ``tanh(sqrt(c) r / 2) / sqrt(c)``, the
    circle there has length ``2 pi sinh(sqrt(c) r) / sqrt(c)``.
    """
    nodes, weights = (torch.from_numpy(a) for a in leggauss(n_r))
    r, dr = radius * (nodes + 1) / 2, radius * weights / 2
    angle = torch.arange(n_angle, dtype=F64) * (2 * math.pi / n_angle)
    euclidean = torch.tanh(c**0.5 * r / 2) / c**0.5
    directions = torch.stack([angle.cos(), angle.sin()], dim=-1)
    points = euclidean[:, None, None] * directions
    volume = (dr * torch.sinh(c**0.5 * r) / c**0.5)[:, None] * (2 * math.pi / n_angle)
    return points.reshape(-1, 2), volume.expand(-1, n_angle).reshape(-1)


@pytest.mark.parametrize("c", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("s", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("scale", [(0.3, 0.3), (1.0, 1.0), (0.4, 0.9)])
def test_density_integrates_to_one_and_has_the_right_moments(
    c: float, s: float, scale: tuple[float, float]
) -> None:
    """Over the whole 2-D ball, on a grid centred at the origin, not at loc."""
    ball = PoincareBall(c)
    loc = s / c**0.5 * vec(0.6, 0.8)
    sigma = vec(*scale)
    reach = ball.dist0(loc).item() + 8 * max(scale)
    points, volume = polar_grid(c, reach)
    mass = volume * WrappedNormal(loc, sigma, ball).log_prob(points).exp()
    assert mass.sum().item() == pytest.approx(1.0, abs=1e-6)
    v = ball.lambda_x(loc) * ball.logmap(loc, points)
    torch.testing.assert_close(
        (mass[:, None] * v).sum(0), torch.zeros(2, dtype=F64), atol=1e-6, rtol=0
    )
    covariance = (mass[:, None, None] * v[:, :, None] * v[:, None, :]).sum(0)
    torch.testing.assert_close(covariance, torch.diag(sigma**2), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dim", [1, 3, 16])
@pytest.mark.parametrize("c", [0.5, 2.0])
def test_density_integrates_to_one_in_other_dimensions(dim: int, c: float) -> None:
    """Radially: the sphere of radius r has area ``|S^(d-1)| (sinh(sqrt(c) r)/sqrt(c))^(d-1)``."""
    law = WrappedNormal(torch.zeros(dim, dtype=F64), 0.7, PoincareBall(c))
    log_sphere = math.log(2) + dim / 2 * math.log(math.pi) - gammaln(dim / 2)
    e1 = torch.eye(dim, dtype=F64)[0]

    def integrand(r: float) -> float:
        density = law.log_prob(math.tanh(c**0.5 * r / 2) / c**0.5 * e1).item()
        area = log_sphere + (dim - 1) * math.log(math.sinh(c**0.5 * r) / c**0.5)
        return math.exp(density + area)

    assert quad(integrand, 1e-12, 9.0, limit=200)[0] == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("c", [0.3, 3.0])
@pytest.mark.parametrize("s", [0.0, 0.6, 0.95])
def test_sample_moments_are_in_units_of_the_metric(s: float, c: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ball, n = PoincareBall(c), 40000
    loc = oracle.points(s, 1, 3, c, seed=1)[0].to(dtype)
    scale = torch.tensor([0.1, 0.5, 1.0], dtype=dtype)
    z = WrappedNormal(loc, scale, ball).sample((n,))
    assert z.dtype == dtype
    v = (ball.lambda_x(loc) * ball.logmap(loc, z)).double()
    # Six standard errors of the estimators for a normal law.
    sigma = scale.double()
    assert bool((v.mean(0).abs() < 6 * sigma / n**0.5).all())
    assert bool(((v.var(0) / sigma**2 - 1).abs() < 6 * (2 / n) ** 0.5).all())
    correlation = torch.corrcoef(v.T) - torch.eye(3, dtype=F64)
    assert correlation.abs().max().item() < 6 / n**0.5
    squared = ball.dist2(loc, z).double()
    spread = (2 * (sigma**4).sum() / n).sqrt().item()
    assert abs(squared.mean().item() - (sigma**2).sum().item()) < 6 * spread


def test_importance_weights_average_to_one() -> None:
    """E_q[p(z)/q(z)] = 1 for two different laws, q the wider one."""
    torch.manual_seed(0)
    ball = PoincareBall(0.8)
    q = WrappedNormal(vec(0.1, 0.2, 0.0), 1.0, ball)
    p = WrappedNormal(vec(0.0, 0.3, -0.1), vec(0.6, 0.5, 0.7), ball)
    z, log_q = q.rsample_with_log_prob((200000,))
    weights = (p.log_prob(z) - log_q).exp()
    error = weights.std().item() / weights.numel() ** 0.5
    assert error < 0.01
    assert abs(weights.mean().item() - 1.0) < 6 * error


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_log_prob_of_the_own_sample(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for c in (0.1, 1.0, 4.0):
        for s in (0.0, 0.5, 0.95):
            loc = oracle.points(s, 5, 3, c, seed=1).to(dtype)
            scale = torch.tensor([0.05, 0.3, 0.6], dtype=dtype)
            law = WrappedNormal(loc, scale, PoincareBall(c))
            z, log_q = law.rsample_with_log_prob((7,))
            # The float32 point is eps/gap away from where it was drawn, in units of 1/sqrt(c).
            gap = 2.0 / law.ball.lambda_x(z).max().item()
            slack = 200 * torch.finfo(dtype).eps / gap / (c**0.5 * 0.05)
            torch.testing.assert_close(law.log_prob(z), log_q, rtol=slack, atol=slack)


@pytest.mark.parametrize("c", [0.4, 2.0])
def test_isotropic_density_is_invariant_under_translation(c: float) -> None:
    ball = PoincareBall(c)
    a, loc = (oracle.points(s, 1, 4, c, seed=i)[0] for i, s in ((1, 0.6), (2, 0.4)))
    z = oracle.points(0.7, 20, 4, c, seed=3)
    here = WrappedNormal(loc, 0.8, ball).log_prob(z)
    there = WrappedNormal(ball.mobius_add(a, loc), 0.8, ball).log_prob(ball.mobius_add(a, z))
    torch.testing.assert_close(here, there, rtol=1e-10, atol=1e-10)


def test_flat_limit_is_a_normal_law() -> None:
    """As c -> 0 lengths are twice the coordinates, so z = loc + v/2."""
    loc, scale, c = vec(0.3, -0.2), vec(0.5, 1.5), 1e-10
    law = WrappedNormal(loc, scale, PoincareBall(c))
    z = oracle.points(1.0, 10, 2, 1.0, seed=1)
    flat = Normal(loc, scale / 2).log_prob(z).sum(-1) - 2 * math.log(2.0)
    torch.testing.assert_close(law.log_prob(z), flat, rtol=1e-7, atol=1e-7)


def test_closed_form_in_one_dimension() -> None:
    """d = 1 has no stretch: a normal law of the signed distance."""
    ball = PoincareBall(1.0)
    law = WrappedNormal(vec(0.5), 0.7, ball)
    z = vec(-0.9, 0.0, 0.5, 0.8)[:, None]
    signed = 2 * (z.atanh() - math.atanh(0.5))
    torch.testing.assert_close(law.log_prob(z), Normal(vec(0.0), 0.7).log_prob(signed)[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("s", [0.0, 1e-8, 0.95, 1 - 1e-5])
def test_gradients_are_finite_and_flow(s: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ball = PoincareBall(1.0, learnable=True)
    loc = oracle.points(s, 3, 4, 1.0, seed=1).to(dtype).requires_grad_()
    scale = torch.full((3, 4), 0.3, dtype=dtype, requires_grad=True)
    law = WrappedNormal(loc, scale, ball)
    z, log_q = law.rsample_with_log_prob((5,))
    prior = WrappedNormal(torch.zeros(4, dtype=dtype), 1.0, ball)
    values = [z.sum(), log_q.sum(), law.log_prob(z.detach()).sum(), prior.log_prob(z).sum()]
    values.append(law.log_prob(loc.detach()).sum())  # at the centre itself
    for value in values:
        grads = torch.autograd.grad(
            value, (loc, scale, ball.log_c_ratio), retain_graph=True, allow_unused=True
        )
        assert all(bool(g.isfinite().all()) for g in grads if g is not None)
    (of_scale,) = torch.autograd.grad(values[0], scale, retain_graph=True)
    assert bool((of_scale != 0).any())


def test_log_prob_gradcheck() -> None:
    loc = oracle.points(0.5, 2, 3, 1.0, seed=1).requires_grad_()
    scale = vec(0.2, 0.5, 1.5).requires_grad_()
    z = oracle.points(0.8, 2, 3, 1.0, seed=2).requires_grad_()
    c = torch.tensor(1.0, dtype=F64)

    def log_prob(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
        return WrappedNormal(loc, scale, PoincareBall(c), validate_args=False).log_prob(z)

    assert torch.autograd.gradcheck(log_prob, (loc, scale, z))
    centre = loc.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(log_prob, (loc, scale, centre))


def test_max_radius_does_not_change_the_law() -> None:
    loc = oracle.points(0.85, 1, 3, 1.0, seed=1)[0]
    laws = [WrappedNormal(loc, 1.0, PoincareBall(1.0, max_radius=m)) for m in (0.9, None)]
    drawn = []
    for law in laws:
        torch.manual_seed(0)
        drawn.append(law.rsample_with_log_prob((500,)))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])
    norms = drawn[0][0].norm(dim=-1)
    assert 0.9 < norms.max().item() < 1.0


def test_samples_stay_inside_the_rim_when_the_scale_is_huge() -> None:
    torch.manual_seed(0)
    ball = PoincareBall(1.0)
    z = WrappedNormal(torch.zeros(3), 1e3, ball).sample((500,))
    assert bool((z.double().norm(dim=-1) < 1.0).all())
    assert bool(WrappedNormal(torch.zeros(3), 1.0, ball).log_prob(z).isfinite().all())


def test_shapes_and_expand() -> None:
    ball = PoincareBall(1.0)
    law = WrappedNormal(torch.zeros(5, 1, 3), torch.ones(4, 1), ball)
    assert law.batch_shape == (5, 4)
    assert law.event_shape == (3,)
    assert law.rsample((2,)).shape == (2, 5, 4, 3)
    assert law.log_prob(torch.zeros(3)).shape == (5, 4)
    z, log_q = law.rsample_with_log_prob()
    assert z.shape == (5, 4, 3) and log_q.shape == (5, 4)
    wide = law.expand((6, 5, 4))
    assert wide.sample().shape == (6, 5, 4, 3)
    assert torch.equal(law.mean, law.loc) and torch.equal(law.mode, law.loc)
    assert "WrappedNormal" in repr(law)
    assert WrappedNormal(torch.zeros(3), 1, ball).scale.dtype == torch.float32


def test_kl_monte_carlo() -> None:
    torch.manual_seed(0)
    ball = PoincareBall(1.0)
    prior = WrappedNormal(torch.zeros(2, dtype=F64), 1.0, ball)
    same = kl_monte_carlo(prior, prior, 10)
    torch.testing.assert_close(same, torch.zeros((), dtype=F64), atol=1e-10, rtol=0)
    q = WrappedNormal(vec(0.3, -0.2), vec(0.4, 0.6), ball)
    points, volume = polar_grid(1.0, 8.0)
    log_q, log_p = q.log_prob(points), prior.log_prob(points)
    exact = (volume * log_q.exp() * (log_q - log_p)).sum().item()
    z, own = q.rsample_with_log_prob((50000,))
    error = (own - prior.log_prob(z)).std().item() / 50000**0.5
    assert abs(kl_monte_carlo(q, prior, 50000).item() - exact) < 8 * error < 0.1 * exact
    with pytest.raises(ValueError, match=r"n_samples .*0"):
        kl_monte_carlo(q, prior, 0)


def test_registered_divergence_is_the_estimate_from_one_draw() -> None:
    ball = PoincareBall(1.0)
    prior = WrappedNormal(torch.zeros(2, dtype=F64), 1.0, ball)
    q = WrappedNormal(vec(0.3, -0.2).requires_grad_(), vec(0.4, 0.6), ball)
    torch.manual_seed(1)
    registered = torch.distributions.kl_divergence(q, prior)
    torch.manual_seed(1)
    assert torch.equal(registered, kl_monte_carlo(q, prior))
    (grad,) = torch.autograd.grad(registered, q.loc)
    assert bool(grad.isfinite().all())
    zero = torch.distributions.kl_divergence(prior, prior)
    assert abs(zero.item()) < 1e-12
    other = WrappedNormal(torch.zeros(2, dtype=F64), 1.0, PoincareBall(2.0))
    with pytest.raises(ValueError, match=r"1\.0 and 2\.0"):
        torch.distributions.kl_divergence(q, other)


def test_bad_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch.compile, which other tests use, switches torch's default off for good.
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
    ball = PoincareBall(1.0)
    with pytest.raises(ValueError, match="loc"):
        WrappedNormal(torch.tensor([0.8, 0.8]), 1.0, ball)
    with pytest.raises(ValueError, match="loc"):
        WrappedNormal(torch.tensor(0.5), 1.0, ball)
    with pytest.raises(ValueError, match="scale"):
        WrappedNormal(torch.zeros(2), torch.tensor([1.0, 0.0]), ball)
    with pytest.raises(ValueError, match="support"):
        WrappedNormal(torch.zeros(2), 1.0, ball).log_prob(torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="support"):
        WrappedNormal(torch.zeros(2), 1.0, ball).log_prob(torch.tensor([float("nan"), 0.0]))
    with pytest.raises(TypeError, match="float16"):
        WrappedNormal(torch.zeros(2, dtype=torch.float16), 1.0, ball)
