"""Write what is complete in a thread of its own, in the order it came."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from clipsearch.store.writer import Writer
from clipsearch.types import EncodedMedia, FoundFile, Source

WAITING = 2  # publications; whoever asks for more waits, as a merge may take seconds


class Publishing:
    """One thread that writes, for as long as a run adds files.

    What it raises, a full disk say, is raised by the next call of any method; nothing is written
    after that.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._hurry, self._dropped = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._published = threading.Event()  # the last publication that was asked for is done
        self._published.set()
        self._thread = threading.Thread(target=self._work, name="clipsearch-publish", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a publication is under way or waits; failures, maybe many, do not count."""
        return self._error is None and not self._published.is_set()

    def publish(
        self, media: Sequence[EncodedMedia], moves: Sequence[tuple[int, FoundFile]]
    ) -> None:
        """Make files searchable, and moved ones known under their new paths; then merge small
        segments if there are many.
        """

        published = threading.Event()

        def write() -> None:
            self._writer.catalog.move_media(moves)
            self._writer.publish(media)
            if not self._hurry.is_set():
                self._writer.tidy(self._hurry.is_set)
            published.set()

        self._put(write)
        self._published = published

    def put_failure(
        self, file: FoundFile, content_hash: str, reason: str, read: tuple[Source, ...]
    ) -> None:
        """Remember that this content cannot be read."""
        self._put(lambda: self._writer.put_failure(file, content_hash, reason, read))

    def drain(self) -> None:
        """Wait until all is written."""
        self._jobs.join()
        self._check()

    def close(self, *, hurry: bool = False) -> None:
        """End the thread when all is written; `hurry` leaves merging to another time.

        One that is interrupted still waits for what is being written, but drops what waits: the
        lock of the index must not be given back beneath a writing thread.
        """
        if hurry:
            self._hurry.set()
        try:
            self._jobs.put(None)
            self._thread.join()
        except BaseException:
            self._hurry.set()
            self._dropped.set()
            with suppress(queue.Full):
                self._jobs.put_nowait(None)
            self._thread.join()
            raise
        self._check()

    def _put(self, job: Callable[[], None]) -> None:
        self._check()
        self._jobs.put(job)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._dropped.is_set():
            try:
                if self._error is None:
                    job()
            except BaseException as error:  # raised where the next publication is asked for
                self._error = error
            finally:
                self._jobs.task_done()
