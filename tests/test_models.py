"""The model: what reaches the decoder, what stays in the ball, what is refused, what is kept."""

from __future__ import annotations

import copy
import io
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import backward

from ternvae.checkpoint import CheckpointError, save_checkpoint
from ternvae.losses import kl_loss, reconstruction_loss
from ternvae.manifolds import ManifoldParameter, RiemannianAdam
from ternvae.metrics import Evaluator
from ternvae.models import BRANCHES, LOG_VARIANCE_RANGE, BranchOutput, TernaryVAE
from ternvae.padic import TernarySpace

FOUR = TernarySpace(4)
ALL = torch.arange(FOUR.size)
both = pytest.mark.parametrize("branch", BRANCHES)


def make(seed: int = 0, **config: Any) -> TernaryVAE:
    torch.manual_seed(seed)
    return TernaryVAE(**{"n_digits": 4, "latent_dim": 6, "hidden_dim": 32, **config})


def encoder(model: TernaryVAE, branch: str) -> Any:
    """Torch's containers forget the types of what they hold."""
    return model.encoders[branch]


def run(model: TernaryVAE, branch: str, indices: Tensor = ALL) -> BranchOutput:
    space = model.space
    found: BranchOutput = model(space.sequences(indices), space.valuation(indices), branch)
    return found


def logits_of(model: TernaryVAE, points: Tensor, branch: str) -> Tensor:
    """The decoder's answer to points of the ball, through the chart of the branch."""
    charted = model.charts[branch](model.ball.logmap0(points).to(model.prototypes.dtype))
    found: Tensor = model.decoder(charted)
    return found


def branch_loss(model: TernaryVAE, branch: str) -> Tensor:
    out = run(model, branch)
    kl = kl_loss(out.posterior_log_prob, out.prior_log_prob)
    return reconstruction_loss(out.logits, FOUR.sequences()) + 1e-3 * kl


@pytest.fixture(scope="module")
def trained() -> TernaryVAE:
    """A model that reads every sequence of four digits back, through both branches."""
    model = make(hidden_dim=48)
    optimizer = RiemannianAdam(model.parameters(), lr=1e-2)
    evaluator = Evaluator(FOUR)
    for step in range(600):
        optimizer.zero_grad()
        backward(branch_loss(model, "A") + branch_loss(model, "B"))
        optimizer.step()
        if step % 25 == 24 and all(evaluator.coverage(model, b) == 1 for b in BRANCHES):
            break
    assert [evaluator.coverage(model, b) for b in BRANCHES] == [1, 1]
    return model.eval()


# --- the decoder sees the point and nothing else --------------------------------------------


@both
def test_moving_the_points_moves_the_digits(trained: TernaryVAE, branch: str) -> None:
    """Decoding follows the points: with every point at another's place, every digit string moves.

    All 81 sequences are read back rightly, so through a permutation without fixed point not one
    can be; a decoder that knew the sequences from elsewhere would get some.
    """
    points = trained.embed(ALL, branch)
    assert torch.equal(trained.decode(points, branch), FOUR.sequences())
    for shift in (1, 3, 27, 40):
        moved = trained.decode(points.roll(shift, 0), branch)
        assert torch.equal(moved, FOUR.sequences().roll(shift, 0))
        assert not bool((moved == FOUR.sequences()).all(-1).any())


class Shuffled:
    """The model with every sequence embedded where another one belongs."""

    def __init__(self, model: TernaryVAE) -> None:
        self.model, self.ball = model, model.ball

    def embed(self, indices: Tensor, branch: str = "B") -> Tensor:
        return self.model.embed((indices + 1) % FOUR.size, branch)

    def decode(self, points: Tensor, branch: str = "B") -> Tensor:
        return self.model.decode(points, branch)


def test_coverage_of_shuffled_points_is_nothing(trained: TernaryVAE) -> None:
    metrics = Evaluator(FOUR)(Shuffled(trained))
    assert (metrics["coverage"], metrics["coverage_B"]) == (0, 0)


@both
def test_random_points_are_decoded_by_chance(trained: TernaryVAE, branch: str) -> None:
    """Sequences drawn independently of the points are hit with probability 3**-4 each."""
    count = 20_000
    points = trained.embed(torch.randint(81, (count,)), branch)
    wanted = FOUR.sequences(torch.randint(81, (count,)))
    hits = int((trained.decode(points, branch) == wanted).all(-1).sum())
    # Ten standard deviations: a chance of 1e-23, whatever the generator's state.
    assert abs(hits - count / 81) < 10 * math.sqrt(count / 81)


@both
def test_decoding_depends_on_each_point_alone(trained: TernaryVAE, branch: str) -> None:
    points = trained.embed(ALL, branch)
    together = trained.decode(points, branch)
    alone = torch.cat([trained.decode(points[i : i + 1], branch) for i in range(81)])
    assert torch.equal(alone, together)
    assert torch.equal(trained.decode(points.tolist(), branch), together)
    assert torch.equal(trained.decode(points.double().numpy(), branch), together)


@both
def test_logits_of_equal_points_are_equal_whichever_sequences_made_them(branch: str) -> None:
    model = make()
    with torch.no_grad():
        for parameter in model.encoders[branch].parameters():
            parameter.zero_()  # all sequences are sent to the origin
        points = model.embed(ALL, branch)
        assert torch.equal(points, torch.zeros_like(points))
        logits = logits_of(model, points, branch)
    assert torch.equal(logits, logits[:1].expand_as(logits))


def test_branches_read_their_own_layout(trained: TernaryVAE) -> None:
    """Points of A read as points of B are mostly misread: each branch has its own chart."""
    misread = trained.decode(trained.embed(ALL, "A"), "B")
    assert not torch.equal(misread, FOUR.sequences())


# --- points stay inside ---------------------------------------------------------------------


def largest_share(model: TernaryVAE, points: Tensor) -> float:
    """Largest sqrt(c) |x|, in float64 on the stored coordinates."""
    return math.sqrt(model.ball.c.item()) * float(points.detach().double().norm(dim=-1).max())


@pytest.mark.parametrize("curvature", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("max_radius", [0.3, 0.95, 0.9999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_stay_inside_max_radius(
    curvature: float, max_radius: float, dtype: torch.dtype
) -> None:
    for seed in range(5):
        model = make(seed, curvature=curvature, max_radius=max_radius).to(dtype)
        for factor in (1.0, 1e3):
            with torch.no_grad():
                for parameter in model.encoders.parameters():
                    parameter.mul_(factor)
            for branch in BRANCHES:
                points = model.embed(ALL, branch)
                assert points.dtype == dtype
                assert bool(points.isfinite().all())
                assert largest_share(model, points) <= max_radius
                assert bool((model.decode(points, branch).abs() <= 1).all())
                out = run(model, branch)
                assert all(bool(part.isfinite().all()) for part in out)
                assert largest_share(model, out.points) <= max_radius


def test_the_whole_allowed_radius_is_in_reach() -> None:
    model = make(max_radius=0.95)
    with torch.no_grad():
        encoder(model, "B").projection.radius[-1].bias.fill_(30.0)
        assert largest_share(model, model.embed(ALL)) == pytest.approx(0.95, rel=1e-6)
        # In one call the sigmoid ends at the smallest normal number of float32.
        encoder(model, "B").projection.radius[-1].bias.fill_(-1000.0)
        assert largest_share(model, model.embed(ALL)) < 1e-37


@both
def test_radius_and_direction_are_free_of_each_other(branch: str) -> None:
    """Turning the radius head changes every radius and no direction."""
    model = make()
    before = model.embed(ALL, branch)
    with torch.no_grad():
        encoder(model, branch).projection.radius[-1].bias.add_(1.0)
    after = model.embed(ALL, branch)
    cosine = torch.cosine_similarity(before, after)
    assert cosine.min() > 1 - 1e-5
    assert bool((model.ball.dist0(after) > model.ball.dist0(before)).all())


# --- embed ----------------------------------------------------------------------------------


@both
def test_indices_and_their_sequences_have_the_same_points(branch: str) -> None:
    model = make()
    chosen = [80, 0, 40, 40, 7]
    points = model.embed(torch.tensor(chosen), branch)
    rows = FOUR.sequences(chosen)
    for given in (
        *(chosen, tuple(chosen), np.array(chosen), [float(i) for i in chosen]),
        *(torch.tensor(chosen, dtype=torch.uint8), torch.tensor(chosen).double()),
        *(rows, rows.tolist(), rows.numpy(), rows.to(torch.int8), rows.float()),
    ):
        assert torch.equal(model.embed(given, branch), points)
    assert model.embed([], branch).shape == (0, 6)
    assert torch.equal(model.embed(chosen), model.embed(chosen, "B"))


def test_read_only_arrays_can_be_embedded() -> None:
    indices = np.arange(81)
    indices.flags.writeable = False
    assert torch.equal(make().embed(indices), make().embed(ALL))


def test_large_indices_given_as_floats_are_not_rounded() -> None:
    model = TernaryVAE(n_digits=20, latent_dim=2, hidden_dim=4)
    last = 3**20 - 1
    assert torch.equal(model.embed([float(last)]), model.embed([last]))
    assert not torch.equal(model.embed([last - 1]), model.embed([last]))


@both
def test_embedding_is_the_posterior_mean_also_while_training(branch: str) -> None:
    model = make(dropout=0.5)
    model.eval()
    calm = model.embed(ALL, branch)
    model.train()
    state = torch.get_rng_state()
    assert torch.equal(model.embed(ALL, branch), calm)
    assert torch.equal(torch.get_rng_state(), state)
    # The mode is as it was, and so is dropout in training itself.
    assert all(module.training for module in model.modules())
    assert not torch.equal(run(model, branch).points, calm)
    model.eval()
    assert torch.equal(run(model, branch).points, calm)


@both
def test_embedding_leaves_a_frozen_encoder_frozen(branch: str) -> None:
    model = make(dropout=0.5).train()
    model.encoders["A"].eval()
    model.embed(ALL, branch)
    frozen = [m for m in model.encoders["A"].modules() if isinstance(m, nn.Dropout)]
    assert [m.training for m in frozen] == [False, False]
    assert model.encoders["B"].training and model.training


def test_embedding_restores_the_mode_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make().train()
    monkeypatch.setattr(model.encoders["B"], "centres", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.embed([0])
    assert model.encoders["B"].training


@both
def test_inference_records_no_gradients(branch: str) -> None:
    points = make().embed(ALL, branch)
    assert not points.requires_grad
    assert type(points) is Tensor


@pytest.mark.parametrize(
    ("bad", "value"),
    [
        ([0, 81], "81"),
        ([-1], "-1"),
        ([3**41], str(3**41)),
        ([0.5], "0.5"),
        ([math.nan], "nan"),
        ([math.inf], "inf"),
        ([True], "True"),
        (["one"], "one"),
        (torch.tensor([2.5]), "2.5"),
        ([[0, 0, 0, 2]], "2"),
        ([[-2, 0, 0, 0]], "-2"),
        ([[0, math.nan, 0, 0]], "nan"),
        ([[0, 0, 0]], r"\(1, 3\)"),
        (torch.zeros(2, 5), r"\(2, 5\)"),
        (3, r"\(\)"),
        (torch.zeros(2, 2, 4), r"\(2, 2, 4\)"),
    ],
)
def test_values_outside_the_space_are_refused_by_name(bad: Any, value: str) -> None:
    with pytest.raises(ValueError, match=value):
        make().embed(bad)


@pytest.mark.parametrize("branch", ["C", "a", "", None, 0])
def test_unknown_branches_are_refused(branch: Any) -> None:
    model = make()
    with pytest.raises(ValueError, match=f"branch must be one of A, B, got {branch!r}"):
        model.embed([0], branch)
    with pytest.raises(ValueError, match=f"branch must be one of A, B, got {branch!r}"):
        model.decode(torch.zeros(1, 6), branch)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(1, 5), r"\(1, 5\)"),
        (torch.zeros(6), r"\(6,\)"),
        (torch.zeros(1, 1, 6), r"\(1, 1, 6\)"),
        (torch.zeros(1, 6, dtype=torch.int64), "int64"),
        ([[0.0] * 6, [0.96] + [0.0] * 5], r"row 1 of 2 .*0\.9599"),
        ([[1.0] + [0.0] * 5], r"1\.0"),
        ([[1e30] + [0.0] * 5], r"1.*e\+30"),
        ([[math.nan] + [0.0] * 5], "nan"),
        ([[math.inf] + [0.0] * 5], "inf"),
    ],
)
def test_what_is_no_point_of_the_ball_is_refused(bad: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().decode(bad)


def test_points_of_half_precision_are_refused() -> None:
    with pytest.raises(TypeError, match="float16"):
        make().decode(torch.zeros(1, 6, dtype=torch.float16))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"latent_dim": 1}, "latent_dim must be at least 2, got 1"),
        ({"hidden_dim": 0}, "hidden_dim must be at least 1, got 0"),
        ({"projection_layers": 0}, "projection_layers must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout .*got 1.0"),
        ({"dropout": -0.1}, "dropout .*got -0.1"),
        ({"dropout": math.nan}, "dropout .*got nan"),
        ({"n_digits": 0}, "n_digits.*0"),
        ({"n_digits": 21}, "n_digits.*21"),
        ({"curvature": 0.0}, "c must be positive.*0.0"),
        ({"curvature": math.inf}, "c must be positive.*inf"),
        ({"max_radius": 1.0}, "max_radius.*1.0"),
    ],
)
def test_impossible_models_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**config)


# --- training -------------------------------------------------------------------------------


@both
def test_forward_gives_what_it_says(branch: str) -> None:
    model = make()
    out = run(model, branch)
    assert out.points.shape == (81, 6)
    assert out.logits.shape == (81, 4, 3)
    for part in (out.radius, out.nll, out.posterior_log_prob, out.prior_log_prob):
        assert part.shape == (81,)
    assert torch.allclose(out.radius, model.ball.dist0(out.points))
    assert torch.equal(out.points, model.embed(ALL, branch))


@both
def test_forward_decodes_a_sample_and_not_the_mean(branch: str) -> None:
    model = make()
    first, second = run(model, branch), run(model, branch)
    assert torch.equal(first.points, second.points)
    assert not torch.equal(first.logits, second.logits)
    # A posterior without spread: the sample is the mean.
    with torch.no_grad():
        encoder(model, branch).log_variance.weight.zero_()
        encoder(model, branch).log_variance.bias.fill_(LOG_VARIANCE_RANGE[0])
    calm = run(model, branch).logits
    noise = (calm - logits_of(model, model.embed(ALL, branch), branch)).abs().mean()
    assert noise < (first.logits - second.logits).abs().mean() / 5


@both
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("extreme", [1.0, 1e3])
def test_gradients_are_finite_and_reach_all_of_the_branch(
    branch: str, dropout: float, extreme: float
) -> None:
    model = make(dropout=dropout)
    with torch.no_grad():
        encoder(model, branch).projection.radius[-1].weight.mul_(extreme)
    out = run(model, branch)
    kl = kl_loss(out.posterior_log_prob, out.prior_log_prob)
    backward(reconstruction_loss(out.logits, FOUR.sequences()) + kl + out.radius.sum())
    used = {
        *(f"encoders.{branch}.{name}" for name, _ in model.encoders[branch].named_parameters()),
        *(f"charts.{branch}.{name}" for name, _ in model.charts[branch].named_parameters()),
        *(f"decoder.{name}" for name, _ in model.decoder.named_parameters()),
        *({"prototypes"} if branch == "B" else set()),
    }
    for name, parameter in model.named_parameters():
        if name in used:
            assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
            assert bool(parameter.grad.any()), name
        else:
            assert parameter.grad is None or not bool(parameter.grad.any()), name


@pytest.mark.parametrize(("bias", "expected"), [(50.0, 1), (-50.0, 0)])
def test_posterior_scales_are_kept_in_their_range(bias: float, expected: int) -> None:
    model = make()
    with torch.no_grad():
        encoder(model, "B").log_variance.bias.fill_(bias)
        log_scale = encoder(model, "B")(FOUR.sequences()).log_scale
    bound = LOG_VARIANCE_RANGE[expected] / 2
    assert torch.equal(log_scale, torch.full_like(log_scale, bound))
    assert all(bool(part.isfinite().all()) for part in run(model, "B"))


@both
@pytest.mark.parametrize("curvature", [0.1, 1.0, 4.0])
def test_divergence_is_finite_and_positive_at_the_start(branch: str, curvature: float) -> None:
    for seed in range(5):
        out = run(make(seed, curvature=curvature), branch)
        kl = kl_loss(out.posterior_log_prob, out.prior_log_prob)
        # Narrow posteriors against a prior of scale 1: about 6 (ln(1/sigma) - 1/2) nats.
        assert 1 < float(kl.detach()) < 100


# --- priors and prototypes ------------------------------------------------------------------


def test_the_prior_of_a_is_centred_at_the_origin_and_that_of_b_at_the_prototypes() -> None:
    model = make()
    valuation = torch.tensor([0, 4, 2, 2])
    a, b = model.prior("A", valuation), model.prior("B", valuation)
    assert torch.equal(a.loc, torch.zeros(4, 6))
    assert torch.equal(b.loc, model.prototypes[valuation])
    for prior in (a, b):
        assert torch.equal(prior.scale, torch.ones(4, 6))
        assert (prior.batch_shape, prior.event_shape) == ((4,), (6,))


def test_prototypes_are_points_of_the_ball_one_per_level() -> None:
    model = make(curvature=4.0, max_radius=0.01)
    assert type(model.prototypes) is ManifoldParameter
    assert model.prototypes.manifold is model.ball
    assert model.prototypes.shape == (5, 6)
    assert largest_share(model, model.prototypes) <= 0.01


def test_prototypes_learn_from_the_divergence_of_b_alone() -> None:
    model = make()
    for branch in BRANCHES:
        out = run(model, branch)
        kl = kl_loss(out.posterior_log_prob, out.prior_log_prob)
        others = reconstruction_loss(out.logits, FOUR.sequences()) + out.radius.sum()
        for name, term in (("kl", kl), ("others", others)):
            (gradient,) = torch.autograd.grad(
                term, [model.prototypes], retain_graph=True, allow_unused=True
            )
            reached = gradient is not None and bool(gradient.any())
            assert reached is (branch == "B" and name == "kl")


def test_each_prototype_learns_from_its_level_alone() -> None:
    model = make()
    only = torch.nonzero(FOUR.valuation(ALL) == 2).flatten()
    out = run(model, "B", only)
    backward(kl_loss(out.posterior_log_prob, out.prior_log_prob))
    assert model.prototypes.grad is not None
    assert [bool(row.any()) for row in model.prototypes.grad] == [False, False, True, False, False]


def test_prototypes_move_towards_their_posteriors_and_stay_inside() -> None:
    model = make()
    target = model.embed(torch.nonzero(FOUR.valuation(ALL) == 3).flatten())
    distances = []
    optimizer = RiemannianAdam([model.prototypes], lr=5e-2)
    for _ in range(60):
        out = run(model, "B")
        optimizer.zero_grad()
        backward(kl_loss(out.posterior_log_prob, out.prior_log_prob))
        optimizer.step()
        with torch.no_grad():
            distances.append(float(model.ball.dist(model.prototypes[3], target).mean()))
            assert largest_share(model, model.prototypes) <= 0.95
    assert distances[-1] < distances[0] - 0.1


# --- coverage can be frozen -----------------------------------------------------------------


def coverage_path(model: TernaryVAE) -> tuple[Tensor, Tensor]:
    points = model.embed(ALL, "A")
    with torch.no_grad():
        return points, logits_of(model, points, "A")


def coverage_parameters(model: TernaryVAE) -> set[int]:
    return {id(p) for module in model.coverage_modules() for p in module.parameters()}


def test_training_b_leaves_frozen_coverage_alone_to_the_last_bit(trained: TernaryVAE) -> None:
    model = copy.deepcopy(trained).train()
    for module in model.coverage_modules():
        module.requires_grad_(False)
    before, b_before = coverage_path(model), model.embed(ALL, "B")
    optimizer = RiemannianAdam(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        backward(branch_loss(model, "B"))
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, coverage_path(model), strict=True))
    assert not torch.equal(model.embed(ALL, "B"), b_before)
    assert Evaluator(FOUR).coverage(model, "A") == 1


def test_coverage_modules_are_all_that_coverage_depends_on() -> None:
    model = make()
    kept = coverage_parameters(model)
    before = coverage_path(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if id(parameter) not in kept:
                parameter.mul_(0.5).add_(0.01)
    assert all(torch.equal(a, b) for a, b in zip(before, coverage_path(model), strict=True))


def test_coverage_modules_hold_nothing_of_branch_b() -> None:
    model = make()
    kept = coverage_parameters(model)
    free = {name for name, p in model.named_parameters() if id(p) not in kept}
    assert free == {
        *(f"encoders.B.{name}" for name, _ in model.encoders["B"].named_parameters()),
        *(f"charts.B.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")),
        *("prototypes", "thresholds"),
    }


# --- copies, dtypes, files ------------------------------------------------------------------


def checkpoint(model: TernaryVAE, path: Path, **changes: Any) -> Path:
    contents = {
        "model_state_dict": model.state_dict(),
        "model_config": model.config,
        "optimizer_state_dict": {},
        "epoch": 1,
        "comprehensive_metrics": {},
        "validation_results": {},
        "profile": {},
    }
    save_checkpoint(path, {**contents, **changes})
    return path


def assert_same(one: TernaryVAE, other: TernaryVAE) -> None:
    for branch in BRANCHES:
        points = one.embed(ALL, branch)
        assert torch.equal(other.embed(ALL, branch), points)
        assert torch.equal(other.decode(points, branch), one.decode(points, branch))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"curvature": 0.7, "max_radius": 0.8},
        {"latent_dim": 3, "hidden_dim": 5, "projection_layers": 1, "dropout": 0.2},
        {"projection_layers": 3},
    ],
)
def test_checkpoints_give_the_same_model_back(tmp_path: Path, config: dict[str, Any]) -> None:
    model = make(1, **config).train()
    loaded = TernaryVAE.from_checkpoint(checkpoint(model, tmp_path / "model.pt"))
    assert loaded.config == model.config
    assert not loaded.training
    assert_same(model, loaded)
    assert torch.equal(loaded.prototypes, model.prototypes)
    assert loaded.prototypes.manifold is loaded.ball


@pytest.mark.parametrize(
    "changes",
    [
        {"model_config": {"latent_dim": 7, "n_digits": 4, "hidden_dim": 32}},
        {"model_config": {"latent": 6}},
        {"model_config": {"latent_dim": "6"}},
        {"model_config": {"n_digits": 99}},
        {"model_config": [6]},
        {"model_config": None},
        {"model_state_dict": {}},
        {"model_state_dict": {0: 1}},
        {"model_state_dict": None},
    ],
)
def test_models_that_do_not_fit_are_refused_with_the_path(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = checkpoint(make(), tmp_path / "odd.pt", **changes)
    with pytest.raises(CheckpointError, match=r"odd\.pt: the stored model does not fit"):
        TernaryVAE.from_checkpoint(path)


def test_state_dict_holds_the_curvature_and_makes_another_model_the_same() -> None:
    model, other = make(1, curvature=0.7), make(2, curvature=2.0)
    other.load_state_dict(model.state_dict())
    assert float(other.ball.c) == 0.7
    assert_same(model, other)


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_copies_are_equal_and_independent(way: str) -> None:
    model = make(1)
    if way == "deepcopy":
        other = copy.deepcopy(model)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own bytes
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    assert_same(model, other)
    # Points and manifold belong together in the copy, and not to the original.
    assert type(other.prototypes) is ManifoldParameter
    assert other.prototypes.manifold is other.ball
    assert all(encoder(other, b).projection.ball is other.ball for b in BRANCHES)
    assert other.ball is not model.ball
    before = model.embed(ALL)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(model.embed(ALL), before)


def test_double_precision_works_throughout() -> None:
    model = make(curvature=0.3).double()
    assert model.prototypes.manifold is model.ball
    for branch in BRANCHES:
        out = run(model, branch)
        assert all(part.dtype == torch.float64 for part in out)
        points = model.embed(ALL, branch)
        assert points.dtype == torch.float64
        assert torch.equal(out.points, points)
        assert model.decode(points.float(), branch).dtype == torch.int64
    backward(branch_loss(model, "B"))
    optimizer = RiemannianAdam(model.parameters(), lr=1e-2)
    optimizer.step()
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_precisions_agree() -> None:
    model = make()
    for branch in BRANCHES:
        narrow = model.embed(ALL, branch)
        wide = copy.deepcopy(model).double().embed(ALL, branch)
        assert torch.allclose(narrow.double(), wide, atol=1e-5)


def test_seeds_decide_the_start() -> None:
    assert_same(make(3), make(3))
    assert not torch.equal(make(3).embed(ALL), make(4).embed(ALL))


# --- float64 points over float32 weights ----------------------------------------------------


@both
@pytest.mark.parametrize("learnable", [False, True])
def test_mathematical_precision_is_float64_on_the_ball_and_nowhere_else(
    branch: str, learnable: bool
) -> None:
    model = make(mathematical_precision=True, learnable_curvature=learnable)
    assert model.point_dtype == torch.float64
    weights = {p.dtype for n, p in model.named_parameters() if not n.endswith("log_c_ratio")}
    assert weights == {torch.float32}
    out = run(model, branch)
    dtypes = {name: part.dtype for name, part in out._asdict().items()}
    # What the layers say is of the dtype of their weights.
    said = dict.fromkeys(("logits", "nll"), torch.float32)
    assert dtypes == dict.fromkeys(dtypes, torch.float64) | said
    points = model.embed(ALL, branch)
    assert points.dtype == torch.float64 and torch.equal(out.points, points)
    assert model.prior(branch, FOUR.valuation(ALL)).loc.dtype == torch.float64
    # More than float32 widened: the coordinates use the digits that they have.
    assert not torch.equal(points.float().double(), points)
    assert largest_share(model, points) <= 0.95


@both
def test_mathematical_precision_decodes_points_of_either_dtype(branch: str) -> None:
    model = make(mathematical_precision=True)
    points = model.embed(ALL, branch)
    decoded = model.decode(points, branch)
    # Points that a float32 cannot tell from these decode alike, as whatever they come.
    narrow = points.float()
    assert torch.equal(model.decode(narrow, branch), model.decode(narrow.double(), branch))
    assert torch.equal(model.decode(narrow.numpy(), branch), model.decode(narrow.tolist(), branch))
    close = logits_of(model, narrow.double(), branch) - logits_of(model, points, branch)
    assert float(close.abs().max().detach()) < 1e-4
    assert decoded.dtype == torch.int64 and decoded.shape == (81, 4)


def test_mathematical_precision_changes_digits_and_no_weight() -> None:
    plain, wide = make(3), make(3, mathematical_precision=True)
    for (name, one), (_, other) in zip(
        plain.state_dict().items(), wide.state_dict().items(), strict=True
    ):
        assert torch.equal(one, other), name
    for branch in BRANCHES:
        gap = (plain.embed(ALL, branch).double() - wide.embed(ALL, branch)).abs().max()
        assert 0 < float(gap) < 1e-6


@pytest.mark.parametrize("extreme", [1.0, 1e3])
@both
def test_gradients_through_float64_points_reach_the_float32_weights(
    branch: str, extreme: float
) -> None:
    model = make(mathematical_precision=True, max_radius=0.9999)
    with torch.no_grad():
        encoder(model, branch).projection.radius[-1].weight.mul_(extreme)
    backward(branch_loss(model, branch))
    for name, parameter in model.encoders[branch].named_parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32, name
        assert bool(parameter.grad.isfinite().all()), name


def test_checkpoints_keep_the_precision(tmp_path: Path) -> None:
    model = make(1, mathematical_precision=True)
    loaded = TernaryVAE.from_checkpoint(checkpoint(model, tmp_path / "model.pt"))
    assert loaded.config["mathematical_precision"] is True
    assert loaded.point_dtype == torch.float64 and loaded.prototypes.dtype == torch.float32
    assert_same(model, loaded)


# --- autocast -------------------------------------------------------------------------------


def in_bfloat16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def seeded(model: TernaryVAE, branch: str, indices: Tensor = ALL) -> BranchOutput:
    torch.manual_seed(8)
    return run(model, branch, indices)


@both
@pytest.mark.parametrize("precise", [False, True])
@pytest.mark.parametrize("max_radius", [0.95, 0.9999])
def test_autocast_rounds_the_features_and_nothing_behind_them(
    branch: str, precise: bool, max_radius: float
) -> None:
    """With the features that autocast made, the ball computes the same bits without it."""
    model = make(mathematical_precision=precise, max_radius=max_radius, curvature=0.7)
    features = encoder(model, branch).features
    kept: list[Tensor] = []
    hook = features.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    with in_bfloat16():
        cast = seeded(model, branch)
    hook.remove()
    plain = seeded(model, branch)
    hook = features.register_forward_hook(lambda _module, _inputs, _output: kept[0].float())
    given = seeded(model, branch)
    hook.remove()
    assert not torch.equal(cast.points, plain.points)  # autocast was on
    for name in ("points", "radius", "posterior_log_prob", "prior_log_prob"):
        ours, theirs = getattr(cast, name), getattr(given, name)
        assert ours.dtype == (torch.float64 if precise else torch.float32), name
        assert torch.equal(ours, theirs), name
    assert cast.logits.dtype == torch.float32
    assert largest_share(model, cast.points) <= max_radius
    # bfloat16 has eight bits, and the features are of order one.
    assert float((cast.points - plain.points).abs().max().detach()) < 0.05
    assert float((cast.radius - plain.radius).abs().max().detach()) < 0.1


@both
def test_autocast_ties_no_radii(branch: str) -> None:
    """Radii rounded to bfloat16 would fall on a few hundred values; float32 keeps nearly all."""
    space = TernarySpace(7)
    everything = torch.arange(space.size)
    model = make(n_digits=7, hidden_dim=64, latent_dim=16)
    level = space.valuation(everything)

    def distinct() -> list[int]:
        radius = run(model, branch, everything).radius.detach()
        return [len(radius[level == v].unique()) for v in range(8)]  # type: ignore[no-untyped-call]

    sizes, plain = space.level_sizes(), distinct()
    with in_bfloat16():
        cast = distinct()
    # Among 1458 float32 radii between 1 and 4, about two pairs meet by chance.
    for count, calm, size in zip(cast, plain, sizes, strict=True):
        assert count >= min(calm, size) - 10
    assert sum(cast) > 2150


@both
def test_autocast_embeds_decodes_and_learns(branch: str) -> None:
    model = make()
    with in_bfloat16():
        points = model.embed(ALL, branch)
        assert torch.equal(points, run(model, branch).points)
        assert points.dtype == torch.float32
        assert model.decode(points, branch).shape == (81, 4)
        density = model.prior(branch, FOUR.valuation(ALL)).log_prob(points)
        loss = branch_loss(model, branch)
    assert torch.equal(density, model.prior(branch, FOUR.valuation(ALL)).log_prob(points))
    backward(loss)
    for name, parameter in model.encoders[branch].named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        assert parameter.grad.dtype == torch.float32


@both
def test_charts_are_read_in_full_precision(branch: str) -> None:
    model = make()
    points, seen = model.embed(ALL, branch), []
    model.decoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    model.decode(points, branch)
    with in_bfloat16():
        model.decode(points, branch)
    assert torch.equal(*seen)


# --- a curvature that is learned ------------------------------------------------------------


def ratio_of(model: TernaryVAE) -> Tensor:
    ratio = model.ball.log_c_ratio
    assert ratio is not None
    return ratio


@both
@pytest.mark.parametrize("precise", [False, True])
@pytest.mark.parametrize("curvature", [0.1, 1.0, 4.0])
def test_the_curvature_gets_a_gradient(branch: str, precise: bool, curvature: float) -> None:
    model = make(learnable_curvature=True, curvature=curvature, mathematical_precision=precise)
    assert float(model.ball.c.detach()) == curvature
    backward(branch_loss(model, branch))
    gradient = ratio_of(model).grad
    assert gradient is not None and bool(gradient.isfinite()) and float(gradient) != 0


def test_the_gradient_of_the_curvature_is_the_slope_of_the_loss() -> None:
    model = make(learnable_curvature=True, curvature=0.8).double()
    ratio = ratio_of(model)

    def loss() -> Tensor:
        torch.manual_seed(8)
        out = run(model, "B")
        kl = kl_loss(out.posterior_log_prob, out.prior_log_prob)
        return reconstruction_loss(out.logits, FOUR.sequences()) + kl + out.radius.mean()

    backward(loss())
    assert ratio.grad is not None
    ends = []
    with torch.no_grad():
        for step in (1e-5, -1e-5):
            ratio.fill_(step)
            ends.append(float(loss()))
    assert float(ratio.grad) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


def test_coverage_depends_on_a_learned_curvature_and_on_a_fixed_one_alike() -> None:
    learned, fixed = make(learnable_curvature=True), make()
    assert id(ratio_of(learned)) in coverage_parameters(learned)
    assert any(module is learned.ball for module in learned.coverage_modules())
    assert len(coverage_parameters(learned)) == len(coverage_parameters(fixed)) + 1
    before = coverage_path(learned)
    with torch.no_grad():
        ratio_of(learned).fill_(0.3)
    assert not torch.equal(coverage_path(learned)[0], before[0])


def test_a_learned_curvature_moves_and_survives_its_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    model = make(1, learnable_curvature=True, curvature=0.7)
    optimizer = RiemannianAdam(model.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        backward(branch_loss(model, "A") + branch_loss(model, "B"))
        optimizer.step()
        for branch in BRANCHES:
            assert largest_share(model, model.embed(ALL, branch)) <= 0.95
    learned = model.ball.c.detach()
    assert learned.dtype == torch.float64 and float(learned) != 0.7
    loaded = TernaryVAE.from_checkpoint(checkpoint(model, tmp_path / "model.pt"))
    assert torch.equal(loaded.ball.c, learned)
    assert torch.equal(ratio_of(loaded), ratio_of(model))
    assert torch.equal(loaded.ball.c_reference, torch.tensor(0.7, dtype=torch.float64))
    assert loaded.config == model.config and loaded.config["curvature"] == 0.7
    assert_same(model, loaded)
    # Nor do casts round it, there and back.
    assert torch.equal(copy.deepcopy(model).double().float().ball.c, learned)


@pytest.mark.parametrize("learnable", [False, True])
def test_a_file_of_the_other_kind_of_curvature_is_refused(tmp_path: Path, learnable: bool) -> None:
    model = make(learnable_curvature=learnable)
    config = {**model.config, "learnable_curvature": not learnable}
    path = checkpoint(model, tmp_path / "odd.pt", model_config=config)
    with pytest.raises(CheckpointError, match=r"does not fit.*log_c_ratio"):
        TernaryVAE.from_checkpoint(path)


# --- the names of the weights ---------------------------------------------------------------


@pytest.mark.parametrize("learnable", [False, True])
def test_the_names_of_the_weights_are_the_documented_ones(learnable: bool) -> None:
    """They are a file format: another name here needs another FORMAT_VERSION."""
    model = make(learnable_curvature=learnable, dropout=0.1)
    ball = ["c_reference", *(["log_c_ratio"] if learnable else [])]
    layers = {
        "encoders.{}.features": (0, 1, 4, 5),
        "encoders.{}.projection.direction": (0, 2),
        "encoders.{}.projection.radius": (0, 2),
        "decoder": (0, 2, 3, 5),
        "charts.B": (0, 2),
    }
    names = {"prototypes", "thresholds", *(f"ball.{part}" for part in ball)}
    for branch in BRANCHES:
        names |= {f"encoders.{branch}.projection.ball.{part}" for part in ball}
        for part in ("weight", "bias"):
            names |= {f"charts.A.{part}", f"encoders.{branch}.log_variance.{part}"}
            names |= {f"encoders.{branch}.digits.{part}"}
            names |= {
                f"{prefix.format(branch)}.{number}.{part}"
                for prefix, numbers in layers.items()
                for number in numbers
            }
    assert set(model.state_dict()) == names
    documented = (Path(__file__).parents[1] / "docs" / "model.md").read_text(encoding="utf-8")
    for name in names:
        general = re.sub(r"^(encoders|charts)\.[AB]\.", r"\1.X.", name)
        general = re.sub(r"\.\d+\.(weight|bias)$", ".N.*", general)
        general = re.sub(r"\.(weight|bias)$", ".*", general)
        assert f"`{general}`" in documented, general


def test_whole_numbers_stand_for_real_ones_in_a_file_too(tmp_path: Path) -> None:
    model = TernaryVAE(n_digits=3, latent_dim=3, hidden_dim=4, curvature=2, dropout=0)
    assert TernaryVAE.from_checkpoint(checkpoint(model, tmp_path / "m.pt")).config == model.config


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("hidden_dim", 30_000, "the model has more than"),
        ("projection_layers", 10**8, "the model has more than"),
        ("hidden_dim", 10**400, "hidden_dim is an integer of 1329 bits"),
        ("curvature", [[1.0]], "curvature is of type list"),
        ("n_digits", True, "n_digits is of type bool"),
        ("extra", 1, "model_config does not hold the keywords"),
    ],
)
def test_a_file_cannot_ask_for_a_model_that_it_does_not_hold(
    key: str, value: object, told: str, tmp_path: Path
) -> None:
    model = TernaryVAE(n_digits=3, latent_dim=3, hidden_dim=4)
    evil = checkpoint(model, tmp_path / "evil.pt", model_config={**model.config, key: value})
    with pytest.raises(CheckpointError, match=told):
        TernaryVAE.from_checkpoint(evil)
