"""Lengths of time as people write them."""

from __future__ import annotations

import re

from clipsearch.errors import UsageError

_UNITS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "sec": 1.0, "ms": 0.001}
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_CLOCK = re.compile(rf"(?:(\d+):)?(\d+):({_NUMBER})")
_IN_ANY_CASE = re.IGNORECASE | re.ASCII  # else a long s and a dotless i are an s and an i
_PART = re.compile(rf"({_NUMBER})\s*(h|min|ms|m|sec|s)", _IN_ANY_CASE)


def seconds(text: str, option: str) -> float:
    """Seconds from `90`, `1.5s`, `500ms`, `1m30s`, `1:30` or `0:01:30`; `option` is for the error.

    Raises UsageError for anything else.
    """
    given = text.strip()
    if re.fullmatch(_NUMBER, given):
        return float(given)
    if clock := _CLOCK.fullmatch(given):
        hours, minutes, rest = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(rest)
    if re.fullmatch(rf"(?:{_PART.pattern}\s*)+", given, _IN_ANY_CASE):
        return sum(float(number) * _UNITS[unit.lower()] for number, unit in _PART.findall(given))
    raise UsageError(f"{option} {text!r}: use seconds, or for example 1.5s, 500ms, 1m30s or 1:30")
