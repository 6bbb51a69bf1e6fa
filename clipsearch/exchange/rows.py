"""The rows of an index for others: their vectors, and what is known of each as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.store.lookup import NO_FRAME, NO_MEDIA, Lookup, parse_columns
from clipsearch.store.selection import Selection
from clipsearch.store.store import Store
from clipsearch.types import SOURCE_OF, UNIT_KINDS, Source, StoredMedia, UnitKind
from clipsearch.where import Condition

ROWS_AT_ONCE = 16_384  # 16 MB of float16 at 512 dimensions, with their records some 40 MB
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SAMPLED_ROWS = 1000
FIXED = ("id", "path", "kind", "start", "end", "frame_number")  # every record has, in this order

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowBlock:
    """(n, dim) float16 unit rows as they are stored, and what each stands for."""

    vectors: NDArray[np.float16]
    records: list[Record]


class IndexRows:
    """The live rows of some kinds, of one source, for which a condition holds, as of one moment.

    By segment, kind and id. May be gone through again and again.
    """

    def __init__(
        self, store: Store, kinds: Sequence[UnitKind], where: Condition | None = None
    ) -> None:
        """Raises UsageError for kinds of several sources, whose vectors lie in several spaces, and
        for a condition on what there is not.
        """
        sources = {SOURCE_OF[kind] for kind in kinds}
        if len(sources) != 1:
            raise UsageError(
                f"kinds {', '.join(kinds)}: their vectors lie in spaces of their own, so export "
                "those of one source at a time: image, frame and video; audio; or text"
            )
        self.source: Source = sources.pop()
        self.kinds = tuple(kinds)
        self._catalog = store.catalog
        self._snapshot, self._places = store.live_places(self.kinds, Selection(where))

    def __len__(self) -> int:
        return len(self._places)

    def blocks(self) -> Iterator[RowBlock]:
        """The rows, some at a time; files that left the index meanwhile are passed over."""
        for places in self._parts():
            records = self._records(*self._snapshot.rows_with_columns(places))
            kept = [at for at, record in enumerate(records) if record is not None]
            if kept:
                found = [record for record in records if record is not None]
                yield RowBlock(self._snapshot.vectors(places[kept]), found)

    def records(self) -> Iterator[list[Record]]:
        """What is known of the rows, some at a time, without their vectors."""
        for places in self._parts():
            records = self._records(*self._snapshot.rows_with_columns(places))
            yield [record for record in records if record is not None]

    def sample(self) -> Lookup:
        """Some of the rows, from everywhere."""
        step = max(len(self._places) // SAMPLED_ROWS, 1)
        return self._snapshot.rows(self._places[::step])

    def _parts(self) -> Iterator[NDArray[np.int64]]:
        for first in range(0, len(self._places), ROWS_AT_ONCE):
            yield self._places[first : first + ROWS_AT_ONCE]

    def _records(self, lookup: Lookup, columns: Sequence[bytes]) -> list[Record | None]:
        """One for each row; None where its file is gone."""
        facts = self._facts(set(lookup["media_id"].tolist()) - {NO_MEDIA})
        names = ("id", "media_id", "kind", "start_seconds", "end_seconds", "frame_number")
        values = zip(*(lookup[name].tolist() for name in names), strict=True)
        found: list[Record | None] = []
        for (id_, owner, kind, start, end, frame), extra in zip(
            values, parse_columns(columns), strict=True
        ):
            if owner != NO_MEDIA and owner not in facts:
                found.append(None)
                continue
            record: Record = {
                "id": id_,
                "path": extra.pop("path", None),
                "kind": UNIT_KINDS[kind],
                "start": None if math.isnan(start) else start,
                "end": None if math.isnan(end) else end,
                "frame_number": None if frame == NO_FRAME else frame,
            }
            for name in FIXED:
                if name in extra:
                    put_aside(extra, name)
            found.append({**record, **extra, **facts.get(owner, {})})
        return found

    def _facts(self, media_ids: set[int]) -> dict[int, Record]:
        """What is known of files that are still there."""
        if not media_ids:
            return {}
        media = self._catalog.media(media_ids)
        tags = self._catalog.tags_of(media)
        return {id_: _facts_of(one, tags.get(id_, [])) for id_, one in media.items()}


def put_aside(values: Record, name: str) -> None:
    """Give a value a free name, `added_NAME`, as its own means something else."""
    wish = f"added_{name}"
    while wish in values:
        wish += "_"
    values[wish] = values.pop(name)


def _facts_of(media: StoredMedia, tags: Sequence[tuple[str, float | None]]) -> Record:
    """A file as the fields of conditions name what is known of it."""
    info = media.info
    modified = EPOCH + timedelta(microseconds=media.modified_ns // 1000)
    date = modified.isoformat(" ", "microseconds")
    facts: Record = {"path": str(media.path), "size": media.size_bytes, "date": date}
    if info is not None:
        facts["width"], facts["height"] = info.width or None, info.height or None
        facts["duration"] = info.duration_seconds
    if tags:
        facts["tag"] = [tag for tag, _ in tags]
        facts["tag_probability"] = [probability for _, probability in tags]
    return facts
