"""Conditions as SQL over the table of media, with bound values alone.

Every test is true or false, never NULL, so that AND, OR and NOT mean what they mean in Python
(clipsearch.where.evaluate).
"""

from __future__ import annotations

import operator as operators
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from clipsearch.store.schema import media, tags
from clipsearch.where import All, AnyOf, Condition, Not, Test
from clipsearch.where.conditions import ABSOLUTE, depth_of
from clipsearch.where.globs import posix

Clause = sa.ColumnElement[bool]

LARGEST_INTEGER = 2**63
SQLITE = "sqlite"
_ORDER: dict[str, Any] = {
    "=": operators.eq,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


class Conditions:
    """Makes clauses for one database. `roots`: where each root is now."""

    def __init__(self, dialect: str, roots: Mapping[int, Path]) -> None:
        self._dialect = dialect
        places = {id_: sa.literal(f"{root}/".replace("//", "/")) for id_, root in roots.items()}
        root = sa.case(places, value=media.c.root_id, else_="/") if places else sa.literal("/")
        self._texts: dict[str, sa.ColumnElement[str]] = {
            "path": media.c.path,
            ABSOLUTE: root + media.c.path,
            "name": _name(),
            "kind": media.c.kind,
            "tag": tags.c.tag,
        }
        width, height = (sa.cast(c, sa.BigInteger) for c in (media.c.width, media.c.height))
        self._numbers: dict[str, sa.ColumnElement[Any]] = {
            "size": media.c.size_bytes,
            "date": media.c.modified_ns,
            "duration": media.c.duration_seconds,
            "width": sa.func.nullif(media.c.width, 0),  # 0: has no picture
            "height": sa.func.nullif(media.c.height, 0),
            "megapixels": sa.func.nullif(width * height, 0),
        }

    def clause(self, condition: Condition) -> Clause:
        """What holds for the rows of media for which the condition does."""
        if isinstance(condition, All):
            return sa.and_(*map(self.clause, _deepest_first(condition.parts)))
        if isinstance(condition, AnyOf):
            return sa.or_(*map(self.clause, _deepest_first(condition.parts)))
        if isinstance(condition, Not):
            return sa.not_(self.clause(condition.part))
        assert isinstance(condition, Test), "there are no other conditions"
        if condition.column:  # files have none
            return sa.true() if condition.operator == "null" else sa.false()
        if condition.field in self._numbers:
            return self._numeric(condition)
        return self._textual(condition)

    def _numeric(self, test: Test) -> Clause:
        column = self._numbers[test.field]
        if test.operator == "null":
            return column.is_(None)
        value: Any = test.value
        whole = isinstance(value, int) and abs(value) < LARGEST_INTEGER
        # Of the value's own type: a column's would make a whole number of 1.5 in PostgreSQL.
        bound = (
            sa.literal(value, sa.BigInteger()) if whole else sa.literal(float(value), sa.Float())
        )
        clause: Clause = _ORDER[test.operator](column, bound)
        return sa.func.coalesce(clause, sa.false())

    def _textual(self, test: Test) -> Clause:
        column = self._texts[test.field]
        if test.field == "tag":
            owners = sa.select(tags.c.media_id)
            if test.operator == "null":
                return media.c.id.not_in(owners)
            return media.c.id.in_(owners.where(self._fits(column, test)))
        return sa.false() if test.operator == "null" else self._fits(column, test)

    def _fits(self, column: sa.ColumnElement[str], test: Test) -> Clause:
        if isinstance(test.value, tuple):
            return column.in_(test.value)
        text = str(test.value)
        if test.operator == "=":
            return column == sa.literal(text)
        if self._dialect == SQLITE:
            return column.bool_op("GLOB")(sa.literal(text))
        return column.bool_op("~")(sa.literal(posix(text)))


def _deepest_first(parts: tuple[Condition, ...]) -> list[Condition]:
    """SQLite's parser keeps up to 100 things that it is inside of, and all that stands before."""
    return sorted(parts, key=depth_of, reverse=True)


def _name() -> sa.ColumnElement[str]:
    """What is behind the last slash of a path: what is left when all other characters that it has
    are taken from its end is its folder.
    """
    folder = sa.func.rtrim(media.c.path, sa.func.replace(media.c.path, "/", ""))
    return sa.func.substr(media.c.path, sa.func.length(folder) + 1)
