"""Reading ahead keeps order, bounds and errors where they belong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from clipsearch.ingest.readahead import EVENTS_PER_ITEM, ITEMS_PER_WORKER, read_ahead


def countdown(item: int) -> Iterator[tuple[int, int]]:
    for number in range(item % 5):
        time.sleep(0.001 * (item % 3))
        yield item, number


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_items_and_events_come_in_order(workers: int) -> None:
    taken = [
        (item, list(events)) for item, events in read_ahead(range(50), countdown, workers=workers)
    ]
    assert taken == [(item, list(countdown(item))) for item in range(50)]


def test_an_error_is_raised_where_its_item_is_taken_and_the_rest_goes_on() -> None:
    def read(item: int) -> Iterator[int]:
        yield item
        if item == 3:
            raise ValueError("three")

    good = []
    for item, events in read_ahead(range(6), read, workers=2):
        if item == 3:
            with pytest.raises(ValueError, match="three"):
                list(events)
        else:
            good += list(events)
    assert good == [0, 1, 2, 4, 5]


def test_readers_stay_a_bounded_way_ahead() -> None:
    workers, started, produced = 2, [], []

    def read(item: int) -> Iterator[int]:
        started.append(item)
        for number in range(100):
            produced.append(item)
            yield number

    reading = read_ahead(range(1000), read, workers=workers)
    _, events = next(reading)
    next(events)
    time.sleep(0.1)
    assert len(started) <= workers * ITEMS_PER_WORKER
    assert len(produced) <= workers * (EVENTS_PER_ITEM + 2)
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
