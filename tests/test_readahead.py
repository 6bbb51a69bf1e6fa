"""Reading ahead keeps order, bounds and errors where they belong."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

from clipsearch.errors import MediaError
from clipsearch.ingest import readahead
from clipsearch.ingest.readahead import read_ahead


def countdown(item: int) -> Iterator[tuple[int, int]]:
    for number in range(item % 5):
        time.sleep(0.001 * (item % 3))
        yield item, number


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_every_event_comes_once_and_those_of_an_item_in_order(workers: int) -> None:
    taken: dict[int, list[tuple[int, int]]] = defaultdict(list)
    numbers, ended = {}, []
    for message in read_ahead(iter(range(100, 150)), countdown, workers=workers):
        assert message.item not in ended
        taken[message.item] += message.events
        numbers[message.item] = message.number
        if message.ended:
            ended.append(message.item)
    assert sorted(ended) == list(range(100, 150))
    assert all(taken[item] == list(countdown(item)) for item in range(100, 150))
    assert numbers == {item: item - 100 for item in range(100, 150)}


def test_a_bad_item_ends_with_its_error_and_the_rest_goes_on() -> None:
    def read(item: int) -> Iterator[int]:
        yield item
        if item == 3:
            raise MediaError("three")

    ends = {m.item: str(m.error) for m in read_ahead(range(6), read, workers=2) if m.ended}
    assert ends == {item: "three" if item == 3 else "None" for item in range(6)}


@pytest.mark.parametrize("where", ["find", "read"])
def test_other_errors_end_it_all(where: str) -> None:
    def items() -> Iterator[int]:
        yield from range(6)
        if where == "find":
            raise OSError("disk")
        yield from range(1000)

    def read(item: int) -> Iterator[int]:
        if item == 3 and where == "read":
            raise OSError("disk")
        yield item

    with pytest.raises(OSError, match="disk"):
        list(read_ahead(items(), read, workers=2))
    assert not [t for t in threading.enumerate() if t.name.startswith("clipsearch-")]


def test_one_that_takes_long_holds_no_other_up() -> None:
    go_on = threading.Event()

    def read(item: int) -> Iterator[int]:
        if item == 0:
            assert go_on.wait(20)
        yield item

    ended = []
    for message in read_ahead(range(60), read, workers=2):
        ended.append(message.item)
        if len(ended) == 59:
            assert 0 not in ended
            go_on.set()
    assert sorted(ended) == list(range(60))


def test_passed_items_are_not_read() -> None:
    def read(item: int) -> Iterator[int]:
        assert item % 2
        yield item

    messages = list(read_ahead(range(20), read, workers=2, passed=lambda item: item % 2 == 0))
    assert sorted(m.item for m in messages if m.ended) == list(range(20))
    assert sorted(event for m in messages for event in m.events) == list(range(1, 20, 2))


def test_readers_stay_a_bounded_way_ahead() -> None:
    workers = 2
    found, started, produced = [], [], []

    def items() -> Iterator[int]:
        for number in range(1000):
            found.append(number)
            yield number

    def read(item: int) -> Iterator[int]:
        started.append(item)
        for number in range(100):
            produced.append(item)
            yield number

    reading = read_ahead(items(), read, workers=workers)
    next(reading)
    time.sleep(0.2)
    messages = workers + readahead.MESSAGES_AHEAD + workers + 1  # queued, held, taken
    assert len(produced) <= messages * readahead.EVENTS_AT_ONCE
    assert len(started) <= workers
    assert len(found) <= workers * (readahead.ITEMS_PER_WORKER + 1) + 1
    reading.close()


def test_closing_stops_the_readers() -> None:
    def endless(_: int) -> Iterator[int]:
        while True:
            yield 0

    before = threading.active_count()
    reading = read_ahead(range(10), endless, workers=3)
    next(reading)
    reading.close()
    assert threading.active_count() == before


def test_closing_does_not_wait_for_a_reader_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, "STOP_SECONDS", 0.05)
    hang = threading.Event()

    def read(item: int) -> Iterator[int]:
        yield item
        if item == 1:
            hang.wait(20)

    reading = read_ahead(range(10), read, workers=2)
    next(reading)
    reading.close()
    left = [t for t in threading.enumerate() if t.name == "clipsearch-read"]
    assert left
    assert all(thread.daemon for thread in left)
    hang.set()
    for thread in left:
        thread.join(20)
        assert not thread.is_alive()
