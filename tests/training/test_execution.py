"""With what a run is executed, and what of it is another than before."""

from __future__ import annotations

import json

import pytest
import torch

from ternvae import __version__
from ternvae.training.execution import execution, execution_differences

CPU = torch.device("cpu")


def test_it_is_said_in_plain_strings() -> None:
    found = execution(CPU)
    assert json.loads(json.dumps(found)) == found
    assert all(type(value) is str and value for value in found.values())
    assert found["device"] == "cpu"
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"].startswith(
        torch.__version__.partition("+")[0]
    )
    assert found["ternvae"] == __version__
    assert {"threads", "python", "numpy", "geoopt", "machine"} <= found.keys()


def test_the_number_of_threads_is_that_of_this_moment() -> None:
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert execution(CPU)["threads"] == str(count)
    finally:
        torch.set_num_threads(threads)


def test_how_products_are_taken_is_that_of_this_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert execution(CPU)["float32 products"] == "highest"
    assert execution_differences({}, execution(CPU)) != []
    before = {k: v for k, v in execution(CPU).items() if k != "float32 products"}
    assert execution_differences(before, execution(CPU)) == []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    asked = {"medium": ("bf16", "tf32"), "high": ("tf32", "tf32"), "highest": ("highest",) * 2}
    for precision, told in asked.items():
        torch.set_float32_matmul_precision(precision)
        found = tuple(execution(torch.device(d))["float32 products"] for d in ("cpu", "cuda"))
        assert found == told


def test_two_processes_alike_do_not_differ() -> None:
    assert execution_differences(execution(CPU), execution(CPU)) == []


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert execution_differences(None, execution(CPU)) == []


@pytest.mark.parametrize("name", execution(CPU))
def test_every_difference_is_said_with_both_values(name: str) -> None:
    now = execution(CPU)
    then = now | {name: "other"}
    assert execution_differences(then, now) == [f"{name} other then, {now[name]} now"]


def test_what_only_one_of_them_knows_is_a_difference() -> None:
    assert execution_differences({"a": "1", "b": "2"}, {"b": "2", "c": "3"}) == [
        "a 1 then, unknown now",
        "c unknown then, 3 now",
    ]


def test_a_package_that_is_missing_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ternvae.training.execution._PACKAGES", ("no-such-package",))
    assert execution(CPU)["no-such-package"] == "not installed"
