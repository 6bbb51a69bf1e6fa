"""What is new, changed, moved or gone: files on disk against the catalog."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipsearch.media import kind_of
from clipsearch.media.discover import content_hash
from clipsearch.media.files import is_gone
from clipsearch.store.catalog import Catalog
from clipsearch.types import FoundFile, StoredMedia

FIRST_ID = 1  # the first that a catalog gives
LOOKUP_FILES = 500  # files asked of the catalog at once


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file found on disk, and what the catalog has under its path."""

    file: FoundFile
    known: StoredMedia | None

    @property
    def untouched(self) -> bool:
        """Same size and modification time: taken as the same content, and never opened."""
        return self.known is not None and (
            (self.known.size_bytes, self.known.modified_ns)
            == (self.file.size_bytes, self.file.modified_ns)
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a file: `same` and `moved` keep the vectors of `media`, `more` adds to them
    what was not looked at yet.
    """

    action: Literal["same", "moved", "read", "more"]
    content_hash: str
    media: StoredMedia | None = None


class Decider:
    """Decides by content what a new or touched file is. Safe to call from several threads.

    Made before a run adds files: in an index that never had any, none can have moved, and the
    catalog is not asked, which costs half a millisecond a file.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._knows_none = catalog.next_media_id() == FIRST_ID
        self._claimed: set[int] = set()
        self._guard = threading.Lock()

    def decide(self, candidate: Candidate) -> Decision:
        """Hash the file and compare. Raises MediaError when it cannot be read."""
        digest = content_hash(candidate.file.path)
        if candidate.known is not None and candidate.known.content_hash == digest:
            return Decision("same", digest, candidate.known)
        if self._knows_none:
            return Decision("read", digest)
        for media in self._catalog.media_with_hash(digest):
            if media.kind == candidate.file.kind and is_gone(media.path):
                with self._guard:
                    if media.id not in self._claimed:
                        self._claimed.add(media.id)
                        return Decision("moved", digest, media)
        return Decision("read", digest)


def find_media(catalog: Catalog, path: Path) -> tuple[Path, StoredMedia | None]:
    """The file that a user means by a path, and what the catalog has of its present content.

    A file that is away has the content it had. Nothing is known of one that failed.
    """
    given = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100, as links are indexed
    for place, media in media_named(catalog, path):
        if media.state == "ready" and _is_content_of(media, place):
            return place, media
    return given, None


def media_named(catalog: Catalog, path: Path) -> Iterator[tuple[Path, StoredMedia]]:
    """What the catalog has under a path, where links are, and where they lead: whatever is there
    now.
    """
    given = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100, as links are indexed
    for place in dict.fromkeys((given, Path(os.path.realpath(given)))):
        below = [root for root in catalog.roots() if place.is_relative_to(root)]
        files = [_found(place, root) for root in below]
        for media in catalog.media_at(files).values():
            yield place, media


def _found(path: Path, root: Path) -> FoundFile:
    kind = kind_of(path.name) or "video"
    facts = path.stat() if path.is_file() else None
    size, modified = (facts.st_size, facts.st_mtime_ns) if facts else (0, 0)
    return FoundFile(root, path.relative_to(root).as_posix(), kind, size, modified)


def _is_content_of(media: StoredMedia, path: Path) -> bool:
    if not path.exists() or Candidate(_found(path, media.root), media).untouched:
        return True
    return content_hash(path) == media.content_hash
