from collections.abc import Callable
from pathlib import Path

import pytest

from ternvae.config import ProfileError

WriteProfile = Callable[[str | bytes], Path]
LinesOf = Callable[..., list[str]]


@pytest.fixture(scope="module")
def write_profile(tmp_path_factory: pytest.TempPathFactory) -> WriteProfile:
    path = tmp_path_factory.mktemp("profiles") / "written.yaml"

    def write(content: str | bytes) -> Path:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def lines_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LinesOf:
    monkeypatch.chdir(tmp_path)

    def lines(call: Callable[..., object], *args: object, **kwargs: object) -> list[str]:
        with pytest.raises(ProfileError) as caught:
            call(*args, **kwargs)
        return str(caught.value).split("\n")

    return lines
