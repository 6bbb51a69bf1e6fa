"""What is seen, heard and said in one store: a space, segments and a quantiser for each."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipsearch.errors import IndexDamagedError, UsageError
from clipsearch.store import snapshot as snapshot_module
from clipsearch.store import upkeep
from clipsearch.store import writer as writer_module
from clipsearch.store.manifest import AudioSettings
from clipsearch.store.store import Store
from clipsearch.types import (
    KINDS_OF,
    SOURCES,
    EmbeddingBatch,
    EncodedMedia,
    FoundFile,
    MediaInfo,
    Source,
    Unit,
    Vectors,
)
from tests.vectors import DIM, ROOT, manifest, unit_rows

AUDIO_DIM = 24
DIMS: dict[Source, int] = {"visual": DIM, "audio": AUDIO_DIM, "text": DIM}


def film(name: str, seed: int, *, count: int = 6, sources: tuple[Source, ...] = SOURCES):
    """A film of `count` frames, windows of sound and subtitles, as far as `sources` says."""
    units: dict[Source, list[Unit]] = {
        "visual": [Unit("frame", float(i), i + 1.0, i) for i in range(count)],
        "audio": [Unit("audio", 5.0 * i, 5.0 * i + 10) for i in range(count)],
        "text": [Unit("text", float(i), i + 0.5, text=f"{name} says {i}") for i in range(count)],
    }
    batches = {
        s: EmbeddingBatch(unit_rows(count, seed + at, DIMS[s]), tuple(units[s]))
        for at, s in enumerate(SOURCES)
        if s in sources
    }
    return EncodedMedia(
        FoundFile(ROOT, name, "video", 1, 1), f"hash of {name}", MediaInfo(64, 48, 9.0), batches
    )


def films(first: int, count: int, **options) -> list[EncodedMedia]:
    return [film(f"{i}.mp4", 10 * i, **options) for i in range(first, first + count)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    audio = AudioSettings("fake:24", "fake:24@1", AUDIO_DIM, 10.0, 5.0)
    return Store.create(tmp_path / "index", replace(manifest(), audio=audio, texts=True))


def publish(store: Store, *batches: list[EncodedMedia]) -> None:
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        for batch in batches:
            writer.publish(batch)


def answers(store: Store, source: Source, query: Vectors, k: int, **options):
    """(scores, (file, start)) of the best."""
    [units] = store.search(query[None], k=k, kinds=KINDS_OF[source], **options)
    names = store.catalog.media({unit.media_id for unit in units})
    found = [(names[u.media_id].relative, u.unit.start_seconds) for u in units]
    return [unit.score for unit in units], found


def expected(media: list[EncodedMedia], source: Source, query: Vectors, k: int):
    rows = [
        (float(vector.astype(np.float16).astype(np.float32) @ query), item.file.relative, unit)
        for item in media
        if source in item.batches
        for vector, unit in zip(
            item.batches[source].vectors, item.batches[source].units, strict=True
        )
    ]
    rows.sort(key=lambda row: -row[0])
    return [row[0] for row in rows[:k]], [(name, unit.start_seconds) for _, name, unit in rows[:k]]


def assert_answers(store: Store, media: list[EncodedMedia], *, k: int = 50) -> None:
    for source in SOURCES:
        query = unit_rows(1, 999, DIMS[source])[0]
        scores, found = answers(store, source, query, k)
        right_scores, right = expected(media, source, query, k)
        assert found == right
        np.testing.assert_allclose(scores, right_scores, atol=2e-6)


def problems(store: Store) -> list[upkeep.Problem]:
    return upkeep.verify(store, on_step=lambda _: None)


def test_each_source_answers_by_itself_with_vectors_of_its_own_length(store: Store) -> None:
    media = [*films(1, 4), *films(5, 2, sources=("visual",)), *films(7, 1, sources=("audio",))]
    publish(store, media[:3], media[3:])
    assert_answers(store, media)
    assert store.sources() == SOURCES
    assert problems(store) == []


def test_several_sources_are_asked_one_by_one(store: Store) -> None:
    publish(store, films(1, 1))
    with pytest.raises(UsageError, match="several spaces"):
        store.search(unit_rows(1, 0), k=1, kinds=("frame", "text"))
    with pytest.raises(UsageError, match="queries have 32 dimensions, not 24"):
        store.search(unit_rows(1, 0, DIM), k=1, kinds=("audio",))


def test_ids_are_given_once_across_sources_and_find_their_rows(store: Store) -> None:
    publish(store, films(1, 2), films(3, 2))
    ids = [
        unit.id
        for source in SOURCES
        for unit in store.search(unit_rows(1, 1, DIMS[source]), k=99, kinds=KINDS_OF[source])[0]
    ]
    assert sorted(ids) == list(range(1, 4 * 18 + 1))
    rows, columns, there = store.rows(np.array([*ids, 10_000]))
    assert there.tolist() == [True] * len(ids) + [False]
    assert rows["id"].tolist() == ids
    said = [content.decode() for content in columns if content]
    assert len(said) == 4 * 6
    assert '{"text": "1.mp4 says 0"}' in said


def test_what_is_kept_stays_and_what_is_read_again_is_replaced(store: Store) -> None:
    publish(store, films(1, 2, sources=("visual",)))
    before = store.search(unit_rows(1, 1), k=99)[0]
    more = film("1.mp4", 10, sources=("audio", "text"))
    publish(store, [replace(more, kept=("visual",))])
    media = [film("1.mp4", 10), film("2.mp4", 20, sources=("visual",))]
    assert_answers(store, media)
    assert store.search(unit_rows(1, 1), k=99)[0] == before, "its frames were not touched"
    sources = {m.relative: m.sources for m in store.catalog.all_media()}
    assert sources == {"1.mp4": SOURCES, "2.mp4": ("visual",)}
    anew = film("1.mp4", 77, sources=("visual", "audio"))
    publish(store, [anew])
    assert_answers(store, [anew, media[1]])
    assert problems(store) == []


def test_a_file_in_which_nothing_is_heard_is_known_all_the_same(store: Store) -> None:
    silent = EmbeddingBatch(np.empty((0, AUDIO_DIM), np.float32), ())
    file = FoundFile(ROOT, "silence.wav", "audio", 1, 1)
    publish(store, [EncodedMedia(file, "hash", MediaInfo(0, 0, 3.0), {"audio": silent})])
    [media] = store.catalog.all_media()
    assert (media.kind, media.state, media.sources) == ("audio", "ready", ("audio",))
    assert media.info == MediaInfo(0, 0, 3.0)
    assert store.sources() == ()


def test_units_of_another_source_are_refused() -> None:
    batch = EmbeddingBatch(unit_rows(1, 0), (Unit("image"),))
    file = FoundFile(ROOT, "a.wav", "audio", 1, 1)
    with pytest.raises(UsageError, match="another source than audio"):
        EncodedMedia(file, "hash", MediaInfo(0, 0), {"audio": batch})
    with pytest.raises(UsageError, match="kept and replaced"):
        EncodedMedia(file, "hash", MediaInfo(0, 0), {"visual": batch}, ("visual",))


def test_merging_keeps_sources_apart(store: Store) -> None:
    media = films(1, 20)
    publish(store, *([item] for item in media))
    with store.writing() as writer:
        writer.maintain()
        writer.catalog.remove_media([1, 2])
        writer.compact(memory=0)
    entries = store.catalog.segments()
    assert sorted(entry.source for entry in entries) == sorted(SOURCES)
    assert [entry.row_count for entry in entries] == [18 * 6] * 3
    assert_answers(store, media[2:])
    assert problems(store) == []


def test_each_source_has_a_quantiser_of_its_own(store: Store, monkeypatch) -> None:
    monkeypatch.setattr(writer_module, "SMALLEST_TRAINING_ROWS", 1000)
    for module in (writer_module, snapshot_module):
        monkeypatch.setattr(module, "SCANNED_ROWS", 150)
    media = [film(f"{i}.mp4", 10 * i, count=900) for i in (1, 2)]
    media.append(film("3.mp4", 30, count=900, sources=("text",)))
    publish(store, media)
    upkeep.compact(store, recipe="ivfpq", retrain=False, wait=True, on_step=lambda _: None)
    facts = {one.source: one for one in store.catalog.quantisers()}
    assert {source: one.rows for source, one in facts.items()} == {
        "visual": 1800,
        "audio": 1800,
        "text": 2700,
    }
    for source in SOURCES:
        snapshot = store.snapshot(source)
        assert [one.facts for one in snapshot.quantisers] == [facts[source]]
        assert all(view.segment.lists is not None for view in snapshot.views)
        query = unit_rows(1, 999, DIMS[source])[0]
        scores, found = answers(store, source, query, 20)
        right_scores, right = expected(media, source, query, 20)
        assert len(set(found) & set(right)) >= 15
        exact = answers(store, source, query, 20, exact=True)
        assert exact[1] == right
        assert scores[0] == pytest.approx(right_scores[0], abs=1e-5)
    with store.writing() as writer:
        writer.publish([replace(film("3.mp4", 30, count=900, sources=("text",)))])
        for item in (film("1.mp4", 10, count=900), film("2.mp4", 20, count=900)):
            writer.publish([replace(item, batches={"visual": item.batches["visual"]})])
    upkeep.compact(store, recipe="flat", retrain=False, wait=True, on_step=lambda _: None)
    assert store.catalog.quantisers() == (), "also where no sound is left"
    assert store.sources() == ("visual", "text")


@pytest.mark.parametrize("source", SOURCES)
def test_damage_in_one_source_leaves_the_others(store: Store, source: Source) -> None:
    media = films(1, 2)
    publish(store, media)
    [entry] = [e for e in store.catalog.segments() if e.source == source]
    path = store.folder / "segments" / entry.name / "vectors.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x40
    path.write_bytes(content)
    store.forget_snapshot()
    with pytest.raises(IndexDamagedError, match=r"vectors.npy is damaged"):
        answers(store, source, unit_rows(1, 0, DIMS[source])[0], 3)
    report = upkeep.repair(store, wait=True, on_step=lambda _: None)
    assert (len(report.losses), report.left) == (1, ())
    known = {m.relative: (m.state, m.sources) for m in store.catalog.all_media()}
    left = tuple(one for one in SOURCES if one != source)
    assert known["1.mp4"] == ("ready", SOURCES)
    if source == "visual":
        assert known["2.mp4"][0] == "failed"
        assert_answers(store, media[:1])
        return
    assert known["2.mp4"] == ("ready", left)
    assert_answers(store, [media[0], film("2.mp4", 20, sources=left)])
    publish(store, [replace(film("2.mp4", 20, sources=(source,)), kept=left)])
    assert_answers(store, media)


def test_a_catalog_that_mistakes_a_source_is_found_out(store: Store) -> None:
    publish(store, films(1, 1))
    with store.catalog._writing() as db:
        db.exec_driver_sql("UPDATE segments SET source = 'text' WHERE source = 'visual'")
    with pytest.raises(IndexDamagedError, match="of the source text, but it has rows of kind"):
        store.search(unit_rows(1, 0), k=1)
    assert "of the source text" in problems(store)[0].what


def test_a_catalog_that_mistakes_a_kind_is_found_out(store: Store) -> None:
    publish(store, films(1, 1))
    with store.catalog._writing() as db:
        db.exec_driver_sql("UPDATE ranges SET kind = 'video' WHERE kind = 'frame'")
    assert "of another kind than video" in problems(store)[0].what


def test_a_manifest_without_sound_says_so_where_there_is_some(store: Store, tmp_path: Path) -> None:
    publish(store, films(1, 1))
    store.close()
    shutil.copytree(store.folder, tmp_path / "other")
    other = Store.open(tmp_path / "other")
    other.update_manifest(audio=None)
    with pytest.raises(IndexDamagedError, match="the manifest knows of no sound"):
        other.search(unit_rows(1, 0), k=1)
