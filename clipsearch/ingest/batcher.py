"""Units of many files to vectors in full batches, put back together file by file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipsearch.types import FoundFile, MediaInfo, Source, Unit, Vectors

Encode = Callable[[Sequence[Any]], Vectors]  # what units hold → (n, dim) rows, as the encoder gives


@dataclass(slots=True, eq=False)
class Part:
    """What a file has for one source: units, and the vectors of those that are encoded."""

    units: list[Unit] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)  # (n, dim) each, as encoded
    encoded: int = 0

    def raw(self) -> Vectors:
        """(units, dim) float32 rows as the encoder gave them, not normalised; there are some."""
        return np.concatenate(self.vectors)


@dataclass(slots=True, eq=False)
class PartialMedia:
    """A file whose units are being encoded; `finished` when its reader gave the last one.

    parts: of the sources that are looked at. kept: sources whose rows the store keeps. trouble:
    what of it could not be read.
    """

    file: FoundFile
    content_hash: str
    info: MediaInfo
    parts: dict[Source, Part]
    kept: tuple[Source, ...] = ()
    trouble: str | None = None
    finished: bool = False
    dropped: bool = False

    @property
    def complete(self) -> bool:
        """Whether every unit has its vector and no more will come."""
        done = all(part.encoded == len(part.units) for part in self.parts.values())
        return self.dropped or (self.finished and done)


class Batcher:
    """Collects units until a batch of their source is full, whichever files they are from; keeps
    file order.
    """

    def __init__(self, encoders: Mapping[Source, Encode], batch_size: int) -> None:
        self._encoders, self._batch_size = encoders, batch_size
        self._waiting: dict[Source, list[tuple[PartialMedia, Any]]] = {s: [] for s in encoders}
        self._open: deque[PartialMedia] = deque()

    def start(self, media: PartialMedia) -> None:
        """Announce a file; its units follow."""
        self._open.append(media)

    def add(self, media: PartialMedia, source: Source, unit: Unit, content: Any) -> None:
        """Queue one unit with what its encoder takes; encodes when the batch is full."""
        media.parts[source].units.append(unit)
        self._waiting[source].append((media, content))
        if len(self._waiting[source]) >= self._batch_size:
            self._encode(source)

    def drop(self, media: PartialMedia) -> None:
        """Forget a file that turned out to be damaged."""
        media.dropped = True
        for source, waiting in self._waiting.items():
            self._waiting[source] = [pair for pair in waiting if pair[0] is not media]

    def unblock(self) -> None:
        """Encode what the first file waits for: a source of few units holds no other files up."""
        if self._open and self._open[0].finished:
            for source, part in self._open[0].parts.items():
                if part.encoded < len(part.units):
                    self._encode(source)

    def flush(self) -> None:
        """Encode what waits."""
        for source in self._waiting:
            self._encode(source)

    def _encode(self, source: Source) -> None:
        waiting, self._waiting[source] = self._waiting[source], []
        if not waiting:
            return
        vectors = self._encoders[source]([content for _, content in waiting])
        start = 0
        owners = [media for media, _ in waiting]
        while start < len(owners):
            end = start
            while end < len(owners) and owners[end] is owners[start]:
                end += 1
            part = owners[start].parts[source]
            part.vectors.append(vectors[start:end])
            part.encoded += end - start
            start = end

    def completed(self) -> Iterator[PartialMedia]:
        """Take the files that are done, in order, without the dropped ones."""
        while self._open and self._open[0].complete:
            media = self._open.popleft()
            if not media.dropped:
                yield media
