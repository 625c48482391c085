"""What tests share: the development data where it is, small corpora, and one Ray."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


def _shared(path: str) -> Path:
    if not (SHARED / path).is_dir():
        pytest.skip(f"development data {path} is not here")
    return SHARED / path


@pytest.fixture(scope="session")
def camvid() -> Path:
    return _shared("data/camvid")


@pytest.fixture(scope="session")
def taef2() -> Path:
    return _shared("weights/taef2")
