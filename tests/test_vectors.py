"""Vectors in, vectors out: an index for people who have embeddings already."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

import clipsearch
from clipsearch.store import vectors as vectors_module
from tests.vectors import unit_rows

DIM = 32


@pytest.fixture
def index(tmp_path):
    with clipsearch.Index.create(tmp_path / "index", model=None, dim=DIM) as made:
        yield made


def table(count: int, **more) -> dict:
    return {"path": [f"a/{n}.jpg" for n in range(count)], **more}


def half(vectors):
    return vectors.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_ids_and_scores_are_those_of_brute_force(index, dtype):
    stored, queries = unit_rows(3000, 1).astype(dtype), unit_rows(7, 2)
    ids = index.add_vectors(stored, table(3000))
    assert ids.tolist() == list(range(1, 3001))
    scores, found = index.search_vectors(queries, top=5)
    assert (scores.shape, found.shape) == ((7, 5), (7, 5))
    expected = queries @ half(stored).T
    order = np.argsort(-expected, axis=1)[:, :5]
    assert (found == ids[order]).all()
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, 1), atol=2e-6)


def test_results_are_filled_up_where_there_are_no_more(index):
    index.add_vectors(unit_rows(3, 1), table(3))
    scores, ids = index.search_vectors(unit_rows(2, 2), top=5)
    assert (ids[:, 3:] == -1).all()
    assert np.isneginf(scores[:, 3:]).all()
    assert (ids[:, :3] > 0).all()
    empty_scores, empty_ids = index.search_vectors(unit_rows(0, 2), top=5)
    assert (empty_scores.shape, empty_ids.shape) == ((0, 5), (0, 5))


def test_an_empty_index_finds_nothing(index):
    scores, ids = index.search_vectors(unit_rows(1, 1))
    assert (ids == -1).all()
    assert np.isneginf(scores).all()


def test_columns_come_back_with_rows_and_hits(index):
    columns = {
        "path": ["a.jpg", "film.mp4", "film.mp4"],
        "kind": ["image", "frame", "video"],
        "start": [None, 1.5, 0.0],
        "end": [None, 2.5, 30.0],
        "frame_number": [None, 45, None],
        "licence": ["CC0", None, "ünï\n“code”"],
        "stars": [3, 2**62, None],
        "tags": [["x", "y"], [], None],
        "bright": [0.1, None, 1e300],
    }
    stored = unit_rows(3, 1)
    ids = index.add_vectors(stored, pa.table(columns))
    rows = index.rows(ids[::-1])
    for at, row in enumerate(reversed(rows)):
        assert row == {"id": ids[at], **{name: values[at] for name, values in columns.items()}}
    hits = index.search(stored[1], top=3, kind=("image", "frame", "video"))
    assert hits[0].score == pytest.approx(1, abs=1e-3)
    assert (str(hits[0].path), hits[0].kind, hits[0].start, hits[0].end, hits[0].moment) == (
        "film.mp4",
        "frame",
        1.5,
        2.5,
        1.5,
    )
    assert hits[0].id == ids[1]
    assert hits[0].columns == {"licence": None, "stars": 2**62, "tags": [], "bright": None}


def test_kinds_are_searched_apart(index):
    kinds = ["image", "frame", "video"] * 100
    times = {"start": [None, 0.0, 0.0] * 100, "end": [None, 1.0, 1.0] * 100}
    ids = index.add_vectors(unit_rows(300, 1), table(300, kind=kinds, **times))
    for number, kind in enumerate(("image", "frame", "video")):
        _, found = index.search_vectors(unit_rows(1, 2), top=300, kind=kind)
        assert sorted(found[found >= 0]) == ids[number::3].tolist()


def test_blocks_come_from_iterators_and_large_arrays_are_cut(index, monkeypatch):
    monkeypatch.setattr(vectors_module, "BLOCK_ROWS", 100)
    stored = unit_rows(1050, 1)
    ids = index.add_vectors(
        (stored[first : first + 250] for first in range(0, 1050, 250)),
        (
            {"path": [str(n) for n in range(first, min(first + 250, 1050))]}
            for first in range(0, 1050, 250)
        ),
    )
    assert ids.tolist() == list(range(1, 1051))
    assert [row["path"] for row in index.rows(ids)] == [str(n) for n in range(1050)]
    _, found = index.search_vectors(stored, top=1)
    assert (found[:, 0] == ids).all()


def test_rows_are_scaled_only_when_asked(index):
    stored = 3 * unit_rows(4, 1)
    with pytest.raises(clipsearch.UsageError, match=r"row 0 of 4 has norm 3: need unit rows"):
        index.add_vectors(stored, table(4))
    ids = index.add_vectors(stored, table(4), normalize=True)
    scores, found = index.search_vectors(unit_rows(4, 1), top=1)
    assert (found[:, 0] == ids).all()
    np.testing.assert_allclose(scores, 1, atol=1e-3)
    np.testing.assert_array_equal(stored, 3 * unit_rows(4, 1))  # the caller's are left alone


NAN = unit_rows(3, 1)
NAN[1, 0] = np.nan


@pytest.mark.parametrize(
    ("vectors", "columns", "message"),
    [
        (unit_rows(3, 1, dim=8), table(3), r"shape \(3, 8\): need \(n, 32\)"),
        (unit_rows(1, 1)[0], table(1), r"shape \(32,\): need"),
        (unit_rows(3, 1), table(2), "a table of 2 rows for 3 vectors"),
        (unit_rows(3, 1).astype(np.float64), table(3), "type float64: need float32 or float16"),
        (NAN, table(3), "row 1 of 3 has norm nan"),
        (unit_rows(1, 1), {}, "needs a column 'path'"),
        (unit_rows(1, 1), {"path": [None]}, "'path' without nulls"),
        (unit_rows(2, 1), {"path": ["a", "b"], "n": [1]}, "the table of the vectors"),
        (unit_rows(1, 1), table(1, kind=["audio"]), "kind 'audio': use one of image"),
        (unit_rows(1, 1), table(1, kind=["frame"]), "row 0 .* start nan and end nan: need seconds"),
        (unit_rows(1, 1), table(1, start=[1.0], end=[2.0]), "images have no times"),
        (
            unit_rows(1, 1),
            table(1, kind=["frame"], start=[2.0], end=[1.0]),
            "0 <= start <= end",
        ),
        (unit_rows(1, 1), table(1, start=["x"]), "column 'start' must hold numbers"),
        (unit_rows(1, 1), table(1, frame_number=[2**40]), "'frame_number': use numbers"),
        (unit_rows(1, 1), table(1, data=[b"x"]), "column 'data' holds bytes: use text"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_added(index, vectors, columns, message):
    with pytest.raises(clipsearch.UsageError, match=message):
        index.add_vectors(vectors, columns)
    assert index.status().rows == 0


def test_a_row_that_has_no_length_cannot_be_scaled(index):
    stored = np.array([[1.0] * DIM, [1.0] * DIM, [0.0] * DIM], np.float32)
    with pytest.raises(clipsearch.UsageError, match="row 2 has norm 0"):
        index.add_vectors(stored, table(3), normalize=True)


def test_as_many_tables_as_arrays(index):
    with pytest.raises(clipsearch.UsageError, match="not as many tables"):
        index.add_vectors([unit_rows(2, 1), unit_rows(2, 2)], [table(2)])
    assert index.status().rows == 2  # what came before an error stays


def test_an_error_of_the_caller_is_the_callers(index):
    def broken():
        yield unit_rows(2, 1)
        raise ValueError("my own")

    with pytest.raises(ValueError, match="my own"):
        index.add_vectors(broken(), [table(2), table(2)])


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (unit_rows(1, 1, dim=8), "8 dimensions, not 32"),
        (unit_rows(1, 1)[0], "need"),
        (2 * unit_rows(1, 1), "norm 2"),
        (unit_rows(1, 1).astype(np.float64), "float64"),
    ],
)
def test_wrong_queries_are_refused(index, queries, message):
    with pytest.raises(clipsearch.UsageError, match=message):
        index.search_vectors(queries)


def test_removed_vectors_are_gone_and_their_ids_too(index):
    stored = unit_rows(100, 1)
    ids = index.add_vectors(stored, table(100))
    assert index.remove_vectors(ids[10:20]) == 10
    assert index.remove_vectors(ids[:20]) == 10  # half of them were gone already
    _, found = index.search_vectors(stored[15:16], top=100)
    assert sorted(found[found >= 0]) == ids[20:].tolist()
    with pytest.raises(clipsearch.UsageError, match=f"no vector has the id {ids[12]}"):
        index.rows([ids[30], ids[12]])
    more = index.add_vectors(unit_rows(1, 5), table(1))
    assert more.tolist() == [101]
    index.compact()
    assert index.status().rows == 81
    assert index.rows(ids[20:21])[0]["path"] == "a/20.jpg"


def test_vectors_of_files_cannot_be_removed_by_id(tmp_path):
    from PIL import Image

    (tmp_path / "m").mkdir()
    Image.new("RGB", (40, 40), (200, 0, 0)).save(tmp_path / "m" / "red.png")
    with clipsearch.Index.create(tmp_path / "index", model="fake") as index:
        index.add([tmp_path / "m"])
        dim = index.status().dim
        mine = index.add_vectors(unit_rows(1, 1, dim), {"path": ["elsewhere.jpg"]})
        [hit] = index.search("red", top=1)
        assert hit.path == tmp_path / "m" / "red.png"
        with pytest.raises(clipsearch.UsageError, match="is of an indexed file"):
            index.remove_vectors([hit.id, *mine])
        assert {str(row["path"]) for row in index.rows([hit.id, *mine])} == {
            str(tmp_path / "m" / "red.png"),
            "elsewhere.jpg",
        }
        found = index.search(unit_rows(1, 1, dim)[0], top=1)
        assert (str(found[0].path), found[0].columns) == ("elsewhere.jpg", {})


def test_without_a_model_words_are_refused_and_so_are_media(index, tmp_path):
    with pytest.raises(clipsearch.EncoderError, match="made elsewhere: use add_vectors"):
        index.search("a dog")
    (tmp_path / "m").mkdir()
    with pytest.raises(clipsearch.EncoderError, match="made elsewhere"):
        index.add([tmp_path / "m"])


@pytest.mark.parametrize("arguments", [{"model": None}, {"dim": 5}, {"model": None, "dim": 0}])
def test_model_and_dim_go_together(tmp_path, arguments):
    with pytest.raises(clipsearch.UsageError, match="dim"):
        clipsearch.Index.create(tmp_path / "other", **arguments)
    assert not (tmp_path / "other").exists()


def test_rows_parquet_shows_columns_to_people(index):
    pq = pytest.importorskip("pyarrow.parquet")
    index.add_vectors(unit_rows(2, 1), table(2, stars=[4, 5]))
    [path] = index.path.glob("segments/*/rows.parquet")
    read = pq.read_table(path)
    assert read["id"].to_pylist() == [1, 2]
    assert [json.loads(text)["stars"] for text in read["columns"].to_pylist()] == [4, 5]
