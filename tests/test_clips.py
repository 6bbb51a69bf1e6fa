import contextlib
import errno
import math
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clipsearch.errors import MediaError, UsageError
from clipsearch.media import ReadSpec, SamplingSpec, clip_copy, clip_source, open_media
from clipsearch.media.clips import CLIP_SUFFIXES, Clip, cut
from tests.e2e.conftest import small_disk  # noqa: F401 - a fixture
from tests.media_files import (
    HEIGHT,
    WIDTH,
    VideoPlan,
    demo_video,
    number_of,
    numbered,
    write_sound,
    write_video,
)

EVERY_FRAME = ReadSpec(64, sampling=SamplingSpec(fps=1000, keep_all_frames=True))
RATE = 48_000
CLICK = 1.0  # seconds until the sound begins
BOTH = pytest.mark.parametrize("reencode", [False, True], ids=["copy", "encode"])


def shown(path: Path) -> list[tuple[int, float]]:
    """Each frame's number and the seconds at which it comes on display, by our own reader."""
    units = open_media(path, EVERY_FRAME, kind="video").units
    return [(number_of(pixels), unit.start_seconds or 0.0) for unit, pixels in units]


def numbers(path: Path) -> list[int]:
    return [number for number, _ in shown(path)]


def expected(plan: VideoPlan, clip: Clip) -> list[tuple[int, float]]:
    """What [clip.start, clip.end) of a planned video shows, in seconds from the clip's start."""
    times = [(time - plan.times_ms[0]) / 1000 for time in plan.times_ms]
    ends = [*times[1:], math.inf]
    return [
        (number, max(0.0, time - clip.start))
        for number, (time, end) in enumerate(zip(times, ends, strict=True))
        if end > clip.start + 1e-4 and time < clip.end - 1e-4
    ]


def assert_same(found: list[tuple[int, float]], wanted: list[tuple[int, float]]) -> None:
    assert [number for number, _ in found] == [number for number, _ in wanted]
    for (_, time), (_, wanted_time) in zip(found, wanted, strict=True):
        assert time == pytest.approx(wanted_time, abs=0.0011)  # Matroska counts milliseconds


def write_with_sound(path: Path, codec: str, offset: float = 0.0) -> Path:
    """Two seconds whose sound begins at CLICK, when the pictures turn from dark to light."""
    with av.open(str(path), "w") as output:
        video = output.add_stream(
            "libvpx-vp9" if path.suffix == ".webm" else "libx264", rate=25, options={"bf": "2"}
        )
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.gop_size = 10
        sound = output.add_stream(codec, rate=RATE, layout="mono")
        tone = np.sin(np.arange(2 * RATE, dtype=np.float32) * 0.3) * 0.5
        tone[: int(CLICK * RATE)] = 0
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(numbered(number), "rgb24")
            frame.pts = number + round(offset * 25)
            output.mux(video.encode(frame))
            part = tone[number * RATE // 25 : (number + 1) * RATE // 25]
            samples = av.AudioFrame.from_ndarray(part[None], "fltp", "mono")
            samples.sample_rate, samples.time_base = RATE, Fraction(1, RATE)
            samples.pts = number * RATE // 25 + round(offset * RATE)
            output.mux(sound.encode(samples))
        output.mux(video.encode())
        output.mux(sound.encode())
    return path


def sound_begins(path: Path) -> tuple[float, float]:
    """When sound is first heard and when it ends, in seconds from where players start the file."""
    first, last = math.nan, 0.0
    with av.open(str(path)) as container:
        origin = (container.start_time or 0) / 1e6
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray().astype(float)).max(axis=0) > 0.1)
            begin = float(frame.pts * frame.time_base) - origin
            if loud.size and math.isnan(first):
                first = begin + loud[0] / frame.sample_rate
            last = begin + frame.samples / frame.sample_rate
    return first, last


# --- which frames, when -------------------------------------------------------------------------

CONTAINERS = [
    ("b.mp4", "libx264", {"bf": "3"}),
    ("m.mkv", "libx264", {"bf": "3", "b-pyramid": "normal"}),
    ("t.ts", "libx264", {"bf": "2"}),
    ("o.ts", "libx264", {"bf": "3", "x264-params": "open-gop=1:scenecut=0"}),
    ("v.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ("q.mov", "mpeg4", {"bf": "2"}),
    ("h.mp4", "libx265", {"x265-params": "log-level=none", "preset": "ultrafast"}),
]


@BOTH
@pytest.mark.parametrize(("name", "codec", "options"), CONTAINERS)
def test_frames_and_times_of_every_container(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], reencode: bool
) -> None:
    plan = VideoPlan(codec=codec, options=options)
    path = write_video(tmp_path / name, plan)
    before = path.read_bytes()
    for start, end in ((0.7, 1.3), (0.0, 0.04), (1.5, 7.0)):
        target = tmp_path / f"{start}{path.suffix}"
        clip = cut(path, start, end, target, reencode=reencode)
        assert clip.path == target
        assert clip.notes == ()
        assert_same(shown(target), expected(plan, clip))
        if reencode:
            assert (clip.start, clip.end) == (start, min(end, 2.0))
        else:
            assert start - 12 * 0.04 - 0.001 <= clip.start <= start + 0.001
            assert min(end, 2.0) <= clip.end <= min(2.001, end + 0.2)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("source", "target"), [("s.ts", "t.mp4"), ("s.mp4", "t.ts"), ("s.avi", "t.mkv")]
)
def test_copies_go_from_container_to_container(tmp_path: Path, source: str, target: str) -> None:
    plan = VideoPlan(codec="mpeg4" if source.endswith("avi") else "libx264")
    clip = cut(write_video(tmp_path / source, plan), 0.7, 1.3, tmp_path / target)
    assert_same(shown(clip.path), expected(plan, clip))


@BOTH
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_times_count_from_where_players_start(tmp_path: Path, suffix: str, reencode: bool) -> None:
    plan = VideoPlan(offset_ms=5000, options={"bf": "2"})
    path = write_video(tmp_path / f"v{suffix}", plan)
    first = shown(path)[0][1]  # an edit list makes MP4 begin five seconds before its first frame
    clip = cut(path, first + 0.7, first + 1.3, tmp_path / f"c{suffix}", reencode=reencode)
    moved = Clip(clip.path, clip.start - first, clip.end - first)
    assert_same(shown(clip.path), expected(plan, moved))
    assert clip.start == pytest.approx(first + 0.7, abs=1e-6 if reencode else 0.48)


@BOTH
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate_is_kept(tmp_path: Path, suffix: str, reencode: bool) -> None:
    times = (0, 10, 20, 30, 900, 1000, 1001, 1990, 2500, 7000, 7010, 7700, 8600)
    plan = VideoPlan(len(times), times=times, gop=4, options={"bf": "2", "sc_threshold": "0"})
    path = write_video(tmp_path / f"v{suffix}", plan)
    clip = cut(path, 0.95, 5.0, tmp_path / f"c{suffix}", reencode=reencode)
    assert_same(shown(clip.path), expected(plan, clip))
    assert (clip.start, clip.end) == ((0.95, 5.0) if reencode else (0.9, 7.0))
    if reencode:  # the last frame stays as long as it should
        assert open_media(clip.path, EVERY_FRAME).info.duration_seconds == pytest.approx(4.05)


def test_times_of_frames_are_not_missed_for_a_rounding(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "v.ts", VideoPlan(60, times=tuple(i * 1000 // 30 for i in range(60)))
    )
    for number, time in shown(path)[20:30]:
        clip = cut(path, time, time + 0.03, tmp_path / f"{number}.mp4", reencode=True)
        assert numbers(clip.path) == [number]


@pytest.mark.parametrize("name", ["h.avi", "r.h264"])
def test_files_without_presentation_times_are_encoded_only(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, VideoPlan(options={"bf": "2"}))
    with pytest.raises(MediaError, match="--reencode"):
        cut(path, 0.7, 1.3, tmp_path / "c.mkv")
    clip = cut(path, 0.7, 1.3, tmp_path / "c.mkv", reencode=True)
    on_display = [number for number, time in shown(path) if 0.66 + 1e-6 < time < 1.3]
    assert numbers(clip.path) == on_display


def test_only_what_is_needed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.mp4", VideoPlan(250, gop=10))
    read = 0
    original = clip_source.packets

    def counting(*args):  # type: ignore[no-untyped-def]
        nonlocal read
        for packet in original(*args):
            read += 1
            yield packet

    monkeypatch.setattr(clip_source, "packets", counting)
    cut(path, 8.0, 8.4, tmp_path / "c.mp4")
    assert 10 <= read <= 50


# --- how pictures look --------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_turned_pictures_stay_upright(
    tmp_path: Path, rotation: int, suffix: str, reencode: bool
) -> None:
    path = write_video(tmp_path / "v.mp4", VideoPlan(5, rotation=rotation))
    target = tmp_path / f"c{suffix}"
    if suffix == ".ts" and not reencode:
        with pytest.raises(MediaError, match=r"turn of this video.*--reencode or the suffix \.mkv"):
            cut(path, 0, 1, target)
        return
    cut(path, 0, 1, target, reencode=reencode)
    _, wanted = next(open_media(path, EVERY_FRAME).units)
    _, found = next(open_media(target, EVERY_FRAME).units)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted.astype(int)).mean() < 6


def test_odd_sides_become_even(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.webm"), "w") as output:
        stream = output.add_stream("libvpx-vp9", rate=25, options={"cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = 127, 63, "yuv420p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(5)[:63, :127], "rgb24")))
        output.mux(stream.encode())
    cut(tmp_path / "v.webm", 0, 1, tmp_path / "c.mp4", reencode=True)
    info = open_media(tmp_path / "c.mp4", EVERY_FRAME).info
    assert (info.width, info.height) == (126, 62)


@BOTH
def test_samples_that_are_not_square(tmp_path: Path, reencode: bool) -> None:
    source = demo_video("carphone_pristine")
    cut(source, 1, 1.2, tmp_path / "c.mkv", reencode=reencode)
    info = open_media(tmp_path / "c.mkv", EVERY_FRAME).info
    assert (info.width, info.height) == (193, 144)


# --- sound --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("name", "codec", "offset"),
    [("v.mp4", "aac", 0), ("v.mkv", "libopus", 3), ("v.ts", "aac", 2), ("v.webm", "libopus", 0)],
)
def test_sound_stays_in_sync(
    tmp_path: Path, name: str, codec: str, offset: float, reencode: bool
) -> None:
    path = write_with_sound(tmp_path / name, codec, offset)
    heard, _ = sound_begins(path)
    clip = cut(path, 0.7, 1.5, tmp_path / f"c{path.suffix}", reencode=reencode)
    begins, ends = sound_begins(clip.path)
    zero = shown(clip.path)[0][1]  # the first frame, where sound begins before it
    assert begins - zero == pytest.approx(heard - clip.start, abs=0.025)
    assert ends - zero == pytest.approx(1.5 - clip.start, abs=0.05)
    assert abs(zero) < 0.03


def test_sound_in_another_codec_for_another_container(tmp_path: Path) -> None:
    path = write_with_sound(tmp_path / "v.ts", "aac")
    heard, _ = sound_begins(path)
    for name, reencode in (("c.mp4", False), ("c.webm", True)):
        clip = cut(path, 0.7, 1.5, tmp_path / name, reencode=reencode)
        assert sound_begins(clip.path)[0] == pytest.approx(heard - clip.start, abs=0.025)


def test_sound_that_the_container_cannot_hold_is_left_out_and_told(tmp_path: Path) -> None:
    path = write_with_sound(tmp_path / "v.mkv", "pcm_s16le")
    clip = cut(path, 0.7, 1.5, tmp_path / "c.ts")
    assert clip.notes == ("pcm_s16le sound left out: .ts cannot hold it",)
    assert numbers(clip.path)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end"), [(1, 1), (2, 1), (-0.1, 1), (math.nan, 1), (0, math.nan), (0, math.inf)]
)
def test_intervals_that_are_none(tmp_path: Path, start: float, end: float) -> None:
    with pytest.raises(UsageError, match="need 0 <= start < end"):
        cut(write_video(tmp_path / "v.mp4", VideoPlan(2)), start, end, tmp_path / "c.mp4")


@BOTH
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_nothing_inside(tmp_path: Path, suffix: str, reencode: bool) -> None:
    path = write_video(tmp_path / f"v{suffix}", VideoPlan(options={"bf": "2"}))
    with pytest.raises(MediaError, match="shows nothing between 5 and 6 seconds"):
        cut(path, 5, 6, tmp_path / f"c{suffix}", reencode=reencode)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@BOTH
def test_files_that_are_no_videos(tmp_path: Path, reencode: bool) -> None:
    write_sound(tmp_path / "sound.mp4")
    write_video(tmp_path / "secret.ts", VideoPlan(2))
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:2,\nsecret.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    for name in ("sound.mp4", "list.mp4", "noise.mp4", "none.mp4"):
        with pytest.raises(MediaError):
            cut(tmp_path / name, 0, 1, tmp_path / "c.mp4", reencode=reencode)
    assert not (tmp_path / "c.mp4").exists()


@BOTH
def test_a_damaged_video_is_cut_as_far_as_it_goes(tmp_path: Path, reencode: bool) -> None:
    plan = VideoPlan(100, container_options={"movflags": "faststart"})
    data = write_video(tmp_path / "v.mp4", plan).read_bytes()
    (tmp_path / "v.mp4").write_bytes(data[: len(data) * 6 // 10])
    clip = cut(tmp_path / "v.mp4", 1, 4, tmp_path / "c.mp4", reencode=reencode)
    assert 1.5 < clip.end < 3.5
    with contextlib.suppress(MediaError):
        cut(tmp_path / "v.mp4", 3.5, 4, tmp_path / "d.mp4", reencode=reencode)


def test_targets(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", VideoPlan(5))
    before = path.read_bytes()
    for name in ("c.gif", "c", "c.mp3"):
        with pytest.raises(UsageError, match=r"one of \.mp4, .*\.mkv"):
            cut(path, 0, 1, tmp_path / name)
    (tmp_path / "link.mp4").symlink_to(path)
    os.link(path, tmp_path / "hard.mp4")
    for name in ("v.mp4", "link.mp4", "hard.mp4"):
        with pytest.raises(UsageError, match="is the video itself"):
            cut(path, 0, 1, tmp_path / name, overwrite=True)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UsageError, match="not an ordinary file"):
        cut(path, 0, 1, tmp_path / "folder.mp4", overwrite=True)
    with pytest.raises(UsageError, match="no such folder"):
        cut(path, 0, 1, tmp_path / "none" / "c.mp4")
    (tmp_path / "c.mp4").write_text("old")
    with pytest.raises(UsageError, match="exists"):
        cut(path, 0, 1, tmp_path / "c.mp4")
    assert (tmp_path / "c.mp4").read_text() == "old"
    cut(path, 0, 1, tmp_path / "c.mp4", overwrite=True)
    assert numbers(tmp_path / "c.mp4") == list(range(5))
    assert path.read_bytes() == before


def test_codecs_that_the_container_cannot_hold(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", VideoPlan(5))
    with pytest.raises(MediaError, match=r"\.webm cannot hold h264 video: use --reencode or"):
        cut(path, 0, 1, tmp_path / "c.webm")
    assert ".webm" in CLIP_SUFFIXES


def test_names_of_any_bytes(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", VideoPlan(3))
    for name in (b"-\xff\n%03d.mp4", b"http:x.mp4", b"a b?c#d.mp4"):
        target = tmp_path / name.decode("utf-8", "surrogateescape")
        cut(plain, 0, 1, target)
        cut(target, 0, 1, plain.with_name("c.mp4"), overwrite=True)
        assert numbers(target) == [0, 1, 2]


# --- all or nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_cut_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    path = write_video(tmp_path / "v.mp4", VideoPlan(20))
    if overwrite:
        (tmp_path / "c.mp4").write_text("old")
    write = clip_copy._Lane._write
    written = []

    def interrupted(lane, packet, dts):  # type: ignore[no-untyped-def]
        written.append(packet)
        if len(written) > 5:
            raise KeyboardInterrupt
        write(lane, packet, dts)

    monkeypatch.setattr(clip_copy._Lane, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cut(path, 0, 1, tmp_path / "c.mp4", overwrite=overwrite)
    left = {"v.mp4", "c.mp4"} if overwrite else {"v.mp4"}
    assert {file.name for file in tmp_path.iterdir()} == left
    if overwrite:
        assert (tmp_path / "c.mp4").read_text() == "old"


@BOTH
def test_a_full_disk_is_no_bad_file(
    tmp_path: Path,
    small_disk: Path,  # noqa: F811
    reencode: bool,
) -> None:
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8) for _ in range(60)]
    plan = VideoPlan(60, options={"qp": "1", "preset": "ultrafast"})
    path = write_video(tmp_path / "v.mp4", plan, pictures)
    (small_disk / "filler").write_bytes(bytes(6 * 2**20 - 100_000))
    with pytest.raises(OSError, match="No space left on device") as caught:
        cut(path, 0, 2, small_disk / "c.mp4", reencode=reencode)
    assert type(caught.value) is OSError
    assert caught.value.filename == str(small_disk / "c.mp4")
    assert [file.name for file in small_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_comes_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    path, target = write_video(tmp_path / "v.mp4"), tmp_path / "c.mp4"

    def link(source: Path, name: Path) -> None:
        if not links:
            raise OSError(errno.EPERM, "no hard links here")
        name.write_bytes(b"another's")
        raise FileExistsError(errno.EEXIST, "there it is")

    monkeypatch.setattr("os.link", link)
    if links:
        with pytest.raises(UsageError, match="exists"):
            cut(path, 0, 1, target)
        assert target.read_bytes() == b"another's"
    else:
        cut(path, 0, 1, target)
    assert {file.name for file in tmp_path.iterdir()} == {"v.mp4", "c.mp4"}
