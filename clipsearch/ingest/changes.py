"""What is new, changed, moved or gone: files on disk against the catalog."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from clipsearch.media.discover import content_hash
from clipsearch.store.catalog import Catalog
from clipsearch.types import FoundFile, StoredMedia

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
    """What to do with a file: `same` and `moved` keep the vectors of `media`."""

    action: Literal["same", "moved", "read"]
    content_hash: str
    media: StoredMedia | None = None


class Decider:
    """Decides by content what a new or touched file is. Safe to call from several threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._claimed: set[int] = set()
        self._guard = threading.Lock()

    def decide(self, candidate: Candidate) -> Decision:
        """Hash the file and compare. Raises MediaError when it cannot be read."""
        digest = content_hash(candidate.file.path)
        if candidate.known is not None and candidate.known.content_hash == digest:
            return Decision("same", digest, candidate.known)
        for media in self._catalog.media_with_hash(digest):
            if media.kind == candidate.file.kind and not media.path.exists():
                with self._guard:
                    if media.id not in self._claimed:
                        self._claimed.add(media.id)
                        return Decision("moved", digest, media)
        return Decision("read", digest)


def candidates(files: Iterable[FoundFile], catalog: Catalog) -> Iterator[Candidate]:
    """Each file with what the catalog has under its path, in order, a few hundred at a time."""
    iterator = iter(files)
    while chunk := list(itertools.islice(iterator, LOOKUP_FILES)):
        known = catalog.media_at(chunk)
        for file in chunk:
            yield Candidate(file, known.get((file.root, file.relative)))
