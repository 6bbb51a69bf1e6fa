"""`prune` forgets what is gone and no more; `reset` deletes an index and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from clipsearch import Index, IndexLockedError, IndexMissingError
from clipsearch.store.reset import delete_index
from tests.e2e.support import BLUE, GREEN, RED, run, write_film, write_photo


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two indexed folders, of two files each."""
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "a" / "red.jpg", RED, 1)
    write_photo(tmp_path / "a" / "-sub" / "blue.jpg", BLUE, 2)
    write_photo(tmp_path / "b" / "green.jpg", GREEN, 3)
    write_film(tmp_path / "b" / "film.mp4", [(RED, list(range(0, 1000, 200)))])
    run("index", "a", "b", "--model", "fake").ok()
    return tmp_path


def names(folder: Path) -> list[str]:
    with Index.open(folder / "indexes" / "default") as index:
        return sorted(media.path.name for media in index.media())


def test_what_is_gone_leaves_and_is_printed(here: Path) -> None:
    (here / "a" / "red.jpg").unlink()
    assert run("prune", "-n", "-f").ok().out == f"{here / 'a' / 'red.jpg'}\n"
    assert len(names(here)) == 4, "a dry run changes nothing"
    ran = run("prune", "--json").ok()
    assert [record["path"] for record in json.loads(ran.out)] == [str(here / "a" / "red.jpg")]
    assert ran.err.startswith("removed 1: ")
    assert names(here) == ["blue.jpg", "film.mp4", "green.jpg"]
    hits = run("query", "red", "--kind", "image", "--kind", "frame", "--json").ok().records
    assert "red.jpg" not in [Path(hit["path"]).name for hit in hits]
    assert run("verify").ok()


def test_a_disk_that_is_away_keeps_its_files_until_it_is_named(here: Path) -> None:
    shutil.move(here / "b", here / "elsewhere")
    ran = run("prune", "-f").ok()
    assert ran.out == ""
    assert f"{here / 'b'} has none of its 2 indexed files now: kept" in ran.err
    assert len(names(here)) == 4
    assert len(run("prune", "b", "-f").ok().out.splitlines()) == 2
    assert names(here) == ["blue.jpg", "red.jpg"]
    with Index.open(here / "indexes" / "default") as index:
        assert index.status().roots == (here / "a",)


def test_only_what_is_named_is_looked_at(here: Path) -> None:
    for path in (here / "a" / "red.jpg", here / "b" / "green.jpg"):
        path.unlink()
    assert run("prune", "b", "-f").ok().out == f"{here / 'b' / 'green.jpg'}\n"
    assert names(here) == ["blue.jpg", "film.mp4", "red.jpg"]


def test_reset_deletes_the_index_and_nothing_else(here: Path) -> None:
    folder = here / "indexes" / "default"
    (folder / "mine.probe").write_text("kept")
    ran = run("reset")
    assert (ran.code, "give -y" in ran.err) == (2, True)
    assert run("query", "red").ok()
    run("reset", "-y").ok()
    assert [path.name for path in folder.iterdir()] == ["mine.probe"]
    assert run("query", "red").code == 3
    assert (here / "a" / "red.jpg").is_file()
    with pytest.raises(IndexMissingError):
        delete_index(folder)
    (folder / "mine.probe").unlink()
    run("index", "a", "--model", "fake").ok()
    delete_index(folder)
    assert not folder.exists()


def test_a_reset_that_was_interrupted_can_be_done_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here / "indexes" / "default"

    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            delete_index(folder)
    shutil.rmtree(folder / "segments")
    (folder / "catalog.sqlite").unlink()
    delete_index(folder)
    assert not folder.exists()


def test_an_index_that_is_written_to_is_not_deleted(here: Path) -> None:
    folder = here / "indexes" / "default"
    with Index.open(folder) as index, index._store.writing(), pytest.raises(IndexLockedError):
        delete_index(folder, wait=False)
    assert len(names(here)) == 4


def test_a_piece_is_cut_out_of_a_video(here: Path) -> None:
    ran = run("cut", "b/film.mp4", "-s", "0.2", "-e", "0:00.6", "-o", "piece.mp4", "--reencode")
    assert "piece.mp4: seconds 0.200 to 0.600" in ran.ok().err
    again = run("cut", "b/film.mp4", "-s", "0.2", "-e", "0.6", "-o", "piece.mp4")
    assert (again.code, "--overwrite" in again.err) == (2, True)
    assert run("cut", "b/film.mp4", "-s", "5", "-e", "2", "-o", "other.mp4").code == 2


def test_a_catalog_elsewhere_goes_too(tmp_path: Path) -> None:
    catalog = f"sqlite:///{tmp_path / 'catalog.db'}"
    write_photo(tmp_path / "a" / "red.jpg", RED, 1)
    for _ in range(2):  # the second time it finds no catalog there
        with Index.create(tmp_path / "index", model="fake", catalog=catalog) as index:
            assert index.add([tmp_path / "a"]).added == 1
        delete_index(tmp_path / "index")
    assert not (tmp_path / "index").exists()
