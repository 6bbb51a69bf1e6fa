"""One writer at a time, and readers any time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from clipsearch import Index
from clipsearch.store.store import Store
from tests.e2e.support import (
    RED,
    end,
    locked,
    run,
    spawn,
    start,
    start_slowly,
    write_film,
    write_photos,
)

PHOTOS, FILMS = 120, 20


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "m", PHOTOS)
    return tmp_path


@pytest.fixture
def index(here) -> Path:
    """An index of one photo of many."""
    run("index", "m/0/photo 0.jpg", "--model", "fake").ok()
    return here / "indexes" / "default"


def listed() -> list[str]:
    paths = run("list", "-0").ok().out.split("\0")[:-1]
    assert len(set(paths)) == len(paths)
    return paths


def test_the_second_waits_and_says_so(here, index):
    with Store.open(index).writing():
        process = start("index", "m", cwd=here)
        line = process.stderr.readline()
        assert line.startswith(f"waiting for process {os.getpid()} on ")
        time.sleep(0.3)
        assert process.poll() is None
        assert len(listed()) == 1
    ran = end(process)
    assert (ran.code, ran.out) == (0, "")
    assert len(ran.err.splitlines()) == 1
    assert len(listed()) == PHOTOS


def test_no_wait_is_3(here, index):
    with Store.open(index).writing():
        ran = spawn("index", "m", "--no-wait", cwd=here)
        assert (ran.code, ran.out) == (3, "")
        (line,) = ran.err.splitlines()
        assert str(index) in line
        assert run("query", "red").code == 0
        assert run("status").code == 0
    assert run("index", "m", "--no-wait").code == 0


def test_ctrl_c_while_waiting(here, index):
    with Store.open(index).writing():
        process = start("index", "m", cwd=here)
        assert "waiting" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        ran = end(process, timeout=10)
    assert ran.code == 130
    assert "Traceback" not in ran.err
    assert len(listed()) == 1


def test_a_killed_writer_leaves_no_lock(here, index):
    process = start_slowly("index", "m", cwd=here, pause=0.5)
    limit = time.monotonic() + 20
    while not locked(index):
        assert time.monotonic() < limit
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert run("index", "m", "--no-wait").code == 0
    assert len(listed()) == PHOTOS


def test_two_at_once_on_one_index(here, index):
    processes = [start_slowly("index", "m", cwd=here, pause=0.005, publish=0.05) for _ in "ab"]
    results = [end(process) for process in processes]
    assert [ran.code for ran in results] == [0, 0], results
    assert sorted(f"added {n}" in ran.err for ran in results for n in (PHOTOS - 1,)) == [0, 1]
    assert len(listed()) == PHOTOS
    assert len(run("query", "red", "-t", "1000", "-0").ok().out.split("\0")) == PHOTOS + 1


def test_two_at_once_create_one_index(here):
    arguments = ("index", "m", "--model", "fake")
    processes = [start(*arguments, cwd=here) for _ in "ab"]
    results = [end(process) for process in processes]
    assert [ran.code for ran in results] == [0, 0], results
    assert len(listed()) == PHOTOS
    assert len(run("query", "red", "-t", "1000", "-0").ok().out.split("\0")) == PHOTOS + 1


def test_the_sampling_of_a_waiting_run_is_checked_when_its_turn_comes(here):
    """The first run fixes it while the second one waits with the manifest it read before."""
    with Index.create(here / "indexes" / "default", model="fake") as index:
        with index._store.writing():
            process = start("index", "m", "--fps", "2", cwd=here)
            assert "waiting" in process.stderr.readline()
            values = {"method": "fps", "fps": 1.0, "count": None, "keep_all_frames": False}
            index._store.update_manifest(sampling={**values, "window_seconds": 30.0})
        ran = end(process)
    assert ran.code == 2, ran
    assert run("status").ok().out.count("fps 1.0") == 1


def test_queries_work_while_a_run_publishes_and_merges(here, index):
    film = write_film(here / "m" / "0.mp4", [(RED, list(range(0, 3000, 250)))]).read_bytes()
    for number in range(1, FILMS):  # more bytes: other content, the same pictures
        (here / "m" / f"{number}.mp4").write_bytes(film + bytes(8 * number))
    process = start_slowly("index", "m", "-b", "1", cwd=here, pause=0.02, publish=0.0)
    counts = []
    while process.poll() is None:
        for kinds in (("--kind", "video"), ("--kind", "image", "--kind", "frame")):
            ran = run("query", "red", "-t", "1000", "-0", *kinds)
            assert (ran.code, ran.err.replace("nothing found\n", "")) == (0, "")
            paths = ran.out.split("\0")[:-1]
            assert len(set(paths)) == len(paths)
        counts.append(len(paths))
    assert end(process).code == 0
    assert counts == sorted(counts)
    assert any(1 < count < PHOTOS for count in counts), "no query met a half-built index"
    assert len(listed()) == PHOTOS + FILMS


def test_a_merge_in_the_middle_of_a_search(here, index):
    """Between the look at the segments and the look at a video's rows all segments change."""
    film = write_film(here / "m" / "film.mp4", [(RED, list(range(0, 3000, 250)))])
    run("index", film).ok()
    with Index.open(index) as reader:
        expected = reader.search("red", kind="video")
        catalog = reader._store.catalog
        ranges = catalog.ranges_of

        def merge_first(media_id):
            del catalog.ranges_of
            with Store.open(index).writing() as writer:
                writer._merge(writer.catalog.segments(), None)
            return ranges(media_id)

        catalog.ranges_of = merge_first
        assert reader.search("red", kind="video") == expected
        assert [hit.path for hit in expected] == [film]
