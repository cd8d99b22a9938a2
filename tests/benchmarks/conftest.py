from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.benchmarks.small import BENCHMARKS


@pytest.fixture(scope="module", autouse=True)
def benchmarks_importable() -> Iterator[None]:
    """As when a file in benchmarks/ is run: its folder comes first on the path."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))
