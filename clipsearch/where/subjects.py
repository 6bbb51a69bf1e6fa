"""What a field makes of the values that it is compared with: conditions in its own unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from clipsearch.types import MEDIA_KINDS
from clipsearch.where import literals
from clipsearch.where.conditions import (
    ABSOLUTE,
    FIELDS,
    SEVERAL,
    Condition,
    Kind,
    Not,
    Operator,
    Test,
    all_of,
    any_of,
)
from clipsearch.where.globs import LONGEST_PATTERN, standard

T = TypeVar("T")

PIXELS = 1_000_000  # in a megapixel
ALWAYS_KNOWN = ("path", "name", "kind")
EXAMPLES: dict[Kind, str] = {
    "text": "text in quotes",
    "size": "bytes, or for example 10MB or 1.5GiB",
    "duration": "seconds, or for example 90s, 2m or 1:30",
    "date": "for example 2024, 2024-05, 2024-05-31 or '2024-05-31 14:00'",
    "number": "a number",
    "pixels": "millions of pixels, for example 12",
    "resolution": "for example 1920x1080",
}


class UnfitError(ValueError):
    """A value, or an operator, that a field cannot be compared with; the message says why."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written: its text, and whether it stood in quotes."""

    text: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Subject:
    """The left side of a test: a field of files, or (kind None) a column that vectors came with."""

    name: str
    kind: Kind | None

    @classmethod
    def of(cls, name: str, *, quoted: bool) -> Subject:
        """The field of that name, in any case; a column if there is none, or in quotes."""
        field = None if quoted else FIELDS.get(name.lower())
        return cls(name, None) if field is None else cls(name.lower(), field.kind)

    def missing(self) -> Condition:
        """Holds where it is not known."""
        if self.kind == "resolution":
            return _some(any_of(Test("width", "null"), Test("height", "null")))
        return Test(self.name, "null", column=self.kind is None)

    def negated(self, condition: Condition) -> Condition:
        """Holds where it is known and `condition` does not; for tags, where none fits."""
        if self.name in (*SEVERAL, *ALWAYS_KNOWN) and self.kind is not None:
            return Not(condition)
        return _some(all_of(Not(self.missing()), Not(condition)))

    def compared(self, operator: Operator, value: Given) -> Condition:
        """With one value by = < <= > or >=. Raises UnfitError."""
        if self.kind is None:
            return _column(self.name, operator, value)
        if self.kind == "text":
            if operator != "=":
                raise UnfitError(f"{self.name} has no order: use = != in glob or is null")
            return Test(self._place(value.text), "=", self._text(value))
        if self.kind == "resolution":
            return _resolution(operator, self._read(value, literals.resolution(value.text)))
        if self.kind == "date":
            return _date(operator, self._read(value, literals.date(value.text)))
        read = {"size": literals.size, "duration": literals.seconds}.get(self.kind, literals.number)
        found = self._read(value, read(value.text))
        return Test(self.name, operator, found * PIXELS if self.kind == "pixels" else found)

    def one_of(self, values: Sequence[Given]) -> Condition:
        """Equal to one of some. Raises UnfitError."""
        texts = all(value.quoted for value in values)
        if self.kind == "text" or (self.kind is None and texts):
            places: dict[str, list[str]] = {}
            for value in values:
                text = self._text(value) if self.kind else value.text
                places.setdefault(self._place(value.text), []).append(text)
            column = self.kind is None
            tests = [Test(n, "in", tuple(dict.fromkeys(t)), column) for n, t in places.items()]
            return _some(any_of(*tests))
        return _some(any_of(*(self.compared("=", value) for value in values)))

    def like(self, pattern: Given) -> Condition:
        """As a pattern of characters. Raises UnfitError."""
        if not pattern.quoted:
            raise UnfitError(f"put patterns in quotes: {self.name} glob '{pattern.text}'")
        if self.kind not in ("text", None):
            raise UnfitError(f"{self.name} is no text: compare it by = < <= > >=")
        length = len(pattern.text)
        if length > LONGEST_PATTERN:
            raise UnfitError(f"a pattern of {length} characters: use up to {LONGEST_PATTERN}")
        text = standard(pattern.text)
        if text is None:
            raise UnfitError("a set that opens with [ needs a ]; for the character itself use [[]")
        return Test(self._place(text), "glob", text, column=self.kind is None)

    def _place(self, text: str) -> str:
        return ABSOLUTE if self.name == "path" and self.kind and text.startswith("/") else self.name

    def _text(self, value: Given) -> str:
        if not value.quoted:
            raise UnfitError(f"put text in quotes: {self.name} = '{value.text}'")
        if self.name == "kind" and value.text not in MEDIA_KINDS:
            raise UnfitError(f"kind {value.text!r}: use one of {', '.join(MEDIA_KINDS)}")
        return value.text

    def _read(self, value: Given, found: T | None) -> T:
        if found is None:
            assert self.kind is not None, "columns take any value"
            raise UnfitError(f"{self.name} {value.text!r}: use {EXAMPLES[self.kind]}")
        return found


def _resolution(operator: Operator, size: tuple[int, int]) -> Condition:
    width, height = size
    both: Operator = "=" if operator == "=" else "<=" if operator.startswith("<") else ">="
    condition = all_of(Test("width", both, width), Test("height", both, height))
    if operator in ("<", ">"):
        same = all_of(Test("width", "=", width), Test("height", "=", height))
        condition = all_of(condition, Not(_some(same)))
    return _some(condition)


def _date(operator: Operator, named: tuple[int, int]) -> Condition:
    first, end = named
    tests: dict[Operator, tuple[Test, ...]] = {
        "=": (Test("date", ">=", first), Test("date", "<", end)),
        "<": (Test("date", "<", first),),
        "<=": (Test("date", "<", end),),
        ">": (Test("date", ">=", end),),
        ">=": (Test("date", ">=", first),),
    }
    return _some(all_of(*tests[operator]))


def _column(name: str, operator: Operator, value: Given) -> Condition:
    """By the type of the value: text, a number (with a unit, seconds or bytes), true or false."""
    if value.quoted:
        return Test(name, operator, value.text, column=True)
    if value.text in ("true", "false"):
        if operator != "=":
            raise UnfitError("true and false have no order: use = or !=")
        return Test(name, "true" if value.text == "true" else "false", column=True)
    for read in (literals.number, literals.seconds, literals.size):
        found = read(value.text)
        if found is not None:
            return Test(name, operator, found, column=True)
    raise UnfitError(f"{value.text!r} is no number: put text in quotes, '{value.text}'")


def _some(condition: Condition | None) -> Condition:
    assert condition is not None, "there is at least one part"
    return condition
