"""What an index has of the things that queries name: the vectors of files, and of single units."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipsearch.encoders.values import unit_rows
from clipsearch.errors import MediaError, UsageError
from clipsearch.media.discover import content_hash
from clipsearch.search.grammar import Term
from clipsearch.search.reading import check_within, distance
from clipsearch.search.subtitled import subtitles_of
from clipsearch.store.lookup import NO_MEDIA
from clipsearch.store.store import Store
from clipsearch.textfiles import is_unicode
from clipsearch.types import (
    SOURCES,
    MediaKind,
    Source,
    StoredMedia,
    UnitKind,
    Vectors,
    VideoFrames,
)

# For each kind of term that is a file: the files that can be meant, and the units that stand for
# them.
STANDS_FOR: dict[str, tuple[tuple[MediaKind, ...], UnitKind]] = {
    "picture": (("image",), "image"),
    "frame": (("video",), "frame"),
    "video": (("video",), "frame"),
    "sound": (("audio", "video"), "audio"),
}


@dataclass(frozen=True, slots=True, eq=False)
class StoredUnit:
    """A stored vector: where it lies, and the file that it is of; None for one that was added."""

    source: Source
    media_id: int | None
    row: Vectors  # (1, dim) unit row


class Indexed:
    """Looks up the terms of queries, each once. For one thread, and one round of queries.

    find: what the index has of the present content of the file at a path. at: ids of the files
    that it has under a path.
    """

    def __init__(
        self,
        store: Store,
        find: Callable[[Path], StoredMedia | None],
        at: Callable[[Path], Iterable[int]],
    ) -> None:
        self._store = store
        self._find, self._at = find, at
        self._media: dict[str, list[StoredMedia]] = {}
        self._units: dict[int, StoredUnit] = {}

    def media(self, term: Term) -> list[StoredMedia]:
        """The files of the index with the content of a term's file: itself first, then copies."""
        if term.content not in self._media:
            self._media[term.content] = self._same_content(Path(term.content))
        return self._media[term.content]

    def named(self, term: Term) -> frozenset[int]:
        """Ids of the files that are meant by a term's file: under its path, or with its content."""
        path = Path(term.content)
        there = self._at(path) if _is_text(path) else ()
        return frozenset({*there, *(media.id for media in self.media(term))})

    def subtitles_of(self, media_ids: Iterable[int]) -> frozenset[int]:
        """Ids of the subtitle files that belong to some of these."""
        films = self._store.catalog.media(media_ids).values()
        return frozenset(subtitles_of(self._store.catalog, films))

    def row(self, term: Term) -> Vectors | None:
        """(1, dim) unit row of a term's file, if the index has it.

        Of a frame, or a sound with a time, that of the unit nearest to it; of videos and sounds the
        mean. Raises UsageError for a time behind the end.
        """
        kinds, unit_kind = STANDS_FOR[term.kind]
        for media in self.media(term):
            if media.kind not in kinds:
                continue
            if term.seconds is not None:
                check_within(Path(term.content), term.seconds, media.info)
            units = self._store.windows(media.id, unit_kind)
            if len(units.vectors):
                return _row(units, term.seconds)
        return None

    def unit(self, term: Term) -> StoredUnit:
        """The stored vector that a term names by its id. Raises UsageError if there is none."""
        wanted = int(term.content)
        if wanted not in self._units:
            self._units[wanted] = self._stored(wanted)
        return self._units[wanted]

    def copies_of(self, media_id: int) -> frozenset[int]:
        """Ids of the files with the content of one, which is among them."""
        own = self._store.catalog.media([media_id])
        copies = (self._store.catalog.media_with_hash(one.content_hash) for one in own.values())
        return frozenset({media_id, *(media.id for found in copies for media in found)})

    def _same_content(self, path: Path) -> list[StoredMedia]:
        try:
            mine = self._find(path) if _is_text(path) else None  # no index has other paths
            if mine is None and not path.is_file():
                return []
            digest = content_hash(path) if mine is None else mine.content_hash
        except MediaError as error:
            raise MediaError(f"{path}: {error}") from error
        copies = self._store.catalog.media_with_hash(digest)
        own = [] if mine is None else [mine]
        return own + [media for media in copies if mine is None or media.id != mine.id]

    def _stored(self, wanted: int) -> StoredUnit:
        for source in SOURCES:
            snapshot = self._store.snapshot(source)
            places = snapshot.find(np.array([wanted], np.int64))
            if places[0] >= 0:
                [media_id] = snapshot.rows(places)["media_id"].tolist()
                row = unit_rows(snapshot.vectors(places))
                return StoredUnit(source, None if media_id == NO_MEDIA else media_id, row)
        raise UsageError(f"no vector has the id {wanted}: hits have theirs in --json")


def _is_text(path: Path) -> bool:
    """Whether a path, and where it leads, is Unicode."""
    return is_unicode(os.path.abspath(path)) and is_unicode(os.path.realpath(path))  # noqa: PTH100


def _row(units: VideoFrames, seconds: float | None) -> Vectors:
    if seconds is None:
        return unit_rows(units.vectors.mean(axis=0, dtype=np.float64, keepdims=True))
    times = zip(units.starts.tolist(), units.ends.tolist(), strict=True)
    off = [distance(seconds, start, end) for start, end in times]
    best = min(range(len(off)), key=off.__getitem__)
    return unit_rows(units.vectors[best : best + 1])
