"""From events of files to published files: encoding and writing run beside the taking."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from clipsearch.encoders.base import Feeding
from clipsearch.ingest.batcher import Batcher
from clipsearch.ingest.encoding import Encode, Encoding
from clipsearch.ingest.intake import Finisher, Intake
from clipsearch.ingest.publishing import Publishing
from clipsearch.store.writer import Writer
from clipsearch.types import EncodedMedia, FoundFile, Source, Vectors

# A kill loses at most what was not published: a few seconds of work.
PUBLISH_SECONDS = 3.0
PUBLISH_ROWS = 8192
MOST_ROWS = 8 * PUBLISH_ROWS  # that wait while the writer is busy, before the encoders do
WORTH_A_TRIAL = 64  # pictures: a run of fewer is over before a trial would pay
WAIT_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Encoders:
    """How each source is encoded, and how the encoder of pictures is fed.

    feeding: asked again after `tune`, which tries what is fastest; None does not.
    """

    encode: dict[Source, Encode]
    feeding: Callable[[], Feeding]
    tune: Callable[[], None] | None = None


class Flow:
    """The taking side of a run: feed events in, in one thread; a context manager.

    When an exception ends it, what is complete by then is published, whatever its order.
    """

    def __init__(self, writer: Writer, encoders: Encoders, finisher: Finisher) -> None:
        self._encoders, self._finisher = encoders, finisher
        self._tune = encoders.tune
        self._encoding = Encoding(encoders.encode, encoders.feeding())
        self.publishing = Publishing(writer)
        self._batcher = self._new_batcher()
        self._ready: list[EncodedMedia] = []
        self._ready_rows = self._pictures = 0
        self._moves: list[tuple[int, FoundFile]] = []
        self._published_at = time.monotonic()

    def __enter__(self) -> Flow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        hurry = True
        try:
            self._encoding.close(finish=error is None)
            self._collect(giving_up=error is not None)
            self._publish()
            hurry = error is not None
        finally:
            self.publishing.close(hurry=hurry)

    def intake(self, *how: Any) -> Intake:
        """For the files of one scope, whose numbers count from 0."""
        self._batcher = self._new_batcher()
        return Intake(self._batcher, *how)

    def move(self, id_: int, file: FoundFile) -> None:
        """Have a known file known under another path from the next publication on."""
        self._moves.append((id_, file))

    def advance(self) -> None:
        """Publish what is complete, when it is time and the writer is free."""
        due = time.monotonic() - self._published_at >= PUBLISH_SECONDS
        if due:
            self._batcher.unblock()
        self._collect()
        ripe = due or self._ready_rows >= PUBLISH_ROWS
        free = not self.publishing.busy or self._ready_rows >= MOST_ROWS
        if (self._ready or self._moves) and ripe and free:
            self._publish()

    def finish(self) -> None:
        """Encode and publish all that was fed; for the end of a scope."""
        self._batcher.flush()
        while self._batcher.pending:
            self.advance()
            self._batcher.wait(WAIT_SECONDS)
        self._collect()
        self._publish()
        self.publishing.drain()

    def _new_batcher(self) -> Batcher:
        size = self._encoders.feeding().batch
        return Batcher(self._submit, tuple(self._encoders.encode), size)

    def _submit(self, source: Source, contents: Sequence[Any]) -> Future[Vectors]:
        future = self._encoding.submit(source, contents)
        self._pictures += len(contents) if source == "visual" else 0
        if self._tune is not None and self._pictures >= WORTH_A_TRIAL:
            self._encoding.close(finish=True)
            self._tune()
            self._tune = None
            feeding = self._encoders.feeding()
            self._encoding = Encoding(self._encoders.encode, feeding)
            self._batcher.batch_size = feeding.batch
        return future

    def _collect(self, *, giving_up: bool = False) -> None:
        for media in self._batcher.completed(in_order=not giving_up):
            try:
                encoded = self._finisher.finished(media)
            except Exception:
                if giving_up:
                    continue  # that is why it is given up, perhaps
                raise
            self._ready.append(encoded)
            self._ready_rows += encoded.row_count

    def _publish(self) -> None:
        self._published_at = time.monotonic()
        if self._ready or self._moves:
            self.publishing.publish(self._ready, self._moves)  # kept if that is interrupted
        self._ready, self._ready_rows, self._moves = [], 0, []
