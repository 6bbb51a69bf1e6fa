import contextlib
import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from clipsearch.errors import MediaError
from clipsearch.media import ReadSpec, SamplingSpec, open_media
from clipsearch.types import MediaStream, Pixels, Unit
from tests.media_files import (
    HEIGHT,
    WIDTH,
    VideoPlan,
    demo_video,
    number_of,
    numbered,
    write_sound,
    write_video,
    write_video_with_sound,
)

EVERY_FRAME = SamplingSpec(fps=1000, keep_all_frames=True)


def opened(path: Path, sampling: SamplingSpec = EVERY_FRAME, short_side: int = 64) -> MediaStream:
    return open_media(path, ReadSpec(short_side, sampling=sampling))


def read(path: Path, sampling: SamplingSpec = EVERY_FRAME) -> list[tuple[Unit, Pixels]]:
    return list(opened(path, sampling).units)


def seen(path: Path, sampling: SamplingSpec = EVERY_FRAME) -> list[int]:
    return [number_of(pixels) for _, pixels in read(path, sampling)]


def starts(path: Path, sampling: SamplingSpec = EVERY_FRAME) -> list[float | None]:
    return [unit.start_seconds for unit, _ in read(path, sampling)]


def spans(path: Path, sampling: SamplingSpec) -> list[tuple[float | None, float | None]]:
    return [(unit.start_seconds, unit.end_seconds) for unit, _ in read(path, sampling)]


# --- which frames, when -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b.mp4", "libx264", {"bf": "3"}),
        ("v.webm", "libvpx", {}),
        ("m.mkv", "libx264", {"bf": "2"}),
        ("t.ts", "libx264", {"bf": "2"}),
        ("p.mpg", "mpeg2video", {"bf": "2"}),
        ("a.avi", "mpeg4", {}),
        ("h.avi", "libx264", {"bf": "2"}),
        ("f.flv", "flv", {}),
        ("w.wmv", "wmv2", {}),
        ("q.mov", "mpeg4", {"bf": "2"}),
    ],
)
def test_every_frame_of_every_container(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = write_video(tmp_path / name, VideoPlan(codec=codec, options=options))
    units = read(path)
    assert [number_of(pixels) for _, pixels in units] == list(range(50))
    assert [unit.frame_number for unit, _ in units] == list(range(50))
    for unit, _ in units:
        assert unit.start_seconds is not None
        assert unit.frame_number is not None
        # H.264 in AVI has decoding times only: a delay of up to the two B-frames is in them.
        allowed = 0.121 if name == "h.avi" else 0.041 if name.endswith("avi") else 0.001
        assert abs(unit.start_seconds - unit.frame_number * 0.04) <= allowed
    assert units[-1][0].end_seconds == pytest.approx(2.0, abs=0.13 if "avi" in name else 0.01)


@pytest.mark.parametrize("fps", [1, 2, 3, 12.5, 0.5, 1e-9])
def test_frames_on_display_at_the_sampled_times(tmp_path: Path, fps: float) -> None:
    path = write_video(tmp_path / "v.mp4", VideoPlan(100, options={"bf": "3"}))
    sampling = SamplingSpec(fps=fps, keep_all_frames=True)
    assert seen(path, sampling) == [int(k / fps / 0.04 + 1e-9) for k in range(int(4 * fps) or 1)]


def test_variable_rate_is_sampled_by_time_not_by_count(tmp_path: Path) -> None:
    times = (0, 10, 20, 30, 900, 1000, 1001, 1990, 2500, 7000, 7010, 7700, 8600)
    path = write_video(tmp_path / "v.mp4", VideoPlan(len(times), times=times))
    sampling = SamplingSpec(fps=1, keep_all_frames=True)
    expected = sorted({max(i for i, t in enumerate(times) if t <= k * 1000) for k in range(9)})
    assert seen(path, sampling) == expected
    assert starts(path, sampling) == [times[i] / 1000 for i in expected]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_times_count_from_where_players_start(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, VideoPlan(50, offset_ms=5000, options={"bf": "0"}))
    with av.open(str(path)) as container:
        origin = (container.start_time or 0) / 1e6
        first = next(container.decode(video=0)).time
    assert starts(path)[:3] == pytest.approx(
        [first - origin, first - origin + 0.04, first - origin + 0.08], abs=1e-5
    )
    assert seen(path, SamplingSpec(keep_all_frames=True)) == [0, 25]


@pytest.mark.parametrize("count", [1, 5, 7, 49, 50, 80])
def test_uniform_takes_the_count(tmp_path: Path, count: int) -> None:
    for name in ("v.mp4", "v.webm"):
        codec = "libvpx" if name.endswith("webm") else "libx264"
        path = write_video(tmp_path / name, VideoPlan(codec=codec))
        found = seen(path, SamplingSpec("uniform", count=count, keep_all_frames=True))
        assert found == [i * 50 // min(count, 50) for i in range(min(count, 50))]


def test_uniform_covers_the_video_not_the_longer_sound(tmp_path: Path) -> None:
    path = write_video_with_sound(tmp_path / "v.mkv", frames=50, sound_seconds=9)
    assert len(seen(path, SamplingSpec("uniform", count=5, keep_all_frames=True))) == 5


def test_key_frames_only_and_thinned(tmp_path: Path) -> None:
    plan = VideoPlan(100, gop=10, options={"sc_threshold": "0", "bf": "2"})
    path = write_video(tmp_path / "v.mp4", plan)
    everything = SamplingSpec("keyframes", fps=1000, keep_all_frames=True)
    assert seen(path, everything) == list(range(0, 100, 10))
    assert {unit.frame_number for unit, _ in read(path, everything)} == {None}
    assert seen(path, SamplingSpec("keyframes", fps=1, keep_all_frames=True)) == [0, 20, 50, 70]


# --- what a unit stands for ---------------------------------------------------------------------


def test_near_identical_frames_extend_the_first(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    pictures = [
        np.clip(numbered(1 if i < 100 else 6) + noise.normal(0, 6, (64, 128, 3)), 0, 255)
        for i in range(200)
    ]
    path = write_video(
        tmp_path / "v.mp4", VideoPlan(200), [picture.astype(np.uint8) for picture in pictures]
    )
    assert spans(path, SamplingSpec(fps=2)) == [(0.0, 4.0), (4.0, 8.0)]
    assert len(read(path, SamplingSpec(fps=2, keep_all_frames=True))) == 16


def test_black_frames_are_left_out_and_end_a_unit(tmp_path: Path) -> None:
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pictures = [black] * 50 + [numbered(3)] * 50 + [black] * 25 + [numbered(3)] * 25
    path = write_video(tmp_path / "v.mp4", VideoPlan(150), pictures)
    assert spans(path, SamplingSpec()) == [(2.0, 4.0), (5.0, 6.0)]


def test_an_all_black_video_keeps_one_frame(tmp_path: Path) -> None:
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    path = write_video(tmp_path / "v.mp4", VideoPlan(75), [black] * 75)
    assert spans(path, SamplingSpec()) == [(0.0, 3.0)]


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", VideoPlan(1))
    assert spans(path, SamplingSpec()) == [(0.0, 0.04)]


def test_units_tile_a_moving_video() -> None:
    units = spans(demo_video("bikes"), SamplingSpec())
    assert len(units) == 10
    assert units[0][0] == 0
    assert units[-1][1] == 10
    for (_, end), (start, _) in itertools.pairwise(units):
        assert end == start


# --- pixels -------------------------------------------------------------------------------------

RIGHT_ANGLE_MATRICES = {  # by ISO 14496-12: x' = ax + cy, y' = bx + dy, y down
    90: (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),  # what a phone held upright writes
    180: (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30),
    270: (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30),
}
CORNER_AFTER = {0: (0, 0), 90: (0, 1), 180: (1, 1), 270: (1, 0)}  # of the top left, clockwise


@pytest.mark.parametrize("clockwise", [0, 90, 180, 270])
def test_rotation_follows_the_display_matrix(tmp_path: Path, clockwise: int) -> None:
    picture = np.full((64, 128, 3), 40, np.uint8)
    picture[:32, :64] = (0, 255, 0)
    plan = VideoPlan(3, matrix=RIGHT_ANGLE_MATRICES.get(clockwise))
    path = write_video(tmp_path / "v.mp4", plan, [picture] * 3)
    stream = opened(path)
    _, pixels = next(stream.units)
    upright = (64, 128) if clockwise % 180 == 0 else (128, 64)
    assert (stream.info.height, stream.info.width) == upright == pixels.shape[:2]
    for corner in CORNER_AFTER.values():
        y, x = (corner[i] * upright[i] // 2 + upright[i] // 4 for i in (0, 1))
        assert (pixels[y, x, 1] > 200) == (corner == CORNER_AFTER[clockwise])


def test_pixels_shrink_to_the_short_side_and_never_grow() -> None:
    path = demo_video("bikes")  # 640 x 272
    for short_side, shape in ((68, (68, 160, 3)), (272, (272, 640, 3)), (500, (272, 640, 3))):
        stream = opened(path, SamplingSpec(), short_side)
        _, pixels = next(stream.units)
        assert (stream.info.width, stream.info.height) == (640, 272)
        assert pixels.shape == shape


def test_samples_that_are_not_square() -> None:
    stream = opened(demo_video("carphone_pristine"))  # 176 x 144, samples 128:117
    assert (stream.info.width, stream.info.height) == (193, 144)
    assert next(stream.units)[1].shape == (64, 86, 3)


# --- files that are not what they seem ----------------------------------------------------------


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"^no video stream$"):
        read(write_sound(tmp_path / "v.mp4"))


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_sound_that_outlasts_the_pictures_is_no_damage(tmp_path: Path, name: str) -> None:
    path = write_video_with_sound(tmp_path / name, frames=50, sound_seconds=9)
    assert seen(path) == list(range(50))
    assert opened(path).info.duration_seconds == pytest.approx(9, abs=0.2)


@pytest.mark.parametrize("sampling", [SamplingSpec(), SamplingSpec("keyframes")])
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_a_file_that_breaks_off_is_damaged(
    tmp_path: Path, name: str, sampling: SamplingSpec
) -> None:
    header_first = {"movflags": "faststart"} if name.endswith("mp4") else {}
    write_video(tmp_path / name, VideoPlan(250, container_options=header_first))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(MediaError, match=r"^damaged: decoded \d\.\d of 10\.0 seconds"):
        read(tmp_path / name, sampling)


def test_bad_packets_in_the_middle_are_tolerated(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", VideoPlan(250, options={"bf": "0"}, gop=10))
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    data[begin : begin + 300] = bytes(300)
    path.write_bytes(data)
    found = spans(path, SamplingSpec())
    assert 8 <= len(found) <= 10
    assert found[-1][1] == 10


def test_cut_anywhere_it_reads_or_says_why(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "v.ts", VideoPlan(50)).read_bytes()
    for tenth in range(10):
        path = tmp_path / "cut.ts"
        path.write_bytes(whole[: len(whole) * tenth // 10])
        with contextlib.suppress(MediaError):
            assert len(read(path)) >= 1


def test_a_playlist_must_not_open_other_files(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.ts")
    playlist = tmp_path / "v.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaError):
        read(playlist)


def test_a_header_with_too_many_pixels_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4")
    with pytest.raises(MediaError, match="megapixels"):
        open_media(path, ReadSpec(64, max_image_megapixels=0.001))


def test_names_of_any_bytes(tmp_path: Path) -> None:
    for name in (b"-\xff\n%03d.mp4", b"http:x.mp4", b"a b?c#d.mp4"):
        path = tmp_path / name.decode("utf-8", "surrogateescape")
        path.write_bytes(write_video(tmp_path / "plain.mp4", VideoPlan(3)).read_bytes())
        assert seen(path) == [0, 1, 2]


def test_ffmpeg_is_silent_on_stderr(tmp_path: Path) -> None:
    data = bytearray(write_video(tmp_path / "v.mp4", VideoPlan(100)).read_bytes())
    for position in range(200, len(data) - 2000, 97):
        data[position] ^= 255
    (tmp_path / "v.mp4").write_bytes(data)
    script = (
        "import sys; from pathlib import Path\n"
        "from clipsearch.errors import MediaError\n"
        "from clipsearch.media import *\n"
        "try: list(open_media(Path(sys.argv[1]), ReadSpec(64)).units)\n"
        "except MediaError: pass\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "v.mp4")],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert (run.stdout, run.stderr) == (b"", b"")


def test_importing_the_package_loads_no_decoder() -> None:
    script = "import sys, clipsearch.media as m; sys.exit(bool({'av', 'PIL'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert importlib.util.find_spec("av") is not None
