"""The store against brute force, through publishing, removing, merging and training."""

from __future__ import annotations

import json
import multiprocessing
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from clipsearch.errors import (
    IndexDamagedError,
    IndexExistsError,
    IndexLockedError,
    IndexMissingError,
    UsageError,
)
from clipsearch.store import grouping
from clipsearch.store import snapshot as snapshot_module
from clipsearch.store import writer as writer_module
from clipsearch.store.store import Store
from clipsearch.types import VISUAL_KINDS, EncodedMedia, FoundFile, UnitKind, Vectors
from tests.vectors import DIM, ROOT, image, manifest, many, unit_rows


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists for few rows already."""
    monkeypatch.setattr(writer_module, "SMALLEST_TRAINING_ROWS", 1500)
    for module in (writer_module, snapshot_module):
        monkeypatch.setattr(module, "SCANNED_ROWS", 150)


def brute_force(
    media: list[EncodedMedia], query: Vectors, kinds: tuple[UnitKind, ...]
) -> list[tuple[float, str, float | None]]:
    rows = [
        (float(vector.astype(np.float16).astype(np.float32) @ query), m.file.relative, u)
        for m in media
        for vector, u in zip(m.batches["visual"].vectors, m.batches["visual"].units, strict=True)
        if u.kind in kinds
    ]
    rows.sort(key=lambda row: -row[0])
    return [(score, name, unit.start_seconds) for score, name, unit in rows]


def found(
    store: Store, query: Vectors, k: int, kinds: tuple[UnitKind, ...], *, exact: bool = False
) -> list[tuple[float, str, float | None]]:
    units = store.search(query.reshape(1, -1), k=k, kinds=kinds, exact=exact)[0]
    names = store.catalog.media(unit.media_id for unit in units)
    return [(u.score, names[u.media_id].relative, u.unit.start_seconds) for u in units]


def assert_same(
    got: list[tuple[float, str, float | None]], expected: list[tuple[float, str, float | None]]
) -> None:
    np.testing.assert_allclose([g[0] for g in got], [e[0] for e in expected], atol=2e-6)
    assert [g[1:] for g in got] == [e[1:] for e in expected]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "index", manifest())


def publish(store: Store, *batches: list[EncodedMedia]) -> None:
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        for batch in batches:
            writer.publish(batch)


@pytest.mark.parametrize("kinds", [VISUAL_KINDS, ("image",), ("frame",), ("video", "image")])
def test_flat_search_equals_brute_force(store: Store, kinds: tuple[UnitKind, ...]) -> None:
    media = many(40, 1), many(3, 2), many(17, 3)
    publish(store, *media)
    for query in unit_rows(5, 9):
        expected = brute_force(list(chain(*media)), query, kinds)
        assert_same(found(store, query, 25, kinds), expected[:25])


def test_search_returns_every_unit_when_asked_for_more(store: Store) -> None:
    publish(store, many(4, 1))
    query = unit_rows(1, 9)[0]
    assert len(found(store, query, 1000, VISUAL_KINDS)) == 4 * 10
    assert len(found(store, query, 1000, ("image",))) == 4


def test_search_of_an_empty_store_finds_nothing(store: Store) -> None:
    assert store.search(unit_rows(2, 1), k=3) == [[], []]


def test_long_scans_cross_blocks_and_row_groups(store: Store) -> None:
    vectors = unit_rows(20_000, 5)
    batch = [image(f"{i}.jpg", vector) for i, vector in enumerate(vectors)]
    publish(store, batch)
    query = unit_rows(1, 6)[0]
    assert_same(found(store, query, 50, ("image",)), brute_force(batch, query, ("image",))[:50])


def test_removed_and_replaced_media_are_not_found(store: Store) -> None:
    media = many(10, 1)
    publish(store, media)
    replaced = image(media[2].file.relative, unit_rows(1, 77)[0])
    with store.writing() as writer:
        writer.catalog.remove_media([1, 2])  # the first image and the first video
        writer.publish([replaced])
    left = [replaced, *(m for m in media[2:] if m.file != replaced.file)]
    query = unit_rows(1, 9)[0]
    expected = brute_force(left, query, VISUAL_KINDS)
    assert_same(found(store, query, 1000, VISUAL_KINDS), expected)
    assert store.catalog.media([1, 2]) == {}


def test_ids_are_never_given_twice(store: Store) -> None:
    publish(store, many(2, 1))
    before = {u.id for u in store.search(unit_rows(1, 1), k=100)[0]}
    with store.writing() as writer:
        writer.catalog.remove_media([1, 2, 3, 4])
    publish(store, many(2, 2))
    units = store.search(unit_rows(1, 1), k=100)[0]
    assert len(units) == 20
    assert not before & {u.id for u in units}
    assert min(u.media_id for u in units) == 5


def test_merging_keeps_every_live_row_and_drops_dead_ones(store: Store) -> None:
    batches = [many(3, seed) for seed in range(20)]
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        for batch in batches:
            writer.publish(batch)
            writer.maintain()
        writer.catalog.remove_media([4, 5, 50])
        for seed in range(20, 36):
            batches.append(many(3, seed))
            writer.publish(batches[-1])
            writer.maintain()
    assert len(store.catalog.segments()) < 2 * grouping.MERGE_FACTOR
    media = list(chain(*batches))
    gone = {media[3].file, media[4].file, media[49].file}
    left = [m for m in media if m.file not in gone]
    for query in unit_rows(3, 9):
        expected = brute_force(left, query, VISUAL_KINDS)
        assert_same(found(store, query, 5000, VISUAL_KINDS), expected)
    folders = {folder.name for folder in (store.folder / "segments").iterdir()}
    assert folders == {entry.name for entry in store.catalog.segments()}


@pytest.mark.usefixtures("small")
def test_ivfpq_trains_and_reranks_exactly(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "index", manifest("ivfpq"))
    batches = [many(40, seed) for seed in range(6)]
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        for batch in batches:
            writer.publish(batch)
            writer.maintain()
        writer.catalog.remove_media([7])
    assert list(store.folder.glob("segments/*/lists.bin"))
    media = [m for i, m in enumerate(list(chain(*batches))) if i != 6]
    hits = total = 0
    for kinds in (("frame",), ("image", "frame")):
        for query in unit_rows(10, 9):
            expected = brute_force(media, query, kinds)[:10]
            assert_same(found(store, query, 10, kinds, exact=True), expected)
            got = found(store, query, 10, kinds)
            assert len(got) == 10
            true = {e[1:]: e[0] for e in expected}
            for score, *key in got:
                if tuple(key) in true:  # what is found has its exact score
                    assert score == pytest.approx(true[tuple(key)], abs=2e-6)
                    hits += 1
            total += 10
    assert hits / total > 0.9


@pytest.mark.usefixtures("small")
def test_ivfpq_gives_every_hit_that_is_asked_for(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "index", manifest("ivfpq"))
    media = many(200, 1)
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        writer.publish(media)
        writer.maintain()
    assert list(store.folder.glob("segments/*/lists.bin"))
    query = unit_rows(1, 9)[0]
    for kinds in (("video",), ("image",), VISUAL_KINDS):
        everything = brute_force(media, query, kinds)
        assert len(found(store, query, len(everything), kinds)) == len(everything)


@pytest.mark.usefixtures("small")
def test_a_kill_between_training_and_filling_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "index", manifest("ivfpq"))
    with store.writing() as writer, monkeypatch.context() as patch:
        writer.catalog.add_root(ROOT)
        writer.publish(many(200, 1))
        patch.setattr(writer_module.Writer, "_merge", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            writer.maintain()
    assert not list(store.folder.glob("segments/*/lists.bin"))
    (store.folder / "quantisers" / "older.faiss").write_bytes(b"x")
    with store.writing() as writer:
        writer.maintain()
    assert len(list(store.folder.glob("segments/*/lists.bin"))) == 1
    assert len(list((store.folder / "quantisers").iterdir())) == 1


def test_a_reader_sees_segments_and_dead_rows_of_one_moment(store: Store) -> None:
    publish(store, many(2, 1))
    with store.catalog._reading() as db:  # the first SELECT fixes what the others see
        before = db.exec_driver_sql("SELECT count(*) FROM dead_ranges").scalar()
        with store.writing() as writer:
            writer.catalog.remove_media([1])
        assert db.exec_driver_sql("SELECT count(*) FROM dead_ranges").scalar() == before
    assert sum(len(entry.dead) for entry in store.catalog.segments()) == 1


def test_a_reader_keeps_its_segments_through_a_merge(tmp_path: Path, store: Store) -> None:
    for seed in range(8):
        publish(store, many(3, seed))
    reader = Store.open(store.folder)
    snapshot = reader.snapshot()
    query = unit_rows(1, 9)
    before = reader.search(query, k=30)[0]
    with store.writing() as writer:
        writer.maintain()
    assert len(store.catalog.segments()) == 1
    kept = [view.segment.vectors(0, view.segment.row_count) for view in snapshot.views]
    assert sum(len(vectors) for vectors in kept) == 8 * 30
    after = reader.search(query, k=30)[0]
    assert {u.id for u in after} == {u.id for u in before}
    np.testing.assert_allclose([u.score for u in after], [u.score for u in before], atol=1e-6)


def test_unfinished_and_unknown_segments_are_swept(store: Store) -> None:
    publish(store, many(2, 1))
    for name in ("half.tmp", "renamed-but-not-committed"):
        (store.folder / "segments" / name).mkdir()
        (store.folder / "segments" / name / "vectors.npy").write_bytes(b"x")
    assert len(Store.open(store.folder).search(unit_rows(1, 1), k=100)[0]) == 20
    with store.writing():
        pass
    assert len(list((store.folder / "segments").iterdir())) == 1


def _hold_lock(folder: Path, held: multiprocessing.synchronize.Event) -> None:
    with Store.open(folder).writing():
        held.set()
        multiprocessing.Event().wait(60)


def test_a_second_writer_waits_or_refuses_and_a_killed_one_lets_go(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    other = context.Process(target=_hold_lock, args=(store.folder, held))
    other.start()
    try:
        assert held.wait(30)
        with (
            pytest.raises(IndexLockedError, match=f"process {other.pid} on "),
            store.writing(wait=False),
        ):
            pass
        told: list[str] = []

        def on_wait(who: str) -> None:
            told.append(who)
            other.kill()

        with store.writing(on_wait=on_wait):
            assert len(told) == 1
            assert told[0].startswith(f"process {other.pid} on ")
    finally:
        other.kill()
        other.join()


def test_create_refuses_an_index_and_foreign_folders(store: Store, tmp_path: Path) -> None:
    with pytest.raises(IndexExistsError, match="is an index already"):
        Store.create(store.folder, manifest())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(UsageError, match="not empty"):
        Store.create(tmp_path / "photos", manifest())


def test_creation_that_was_interrupted_can_be_repeated(store: Store) -> None:
    (store.folder / "manifest.json").unlink()
    store.close()
    again = Store.create(store.folder, manifest())
    publish(again, many(1, 1))
    assert len(again.search(unit_rows(1, 1), k=99)[0]) == 10


def test_missing_index_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(IndexMissingError, match="clipsearch index FOLDER"):
        Store.open(tmp_path)


def test_newer_format_names_the_version_to_install(store: Store) -> None:
    path = store.folder / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "format_version": 99, "written_by": "7.0.0"}))
    with pytest.raises(IndexDamagedError, match=r"version 99.*install clipsearch 7\.0\.0"):
        Store.open(store.folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": "clipsearch-index"}', "\x00\xff"]
)
def test_broken_manifest_is_one_clear_error(store: Store, text: str) -> None:
    (store.folder / "manifest.json").write_text(text)
    with pytest.raises(IndexDamagedError, match=r"manifest\.json"):
        Store.open(store.folder)


@pytest.mark.parametrize("name", ["vectors.npy", "lookup.npy", "sums.npy", "segment.json"])
@pytest.mark.parametrize("how", ["truncate", "remove"])
def test_damaged_segment_files_are_named(store: Store, name: str, how: str) -> None:
    publish(store, many(5, 1))
    store.close()
    path = next((store.folder / "segments").iterdir()) / name
    if how == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(IndexDamagedError, match=name.replace(".", r"\.")):
        Store.open(store.folder).search(unit_rows(1, 1), k=5)


def test_damaged_catalog_is_named(store: Store) -> None:
    publish(store, many(5, 1))
    store.close()
    for path in store.folder.glob("catalog.sqlite*"):
        path.write_bytes(b"not a database" * 100)
    with pytest.raises(IndexDamagedError, match=r"catalog\.sqlite"):
        Store.open(store.folder)


def test_read_only_folder_can_be_searched(store: Store) -> None:
    publish(store, many(5, 1))
    store.close()
    paths = [store.folder, *store.folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert len(Store.open(store.folder).search(unit_rows(1, 1), k=5)[0]) == 5
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_queries_of_another_dimension_are_refused(store: Store) -> None:
    with pytest.raises(UsageError, match=f"16 dimensions, not {DIM}"):
        store.search(unit_rows(1, 1, dim=16), k=5)


def test_roots_inside_a_new_root_become_part_of_it(store: Store) -> None:
    publish(store, [image("a.jpg", unit_rows(1, 1))])
    with store.writing() as writer:
        writer.catalog.add_root(ROOT.parent)
    assert store.catalog.roots() == [ROOT.parent]
    [media] = store.catalog.all_media()
    assert (media.root, media.relative) == (ROOT.parent, "media/a.jpg")
    assert media.path == ROOT / "a.jpg"


def test_moved_media_keep_their_vectors_and_replace_what_was_there(store: Store) -> None:
    publish(store, [image("a.jpg", unit_rows(1, 1)), image("b.jpg", unit_rows(1, 2))])
    with store.writing() as writer:
        writer.catalog.move_media([(1, FoundFile(ROOT, "b.jpg", "image", 10, 99))])
    [unit] = store.search(unit_rows(1, 1), k=5)[0]
    assert unit.media_id == 1
    assert unit.score == pytest.approx(1, abs=1e-3)
    [media] = store.catalog.all_media()
    assert (media.id, media.relative, media.modified_ns) == (1, "b.jpg", 99)
