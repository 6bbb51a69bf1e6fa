"""`Index.add` on real files: what is read, kept, moved, removed and reported."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch import AddListener, AddOptions, Failure, Index, IngestReport, SamplingSpec
from clipsearch.encoders import load_encoder, parse_spec
from clipsearch.ingest import finding, reading
from clipsearch.ingest.scopes import Scope, scopes_of

COLOURS = {"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250), "cyan": (5, 250, 250)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures of one colour each, one of them in a subfolder."""
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name, colour in COLOURS.items():
        place = "sub/" if name == "cyan" else ""
        Image.new("RGB", (80, 60), colour).save(tmp_path / "photos" / f"{place}{name}.png")
    return tmp_path / "photos"


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.create(tmp_path / "index", model="fake")


def counts(report: IngestReport) -> tuple[int, int, int, int, int]:
    return report.added, report.updated, report.unchanged, report.moved, report.removed


def ids(index: Index) -> dict[str, int]:
    return {media.path.name: media.id for media in index.media()}


def first(index: Index, words: str) -> str:
    return index.search(words)[0].path.name


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing should be decoded")

    monkeypatch.setattr(reading, "open_media", refuse)


def test_words_find_pictures(index: Index, folder: Path) -> None:
    report = index.add([folder])
    assert counts(report) == (4, 0, 0, 0, 0)
    assert not report.failures
    for name in COLOURS:
        assert first(index, name) == f"{name}.png"


def test_one_path_is_not_taken_letter_by_letter(index: Index, folder: Path) -> None:
    assert counts(index.add(str(folder / "red.png"))) == (1, 0, 0, 0, 0)
    assert counts(index.add(folder)) == (3, 0, 1, 0, 0)


def test_an_unchanged_folder_is_not_even_opened(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder])
    no_reading(monkeypatch)
    monkeypatch.setattr(finding.Decider, "decide", lambda *_: pytest.fail("hashed"))
    assert counts(index.add([folder])) == (0, 0, 4, 0, 0)


def test_moved_and_touched_files_keep_their_vectors(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder])
    before = ids(index)
    no_reading(monkeypatch)
    (folder / "red.png").rename(folder / "sub" / "rouge.png")
    os.utime(folder / "blue.png", (1, 1))
    assert counts(index.add([folder])) == (0, 0, 3, 1, 0)
    after = ids(index)
    assert after["rouge.png"] == before["red.png"]
    assert after["blue.png"] == before["blue.png"]
    assert first(index, "red") == "rouge.png"
    assert counts(index.add([folder])) == (0, 0, 4, 0, 0)


def test_a_file_moved_to_another_root_keeps_its_vectors(
    index: Index, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder])
    before = ids(index)
    (tmp_path / "elsewhere").mkdir()
    shutil.move(folder / "red.png", tmp_path / "elsewhere" / "red.png")
    no_reading(monkeypatch)
    assert counts(index.add([tmp_path / "elsewhere"])) == (0, 0, 0, 1, 0)
    assert ids(index) == before
    assert index.search("red")[0].path == tmp_path / "elsewhere" / "red.png"


def test_files_where_we_may_not_look_are_kept(
    index: Index, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be there: neither moved from there, nor gone."""
    index.add([folder])
    before = ids(index)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(folder / "red.png", tmp_path / "elsewhere" / "red.png")
    (folder / "red.png").unlink()
    stat = Path.stat

    def forbidden(path: Path, **more: bool) -> os.stat_result:
        if path == folder / "red.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", forbidden)
        assert counts(index.add([tmp_path / "elsewhere"])) == (1, 0, 0, 0, 0)
        assert counts(index.add([folder])) == (0, 0, 3, 0, 0)
        assert index.prune([folder]).gone == ()
    assert len(list(index.media())) == len(before) + 1
    (gone,) = index.prune([folder]).gone
    assert gone.path == folder / "red.png"


def test_a_copy_is_a_file_of_its_own(index: Index, folder: Path) -> None:
    index.add([folder])
    shutil.copy(folder / "red.png", folder / "copy.png")
    assert counts(index.add([folder])) == (1, 0, 4, 0, 0)
    assert {hit.path.name for hit in index.search("red", top=2)} == {"red.png", "copy.png"}


def test_changed_files_are_read_again_and_keep_their_id(index: Index, folder: Path) -> None:
    index.add([folder])
    before = ids(index)
    Image.new("RGB", (81, 60), COLOURS["blue"]).save(folder / "red.png")
    assert counts(index.add([folder])) == (0, 1, 3, 0, 0)
    assert ids(index) == before
    assert {hit.path.name for hit in index.search("blue", top=2)} == {"red.png", "blue.png"}
    assert index.status().dead_rows == 1


def test_deleted_files_leave_and_only_from_the_folders_that_were_named(
    index: Index, folder: Path
) -> None:
    index.add([folder])
    (folder / "sub" / "cyan.png").unlink()
    (folder / "red.png").unlink()
    assert counts(index.add([folder / "sub"])) == (0, 0, 0, 0, 0)  # empty: kept, and said
    assert counts(index.add([folder])) == (0, 0, 2, 0, 2)
    assert {hit.path.name for hit in index.search("red")} == {"green.png", "blue.png"}


@pytest.mark.parametrize("how", ["empty", "missing"])
def test_an_empty_or_missing_root_removes_nothing(index: Index, folder: Path, how: str) -> None:
    index.add([folder])
    shutil.rmtree(folder)
    if how == "empty":
        folder.mkdir()
    report = index.add([folder])
    assert report.removed == 0
    assert len(ids(index)) == 4
    told = report.warnings if how == "empty" else [f.reason for f in report.failures]
    assert len(told) == 1
    assert "4 indexed files: kept" in told[0] or "nothing was removed" in told[0]


def test_an_unreadable_subfolder_removes_nothing_below_it(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder])
    real = os.scandir

    def scandir(path: str | Path) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = index.add([folder])
    assert counts(report) == (0, 0, 3, 0, 0)
    assert [failure.path for failure in report.failures] == [folder / "sub"]
    assert len(ids(index)) == 4


def test_bad_files_are_reported_once_each_and_not_read_again(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "bad.jpg").write_bytes(b"not a picture")
    heard: list[Failure] = []
    listener = AddListener(on_failure=heard.append)
    report = index.add([folder], listener=listener)
    assert report.added == 4
    assert [failure.path for failure in report.failures] == [folder / "bad.jpg"]
    assert tuple(heard) == report.failures
    with monkeypatch.context() as patch:
        no_reading(patch)
        again = index.add([folder])
    assert again.failures == report.failures
    assert again.unchanged == 4
    Image.new("RGB", (80, 60), (250, 250, 5)).save(folder / "bad.jpg")
    assert counts(index.add([folder])) == (0, 1, 4, 0, 0)
    assert first(index, "yellow") == "bad.jpg"


def test_retry_failed_reads_unchanged_failures_again(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reading.open_media

    def broken(*_: object, **__: object) -> object:
        raise clipsearch.MediaError("no codec")

    monkeypatch.setattr(reading, "open_media", broken)
    assert len(index.add([folder]).failures) == 4
    monkeypatch.setattr(reading, "open_media", real)
    assert len(index.add([folder]).failures) == 4
    retried = index.add([folder], options=AddOptions(retry_failed=True))
    assert (counts(retried), retried.failures) == ((0, 4, 0, 0, 0), ())


def test_a_full_disk_stops_the_run_and_keeps_what_was_published(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder / "red.png"])

    def full(*_: object, **__: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reading, "open_media", full)
    with pytest.raises(OSError, match="No space left"):
        index.add([folder])
    assert first(index, "red") == "red.png"


def test_videos_give_frames_and_windows(index: Index, videos: Path) -> None:
    report = index.add([videos / "bikes.mp4"], options=AddOptions(window_seconds=4.0))
    assert report.added == 1
    [media] = index.media()
    assert media.info is not None
    assert media.info.duration_seconds == pytest.approx(10.0, abs=0.05)
    assert (media.info.width, media.info.height) == (640, 272)
    assert index.status().rows == 10 + 3
    [hit] = index.search("anything", kind="video")
    assert hit.start is not None
    assert hit.end is not None
    assert hit.moment is not None
    assert hit.start <= hit.moment < hit.end <= 10.1


def test_sampling_is_fixed_by_the_first_add(index: Index, videos: Path) -> None:
    index.add([videos / "bikes.mp4"], fps=2.0)
    assert index.status().rows == 20 + 1
    index.add([videos / "carphone_pristine.mp4"])
    assert index.status().sampling["fps"] == 2.0
    for options in (
        AddOptions(sampling=SamplingSpec(fps=1.0)),
        AddOptions(window_seconds=10.0),
    ):
        with pytest.raises(clipsearch.UsageError, match="use another --index"):
            index.add([videos], options=options)


def test_an_index_refuses_an_encoder_with_another_fingerprint(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder])
    index.close()
    monkeypatch.setattr("clipsearch.encoders.fake.DEFAULT_DIM", 64)
    real = load_encoder(parse_spec("fake"))
    monkeypatch.setattr(type(real), "fingerprint", "another", raising=False)
    monkeypatch.setattr(
        "clipsearch.engine.load_encoder", lambda *_, **__: _with_fingerprint(real, "another")
    )
    with pytest.raises(clipsearch.EncoderError, match="another"):
        Index.open(index.path).search("red")


def _with_fingerprint(encoder: object, fingerprint: str) -> object:
    encoder.fingerprint = fingerprint  # type: ignore[attr-defined]
    return encoder


def test_batches_span_files_and_change_nothing(tmp_path: Path, folder: Path, videos: Path) -> None:
    results = []
    for batch_size in (1, 3, 64):
        with Index.create(tmp_path / f"index{batch_size}", model="fake") as index:
            index.add([folder, videos], options=AddOptions(batch_size=batch_size))
            results.append([(h.path, h.start, h.score) for h in index.search("red", top=50)])
    assert results[0] == results[1] == results[2]


def test_interrupting_keeps_what_was_complete(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def on_progress(progress: object) -> None:
        seen.append(progress)
        if len(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(
            [folder],
            options=AddOptions(batch_size=1, workers=1),
            listener=AddListener(on_progress=on_progress),
        )
    kept = len(ids(index))
    assert 1 <= kept < 4
    assert counts(index.add([folder])) == (4 - kept, 0, kept, 0, 0)


def test_one_index_serves_many_threads(index: Index, folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    index.add([folder])
    words = list(COLOURS) * 25
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda word: first(index, word), words))
    assert found == [f"{word}.png" for word in words]


def test_a_reader_sees_what_another_process_published(index: Index, folder: Path) -> None:
    index.add([folder / "red.png"])
    with Index.open(index.path) as reader:
        assert len(reader.search("red")) == 1
        index.add([folder])
        assert len(reader.search("red")) == 4


def test_index_and_media_can_be_moved_together(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "photos").mkdir(parents=True)
    Image.new("RGB", (80, 60), COLOURS["red"]).save(disk / "photos" / "a.png")
    with Index.create(disk / "index", model="fake") as index:
        index.add([disk / "photos"])
    disk.rename(tmp_path / "other")
    with Index.open(tmp_path / "other" / "index") as index:
        assert index.search("red")[0].path == tmp_path / "other" / "photos" / "a.png"
        report = index.add([tmp_path / "other" / "photos"])
        assert counts(report) == (0, 0, 1, 0, 0)


def test_scopes(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    for name in ("a/1.jpg", "a/b/2.jpg", "c/3.jpg"):
        (tmp_path / name).touch()
    known = [tmp_path / "a"]
    paths = [tmp_path / "a/b/2.jpg", tmp_path / "a/b", tmp_path / "c/3.jpg"]
    assert scopes_of(paths, known) == [
        Scope(tmp_path / "a", ("b", "b/2.jpg")),
        Scope(tmp_path / "c", ("3.jpg",)),
    ]
    assert scopes_of([tmp_path / "a/b", tmp_path], []) == [Scope(tmp_path, ("", "a/b"))]


def test_nested_roots_are_one_root_and_nothing_is_indexed_twice(index: Index, folder: Path) -> None:
    index.add([folder / "sub"])
    index.add([folder / "sub", folder])
    assert sorted(ids(index)) == [f"{name}.png" for name in sorted(COLOURS)]
    index.add([folder / "red.png", folder / "sub" / "cyan.png"])
    assert counts(index.add([folder])) == (0, 0, 4, 0, 0)
    assert index.status().roots == (folder,)


@pytest.mark.parametrize("source_first", [True, False])
def test_a_move_between_roots_of_one_run_keeps_the_vectors(
    index: Index, tmp_path: Path, source_first: bool
) -> None:
    for name in ("a", "z"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (80, 60), COLOURS["red"]).save(tmp_path / name / f"stays in {name}.png")
    names = ("a", "z") if source_first else ("z", "a")
    source, target = (tmp_path / name for name in names)
    Image.new("RGB", (80, 60), COLOURS["blue"]).save(source / "moves.png")
    index.add([tmp_path / "a", tmp_path / "z"])
    before = ids(index)
    (source / "moves.png").rename(target / "moves.png")
    assert counts(index.add([tmp_path / "a", tmp_path / "z"])) == (0, 0, 2, 1, 0)
    assert ids(index) == before


def test_files_that_are_still_there_stay_unless_they_are_excluded(
    index: Index, folder: Path
) -> None:
    Image.new("RGB", (80, 60), COLOURS["red"]).save(folder / ".hidden.png")
    index.add([folder / ".hidden.png"])
    assert counts(index.add([folder])) == (4, 0, 0, 0, 0)
    assert ".hidden.png" in ids(index)
    report = index.add([folder], options=AddOptions(exclude_dirs=("sub",)))
    assert counts(report) == (0, 0, 3, 0, 1)
    assert "cyan.png" not in ids(index)


def test_an_empty_folder_beside_others_removes_nothing(index: Index, folder: Path) -> None:
    index.add([folder])
    (folder / "sub" / "cyan.png").unlink()
    report = index.add([folder / "sub", folder / "red.png"])
    assert counts(report) == (0, 0, 1, 0, 0)
    assert len(report.warnings) == 1
    assert len(ids(index)) == 4


def test_a_named_file_that_is_no_media_is_said(index: Index, folder: Path) -> None:
    (folder / "notes.txt").write_text("words")
    report = index.add([folder / "notes.txt", folder])
    assert [failure.path.name for failure in report.failures] == ["notes.txt"]
    assert report.added == 4


def test_settings_of_another_process_are_heard(tmp_path: Path, videos: Path) -> None:
    first_, second = (
        Index.create(tmp_path / "index", model="fake"),
        Index.open(tmp_path / "index"),
    )
    first_.add([videos / "bikes.mp4"], fps=2.0)
    with pytest.raises(clipsearch.UsageError, match="use another --index"):
        second.add([videos / "bikes.mp4"], fps=5.0)


def test_an_index_is_held_to_how_it_was_built(index: Index) -> None:
    index.require(model="fake", recipe="auto")
    with pytest.raises(clipsearch.EncoderError, match="--model"):
        index.require(model="builtin")
    with pytest.raises(clipsearch.UsageError, match="--recipe"):
        index.require(recipe="ivfpq")
    with pytest.raises(clipsearch.UsageError, match="--catalog"):
        index.require(catalog="sqlite:///elsewhere")


def test_scores_are_cosines_of_the_stored_vectors(index: Index, folder: Path) -> None:
    index.add([folder])
    encoder = load_encoder(parse_spec("fake"))
    pixels = np.asarray(Image.open(folder / "red.png"))
    vector = encoder.encode_images([encoder.prepare(pixels)])[0]
    expected = float(encoder.encode_text(["red"])[0] @ vector)
    assert index.search("red")[0].score == pytest.approx(expected, abs=2e-3)
