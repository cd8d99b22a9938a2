"""The terms of the loss: values worked out by hand, minima, gradients and collapsed levels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ternvae import losses, manifolds, padic
from ternvae.validation import specimens
from ternvae.validation.checks import EXACT, CheckFunction, Finding, at_most, both, none_of, worst

__all__ = ["CHECKS"]

#: A batch for n = 2 and a largest radius of 3: shells one wide, with centres 2.5, 1.5 and 0.5.
_RADIUS = (2.5, 2.9, 2.2, 1.5, 1.0, 0.4)
_VALUATION = (0, 0, 0, 1, 1, 2)
_FLOOR = 0.1

#: Pairs whose scaled distances are y, and valuations between them for n = 3; the last is one
#: sequence twice. With these thresholds and temperature verdicts are off by 1, 3 and 5.
_SCALED = (1.0, 0.0, -2.0, 0.3)
_BETWEEN = (0, 1, 0, 3)
_THRESHOLDS = (0.5, -0.5)
_TEMPERATURE = 0.5

#: Of gradients in float32 against those in float64, relative to the largest of a point.
_ROUNDING = 1e-6

#: Largest hyperbolic radius of the default ball, and a spread in shell widths that stays out of
#: the margins and is above the floor: (0.3 * 3.66 / 10)^2 = 0.012.
_RADIUS_MAX = 3.66
_SPREAD = 0.3
_USUAL_FLOOR = 0.006


def _compared(what: str, got: Tensor, want: float) -> Finding:
    error = abs(float(got) - want) / abs(want)
    return at_most(f"{what}{float(got):.6f}, relative error", error, EXACT)


def _example(device: torch.device) -> losses.GeometryLosses:
    return losses.geometry_losses(
        torch.tensor(_RADIUS, dtype=torch.float64, device=device),
        torch.tensor(_VALUATION, device=device),
        n_digits=2,
        radius_max=3.0,
        richness_floor=_FLOOR,
        margin=0.1,
    )


# --- values -------------------------------------------------------------------------------


def _reconstruction(device: torch.device) -> Finding:
    logits = np.array(
        [[[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]], [[3.0, 1.0, -2.0], [-0.5, 0.25, 0.125]]]
    )
    sequences = np.array([[-1, 1], [0, 1]])
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    likelihoods = np.take_along_axis(shares, sequences[..., None] + 1, axis=-1)
    got = losses.reconstruction_loss(
        torch.from_numpy(logits).to(device), torch.from_numpy(sequences).to(device)
    )
    return _compared("", got, float(-np.log(likelihoods).sum() / 2))


def _kl(device: torch.device) -> Finding:
    """About one centre the stretch of the exponential map cancels: two normal densities are left.

    Their argument is the frame coordinate of the sample, v = 2 log_0(z).
    """
    scale = torch.linspace(0.2, 1.2, 16, dtype=torch.float64).expand(64, 16)
    ball = manifolds.PoincareBall().to(device)
    centre = torch.zeros(64, 16, dtype=torch.float64, device=device)
    posterior = manifolds.WrappedNormal(centre, scale.to(device), ball)
    prior = manifolds.WrappedNormal(centre, 1.0, ball)
    sample, log_prob = posterior.rsample_with_log_prob()
    z, s = sample.cpu().numpy(), scale.numpy()
    norm = np.sqrt((z * z).sum(-1, keepdims=True))
    v = 2 * np.arctanh(norm) / norm * z
    want = (-np.log(s) - (v / s) ** 2 / 2 + v**2 / 2).sum(-1).mean()
    return _compared("", losses.kl_loss(log_prob, prior.log_prob(sample)), float(want))


def _hierarchy(device: torch.device) -> Finding:
    # Offsets 0, 0.4, -0.3 | 0, -0.5 | -0.1, squared, averaged per level and over the levels, which
    # have 6, 2 and 1 of the 9 sequences: weights 1/6 + 3/9, 1/6 + 1/9 and 1/6 + 1/18.
    want = (0.16 + 0.09) / 3 / 2 + 0.25 / 2 * 5 / 18 + 0.01 * 2 / 9
    return _compared("", _example(device).hierarchy, want)


def _separation(device: torch.device) -> Finding:
    # Only the offset -0.5 passes the margin, which begins at 0.4, by the margin's own width.
    return _compared("", _example(device).separation, (0 + 1) / 2)


def _richness(device: torch.device) -> Finding:
    # The single row of level 2 has no variance, so the floor rises to 0.1 * 3 / 2 for the others.
    wanted = _FLOOR * 3 / 2
    variances = [np.var([2.5, 2.9, 2.2]), np.var([1.5, 1.0])]
    least = losses.LEAST_LEVEL_SHARE * wanted
    overall = max(0.0, 1 - np.mean(variances) / wanted)
    single = np.mean([max(0.0, 1 - variance / least) for variance in variances])
    return _compared("", _example(device).richness, float(overall + single))


def _ultrametric(device: torch.device) -> Finding:
    # y = log(sinh^2(sqrt(c) d / 2) + 1e-6) with c = 4, solved for d.
    distance = np.arcsinh(np.sqrt(np.exp(_SCALED) - 1e-6))
    right = np.log1p(np.exp([-1.0, -3.0, -1.0, -1.0]))
    wrong = np.log1p(np.exp([5.0, 3.0]))
    got = losses.ultrametric_loss(
        torch.from_numpy(distance).to(device),
        torch.tensor(_BETWEEN, device=device),
        torch.tensor(_THRESHOLDS, dtype=torch.float64, device=device),
        c=4.0,
        temperature=_TEMPERATURE,
    )
    found = _compared("", got, float(right.sum() + wrong.sum()) / len(_BETWEEN))
    compiled = _compiled_pairs()
    return found if compiled is None else both(found, compiled)


def _compiled_pairs() -> Finding | None:
    """The gradients of the compiled version, if there is one, against those of autograd."""
    points = specimens.random_points(torch.linspace(0.0, 0.95, 64), 16, 1).float()
    if not losses.ultrametric.can_add_gradient(points):
        return None
    between, thresholds = torch.arange(32) % 10, torch.linspace(2.0, -2.0, 8)
    found = torch.zeros_like(points)
    losses.ultrametric.add_gradient(
        *(points, between, thresholds),
        c=1.0,
        weight=1.0,
        to_points=found,
        to_thresholds=torch.zeros_like(thresholds),
    )
    exact = points.double().requires_grad_()
    distance = manifolds.PoincareBall().dist(*exact.chunk(2))
    total = losses.ultrametric_loss(distance, between, thresholds.double()) * len(between)
    (wanted,) = torch.autograd.grad(total, exact)
    largest = wanted.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    errors = ((found - wanted) / largest).abs()
    return at_most("compiled gradients", float(errors.max()), _ROUNDING)


# --- minima, gradients, collapse ------------------------------------------------------------


def _ideal(device: torch.device, spread: float) -> tuple[Tensor, Tensor]:
    """Radii of the whole space at the centres of their shells, plus and minus a spread.

    The lowest digit that is not 0 is 1 for one half of every level and 2 for the other.
    """
    space = padic.TernarySpace()
    indices = torch.arange(space.size)
    valuation = space.valuation(indices)
    side = torch.where(indices // 3**valuation % 3 == 1, 1.0, -1.0).double()
    side[0] = 0.0
    n = space.n_digits
    radius = (n + 0.5 - valuation + spread * side) * (_RADIUS_MAX / (n + 1))
    return radius.to(device), valuation.to(device)


def _terms(radius: Tensor, valuation: Tensor) -> losses.GeometryLosses:
    return losses.geometry_losses(
        radius,
        valuation,
        n_digits=padic.TernarySpace().n_digits,
        radius_max=_RADIUS_MAX,
        richness_floor=_USUAL_FLOOR,
    )


def _minimum(device: torch.device) -> Finding:
    centred = _terms(*_ideal(device, 0.0))
    spread = _terms(*_ideal(device, _SPREAD))
    return both(
        at_most("hierarchy at the centres", float(centred.hierarchy), EXACT),
        at_most(f"separation at +-{_SPREAD} widths", float(spread.separation), 0.0),
        at_most("richness there", float(spread.richness), 0.0),
    )


def _gradients(device: torch.device) -> Finding:
    """At ideal and at collapsed radii, at both ends of the range, with levels that are absent."""
    radius, valuation = (t[:729] for t in _ideal(device, _SPREAD))
    bad = total = 0
    for dtype in (torch.float32, torch.float64):
        cases = (radius, _ideal(device, 0.0)[0][:729], 0 * radius, 0 * radius + _RADIUS_MAX)
        leaves = [case.to(dtype).requires_grad_() for case in cases]
        sums = [sum(_terms(leaf, valuation)) for leaf in leaves]
        sums.append(sum(_terms(leaves[0][1:2], valuation[1:2])))
        logits = (torch.eye(3, dtype=dtype, device=device).reshape(3, 1, 3) * 1e4).requires_grad_()
        wrong = torch.zeros(3, 1, dtype=torch.int64, device=device)
        sums.append(losses.reconstruction_loss(logits, wrong))
        apart = torch.tensor([0.0, 1e-30, 30.0], dtype=dtype, device=device, requires_grad=True)
        thresholds = torch.tensor(_THRESHOLDS, dtype=dtype, device=device)
        sums.append(losses.ultrametric_loss(apart, wrong.flatten(), thresholds))
        learning = [*leaves, logits, apart]
        gradients = torch.autograd.grad(sum(sums), learning)  # type: ignore[arg-type]
        bad += sum(int((~g.isfinite()).sum()) for g in gradients)
        total += sum(g.numel() for g in gradients)
    return none_of(bad, total, "components are not finite")


def _collapse(device: torch.device) -> Finding:
    """Each level in turn on one sphere, all others rich: its own shortfall must be felt.

    A collapsed level falls short by all of its variance, one of n equal parts of the term.
    """
    radius, valuation = _ideal(device, _SPREAD)
    centres, _ = _ideal(device, 0.0)
    n = padic.TernarySpace().n_digits
    penalties = [
        -float(_terms(torch.where(valuation == level, centres, radius), valuation).richness)
        for level in range(n)
    ]
    least = -worst(penalties)
    every = float(_terms(centres, valuation).richness)
    good = least >= 1 / n - EXACT and every >= 2 - EXACT
    return Finding(
        good, f"one level costs {least:.4f} (at least 1/{n}), all of them {every:.4f} (at least 2)"
    )


CHECKS: dict[str, CheckFunction] = {
    "reconstruction": _reconstruction,
    "divergence": _kl,
    "hierarchy": _hierarchy,
    "separation": _separation,
    "richness": _richness,
    "ultrametric": _ultrametric,
    "zero at ideal shells": _minimum,
    "finite gradients": _gradients,
    "collapsed levels": _collapse,
}
