"""What a condition leaves, as the catalog's database finds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from clipsearch.store import schema, statements
from clipsearch.store.conditions import SQLITE, Conditions
from clipsearch.store.connected import Connected
from clipsearch.types import KINDS_OF, Source, StoredMedia
from clipsearch.where import Condition

ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class RowRuns:
    """Runs of rows by segment id, each an (n, 2) array of first row and count, as of a generation
    of the catalog.
    """

    generation: int
    runs: dict[int, NDArray[np.int64]]


class Filtering(Connected):
    """Files and rows of a catalog for which a condition holds."""

    def runs_where(self, where: Condition, source: Source) -> RowRuns:
        """The rows of files for which a condition holds, of one source."""
        media, ranges = schema.media, schema.ranges
        with self._reading() as db:
            query = (
                sa.select(ranges.c.segment_id, ranges.c.first_row, ranges.c.row_count)
                .join(media, media.c.id == ranges.c.media_id)
                .where(ranges.c.kind.in_(KINDS_OF[source]), self._clause(db, where))
            )
            return self._runs(db, query)

    def runs_of_media(self, media_ids: Sequence[int], source: Source) -> RowRuns:
        """The rows of some files, of one source."""
        ranges = schema.ranges
        columns = (ranges.c.segment_id, ranges.c.first_row, ranges.c.row_count)
        query = sa.select(*columns).where(ranges.c.kind.in_(KINDS_OF[source]))
        with self._reading() as db:
            parts = [
                self._runs(db, query.where(ranges.c.media_id.in_(chunk)))
                for chunk in statements.chunks(sorted(map(int, media_ids)))
            ]
            generation = int(statements.setting(db, "generation", "0"))
        runs: dict[int, list[NDArray[np.int64]]] = {}
        for part in parts:
            for segment_id, own in part.runs.items():
                runs.setdefault(segment_id, []).append(own)
        return RowRuns(generation, {key: np.concatenate(own) for key, own in runs.items()})

    def rows_of_files(self) -> tuple[int, dict[int, int]]:
        """How many rows of each segment are of files; and the generation."""
        ranges = schema.ranges
        query = sa.select(ranges.c.segment_id, sa.func.sum(ranges.c.row_count))
        with self._reading() as db:
            found = db.execute(query.group_by(ranges.c.segment_id)).all()
            generation = int(statements.setting(db, "generation", "0"))
        return generation, {int(row[0]): int(row[1]) for row in found}

    def media_where(self, where: Condition | None) -> Iterator[StoredMedia]:
        """The files that can be searched and for which a condition holds, in order of their paths:
        by root, then below it.
        """
        table = schema.media
        with self._reading() as db:
            roots = self._roots(db)
            query = sa.select(table).where(table.c.state == "ready")
            if where is not None:
                query = query.where(self._clause(db, where))
            by_path = sorted(roots, key=lambda id_: str(roots[id_]))
            ranks = {id_: rank for rank, id_ in enumerate(by_path)}
            path = table.c.path if self._dialect == SQLITE else table.c.path.collate("C")
            rank = sa.case(ranks, value=table.c.root_id) if ranks else table.c.root_id
            for row in db.execute(query.order_by(rank, path)).mappings():
                yield statements.stored(row, roots)

    @property
    def _dialect(self) -> str:
        return self._engine.dialect.name

    def _clause(self, db: Connection, where: Condition) -> sa.ColumnElement[bool]:
        return Conditions(self._dialect, self._roots(db)).clause(where)

    def _runs(self, db: Connection, query: sa.Select[tuple[int, int, int]]) -> RowRuns:
        parts = [np.empty((0, 3), np.int64)]
        for rows in db.execute(query).partitions(ROWS_AT_ONCE):
            values = np.fromiter(chain.from_iterable(rows), np.int64, 3 * len(rows))
            parts.append(values.reshape(-1, 3))
        found = np.concatenate(parts)
        found = found[np.argsort(found[:, 0], kind="stable")]
        ids, firsts = np.unique(found[:, 0], return_index=True)
        runs = np.split(found[:, 1:], firsts[1:])
        generation = int(statements.setting(db, "generation", "0"))
        return RowRuns(generation, dict(zip(ids.tolist(), runs, strict=False)))
