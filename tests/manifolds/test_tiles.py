"""The compiled loops themselves: their functions against mpmath, and what they refuse."""

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from torch import Tensor

from ternvae.manifolds import programs
from ternvae.manifolds.numerics import limit_of

pytestmark = pytest.mark.skipif(
    not programs.available(), reason="the extension was not compiled: no C compiler with OpenMP"
)

FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "exp": (torch.exp, mp.exp),
    "tanh": (lambda t: t.tanh(), mp.tanh),
    "log1p": (torch.log1p, mp.log1p),
}


def apply(formula: Callable[[Any], Any], values: Tensor) -> Tensor:
    """``formula`` of every number, by a program."""

    def step(m: Any, parameters: Any, read: Any, vector: Any, number: Any) -> tuple[Any, Any]:
        return vector, formula(number)

    numbers = values.reshape(-1, 1).clone()
    vector = torch.zeros(len(values), 1, dtype=torch.float64)
    limit = limit_of(torch.float64, None)
    programs.update(step, 1.0, limit, (), [vector.clone(), vector], [numbers])
    return numbers[:, 0]


def samples(name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    sizes = 10.0 ** rng.uniform(-300, 2, 3000)
    if name == "exp":
        return -np.concatenate([rng.uniform(0, 700, 3000), sizes])
    if name == "tanh":
        return np.concatenate([rng.uniform(-25, 25, 3000), sizes, -sizes])
    return np.concatenate([rng.uniform(-0.999, 5, 3000), sizes, 10.0 ** rng.uniform(0, 300, 500)])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_within_two_units_in_the_last_place(name: str) -> None:
    formula, exactly = FUNCTIONS[name]
    values = samples(name)
    got = apply(formula, torch.from_numpy(values))
    assert len(got) % 64 != 0  # the last tile is not full
    for x, y in zip(values.tolist(), got.tolist(), strict=True):
        want = exactly(mp.mpf(x))
        assert abs(mp.mpf(y) - want) <= 2.0 * mp.mpf(2) ** -52 * abs(want), (x, y)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_what_is_not_a_number(name: str) -> None:
    formula, _ = FUNCTIONS[name]
    nan, inf = float("nan"), float("inf")
    got = apply(formula, torch.tensor([nan, 0.0, inf, -inf], dtype=torch.float64)).tolist()
    assert got[0] != got[0]
    assert got[1] == (1.0 if name == "exp" else 0.0)
    if name == "exp":
        assert got[2] > 1e307 and 0.0 <= got[3] < 1e-306  # cut off at the ends of the range
    elif name == "tanh":
        assert got[2:] == [1.0, -1.0]
    else:
        assert got[2] == inf and got[3] != got[3]


def test_comparisons_and_choices_follow_torch_for_nan() -> None:
    values = torch.tensor([-2.0, 0.5, 3.0, float("nan")], dtype=torch.float64)
    formulas: list[Callable[[Any], Any]] = [
        lambda t: t.clamp_min(1.0),
        lambda t: t.clamp_max(1.0),
        lambda t: t.clamp(-1.0, 1.0),
        lambda t: torch.where(t > 1.0, t, 2.0 * t),
        lambda t: t.abs().copysign(t),
        lambda t: 1.0 - t.square().reciprocal(),
    ]
    for formula in formulas:
        torch.testing.assert_close(
            apply(formula, values), formula(values), rtol=1e-15, atol=0, equal_nan=True
        )


def test_a_formula_that_programs_cannot_express_says_so() -> None:
    with pytest.raises(NotImplementedError, match="cos"):
        apply(torch.cos, torch.zeros(3, dtype=torch.float64))


def test_the_wrong_number_of_matrices_is_refused() -> None:
    from ternvae.manifolds import _tiles  # type: ignore[attr-defined]

    handle = _tiles.prepare(b"", b"", 0, 0, 2, 1)
    with pytest.raises(ValueError, match="expected 2 matrices"):
        _tiles.run(handle, 1, 1, 1, (), (), ())
    with pytest.raises(TypeError, match="seven"):
        _tiles.run(handle)
    with pytest.raises(ValueError, match="PyCapsule"):
        _tiles.run(None, 1, 1, 1, (), (), ())
