import hashlib
import os
import subprocess
from pathlib import Path

import av
import pytest

from clipsearch.errors import MediaError, UsageError
from clipsearch.media import kinds
from clipsearch.media.audio import SOUND_FORMATS
from clipsearch.media.discover import WalkSpec, content_hash, discover

KNOWN_FORMATS = {part for name in av.formats_available for part in name.split(",")}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


class Walk:
    """One walk: what it found and what it could not look at."""

    def __init__(self, root: Path, under: tuple[str, ...] = ("",), **spec: object) -> None:
        self.unreadable: list[tuple[str, str]] = []
        found = discover(
            root,
            under=under,
            spec=WalkSpec(**spec),  # type: ignore[arg-type]
            on_unreadable=lambda *report: self.unreadable.append(report),
        )
        self.files = list(found)
        self.names = [file.relative for file in self.files]


def test_files_come_in_order_with_their_facts(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a/z.mp4", "a/c.png", "a.txt", "c/notes.md", "a/b/d.WebM", "noext")
    walk = Walk(tmp_path)
    assert walk.names == ["a/b/d.WebM", "a/c.png", "a/z.mp4", "b.JPG"]
    assert [file.kind for file in walk.files] == ["video", "image", "video", "image"]
    assert walk.files[3].path == tmp_path / "b.JPG"
    assert walk.files[3].size_bytes == 1
    assert walk.files[3].modified_ns == (tmp_path / "b.JPG").stat().st_mtime_ns
    assert walk.unreadable == []


def test_what_is_left_out(tmp_path: Path) -> None:
    folders = [".git", "node_modules", "@eaDir", "System Volume Information"]
    left_out = [f"{folder}/a.jpg" for folder in folders]
    hidden = [".hidden.jpg", ".cache/a.jpg"]
    touch(tmp_path, "a.jpg", "._a.jpg", "out/b.jpg", *left_out, *hidden)
    assert Walk(tmp_path).names == ["a.jpg", "out/b.jpg"]
    assert Walk(tmp_path, exclude_dirs=frozenset({"out"})).names == ["a.jpg"]
    assert Walk(tmp_path, include_hidden=True).names == [
        ".cache/a.jpg",
        ".hidden.jpg",
        "a.jpg",
        "out/b.jpg",
    ]


def test_under_narrows_and_wins_over_hiding(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/c.jpg", "a/d.jpg", "a/.e/f.jpg", "g.jpg", "ab/h.jpg")
    assert Walk(tmp_path, ("a",)).names == ["a/b/c.jpg", "a/d.jpg"]
    assert Walk(tmp_path, ("g.jpg",)).names == ["g.jpg"]
    assert Walk(tmp_path, ("a", "a/b", "a/b/c.jpg", "./ab/")).names == [
        "a/b/c.jpg",
        "a/d.jpg",
        "ab/h.jpg",
    ]
    assert Walk(tmp_path, ("a/.e",)).names == ["a/.e/f.jpg"]
    assert sorted(Walk(tmp_path, ("a", "a/.e")).names) == ["a/.e/f.jpg", "a/b/c.jpg", "a/d.jpg"]
    gone = Walk(tmp_path, ("gone", "gone.jpg"))
    assert (gone.names, gone.unreadable) == ([], [])
    for outside in ("../x", "/etc", "a/../../x"):
        with pytest.raises(UsageError):
            Walk(tmp_path, (outside,))


def test_a_missing_root_is_unreadable_not_empty(tmp_path: Path) -> None:
    walk = Walk(tmp_path / "unmounted")
    assert (walk.names, [where for where, _ in walk.unreadable]) == ([], [""])


def test_unreadable_folders_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/x.jpg", "b/y.jpg", "c/z.jpg")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("clipsearch.media.discover.os.scandir", refuse)
    walk = Walk(tmp_path)
    assert walk.names == ["a/x.jpg", "c/z.jpg"]
    assert walk.unreadable == [("b", "permission denied")]


def test_running_out_of_file_handles_stops_the_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> object:
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr("clipsearch.media.discover.os.scandir", refuse)
    with pytest.raises(OSError, match="Too many"):
        Walk(tmp_path)


def test_links(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg", "away/b.jpg")
    (tmp_path / "real" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "real" / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "real" / "linked.jpg").symlink_to("../away/b.jpg")
    (tmp_path / "real" / "broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "real" / "folder.jpg").symlink_to("../away", target_is_directory=True)
    walk = Walk(tmp_path, ("real",))
    assert walk.names == ["real/a.jpg", "real/linked.jpg"]
    assert [where for where, _ in walk.unreadable] == ["real/broken.jpg", "real/self.jpg"]
    assert Walk(tmp_path, ("real/folder.jpg",)).names == ["real/folder.jpg/b.jpg"]


def test_other_kinds_are_found_when_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.mp4", "a.mp3", "a.SRT", "b/c.FLAC", "b/c.vtt", "b/c.txt")
    assert Walk(tmp_path).names == ["a.jpg", "a.mp4"]
    assert Walk(tmp_path, ("a.mp3", "b", "a.SRT")).names == []
    sound = Walk(tmp_path, kinds=frozenset({"audio"}))
    assert sound.names == ["a.mp3", "b/c.FLAC"]
    assert {file.kind for file in sound.files} == {"audio"}
    every = frozenset(kinds.SUFFIXES)
    assert Walk(tmp_path, ("b", "a.SRT"), kinds=every).names == ["a.SRT", "b/c.FLAC", "b/c.vtt"]


def test_a_device_tree_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "film.dts").write_bytes(b"\x7f\xfe\x80\x01" + bytes(300))
    (tmp_path / "board.dts").write_text('/dts-v1/;\n/ { compatible = "acme,board"; };\n')
    assert Walk(tmp_path, kinds=frozenset({"audio"})).names == ["film.dts"]


def test_no_suffix_has_two_kinds_and_ffmpeg_opens_those_of_sound() -> None:
    every = [suffix for suffixes in kinds.SUFFIXES.values() for suffix in suffixes]
    assert len(every) == len(set(every))
    missing = [name for name in SOUND_FORMATS.split(",") if name not in KNOWN_FORMATS]
    assert missing == []


def test_pipes_and_folders_named_like_media(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    touch(tmp_path, "folder.jpg/a.jpg")
    assert Walk(tmp_path).names == ["folder.jpg/a.jpg"]


def test_names_of_any_bytes(tmp_path: Path) -> None:
    names = [b"-rf.jpg", b"a\nb.jpg", b"caf\xe9.jpg", b"\xff\xfe.mp4", b" \t.png"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")
    walk = Walk(tmp_path)
    assert sorted(os.fsencode(name) for name in walk.names) == sorted(names)
    assert all(content_hash(file.path).startswith("sha256:") for file in walk.files)


def test_folders_nest_deeper_than_python_recurses(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    depth = 1500
    try:
        for _ in range(depth):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    finally:
        os.close(here)
    names = Walk(tmp_path).names
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # pytest's own clean-up recurses
    assert names == ["d/" * depth + "a.jpg"]


def test_typescript_is_no_transport_stream(tmp_path: Path) -> None:
    packet = b"\x47" + bytes(187)
    (tmp_path / "video.ts").write_bytes(packet * 3)
    (tmp_path / "camera.mts").write_bytes((bytes(4) + packet) * 3)
    (tmp_path / "code.ts").write_text("Goto: export const answer: number = 42;\n" * 20)
    (tmp_path / "code.mts").write_text("export {};\n")
    (tmp_path / "empty.ts").touch()
    assert Walk(tmp_path).names == ["camera.mts", "video.ts"]


def test_optional_kinds_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (True, False):
        monkeypatch.setattr(kinds, "_installed", lambda library, there=there: there)
        assert kinds.kind_of("a.HEIC") == ("image" if there else None)
        assert kinds.kind_of("a.nef") == ("image" if there else None)
    assert kinds.kind_of("a.tar.JPEG") == "image"
    assert kinds.kind_of(".mp4") is None


def test_content_hash(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "a.jpg").write_bytes(data)
    assert content_hash(tmp_path / "a.jpg") == f"sha256:{hashlib.sha256(data).hexdigest()}"
    for missing in (tmp_path, tmp_path / "gone"):
        with pytest.raises(MediaError) as caught:
            content_hash(missing)
        assert str(tmp_path) not in str(caught.value)
