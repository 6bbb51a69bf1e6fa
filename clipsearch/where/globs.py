"""Patterns of paths, as SQLite's GLOB has them, as regular expressions for other matchers.

`*` is any characters, `?` one, `[a-z]` one of a set, `[^a-z]` one that is not in it; `]` is itself
where it comes first in a set, and so is `-` where it stands between nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

OUTSIDE = "^"  # opens a set of what is not meant
LONGEST_PATTERN = 4096  # characters; SQLite takes 50,000 bytes


@dataclass(frozen=True, slots=True)
class Part:
    """Any characters, one character, or one out of some ranges, or outside of them."""

    kind: Literal["any", "one", "set"]
    ranges: tuple[tuple[str, str], ...] = ()
    outside: bool = False


def standard(pattern: str) -> str | None:
    """The pattern with `[^…]` where it has `[!…]`, as shells write it; None if a set has no end,
    where SQLite would find nothing.
    """
    pieces, at = "", 0
    while at < len(pattern):
        if pattern[at] != "[":
            pieces, at = pieces + pattern[at], at + 1
            continue
        inside = pattern[at + 1 :]
        inside = OUTSIDE + inside[1:] if inside.startswith("!") else inside
        found = _set(inside, 0)
        if found is None:
            return None
        pieces, at = pieces + "[" + inside[: found[1]], at + 1 + found[1]
    return pieces


@lru_cache(maxsize=256)
def matcher(pattern: str) -> re.Pattern[str]:
    """Matches whole texts as the pattern does, in time linear in the text for each `*`."""
    parts = _parts(pattern)
    if parts is None:
        return re.compile(r"(?!)")
    pieces: list[list[str]] = [[]]
    for part in parts:
        if part.kind == "any":
            pieces.append([])
        else:
            pieces[-1].append(_one(part))
    first, *others = ["".join(piece) for piece in pieces]
    if not others:
        return re.compile(first, re.DOTALL)
    # What is found first for a piece leaves most for the next: nothing need be tried again.
    *middle, last = others
    text = first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + ".*" + last
    return re.compile(text, re.DOTALL)


def posix(pattern: str) -> str:
    """The same as a regular expression of PostgreSQL."""
    parts = _parts(pattern)
    if parts is None:
        return "(?!)"
    return "^" + "".join(".*" if part.kind == "any" else _one(part) for part in parts) + "$"


def _one(part: Part) -> str:
    """For one character. By numbers, so that nothing has a meaning of its own."""
    if part.kind == "one":
        return "."
    if not part.ranges:
        return "." if part.outside else "(?!)"
    inside = "".join(f"{_code(low)}-{_code(high)}" for low, high in part.ranges)
    if not part.outside and len(part.ranges) == 1 and part.ranges[0][0] == part.ranges[0][1]:
        return _code(part.ranges[0][0])
    return f"[{'^' if part.outside else ''}{inside}]"


def _code(character: str) -> str:
    return f"\\U{ord(character):08X}"


@lru_cache(maxsize=256)
def _parts(pattern: str) -> tuple[Part, ...] | None:
    """The pattern in parts; None if a set has no end."""
    parts: list[Part] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            if not parts or parts[-1].kind != "any":
                parts.append(Part("any"))
        elif character == "?":
            parts.append(Part("one"))
        elif character == "[":
            found = _set(pattern, at)
            if found is None:
                return None
            part, at = found
            parts.append(part)
        else:
            parts.append(Part("set", ((character, character),)))
    return tuple(parts)


def _set(pattern: str, at: int) -> tuple[Part, int] | None:
    """The set whose bracket opens before `at`, and where it is over."""
    outside = pattern[at : at + 1] == OUTSIDE
    at += outside
    ranges: list[tuple[str, str]] = []
    before = ""  # a character that a range may start from
    if pattern[at : at + 1] == "]":
        ranges.append(("]", "]"))
        at += 1
    while at < len(pattern) and pattern[at] != "]":
        character, after = pattern[at], pattern[at + 1 : at + 2]
        if character == "-" and before and after not in ("", "]"):
            ranges.append((before, after))  # and what stands before it, also if it is empty
            before, at = "", at + 2
        else:
            ranges.append((character, character))
            before, at = character, at + 1
    if at == len(pattern):
        return None
    kept = tuple((low, high) for low, high in ranges if low <= high)
    return Part("set", kept, outside), at + 1
