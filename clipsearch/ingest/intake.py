"""Follow each file from what its reader tells to the rows that are published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.ingest.batcher import Batcher, Part, PartialMedia
from clipsearch.ingest.changes import Candidate, Decision
from clipsearch.ingest.pooling import crowded_windows, with_norms, with_windows
from clipsearch.ingest.reading import Chunk, Event, Trouble
from clipsearch.types import EmbeddingBatch, EncodedMedia, MediaInfo, Source, StoredMedia

if TYPE_CHECKING:
    from clipsearch.heads import Head


@dataclass(slots=True)
class Following:
    """What is known so far of a file that is being read."""

    decision: Decision | None = None
    media: PartialMedia | None = None


class Intake:
    """Files that are being read: their events in, encoded files out."""

    def __init__(
        self,
        batcher: Batcher,
        sources: Callable[[Candidate], tuple[Source, ...]],
        lacks: Callable[[StoredMedia], tuple[Source, ...]],
    ) -> None:
        """sources: what is looked at in a file. lacks: what of it an index has not looked at."""
        self.batcher = batcher
        self._sources, self._lacks = sources, lacks
        self._following: dict[int, Following] = {}

    def take(self, number: int, candidate: Candidate, event: Decision | Event) -> None:
        """Take in one event of a file."""
        following = self._following.setdefault(number, Following())
        if isinstance(event, Decision):
            following.decision = event
        elif isinstance(event, MediaInfo):
            assert following.decision is not None, "readers decide before they open"
            following.media = self._start(candidate, following.decision, event)
            self.batcher.start(number, following.media)
        else:
            assert following.media is not None, "readers open before they decode or meet trouble"
            if isinstance(event, Trouble):
                following.media.trouble = event.reason
            else:
                self._add(following.media, event)

    def end(self, number: int, *, failed: bool) -> Following:
        """A file ended; `failed`: it could not be read."""
        following = self._following.pop(number, None) or Following()
        if failed or following.media is None:
            self.batcher.settle(number)
        else:
            following.media.finished = True
        return following

    def _start(self, candidate: Candidate, decision: Decision, info: MediaInfo) -> PartialMedia:
        sources = self._sources(candidate)
        kept: tuple[Source, ...] = ()
        if decision.action == "more" and decision.media is not None:
            sources, kept = self._lacks(decision.media), decision.media.sources
        parts = {source: Part() for source in sources}
        return PartialMedia(candidate.file, decision.content_hash, info, parts, kept)

    def _add(self, media: PartialMedia, chunk: Chunk) -> None:
        for unit, content in chunk.pairs:
            self.batcher.add(media, chunk.source, unit, content)


@dataclass(slots=True)
class Finisher:
    """Encoded files as they are published: unit rows, windows of videos, norms.

    dims: of the vectors of each source. crowded: windows so far with more frames than the head
    takes.
    """

    window_seconds: float
    dims: dict[Source, int]
    head: Head | None = None
    crowded: int = 0

    def finished(self, media: PartialMedia) -> EncodedMedia:
        """As it is published. Raises what encoding it raised."""
        batches = {source: self._batch(source, part) for source, part in media.parts.items()}
        facts = media.file, media.content_hash, media.info
        return EncodedMedia(*facts, batches, media.kept, media.trouble)

    def _batch(self, source: Source, part: Part) -> EmbeddingBatch:
        if not part.units:
            return EmbeddingBatch(np.empty((0, self.dims[source]), np.float32), ())
        rows, norms = with_norms(part.raw())
        if source != "visual":
            return EmbeddingBatch(rows, tuple(part.units), norms)
        seconds, head = self.window_seconds, self.head
        if head is not None:
            self.crowded += crowded_windows(part.units, window_seconds=seconds, head=head)
        return with_windows(rows, norms, part.units, window_seconds=seconds, head=head)
