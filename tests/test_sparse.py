"""Decoding less must give the same units as decoding everything."""

from dataclasses import replace
from functools import cache, partial
from itertools import count
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from numpy.typing import NDArray

from clipsearch.errors import MediaError, UsageError
from clipsearch.media import ReadingStoppedError, ReadSpec, SamplingSpec, open_media
from clipsearch.media import chosen as chosen_module
from clipsearch.media import sparse as sparse_module
from clipsearch.media.roles import UnsureError, role_reader
from clipsearch.media.sampling import parse_sampling
from tests.media_files import VideoPlan, demo_video, numbered, write_video

FRAMES = 90
SAMPLINGS = [
    SamplingSpec(),
    SamplingSpec(fps=0.4, keep_all_frames=True),
    SamplingSpec(fps=3, keep_all_frames=True),
    SamplingSpec("uniform", count=5, keep_all_frames=True),
]
X265 = "log-level=none:keyint=25:pools=none:frame-threads=1"
# The sequence parameters of `write_unannounced`, less their last part, on the use of the rest.
BARE_SET = bytes.fromhex("000000016764000aacc8508264")
VARYING = tuple(np.cumsum(np.random.default_rng(1).integers(1, 200, FRAMES)).tolist())

planned = partial(VideoPlan, FRAMES)

FOLLOWED: dict[str, VideoPlan] = {
    "bframes.mp4": planned(options={"bf": "3"}, gop=30),
    "pyramid.mkv": planned(options={"x264-params": "bframes=5:b-pyramid=normal:keyint=40"}),
    "deep.mp4": planned(
        options={"x264-params": "bframes=16:b-adapt=0:ref=16:keyint=60:b-pyramid=normal"}
    ),
    "open.mp4": planned(options={"x264-params": "open-gop=1:bframes=3:keyint=25:scenecut=0"}),
    "slices.ts": planned(options={"x264-params": "slices=3:bframes=3:keyint=20"}),
    "refresh.mp4": planned(options={"x264-params": "intra-refresh=1:keyint=25"}),
    "varying.mp4": planned(times=VARYING, options={"bf": "3"}, gop=9),
    "short.flv": planned(options={"bf": "2"}, gop=8),
    "open.mov": planned(codec="libx265", options={"x265-params": X265}),
    "closed.mkv": planned(codec="libx265", options={"x265-params": f"{X265}:open-gop=0"}),
    "b.avi": planned(codec="mpeg4", options={"bf": "2"}),
    "b.ts": planned(codec="mpeg2video", options={"bf": "2"}),
    "one.mkv": planned(codec="mpeg1video"),
    "v8.webm": planned(codec="libvpx", gop=20, options={"deadline": "realtime"}),
    "v9.webm": planned(
        codec="libvpx-vp9", gop=20, options={"deadline": "realtime", "cpu-used": "8"}
    ),
    "j.mov": planned(codec="mjpeg", options={"strict": "unofficial"}),
}
NOT_FOLLOWED: dict[str, VideoPlan] = {
    "refresh.ts": planned(options={"x264-params": "intra-refresh=1:keyint=25"}),
    "fields.mp4": planned(options={"flags": "+ilme+ildct", "x264-params": "tff=1"}),
    "fields.mpg": planned(codec="mpeg2video", options={"flags": "+ilme+ildct", "bf": "2"}),
    "layers.mp4": planned(codec="libx265", options={"x265-params": f"{X265}:temporal-layers=3"}),
    "old.flv": planned(codec="flv"),
    "w.wmv": planned(codec="wmv2"),
}


@cache
def moving(frames: int = FRAMES) -> list[NDArray[np.uint8]]:
    noise = np.random.default_rng(0).normal(0, 12, (4, 64, 128, 3))
    shifted = (np.roll(numbered(i), i, axis=1) + noise[i % 4] for i in range(frames))
    return [np.clip(picture, 0, 255).astype(np.uint8) for picture in shifted]


def units(path: Path, sampling: SamplingSpec, threads: int = 1) -> list[object]:
    """What is read, and how reading ended."""
    found: list[object] = []
    try:
        spec = ReadSpec(64, sampling=sampling, decoder_threads=threads)
        stream = open_media(path, spec, kind="video")
        found.append(stream.info)
        found.extend((unit, pixels.tobytes(), pixels.shape) for unit, pixels in stream.units)
    except MediaError as error:
        found.append(str(error))
    return found


class Watched:
    """How many packets were read ahead and decoded, and how often the plain way was taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.decoded = self.read = self.plain = self.held = 0
        receive, admitted = (
            sparse_module.SparseDecoder._receive,
            sparse_module.SparseDecoder._admitted,
        )
        plainly = chosen_module.plainly

        def watched_receive(decoder, packet):  # type: ignore[no-untyped-def]
            self.decoded += packet is not None
            receive(decoder, packet)
            self.held = max(self.held, len(decoder._ready))

        def watched_admitted(decoder):  # type: ignore[no-untyped-def]
            for picture in admitted(decoder):
                self.read += 1
                yield picture

        def watched_plainly(*args, **kwargs):  # type: ignore[no-untyped-def]
            self.plain += 1
            return plainly(*args, **kwargs)

        monkeypatch.setattr(sparse_module.SparseDecoder, "_receive", watched_receive)
        monkeypatch.setattr(sparse_module.SparseDecoder, "_admitted", watched_admitted)
        monkeypatch.setattr(chosen_module, "plainly", watched_plainly)

    def all_decoded(self, path: Path, sampling: SamplingSpec) -> list[object]:
        """By one thread."""
        with self.monkeypatch.context() as patch:
            patch.setattr(chosen_module, "_role_reader", lambda *_: None)
            found = units(path, sampling)
        self.decoded = self.read = self.plain = 0
        return found


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def made(path: Path, plan: VideoPlan) -> Path:
    return write_video(path, plan, moving())


@pytest.mark.parametrize("name", FOLLOWED)
def test_the_same_units_from_fewer_pictures(tmp_path: Path, name: str, watched: Watched) -> None:
    path = made(tmp_path / name, FOLLOWED[name])
    for sampling in SAMPLINGS[1:3]:
        expected = watched.all_decoded(path, sampling)
        assert units(path, sampling) == expected
        assert watched.plain == 0
        assert watched.read == FRAMES
        if sampling.fps < 1:
            assert watched.decoded < FRAMES or name == "refresh.mp4"  # no second beginning


@pytest.mark.parametrize("name", NOT_FOLLOWED)
def test_what_cannot_be_foretold_is_decoded_whole(
    tmp_path: Path, name: str, watched: Watched
) -> None:
    path = made(tmp_path / name, NOT_FOLLOWED[name])
    for sampling in SAMPLINGS[2:3]:
        expected = watched.all_decoded(path, sampling)
        assert len(expected) > 1
        assert units(path, sampling) == expected
        assert watched.plain == 1


def test_reordering_that_is_not_announced_may_begin_late(tmp_path: Path, watched: Watched) -> None:
    """FFmpeg's guess of its depth loses pictures there: nothing that is left out may hide that."""
    path = write_unannounced(tmp_path / "v.flv", begins=60)
    for sampling in SAMPLINGS[1:3]:
        expected = watched.all_decoded(path, sampling)
        assert units(path, sampling) == expected
        assert watched.plain == 0
    every = watched.all_decoded(path, SamplingSpec(fps=25, keep_all_frames=True))
    assert len(every) == 1 + FRAMES


def write_unannounced(path: Path, *, begins: int) -> Path:
    params = "bframes=7:b-adapt=0:b-pyramid=normal:ref=4:keyint=20:min-keyint=20:scenecut=0"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"x264-params": params})
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        packets = []
        for number, picture in enumerate(moving()):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = number
            frame.pict_type = PictureType.P if number < begins else PictureType.NONE
            packets += stream.encode(frame)
        packets += stream.encode()
        sets = stream.codec_context.extradata
        assert sets is not None
        stream.codec_context.extradata = BARE_SET + sets[sets.index(b"\0\0\0\1\x68") :]
        output.mux(packets)
    return path


def test_dense_key_frames_leave_little_to_decode(tmp_path: Path, watched: Watched) -> None:
    plan = planned(gop=5, options={"bf": "0", "sc_threshold": "0"})
    path = made(tmp_path / "v.mp4", plan)
    units(path, SamplingSpec(fps=0.4, keep_all_frames=True))
    # Frames 0 and 62: the trial, then the group of 60 up to the wanted one, and the last group.
    assert watched.decoded == sparse_module.TRIAL_PACKETS + 3 + 5


@pytest.mark.parametrize(
    ("limit", "gop"),
    [("MOST_PACKETS_AHEAD", 10), ("MOST_PACKETS_AHEAD", 99), ("MOST_BYTES_AHEAD", 99)],
)
def test_a_bound_on_what_is_read_ahead(
    tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch, limit: str, gop: int
) -> None:
    path = made(tmp_path / "v.mp4", planned(gop=gop, options={"bf": "3"}))
    sampling = SamplingSpec("uniform", count=2, keep_all_frames=True)
    expected = watched.all_decoded(path, sampling)
    monkeypatch.setattr(sparse_module, limit, 7 if limit == "MOST_PACKETS_AHEAD" else 2000)
    assert units(path, sampling) == expected
    assert watched.plain == 0


def test_heavy_pictures_are_neither_all_decoded_nor_held(
    tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "v.mov", FOLLOWED["j.mov"])
    monkeypatch.setattr(sparse_module, "MOST_BYTES_AHEAD", 0)
    expected = watched.all_decoded(path, SAMPLINGS[1])
    assert units(path, SAMPLINGS[1]) == expected
    assert watched.held <= sparse_module.MARGIN_PACKETS + 1
    assert watched.decoded <= sparse_module.TRIAL_PACKETS + 4


@pytest.mark.parametrize("name", ["open.mp4", "slices.ts", "closed.mkv", "b.ts"])
def test_a_stream_that_begins_in_the_middle(tmp_path: Path, watched: Watched, name: str) -> None:
    whole = made(tmp_path / name, FOLLOWED[name])
    path = copied(whole, tmp_path / f"part_{name}", set(range(37)))
    for sampling in SAMPLINGS[2:3]:
        assert units(path, sampling) == watched.all_decoded(path, sampling)


@pytest.mark.parametrize("name", ["bframes.mp4", "closed.mkv", "b.ts", "slices.ts"])
def test_packets_that_are_missing(tmp_path: Path, watched: Watched, name: str) -> None:
    whole = made(tmp_path / name, FOLLOWED[name])
    for hole in (36, 47):
        path = copied(whole, tmp_path / f"holes_{name}", {hole})
        for sampling in SAMPLINGS[2:3]:
            assert units(path, sampling) == watched.all_decoded(path, sampling)


def copied(source: Path, target: Path, without: set[int]) -> Path:
    """The packets of a file, unchanged, less those of some numbers."""
    with av.open(str(source)) as given, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(given.streams.video[0])
        for number, packet in zip(count(), given.demux(video=0)):
            if packet.dts is not None and number not in without:
                packet.stream = stream
                written.mux(packet)
    return target


@pytest.mark.parametrize("name", ["bframes.mp4", "slices.ts", "b.avi"])
def test_files_that_break_off(tmp_path: Path, watched: Watched, name: str) -> None:
    plan = FOLLOWED[name]
    if name.endswith("mp4"):
        plan = replace(plan, container_options={"movflags": "faststart"})
    whole = made(tmp_path / name, plan).read_bytes()
    path = tmp_path / f"cut_{name}"
    for share in (0.6, 0.97):
        path.write_bytes(whole[: int(len(whole) * share)])
        for sampling in SAMPLINGS[2:3]:
            expected = watched.all_decoded(path, sampling)
            for threads in (1, 2, 5):
                assert units(path, sampling, threads) == expected


def test_damage_that_is_met_is_judged_by_the_plain_way(tmp_path: Path, watched: Watched) -> None:
    """In key frames, which are all needed at this rate."""
    path = made(tmp_path / "v.mp4", planned(gop=10, options={"bf": "2", "sc_threshold": "0"}))
    whole = path.read_bytes()
    with av.open(str(path)) as container:
        keys = [packet.pos for packet in container.demux(video=0) if packet.is_keyframe]
    sampling = SamplingSpec(fps=5, keep_all_frames=True)
    for position in keys[4:6]:
        assert position is not None
        data = bytearray(whole)
        data[position + 60 : position + 160] = bytes(100)
        path.write_bytes(data)
        expected = watched.all_decoded(path, sampling)
        assert units(path, sampling) == expected
        assert watched.plain == 1
        for threads in (2, 5):
            assert units(path, sampling, threads) == expected


def test_a_film_of_the_demo(watched: Watched) -> None:
    path, sampling = demo_video("carphone_pristine"), SAMPLINGS[2]
    expected = watched.all_decoded(path, sampling)
    assert units(path, sampling) == expected
    assert watched.plain == 0
    assert watched.decoded < watched.read


def test_any_number_of_threads_decodes_the_same(tmp_path: Path) -> None:
    path = made(tmp_path / "v.mp4", FOLLOWED["bframes.mp4"])
    expected = units(path, SAMPLINGS[2], threads=1)
    for threads in (0, 3):
        assert units(path, SAMPLINGS[2], threads=threads) == expected
    for threads in (-1, 65):
        with pytest.raises(UsageError, match="threads for decoding: use 0 to 64"):
            ReadSpec(64, decoder_threads=threads)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingSpec("uniform", count=1),
        SamplingSpec("keyframes", fps=0.01),
        SamplingSpec(fps=1000),  # plainly, and one picture throughout
    ],
)
def test_a_stretch_without_units_can_be_left(tmp_path: Path, sampling: SamplingSpec) -> None:
    path = write_video(tmp_path / "v.mkv", planned(gop=1000), [numbered(1)] * FRAMES)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    with pytest.raises(ReadingStoppedError):
        list(open_media(path, ReadSpec(64, sampling=sampling), stop=stop).units)
    assert asked == 3
    calm = list(open_media(path, ReadSpec(64, sampling=sampling), stop=lambda: False).units)
    assert len(calm) == 1


def test_auto_is_another_word_for_fps() -> None:
    assert parse_sampling("auto", fps=2.0) == SamplingSpec("fps", 2.0)
    assert parse_sampling("auto").to_dict()["method"] == "fps"


def test_packets_that_are_no_single_picture() -> None:
    h264, hevc = role_reader("h264", None), role_reader("hevc", None)
    mpeg4, vp8, vp9 = (role_reader(codec, None) for codec in ("mpeg4", "vp8", "vp9"))
    assert h264 is not None
    assert hevc is not None
    assert mpeg4 is not None
    assert vp8 is not None
    assert vp9 is not None
    slice_, picture = b"\0\0\1\x01\x88", b"\0\0\1\xb6\x80" + bytes(20)
    assert h264(slice_ + b"\0", False) == (False, True, False)
    assert h264(slice_.replace(b"\1\x01", b"\1\x21") + b"\0", False) == (False, False, False)
    assert mpeg4(picture, False) == (False, True, True)
    for reader, packet in (
        (h264, slice_ * 2),  # two fields
        (h264, b"\0\0\1\x06\x88\0"),  # side information alone
        (h264, b"\0\0\1\x67\x42\0" + slice_),  # new parameters without a new beginning
        (hevc, b"\0\0\1\x02\x02\x80\0"),  # another temporal layer
        (mpeg4, picture * 2),  # packed
        (mpeg4, picture[:10]),  # not coded
        (vp8, b"\x01\0\0"),  # not shown
        (vp9, b"\x84\0\0"),
    ):
        with pytest.raises(UnsureError):
            reader(packet, False)
    assert role_reader("rawvideo", None) is None


def test_key_frames_of_formats_that_reset_everything() -> None:
    av1 = role_reader("av1", None)
    vp9 = role_reader("vp9", None)
    assert av1 is not None
    assert vp9 is not None
    delimiter, sequence = b"\x12\0", b"\x0a\x02\0\0"
    for first, restarts in ((0x10, True), (0x00, False), (0x30, False), (0x90, False)):
        frame = bytes([0x32, 3, first, 0, 0])
        assert av1(delimiter + sequence + frame, True) == (restarts, False, False)
        assert not av1(delimiter + sequence + frame, False).restarts
    assert vp9(b"\x82\0", True).restarts
    assert not vp9(b"\x86\0", True).restarts
    for broken in (delimiter, b"\x0a" + b"\xff" * 9):
        with pytest.raises(UnsureError):
            av1(broken, True)
