"""Pictures of many files to vectors in full batches, put back together file by file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from clipsearch.encoders.base import Encoder, Prepared
from clipsearch.types import FoundFile, MediaInfo, Unit, Vectors


@dataclass(slots=True, eq=False)
class PartialMedia:
    """A file whose units are being encoded; `finished` when its reader gave the last one."""

    file: FoundFile
    content_hash: str
    info: MediaInfo
    units: list[Unit] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)  # (n, dim) each, as encoded
    encoded: int = 0
    finished: bool = False
    dropped: bool = False

    @property
    def complete(self) -> bool:
        """Whether every unit has its vector and no more will come."""
        return self.dropped or (self.finished and self.encoded == len(self.units))

    def raw(self) -> Vectors:
        """(units, dim) float32 rows as the encoder gave them, not normalised."""
        return np.concatenate(self.vectors)


class Batcher:
    """Collects pictures until a batch is full, whichever files they are from; keeps file order."""

    def __init__(self, encoder: Encoder, batch_size: int) -> None:
        self._encoder, self._batch_size = encoder, batch_size
        self._waiting: list[tuple[PartialMedia, Prepared]] = []
        self._open: deque[PartialMedia] = deque()

    def start(self, media: PartialMedia) -> None:
        """Announce a file; its pictures follow."""
        self._open.append(media)

    def add(self, media: PartialMedia, unit: Unit, prepared: Prepared) -> None:
        """Queue one picture; encodes when the batch is full."""
        media.units.append(unit)
        self._waiting.append((media, prepared))
        if len(self._waiting) >= self._batch_size:
            self.flush()

    def drop(self, media: PartialMedia) -> None:
        """Forget a file that turned out to be damaged."""
        media.dropped = True
        self._waiting = [pair for pair in self._waiting if pair[0] is not media]

    def flush(self) -> None:
        """Encode what waits."""
        if not self._waiting:
            return
        prepared = [picture for _, picture in self._waiting]
        vectors = self._encoder.encode_images(prepared, normalize=False)
        start = 0
        owners = [media for media, _ in self._waiting]
        while start < len(owners):
            end = start
            while end < len(owners) and owners[end] is owners[start]:
                end += 1
            owners[start].vectors.append(vectors[start:end])
            owners[start].encoded += end - start
            start = end
        self._waiting = []

    def completed(self) -> Iterator[PartialMedia]:
        """Take the files that are done, in order, without the dropped ones."""
        while self._open and self._open[0].complete:
            media = self._open.popleft()
            if not media.dropped:
                yield media
