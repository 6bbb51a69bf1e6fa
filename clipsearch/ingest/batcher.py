"""Units of many files to vectors in full batches, put back together file by file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from clipsearch.types import FoundFile, MediaInfo, Source, Unit, Vectors

Submit = Callable[[Source, Sequence[Any]], Future[Vectors]]

# A file that takes longer, a long video or one on a disk that does not answer, is overtaken by
# those that are complete: what is done is not kept from being published.
OVERTAKEN_SECONDS = 10.0
MOST_WAVES = 32  # in a batch, also where 1024 pictures suit a GPU: ten seconds of sound are 2 MB


class _Rows(NamedTuple):
    """Rows [first, last_exclusive) of a batch."""

    batch: Future[Vectors]
    first: int
    last_exclusive: int


@dataclass(slots=True, eq=False)
class Part:
    """What a file has for one source: units, and where the vectors of those that were handed to
    the encoder will be.
    """

    units: list[Unit] = field(default_factory=list)
    rows: list[_Rows] = field(default_factory=list)
    submitted: int = 0

    @property
    def complete(self) -> bool:
        """Whether every unit so far has its vector."""
        return self.submitted == len(self.units) and all(rows.batch.done() for rows in self.rows)

    def raw(self) -> Vectors:
        """(units, dim) float32 rows as the encoder gave them, not normalised; there are some.

        Raises what the encoder raised.
        """
        return np.concatenate(
            [rows.batch.result()[rows.first : rows.last_exclusive] for rows in self.rows]
        )


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

    @property
    def complete(self) -> bool:
        """Whether every unit has its vector and no more will come."""
        return self.finished and all(part.complete for part in self.parts.values())


class Batcher:
    """Collects units until a batch of their source is full, whichever files they are from; gives
    files back in the order of their numbers, as far as none of them takes too long.
    """

    def __init__(self, submit: Submit, sources: Sequence[Source], batch_size: int) -> None:
        self._submit, self.batch_size = submit, batch_size
        self._waiting: dict[Source, list[tuple[PartialMedia, Any]]] = {s: [] for s in sources}
        self._open: dict[int, PartialMedia] = {}  # by number
        self._settled: set[int] = set()  # later numbers that are done with
        self._next = 0
        self._next_since = time.monotonic()

    def start(self, number: int, media: PartialMedia) -> None:
        """Announce a file; its units follow. Numbers count from 0 without gaps, in any order."""
        self._open[number] = media

    def settle(self, number: int) -> None:
        """There is nothing of a file to encode, or no use for it: it turned out to be damaged."""
        media = self._open.pop(number, None)
        self._settled.add(number)
        if media is not None:
            for source, waiting in self._waiting.items():
                self._waiting[source] = [pair for pair in waiting if pair[0] is not media]

    def add(self, media: PartialMedia, source: Source, unit: Unit, content: Any) -> None:
        """Queue one unit with what its encoder takes; hands the batch over when it is full."""
        media.parts[source].units.append(unit)
        self._waiting[source].append((media, content))
        size = min(self.batch_size, MOST_WAVES) if source == "audio" else self.batch_size
        if len(self._waiting[source]) >= size:
            self._hand_over(source)

    def unblock(self) -> None:
        """Hand over what the first file waits for: a source of few units holds no files up."""
        first = self._open.get(self._next)
        if first is not None and first.finished:
            for source, part in first.parts.items():
                if part.submitted < len(part.units):
                    self._hand_over(source)

    def flush(self) -> None:
        """Hand over what waits."""
        for source in self._waiting:
            self._hand_over(source)

    @property
    def pending(self) -> bool:
        """Whether files were started and not given back."""
        return bool(self._open)

    def wait(self, seconds: float) -> None:
        """Wait until one more batch is encoded, but not longer than this."""
        parts = (part for media in self._open.values() for part in media.parts.values())
        batches = {rows.batch for part in parts for rows in part.rows if not rows.batch.done()}
        futures.wait(batches, seconds, futures.FIRST_COMPLETED)

    def _hand_over(self, source: Source) -> None:
        waiting, self._waiting[source] = self._waiting[source], []
        if not waiting:
            return
        batch = self._submit(source, [content for _, content in waiting])
        start = 0
        owners = [media for media, _ in waiting]
        while start < len(owners):
            end = start
            while end < len(owners) and owners[end] is owners[start]:
                end += 1
            part = owners[start].parts[source]
            part.rows.append(_Rows(batch, start, end))
            part.submitted += end - start
            start = end

    def completed(self, *, in_order: bool = True) -> Iterator[PartialMedia]:
        """Take the files that are done, in order; with `in_order` False, or behind one that takes
        too long, whichever are.
        """
        while True:
            if self._next in self._settled:
                self._settled.remove(self._next)
            elif self._next in self._open and self._open[self._next].complete:
                yield self._open.pop(self._next)
            else:
                break
            self._next += 1
            self._next_since = time.monotonic()
        if not in_order or time.monotonic() - self._next_since > OVERTAKEN_SECONDS:
            for number in sorted(self._open):
                if self._open[number].complete:
                    self._settled.add(number)
                    yield self._open.pop(number)
