"""A folder of good and bad files: the good ones get in with right times, the bad ones one line."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from tests.e2e.support import BLUE, GREEN, RED, Ran, run, spawn, write_film, write_photo
from tests.media_files import VideoPlan, write_sound

SIDE = 30_000
GOOD = {"good.jpg", "good.png", "turned.jpg", "film.mp4", "rotated.mp4", "variable.mp4"}
SOUNDS = {"sound.mp4"}  # a video without pictures, and silent at that
BAD = {
    "cut.jpg": "truncated",
    "empty.jpg": "empty",
    "empty.mp4": "empty",
    "cut.mp4": "",
    "cut early.mp4": "",
    "text.jpg": "not a picture",
    "tiny.jpg": "not a picture",
    "text.mp4": "not a video",
    "huge.png": "900 megapixels",
    "picture.mp4": "not a video",
}


def write_huge_png(path: Path) -> Path:
    """A valid picture of 30,000 x 30,000 pixels of one bit, in about a hundred kilobytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    packer, rows = zlib.compressobj(1), bytes(100 * (1 + SIDE // 8))
    pixels = b"".join(packer.compress(rows) for _ in range(SIDE // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def cut(path: Path, target: Path, share: float) -> None:
    content = path.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six good files and eleven bad ones, and one that macOS left."""
    folder = tmp_path_factory.mktemp("odd") / "m"
    write_photo(folder / "good.jpg", GREEN, 1)
    write_photo(folder / "good.png", BLUE, 2)
    write_photo(folder / "turned.jpg", BLUE, 3)
    seconds = [(RED, list(range(0, 2000, 40))), (BLUE, list(range(2000, 6000, 40)))]
    write_film(folder / "film.mp4", seconds)
    write_film(folder / "rotated.mp4", seconds, VideoPlan(rotation=90))
    # 50 frames in the first two seconds, then one a second: frame / rate would be far off.
    slow = [(GREEN, list(range(0, 2000, 40))), (RED, list(range(2000, 8000, 1000)))]
    write_film(folder / "variable.mp4", [*slow, (BLUE, [8000, 9000, 9960])])
    big = write_photo(folder / "big.jpg", RED, 4, (400, 400))
    cut(big, folder / "cut.jpg", 0.5)
    big.unlink()
    faststart = VideoPlan(container_options={"movflags": "+faststart"})
    whole = write_film(folder / "whole.mp4", [(RED, list(range(0, 20_000, 40)))], faststart)
    cut(whole, folder / "cut.mp4", 0.7)
    whole.unlink()
    cut(folder / "film.mp4", folder / "cut early.mp4", 0.6)
    for name in ("empty.jpg", "empty.mp4"):
        (folder / name).touch()
    for name in ("text.jpg", "text.mp4"):
        (folder / name).write_text("These are words, and many of them. " * 20)
    (folder / "tiny.jpg").write_text("x\n")
    (folder / "picture.mp4").write_bytes((folder / "good.png").read_bytes())
    write_huge_png(folder / "huge.png")
    write_sound(folder / "sound.mp4")
    (folder / "._good.jpg").write_bytes(bytes(4096))
    (folder / "notes.txt").write_text("no media")
    return folder


@pytest.fixture(scope="module")
def ran(folder) -> Ran:
    """The index of the folder, made by a process of its own."""
    return spawn("index", folder.name, "--model", "fake", cwd=folder.parent)


@pytest.fixture
def here(ran, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    return folder


def test_it_ends_well_and_says_one_line_a_bad_file(ran, folder):
    assert (ran.code, ran.out) == (0, "")
    lines = ran.err.splitlines()
    assert len(lines) == len(BAD) + 1
    reasons = {}
    for line in lines[:-1]:
        path, reason = line.removeprefix(f"skipping {folder}/").split(": ", 1)
        assert line.startswith(f"skipping {folder}/")
        assert str(folder) not in reason
        reasons[path] = reason
    assert reasons.keys() == BAD.keys()
    assert {name: BAD[name] for name in BAD if BAD[name] not in reasons[name]} == {}
    assert lines[-1].startswith(f"added {len(GOOD | SOUNDS)}, ")
    assert f"skipped {len(BAD)}" in lines[-1]


def test_the_good_ones_are_there(here):
    assert {Path(path).name for path in run("query", "red", "-t", "100", "-f").lines} == GOOD
    listed = {Path(r["path"]).name: r for r in run("list", "--json").ok().records}
    assert {name for name, record in listed.items() if record["state"] == "ready"} == GOOD | SOUNDS
    assert {name for name, record in listed.items() if record["state"] == "failed"} == BAD.keys()
    assert {Path(p).name for p in run("list", "--failed", "-f").lines} == BAD.keys()
    sizes = {name: (listed[name]["width"], listed[name]["height"]) for name in GOOD}
    assert sizes["film.mp4"] == (128, 64)
    assert sizes["rotated.mp4"] == (64, 128)
    assert listed["film.mp4"]["duration"] == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize(
    ("name", "colour", "start", "end"),
    [
        ("film.mp4", "red", 0, 2),
        ("film.mp4", "blue", 2, 6),
        ("rotated.mp4", "red", 0, 2),
        ("rotated.mp4", "blue", 2, 6),
        ("variable.mp4", "green", 0, 2),
        ("variable.mp4", "red", 2, 8),
        ("variable.mp4", "blue", 8, 10),
    ],
)
def test_times_are_presentation_seconds(here, name, colour, start, end):
    hits = run("query", colour, "--min-cosine", "0.6", "--kind", "frame", "--json").ok().records
    (hit,) = [hit for hit in hits if Path(hit["path"]).name == name]
    assert hit["start"] == pytest.approx(start, abs=0.05)
    assert hit["end"] == pytest.approx(end, abs=0.1)
    assert hit["start"] <= hit["moment"] < hit["end"]


def test_strict_says_that_files_were_skipped(here, ran):
    strict = run("index", "m", "--strict")
    assert strict.code == 4
    assert sorted(strict.skipped) == sorted(ran.skipped)
    again = run("index", "m", "--strict", "--retry-failed")
    assert again.code == 4
    assert sorted(again.skipped) == sorted(ran.skipped)


def test_only_good_files_are_no_reason_to_be_strict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "m" / "good.jpg", GREEN)
    (tmp_path / "m" / "._good.jpg").write_bytes(b"")
    assert run("index", "m", "--model", "fake", "--strict").code == 0


def test_libraries_do_not_talk_on_stderr(tmp_path):
    """Broken EXIF data make Pillow warn: the picture is good, and nobody asked."""
    photo = write_photo(tmp_path / "m" / "good.jpg", GREEN)
    content = photo.read_bytes()
    broken = b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12\0\x03\0\0\0\x01\0\x01"
    segment = b"\xff\xe1" + struct.pack(">H", len(broken) + 2) + broken
    photo.write_bytes(content[:2] + segment + content[2:])
    ran = spawn("index", "m", "--model", "fake", cwd=tmp_path).ok()
    assert len(ran.err.splitlines()) == 1, ran.err
    assert ran.err.startswith("added 1, ")
