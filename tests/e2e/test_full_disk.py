"""Disks that are full or read-only: one line, and what the index has stays and can be searched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.support import contents, media_ids, run, start_slowly, write_photos

FEW, MANY = 20, 300


@pytest.fixture
def folder(small_disk, tmp_path, monkeypatch):
    """An index of a few photos on the small disk."""
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "m", FEW)
    run("index", "m", "--model", "fake", "--index", small_disk / "index").ok()
    return small_disk / "index"


def fill(disk: Path, *, left: int) -> None:
    """Write a file that leaves so many bytes free."""
    status = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        file.write(bytes(max(0, status.f_bavail * status.f_frsize - left)))


@pytest.mark.parametrize("left", [0, 40, 160])
def test_it_is_one_line_and_the_index_goes_on(tmp_path, folder, left):
    before, expected = media_ids(folder), contents(folder)
    write_photos(tmp_path / "m", MANY)
    fill(folder.parent, left=left * 1024)
    ran = run("index", "m", "--index", folder)
    assert (ran.code, ran.out) == (1, ""), ran
    (line,) = ran.err.splitlines()
    assert line.startswith("error: No space left on device")
    assert "free some space" in line
    (folder.parent / "filler").unlink()
    assert before.items() <= media_ids(folder).items()
    assert expected["scores"].keys() <= contents(folder)["scores"].keys()
    run("index", "m", "--index", folder).ok()
    after = media_ids(folder)
    assert len(after) == MANY
    assert before.items() <= after.items()
    assert run("query", "red", "-t", "1000", "-0", "--index", folder).out.count("\0") == MANY


@pytest.mark.parametrize("left", [0, 100])
def test_it_can_be_searched_while_the_disk_is_full(folder, left):
    expected = run("query", "red", "--json", "--index", folder).ok().out
    fill(folder.parent, left=left * 1024)
    assert run("query", "red", "--json", "--index", folder).ok().out == expected
    assert len(run("list", "-f", "--index", folder).ok().lines) == FEW


def test_a_new_index_on_a_full_disk(small_disk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "m", 3)
    fill(small_disk, left=20 * 1024)
    arguments = ("index", "m", "--model", "fake", "--index", small_disk / "index")
    ran = run(*arguments)
    assert ran.code == 1, ran
    assert len(ran.err.splitlines()) == 1
    (small_disk / "filler").unlink()
    run(*arguments).ok()
    assert len(media_ids(small_disk / "index")) == 3


def test_a_read_only_disk_can_be_searched(folder):
    expected = run("query", "red", "--index", folder).ok().out
    subprocess.run(["mount", "-o", "remount,ro", str(folder.parent)], check=True)
    assert run("query", "red", "--index", folder).ok().out == expected
    ran = run("index", "m", "--index", folder)
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)


def test_a_disk_that_became_read_only_after_a_kill(tmp_path, folder):
    """What was published last is in SQLite's log beside the database."""
    write_photos(tmp_path / "m", 100)
    arguments = ("index", "m", "-b", "1", "--index", folder)
    process = start_slowly(*arguments, cwd=tmp_path, pause=0.05, publish=0.2)
    deadline = time.monotonic() + 20
    while len(list((folder / "segments").iterdir())) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    shutil.copytree(folder, tmp_path / "copy")
    expected = run("list", "-f", "--index", tmp_path / "copy").ok().lines
    assert FEW < len(expected) < 100
    subprocess.run(["mount", "-o", "remount,ro", str(folder.parent)], check=True)
    assert len(run("list", "-f", "--index", folder).ok().lines) == len(expected)
    assert len(run("query", "red", "-t", "1000", "-f", "--index", folder).ok().lines) == len(
        expected
    )
