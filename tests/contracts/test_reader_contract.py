"""What every reader promises, whatever the media: run over the whole registry."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch.errors import MediaError, UsageError
from clipsearch.media import READERS, SUFFIXES, ReadSpec, SamplingSpec, open_media
from clipsearch.types import MEDIA_KINDS, FoundFile, MediaKind
from tests.media_files import VideoPlan, numbered, write_video

SPEC = ReadSpec(32)


def a_picture(path: Path) -> Path:
    Image.fromarray(numbered(5)).save(path, "PNG")
    return path


def a_jpeg(path: Path) -> Path:
    Image.fromarray(numbered(5)).resize((640, 320)).save(path, "JPEG")
    return path


def a_tiff(path: Path) -> Path:
    Image.fromarray(numbered(5)).save(path, "TIFF", compression="tiff_lzw")
    return path


def an_mp4(path: Path) -> Path:
    return write_video(path, VideoPlan(60))


def a_webm(path: Path) -> Path:
    return write_video(path, VideoPlan(60, "libvpx", options={"deadline": "realtime"}))


SAMPLES: dict[MediaKind, dict[str, Callable[[Path], Path]]] = {
    "image": {"a.png": a_picture, "a.jpg": a_jpeg, "a.tif": a_tiff},
    "video": {"a.mp4": an_mp4, "a.webm": a_webm},
}
EVERY = [(kind, name) for kind, files in SAMPLES.items() for name in files]
every_reader = pytest.mark.parametrize("kind", READERS)
every_sample = pytest.mark.parametrize(("kind", "name"), EVERY)


def read(path: Path, kind: MediaKind) -> int:
    return sum(1 for _ in READERS[kind](path, SPEC).units)


def refusal(path: Path, kind: MediaKind) -> str:
    with pytest.raises(MediaError) as caught:
        read(path, kind)
    reason = str(caught.value)
    assert reason
    assert "\n" not in reason
    assert len(reason) <= 160
    assert str(path.parent) not in reason
    return reason


def test_the_registry_is_complete() -> None:
    assert set(READERS) == set(SAMPLES) == {"image", "video"}
    assert set(SUFFIXES) == set(MEDIA_KINDS)
    assert sum(map(len, SUFFIXES.values())) == len(frozenset().union(*SUFFIXES.values()))


@every_sample
def test_units_are_ordered_and_pixels_are_rgb(tmp_path: Path, kind: MediaKind, name: str) -> None:
    stream = READERS[kind](SAMPLES[kind][name](tmp_path / name), SPEC)
    assert stream.info.width > 0
    assert stream.info.height > 0
    assert (stream.info.duration_seconds is None) == (kind == "image")
    end = 0.0
    units = list(stream.units)
    assert units
    for unit, pixels in units:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert min(pixels.shape[:2]) >= SPEC.short_side
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable  # torch.from_numpy warns otherwise
        if unit.start_seconds is not None and unit.end_seconds is not None:
            assert end <= unit.start_seconds < unit.end_seconds
            end = unit.end_seconds


@every_sample
def test_reading_twice_gives_the_same(tmp_path: Path, kind: MediaKind, name: str) -> None:
    path = SAMPLES[kind][name](tmp_path / name)
    one, other = (list(READERS[kind](path, SPEC).units) for _ in range(2))
    assert [unit for unit, _ in one] == [unit for unit, _ in other]
    for (_, pixels), (_, again) in zip(one, other, strict=True):
        assert np.array_equal(pixels, again)


@every_sample
def test_files_are_closed(tmp_path: Path, kind: MediaKind, name: str) -> None:
    path = SAMPLES[kind][name](tmp_path / name)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        read(path, kind)
        stream = READERS[kind](path, SPEC)  # never iterated
        next(READERS[kind](path, SPEC).units)  # left half way
        del stream
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@every_reader
@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"hello, world\n" * 99, bytes(5000), random.Random(3).randbytes(5000)],
    ids=["empty", "nul", "text", "zeros", "noise"],
)
def test_what_is_no_media_is_refused(tmp_path: Path, kind: MediaKind, data: bytes) -> None:
    for name in SAMPLES[kind]:
        (tmp_path / name).write_bytes(data)
        refusal(tmp_path / name, kind)


@every_reader
def test_what_is_no_file_is_refused(tmp_path: Path, kind: MediaKind) -> None:
    assert refusal(tmp_path, kind) == "is a directory"
    assert refusal(tmp_path / "gone.mp4", kind) == "no such file or directory"
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refusal(tmp_path / "pipe.mp4", kind) == "is not a regular file"
    refusal(tmp_path / "a\0b.mp4", kind)


@every_reader
def test_a_file_that_may_not_be_read(
    tmp_path: Path, kind: MediaKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setattr("clipsearch.media.files.os.access", lambda *_: False)
    assert refusal(tmp_path / "a.mp4", kind) == "permission denied"


@every_reader
def test_the_other_kinds_files_do_not_crash_it(tmp_path: Path, kind: MediaKind) -> None:
    for other, files in SAMPLES.items():
        for name, make in files.items():
            if other != kind:
                refusal(make(tmp_path / name), kind)


@every_sample
def test_damage_is_an_error_or_is_survived(tmp_path: Path, kind: MediaKind, name: str) -> None:
    """Cut and scrambled files: a MediaError or units, never another exception, never a hang."""
    whole = SAMPLES[kind][name](tmp_path / name).read_bytes()
    dice = random.Random(name)
    broken = [whole[: len(whole) * part // 12] for part in range(12)]
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(dice.choice([1, 3, 30])):
            data[int(len(data) * dice.random() ** 2)] = dice.randrange(256)
        broken.append(bytes(data))
    refused = 0
    for data in broken:
        (tmp_path / name).write_bytes(data)
        try:
            assert read(tmp_path / name, kind) >= 1
        except MediaError:
            refused += 1
    assert refused >= 2


def test_video_units_are_decoded_as_asked_for(tmp_path: Path) -> None:
    """A damaged end shows only when it is reached."""
    path = tmp_path / "a.mp4"
    plan = VideoPlan(250, container_options={"movflags": "faststart"})
    data = write_video(path, plan).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    stream = open_media(path, ReadSpec(32, sampling=SamplingSpec(keep_all_frames=True)))
    for _ in range(4):
        next(stream.units)
    with pytest.raises(MediaError, match="damaged"):
        list(stream.units)


def test_open_media_takes_found_files_and_paths(tmp_path: Path) -> None:
    path = a_picture(tmp_path / "a.png")
    found = FoundFile(tmp_path, "a.png", "image", 1, 1)
    odd = a_picture(tmp_path / "picture")
    for stream in (
        open_media(found, SPEC),
        open_media(path, SPEC),
        open_media(odd, SPEC, kind="image"),
    ):
        assert sum(1 for _ in stream.units) == 1
    with pytest.raises(UsageError):
        open_media(odd, SPEC)
