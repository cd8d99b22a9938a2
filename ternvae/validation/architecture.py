"""A fresh model of nine digits: what goes in, what comes out, and what moves what."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ternvae import losses, manifolds, models
from ternvae.validation import specimens
from ternvae.validation.checks import CheckFunction, Finding, at_most, both, inside, none_of, worst

__all__ = ["CHECKS"]

#: Of float32 with 160 rows: gradients are sums of numbers that partly cancel.
_ROUNDING = 1e-4

#: A variance of the radii that a fresh model does not reach, so that the term has a gradient.
_RICHNESS_FLOOR = 0.5

#: Enough to drive every sigmoid of the model to its ends.
_STRETCH = 30.0


def _parameters(device: torch.device) -> Finding:
    parameters = list(specimens.fresh_model(device).parameters())
    count = sum(p.numel() for p in parameters)
    bad = sum(int((~p.isfinite()).sum()) for p in parameters)
    fixed = sum(not p.requires_grad for p in parameters)
    good = count > 0 == bad == fixed
    return Finding(good, f"{count:,}; {bad} not finite, {fixed} tensors that cannot learn")


def _forward(device: torch.device) -> Finding:
    model = specimens.fresh_model(device)
    n, dim = model.space.n_digits, model.config["latent_dim"]
    batch = specimens.batch_of(model.space, device)
    rows = len(batch.valuation)
    shapes = {
        "points": (rows, dim),
        "radius": (rows,),
        "logits": (rows, n, 3),
        "nll": (rows,),
        "posterior_log_prob": (rows,),
        "prior_log_prob": (rows,),
    }
    bad = total = 0
    wrong = []
    for branch in specimens.BRANCHES:
        out = model(batch.sequences, batch.valuation, branch)
        for name, shape in shapes.items():
            value: Tensor = getattr(out, name)
            total += value.numel()
            bad += int((~value.isfinite()).sum())
            if tuple(value.shape) != shape:
                wrong.append(f"{branch}.{name} {tuple(value.shape)}, expected {shape}")
    return both(
        none_of(bad, total, "outputs of both branches are not finite"),
        Finding(not wrong, ", ".join(wrong) or "shapes as documented"),
    )


def _gradients(device: torch.device) -> Finding:
    model = specimens.fresh_model(device)
    batch = specimens.batch_of(model.space, device)
    specimens.objective(model, batch, specimens.BRANCHES).backward()  # type: ignore[no-untyped-call]
    unreached, unsound = [], []
    for name, parameter in model.named_parameters():
        if parameter.grad is None or not bool(parameter.grad.count_nonzero()):
            unreached.append(name)
        elif not bool(parameter.grad.isfinite().all()):
            unsound.append(name)
    total = len(list(model.parameters()))
    figure = f"{total - len(unreached) - len(unsound)} of {total} tensors get one"
    for what, names in (("none", unreached), ("not finite", unsound)):
        figure += f"; {what}: {', '.join(names)}" if names else ""
    return Finding(not unreached and not unsound, figure)


def _rounding(device: torch.device) -> Finding:
    """Outputs, and gradients of what training makes of them, in float32 as in float64.

    On a CPU float32 goes through the compiled extensions, if there are any, and float64 never does.
    """
    model = specimens.fresh_model(device)
    exact = copy.deepcopy(model).double()
    batch = specimens.batch_of(model.space, device)
    shape = (len(batch.valuation), model.config["latent_dim"])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device)
    errors = []
    for branch in specimens.BRANCHES:
        found, wanted = (_outputs(each, batch, branch, noise) for each in (model, exact))
        for name, value in found.items():
            scale = float(wanted[name].abs().max()) or 1.0
            errors.append(float((value.double() - wanted[name]).abs().max()) / scale)
    return at_most("largest relative difference of float32", worst(errors), _ROUNDING)


def _outputs(
    model: models.TernaryVAE, batch: specimens.Batch, branch: str, noise: Tensor
) -> dict[str, Tensor]:
    """What a branch gives for given noise, and the gradients of the sum of the terms."""
    model.zero_grad()
    out = model(batch.sequences, batch.valuation, branch, noise.to(model.point_dtype))
    terms = losses.geometry_losses(
        out.radius,
        batch.valuation,
        n_digits=model.space.n_digits,
        radius_max=float(model.ball.hyperbolic_radius_max),
        richness_floor=_RICHNESS_FLOOR,
    )
    divergence = losses.kl_loss(out.posterior_log_prob, out.prior_log_prob)
    total = out.nll.mean() + divergence + sum(terms)
    total = total + specimens.order_of_distances(model, batch, out.points)
    total.backward()  # torch's own
    gradients = {
        name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None
    }
    return {name: each.detach() for name, each in out._asdict().items()} | gradients


def _points(device: torch.device) -> Finding:
    """All sequences, as the model starts and with weights that push them to the rim."""
    model = specimens.fresh_model(device)
    limit = model.config["max_radius"]
    stretched = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in stretched.parameters():
            if not isinstance(parameter, manifolds.ManifoldParameter):
                parameter.mul_(_STRETCH)
    indices = torch.arange(model.space.size)
    findings = []
    for which, each in (("fresh", model), (f"weights times {_STRETCH:.0f}", stretched)):
        points = torch.cat([each.embed(indices, branch) for branch in specimens.BRANCHES])
        shares = each.ball.c.sqrt() * points.double().norm(dim=-1)
        findings.append(inside(which, worst(shares.tolist()), limit))
    return both(*findings)


def _decoder(device: torch.device) -> Finding:
    """The same points, in whatever order and whatever was encoded before, decode alike.

    In float64, where the rounding of a row's place in a matrix product decides no digit.
    """
    model = specimens.fresh_model(device).double()
    norms = torch.linspace(0.0, model.config["max_radius"], 512)
    points = specimens.random_points(norms, model.config["latent_dim"], 1).to(device)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(1)).to(device)
    leaks = unmoved = 0
    for branch in specimens.BRANCHES:
        model.embed(torch.arange(512), branch)
        first = model.decode(points, branch)
        model.embed(torch.arange(512, 1024), branch)
        again, shuffled = model.decode(points, branch), model.decode(points[order], branch)
        leaks += int(((again != first) | (shuffled != first[order])).any(-1).sum())
        unmoved += int(not bool((shuffled != first).any()))
    return both(
        none_of(leaks, 2 * len(points), "points decode differently another time"),
        none_of(unmoved, 2, "branches decode shuffled points as before"),
    )


def _frozen(device: torch.device) -> Finding:
    """Training B while the coverage of A is frozen changes B, and A by no bit.

    With steps long enough to change what is decoded, were the decoder of A still moving.
    """
    model = specimens.fresh_model(device)
    batch = specimens.batch_of(model.space, device)
    for module in model.coverage_modules():
        module.requires_grad_(False)
    before = _snapshot(model, batch.sequences)
    specimens.train(model, batch, steps=3, branches=("B",), lr=0.05)
    after = _snapshot(model, batch.sequences)
    changed = {
        branch: int((before[branch] != after[branch]).any(-1).sum())
        for branch in specimens.BRANCHES
    }
    rows = len(batch.valuation)
    moved = changed["B"]
    return both(
        none_of(changed["A"], rows, "points and sequences of A changed"),
        Finding(moved == rows, f"{moved} of {rows} of B did"),
    )


def _snapshot(model: models.TernaryVAE, sequences: Tensor) -> dict[str, Tensor]:
    """Per branch the points and what they decode to, side by side."""
    found = {}
    for branch in specimens.BRANCHES:
        points = model.embed(sequences, branch)
        found[branch] = torch.cat([points, model.decode(points, branch).to(points.dtype)], dim=-1)
    return found


CHECKS: dict[str, CheckFunction] = {
    "parameters": _parameters,
    "forward pass": _forward,
    "gradient of every parameter": _gradients,
    "float32 like float64": _rounding,
    "points within max_radius": _points,
    "decoder sees the point alone": _decoder,
    "freezing branch A": _frozen,
}
