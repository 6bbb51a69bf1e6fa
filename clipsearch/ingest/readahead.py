"""Find items in one thread and read them in others, a bounded way ahead of whoever takes it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from clipsearch.errors import MediaError

Item = TypeVar("Item")
Event = TypeVar("Event")

ITEMS_PER_WORKER = 4  # found but not yet begun
EVENTS_AT_ONCE = 3  # of one item in a message: a picture's all, so that threads take turns less
MESSAGES_AHEAD = 4  # besides one for each worker: bounds memory
STOP_CHECK_SECONDS = 0.1
IDLE_SECONDS = 0.25
STOP_SECONDS = 0.5  # to wait for readers that are in the middle of something


@dataclass(frozen=True, slots=True)
class Message(Generic[Item, Event]):
    """What became of an item: more of its events, and whether it ended or could not be read.

    number: of the item, from 0 in the order found.
    """

    number: int
    item: Item
    events: Sequence[Event] = ()
    ended: bool = False
    error: MediaError | None = None


@dataclass(frozen=True, slots=True)
class _Raised:
    """What concerns the whole run and not one item."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class _Found:
    """There are no more items; so many there were."""

    count: int


class _StoppedError(Exception):
    """Nobody takes anything any more."""


class _Readers(Generic[Item, Event]):
    """The threads and the queues between them. They are daemons: a reader that hangs in a library
    must not keep the program from ending.
    """

    def __init__(
        self, read: Callable[[Item], Iterable[Event]], workers: int, stop: threading.Event
    ) -> None:
        self._read, self._workers, self._stop = read, workers, stop
        self._jobs: queue.Queue[tuple[int, Item] | None] = queue.Queue(workers * ITEMS_PER_WORKER)
        self.inbox: queue.Queue[Message[Item, Event] | _Raised | _Found] = queue.Queue(
            workers + MESSAGES_AHEAD
        )
        self._threads: list[threading.Thread] = []

    def start(self, items: Iterable[Item], passed: Callable[[Item], bool]) -> None:
        self._run("find", lambda: self._find(items, passed))
        for _ in range(self._workers):
            self._run("read", self._work)

    def close(self) -> None:
        """Stop; wait for threads that are busy, but not for long."""
        self._stop.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self, name: str, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except _StoppedError:
                return
            except BaseException as error:  # handed to the taker, whoever it concerns
                try:
                    self._put(self.inbox, _Raised(error))
                except _StoppedError:
                    return

        thread = threading.Thread(target=guarded, name=f"clipsearch-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _find(self, items: Iterable[Item], passed: Callable[[Item], bool]) -> None:
        count = 0
        for item in items:
            if passed(item):
                self._put(self.inbox, Message(count, item, ended=True))
            else:
                self._put(self._jobs, (count, item))
            count += 1
        for _ in range(self._workers):
            self._put(self._jobs, None)
        self._put(self.inbox, _Found(count))

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            number, item = job
            events: list[Event] = []
            error = None
            try:
                for event in self._read(item):
                    events.append(event)
                    if len(events) == EVENTS_AT_ONCE:
                        self._put(self.inbox, Message(number, item, events))
                        events = []
            except MediaError as raised:
                error = raised
            self._put(self.inbox, Message(number, item, events, ended=True, error=error))

    def _next_job(self) -> tuple[int, Item] | None:
        while not self._stop.is_set():
            try:
                return self._jobs.get(timeout=STOP_CHECK_SECONDS)
            except queue.Empty:
                continue
        raise _StoppedError

    def _put(self, where: queue.Queue[Any], what: object) -> None:
        while not self._stop.is_set():
            try:
                where.put(what, timeout=STOP_CHECK_SECONDS)
                return
            except queue.Full:
                continue
        raise _StoppedError


def read_ahead(
    items: Iterable[Item],
    read: Callable[[Item], Iterable[Event]],
    *,
    workers: int,
    passed: Callable[[Item], bool] = lambda _: False,
    stop: threading.Event | None = None,
    on_idle: Callable[[], None] = lambda: None,
) -> Generator[Message[Item, Event], None, None]:
    """What `read(item)` gives for each item, as it comes.

    `items` is iterated in one thread, `read` runs in `workers` others, ahead by a few items and a
    few events, so memory does not grow with the number of items or the length of one. The events
    of an item come in order; those of several items mix, so that one that takes long holds no
    other up. Items that are `passed` are not read: they come as they are found. A MediaError ends
    its item; what else `items` or `read` raise is raised here. Closing the iterator sets `stop`,
    which `read` may look at, and waits half a second at most for threads that are in the middle of
    something. `on_idle` is called now and then while nothing comes.
    """
    readers: _Readers[Item, Event] = _Readers(read, workers, stop or threading.Event())
    ended, count = 0, -1
    try:
        readers.start(items, passed)
        while ended != count:
            try:
                message = readers.inbox.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                on_idle()
                continue
            if isinstance(message, _Raised):
                raise message.error
            if isinstance(message, _Found):
                count = message.count
                continue
            ended += message.ended
            yield message
    finally:
        readers.close()
