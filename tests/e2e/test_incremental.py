"""Indexing again: what is unchanged or moved is not decoded, what is gone leaves, no disk lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from clipsearch import Index
from tests.e2e.support import BLUE, GREEN, RED, run, write_film, write_photo


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder `m` of five photos and a film, indexed."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["one.jpg", "two.png", "sub/three.jpg", "sub/deep/four.jpg"]):
        write_photo(tmp_path / "m" / name, RED, number)
    write_photo(tmp_path / "m" / "other" / "five.jpg", BLUE)
    write_film(tmp_path / "m" / "sub" / "film.mp4", [(GREEN, list(range(0, 3000, 200)))])
    assert summary(run("index", "m", "--model", "fake")) == "added 6"
    return tmp_path


@pytest.fixture
def no_decoding(monkeypatch):
    """From here on reading any media file fails the test."""

    def refuse(file, _spec):
        raise AssertionError(f"{file.path} was decoded")

    monkeypatch.setattr("clipsearch.ingest.reading.open_media", refuse)


def summary(ran) -> str:
    """The counts above zero of the last line of stderr."""
    counts = ran.ok().err.splitlines()[-1].split(":")[0].split(", ")
    return ", ".join(count for count in counts if not count.endswith(" 0"))


def ids(folder: Path) -> dict[str, int]:
    with Index.open(folder / "indexes" / "default") as index:
        return {media.relative: media.id for media in index.media()}


def found(query: str = "red") -> dict[str, float]:
    """Score by file name, for all hits of all kinds."""
    arguments = [part for kind in ("image", "frame", "video") for part in ("--kind", kind)]
    records = run("query", query, "-t", "1000", *arguments, "--json").ok().records
    return {f"{Path(record['path']).name} {record['kind']}": record["score"] for record in records}


def test_unchanged_files_are_not_even_opened(here, no_decoding):
    before = ids(here), found()
    for path in list((here / "m").rglob("*.*")):
        status = path.stat()
        path.write_bytes(b"x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = run("index", "m")
    assert summary(again) == "unchanged 6"
    assert again.skipped == []
    assert (ids(here), found()) == before


def test_touched_files_keep_their_vectors(here, no_decoding):
    before = ids(here), found()
    for path in list((here / "m").rglob("*.*")):
        os.utime(path, ns=(1, 1_700_000_000_000_000_000))
    assert summary(run("index", "m")) == "unchanged 6"
    assert (ids(here), found()) == before
    shutil.copystat(here / "m" / "one.jpg", here / "m" / "two.png")  # the new times are known
    assert summary(run("index", "m")) == "unchanged 6"


def test_renamed_and_moved_files_keep_their_vectors(here, no_decoding):
    before, scores = ids(here), found()
    (here / "m" / "new").mkdir()
    (here / "m" / "one.jpg").rename(here / "m" / "uno.jpg")
    (here / "m" / "two.png").rename(here / "m" / "new" / "two.png")
    (here / "m" / "sub" / "film.mp4").rename(here / "m" / "new" / "movie.mp4")
    assert summary(run("index", "m")) == "unchanged 3, moved 3"
    after = ids(here)
    assert after["uno.jpg"] == before["one.jpg"]
    assert after["new/two.png"] == before["two.png"]
    assert after["new/movie.mp4"] == before["sub/film.mp4"]
    assert len(after) == 6
    assert found()["movie.mp4 frame"] == scores["film.mp4 frame"]
    assert found()["movie.mp4 video"] == scores["film.mp4 video"]


def test_a_renamed_folder_and_a_renamed_root_keep_their_vectors(here, no_decoding):
    before = ids(here)
    (here / "m" / "sub").rename(here / "m" / "renamed")
    assert summary(run("index", "m")) == "unchanged 3, moved 3"
    assert ids(here) == {name.replace("sub/", "renamed/"): id_ for name, id_ in before.items()}
    (here / "m").rename(here / "n")
    assert summary(run("index", "n")) == "moved 6"
    assert set(ids(here).values()) == set(before.values())
    assert {path.split("/")[-1] for path in run("query", "red", "-f").lines} >= {"one.jpg"}
    assert all(str(here / "n") in path for path in run("list", "-f").lines)


def test_a_file_that_moves_onto_an_indexed_one_replaces_it(here, no_decoding):
    before = ids(here)
    (here / "m" / "one.jpg").replace(here / "m" / "two.png")
    assert summary(run("index", "m")) == "unchanged 4, moved 1"
    after = ids(here)
    assert after["two.png"] == before["one.jpg"]
    assert len(after) == 5
    assert len(found()) == 6  # four photos, the film and its window


def test_a_copy_is_a_file_of_its_own(here):
    before = ids(here)
    shutil.copy2(here / "m" / "one.jpg", here / "m" / "copy.jpg")
    assert summary(run("index", "m")) == "added 1, unchanged 6"
    after = ids(here)
    assert after["one.jpg"] == before["one.jpg"]
    assert after["copy.jpg"] not in before.values()
    assert found()["copy.jpg image"] == found()["one.jpg image"]


def test_a_changed_file_is_indexed_again(here):
    before, scores = ids(here), found()
    write_photo(here / "m" / "one.jpg", BLUE, 9)
    assert summary(run("index", "m")) == "updated 1, unchanged 5"
    after = found()
    assert after["one.jpg image"] < 0 < scores["one.jpg image"]
    assert {**after, "one.jpg image": 0} == pytest.approx({**scores, "one.jpg image": 0}, abs=1e-5)
    assert ids(here) == before
    write_film(here / "m" / "sub" / "film.mp4", [(RED, list(range(0, 1000, 200)))])
    assert summary(run("index", "m")) == "updated 1, unchanged 5"
    assert found()["film.mp4 frame"] > 0.5 > scores["film.mp4 frame"]


def test_a_file_that_breaks_leaves_the_results_and_comes_back(here):
    content = (here / "m" / "one.jpg").read_bytes()
    (here / "m" / "one.jpg").write_bytes(content[:200])
    assert summary(run("index", "m")) == "unchanged 5, skipped 1"
    assert "one.jpg image" not in found()
    assert run("list", "--failed", "-f").lines == [str(here / "m" / "one.jpg")]
    (here / "m" / "one.jpg").write_bytes(content)
    assert summary(run("index", "m")) == "updated 1, unchanged 5"
    assert found()["one.jpg image"] > 0.5
    assert run("list", "--failed").lines == []


def test_a_known_bad_file_is_told_again_but_not_read(here, no_decoding):
    (here / "m" / "bad.jpg").write_text("no picture")
    with pytest.MonkeyPatch.context() as patch:
        from clipsearch.media import open_media

        patch.setattr("clipsearch.ingest.reading.open_media", open_media)
        first = run("index", "m").ok()
    again = run("index", "m").ok()
    assert again.skipped == first.skipped
    assert len(again.skipped) == 1
    assert run("index", "m", "--strict").code == 4


def test_deleted_files_leave(here, no_decoding):
    (here / "m" / "one.jpg").unlink()
    (here / "m" / "sub" / "film.mp4").unlink()
    assert summary(run("index", "m")) == "unchanged 4, removed 2"
    assert set(ids(here)) == {"two.png", "sub/three.jpg", "sub/deep/four.jpg", "other/five.jpg"}
    assert not {"one.jpg image", "film.mp4 frame", "film.mp4 video"} & set(found())


def test_a_deleted_folder_among_others_leaves(here, no_decoding):
    shutil.rmtree(here / "m" / "sub")
    assert summary(run("index", "m")) == "unchanged 3, removed 3"
    assert set(ids(here)) == {"one.jpg", "two.png", "other/five.jpg"}


def test_indexing_one_folder_leaves_the_others_alone(here, no_decoding):
    shutil.rmtree(here / "m" / "other")
    (here / "m" / "sub" / "three.jpg").unlink()
    assert summary(run("index", "m/sub")) == "unchanged 2, removed 1"
    assert set(ids(here)) == {
        "one.jpg",
        "two.png",
        "sub/deep/four.jpg",
        "sub/film.mp4",
        "other/five.jpg",
    }


@pytest.mark.parametrize("how", ["empty", "missing", "without media"])
def test_a_root_without_media_loses_nothing(here, no_decoding, how):
    before = ids(here), found()
    (here / "m").rename(here / "away")
    if how != "missing":
        (here / "m").mkdir()
    if how == "without media":
        (here / "m" / "lost+found").mkdir()
        (here / "m" / "notes.txt").write_text("no media")
    ran = run("index", "m").ok()
    assert str(here / "m") in ran.err
    assert "removed 0" in ran.err
    assert ("skipping" if how == "missing" else "warning") in ran.err
    assert (ids(here), found()) == before
    shutil.rmtree(here / "m", ignore_errors=True)
    (here / "away").rename(here / "m")
    assert summary(run("index", "m")) == "unchanged 6"
    assert (ids(here), found()) == before


def test_one_empty_root_of_two_loses_nothing(here, no_decoding):
    shutil.copytree(here / "m" / "other", here / "n")
    with pytest.MonkeyPatch.context() as patch:
        from clipsearch.media import open_media

        patch.setattr("clipsearch.ingest.reading.open_media", open_media)
        run("index", "n").ok()
    shutil.rmtree(here / "m")
    (here / "m").mkdir()
    ran = run("index", "m", "n")
    assert summary(ran) == "unchanged 1"
    assert "warning" in ran.err
    assert len(run("list", "-f").lines) == 7


def test_advice_names_commands_that_exist(here):
    for path in list((here / "m").rglob("*.*")):
        path.unlink()
    warning = run("index", "m").ok().err.splitlines()[0]
    for command in warning.split("`")[1::2]:
        name = command.removeprefix("clipsearch ").split()[0]
        assert run(name, "-h").code == 0, f"{warning}: no such command"


def test_an_unreadable_folder_loses_nothing(here, no_decoding, monkeypatch):
    """As root may read everything, the system's refusal is made up."""
    before = ids(here)
    scan = os.scandir

    def refuse(path):
        if Path(path) == here / "m" / "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    (here / "m" / "one.jpg").unlink()
    ran = run("index", "m")
    assert summary(ran) == "unchanged 2, removed 1, skipped 1"
    assert ran.skipped == [f"skipping {here / 'm' / 'sub'}: permission denied"]
    assert ids(here) == {name: id_ for name, id_ in before.items() if name != "one.jpg"}
    assert run("index", "m", "--strict").code == 4


def test_a_single_file_can_be_named(here):
    write_photo(here / "m" / "six.jpg", GREEN, 6)
    write_photo(here / "elsewhere" / "seven.jpg", GREEN, 7)
    write_photo(here / "elsewhere" / "eight.jpg", GREEN, 8)
    assert summary(run("index", "m/six.jpg", "elsewhere/seven.jpg")) == "added 2"
    assert len(ids(here)) == 8
    assert "eight.jpg image" not in found()


def test_a_folder_above_takes_in_the_roots_below(here, no_decoding):
    before = ids(here)
    assert summary(run("index", ".")) == "unchanged 6"
    assert ids(here) == {f"m/{name}": id_ for name, id_ in before.items()}


def test_missing_paths_are_told_and_the_others_indexed(here):
    write_photo(here / "n" / "six.jpg", GREEN, 6)
    ran = run("index", "nowhere", "n")
    assert summary(ran) == "added 1, skipped 1"
    assert ran.skipped[0].startswith(f"skipping {here / 'nowhere'}: ")
    assert run("index", "nowhere", "--strict").code == 4


def test_hidden_and_excluded_folders(here):
    for name in (".hidden/a.jpg", "cache/b.jpg", ".git/c.jpg", "@eaDir/d.jpg"):
        write_photo(here / "n" / name, GREEN)
    write_photo(here / "n" / "e.jpg", GREEN)
    assert summary(run("index", "n", "--exclude-dir", "cache")) == "added 1"
    assert summary(run("index", "n", "--include-hidden")) == "added 2, unchanged 1"
    names = {Path(path).name for path in run("list", "-f").lines}
    assert {"a.jpg", "b.jpg", "e.jpg"} <= names
    assert not {"c.jpg", "d.jpg"} & names


def test_index_and_media_move_together(here, monkeypatch, no_decoding):
    """A disk that is mounted elsewhere, with the index on it."""
    before = ids(here)
    (here / "disk").mkdir()
    (here / "m").rename(here / "disk" / "m")
    (here / "indexes").rename(here / "disk" / "indexes")
    monkeypatch.chdir(here / "disk")
    assert str(here / "disk" / "m" / "one.jpg") in run("query", "red", "-f").ok().lines
    assert summary(run("index", "m")) == "unchanged 6"
    assert ids(here / "disk") == before


def test_things_that_are_no_files_of_the_folder(here):
    """Pipes, loops, links into nothing and folders with the name of a picture."""
    os.mkfifo(here / "m" / "pipe.mp4")
    (here / "m" / "loop").symlink_to(here / "m")
    (here / "m" / "away.jpg").symlink_to(here / "nowhere.jpg")
    write_photo(here / "m" / "folder.jpg" / "inside.jpg", GREEN, 11)
    ran = run("index", "m")
    assert summary(ran) == "added 1, unchanged 6, skipped 1"
    assert ran.skipped[0].startswith(f"skipping {here / 'm' / 'away.jpg'}: ")


def test_swapped_names_keep_their_pictures(here):
    one, two = here / "m" / "one.jpg", here / "m" / "other" / "five.jpg"
    scores = found()
    one.rename(here / "m" / "third")
    two.rename(one)
    (here / "m" / "third").rename(two)
    run("index", "m").ok()
    after = found()
    assert after["one.jpg image"] == pytest.approx(scores["five.jpg image"], abs=1e-5)
    assert after["five.jpg image"] == pytest.approx(scores["one.jpg image"], abs=1e-5)
    assert len(after) == len(scores)


def test_a_chain_of_renames_keeps_every_picture_once(here):
    """a becomes b while b becomes c: each content is under its new name, and nothing else is."""
    names = ["one.jpg", "two.png", "x.jpg"]
    contents = [(here / "m" / name).read_bytes() for name in names[:2]]
    (here / "m" / "two.png").rename(here / "m" / "x.jpg")
    (here / "m" / "one.jpg").rename(here / "m" / "two.png")
    run("index", "m").ok()
    assert len(ids(here)) == 6
    assert "one.jpg" not in ids(here)
    assert run("index", "m").ok().err.startswith("added 0, updated 0, unchanged 6, ")
    assert [(here / "m" / name).read_bytes() for name in names[1:]] == contents
    assert len(found()) == 7
