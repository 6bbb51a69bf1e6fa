"""The catalog's values, and the SQL that works on one open connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from clipsearch.store import schema
from clipsearch.types import (
    KINDS_OF,
    MEDIA_KINDS,
    SOURCE_OF,
    SOURCES,
    UNIT_KINDS,
    FoundFile,
    MediaInfo,
    Source,
    StoredMedia,
    UnitKind,
)

T = TypeVar("T")

POOLED: UnitKind = "pooled"
LOST = "its part of the index was damaged: index it again"
RANGES_AT_ONCE = 1000
IN_LIMIT = 500  # values in one IN (...): below every database's limit


@dataclass(frozen=True, slots=True)
class RowRange:
    """Neighbouring rows of one media and unit kind inside a segment."""

    media_id: int
    kind: UnitKind
    segment_id: int
    first_row: int
    row_count: int


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A published segment, and the (first, count) ranges of its rows that are dead."""

    id: int
    name: str
    row_count: int
    digest: str  # of its segment.json; "": written before there were digests
    dead: tuple[tuple[int, int], ...] = ()
    source: Source = "visual"  # whose space its rows lie in

    @property
    def dead_rows(self) -> int:
        """How many rows are dead."""
        return sum(count for _, count in self.dead)

    @property
    def live_rows(self) -> int:
        """How many rows are not dead."""
        return self.row_count - self.dead_rows


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A segment to enter: its folder below segments/, its rows, the digest of its segment.json,
    and whose space its rows lie in.
    """

    name: str
    row_count: int
    digest: str
    source: Source


@dataclass(frozen=True, slots=True)
class NewMedia:
    """A file to enter. No `info`: it failed, with an `error`. `ranges`: kind → (first, count) in
    the new segment of the kind's source. `read`: the sources that were looked at; rows of `kept`
    ones stay.
    """

    id: int
    file: FoundFile
    content_hash: str
    info: MediaInfo | None
    error: str | None
    ranges: Mapping[UnitKind, tuple[int, int]]
    read: tuple[Source, ...] = ()
    kept: tuple[Source, ...] = ()

    @property
    def replaced_kinds(self) -> tuple[UnitKind, ...]:
        """Kinds of rows that do not stay."""
        return tuple(kind for kind in UNIT_KINDS if SOURCE_OF[kind] not in self.kept)


def media_values(new: NewMedia, root_id: int) -> dict[str, Any]:
    """The columns of a file's entry."""
    file, info = new.file, new.info
    return {
        "root_id": root_id,
        "path": file.relative,
        "kind": file.kind,
        "size_bytes": file.size_bytes,
        "modified_ns": file.modified_ns,
        "content_hash": new.content_hash,
        "duration_seconds": info.duration_seconds if info else None,
        "width": info.width if info else None,
        "height": info.height if info else None,
        "state": "failed" if info is None else "ready",
        "error": new.error,
        "sources": ",".join(s for s in SOURCES if s in new.read or s in new.kept),
    }


def stored(row: RowMapping, roots: Mapping[int, Path]) -> StoredMedia:
    """An entry as our own type; `roots` says where each root is now."""
    path = row["path"]
    if not isinstance(path, str) or path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"a path leaves its root: {path!r}")
    if "\0" in path:
        raise ValueError(f"a path has a zero byte: {path!r}")
    if row["kind"] not in MEDIA_KINDS or row["state"] not in ("ready", "failed"):
        raise ValueError(f"media {row['id']} is {row['kind']!r}, {row['state']!r}")
    sizes = (row["width"], row["height"], row["duration_seconds"])
    if not all(isinstance(size, int | float | None) for size in sizes):
        raise ValueError(f"media {row['id']} has the sizes {sizes}")
    sources = tuple(row["sources"].split(",")) if row["sources"] else ()
    if not set(sources) <= set(SOURCES):
        raise ValueError(f"media {row['id']} has the sources {row['sources']!r}")
    info = None
    if row["width"] is not None:
        info = MediaInfo(row["width"], row["height"], row["duration_seconds"])
    return StoredMedia(
        id=row["id"],
        root=roots[row["root_id"]],
        relative=row["path"],
        kind=row["kind"],
        size_bytes=row["size_bytes"],
        modified_ns=row["modified_ns"],
        content_hash=row["content_hash"],
        info=info,
        state=row["state"],
        error=row["error"],
        sources=sources,
    )


def insert_segment(db: Connection, new: NewSegment) -> int:
    """Enter a segment; its id."""
    return new_id(db.execute(sa.insert(schema.segments).values(asdict(new))))


def new_id(result: sa.CursorResult[Any]) -> int:
    """The id that an INSERT of one row was given."""
    key = result.inserted_primary_key
    assert key is not None, "an INSERT of one row returns its key"
    return int(key[0])


def kill_ranges(
    db: Connection, media_ids: Sequence[int], kinds: Sequence[UnitKind] = UNIT_KINDS
) -> None:
    """Make the rows of some kinds of some files dead."""
    table = schema.ranges
    mine = table.c.media_id.in_(media_ids) & table.c.kind.in_(kinds)
    dead = [
        dict(row)
        for row in db.execute(
            sa.select(table.c.segment_id, table.c.first_row, table.c.row_count).where(mine)
        ).mappings()
    ]
    if dead:
        db.execute(sa.insert(schema.dead_ranges), dead)
        db.execute(sa.delete(table).where(mine))


def forget_source(db: Connection, media_ids: Sequence[int], source: Source) -> None:
    """Make the rows of one source of some files dead; the files count as not looked at for it."""
    kill_ranges(db, media_ids, KINDS_OF[source])
    table = schema.media
    query = sa.select(table.c.id, table.c.sources).where(table.c.id.in_(media_ids))
    for row in db.execute(query).all():
        left = ",".join(one for one in row.sources.split(",") if one != source)
        db.execute(sa.update(table).where(table.c.id == row.id).values(sources=left))


def kill_rows(db: Connection, segment_id: int, runs: Sequence[tuple[int, int]]) -> None:
    """Make (first, count) runs of rows dead that belong to no media."""
    rows = [{"segment_id": segment_id, "first_row": f, "row_count": n} for f, n in runs]
    if rows:
        db.execute(sa.insert(schema.dead_ranges), rows)


def row_range(row: RowMapping) -> RowRange:
    """A live range as our own type. Raises ValueError for values that cannot be."""
    found = RowRange(**row)
    if {type(found.first_row), type(found.row_count)} != {int}:
        raise ValueError(f"a range of rows is {found.first_row!r}, {found.row_count!r}")
    if found.first_row < 0 or found.row_count < 1 or found.kind not in UNIT_KINDS:
        raise ValueError(f"a range of rows is {found}")
    return found


def ranges_in(db: Connection, segment_ids: Sequence[int]) -> Iterator[list[RowRange]]:
    """Live row ranges of some segments, in pieces; those given may be changed meanwhile."""
    table = schema.ranges
    for segment_id in segment_ids:
        after = (-1, "")
        while True:
            here = sa.tuple_(table.c.media_id, table.c.kind) > sa.tuple_(*after)
            query = (
                sa.select(table)
                .where(table.c.segment_id == segment_id, here)
                .order_by(table.c.media_id, table.c.kind)
                .limit(RANGES_AT_ONCE)
            )
            part = [row_range(row) for row in db.execute(query).mappings()]
            if not part:
                break
            after = (part[-1].media_id, part[-1].kind)
            yield part


def remove_media(db: Connection, ids: Sequence[int]) -> None:
    """Forget files; their rows become dead."""
    kill_ranges(db, ids)
    db.execute(sa.delete(schema.media).where(schema.media.c.id.in_(ids)))


def setting(db: Connection, key: str, default: str) -> str:
    """The value kept under `key`."""
    query = sa.select(schema.settings.c.value).where(schema.settings.c.key == key)
    value = db.execute(query).scalar()
    return default if value is None else str(value)


def replace_pooled(
    db: Connection, segment_id: int | None, places: Mapping[int, tuple[int, int]]
) -> None:
    """Make all rows of kind "pooled" dead; then enter (first, count) rows of files, by media id."""
    table = schema.ranges
    old = table.c.kind == POOLED
    columns = ("segment_id", "first_row", "row_count")
    rows = sa.select(*(table.c[name] for name in columns)).where(old)
    db.execute(sa.insert(schema.dead_ranges).from_select(columns, rows))
    db.execute(sa.delete(table).where(old))
    new = [
        {
            "media_id": media_id,
            "kind": POOLED,
            "segment_id": segment_id,
            "first_row": first,
            "row_count": count,
        }
        for media_id, (first, count) in places.items()
    ]
    if new:
        db.execute(sa.insert(table), new)


def row_counts(db: Connection, kind: UnitKind) -> dict[int, int]:
    """How many rows of a kind each file has, by media id."""
    table = schema.ranges
    query = sa.select(table.c.media_id, table.c.row_count).where(table.c.kind == kind)
    return {row.media_id: row.row_count for row in db.execute(query.order_by(table.c.media_id))}


def set_setting(db: Connection, key: str, value: str) -> None:
    """Keep `value` under `key`."""
    mine = schema.settings.c.key == key
    if db.execute(sa.update(schema.settings).where(mine).values(value=value)).rowcount == 0:
        db.execute(sa.insert(schema.settings).values(key=key, value=value))


def add_to_setting(db: Connection, key: str, amount: int, *, start: int) -> None:
    """Raise a number that is kept under `key`."""
    set_setting(db, key, str(int(setting(db, key, str(start))) + amount))


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces short enough for one IN (…)."""
    for first in range(0, len(values), IN_LIMIT):
        yield values[first : first + IN_LIMIT]
