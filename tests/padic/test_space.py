from __future__ import annotations

import math
import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ternvae.padic import TernarySpace, digits_of, indices_of, padic_distance, valuation
from tests.padic.oracles import (
    common_prefix,
    distance_by_definition,
    relaxed,
    sequence_by_definition,
    valuation_by_definition,
)

SMALL = range(1, 8)
N9 = 3**9

spaces_and_indices = st.integers(1, 20).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.integers(0, 3**n - 1), min_size=1, max_size=20))
)


# --- the bijection and the levels --------------------------------------------------------------


@pytest.mark.parametrize("n", SMALL)
def test_sequences_and_indices_are_inverse_bijections(n: int) -> None:
    space = TernarySpace(n)
    every = space.sequences()
    assert every.dtype == torch.int64
    assert every.tolist() == [sequence_by_definition(i, n) for i in range(3**n)]
    assert len(set(map(tuple, every.tolist()))) == space.size == 3**n
    assert space.indices(every).tolist() == list(range(3**n))
    assert torch.equal(space.sequences(torch.arange(3**n)), every)


@relaxed
@given(spaces_and_indices)
def test_sequences_and_indices_are_inverse_up_to_twenty_digits(
    case: tuple[int, list[int]],
) -> None:
    n, i = case
    space = TernarySpace(n)
    x = space.sequences(i)
    assert x.tolist() == [sequence_by_definition(k, n) for k in i]
    assert space.indices(x).tolist() == i
    assert torch.equal(indices_of(digits_of(torch.tensor(i), n_digits=n)), torch.tensor(i))


@pytest.mark.parametrize("n", SMALL)
def test_level_sizes_are_the_counts(n: int) -> None:
    space = TernarySpace(n)
    counted = [0] * (n + 1)
    for i in range(3**n):
        counted[int(min(valuation_by_definition(i, 3), n))] += 1
    assert space.level_sizes() == counted
    assert torch.bincount(space.valuation(range(3**n)), minlength=n + 1).tolist() == counted


def test_level_sizes_add_up_at_every_length() -> None:
    for n in range(1, 21):
        sizes = TernarySpace(n).level_sizes()
        assert len(sizes) == n + 1
        assert sum(sizes) == 3**n


@relaxed
@given(spaces_and_indices)
def test_valuation_counts_the_leading_minus_ones(case: tuple[int, list[int]]) -> None:
    n, i = case
    space = TernarySpace(n)
    zero = [-1] * n
    expected = [common_prefix(sequence_by_definition(k, n), zero) for k in i]
    assert space.valuation(i).tolist() == expected


@relaxed
@given(spaces_and_indices)
def test_distance_is_three_to_minus_the_common_prefix(case: tuple[int, list[int]]) -> None:
    n, i = case
    space = TernarySpace(n)
    x = [sequence_by_definition(k, n) for k in i]
    table = space.distance(torch.tensor(i)[:, None], i)
    assert table.dtype == torch.float64
    for a in range(len(i)):
        for b in range(len(i)):
            prefix = common_prefix(x[a], x[b])
            assert table[a, b] == (0.0 if prefix == n else 1 / 3**prefix)
            assert table[a, b] == float(distance_by_definition(i[a], i[b], 3))


@pytest.mark.parametrize("n", range(1, 5))
def test_the_space_is_ultrametric_exhaustively(n: int) -> None:
    i = torch.arange(3**n)
    d = TernarySpace(n).distance(i[:, None], i)
    assert torch.equal(d, d.T)
    assert torch.equal(d == 0, torch.eye(3**n, dtype=torch.bool))
    assert torch.equal(d, padic_distance(i[:, None], i))
    sides = torch.stack(
        [x.expand(3**n, 3**n, 3**n) for x in (d[:, :, None], d[:, None, :], d[None, :, :])]
    )
    sides = sides.sort(dim=0).values
    assert torch.equal(sides[1], sides[2])


def test_the_check_free_functions_read_nothing_back() -> None:
    nowhere = torch.empty((4, 2), dtype=torch.int64, device="meta")
    assert digits_of(nowhere, n_digits=9).shape == (4, 2, 9)
    assert indices_of(nowhere).shape == (4,)


# --- what arguments may be ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "indices",
    [
        [[0, 1], [26, 19682]],
        ((0, 1.0), (26, 19682)),
        np.array([[0, 1], [26, 19682]]),
        np.array([[0, 1], [26, 19682]], dtype=">i4"),
        np.array([[0, 26], [1, 19682]], dtype=np.uint64).T,
        np.array([[0, 1], [26, 19682]], dtype=np.float32),
        np.array([[0, 1], [26, 19682]], dtype=np.longdouble),
        np.array([[0, 1], [26, 19682]], dtype=object),
        [np.array([0, 1]), torch.tensor([26, 19682])],
        [[torch.tensor(0), np.int8(1)], [np.float64(26), 19682]],
        torch.tensor([[0, 1], [26, 19682]], dtype=torch.int32),
        torch.tensor([[0, 1], [26, 19682]], dtype=torch.uint16),
        torch.tensor([[0, 1], [26, 19682]], dtype=torch.uint64),
        torch.tensor([[0.0, 1.0], [26.0, 19682.0]], requires_grad=True),
        torch.tensor([[0, 26], [1, 19682]]).T,
    ],
    ids=lambda x: f"{type(x).__name__}-{getattr(x, 'dtype', '')}",
)
def test_every_kind_of_whole_number_is_accepted(indices: object) -> None:
    space = TernarySpace()
    assert space.valuation(indices).tolist() == [[9, 0], [0, 0]]
    expected = [[sequence_by_definition(i, 9) for i in row] for row in ([0, 1], [26, 19682])]
    assert space.sequences(indices).tolist() == expected


def test_single_numbers_give_tensors_without_a_batch_dimension() -> None:
    space = TernarySpace()
    for i in (18, 18.0, np.int16(18), np.float32(18), torch.tensor(18)):
        assert space.valuation(i).shape == ()
        assert space.valuation(i) == 2
        assert space.sequences(i).shape == (9,)
        assert space.distance(i, 0) == 1 / 9


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda x: torch.tensor(x).float()])
def test_sequences_may_be_any_kind_too(kind: object) -> None:
    rows = [sequence_by_definition(i, 9) for i in (0, 7, 19682)]
    assert TernarySpace().indices(kind(rows)).tolist() == [0, 7, 19682]


def test_empty_inputs_give_empty_results() -> None:
    space = TernarySpace(4)
    assert space.sequences([]).shape == (0, 4)
    assert space.valuation(torch.empty(2, 0)).shape == (2, 0)
    assert space.indices(torch.empty(0, 4)).shape == (0,)


def test_read_only_arrays_are_accepted() -> None:
    i = np.arange(5)
    i.flags.writeable = False
    assert TernarySpace().valuation(i).tolist() == [9, 0, 0, 1, 0]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.float32])
def test_inputs_are_never_mutated_or_aliased(dtype: torch.dtype) -> None:
    space = TernarySpace(5)
    i = torch.arange(3**5, dtype=torch.int64).to(dtype)
    j = i.flip(0)
    x = space.sequences(i).to(dtype)
    kept = [t.clone() for t in (i, j, x)]
    results = [space.sequences(i), space.valuation(i), space.distance(i, j), space.indices(x)]
    for result in results:
        result.fill_(77)
    for tensor, copy in zip((i, j, x), kept, strict=True):
        assert torch.equal(tensor, copy)
    source = np.arange(3**5)
    space.valuation(source).fill_(77)
    assert (source == np.arange(3**5)).all()


# --- refusals: value, place, range, way out ----------------------------------------------------

BAD_INDICES = [
    (-1, "-1", None),
    (N9, "19683", None),
    (10**30, str(10**30), None),
    (1.5, "1.5", None),
    (math.nan, "nan", None),
    (-math.inf, "-inf", None),
    (True, "True", None),
    (1 + 0j, "(1+0j)", None),
    ("7", "'7'", None),
    ([0, 5, -2, -3], "-2", "2"),
    ([0, True], "True", "1"),
    ([0, 1.0, 2.5, math.nan], "2.5", "2"),
    ([[1, 2], [3, 10**30]], str(10**30), "(1, 1)"),
    ([1, None], "None", "1"),
    ([torch.tensor(1), torch.tensor(-4)], "-4", "1"),
    (np.array([[0, 1], [N9, -1]]), "19683", "(1, 0)"),
    (np.array([0.0, math.inf]), "inf", "1"),
    (np.array([0.0, 0.5], dtype=np.longdouble), "0.5", "1"),
    (np.array([True, False]), "True", "0"),
    (np.array([1j]), "1j", "0"),
    (np.array(["a"]), "'a'", "0"),
    (np.array([2**63], dtype=np.uint64), str(2**63), "0"),
    (torch.tensor([[0, 1], [N9, -1]]), "19683", "(1, 0)"),
    (torch.tensor([[0, 1], [2, N9]]).T, "19683", "(1, 1)"),
    (torch.tensor(-1, dtype=torch.int8), "-1", None),
    (torch.tensor([1, 2**64 - 1], dtype=torch.uint64), str(2**64 - 1), "1"),
    (torch.tensor([0.0, 1e30], dtype=torch.float64), "1e+30", "1"),
    (torch.tensor([1.0, 2.0, math.nan]), "nan", "2"),
    (torch.tensor([1.0, 2.5], dtype=torch.bfloat16), "2.5", "1"),
    (torch.tensor([False, True]), "False", "0"),
    (torch.tensor([1j]), "1j", "0"),
    (torch.empty(0, dtype=torch.bool), "torch.bool", None),
]


@pytest.mark.parametrize(("bad", "value", "place"), BAD_INDICES)
@pytest.mark.parametrize("method", ["sequences", "valuation", "distance_i", "distance_j"])
def test_indices_outside_the_space_are_refused_by_name(
    method: str, bad: object, value: str, place: str | None
) -> None:
    space = TernarySpace()
    calls = {
        "sequences": (space.sequences, "indices"),
        "valuation": (space.valuation, "indices"),
        "distance_i": (lambda x: space.distance(x, 0), "i"),
        "distance_j": (lambda x: space.distance(torch.tensor([0]), x), "j"),
    }
    call, name = calls[method]
    where = "" if place is None else f" at position {place}"
    opening = f"{name}: got {value}{where}, expected whole numbers from 0 to 19682; "
    with pytest.raises(ValueError, match=re.escape(opening) + ".+"):
        call(bad)


@pytest.mark.parametrize(
    ("bad", "value", "place"),
    [
        ([0, 1, 2, 5], "2", "2"),
        ([[0, 0, 0, 0], [0, 0.5, 3, 0]], "0.5", "(1, 1)"),
        (np.array([[-1, 1, -2, 0]]), "-2", "(0, 2)"),
        (torch.tensor([0.0, math.nan, 9.0, 0.0]), "nan", "1"),
        (torch.tensor([3, 0, 0, 0], dtype=torch.uint8), "3", "0"),
        (torch.tensor([0, 2**64 - 1, 0, 0], dtype=torch.uint64), str(2**64 - 1), "1"),
        (torch.ones(2, 4, dtype=torch.bool), "True", "(0, 0)"),
        (torch.ones(4, dtype=torch.complex64), "(1+0j)", "0"),
    ],
)
def test_digits_outside_the_alphabet_are_refused_by_name(
    bad: object, value: str, place: str
) -> None:
    opening = f"sequences: got {value} at position {place}, expected whole numbers from -1 to 1; "
    with pytest.raises(ValueError, match=re.escape(opening) + ".+"):
        TernarySpace(4).indices(bad)


@pytest.mark.parametrize("shape", [(), (3,), (5,), (4, 1), (4, 3), (0,), (4, 0)])
def test_sequences_of_another_length_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"sequences: got shape {shape}, expected (...")):
        TernarySpace(4).indices(torch.zeros(shape))


def test_ragged_lists_are_refused() -> None:
    space = TernarySpace(2)
    with pytest.raises(ValueError, match=r"^indices: got \[1, 2\] at position 0"):
        space.sequences([[1, 2], [3]])
    with pytest.raises(ValueError, match=r"^indices: .*different lengths"):
        space.sequences([np.zeros((2, 2)), np.zeros((2, 3))])


def test_refusals_name_the_way_out() -> None:
    space = TernarySpace(4)
    with pytest.raises(ValueError, match=r"TernarySpace\(n_digits=6\) is the smallest"):
        space.sequences(3**5)
    with pytest.raises(ValueError, match="reduce with index % 81"):
        space.sequences(-1)
    with pytest.raises(ValueError, match="subtracting 1"):
        space.indices([0, 1, 2, 0])
    with pytest.raises(ValueError, match="round"):
        space.sequences(0.5)


def test_all_sequences_of_a_large_space_are_refused_at_once() -> None:
    for n in (17, 20):
        with pytest.raises(ValueError, match=rf"^indices: all {3**n} .*n_digits={n} .*batches"):
            TernarySpace(n).sequences()


@pytest.mark.parametrize("n", [0, -1, 21, 9.0, "9", None, True, math.nan, torch.tensor(9)])
def test_n_digits_must_be_an_integer_from_1_to_20(n: object) -> None:
    with pytest.raises(ValueError, match=f"n_digits: got {re.escape(repr(n))}, .*from 1 to 20"):
        TernarySpace(n)


# --- the object --------------------------------------------------------------------------------


def test_a_space_is_a_value() -> None:
    space = TernarySpace()
    assert (space.n_digits, space.size) == (9, 19683)
    assert repr(space) == "TernarySpace(n_digits=9)"
    assert space == TernarySpace(np.int64(9))
    assert space != TernarySpace(8)
    assert space != 9
    assert len({space, TernarySpace(9), TernarySpace(8)}) == 2
    assert pickle.loads(pickle.dumps(space)) == space  # noqa: S301
    with pytest.raises(AttributeError):
        space.n_digits = 3


def test_the_valuation_of_the_space_is_the_capped_one() -> None:
    space = TernarySpace(6)
    i = torch.arange(space.size)
    assert torch.equal(space.valuation(i), valuation(i, cap=6))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_results_live_on_the_device_of_the_input() -> None:
    space = TernarySpace()
    i = torch.arange(space.size)
    k = i.cuda()
    for on_gpu, on_cpu in (
        (space.sequences(k), space.sequences(i)),
        (space.valuation(k), space.valuation(i)),
        (space.indices(space.sequences(k)), i),
        (space.distance(k, k.flip(0)), space.distance(i, i.flip(0))),
        (space.distance([5], k), space.distance([5], i)),
        (padic_distance(k, -(2**62)), padic_distance(i, -(2**62))),
    ):
        assert on_gpu.is_cuda
        assert torch.equal(on_gpu.cpu(), on_cpu)
    with pytest.raises(ValueError, match="19683 at position 1"):
        space.valuation(torch.tensor([1, N9]).cuda())
