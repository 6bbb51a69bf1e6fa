"""Sizes, durations, dates, resolutions and numbers as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from clipsearch.durations import parse_seconds

Number = int | float

LONGEST_NUMBER = 30  # digits; int() refuses thousands of them
NANOSECONDS = 1_000_000_000

_NUMBER = re.compile(r"-?(?:\d+(?:\.\d*)?|\.\d+)")
_IN_ANY_CASE = re.IGNORECASE | re.ASCII  # else a long s and a dotless i are an s and an i
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([kmgt])(i?))?(b?)", _IN_ANY_CASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_RESOLUTION = re.compile(r"(\d{1,9})\s*[x\u00d7]\s*(\d{1,9})", re.IGNORECASE)
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?"
    r"\s*(Z|[+-]\d\d:?\d\d)?)?)?)?"
)


def number(text: str) -> Number | None:
    """A plain number; None for anything else."""
    if not _NUMBER.fullmatch(text) or len(text) > LONGEST_NUMBER:
        return None
    return _plain(float(text)) if "." in text else int(text)


def size(text: str) -> Number | None:
    """Bytes: `1000`, `10MB` (10 million), `1.5GiB` (2^30); None for anything else."""
    found = _SIZE.fullmatch(text)
    if not found or len(text) > LONGEST_NUMBER:
        return None
    count, prefix, binary, _ = found.groups()
    factor = (1024 if binary else 1000) ** _POWERS[prefix.lower()] if prefix else 1
    return _plain(float(count) * factor)


def seconds(text: str) -> Number | None:
    """Seconds: `90`, `1.5s`, `500ms`, `2m`, `1h30m`, `1:30`, `0:01:30`; None for anything else."""
    found = None if len(text) > LONGEST_NUMBER else parse_seconds(text)
    return None if found is None else _plain(found)


def resolution(text: str) -> tuple[int, int] | None:
    """Width and height; None for anything else."""
    found = _RESOLUTION.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else None


def date(text: str) -> tuple[int, int] | None:
    """When the year, month, day, minute or second that a date names begins, and when it is over: in
    nanoseconds since 1970. Of the local time zone if it names none. None for anything else.
    """
    found = _DATE.fullmatch(text)
    if not found:
        return None
    try:
        first, end = _interval(found)
        return _nanoseconds(first), _nanoseconds(end)
    except (ValueError, OverflowError):  # there is no such day, or clock
        return None


def _interval(found: re.Match[str]) -> tuple[datetime, datetime]:
    *parts, fraction, zone = found.groups()
    given = [int(part) for part in parts if part is not None]
    year, month, day, hour, minute, second = [*given, *(0, 1, 1, 0, 0, 0)[len(given) :]]
    first = datetime(year, month, day, hour, minute, second)
    if len(given) == 1:
        end = first.replace(year=year + 1)
    elif len(given) == 2:
        end = first.replace(year=year + month // 12, month=month % 12 + 1)
    else:
        lasts = {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}
        end = first + lasts[len(given)]
    if fraction:
        first = first.replace(microsecond=int(fraction.ljust(6, "0")))
        end = first + timedelta(microseconds=1)
    if zone:
        offset = datetime.strptime(zone, "%z").tzinfo
        first, end = first.replace(tzinfo=offset), end.replace(tzinfo=offset)
    return first, end


def _nanoseconds(when: datetime) -> int:
    whole = when.replace(microsecond=0).astimezone(UTC)
    seconds_since = (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return seconds_since * NANOSECONDS + when.microsecond * 1000


def _plain(value: float) -> Number:
    """A whole number as an int."""
    return int(value) if value.is_integer() else value
