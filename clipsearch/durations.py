"""Lengths of time as people write them."""

from __future__ import annotations

import re

LONGEST = 100  # characters; int() refuses thousands of digits
_UNITS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "sec": 1.0, "ms": 0.001}
_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_CLOCK = re.compile(rf"(?:([0-9]+):)?([0-9]+):({_NUMBER})")
_IN_ANY_CASE = re.IGNORECASE | re.ASCII  # else a long s and a dotless i are an s and an i
_PART = re.compile(rf"({_NUMBER})\s*(h|min|ms|m|sec|s)\s*", _IN_ANY_CASE)
_PARTS = re.compile(rf"(?:{_PART.pattern})+", _IN_ANY_CASE)


def parse_seconds(text: str) -> float | None:
    """Seconds from `90`, `1.5s`, `500ms`, `1m30s`, `1:30` or `0:01:30`; None for anything else."""
    if len(text) > LONGEST:
        return None
    if re.fullmatch(_NUMBER, text):
        return float(text)
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, rest = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(rest)
    if _PARTS.fullmatch(text):
        return sum(float(number) * _UNITS[unit.lower()] for number, unit in _PART.findall(text))
    return None
