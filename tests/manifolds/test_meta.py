"""The nets hold what they are for: Moebius addition is broken on purpose, and they say so.

Each break is run through the very checks of the other files, as programs and as torch operations;
each must fail at least the checks that are named with it, and nothing fails without a break.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from ternvae.manifolds import numerics, programs
from ternvae.manifolds.rows import Gradients, Kept
from ternvae.manifolds.rules import pairs
from ternvae.manifolds.vectors import Blend, Metric
from tests.manifolds import test_ball as ball
from tests.manifolds import test_math_accuracy as accuracy
from tests.manifolds import test_math_gradients as gradients
from tests.manifolds import test_math_laws as laws
from tests.manifolds.functions import spread


def left_cancellation() -> None:
    for seed in range(5):
        x, y = (spread(1, laws.DIM, 1.0, seed=2 * seed + k)[0].requires_grad_() for k in (0, 1))
        laws.test_left_cancellation.hypothesis.inner_test((1.0, [x, y]))


NETS: dict[str, Callable[[], None]] = {
    "accuracy": lambda: accuracy.accuracy_check("mobius_add", 2, 1.0, torch.float64),
    "left cancellation": left_cancellation,
    "gradcheck": lambda: gradients.test_gradcheck("mobius_add"),
    "max_radius": lambda: ball.test_points_obey_max_radius("mobius_add", 0.3, torch.float64),
    "gradcheck at the limit": lambda: gradients.test_second_derivatives("mobius_add", True),
}


def forget_programs() -> None:
    """Recorded programs are those of the rule as it was when it was first used."""
    programs._forward_program.cache_clear()
    programs._backward_program.cache_clear()


@pytest.fixture(params=["programs", "torch"], autouse=True)
def evaluation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "torch":
        monkeypatch.setattr(programs, "_tiles", None)
    elif not programs.available():
        pytest.skip("the extension _tiles was not compiled")
    forget_programs()
    yield
    monkeypatch.undo()
    forget_programs()


def wrong_sign(patch: pytest.MonkeyPatch) -> None:
    def forward(m: Metric, x: Tensor, y: Tensor) -> tuple[Tensor, Kept]:
        d = Blend(x, 1.0, y)
        kept = gap_x, gap_y, q = m.measure(m.gap(x), m.gap(y), m.dot(d, d))
        total = pairs._Sum.of(m, gap_x, gap_y, q)
        return m.combine((total.along_d, d), (-1.0 * total.along_x, x)), tuple(kept)

    patch.setattr(pairs.MobiusAdd, "forward", staticmethod(forward))


def without_gap_y(patch: pytest.MonkeyPatch) -> None:
    real = pairs._Sum.of
    patch.setattr(
        pairs._Sum,
        "of",
        staticmethod(lambda m, gap_x, gap_y, q: real(m, gap_x, torch.ones_like(gap_y), q)),
    )


def almost_the_right_curvature(patch: pytest.MonkeyPatch) -> None:
    real = pairs._Sum.of
    patch.setattr(
        pairs._Sum,
        "of",
        staticmethod(lambda m, gap_x, gap_y, q: real(m, gap_x, gap_y, q * (1.0 + 1e-9))),
    )


def scaled_gradient(patch: pytest.MonkeyPatch, which: int, factor: float) -> None:
    real = pairs.MobiusAdd.backward

    def backward(m: Metric, kept: Kept, grad: Tensor, x: Tensor, y: Tensor) -> Gradients:
        found = list(real(m, kept, grad, x, y))
        if which == 0:
            found[0] = real(m, kept, _times(m, factor, grad), x, y)[0]
        elif which == 1:
            found[1] = real(m, kept, _times(m, factor, grad), x, y)[1]
        elif found[2] is not None:
            found[2] = found[2] * factor
        return tuple(found)

    patch.setattr(pairs.MobiusAdd, "backward", staticmethod(backward))


def _times(m: Metric, factor: float, v: Tensor) -> Tensor:
    return m.wide().combine((factor, v))


def ignoring_the_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pairs, "_shrink", lambda squared_norm, limit: torch.ones_like(squared_norm))


def differentiating_past_the_limit(patch: pytest.MonkeyPatch) -> None:
    """The value is confined, the derivative does not know."""
    real = pairs._Sum.pull_back

    def pull_back(
        m: Metric, gap_x: Tensor, gap_y: Tensor, q: Tensor, g_d: Tensor, g_x: Tensor
    ) -> tuple["pairs._Sum", Tensor, Tensor, Tensor]:
        found = real(m, gap_x, gap_y, q, g_d, g_x)
        limit, m.limit = m.limit, None
        free = real(m, gap_x, gap_y, q, g_d, g_x)
        m.limit = limit
        return found[0], *free[1:]

    patch.setattr(pairs._Sum, "pull_back", staticmethod(pull_back))


# name -> (the break, the nets that must catch it)
BREAKS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], set[str]]] = {
    "wrong sign of a term": (wrong_sign, {"accuracy", "left cancellation", "gradcheck"}),
    "gap_y dropped": (without_gap_y, {"accuracy", "left cancellation", "gradcheck"}),
    "a term off by 1e-9": (almost_the_right_curvature, {"accuracy", "left cancellation"}),
    "gradient of x times 1.001": (lambda p: scaled_gradient(p, 0, 1.001), {"gradcheck"}),
    "gradient of y times 1.001": (lambda p: scaled_gradient(p, 1, 1.001), {"gradcheck"}),
    "gradient of c times 1.001": (lambda p: scaled_gradient(p, 2, 1.001), {"gradcheck"}),
    "limit ignored": (ignoring_the_limit, {"max_radius"}),
    "limit ignored by the gradient": (
        differentiating_past_the_limit,
        {"gradcheck at the limit"},
    ),
}


@pytest.mark.parametrize("net", NETS)
def test_nothing_is_caught_without_a_break(net: str) -> None:
    NETS[net]()


@pytest.mark.parametrize("name", BREAKS)
def test_breaks_are_caught(name: str) -> None:
    """By each of the nets that are named; the failure is their own assertion."""
    break_it, catching = BREAKS[name]
    with pytest.MonkeyPatch.context() as patch:
        break_it(patch)
        for net in sorted(catching):
            with pytest.raises((AssertionError, GradcheckError)):
                NETS[net]()
    forget_programs()
    for net in sorted(catching):
        NETS[net]()


def test_a_net_may_be_blind_to_a_break() -> None:
    """Which is why there are several: where a limit is not reached, ignoring it is right."""
    with pytest.MonkeyPatch.context() as patch:
        ignoring_the_limit(patch)
        NETS["accuracy"]()
        NETS["gradcheck"]()
    assert numerics.limit_of(torch.float64, 0.3).target < 0.3
