"""Encode batches in threads of their own, a bounded number at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from clipsearch.encoders.base import Feeding
from clipsearch.encoders.devices import limit_threads
from clipsearch.types import Source, Vectors

Encode = Callable[[Sequence[Any]], Vectors]  # what units hold → (n, dim) rows, as the encoder gives

BATCHES_AHEAD = 2  # waiting while every thread has one: enough that none waits for the next
WAIT_SECONDS = 0.1
STOP_SECONDS = 0.5  # to wait for a batch that is being encoded when a run is given up

T = TypeVar("T")
_Job = tuple[Source, Sequence[Any], "Future[Vectors]"]


class Encoding:
    """As many threads as the encoder is fed by at once, each with one batch.

    The threads are daemons, as no library of ours can be interrupted in the middle of a batch.
    """

    def __init__(self, encoders: Mapping[Source, Encode], feeding: Feeding) -> None:
        self._encoders, self._feeding = encoders, feeding
        self._jobs: queue.Queue[_Job | None] = queue.Queue(BATCHES_AHEAD)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, name="clipsearch-encode", daemon=True)
            for _ in range(feeding.calls)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Encoding:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close(finish=error is None)

    def submit(self, source: Source, contents: Sequence[Any]) -> Future[Vectors]:
        """Have a batch encoded; waits while enough others do.

        Raises what an earlier one raised: a long video is not decoded to its end for nothing.
        """
        if self._error is not None:
            raise self._error
        future: Future[Vectors] = Future()
        self._jobs.put((source, contents, future))
        return future

    def close(self, *, finish: bool) -> None:
        """End the threads: after all that was submitted, or as soon as they are done with the
        batch that they are at, for which it does not wait long.
        """
        if not finish:
            self._stop.set()
        else:
            for _ in self._threads:
                self._jobs.put(None)
        for thread in self._threads:
            thread.join(None if finish else STOP_SECONDS / len(self._threads))

    def _work(self) -> None:
        limit_threads(self._feeding.threads)
        while not self._stop.is_set():
            try:
                job = self._jobs.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                continue
            if job is None:
                return
            source, contents, future = job
            try:
                future.set_result(self._encoders[source](contents))
            except BaseException as error:  # raised where the rows are taken
                self._error = error
                future.set_exception(error)


def leavable(work: Callable[[], T]) -> T:
    """What `work` gives or raises. It is done in a daemon thread: an interrupt of this one does not
    wait for its end.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # raised by whoever waits
            done.set_exception(error)

    threading.Thread(target=run, name="clipsearch-tune", daemon=True).start()
    return done.result()
