"""Conditions as values, and the fields that they ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from clipsearch.errors import UsageError

Kind = Literal["text", "size", "date", "duration", "number", "pixels", "resolution"]
Operator = Literal["=", "<", "<=", ">", ">=", "in", "glob", "null", "true", "false"]
Value = str | int | float | tuple[str, ...] | None

MOST_TESTS = 200  # SQLite nests expressions 1,000 deep, and a test may become four
MOST_VALUES = 2000  # PostgreSQL and SQLite take 30,000


@dataclass(frozen=True, slots=True)
class Field:
    """Something that is known of files: what its values are, and what it says."""

    kind: Kind
    meaning: str


FIELDS: dict[str, Field] = {
    "path": Field("text", "below its indexed folder; if the text starts with /: from the root on"),
    "name": Field("text", "the last part of the path"),
    "kind": Field("text", "image, video, audio or subtitles"),
    "size": Field("size", "of the file in bytes, or as 10MB, 1.5GiB"),
    "date": Field("date", "of the last change, as 2024, 2024-05, 2024-05-31 or '2024-05-31 14:00'"),
    "duration": Field("duration", "in seconds, or as 1:30, 90s, 2m, 1h; stills have none"),
    "width": Field("number", "of the upright picture in pixels"),
    "height": Field("number", "of the upright picture in pixels"),
    "resolution": Field("resolution", "as 1920x1080; >= and <= compare width and height both"),
    "megapixels": Field("pixels", "width times height, in millions"),
    "tag": Field("text", "any of the file's tags; != and not in: none of them"),
}
ABSOLUTE = "absolute path"  # what a path that starts with / is compared with
SEVERAL = ("tag",)  # fields with any number of values


class Condition:
    """What is asked of a file; hashable, and equal to others that ask the same."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class All(Condition):
    """Every part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf(Condition):
    """At least one part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """The part does not hold."""

    part: Condition


@dataclass(frozen=True, slots=True)
class Test(Condition):
    """One field compared with one value, and false where the field is not known.

    Sizes are in bytes, dates in nanoseconds since 1970, durations in seconds, `megapixels` in
    pixels. "in" has a tuple of texts, "null" no value. column: of those added with vectors, whose
    values are of any type and are compared with those of the same one; only they can be "true" or
    "false". Raises UsageError for text that no database can hold.
    """

    __test__ = False  # pytest would take it for one of its own

    field: str
    operator: Operator
    value: Value = None
    column: bool = False

    def __post_init__(self) -> None:
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        for text in (self.field, *(value for value in values if isinstance(value, str))):
            if "\0" in text:
                raise UsageError(f"{text!r} in a condition has a zero byte")
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UsageError(f"{text!r} in a condition is not valid UTF-8") from None


def all_of(*conditions: Condition | None) -> Condition | None:
    """One that holds where all of these do; None asks nothing."""
    return _joined(All, conditions)


def any_of(*conditions: Condition | None) -> Condition | None:
    """One that holds where at least one of these does; None is left out."""
    return _joined(AnyOf, conditions)


def _joined(how: type[All | AnyOf], conditions: tuple[Condition | None, ...]) -> Condition | None:
    parts: list[Condition] = []
    for condition in conditions:
        if isinstance(condition, how):
            parts += condition.parts
        elif condition is not None:
            parts.append(condition)
    parts = list(dict.fromkeys(parts))
    if len(parts) <= 1:
        return parts[0] if parts else None
    joined = how(tuple(parts))
    check_size(joined)
    return joined


def tests_of(condition: Condition) -> Iterator[Test]:
    """Every comparison in it."""
    if isinstance(condition, Test):
        yield condition
    elif isinstance(condition, Not):
        yield from tests_of(condition.part)
    elif isinstance(condition, All | AnyOf):
        for part in condition.parts:
            yield from tests_of(part)


def fields_of(condition: Condition) -> set[str]:
    """The names of `FIELDS` that it asks for."""
    return {"path" if t.field == ABSOLUTE else t.field for t in tests_of(condition) if not t.column}


def columns_of(condition: Condition) -> set[str]:
    """The columns, added with vectors, that it asks for."""
    return {test.field for test in tests_of(condition) if test.column}


def depth_of(condition: Condition) -> int:
    """How many parts of it stand inside each other."""
    if isinstance(condition, Not):
        return 1 + depth_of(condition.part)
    if isinstance(condition, All | AnyOf):
        return 1 + max(map(depth_of, condition.parts), default=0)
    return 0


def check_size(condition: Condition) -> None:
    """Raise UsageError for a condition that a database may refuse."""
    tests = list(tests_of(condition))
    values = sum(len(test.value) for test in tests if isinstance(test.value, tuple))
    if len(tests) > MOST_TESTS or values > MOST_VALUES:
        raise UsageError(
            f"a condition of {len(tests)} tests and {values} values in lists: use up to "
            f"{MOST_TESTS} and {MOST_VALUES}"
        )
