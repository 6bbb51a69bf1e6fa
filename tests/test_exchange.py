"""Exports read with pyarrow and NumPy alone, and imports compared with what was there before."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import clipsearch
from clipsearch.engine import Index
from clipsearch.exchange import adding, arrays, clip_retrieval, importing, parts, places, rows
from clipsearch.exchange.adding import ImportListener
from clipsearch.exchange.columns import Columns
from clipsearch.exchange.exporting import EXPORTS, ExportSpec
from clipsearch.exchange.importing import IMPORTS, ImportSpec
from clipsearch.exchange.incoming import unit_halves
from clipsearch.interfaces.exchange import EXPORT_COMMANDS, IMPORT_COMMANDS
from clipsearch.store.manifest import AudioSettings
from clipsearch.store.store import Store
from clipsearch.types import Failure
from clipsearch.where import parse
from tests.e2e.support import run
from tests.test_sources import film
from tests.vectors import DIM, ROOT, image, manifest, unit_rows

GOLDENS = Path(__file__).parent / "goldens"
FORMS = list(EXPORTS)
COUNT = 40
NAMES = {"parquet": "out.parquet"}


def columns_of(count: int) -> dict:
    """A table with every sort of column that an index holds."""
    thirds = [n % 3 for n in range(count)]
    return {
        "path": [f"ünï {n}/a\nb'\"&.jpg" for n in range(count)],
        "kind": [("image", "frame", "video")[third] for third in thirds],
        "start": [(None, n + 0.25, 0.0)[third] for n, third in enumerate(thirds)],
        "end": [(None, n + 0.75, 30.5)[third] for n, third in enumerate(thirds)],
        "frame_number": [(None, 25 * n, None)[third] for n, third in enumerate(thirds)],
        "stars": [n if n % 4 else None for n in range(count)],
        "large": [2**62 + n for n in range(count)],
        "bright": [n / 7 if n % 5 else None for n in range(count)],
        "good": [bool(n % 2) for n in range(count)],
        "labels": [["x"] * (n % 4) for n in range(count)],
        "numbers": [[n, 2**60] if n % 2 else None for n in range(count)],
        "caption": [f"“{n}”" if n % 2 else None for n in range(count)],
        "nothing": [None] * count,
    }


def half(vectors):
    return vectors.astype(np.float16)


def content(index: Index) -> list[tuple[bytes, dict]]:
    """The vectors of an index with their rows, but without ids and empty columns, in some order."""
    snapshot = index._store.snapshot()
    found = snapshot.live_places()
    ids = snapshot.rows(found)["id"]
    pairs = []
    for vector, row in zip(snapshot.vectors(found), index.rows(ids), strict=True):
        row = {name: value for name, value in row.items() if value is not None}
        pairs.append((vector.tobytes(), {n: v for n, v in row.items() if "id" not in n}))
    return sorted(pairs, key=lambda pair: (pair[0], pair[1]["path"]))


def again(form: str, source: Path, target: Path, **spec) -> tuple[Index, object]:
    index = Index.create(target, model=None, dim=DIM)
    return index, index.import_from(source, form, ImportSpec(**spec))


@pytest.fixture
def index(tmp_path):
    with Index.create(tmp_path / "index", model=None, dim=DIM) as made:
        made.add_vectors(half(unit_rows(COUNT, 1)), columns_of(COUNT))
        yield made


@pytest.fixture
def media(tmp_path):
    """Files in an index: three images, one of them with tags, and a film with sound and texts."""
    audio = AudioSettings("fake:24", "fake:24@1", 24, 10.0, 5.0)
    store = Store.create(tmp_path / "media index", replace(manifest(), audio=audio, texts=True))
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        images = [image(f"{n}.jpg", row) for n, row in enumerate(unit_rows(3, 5))]
        writer.publish([*images, film("film.mp4", 7)])
        found = {one.relative: one.id for one in writer.catalog.all_media()}
        tags = [("dog", 0.75), ('it\'s "odd"', None)]
        writer.catalog.set_tags({found["1.jpg"]: tags}, replace=True)
    with Index(store) as made:
        yield made


@pytest.mark.parametrize("form", FORMS)
def test_vectors_and_columns_come_back_as_they_were(form, index, tmp_path):
    target = tmp_path / NAMES.get(form, "out")
    report = index.export_to(target, form)
    assert (report.rows, report.notices) == (COUNT, ())
    other, imported = again(form, target, tmp_path / "other")
    assert (imported.added, imported.known, imported.failures) == (COUNT, 0, [])
    assert content(other) == content(index)
    with other:
        other.export_to(tmp_path / ("second" + target.suffix), form)
        third, _ = again(form, tmp_path / ("second" + target.suffix), tmp_path / "third")
    assert content(third) == content(index)


@pytest.mark.parametrize("form", FORMS)
def test_small_blocks_and_parts_hold_the_same(form, index, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(parts, "ROWS_AT_ONCE", 6)
    monkeypatch.setattr(adding, "BLOCK_ROWS", 9)
    monkeypatch.setattr(arrays, "PART_ROWS", 10)
    monkeypatch.setattr(clip_retrieval, "PART_ROWS", 3)
    index.export_to(tmp_path / "out", form)
    pattern = {"clip-retrieval": "img_emb/*", "parquet": "part-*", "npy": "*.npy"}[form]
    files = sorted(path.name for path in (tmp_path / "out").glob(pattern))
    assert len(files) == {"clip-retrieval": 6, "parquet": 3, "npy": 1}[form]
    other, report = again(form, tmp_path / "out", tmp_path / "other")
    assert report.added == COUNT
    assert content(other) == content(index)


def test_arrays_are_as_numpy_and_pyarrow_read_them(index, tmp_path):
    index.export_to(tmp_path / "npy", "npy")
    vectors = np.load(tmp_path / "npy" / "vectors.npy")
    table = pq.read_table(tmp_path / "npy" / "rows.parquet").to_pydict()
    assert (vectors.dtype, vectors.shape) == (np.float16, (COUNT, DIM))
    stored, expected = half(unit_rows(COUNT, 1)), columns_of(COUNT)
    for at, id_ in enumerate(table["id"]):  # ids count up from 1 in the order of adding
        assert vectors[at].tobytes() == stored[id_ - 1].tobytes()
        assert {name: values[at] for name, values in table.items() if name != "id"} == {
            name: values[id_ - 1] for name, values in expected.items()
        }
    index.export_to(tmp_path / "p.parquet", "parquet")
    lists = pq.read_table(tmp_path / "p.parquet")["vector"].to_pylist()
    assert np.array_equal(np.array(lists, np.float32), vectors.astype(np.float32))


def test_clip_retrieval_gets_its_own_names(media, tmp_path):
    report = media.export_to(tmp_path / "out", "clip-retrieval")
    table = pq.read_table(tmp_path / "out/metadata/metadata_0.parquet").to_pylist()
    vectors = np.load(tmp_path / "out/img_emb/img_emb_0.npy")
    assert vectors.dtype == np.float16
    assert len(table) == len(vectors) == report.rows == 9
    [dog] = [row for row in table if row["tag"]]
    assert (dog["image_path"], dog["caption"]) == ("/media/1.jpg", None)
    assert dict(zip(dog["tag"], dog["tag_probability"], strict=True)) == {
        "dog": 0.75,
        'it\'s "odd"': None,
    }
    films = [row for row in table if row["kind"] == "frame"]
    assert [row["image_path"] for row in films] == [f"/media/film.mp4#t={n}.0" for n in range(6)]
    assert {row["path"] for row in films} == {"/media/film.mp4"}
    assert [row["frame_number"] for row in films] == list(range(6))
    assert (films[0]["size"], films[0]["duration"], films[0]["width"]) == (1, 9.0, 64)
    assert films[0]["date"] == "1970-01-01 00:00:00.000000+00:00"
    assert any("6 windows of sound" in notice for notice in report.notices)
    assert any("6 subtitles" in notice for notice in report.notices)


def test_sound_and_subtitles_are_exported_by_themselves(media, tmp_path):
    media.export_to(tmp_path / "texts", "clip-retrieval", ExportSpec(("text",)))
    table = pq.read_table(tmp_path / "texts/metadata/metadata_0.parquet")
    assert table["caption"].to_pylist() == [f"film.mp4 says {n}" for n in range(6)]
    assert np.load(tmp_path / "texts/text_emb/text_emb_0.npy").shape == (6, DIM)
    media.export_to(tmp_path / "sound", "npy", ExportSpec(("audio",)))
    assert np.load(tmp_path / "sound/vectors.npy").shape == (6, 24)
    note = json.loads((tmp_path / "sound/clipsearch.json").read_text())
    assert (note["fingerprint"], note["dim"], note["kinds"]) == ("fake:24@1", 24, ["audio"])
    with pytest.raises(clipsearch.UsageError, match="spaces of their own"):
        media.export_to(tmp_path / "both", "npy", ExportSpec(("image", "audio")))
    with pytest.raises(clipsearch.UsageError, match="kind audio: only image, frame, video"):
        again("npy", tmp_path / "sound", tmp_path / "new")


@pytest.mark.parametrize("form", FORMS)
def test_files_become_rows_that_conditions_still_fit(form, media, tmp_path):
    target = tmp_path / NAMES.get(form, "out")
    media.export_to(target, form)
    other, report = again(form, target, tmp_path / "other")
    assert report.added == 9
    for text, count in {
        "tag = 'dog'": 1,
        "duration = 9 and kind = 'video'": 6,
        "width = 640": 3,
        "date = 1970-01-01": 9,
        "path glob '/media/f*'": 6,
    }.items():
        spec = ExportSpec(where=parse(text))
        assert other.export_to(tmp_path / f"{count}{text[:3]}", "npy", spec).rows == count


def test_a_condition_and_kinds_choose_rows(index, media, tmp_path):
    spec = ExportSpec(("frame",), parse("stars > 10"))
    index.export_to(tmp_path / "some", "npy", spec)
    expected = {n + 1 for n in range(COUNT) if n % 3 == 1 and n % 4 and n > 10}
    assert set(pq.read_table(tmp_path / "some/rows.parquet")["id"].to_pylist()) == expected
    media.export_to(tmp_path / "dogs", "npy", ExportSpec(where=parse("tag = 'dog'")))
    paths = pq.read_table(tmp_path / "dogs/rows.parquet")["path"].to_pylist()
    assert paths == ["/media/1.jpg"]
    with pytest.raises(clipsearch.UsageError, match="nothing to export"):
        index.export_to(tmp_path / "none", "npy", ExportSpec(where=parse("stars > 999")))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("form", FORMS)
def test_an_interrupted_export_leaves_nothing_and_what_was_there(form, index, tmp_path):
    target = tmp_path / "out" / NAMES.get(form, "folder")
    target.parent.mkdir()

    looked_at = []

    def stop(progress):
        looked_at.append(progress.done)
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.export_to(target, form, on_progress=stop)
    assert looked_at == [0, COUNT]
    assert list(target.parent.iterdir()) == []
    index.export_to(target, form)
    before = sorted((p, p.read_bytes()) for p in target.parent.rglob("*") if p.is_file())
    with pytest.raises(KeyboardInterrupt):
        index.export_to(target, form, ExportSpec(overwrite=True), on_progress=stop)
    looked_at.clear()
    with pytest.raises(clipsearch.UsageError, match="--overwrite"):
        index.export_to(target, form, on_progress=stop)
    assert looked_at == []
    after = sorted((p, p.read_bytes()) for p in target.parent.rglob("*") if p.is_file())
    assert after == before
    index.export_to(target, form, ExportSpec(("image",), overwrite=True))
    _, report = again(form, target, tmp_path / "new")
    assert report.added == len(range(0, COUNT, 3))
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_folders_of_others_are_never_replaced(index, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    spec = ExportSpec(overwrite=True)
    for target, message in {
        "mine": "holds what no export has written, 'diary.txt'",
        "link": "is a link",
        "mine/diary.txt": "is a file",
        "no/where": "make it first",
        "index/out": "inside the index",
    }.items():
        with pytest.raises(clipsearch.UsageError, match=message):
            index.export_to(tmp_path / target, "npy", spec)
    assert (tmp_path / "mine" / "diary.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    assert index.export_to(tmp_path / "empty", "npy").rows == COUNT


@pytest.mark.parametrize(
    ("form", "name"),
    [("clip-retrieval", "img_emb/img_emb_0.npy"), ("parquet", "a.parquet"), ("npy", "vectors.npy")],
)
def test_vectors_of_others_are_never_replaced(form, name, index, tmp_path):
    file = tmp_path / "theirs" / name
    file.parent.mkdir(parents=True)
    if form == "parquet":
        pq.write_table(pa.table({"mine": [1]}), file)
    else:
        np.save(file, unit_rows(2, 1))
    before = file.read_bytes()
    with pytest.raises(clipsearch.UsageError, match="holds what no export has written"):
        index.export_to(tmp_path / "theirs", form, ExportSpec(overwrite=True))
    assert file.read_bytes() == before


@pytest.mark.parametrize("form", FORMS)
def test_columns_named_as_ours_come_back(form, tmp_path):
    texts = {
        name: [f"{name} {n}" for n in range(3)]
        for name in ("image_path", "url", "id", "added_id", "vector", "clipsearch_id", "media_id")
    }
    table = {"path": ["a", "b", "c"], **texts, "caption": [1, 2, 3], "added_caption": ["x"] * 3}
    target = tmp_path / NAMES.get(form, "out")
    with Index.create(tmp_path / "index", model=None, dim=DIM) as made:
        made.add_vectors(half(unit_rows(3, 1)), table)
        made.export_to(target, form)
    other, report = again(form, target, tmp_path / "other")
    assert (report.added, report.failures) == (3, [])
    for number, row in enumerate(other.rows([1, 2, 3])):
        assert row["path"] == "abc"[number]
        values = [str(value) for value in row.values()]
        assert {column[number] for column in texts.values()} <= set(values)
        assert {"x", str(number + 1)} <= set(values)


def test_an_exchange_that_fails_brings_back_what_was_there(index, tmp_path, monkeypatch):
    index.export_to(tmp_path / "out", "npy")

    def fail(made, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(places, "_put_in_place", fail)
    with pytest.raises(OSError, match="No space"):
        index.export_to(tmp_path / "out", "npy", ExportSpec(("image",), overwrite=True))
    assert len(np.load(tmp_path / "out/vectors.npy")) == COUNT
    assert {path.name for path in tmp_path.iterdir()} == {"index", "out"}


def test_what_is_there_is_not_added_again(index, tmp_path, monkeypatch):
    monkeypatch.setattr(adding, "BLOCK_ROWS", 8)
    monkeypatch.setattr(parts, "ROWS_AT_ONCE", 8)
    index.export_to(tmp_path / "out", "clip-retrieval")
    report = index.import_from(tmp_path / "out", "clip-retrieval")
    assert (report.added, report.known) == (0, COUNT)
    told = []

    def stop(progress):
        told.append(progress.done)
        if len(told) == 3:
            raise KeyboardInterrupt

    with Index.create(tmp_path / "other", model=None, dim=DIM) as other:
        listener = ImportListener(on_progress=stop)
        with pytest.raises(KeyboardInterrupt):
            other.import_from(tmp_path / "out", "clip-retrieval", listener=listener)
        first = other.status().rows
        assert 0 < first < COUNT
        report = other.import_from(tmp_path / "out", "clip-retrieval")
        assert (report.known, report.added) == (first, COUNT - first)
        assert content(other) == content(index)
        changed = half(unit_rows(1, 99))
        np.save(tmp_path / "out/img_emb/img_emb_0.npy", np.vstack([changed] * COUNT))
        assert other.import_from(tmp_path / "out", "clip-retrieval").added == COUNT


def test_equal_rows_of_one_source_are_all_kept(tmp_path):
    table = pa.table({"path": ["a.jpg"] * 3, "vector": [unit_rows(1, 1)[0].tolist()] * 3})
    pq.write_table(table, tmp_path / "three.parquet")
    other, report = again("parquet", tmp_path / "three.parquet", tmp_path / "new")
    assert (report.added, report.known) == (3, 0)
    assert other.import_from(tmp_path / "three.parquet", "parquet").known == 3


def test_files_of_an_index_are_known_too(media, tmp_path):
    media.export_to(tmp_path / "out", "parquet")
    report = media.import_from(tmp_path / "out", "parquet")
    assert (report.added, report.known) == (0, 9)


def test_a_folder_of_clip_retrieval_itself(tmp_path):
    source = GOLDENS / "clip-retrieval-2.45.0"
    facts = importing.facts_of(source, "clip-retrieval")
    assert (facts.dim, facts.note) == (8, None)
    assert "text_emb" in facts.notices[0]
    with Index.create(tmp_path / "new", model=None, dim=8) as made:
        assert made.import_from(source, "clip-retrieval").added == 7
        found = made.rows(range(1, 8))
        stored = made._store.snapshot().vectors(np.arange(7))
    arrays_ = [np.load(path) for path in sorted((source / "img_emb").iterdir())]
    assert stored.tobytes() == np.vstack(arrays_).tobytes()
    assert [row["path"] for row in found][:3] == ["photos/ünï cödé.jpg"] + [
        f"photos/{n}.jpg" for n in (1, 2)
    ]
    assert found[1] == {
        "id": 2,
        "path": "photos/1.jpg",
        "kind": "image",
        "start": None,
        "end": None,
        "frame_number": None,
        "caption": "a thing, number 1",
        "key": "000000001",
        "width": 101,
        "similarity": 0.375,
        "exif.make": "X",
        "exif.iso": 1,
    }


def test_the_output_of_clip_video_encode_itself(tmp_path):
    source = GOLDENS / "clip-video-encode-1.3.0"
    raw = np.load(source / "holiday.npy")
    assert (np.linalg.norm(raw, axis=1) > 2).all()
    with Index.create(tmp_path / "new", model=None, dim=8) as made:
        report = made.import_from(source, "clip-video-encode", ImportSpec(fps=2.5))
        assert (report.added, report.failures) == (8, [])
        found = made.rows(range(1, 9))
        stored = made._store.snapshot().vectors(np.arange(8)).astype(np.float64)
    assert [row["path"] for row in found] == ["dQw4w9WgXcQ"] * 3 + ["holiday"] * 5
    starts = [row["start"] for row in found]
    assert starts == pytest.approx([k / 2.5 for k in (0, 1, 2, 0, 1, 2, 3, 4)])
    assert found[7]["end"] == pytest.approx(2.0)
    assert {row["kind"] for row in found} == {"frame"}
    assert (found[3]["caption"], found[3]["license"], found[3]["views"]) == (
        "two dogs\nrun",
        "CC0",
        12,
    )
    unit = raw.astype(np.float64) / np.linalg.norm(raw.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(stored[3:], unit, atol=5e-4)


def test_sidecars_and_videos_of_clip_video_encode(tmp_path):
    source = tmp_path / "encoded"
    source.mkdir()
    for name in ("good", "odd", "bad", "long"):
        np.save(source / f"{name}.npy", unit_rows(2, 1))
    (source / "good.mp4").write_bytes(b"")
    (source / "odd.json").write_text('{"a": {"b": [1, "x"]}, "id": 7, "start": "soon"}')
    (source / "bad.json").write_text("{")
    np.save(source / "long.npy", unit_rows(2, 1)[None])
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        report = made.import_from(source, "clip-video-encode", ImportSpec(fps=1))
        found = made.rows(range(1, 5))
    assert sorted(failure.path.name for failure in report.failures) == ["bad.npy", "long.npy"]
    assert found[0]["path"] == str(source / "good.mp4")
    assert found[2]["a.b"] == '[1, "x"]'
    assert (found[2]["id"], found[2]["source_id"], found[2]["source_start"]) == (3, 7, "soon")
    assert [row["start"] for row in found] == [0.0, 1.0, 0.0, 1.0]
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(clipsearch.UsageError, match="fps"):
            ImportSpec(fps=fps)


def test_videos_of_one_name_in_two_folders_stay_two(tmp_path):
    for folder, seed in (("a", 1), ("b", 2)):
        (tmp_path / "encoded" / folder).mkdir(parents=True)
        np.save(tmp_path / "encoded" / folder / "1.x.npy", unit_rows(2, seed))
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        made.import_from(tmp_path / "encoded", "clip-video-encode", ImportSpec(fps=1))
        made.import_from(tmp_path / "encoded/a/1.x.npy", "clip-video-encode", ImportSpec(fps=1))
        paths = [row["path"] for row in made.rows(range(1, 7))]
    assert paths == ["a/1.x"] * 2 + ["b/1.x"] * 2 + ["1.x"] * 2


def test_which_rows_are_left_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "ROWS_AT_ONCE", 2)
    starts = [0.0, 0.0, 0.0, -1.0, 0.0]
    table = {"path": list("abcde"), "kind": ["frame"] * 5, "start": starts, "end": [1.0] * 5}
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        for name in ("one", "two"):
            folder = embeddings(tmp_path / name, (unit_rows(5, len(name)), table))
            report = made.import_from(folder, "clip-retrieval")
    (failure,) = report.failures
    assert failure.reason.startswith("2 rows from row 2 on: row 1 of the table is of kind frame")


def test_rows_that_are_too_large_together_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "LARGEST_ROWS", 20_000)
    monkeypatch.setattr(parts, "BATCH_ROWS", 2)
    for name, text in (("1", "x" * 9000), ("2", "x")):
        table = {"path": list("abcd"), "text": [text] * 4, "vector": lists(unit_rows(4, 1))}
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        report = made.import_from(tmp_path, "parquet")
    assert report.added == 4
    assert ["too large" in failure.reason for failure in report.failures] == [True]


def embeddings(folder: Path, *given: tuple[np.ndarray, dict]) -> Path:
    """A folder as clip-retrieval has it."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (vectors, table) in enumerate(given):
        np.save(folder / f"img_emb/img_emb_{number}.npy", vectors)
        pq.write_table(pa.table(table), folder / f"metadata/metadata_{number}.parquet")
    return folder


def test_bad_files_are_told_and_the_others_are_read(tmp_path):
    good = (unit_rows(2, 1), {"image_path": ["a", "b"]})
    folder = embeddings(
        tmp_path / "e",
        good,
        (unit_rows(3, 2), {"image_path": ["c", "d"]}),  # 1: other numbers of rows
        good,  # 2: truncated
        good,  # 3: its metadata is damaged
        (unit_rows(2, 3, 16), {"image_path": ["e", "f"]}),  # 4: other dimensions
        (np.zeros((2, DIM), np.int64), {"image_path": ["e", "f"]}),  # 5: other type
        good,  # 6: no metadata
        (unit_rows(2, 4), {"image_path": ["y", "z"]}),
    )
    array = folder / "img_emb/img_emb_2.npy"
    array.write_bytes(array.read_bytes()[:-9])
    (folder / "metadata/metadata_3.parquet").write_bytes(b"PAR1 nonsense PAR1")
    (folder / "metadata/metadata_6.parquet").unlink()
    (folder / "img_emb/img_emb_9.npy").write_bytes(b"\x93NUMPY no")
    told: list[Failure] = []
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        listener = ImportListener(on_failure=told.append)
        report = made.import_from(folder, "clip-retrieval", listener=listener)
        assert [row["path"] for row in made.rows(range(1, 5))] == ["a", "b", "y", "z"]
    assert report.added == 4
    assert report.failures == told
    assert [failure.path.name for failure in told] == [
        f"img_emb_{number}.npy" for number in (1, 2, 3, 4, 5, 6, 9)
    ]
    reasons = [failure.reason for failure in told]
    assert reasons[0] == "it has 3 rows, and metadata_1.parquet has 2"
    assert "16 dimensions, those of the index 32" in reasons[3]


def as_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, unit_rows(2, 1))


ODD_PARTS = {
    "big endian": (unit_rows(2, 1).astype(">f4"), {}, ""),
    "by columns": (np.asfortranarray(unit_rows(2, 1)), {}, ""),
    "objects": (np.array([["x"] * DIM] * 2, object), {}, "no .npy file of numbers"),
    "an archive": (as_npz, {}, "an archive of arrays"),
    "flat": (unit_rows(2, 1).ravel(), {}, "float32 of shape (64,)"),
    "frames without times": (unit_rows(2, 1), {"kind": ["frame", "image"]}, "need seconds"),
    "times as text": (unit_rows(2, 1), {"kind": ["frame"] * 2, "start": ["0:01", "1"]}, ""),
    "large frame": (
        unit_rows(2, 1),
        {"kind": ["image"] * 2, "frame_number": [2**40, 1]},
        "numbers",
    ),
    "inner bytes": (unit_rows(2, 1), {"n": [{"a": b"x"}, None]}, "'n' holds dict"),
}


@pytest.mark.parametrize("name", ODD_PARTS)
def test_odd_arrays_and_tables_are_read_or_told(name, tmp_path):
    vectors, table, message = ODD_PARTS[name]
    given = unit_rows(2, 1) if callable(vectors) else vectors
    folder = embeddings(tmp_path / "e", (given, {"image_path": ["a", "b"], **table}))
    if callable(vectors):
        vectors(folder / "img_emb/img_emb_0.npy")
    np.save(folder / "img_emb/img_emb_1.npy", unit_rows(1, 9))
    pq.write_table(pa.table({"image_path": ["good"]}), folder / "metadata/metadata_1.parquet")
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        report = made.import_from(folder, "clip-retrieval")
    assert report.added == (1 if message else 3)
    assert [message in failure.reason for failure in report.failures] == [True] * bool(message)


def header(shape: str) -> bytes:
    return f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}".encode()


NO_ARRAYS = {
    "half an archive": b"PK\x03\x04 no more",
    "too large a shape": header("9223372036854775808, 4"),
    "a shape of truth": header("True, 4"),
    "half a header": b"{'descr': (((",
    "a deep header": b"-" * 5000 + b"1",
}


@pytest.mark.parametrize("name", NO_ARRAYS)
def test_what_numpy_cannot_read_is_told(name, tmp_path):
    content = NO_ARRAYS[name]
    if not content.startswith(b"PK"):
        content += b" " * (63 - (10 + len(content)) % 64) + b"\n"
        content = b"\x93NUMPY\x01\0" + len(content).to_bytes(2, "little") + content
    folder = embeddings(tmp_path / "e", *[(unit_rows(1, 1), {"image_path": ["a"]})] * 2)
    (folder / "img_emb/img_emb_0.npy").write_bytes(content)
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        report = made.import_from(folder, "clip-retrieval")
    assert report.added == 1
    expected = "an archive" if name == "half an archive" else "no .npy file of numbers"
    assert [expected in failure.reason for failure in report.failures] == [True]


def lists(vectors, kind=None) -> pa.Array:
    rows = [None if row is None else [float(x) for x in row] for row in vectors]
    return pa.array(rows, kind or pa.list_(pa.float32()))


ROW = unit_rows(1, 1)[0]
NOT_TEXT = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"a"]).buffers())
VECTOR_COLUMNS = {  # how many are added, and what is told of the file
    "tensors": ({"vector": pa.FixedShapeTensorArray.from_numpy_ndarray(unit_rows(2, 1))}, 2, ""),
    "none in the first row": ({"vector": lists([None, ROW])}, 1, ""),
    "none, fixed": ({"vector": lists([ROW, None], pa.list_(pa.float32(), DIM))}, 1, ""),
    "an empty one": ({"vector": lists([[], ROW])}, 1, ""),
    "no text": ({"vector": lists([ROW, ROW]), "n": NOT_TEXT}, 0, "Invalid UTF8"),
    "several lengths": ({"vector": lists([ROW, ROW[1:]])}, 0, "several lengths"),
    "views": ({"vector": lists([ROW, -ROW]), "n": pa.array([b"x"] * 2, pa.binary_view())}, 2, ""),
}


@pytest.mark.parametrize("name", VECTOR_COLUMNS)
def test_odd_columns_of_vectors_are_read_or_told(name, tmp_path):
    columns, added, message = VECTOR_COLUMNS[name]
    pq.write_table(pa.table({"path": ["a", "b"], **columns}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"path": ["c"], "vector": lists([ROW])}), tmp_path / "2.parquet")
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        report = made.import_from(tmp_path, "parquet")
    assert (report.added, report.unusable) == (1 + added, 0 if message else 2 - added)
    assert [message in failure.reason for failure in report.failures] == [True] * bool(message)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [([1, 2], "of type int64"), (["a", "b"], "of type string"), ([None, None], "of type null")],
)
def test_tables_without_vectors_are_refused(vectors, message, tmp_path):
    pq.write_table(pa.table({"path": ["a", "b"], "vector": vectors}), tmp_path / "1.parquet")
    with pytest.raises(clipsearch.UsageError, match=message):
        importing.facts_of(tmp_path, "parquet")


def test_text_that_is_none_beside_frames_is_told(tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", unit_rows(2, 1))
    (tmp_path / "a.json").write_text('{"title": "\\ud800"}')
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        report = made.import_from(tmp_path, "clip-video-encode", ImportSpec(fps=1))
    assert report.added == 2
    assert ["not valid UTF-8" in failure.reason for failure in report.failures] == [True]


def test_a_file_of_other_dimensions_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "ROWS_AT_ONCE", 2)
    given = [(unit_rows(5, 1, dim), {"image_path": list("abcde")}) for dim in (DIM, 16)]
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        report = made.import_from(embeddings(tmp_path / "e", *given), "clip-retrieval")
    assert (report.added, len(report.failures)) == (5, 1)


def test_rows_without_direction_or_path_are_left_out(tmp_path):
    vectors = np.vstack([unit_rows(3, 1), unit_rows(2, 2)]).astype(np.float32)
    vectors[1], vectors[2, 3] = 0, np.nan
    table = {"image_path": ["a", "b", "c", None, "e"], "url": [None, "x", "y", "u", "z"]}
    folder = embeddings(tmp_path / "e", (vectors, table))
    no_path = embeddings(tmp_path / "n", (unit_rows(2, 1), {"image_path": [None, "b"]}))
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        report = made.import_from(folder, "clip-retrieval")
        assert (report.added, report.unusable) == (3, 2)
        assert [row["path"] for row in made.rows([1, 2, 3])] == ["a", "u", "e"]
        report = made.import_from(no_path, "clip-retrieval")
        assert (report.added, report.unusable) == (1, 1)


def test_columns_of_others_get_plain_values_and_free_names(tmp_path):
    table = {
        "url": ["https://x/1", "https://x/2"],
        "id": ["q1", "q2"],
        "kind": ["photo", "drawing"],
        "end": ["north", "south"],
        "when": [datetime(2024, 5, 31, 14, tzinfo=UTC), None],
        "day": [date(2024, 5, 31), None],
        "price": [Decimal("1.50"), None],
        "blob": [b"\xff", b"\x00"],
        "word": pa.array(["x", "y"]).dictionary_encode(),
        "inner": [{"a": 1}, None],
        "path": ["in/use/1", "in/use/2"],
        "half": pa.array(np.array([0.5, 2], np.float16)),
        "lasted": pa.array([1, None], pa.duration("s")),
    }
    vectors = 5 * unit_rows(2, 1).astype(np.float64)
    folder = embeddings(tmp_path / "e", (vectors, table))
    with Index.create(tmp_path / "new", model=None, dim=DIM) as made:
        assert made.import_from(folder, "clip-retrieval").added == 2
        first, second = made.rows([1, 2])
        stored = made._store.snapshot().vectors(np.arange(2)).astype(np.float32)
    assert first["path"] == "in/use/1"
    assert (first["url"], first["source_id"], first["source_kind"]) == (
        "https://x/1",
        "q1",
        "photo",
    )
    assert (first["source_end"], first["day"], first["word"]) == ("north", "2024-05-31", "x")
    assert first["when"].startswith("2024-05-31 14:00")
    assert (first["price"], first["inner"], second["price"]) == ("1.50", {"a": 1}, None)
    assert (first["half"], first["lasted"]) == (0.5, "1")
    assert "blob" not in first
    np.testing.assert_allclose(stored, unit_rows(2, 1), atol=5e-4)


def test_only_rows_off_unit_length_are_scaled():
    exact = half(unit_rows(50, 1))
    halves, usable = unit_halves(exact)
    assert usable.all()
    assert halves.tobytes() == exact.tobytes()
    halves, usable = unit_halves(np.array([[3.0, 4.0], [np.inf, 0], [0, 0], [1e-30, 0]]))
    assert usable.tolist() == [True, False, False, True]
    np.testing.assert_allclose(halves[[0, 3]], [[0.6, 0.8], [1, 0]], atol=1e-3)


@pytest.mark.parametrize(
    ("values", "kind", "back"),
    [
        ([1, None, 2.5], pa.float64(), None),
        ([1, 2**60], pa.int64(), None),
        ([2**60 + 1, 2.5], pa.string(), ["1152921504606846977", "2.5"]),
        ([2**64], pa.string(), [str(2**64)]),
        ([True, 1], pa.string(), ["true", "1"]),
        ([True, None], pa.bool_(), None),
        (["é", None], pa.string(), None),
        (["1", 1], pa.string(), ['"1"', "1"]),
        ([[], ["x"], None], pa.list_(pa.string()), None),
        ([[1], [0.5]], pa.list_(pa.float64()), None),
        ([[1], ["x"]], pa.string(), ["[1]", '["x"]']),
        ([[[1]]], pa.string(), ["[[1]]"]),
        ([{"a": "é"}], pa.string(), ['{"a": "é"}']),
        ([None], pa.string(), None),
    ],
)
def test_a_column_gets_the_type_that_holds_all_its_values(values, kind, back):
    columns = Columns({})
    records = [{"x": value} for value in values]
    for record in records:
        columns.observe([record])
    table = columns.table(records)
    assert table.schema.field("x").type == kind
    assert table["x"].to_pylist() == (values if back is None else back)
    assert columns.mixed == ([] if back is None else ["x"])


def test_words_have_a_relevance_after_an_import(tmp_path):
    given = (unit_rows(50, 1), {"image_path": [f"{n}.jpg" for n in range(50)]})
    folder = embeddings(tmp_path / "e", given)
    with Index.create(tmp_path / "new", model=f"fake:{DIM}") as made:
        made.import_from(folder, "clip-retrieval", ImportSpec(model=f"fake:{DIM}"))
    with Index.open(tmp_path / "new") as opened:
        (hit,) = opened.search("red", top=1)
    assert hit.relevance is not None


def test_models_must_fit(tmp_path):
    with Index.create(tmp_path / "fake", model="fake:32") as made:
        made.add_vectors(unit_rows(3, 1), {"path": ["a", "b", "c"]})
        made.export_to(tmp_path / "out", "npy")
        made.export_to(tmp_path / "out.parquet", "parquet")
        assert made.import_from(tmp_path / "out", "npy").known == 3
        np.save(tmp_path / "foreign.npy", unit_rows(2, 9))
        film_ = ImportSpec(fps=1.0)
        with pytest.raises(clipsearch.UsageError, match="say so with --model fake:32"):
            made.import_from(tmp_path / "foreign.npy", "clip-video-encode", film_)
        other = ImportSpec("builtin", 1.0)
        with pytest.raises(clipsearch.EncoderError, match="not builtin"):
            made.import_from(tmp_path / "foreign.npy", "clip-video-encode", other)
        mine = ImportSpec("fake:32", 1.0)
        assert made.import_from(tmp_path / "foreign.npy", "clip-video-encode", mine).added == 2
    note = tmp_path / "out" / "clipsearch.json"
    note.write_text(note.read_text().replace("fake", "other"))
    with (
        Index.open(tmp_path / "fake") as made,
        pytest.raises(clipsearch.EncoderError, match="were made with other"),
    ):
        made.import_from(tmp_path / "out", "npy", ImportSpec("fake:32"))
    with Index.create(tmp_path / "small", model=None, dim=16) as small:
        for model in (None, "fake:32"):
            with pytest.raises(clipsearch.UsageError, match="32 dimensions, those of the index 16"):
                small.import_from(tmp_path / "out.parquet", "parquet", ImportSpec(model))


def test_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Index.create(tmp_path / "indexes/default", model="fake:32") as made:
        made.add_vectors(unit_rows(COUNT, 1), columns_of(COUNT))
        expected = content(made)
    for form in FORMS:
        name = f"out {form}"
        ran = run("export", form, name, "--where", "good = true", "--kind", "image").ok()
        count = len([n for n in range(0, COUNT, 3) if n % 2])
        assert (ran.out, ran.err) == ("", f"{count} rows: {name}\n")
        assert run("export", form, name).code == 2
        run("export", form, name, "--overwrite").ok()
        ran = run("import", form, name, "--index", f"new {form}/").ok()
        assert ran.out == ""
        assert ran.err.splitlines()[0] == "these vectors were made with fake:32"
        assert f"added {COUNT}, there already 0, skipped files 0" in ran.err
        with Index.open(tmp_path / f"new {form}") as other:
            assert content(other) == expected
            assert other.status().model == "fake:32"
        ran = run("import", form, name, "--index", f"new {form}/").ok()
        assert f"added 0, there already {COUNT}, skipped files 0" in ran.err
    run("import", "npy", "out npy", "--index", "none/", "--model", "none").ok()
    with Index.open(tmp_path / "none") as other:
        assert other.status().model is None


def test_commands_that_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "a.npy", unit_rows(3, 1))
    encoded = ("import", "clip-video-encode", "a.npy", "--index", "new")
    for arguments, code, message in [
        (("export", "npy", "x"), 3, "no index at"),
        (("import", "clip-retrieval", "nowhere"), 2, "no such file or folder"),
        (("import", "clip-retrieval", "empty"), 2, "no embeddings folder of clip-retrieval"),
        (("import", "parquet", "empty"), 2, "no .parquet files"),
        (("import", "npy", "empty"), 2, "vectors.npy"),
        (("import", "clip-video-encode", "empty", "--fps", "1", "--model", "none"), 2, ".npy"),
        ((*encoded, "--fps", "1"), 2, "--model"),
        ((*encoded, "--model", "none"), 2, "--fps"),
        ((*encoded, "--fps", "0", "--model", "none"), 2, "fps 0.0"),
        ((*encoded, "--fps", "1", "--model", "auto"), 2, "--model auto"),
        ((*encoded, "--fps", "1", "--model", "fake:16"), 3, "32 dimensions, those of fake:16 16"),
    ]:
        ran = run(*arguments)
        assert (ran.code, ran.out) == (code, ""), ran.err
        assert message in ran.err
        assert not (tmp_path / "indexes").exists()


def test_skipped_files_are_told_and_strict_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e").mkdir()
    np.save(tmp_path / "e/a.npy", unit_rows(3, 1))
    (tmp_path / "e/b\nc.npy").write_bytes(b"no array")
    arguments = ("import", "clip-video-encode", "e", "--fps", "2", "--model", "none")
    ran = run(*arguments, "--index", "one", "--strict")
    assert ran.code == 4
    assert "skipping e/b\\nc.npy: it is no .npy file of numbers" in ran.err
    assert run(*arguments, "--index", "two").code == 0
    (tmp_path / "e/a.npy").unlink()
    assert run(*arguments, "--index", "two").code == 2


def test_every_format_has_a_command():
    assert (sorted(EXPORT_COMMANDS), sorted(IMPORT_COMMANDS)) == (sorted(EXPORTS), sorted(IMPORTS))
