from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from ternvae.padic import padic_distance, valuation
from tests.padic.oracles import distance_by_definition, relaxed, valuation_by_definition

PRIMES = (2, 3, 5, 7, 11, 97, 2**31 - 1)
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

primes = st.sampled_from(PRIMES)
# Plain random integers are seldom divisible by anything: multiply a power in.
whole = st.builds(
    lambda unit, p, k: unit * p**k, st.integers(-(10**30), 10**30), primes, st.integers(0, 60)
)
int64 = st.one_of(
    st.integers(INT64_MIN, INT64_MAX),
    whole.filter(lambda n: INT64_MIN <= n <= INT64_MAX),
    st.sampled_from([INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX, 3**39, -(3**39), 2**62]),
)


# --- laws of a valuation and of an ultrametric, on integers of any size ------------------------


@relaxed
@given(whole, primes)
@example(0, 3)
@example(3**2000 * 2, 3)
def test_valuation_is_the_largest_power_that_divides(n: int, p: int) -> None:
    assert valuation(n, p) == valuation_by_definition(n, p)
    assert valuation(-n, p) == valuation(n, p)


@relaxed
@given(whole, whole, primes)
def test_valuation_of_a_product_is_the_sum(a: int, b: int, p: int) -> None:
    assert valuation(a * b, p) == valuation(a, p) + valuation(b, p)


@relaxed
@given(whole, whole, primes)
def test_valuation_of_a_sum_is_at_least_the_smaller_one(a: int, b: int, p: int) -> None:
    va, vb, total = valuation(a, p), valuation(b, p), valuation(a + b, p)
    assert total >= min(va, vb)
    if va != vb:
        assert total == min(va, vb)


@relaxed
@given(whole, whole, whole, primes)
@example(0, 0, 1, 3)
@example(0, 1, 2, 2)
def test_every_triangle_is_isosceles_with_a_short_base(a: int, b: int, c: int, p: int) -> None:
    short, middle, long = sorted(
        [padic_distance(a, b, p), padic_distance(b, c, p), padic_distance(a, c, p)]
    )
    assert middle == long
    assert short <= long


@relaxed
@given(whole, whole, primes)
@example(0, 3**477, 3)  # float(3) ** -477 is off by one unit
def test_distance_is_a_metric_and_the_rounded_fraction(i: int, j: int, p: int) -> None:
    d = padic_distance(i, j, p)
    assert isinstance(d, float)
    assert d == padic_distance(j, i, p) == float(distance_by_definition(i, j, p))
    assert padic_distance(i, i, p) == 0.0


@relaxed
@given(whole, primes, st.integers(0, 50))
def test_cap_is_the_valuation_of_the_quotient_ring(n: int, p: int, cap: int) -> None:
    expected = max(k for k in range(cap + 1) if n % p**k == 0)
    assert valuation(n, p, cap) == expected


def test_a_distance_too_small_for_float64_rounds_to_zero() -> None:
    assert padic_distance(0, 3**600) == 1 / 3**600 > 0.0
    assert padic_distance(0, 3**700) == 0.0


def test_powers_far_beyond_machine_words_are_fast() -> None:
    assert valuation(7 * 3**50_000) == 50_000


@pytest.mark.parametrize(
    ("n", "expected"),
    [(0, math.inf), (1, 0), (-1, 0), (3, 1), (54, 3), (-81, 4), (10, 0), (19683, 9)],
)
def test_known_values(n: int, expected: float) -> None:
    assert valuation(n) == expected
    assert valuation(np.int64(n)) == expected


# --- tensors against integers ------------------------------------------------------------------


@relaxed
@given(st.lists(int64, min_size=1, max_size=20), primes, st.integers(0, 70))
@example([INT64_MIN, INT64_MAX, 0, 2**62], 2, 64)
@example([3**39, -(3**39), 2 * 3**38, 0], 3, 39)
@example([3**39, 0], 3, 0)
@example([2**61 - 1, 1 - 2**61, 0, 1], 2**61 - 1, 5)
@example([3_037_000_493**2, -(3_037_000_493**2), 3_037_000_493], 3_037_000_493, 5)
def test_tensor_and_integer_forms_agree(ns: list[int], p: int, cap: int) -> None:
    n = torch.tensor(ns, dtype=torch.int64)
    before = n.clone()
    v = valuation(n, p, cap)
    assert v.dtype == torch.int64
    assert v.tolist() == [min(valuation_by_definition(k, p), cap) for k in ns]
    assert torch.equal(n, before)


@pytest.mark.parametrize("p", [2, 3, 251])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.uint16])
def test_small_dtypes_exhaustively(dtype: torch.dtype, p: int) -> None:
    info = torch.iinfo(dtype)
    ns = range(info.min, info.max + 1)
    v = valuation(torch.tensor(ns, dtype=torch.int64).to(dtype), p, cap=20)
    assert v.dtype == torch.int64
    assert v.tolist() == [min(valuation_by_definition(n, p), 20) for n in ns]


@pytest.mark.parametrize("p", [2, 3, 5, 2**63 - 25])
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint32, torch.int64, torch.uint64])
def test_wide_dtypes_at_their_ends(dtype: torch.dtype, p: int) -> None:
    info = torch.iinfo(dtype)
    powers = [m * p**k for k in range(65) for m in (-2, -1, 1, 2, p - 1)]
    near = [info.min, info.min + 1, info.max - 1, info.max, -1, 0, 1]
    ns = [n for n in powers + near if info.min <= n <= info.max]
    for cap in (0, 1, 2, 9, 64, INT64_MAX):
        v = valuation(torch.tensor(ns, dtype=dtype), p, cap)
        assert v.tolist() == [min(valuation_by_definition(n, p), cap) for n in ns]


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (2, 0, 3)])
def test_shapes_are_kept(shape: tuple[int, ...]) -> None:
    n = torch.full(shape, 18)
    assert valuation(n, cap=9).shape == shape
    assert padic_distance(n, 0).shape == shape


@relaxed
@given(st.lists(st.tuples(int64, int64), min_size=1, max_size=20), primes)
@example([(INT64_MIN, INT64_MAX), (INT64_MAX, INT64_MIN), (INT64_MIN, 0), (0, INT64_MIN)], 2)
@example([(INT64_MAX, INT64_MAX - 3**39), (3**39, -(3**39)), (INT64_MIN, INT64_MIN)], 3)
@example([(INT64_MAX, INT64_MAX - 3**40), (INT64_MAX - 3**40, INT64_MAX)], 3)
def test_tensor_distance_is_exact_where_the_difference_leaves_int64(
    pairs: list[tuple[int, int]], p: int
) -> None:
    i, j = (torch.tensor(side, dtype=torch.int64) for side in zip(*pairs, strict=True))
    d = padic_distance(i, j, p)
    assert d.dtype == torch.float64
    expected = [float(distance_by_definition(a, b, p)) for a, b in pairs]
    for got, want in zip(d.tolist(), expected, strict=True):
        # Correctly rounded while p^v is a float64, else twice rounded.
        assert got == want if want >= 2.0**-53 else math.isclose(got, want, rel_tol=2.3e-16)
    assert torch.equal(d, padic_distance(j, i, p))


def test_tensor_distance_at_three_to_the_forty() -> None:
    i, j = torch.tensor([INT64_MAX]), INT64_MAX - 3**40
    assert padic_distance(i, j).item() == pytest.approx(float(Fraction(1, 3**40)), rel=3e-16)


def test_distance_broadcasts_and_mixes_integers_with_tensors() -> None:
    i, j = torch.arange(27)[:, None], torch.arange(27, dtype=torch.uint8)
    table = padic_distance(i, j)
    assert table.tolist() == [[padic_distance(a, b) for b in range(27)] for a in range(27)]
    assert torch.equal(padic_distance(5, j), table[5])
    assert torch.equal(padic_distance(j, np.int32(5)), table[5])


@relaxed
@given(st.integers(1, 20))
def test_narrow_dtypes_do_not_wrap_in_a_difference(k: int) -> None:
    i, j = torch.tensor([100, 127], dtype=torch.int8), torch.tensor([-100 - k], dtype=torch.int8)
    assert padic_distance(i, j).tolist() == [padic_distance(a, -100 - k) for a in (100, 127)]


def test_nothing_is_read_back_to_the_host() -> None:
    nowhere = torch.empty(3, dtype=torch.int64, device="meta")
    with pytest.raises(RuntimeError):
        bool(nowhere.any())  # what a host read does on this device
    assert valuation(nowhere, cap=9).device.type == "meta"
    assert valuation(nowhere.to(torch.uint8), cap=9).dtype == torch.int64
    assert padic_distance(nowhere, nowhere[:1]).dtype == torch.float64


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (2.5, "2.5"),
        (9.0, "9.0"),
        (True, "True"),
        (np.bool_(False), "False"),
        (np.float64(3.0), "3.0"),
        ("9", "'9'"),
        (None, "None"),
        (3 + 0j, "3"),
        (np.array([9, 3]), "ndarray"),
        ([9], "list"),
    ],
)
def test_what_is_no_integer_is_a_type_error(n: object, words: str) -> None:
    with pytest.raises(TypeError, match=r"^n: ") as caught:
        valuation(n)
    assert words in str(caught.value)
    for pair in ((n, 1), (1, n), (torch.tensor(1), n)):
        with pytest.raises(TypeError, match=r"^[ij]: ") as caught:
            padic_distance(*pair)
        assert words in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.bfloat16, torch.complex64])
def test_tensors_that_are_not_integers_are_a_type_error(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"n: .*{dtype}"):
        valuation(torch.ones(2, dtype=dtype), cap=9)
    with pytest.raises(TypeError, match=f"j: .*{dtype}"):
        padic_distance(1, torch.ones(2, dtype=dtype))


@pytest.mark.parametrize("p", [-3, 0, 1, 4, 9, 1001, 561, 3_215_031_751, 2**31, (2**31 - 1) ** 2])
def test_p_must_be_prime(p: int) -> None:
    for call in (
        lambda: valuation(9, p),
        lambda: valuation(torch.tensor([9]), p, 3),
        lambda: padic_distance(1, 2, p),
        lambda: padic_distance(torch.tensor([1]), 2, p),
    ):
        with pytest.raises(ValueError, match=rf"^p: .*prime.*{p}"):
            call()


def test_every_small_p_is_judged_rightly() -> None:
    composite = {a * b for a in range(2, 32) for b in range(2, 501)}
    for p in range(2, 1000):
        if p in composite:
            with pytest.raises(ValueError, match="prime"):
                valuation(1, p)
        else:
            assert valuation(p**3, p) == 3


def test_p_must_be_an_integer_of_64_bits() -> None:
    with pytest.raises(TypeError, match=r"^p: .*3\.0"):
        valuation(9, 3.0)
    with pytest.raises(TypeError, match=r"^p: .*True"):
        valuation(9, True)
    with pytest.raises(ValueError, match=r"^p: .*2\*\*63"):
        valuation(9, 2**89 - 1)


def test_cap_must_be_a_natural_number() -> None:
    for n in (9, 0, torch.tensor([9])):
        with pytest.raises(ValueError, match=r"^cap: .*-1"):
            valuation(n, cap=-1)
        with pytest.raises(TypeError, match=r"^cap: .*2\.0"):
            valuation(n, cap=2.0)
        with pytest.raises(TypeError, match=r"^cap: .*True"):
            valuation(n, cap=True)
    with pytest.raises(ValueError, match=rf"^cap: {2**63}"):
        valuation(torch.tensor([9]), cap=2**63)


def test_a_tensor_without_cap_is_told_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"^cap: .*pass cap=k"):
        valuation(torch.tensor([9]))


def test_integers_that_cannot_meet_a_tensor_are_refused() -> None:
    for value in (2**63, -(2**63) - 1):
        with pytest.raises(ValueError, match=rf"^j: {value}"):
            padic_distance(torch.tensor([1]), value)
    with pytest.raises(ValueError, match=r"^i: .*uint64"):
        padic_distance(torch.tensor([1], dtype=torch.uint64), 1)
