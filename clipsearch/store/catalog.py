"""The catalog: which files, segments and rows there are. All SQL lives here.

SQLite inside the index by default, another database by URL. Returns our own types, never rows or
sessions. Every writing method is one transaction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from clipsearch.errors import IndexDamagedError
from clipsearch.store import pooling, schema, statements
from clipsearch.store.changing import never
from clipsearch.store.filtered import Filtering
from clipsearch.store.moves import Moves
from clipsearch.store.pooling import PoolingFacts
from clipsearch.store.quantiser import NAME, QuantiserFacts, parse_facts
from clipsearch.store.roots import Rooted
from clipsearch.store.statements import LOST, NewMedia, NewSegment, RowRange, SegmentEntry
from clipsearch.store.tags import Tagging, forget_tags
from clipsearch.types import SOURCE_OF, SOURCES, FoundFile, Source, Stop, StoredMedia, UnitKind

Runs = Sequence[tuple[int, int]]  # (first row, count)
SETTLED_NS = 2_500_000_000  # some file systems keep times in steps of two seconds


@dataclass(frozen=True, slots=True)
class CatalogState:
    """What a reader needs to know, as of one transaction."""

    generation: int
    segments: tuple[SegmentEntry, ...]
    quantisers: tuple[QuantiserFacts, ...]  # the last one of a source is for new segments
    pooling: PoolingFacts | None  # of the head that made the rows of kind "pooled"


class Catalog(Filtering, Tagging, Rooted):
    """One index's tables. Safe to share between threads."""

    # Reading

    def setting(self, key: str, default: str) -> str:
        """The value kept under `key`."""
        with self._reading() as db:
            return statements.setting(db, key, default)

    def generation(self) -> int:
        """Grows with every change that a reader could see."""
        with self._reading() as db:
            return int(statements.setting(db, "generation", "0"))

    def stamp(self) -> object:
        """Something that differs after every change, without asking the database; None: ask it.

        For an SQLite file its size and time and those of its log. Files that were changed just
        now may change again unnoticed, so then the database is asked.
        """
        if self._file is None:
            return None
        stamp = []
        for path in (self._file, self._file.with_name(self._file.name + "-wal")):
            try:
                found = path.stat()
            except FileNotFoundError:
                stamp.append((0, 0, 0))
                continue
            if abs(time.time_ns() - found.st_mtime_ns) < SETTLED_NS:
                return None
            stamp.append((found.st_ino, found.st_mtime_ns, found.st_size))
        return tuple(stamp)

    def segments(self) -> tuple[SegmentEntry, ...]:
        """The published segments, oldest first."""
        return self.snapshot().segments

    def snapshot(self) -> CatalogState:
        """The generation, its segments, oldest first, and quantisers, as one transaction sees."""
        with self._reading() as db:
            dead: dict[int, list[tuple[int, int]]] = {}
            for row in db.execute(sa.select(schema.dead_ranges)).mappings():
                dead.setdefault(row["segment_id"], []).append((row["first_row"], row["row_count"]))
            rows = db.execute(sa.select(schema.segments).order_by(schema.segments.c.id)).mappings()
            return CatalogState(
                generation=int(statements.setting(db, "generation", "0")),
                segments=tuple(_entry(row, dead.get(row["id"], [])) for row in rows),
                quantisers=parse_facts(statements.setting(db, "quantisers", "")),
                pooling=pooling.parse_facts(statements.setting(db, pooling.SETTING, "")),
            )

    def media(self, ids: Iterable[int]) -> dict[int, StoredMedia]:
        """The files of those ids that still exist in the catalog."""
        found: dict[int, StoredMedia] = {}
        with self._reading() as db:
            roots = self._roots(db)
            for chunk in statements.chunks(sorted(set(ids))):
                query = sa.select(schema.media).where(schema.media.c.id.in_(chunk))
                for row in db.execute(query).mappings():
                    found[row["id"]] = statements.stored(row, roots)
        return found

    def all_media(self, root: Path | None = None) -> Iterator[StoredMedia]:
        """Every file, or those of one root, in order of root and path."""
        query = sa.select(schema.media).order_by(schema.media.c.root_id, schema.media.c.path)
        with self._reading() as db:
            roots = self._roots(db)
            if root is not None:
                ids = [id_ for id_, path in roots.items() if path == root]
                query = query.where(schema.media.c.root_id.in_(ids))
            for row in db.execute(query).mappings():
                yield statements.stored(row, roots)

    def media_at(self, files: Sequence[FoundFile]) -> dict[tuple[Path, str], StoredMedia]:
        """What is known under the paths of `files`, by (root, relative path)."""
        found: dict[tuple[Path, str], StoredMedia] = {}
        by_root: dict[Path, list[str]] = {}
        for file in files:
            by_root.setdefault(file.root, []).append(file.relative)
        with self._reading() as db:
            roots = self._roots(db)
            ids = {path: id_ for id_, path in roots.items()}
            for root, paths in by_root.items():
                mine = schema.media.c.root_id == ids.get(root)
                for chunk in statements.chunks(paths):
                    query = sa.select(schema.media).where(mine, schema.media.c.path.in_(chunk))
                    for row in db.execute(query).mappings():
                        found[root, row["path"]] = statements.stored(row, roots)
        return found

    def media_with_hash(self, content_hash: str) -> list[StoredMedia]:
        """Every indexed file of that content."""
        query = sa.select(schema.media).where(
            schema.media.c.content_hash == content_hash, schema.media.c.state == "ready"
        )
        with self._reading() as db:
            rows = db.execute(query).mappings().all()
            roots = self._roots(db) if rows else {}  # of a new file there are none
            return [statements.stored(row, roots) for row in rows]

    def counts(self) -> dict[str, int]:
        """Files by kind (`image`, `video`), and `failed` ones."""
        column = sa.case(
            (schema.media.c.state == "failed", "failed"), else_=schema.media.c.kind
        ).label("what")
        with self._reading() as db:
            query = sa.select(column, sa.func.count()).group_by(column)
            return {row[0]: row[1] for row in db.execute(query)}

    def ranges_of(self, media_id: int) -> list[RowRange]:
        """Live row ranges of one media, by segment and row."""
        table = schema.ranges
        query = sa.select(table).where(table.c.media_id == media_id)
        with self._reading() as db:
            rows = db.execute(query.order_by(table.c.segment_id, table.c.first_row)).mappings()
            return [statements.row_range(row) for row in rows]

    def row_counts(self, kind: UnitKind) -> dict[int, int]:
        """How many rows of a kind each file has, by media id, in their order."""
        with self._reading() as db:
            return statements.row_counts(db, kind)

    def pooling(self) -> PoolingFacts | None:
        """The head that made the rows of kind "pooled"."""
        with self._reading() as db:
            return pooling.parse_facts(statements.setting(db, pooling.SETTING, ""))

    def ranges_in(self, segment_id: int) -> Iterator[list[RowRange]]:
        """Live row ranges of one segment, some at a time, so that memory stays flat."""
        with self._reading() as db:
            yield from statements.ranges_in(db, [segment_id])

    def problems(self) -> list[str]:
        """What is wrong with the database or with values in it."""
        found = self._integrity_problems()
        try:
            self.next_media_id()
            self.tag_counts()
            for _ in self.all_media():
                pass
        except IndexDamagedError as error:
            found.append(str(error).removeprefix(f"the catalog {self.path} "))
        return found

    def _integrity_problems(self) -> list[str]:
        """What the database itself finds wrong with its files; [] if it has no such check."""
        if self._engine.dialect.name != "sqlite":
            return []
        with self._reading() as db:
            found = [str(row[0]) for row in db.exec_driver_sql("PRAGMA integrity_check")]
            orphans = db.exec_driver_sql("PRAGMA foreign_key_check").all()
        problems = [] if found == ["ok"] else found
        return problems + [f"has a row of {row[0]} that refers to nothing" for row in orphans]

    def next_unit_id(self) -> int:
        """Every unit id from here on is not given yet."""
        with self._reading() as db:
            return int(statements.setting(db, "next_unit_id", "1"))

    def next_media_id(self) -> int:
        """Every id from here on is not given yet."""
        with self._reading() as db:
            return int(statements.setting(db, "next_media_id", "1"))

    def ids_for(self, files: Sequence[FoundFile]) -> tuple[list[int], int]:
        """A media id for each file, its own where it has one; and the next unit id.

        New ids count as given once an entry with them is written; only the one writer asks.
        """
        known = self.media_at(files)
        next_id = self.next_media_id()
        ids = []
        for file in files:
            media = known.get((file.root, file.relative))
            ids.append(media.id if media else next_id)
            next_id += media is None
        return ids, self.next_unit_id()

    # Writing: only by the holder of the index's lock

    def add_segments(self, new: Sequence[NewSegment], media: Sequence[NewMedia] = ()) -> None:
        """Publish segments, at most one of a source, with their media, replacing older entries of
        the same files.
        """
        with self._writing() as db:
            segment_ids = {one.source: statements.insert_segment(db, one) for one in new}
            self._put_media(db, media)
            ranges = [
                {
                    "media_id": item.id,
                    "kind": kind,
                    "segment_id": segment_ids[SOURCE_OF[kind]],
                    "first_row": first,
                    "row_count": count,
                }
                for item in media
                for kind, (first, count) in item.ranges.items()
            ]
            if ranges:
                db.execute(sa.insert(schema.ranges), ranges)
            rows = sum(one.row_count for one in new)
            statements.add_to_setting(db, "next_unit_id", rows, start=1)

    def replace_pooled(
        self,
        facts: PoolingFacts | None,
        new: NewSegment | None = None,
        places: Mapping[int, tuple[int, int]] | None = None,
    ) -> None:
        """Publish a head's rows instead of any other's: the segment, or none when there are no
        rows, and the (first, count) rows of each media id.
        """
        with self._writing() as db:
            segment_id = None if new is None else statements.insert_segment(db, new)
            statements.replace_pooled(db, segment_id, places or {})
            statements.set_setting(db, pooling.SETTING, pooling.dump_facts(facts))
            if new is not None:
                statements.add_to_setting(db, "next_unit_id", new.row_count, start=1)

    def put_failure(self, failed: NewMedia) -> None:
        """Enter a file that could not be read, so that it is not decoded again unchanged."""
        with self._writing() as db:
            self._put_media(db, [failed])

    def replace_segments(
        self, new: NewSegment | None, moves: Sequence[Moves], stop: Stop = never
    ) -> None:
        """Publish a merged segment, or none when no rows are left, instead of those that `moves`
        are of. Raises StoppedError, and changes nothing, when `stop` says so.
        """
        old_ids = [one.segment_id for one in moves]
        with self._writing() as db:
            segment_id = None if new is None else statements.insert_segment(db, new)
            for one in moves:
                one.enter(db, segment_id, stop)
            retiring = sa.select(schema.segments.c.name).where(schema.segments.c.id.in_(old_ids))
            names = [row.name for row in db.execute(retiring)]
            retired = [*json.loads(statements.setting(db, "retired", "[]")), *names]
            statements.set_setting(db, "retired", json.dumps(retired))
            dead = schema.dead_ranges.c.segment_id.in_(old_ids)
            db.execute(sa.delete(schema.dead_ranges).where(dead))
            db.execute(sa.delete(schema.segments).where(schema.segments.c.id.in_(old_ids)))

    def quantisers(self) -> tuple[QuantiserFacts, ...]:
        """The trained quantisers; the last one of a source is for its new segments."""
        with self._reading() as db:
            return parse_facts(statements.setting(db, "quantisers", ""))

    def retired(self) -> list[str]:
        """Names of segments that others replaced; their folders may be deleted."""
        with self._reading() as db:
            return list(map(str, json.loads(statements.setting(db, "retired", "[]"))))

    def lose(
        self, media_ids: Iterable[int], rows: Mapping[int, Runs], source: Source = "visual"
    ) -> None:
        """Make the rows of damaged files dead, and `rows` of segments that belong to no file.

        The files count as failed until they are read again; where only what is heard or said is
        gone, as not looked at for that.
        """
        lost = {"state": "failed", "error": LOST, "size_bytes": -1, "content_hash": ""}
        with self._writing() as db:
            for chunk in statements.chunks(sorted(set(media_ids))):
                if source != "visual":
                    statements.forget_source(db, chunk, source)
                    continue
                statements.kill_ranges(db, chunk)
                here = schema.media.c.id.in_(chunk)
                db.execute(sa.update(schema.media).where(here).values(lost))
            for segment_id, runs in rows.items():
                statements.kill_rows(db, segment_id, runs)

    def kill_rows(self, rows: Mapping[int, Runs]) -> None:
        """Make (first, count) runs of rows of some segments dead that belong to no file."""
        self.lose((), rows)

    def move_media(self, moves: Sequence[tuple[int, FoundFile]]) -> None:
        """The same content at another place, or with another time: vectors are kept."""
        if not moves:
            return
        with self._writing() as db:
            for media_id, file in moves:
                self._move(db, media_id, file)

    def _move(self, db: Connection, media_id: int, file: FoundFile) -> None:
        root_id = self._root_id(db, file.root)
        there = (schema.media.c.root_id == root_id) & (schema.media.c.path == file.relative)
        for row in db.execute(sa.select(schema.media.c.id).where(there)):
            if row.id != media_id:
                statements.remove_media(db, [row.id])
        values = {
            "root_id": root_id,
            "path": file.relative,
            "size_bytes": file.size_bytes,
            "modified_ns": file.modified_ns,
        }
        db.execute(sa.update(schema.media).where(schema.media.c.id == media_id).values(values))

    def remove_media(self, ids: Sequence[int]) -> None:
        """Forget files; their rows become dead."""
        with self._writing() as db:
            for chunk in statements.chunks(ids):
                statements.remove_media(db, chunk)

    def set_setting(self, key: str, value: str) -> None:
        """Keep `value` under `key`."""
        with self._writing() as db:
            statements.set_setting(db, key, value)

    # Inside

    def _put_media(self, db: Connection, media: Sequence[NewMedia]) -> None:
        """Enter files with the ids of `ids_for`, or replace their entries and drop their rows."""
        table = schema.media
        next_id = int(statements.setting(db, "next_media_id", "1"))
        roots = {root: self._root_id(db, root) for root in {new.file.root for new in media}}
        values = {new.id: statements.media_values(new, roots[new.file.root]) for new in media}
        known = [id_ for id_ in values if id_ < next_id]
        by_kinds: dict[tuple[UnitKind, ...], list[int]] = {}
        for item in media:
            if item.id < next_id:
                by_kinds.setdefault(item.replaced_kinds, []).append(item.id)
        for kinds, ids in by_kinds.items():
            for chunk in statements.chunks(ids):
                statements.kill_ranges(db, chunk, kinds)
        forget_tags(db, {item.id: item.content_hash for item in media if item.id < next_id})
        for id_ in known:
            db.execute(sa.update(table).where(table.c.id == id_).values(values[id_]))
        fresh = [{"id": id_, **values[id_]} for id_ in values if id_ >= next_id]
        if fresh:
            db.execute(sa.insert(table), fresh)
            statements.set_setting(db, "next_media_id", str(max(values) + 1))


def _entry(row: RowMapping, dead: Sequence[tuple[int, int]]) -> SegmentEntry:
    """A segment as our own type. Raises ValueError for values that cannot be."""
    if not isinstance(row["name"], str) or not NAME.fullmatch(row["name"]):
        raise ValueError(f"a segment's name is {row['name']!r}, not 32 hex digits")
    if type(row["row_count"]) is not int or row["row_count"] < 1:
        raise ValueError(f"a segment has {row['row_count']!r} rows")
    for first, count in dead:
        if {type(first), type(count)} != {int} or not 0 <= first < first + count:
            raise ValueError(f"rows {first!r}, {count!r} are called dead")
        if first + count > row["row_count"]:
            raise ValueError(f"rows to {first + count} of {row['row_count']} are called dead")
    source: Source = row["source"]
    if source not in SOURCES:
        raise ValueError(f"a segment is of {source!r}")
    values = (row["id"], row["name"], row["row_count"], row["digest"])
    return SegmentEntry(*values, tuple(dead), source)
