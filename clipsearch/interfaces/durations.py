"""Lengths of time that options are given."""

from __future__ import annotations

from clipsearch.durations import parse_seconds
from clipsearch.errors import UsageError


def seconds(text: str, option: str) -> float:
    """Seconds as `clipsearch.durations` reads them; `option` is for the error.

    Raises UsageError for anything else.
    """
    found = parse_seconds(text.strip())
    if found is None:
        raise UsageError(
            f"{option} {text!r}: use seconds, or for example 1.5s, 500ms, 1m30s or 1:30"
        )
    return found
