"""Lengths of time as people write them."""

from __future__ import annotations

import pytest

from clipsearch.errors import UsageError
from clipsearch.interfaces.durations import seconds


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2", 2),
        ("2s", 2),
        ("1.5", 1.5),
        (".5s", 0.5),
        ("500ms", 0.5),
        ("2 S", 2),
        ("1m30s", 90),
        ("1h 2m 3.5s", 3723.5),
        ("10min", 600),
        ("1:30", 90),
        ("00:01:22.5", 82.5),
        ("0", 0),
    ],
)
def test_what_is_understood(text, wanted):
    assert seconds(text, "--min") == pytest.approx(wanted)


@pytest.mark.parametrize(
    "text",
    ["", "s", "-1", "2x", "1e3", "nan", "inf", "1:2:3:4", "5s 3", "1,5", "5\u017f", "5m\u0131n"],
)
def test_what_is_refused(text):
    with pytest.raises(UsageError, match="--max"):
        seconds(text, "--max")
