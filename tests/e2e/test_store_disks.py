"""Disks that are full or read-only, clocks that go back, files that may not or cannot be read:
one clear error, and no vector is given up for it.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch import ClipsearchError, Index
from clipsearch.store import snapshot, vectors, writer
from clipsearch.store.store import Store
from clipsearch.types import EncodedMedia
from tests.e2e.support import run
from tests.vectors import ROOT, image, manifest, unit_rows, video

GOLDEN = Path(__file__).parents[2] / "indexes" / "golden-v1"
DIM, ROWS = 32, 1500
NOBODY = 65534
KILOBYTE = 1024
HOUR = 3600

pytestmark = pytest.mark.usefixtures("small")


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Inverted lists for few rows already."""
    patch.setattr(writer, "SMALLEST_TRAINING_ROWS", 1000)
    for module in (writer, snapshot):
        patch.setattr(module, "SCANNED_ROWS", 100)


@pytest.fixture
def small(monkeypatch) -> None:
    make_small(monkeypatch)


@pytest.fixture(scope="module")
def templates(tmp_path_factory) -> Path:
    """An index of vectors and one of files, for copies."""
    folder = tmp_path_factory.mktemp("templates")
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        build(folder / "vectors")
        build_media(folder / "media")
    return folder


@pytest.fixture
def index_of_files(templates, tmp_path) -> Path:
    return shutil.copytree(templates / "media", tmp_path / "index")


def add(index: Index, count: int, seed: int) -> list[int]:
    table = {"path": [f"{seed}"] * count, "n": list(range(count))}
    return index.add_vectors(unit_rows(count, seed, DIM), table, normalize=True).tolist()


def build(folder: Path) -> Path:
    """An index of vectors: two segments, one with dead rows, and inverted lists."""
    with Index.create(folder, model=None, dim=DIM, recipe="ivfpq") as index:
        ids = add(index, ROWS, 1)
        index.remove_vectors(ids[::7])
        add(index, 50, 2)
        assert len(list(folder.glob("segments/*/lists.bin"))) == 1
        assert index.status().segments == 2
    return folder


def contents(index: Index) -> list[tuple[int, str, int, float]]:
    """Every row's id, path and number and its cosine to a vector, best first."""
    status = index.status()
    query = unit_rows(1, 99, DIM)
    scores, ids = index.search_vectors(query, top=status.rows + 1, exact=True)
    found = ids[ids >= 0]
    assert len(found) == status.rows - status.dead_rows
    rows = index.rows(found.tolist())
    return [
        (row["id"], row["path"], row["n"], round(score, 4))
        for row, score in zip(rows, scores[0].tolist(), strict=False)
    ]


def assert_sound(folder: Path, expected: list[tuple[int, str, int, float]]) -> None:
    """Opened anew it has the expected rows, and nothing is wrong with it."""
    with Index.open(folder) as index:
        assert index.verify() == []
        assert contents(index) == expected


# Full disks


@pytest.fixture
def disk(small_disk) -> Path:
    """The small disk, by the name that most tests here use."""
    return small_disk


@pytest.fixture
def folder(templates, disk) -> Path:
    """An index of vectors on that disk."""
    return shutil.copytree(templates / "vectors", disk / "index")


@contextmanager
def only(disk: Path, left: int) -> Iterator[None]:
    """Leave so many kilobytes free, for a while."""
    status = os.statvfs(disk)
    size = status.f_bavail * status.f_frsize - left * KILOBYTE
    (disk / "filler").write_bytes(bytes(size))
    yield
    (disk / "filler").unlink()


def failures(
    folder: Path, change: Callable[[Index], Any], step: int
) -> tuple[int, list[tuple[int, str, int, float]]]:
    """Try with more and more room until it works; how often it failed, the rows in the end."""
    with Index.open(folder) as index:
        before = contents(index)
    for count in range(100):
        with only(folder.parent, count * step), Index.open(folder) as index:
            try:
                change(index)
                return count, contents(index)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            assert contents(index) == before  # it is searched on the full disk
        assert_sound(folder, before)
    raise AssertionError("it never works")


def test_adding_fails_cleanly_however_full_the_disk_is(folder):
    with Index.open(folder) as index:
        before = contents(index)
    failed, after = failures(folder, lambda index: add(index, ROWS, 3), 25)
    assert failed > 5
    assert sorted(row for row in after if row[1] != "3") == sorted(before)
    assert sorted(n for _, path, n, _ in after if path == "3") == list(range(ROWS))
    assert_sound(folder, after)


@pytest.mark.parametrize("retrain", [False, True])
def test_compacting_fails_cleanly_however_full_the_disk_is(folder, retrain):
    with Index.open(folder) as index:
        before = contents(index)
    failed, after = failures(folder, lambda index: index.compact(retrain=retrain), 25)
    assert failed > 5
    assert after == before
    assert_sound(folder, before)
    with Index.open(folder) as index:
        assert index.compact().segments == 1
    names = {path.name for path in folder.rglob("*")}
    assert not {name for name in names if name.endswith(".tmp")}
    assert len(list((folder / "segments").iterdir())) == 1
    assert len(list((folder / "quantisers").iterdir())) == 1


def test_removing_fails_cleanly_however_full_the_disk_is(folder):
    with Index.open(folder) as index:
        before = contents(index)
    ids = [row[0] for row in before[::3]]
    failed, after = failures(folder, lambda index: index.remove_vectors(ids), 4)
    assert failed > 0
    assert after == [row for row in before if row[0] not in set(ids)]
    assert_sound(folder, after)


def test_blocks_that_were_published_before_the_disk_was_full_stay(folder, monkeypatch):
    monkeypatch.setattr(vectors, "BLOCK_ROWS", 100)
    with Index.open(folder) as index:
        before = len(contents(index))
        with only(folder.parent, 400), pytest.raises(OSError) as caught:
            add(index, 4000, 3)
        assert caught.value.errno == errno.ENOSPC
        after = contents(index)
        new = sorted(n for _, path, n, _ in after if path == "3")
        assert 100 <= len(new) < 4000
        assert len(new) % 100 == 0
        assert new == list(range(len(new)))
        assert len(after) == before + len(new)
    assert_sound(folder, after)


def test_the_command_line_says_in_one_line_that_the_disk_is_full(folder):
    with Index.open(folder) as index:
        before = contents(index)
    with only(folder.parent, 100):
        ran = run("compact", "--retrain", "--index", folder)
    assert (ran.code, ran.out) == (1, "")
    steps, line = ran.err.splitlines()[:-1], ran.err.splitlines()[-1]
    assert all(step.startswith(("training", "writing")) for step in steps)
    assert line.startswith("error: No space left on device")
    assert line.endswith("free some space and run it again")
    assert_sound(folder, before)
    run("compact", "--retrain", "--index", folder).ok()
    assert_sound(folder, before)


# Read-only disks and folders


def assert_only_readable(folder: Path, expected: list[tuple[int, str, int, float]], code: int):
    """Everything that reads works; what writes is one clear error."""
    with Index.open(folder) as index:
        assert contents(index) == expected
        assert index.verify() == []
        for change in (
            lambda: add(index, 10, 4),
            lambda: index.remove_vectors([1]),
            index.compact,
            index.repair,
            index.check_unlocked,
        ):
            with pytest.raises(OSError, match=str(folder)) as caught:
                change()
            assert caught.value.errno == code
        assert contents(index) == expected
    ran = run("compact", "--index", folder)
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith(f"error: {os.strerror(code)} ({folder}")
    run("verify", "--index", folder).ok()


def test_a_read_only_disk_can_be_searched(folder):
    with Index.open(folder) as index:
        expected = contents(index)
    subprocess.run(["mount", "-o", "remount,ro", str(folder.parent)], check=True)
    assert_only_readable(folder, expected, errno.EROFS)


def test_an_index_of_format_1_on_a_read_only_disk_can_be_searched(disk):
    folder = shutil.copytree(GOLDEN, disk / "index")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with Index.open(folder) as index:
        scores, _ = index.search_vectors(np.eye(8, dtype=np.float32)[:1], top=10)
        assert np.isfinite(scores).sum() == 5
        assert index.verify() == []


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> None:
    """All is imported: another user may not be allowed to read what root may."""
    folder = tmp_path_factory.mktemp("warm") / "index"
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        build(folder)
        with Index.open(folder) as index:
            index.search_vectors(unit_rows(1, 1, DIM))
            index.repair()
        run("verify", "--index", folder).ok()
        run("compact", "--retrain", "--index", folder).ok()


@pytest.fixture
def ordinary(warm) -> Iterator[Path]:
    """A folder of a user without root's rights, whom the process is meanwhile."""
    place = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(place, NOBODY, NOBODY)
        try:
            os.setresuid(NOBODY, NOBODY, 0)
        except OSError:
            shutil.rmtree(place)
            pytest.skip("root, and no right to be another user")
    yield place
    if os.getresuid()[2] == 0:
        os.setresuid(0, 0, 0)
    shutil.rmtree(place)


@contextmanager
def modes(paths: list[Path], change: Callable[[int], int]) -> Iterator[None]:
    """Change the permissions of files and folders for a while."""
    before = {path: path.stat().st_mode for path in paths}
    for path in reversed(paths):
        path.chmod(change(before[path]))
    yield
    for path in paths:
        path.chmod(before[path])


def test_a_read_only_folder_can_be_searched(ordinary):
    folder = build(ordinary / "index")
    with Index.open(folder) as index:
        expected = contents(index)
    with modes([folder, *sorted(folder.rglob("*"))], lambda mode: mode & 0o555):
        assert_only_readable(folder, expected, errno.EACCES)
    assert_sound(folder, expected)


# Files that may not or cannot be read

SEGMENT_FILES = (
    "vectors.npy",
    "checks.npy",
    "lookup.npy",
    "extras.bin",
    "sums.npy",
    "segment.json",
    "lists.bin",
    "lists.npy",
)


def largest_segment(folder: Path) -> Path:
    return max(
        (folder / "segments").iterdir(), key=lambda path: (path / "vectors.npy").stat().st_size
    )


def media(count: int) -> list[EncodedMedia]:
    rows = unit_rows(5 * count, 5)
    made = [image(f"{n}.jpg", rows[5 * n]) for n in range(count)]
    return made + [video(f"{n}.mp4", rows[5 * n + 1 : 5 * n + 5]) for n in range(count)]


def build_media(folder: Path) -> Path:
    """An index of files, whose vectors a writer may give up, for they can be read again."""
    store = Store.create(folder, manifest("ivfpq"))
    with store.writing() as opened:
        opened.catalog.add_root(ROOT)
        opened.publish(media(300))
        opened.maintain()
        opened.publish([image("last.jpg", unit_rows(1, 6))])
    store.close()
    assert list(folder.glob("segments/*/lists.bin"))
    return folder


def media_contents(folder: Path) -> tuple[Any, Any]:
    """Every unit with its score, and what the catalog says of each file."""
    store = Store.open(folder)
    units = store.search(unit_rows(1, 9), k=5000, exact=True)[0]
    files = [(item.relative, item.id, item.state) for item in store.catalog.all_media()]
    store.close()
    return [(unit.id, unit.media_id, round(unit.score, 4)) for unit in units], files


def change_media(folder: Path) -> None:
    """Open an index of files for writing and add one."""
    store = Store.open(folder)
    try:
        with store.writing() as opened:
            opened.publish([image("new.jpg", unit_rows(1, 7))])
    finally:
        store.close()


def assert_nothing_given_up(
    folder: Path, refused: AbstractContextManager[Any], damage: Callable[[], Any] = lambda: None
) -> None:
    """While a file cannot be read a writer raises and removes nothing; later all is there."""
    units, files = media_contents(folder)
    damage()
    there = names_in(folder)
    with refused, pytest.raises((OSError, ClipsearchError)) as caught:
        change_media(folder)
    assert str(caught.value)
    assert names_in(folder) == there
    change_media(folder)
    now, kept = media_contents(folder)
    assert len(now) == len(units) + 1
    assert set(units) < set(now)
    assert set(files) < set(kept)
    with Index.open(folder) as index:
        assert index.verify() == []


def names_in(folder: Path) -> list[Path]:
    return sorted(
        path for name in ("segments", "quantisers") for path in (folder / name).rglob("*")
    )


UNREADABLE = (
    *SEGMENT_FILES,
    ".",
    "..",
    "../../quantisers",
    "../../manifest.json",
    "../../catalog.sqlite",
)


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_without_permission_is_not_given_up(ordinary, name):
    folder = build_media(ordinary / "index")
    path = (largest_segment(folder) / name).resolve()
    assert_nothing_given_up(folder, modes([path], lambda _: 0))


@pytest.mark.parametrize("name", SEGMENT_FILES)
def test_a_file_that_cannot_be_opened_is_not_given_up(index_of_files, name):
    path = largest_segment(index_of_files) / name
    assert_nothing_given_up(index_of_files, refused(path, errno.EIO))


def test_a_file_is_not_given_up_when_too_many_are_open(index_of_files):
    path = largest_segment(index_of_files) / "vectors.npy"
    assert_nothing_given_up(index_of_files, refused(path, errno.EMFILE))


def test_a_quantiser_that_cannot_be_opened_is_not_given_up(index_of_files):
    [path] = (index_of_files / "quantisers").iterdir()
    assert_nothing_given_up(index_of_files, refused(path, errno.EIO))


def test_a_disk_that_fails_to_read_is_no_reason_to_give_up(index_of_files):
    assert_nothing_given_up(index_of_files, failing_reads())


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_damaged_segment_is_not_given_up_for_a_file_that_cannot_be_read_now(index_of_files, code):
    """Its lists are damaged, which loses nothing; its vectors could be read another time."""
    segment = largest_segment(index_of_files)
    assert_nothing_given_up(
        index_of_files,
        refused(segment / "vectors.npy", code),
        damage=lambda: os.truncate(segment / "lists.bin", 100),
    )


def test_a_segment_that_the_catalog_lost_is_not_removed_while_its_files_fail(index_of_files):
    """Whether anything would be lost with it cannot be told then."""
    segment = largest_segment(index_of_files)
    before = names_in(index_of_files)
    with closing(sqlite3.connect(index_of_files / "catalog.sqlite")) as db, db:
        db.execute("DELETE FROM segments WHERE name = ?", (segment.name,))
    with failing_stats(segment / "lookup.npy"), pytest.raises((OSError, ClipsearchError)):
        change_media(index_of_files)
    assert names_in(index_of_files) == before


def test_an_error_of_the_disk_names_the_file(index_of_files):
    with failing_reads():
        ran = run("verify", "--index", index_of_files)
    (line,) = ran.err.splitlines()
    assert line.startswith(f"error: Input/output error ({index_of_files}")


@contextmanager
def refused(path: Path, code: int) -> Iterator[None]:
    """Opening a file fails for a while."""

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(given: Any, *more: Any, **named: Any) -> Any:
            if not isinstance(given, int) and os.fspath(given) == os.fspath(path):
                raise OSError(code, os.strerror(code), os.fspath(given))
            return real(given, *more, **named)

        return opened

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((Path, "open"), (os, "open"), (builtins, "open"), (io, "open")):
            patch.setattr(owner, name, guarded(getattr(owner, name)))
        yield


@contextmanager
def failing_reads() -> Iterator[None]:
    """Files open, but reading arrays from them fails."""

    def fail(*_: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", fail)
        yield


@contextmanager
def failing_stats(path: Path) -> Iterator[None]:
    real = Path.stat

    def fail(given: Path, **named: Any) -> os.stat_result:
        if given == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "stat", fail)
        yield


# Clocks


@pytest.fixture
def two_openers(tmp_path) -> Iterator[tuple[Index, Index]]:
    """An index of a few vectors, opened to read and to write."""
    folder = tmp_path / "index"
    Index.create(folder, model=None, dim=DIM).close()
    with Index.open(folder) as reader, Index.open(folder) as changing:
        add(changing, 20, 1)
        yield reader, changing


def set_times(folder: Path, seconds: float) -> None:
    for path in folder.glob("catalog.sqlite*"):
        os.utime(path, (seconds, seconds))


def assert_seen(reader: Index, changing: Index, seed: int) -> None:
    """The reader sees a commit that comes after one that it has seen."""
    count = len(contents(reader))
    assert reader._store._stamp is not None, "it would ask the database anyway"
    ids = add(changing, 3, seed)
    now = contents(reader)
    assert len(now) == count + 3
    assert set(ids) < {row[0] for row in now}


@pytest.mark.parametrize("hours", [-20_000, -1, 1, 200_000])
def test_a_reader_sees_what_is_committed_whatever_the_times_of_the_files(two_openers, hours):
    reader, changing = two_openers
    for number in range(5):
        set_times(reader.path, time.time() + hours * HOUR - number)
        assert_seen(reader, changing, 10 + number)


@pytest.mark.parametrize("hours", [-20_000, -1, 1, 20_000])
def test_a_reader_sees_what_is_committed_after_its_clock_was_set(two_openers, monkeypatch, hours):
    reader, changing = two_openers
    contents(reader)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + hours * HOUR * 10**9)
    for number in range(5):
        time.sleep(0.02)  # the disk's clock ticks
        assert_seen(reader, changing, 10 + number)


def test_a_reader_sees_what_is_committed_on_a_disk_whose_times_are_whole_seconds(two_openers):
    """And whose log has come to its length and begins again: only its time changes."""
    reader, changing = two_openers
    add(changing, 3, 5)
    with changing._store.catalog._engine.connect() as db:
        db.connection.execute("PRAGMA wal_checkpoint(RESTART)")
    for number in range(3):
        while time.time() % 1 > 0.1:
            time.sleep(0.005)
        second = int(time.time())
        add(changing, 3, 10 + number)
        set_times(reader.path, second)
        time.sleep(0.1)
        count = len(contents(reader))
        add(changing, 3, 20 + number)
        set_times(reader.path, second)
        assert len(contents(reader)) == count + 3
