"""Where the rows of a segment go when it is merged, and entering that in the catalog."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from clipsearch.store import schema
from clipsearch.store.changing import never, until
from clipsearch.types import UNIT_KINDS, Stop

Rows = NDArray[np.int64]

READ_AT_ONCE = 2000
RUNS_BY_ROW = 16  # in a segment of more runs each range is moved by itself; see Moves.enter


@dataclass(frozen=True, slots=True)
class Moves:
    """The rows of one old segment, in runs that stay together: arrays of one length.

    A few, where few rows are dead: between two of them a row is dead, or one of another segment
    has come.
    """

    segment_id: int
    firsts: Rows  # ascending
    counts: Rows
    places: Rows  # of each run's first row in the new segment

    @classmethod
    def of(cls, segment_id: int, places: Rows) -> Moves:
        """From (rows,) each row's place in the new segment, -1 for those that stay behind."""
        live = np.flatnonzero(places >= 0)
        found = places[live]
        starts = np.diff(live, prepend=-2) != 1
        starts |= np.diff(found, prepend=-2) != 1
        at = np.flatnonzero(starts)
        return cls(segment_id, live[at], np.diff(at, append=len(live)), found[at])

    def of_ranges(self, ranges: Sequence[Any]) -> Rows:
        """(n,) new first rows of (media id, kind, first row, row count) ranges.

        Raises ValueError for one that is not as a range must be, or whose rows do not stay
        together.
        """
        limits = np.array([(row[2], row[3]) for row in ranges])
        odd = {row[1] for row in ranges} - set(UNIT_KINDS)
        if odd or limits.dtype.kind != "i" or (limits < (0, 1)).any():
            wrong = next(row for row in ranges if not _is_range(row))
            raise ValueError(f"a range of rows is {tuple(wrong)}")
        firsts, ends = limits[:, 0], limits.sum(axis=1)
        runs = np.searchsorted(self.firsts, firsts, side="right") - 1
        inside = runs >= 0
        if len(self.firsts):
            inside &= ends <= self.firsts[runs] + self.counts[runs]
        if not inside.all():
            media_id, kind, first, count = ranges[int(np.argmin(inside))]
            raise ValueError(
                f"rows of media {media_id} are not where they should be: {count} of kind {kind} "
                f"from row {first}"
            )
        places: Rows = self.places[runs] + firsts - self.firsts[runs]
        return places

    def enter(self, db: Connection, to_segment: int | None, stop: Stop = never) -> None:
        """Have the live ranges of the old segment lead to the new one.

        Raises ValueError, and StoppedError when `stop` says so.
        """
        whole = len(self.firsts) <= RUNS_BY_ROW  # a run takes a look at all ranges of the segment
        for ranges in until(stop, self._ranges(db)):
            places = self.of_ranges(ranges)
            if not whole:
                _enter_each(db, ranges, places, to_segment)
        if not whole:
            return
        table = schema.ranges
        for first, count, place in zip(
            self.firsts.tolist(), self.counts.tolist(), self.places.tolist(), strict=True
        ):
            mine = table.c.first_row.between(first, first + count - 1)
            statement = sa.update(table).where(table.c.segment_id == self.segment_id, mine)
            values = {"segment_id": to_segment, "first_row": table.c.first_row + (place - first)}
            db.execute(statement.values(values))

    def _ranges(self, db: Connection) -> Iterator[Sequence[Any]]:
        """Those of the segment, in pieces; those given may be changed meanwhile."""
        table = schema.ranges
        columns = (table.c.media_id, table.c.kind, table.c.first_row, table.c.row_count)
        after: tuple[Any, ...] = (-1, "")
        while True:
            here = sa.tuple_(table.c.media_id, table.c.kind) > sa.tuple_(*after)
            query = sa.select(*columns).where(table.c.segment_id == self.segment_id, here)
            query = query.order_by(table.c.media_id, table.c.kind).limit(READ_AT_ONCE)
            part = db.execute(query).all()
            if not part:
                return
            after = (part[-1][0], part[-1][1])
            yield part


def _enter_each(
    db: Connection, ranges: Sequence[Any], places: Rows, to_segment: int | None
) -> None:
    table = schema.ranges
    statement = (
        sa.update(table)
        .where(table.c.media_id == sa.bindparam("of_media"))
        .where(table.c.kind == sa.bindparam("of_kind"))
        .values(segment_id=to_segment, first_row=sa.bindparam("to_row"))
    )
    values = [
        {"of_media": row[0], "of_kind": row[1], "to_row": place}
        for row, place in zip(ranges, places.tolist(), strict=True)
    ]
    db.execute(statement, values)


def _is_range(row: Sequence[Any]) -> bool:
    _, kind, first, count = row
    return kind in UNIT_KINDS and type(first) is type(count) is int and first >= 0 and count > 0
