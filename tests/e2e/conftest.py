"""No test leaves a process behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.support import end_all


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    yield
    end_all()
