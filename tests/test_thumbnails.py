"""The oracle is a full decode: of the frames that start at or before a time, the last one."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from clipsearch.errors import MediaError, UsageError
from clipsearch.media import ReadSpec, SamplingSpec, open_media
from clipsearch.media import thumbnails as module
from clipsearch.media.thumbnails import thumbnails
from clipsearch.types import Pixels
from tests.media_files import (
    VideoPlan,
    demo_video,
    number_of,
    numbered,
    write_sound,
    write_video,
    write_video_with_sound,
)

EVERY_FRAME = SamplingSpec(fps=1000, keep_all_frames=True)
HEIGHT = 32


def decoded(path: Path, height: int = HEIGHT) -> list[tuple[float, Pixels]]:
    stream = open_media(path, ReadSpec(height, sampling=EVERY_FRAME), kind="video")
    return [(unit.start_seconds or 0.0, pixels) for unit, pixels in stream.units]


def on_display(frames: Sequence[tuple[float, Pixels]], time: float) -> Pixels | None:
    return next((pixels for start, pixels in reversed(frames) if start <= time), None)


def numbers(pictures: Sequence[Pixels | None]) -> list[int | None]:
    return [None if picture is None else number_of(picture) for picture in pictures]


def check(path: Path, times: Sequence[float]) -> None:
    frames = decoded(path)
    expected = numbers([on_display(frames, time) for time in times])
    assert numbers(thumbnails(path, times, height=HEIGHT)) == expected


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b.mp4", "libx264", {"bf": "3"}),
        ("o.mkv", "libx264", {"bf": "2", "sc_threshold": "0", "x264-params": "open-gop=1"}),
        ("v.webm", "libvpx", {}),
        ("t.ts", "libx264", {"bf": "2"}),
        ("a.avi", "mpeg4", {}),
        ("f.flv", "flv", {}),
        ("w.wmv", "wmv2", {}),
        ("q.mov", "mpeg4", {"bf": "2"}),
        ("r.h264", "libx264", {"bf": "2"}),
    ],
)
def test_frames_on_display_in_every_container(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = write_video(tmp_path / name, VideoPlan(60, codec=codec, options=options))
    frames = decoded(path)
    times = [2.3, 0.0, 0.039, 0.04, 1.0, 0.5, 0.52, 1.0, 1.73]
    for asked in (times, [1.0], [1.73]):  # alone, nothing was read before
        expected = numbers([on_display(frames, time) for time in asked])
        assert numbers(thumbnails(path, asked, height=HEIGHT)) == expected


@pytest.mark.parametrize(("name", "codec"), [("p.mpg", "mpeg2video"), ("h.avi", "libx264")])
def test_near_where_a_container_has_no_exact_times(tmp_path: Path, name: str, codec: str) -> None:
    """After a seek these give the frames' times only to some frames."""
    path = write_video(tmp_path / name, VideoPlan(100, codec=codec, options={"bf": "2"}))
    frames = decoded(path)
    times = [0.2, 0.5, 1.1, 2.0, 2.96, 3.5]
    for picture, time in zip(thumbnails(path, times, height=HEIGHT), times, strict=True):
        expected = on_display(frames, time)
        assert picture is not None
        assert expected is not None
        assert abs(number_of(picture) - number_of(expected)) <= 3


def test_every_time_of_a_variable_rate(tmp_path: Path) -> None:
    times = (0, 10, 20, 30, 900, 1000, 1001, 1990, 2500, 7000, 7010, 7700, 8600)
    plan = VideoPlan(len(times), times=times, gop=4, options={"bf": "2"})
    path = write_video(tmp_path / "v.mp4", plan)
    starts = [start for start, _ in decoded(path)]
    assert len(starts) == len(times)
    check(path, [*starts, *(start + 0.0005 for start in starts), 5.0, 0.5, 8.6])


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_the_first_time_stamp_is_not_zero(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, VideoPlan(75, offset_ms=5000, options={"bf": "2"}))
    check(path, [0.1, 2.5, 1.02, 0.0, 2.9])


def test_a_gap_before_the_first_frame_shows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        sound = output.add_stream("aac", rate=16000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate, silence.pts = 16000, 0
        output.mux(sound.encode(silence))
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(numbered(number), "rgb24")
            frame.pts = 25 + number
            output.mux(stream.encode(frame))
        output.mux([*stream.encode(), *sound.encode()])
    first = decoded(path)[0][0]
    assert first > 0.5
    assert numbers(thumbnails(path, [first - 0.1, first], height=HEIGHT)) == [None, 0]


def test_before_the_start_and_beyond_the_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", VideoPlan(50))
    times = [-1.0, 1.999, 2.0, 1e9, 1e300]
    assert numbers(thumbnails(path, times, height=HEIGHT)) == [None, 49, None, None, None]
    assert thumbnails(path, [], height=HEIGHT) == []


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_the_last_frame_stays_while_the_sound_goes_on(tmp_path: Path, name: str) -> None:
    path = write_video_with_sound(tmp_path / name, frames=50, sound_seconds=9)
    assert numbers(thumbnails(path, [8.0, 1.0, 10.0], height=HEIGHT)) == [49, 25, None]


def test_upright_at_the_wanted_height(tmp_path: Path) -> None:
    matrix = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # a quarter clockwise
    path = write_video(tmp_path / "v.mp4", VideoPlan(3, matrix=matrix))
    (picture,) = thumbnails(path, [0.04], height=64)
    assert picture is not None
    assert picture.shape == (64, 32, 3)
    expected = on_display(decoded(path, 32), 0.04)
    assert expected is not None
    assert np.abs(picture.astype(int) - expected).mean() < 2
    assert picture.flags.c_contiguous


@pytest.mark.parametrize(
    ("name", "height", "shape"),
    [
        ("bikes", 68, (68, 160, 3)),  # 640 x 272
        ("bikes", 500, (272, 640, 3)),
        ("carphone_pristine", 72, (72, 96, 3)),  # 176 x 144, samples 128:117
    ],
)
def test_shape(name: str, height: int, shape: tuple[int, int, int]) -> None:
    (picture,) = thumbnails(demo_video(name), [0.5], height=height)
    assert picture is not None
    assert picture.shape == shape


def test_few_frames_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.mp4", VideoPlan(250, gop=10, options={"bf": "2"}))
    seen = []

    class CountingClock(module.Clock):
        def span(self, frame):  # type: ignore[no-untyped-def]
            seen.append(frame.pts)
            return super().span(frame)

    monkeypatch.setattr(module, "Clock", CountingClock)
    assert numbers(thumbnails(path, [9.0, 3.0, 6.0], height=HEIGHT)) == [225, 75, 150]
    assert len(seen) < 3 * 40
    seen.clear()
    assert numbers(thumbnails(path, [3.08, 3.0, 3.04], height=HEIGHT)) == [77, 75, 76]
    assert len(seen) == len(set(seen)), "a frame was decoded twice"


def test_no_frame_twice_where_key_frames_are_rare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = VideoPlan(100, gop=1000, options={"sc_threshold": "0"})
    path = write_video(tmp_path / "v.mp4", plan)
    seen = []

    class CountingClock(module.Clock):
        def span(self, frame):  # type: ignore[no-untyped-def]
            seen.append(frame.pts)
            return super().span(frame)

    monkeypatch.setattr(module, "Clock", CountingClock)
    assert numbers(thumbnails(path, [3.0, 1.0, 2.0], height=HEIGHT)) == [75, 25, 50]
    assert len(seen) == len(set(seen))


def test_a_file_that_breaks_off_has_its_beginning(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", VideoPlan(250, gop=10))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    first, _ = numbers(thumbnails(path, [1.0, 9.0], height=HEIGHT))
    assert first == 25


def test_damage_in_the_middle_raises_nothing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", VideoPlan(250, gop=10))
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 256, len(data) // 3, np.uint8).tobytes()
    data[len(data) // 3 : len(data) // 3 + len(noise)] = noise
    path.write_bytes(data)
    assert len(thumbnails(path, [0.0, 3.0, 5.0, 7.0, 9.9], height=HEIGHT)) == 5


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    text = tmp_path / "v.mp4"
    text.write_text("no video")
    for path in (tmp_path / "none.mp4", text, tmp_path, write_sound(tmp_path / "s.mp4")):
        with pytest.raises(MediaError):
            thumbnails(path, [0.0], height=HEIGHT)


@pytest.mark.parametrize(("times", "height"), [([0.0], 0), ([float("nan")], 9)])
def test_arguments_out_of_range(times: list[float], height: int) -> None:
    with pytest.raises(UsageError):
        thumbnails(demo_video("bikes"), times, height=height)
