"""Kill -9 and Ctrl-C at any moment: nothing that was published is lost, nothing comes twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from clipsearch import Index
from tests.e2e.support import (
    BLUE,
    READ,
    RED,
    contents,
    end,
    locked,
    media_ids,
    run,
    start_slowly,
    write_film,
    write_photo,
    write_photos,
)

PHOTOS, FILMS = 400, 4
KILLS = 10
PAUSE = 0.02
INDEX = ("index", "m", "--model", "fake")


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """400 photos and four films with units of each kind."""
    folder = tmp_path_factory.mktemp("media") / "m"
    write_photos(folder, PHOTOS)
    seconds = [(RED, list(range(0, 3000, 250))), (BLUE, list(range(3000, 5000, 250)))]
    film = write_film(folder / "film 0.mp4", seconds)
    for number in range(1, FILMS):  # a byte more: other content, the same pictures
        content = film.read_bytes() + bytes(8 * number)
        (folder / f"{number}" / f"film {number}.mp4").write_bytes(content)
    return folder


@pytest.fixture
def here(media, tmp_path, monkeypatch) -> Path:
    """An empty folder, with the media as its `m`."""
    (tmp_path / "m").symlink_to(media)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def undisturbed(media, tmp_path_factory) -> dict:
    """What an index holds that was built in one go."""
    folder = tmp_path_factory.mktemp("undisturbed") / "index"
    run("index", media, "--model", "fake", "--index", folder).ok()
    return contents(folder)


def kill(process: subprocess.Popen[str]) -> bool:
    """SIGKILL its process group; whether it was still running."""
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return running


def wait_until(condition, *, seconds: float = 30) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.01)


def assert_same(one: dict, other: dict) -> None:
    assert one["paths"] == other["paths"]
    assert one["rows"] == other["rows"]
    assert one["scores"] == pytest.approx(other["scores"], abs=1e-4)


def test_ten_kills_lose_nothing_that_was_published(here, undisturbed):
    delays = random.Random(20240229)
    folder = here / "indexes" / "default"
    known: dict[str, int] = {}
    hit, partial = 0, 0
    for _ in range(KILLS):
        process = start_slowly(*INDEX, cwd=here, pause=PAUSE, publish=0.05)
        wait_until(lambda: (folder / "manifest.json").exists() and locked(folder))
        time.sleep(delays.uniform(0.0, 0.7))
        hit += kill(process)
        now = media_ids(folder)
        assert known.items() <= now.items()
        found = run("query", "red", "-t", "100000", "-f").ok()
        assert len(found.lines) == len(now)
        assert len(set(found.lines)) == len(now)
        partial += len(known) < len(now) < PHOTOS + FILMS
        known = now
    assert hit >= KILLS - 2, "most kills should meet a running process"
    assert partial >= 1, "a run should have got some of the work done"
    run(*INDEX).ok()
    final = media_ids(folder)
    assert known.items() <= final.items()
    assert len(final) == PHOTOS + FILMS
    assert_same(contents(folder), undisturbed)
    assert run("index", "m").ok().err.startswith(f"added 0, updated 0, unchanged {len(final)}, ")
    segments = {path.name for path in (folder / "segments").iterdir()}
    assert len(segments) == _segments(folder)


def _segments(folder: Path) -> int:
    with Index.open(folder) as index:
        return index.status().segments


def test_kills_during_changes_and_merges(here, undisturbed):
    """Half of the files change under the index, which is merged while it is killed."""
    (here / "m").unlink()
    folder = here / "indexes" / "default"
    write_photos(here / "m", 200)
    run(*INDEX).ok()
    before = media_ids(folder)
    changed = sorted((here / "m").rglob("*.jpg"))[::2]
    for number, path in enumerate(changed):
        write_photo(path, RED, 1000 + number)
    delays = random.Random(7)
    for _ in range(4):
        process = start_slowly(*INDEX, cwd=here, pause=PAUSE, publish=0.0)
        time.sleep(0.4 + delays.uniform(0.0, 0.5))
        kill(process)
        assert media_ids(folder) == before
        assert len(run("query", "red", "-t", "1000", "-f").ok().lines) == 200
    run(*INDEX).ok()
    assert media_ids(folder) == before
    run("index", "m", "--model", "fake", "--index", "fresh").ok()
    assert_same(contents(folder), contents(here / "indexes" / "fresh"))


def test_kills_while_the_index_is_created(here):
    (here / "m").unlink()
    write_photos(here / "m", 3)
    delays = random.Random(3)
    for _ in range(5):
        process = start_slowly(*INDEX, cwd=here, pause=0, publish=0.05)
        wait_until((here / "indexes" / "default").exists)
        time.sleep(delays.uniform(0.0, 0.25))
        kill(process)
        assert run("query", "red").code in (0, 3)
        if run("query", "red").code == 0:
            shutil.rmtree(here / "indexes")
    run(*INDEX).ok()
    assert len(run("query", "red", "-f").ok().lines) == 3


def test_ctrl_c_keeps_what_was_done(here, undisturbed):
    folder = here / "indexes" / "default"
    process = start_slowly(*INDEX, "-b", "4", cwd=here, pause=PAUSE)
    wait_until(lambda: (here / READ).exists() and (here / READ).stat().st_size >= 60)
    process.send_signal(signal.SIGINT)
    ran = end(process)
    assert (ran.code, ran.out) == (130, "")
    assert "Traceback" not in ran.err
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("interrupted")
    kept = media_ids(folder)
    assert 0 < len(kept) < PHOTOS + FILMS
    assert len(run("query", "red", "-t", "10000", "-f").ok().lines) == len(kept)
    again = run(*INDEX).ok()
    assert f"unchanged {len(kept)}," in again.err
    assert kept.items() <= media_ids(folder).items()
    assert_same(contents(folder), undisturbed)
