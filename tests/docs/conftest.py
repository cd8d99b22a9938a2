"""A run for the pages that take one for granted."""

from pathlib import Path

import pytest

from ternvae.config import load_profile
from ternvae.trainer import Trainer


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of the default profile on 243 sequences."""
    folder = tmp_path_factory.mktemp("pages") / "run"
    settings = {
        "space.n_digits": 5,
        "training.batch_size": 120,
        "training.epochs": 2,
        "monitoring.report": False,
    }
    Trainer(load_profile(overrides=settings), folder, "cpu").fit()
    return folder
