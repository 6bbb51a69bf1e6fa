"""Whether a condition holds, in Python: for rows that the database knows nothing of."""

from __future__ import annotations

import operator as operators
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from clipsearch.where import literals
from clipsearch.where.conditions import (
    ABSOLUTE,
    SEVERAL,
    All,
    AnyOf,
    Condition,
    Not,
    Test,
)
from clipsearch.where.globs import matcher

if TYPE_CHECKING:
    from clipsearch.types import StoredMedia

Values = Mapping[str, Any]
Holds = Callable[[Values], bool]

_ORDER: dict[str, Any] = {  # of two values of one type
    "=": operators.eq,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


def matches(condition: Condition, values: Values) -> bool:
    """Whether a condition holds for some values, by the names of `FIELDS` and of columns.

    Dates are nanoseconds since 1970, `tag` a sequence of texts, and what is None or not there is
    not known; `media_values` and `row_values` make such values.
    """
    return compiled(condition)(values)


@lru_cache(maxsize=64)
def compiled(condition: Condition) -> Holds:
    """`matches` of one condition, for many values."""
    if isinstance(condition, All):
        parts = [compiled(part) for part in condition.parts]
        return lambda values: all(part(values) for part in parts)
    if isinstance(condition, AnyOf):
        choices = [compiled(part) for part in condition.parts]
        return lambda values: any(choice(values) for choice in choices)
    if isinstance(condition, Not):
        part = compiled(condition.part)
        return lambda values: not part(values)
    assert isinstance(condition, Test), "there are no other conditions"
    return _test(condition)


def media_values(media: StoredMedia, tags: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a condition is compared with, of a file."""
    info = media.info
    return {
        "path": media.relative,
        ABSOLUTE: str(media.path),
        "name": media.relative.rpartition("/")[2],
        "kind": media.kind,
        "size": media.size_bytes,
        "date": media.modified_ns,
        "duration": info.duration_seconds if info else None,
        "width": info.width or None if info else None,  # 0: has no picture
        "height": info.height or None if info else None,
        "tag": tags,
    }


def row_values(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a vector that was added by itself, from its columns and `kind`, `start` and
    `end`. A `date` among them is a text as in conditions, or seconds since 1970.
    """
    path, kind, date = columns.get("path"), columns.get("kind"), columns.get("date")
    values = dict(columns)
    if isinstance(path, str):
        values |= {ABSOLUTE: path, "name": path.rpartition("/")[2]}
    values["kind"] = "video" if kind == "frame" else kind
    start, end = columns.get("start"), columns.get("end")
    if values.get("duration") is None and start is not None and end is not None:
        values["duration"] = end - start
    if isinstance(date, str):
        named = literals.date(date)
        values["date"] = None if named is None else named[0]
    elif date is not None:
        values["date"] = date * literals.NANOSECONDS if _is_number(date) else None
    return values


def _test(test: Test) -> Holds:
    if test.field == "megapixels" and not test.column:
        return _pixels(test)
    name, fits = test.field, _fitting(test)
    if test.operator == "null":
        nothing: tuple[object, ...] = (
            (None, (), []) if name in SEVERAL and not test.column else (None,)
        )
        return lambda values: values.get(name) in nothing

    def holds(values: Values) -> bool:
        found = values.get(name)
        if isinstance(found, list | tuple):
            return any(fits(one) for one in found)
        return found is not None and fits(found)

    return holds


def _fitting(test: Test) -> Callable[[Any], bool]:
    """Whether one value fits; one of another type never does."""
    wanted = test.value
    if test.operator == "glob":
        match = matcher(str(wanted)).fullmatch
        return lambda value: isinstance(value, str) and match(value) is not None
    if isinstance(wanted, tuple):
        among = frozenset(wanted)
        return lambda value: isinstance(value, str) and value in among
    if test.operator in ("true", "false"):
        truth = test.operator == "true"
        return lambda value: value is truth
    compare = _ORDER.get(test.operator, operators.eq)
    if isinstance(wanted, str):
        return lambda value: isinstance(value, str) and bool(compare(value, wanted))
    return lambda value: _is_number(value) and bool(compare(value, wanted))


def _pixels(test: Test) -> Holds:
    compare = _ORDER.get(test.operator, operators.eq)
    wanted: Any = test.value

    def holds(values: Values) -> bool:
        width: Any = values.get("width")
        height: Any = values.get("height")
        if not (_is_number(width) and _is_number(height)):
            return test.operator == "null"
        return test.operator != "null" and bool(compare(width * height, wanted))

    return holds


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
