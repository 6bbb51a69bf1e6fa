"""Run readers in threads, a bounded way ahead of whoever takes their results, in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Event = TypeVar("Event")

ITEMS_PER_WORKER = 4  # started or waiting: keeps workers busy while a long item is taken
EVENTS_PER_ITEM = 2  # decoded but not yet taken, per item: bounds memory
STOP_CHECK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


class _End:
    pass


class _Job(Generic[Item, Event]):
    """One item: its reader fills a bounded queue, its taker empties it."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self._queue: queue.Queue[Event | _Raised | _End] = queue.Queue(EVENTS_PER_ITEM)

    def run(self, read: Callable[[Item], Iterable[Event]], stop: threading.Event) -> None:
        try:
            for event in read(self.item):
                if not self._put(event, stop):
                    return
            self._put(_End(), stop)
        except BaseException as error:  # handed to the taker, whoever it concerns
            self._put(_Raised(error), stop)

    def _put(self, event: Event | _Raised | _End, stop: threading.Event) -> bool:
        while not stop.is_set():
            try:
                self._queue.put(event, timeout=STOP_CHECK_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def events(self) -> Iterator[Event]:
        while True:
            event = self._queue.get()
            if isinstance(event, _End):
                return
            if isinstance(event, _Raised):
                raise event.error
            yield event


def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Iterable[Event]], *, workers: int
) -> Generator[tuple[Item, Iterator[Event]], None, None]:
    """Yield each item with the events that `read(item)` gives, items and events in order.

    `read` runs in `workers` threads, ahead by a few items and a few events of each, so memory
    does not grow with the number of items or the length of one. What `read` raises is raised
    where its item's events are taken. An item's events must be taken before the next item is
    asked for. Closing the iterator stops the readers.
    """
    stop = threading.Event()
    waiting: deque[_Job[Item, Event]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="clipsearch-read")
    try:
        for item in items:
            if len(waiting) >= workers * ITEMS_PER_WORKER:
                oldest = waiting.popleft()
                yield oldest.item, oldest.events()
            job: _Job[Item, Event] = _Job(item)
            waiting.append(job)
            pool.submit(job.run, read, stop)
        while waiting:
            oldest = waiting.popleft()
            yield oldest.item, oldest.events()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
