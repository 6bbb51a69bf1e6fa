import itertools
import os
import subprocess
import sys
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from clipsearch.errors import ClipsearchError, MediaError, NoPictureError, UsageError
from clipsearch.media import AudioSpec, ReadSpec, open_audio, open_media, open_sound_track
from clipsearch.media.sound_windows import Windower, is_silent
from clipsearch.media.timeline import packets_of
from clipsearch.types import SoundStream, Unit, Wave
from tests.media_files import write_video
from tests.sound_files import (
    BEEPS,
    SoundPlan,
    at,
    beeping,
    onsets,
    write_beeps,
    write_film,
    write_float_wav,
)

RATE = 16000
SHORT = AudioSpec(RATE, 2.0, 1.0)
WHOLE = AudioSpec(RATE, 10.0, 10.0)
ALMOST = 0.002  # seconds between the same event in two codecs


def heard(path: Path) -> list[float]:
    return onsets(open_audio(path, SHORT), RATE)


def near(times: tuple[float, ...] | list[float], within: float = ALMOST) -> object:
    return pytest.approx(list(times), abs=within)


def spans(sound: SoundStream | None) -> list[tuple[float | None, float | None, float]]:
    assert sound is not None
    return [(u.start_seconds, u.end_seconds, u.padding_seconds) for u, _ in sound.units]


def refused(path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        list(open_audio(path, SHORT).units)
    assert str(path.parent) not in str(caught.value)
    return str(caught.value)


# --- windows ------------------------------------------------------------------------------------


def naive_windows(sound: Wave, spec: AudioSpec) -> list[tuple[float, Wave, int]]:
    """(start, samples, zeros added) of each window, silent ones too, sample by sample."""
    size, found = round(spec.window_seconds * spec.rate), []
    for number in itertools.count():
        begin = round(number * spec.hop_seconds * spec.rate)
        window = np.zeros(size, np.float32)
        for place in range(begin, min(begin + size, len(sound))):
            window[place - begin] = sound[place]
        found.append((number * spec.hop_seconds, window, max(0, begin + size - len(sound))))
        if begin + size >= len(sound):
            return found
    raise AssertionError


@pytest.mark.parametrize("length", [1, 9, 10, 11, 14, 15, 16, 25, 40, 97])
@pytest.mark.parametrize("hop", [0.3, 0.5, 0.7, 1.0])
def test_windows_are_those_of_a_naive_loop(length: int, hop: float) -> None:
    spec = AudioSpec(10, 1.0, hop)
    random = np.random.default_rng(length)
    sound = random.uniform(0.1, 1, length).astype(np.float32)
    windower = Windower(spec)
    found: list[tuple[Unit, Wave]] = []
    for part in np.split(sound, sorted(random.integers(0, length + 1, 4))):
        found += windower.put(part)
    found += windower.finish()
    expected = naive_windows(sound, spec)
    assert len(found) == len(expected)
    for (unit, window), (start, samples, zeros) in zip(found, expected, strict=True):
        assert unit.start_seconds == pytest.approx(start)
        assert unit.padding_seconds == pytest.approx(zeros / 10)
        assert unit.end_seconds == pytest.approx(start + (10 - zeros) / 10)
        assert window.dtype == np.float32
        np.testing.assert_array_equal(window, samples)


@pytest.mark.parametrize("hop", [0.3, 0.5, 1.0])
@pytest.mark.parametrize(("before", "gap", "after"), [(13, 7, 9), (13, 61, 22), (0, 100, 3)])
def test_a_gap_is_silence_however_long(hop: float, before: int, gap: int, after: int) -> None:
    spec = AudioSpec(10, 1.0, hop)
    one, other = np.full(before, 0.5, np.float32), np.full(after, 0.25, np.float32)
    windower = Windower(spec)
    found = [*windower.put(one), *windower.silence(gap), *windower.put(other), *windower.finish()]
    expected = [
        (start, samples)
        for start, samples, _ in naive_windows(
            np.concatenate([one, np.zeros(gap, np.float32), other]), spec
        )
        if samples.any()
    ]
    assert [unit.start_seconds for unit, _ in found] == near([start for start, _ in expected])
    for (_, window), (_, samples) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(window, samples)


def test_a_gap_of_a_year_takes_no_time() -> None:
    windower = Windower(AudioSpec(48000))
    year = 365 * 86400
    assert list(windower.silence(year * 48000)) == []
    ((unit, _),) = [*windower.put(np.ones(480, np.float32)), *windower.finish()]
    assert year - 10 < (unit.start_seconds or 0) < year


def test_silence_is_what_stays_below_60_db_everywhere() -> None:
    quiet = np.full(RATE, 10 ** (-61 / 20), np.float32)
    assert is_silent(quiet, RATE)
    assert not is_silent(quiet * 10 ** (2 / 20), RATE)
    for place in (0, 8000, RATE - 40):  # 40 samples at -20 dB are -33 dB over 50 ms
        loud = np.zeros(RATE - 37, np.float32)
        loud[place : place + 40] = 0.1
        assert not is_silent(loud, RATE)
    assert is_silent(np.zeros(3, np.float32), RATE)


def test_specs_are_checked() -> None:
    for values in ((0,), (1, 0.05), (1, 601), (1, float("nan")), (1, 10, 0), (1, 10, 10.1)):
        with pytest.raises(UsageError):
            AudioSpec(*values)
    assert (AudioSpec(48000).window_seconds, AudioSpec(48000).hop_seconds) == (10.0, 5.0)


# --- times --------------------------------------------------------------------------------------

EXACT = [
    ("a.wav", SoundPlan("pcm_u8", 8000)),
    ("a.wav", SoundPlan("pcm_s16le", 96000)),
    ("a.wav", SoundPlan("pcm_s24le", layout="stereo")),
    ("a.wav", SoundPlan("pcm_s32le", layout="5.1")),
    ("a.wav", SoundPlan("pcm_f32le", layout="5.1")),
    ("a.wav", SoundPlan("pcm_f64le", 11025)),
    ("a.flac", SoundPlan("flac", layout="stereo")),
    ("a.ogg", SoundPlan("libopus", 48000)),
    ("a.oga", SoundPlan("flac", 22050)),
    ("a.opus", SoundPlan("libopus", 24000, "stereo")),
    ("a.mp3", SoundPlan("libmp3lame")),
    ("a.mp3", SoundPlan("libmp3lame", 22050, "stereo")),
    ("a.m4a", SoundPlan("aac")),
    ("a.m4a", SoundPlan("aac", 48000, "5.1")),
    ("a.m4b", SoundPlan("alac")),
    ("a.mka", SoundPlan("aac")),
    ("a.weba", SoundPlan("libopus", 48000)),
    ("a.aiff", SoundPlan("pcm_s16be")),
    ("a.caf", SoundPlan("pcm_s16be")),
    ("a.au", SoundPlan("pcm_s16be")),
    ("a.w64", SoundPlan("pcm_s16le")),
    ("a.wv", SoundPlan("wavpack")),
]
# Bare frames do not say how many samples the encoder put before the first one.
DELAYED = [
    ("a.aac", SoundPlan("aac"), 1024 / 44100),
    ("a.ac3", SoundPlan("ac3", 48000), 256 / 48000),
    ("a.mp2", SoundPlan("mp2"), 481 / 44100),
]


@pytest.mark.parametrize(("name", "plan"), EXACT)
def test_events_have_their_times_in_every_format(
    tmp_path: Path, name: str, plan: SoundPlan
) -> None:
    path = write_beeps(tmp_path / name, plan)
    assert heard(path) == near(BEEPS)
    info = open_audio(path, SHORT).info
    assert (info.width, info.height) == (0, 0)
    assert info.duration_seconds == pytest.approx(plan.seconds, abs=0.03)


@pytest.mark.parametrize(("name", "plan", "delay"), DELAYED)
def test_bare_streams_keep_the_delay_of_their_encoder(
    tmp_path: Path, name: str, plan: SoundPlan, delay: float
) -> None:
    assert heard(write_beeps(tmp_path / name, plan)) == near([b + delay for b in BEEPS])


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("a.mp4", SoundPlan("aac", 48000, "stereo")),
        ("a.mkv", SoundPlan("aac")),
        ("a.mkv", SoundPlan("libopus", 48000)),
        ("a.mov", SoundPlan("pcm_s16le")),
    ],
)
@pytest.mark.parametrize(("late", "first_ms"), [(0.0, 0), (1.0, 0), (0.0, 800), (1.5, 800)])
def test_a_track_is_on_the_clock_of_the_pictures(
    tmp_path: Path, name: str, plan: SoundPlan, late: float, first_ms: int
) -> None:
    path = write_film(tmp_path / name, at(plan, late_seconds=late), first_ms=first_ms)
    start = min(late, first_ms / 1000)  # players begin with what comes first
    sound = open_sound_track(path, SHORT)
    assert sound is not None
    assert onsets(sound, RATE) == near([beep + late - start for beep in BEEPS])
    picture, _ = next(open_media(path, ReadSpec(64)).units)
    assert [picture.start_seconds] == near([first_ms / 1000 - start])


def test_what_players_drop_is_dropped(tmp_path: Path) -> None:
    """Sound that an edit list puts before 0: the encoder's priming, and more."""
    wav = write_beeps(tmp_path / "a.wav")
    m4a = write_beeps(tmp_path / "a.m4a", SoundPlan("aac"))
    assert spans(open_audio(m4a, SHORT)) == spans(open_audio(wav, SHORT))


def test_an_m4a_an_mp3_and_a_track_sound_like_the_wav(tmp_path: Path) -> None:
    plan = SoundPlan(layout="stereo")
    paths = [write_beeps(tmp_path / "a.wav", plan)]
    paths.append(write_beeps(tmp_path / "a.mp3", at(plan, codec="libmp3lame")))
    paths.append(write_beeps(tmp_path / "a.m4a", at(plan, codec="aac")))
    waves = [next(open_audio(path, WHOLE).units)[1] for path in paths]
    film = open_sound_track(write_film(tmp_path / "a.mp4", at(plan, codec="aac")), WHOLE)
    assert film is not None
    waves.append(next(film.units)[1])
    for other in waves[1:]:
        cosine = waves[0] @ other / np.linalg.norm(waves[0]) / np.linalg.norm(other)
        assert cosine > 0.99
        assert np.linalg.norm(other) == pytest.approx(np.linalg.norm(waves[0]), rel=0.1)


def test_a_sine_keeps_its_height_and_its_loudness(tmp_path: Path) -> None:
    times = np.arange(44100 * 2) / 44100
    for channels, hertz in ((1, 440.0), (2, 3000.0), (6, 1234.5)):
        sine = 0.8 * np.sin(2 * np.pi * hertz * times).astype(np.float32)
        path = write_float_wav(tmp_path / "a.wav", np.repeat(sine[:, None], channels, 1), 44100)
        ((unit, samples),) = open_audio(path, AudioSpec(48000, 2.0, 2.0)).units
        assert (unit.end_seconds, unit.padding_seconds) == (2.0, 0.0)
        expected = 0.8 * np.sin(2 * np.pi * hertz * np.arange(96000) / 48000)
        np.testing.assert_allclose(samples[200:-200], expected[200:-200], atol=2e-3)


# --- gaps, changes, breaks ----------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_gaps_are_silence_in_place_and_overlaps_are_cut(tmp_path: Path, speed: float) -> None:
    """Packets of 0.1 s with time stamps that leave room, or not enough; after 3 s, a long gap."""
    path, plan = tmp_path / "a.mkv", SoundPlan(rate=8000)
    samples = (beeping(plan) * 32767).astype(np.int16)[None]
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        for begin in range(0, samples.shape[1], 800):
            frame = av.AudioFrame.from_ndarray(samples[:, begin : begin + 800], "s16", "mono")
            frame.sample_rate = 8000
            frame.pts = round(begin * speed) + (80000 if begin >= 24000 else 0)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    expected = [beep * speed + (10 if beep > 3 else 0) for beep in BEEPS]
    assert heard(path) == near(expected, 0.003 if speed == 1 else 0.03)


def test_nothing_is_lost_beside_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        for begin in (0, 16000):  # two seconds of sound with one of silence between them
            frame = av.AudioFrame.from_ndarray(np.full((1, 8000), 16384, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 8000, begin
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    ((unit, samples),) = open_audio(path, AudioSpec(RATE, 4.0, 4.0)).units
    assert unit.end_seconds == pytest.approx(3.0, abs=1e-3)
    loud = np.flatnonzero(samples > 0.25)
    expected = np.concatenate([np.arange(0, RATE), np.arange(2 * RATE, 3 * RATE)])
    assert len(np.setxor1d(loud, expected)) <= 4


def test_sound_that_changes_its_shape_goes_on(tmp_path: Path) -> None:
    plans = (SoundPlan("libmp3lame", 44100), SoundPlan("libmp3lame", 22050, "stereo"))
    path = tmp_path / "a.mp3"
    parts = [
        write_beeps(tmp_path / f"{i}.mp3", plan, write_xing="0", id3v2_version="0")
        for i, plan in enumerate(plans)
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    times = heard(path)
    assert times[:3] == near(BEEPS, 0.06)
    assert times[3:] == near([beep + 4.0 for beep in BEEPS], 0.15)


def test_time_stamps_that_start_anew_go_on(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    part = write_beeps(tmp_path / "part.ts", SoundPlan("aac")).read_bytes()
    path.write_bytes(part + part)
    sound = open_sound_track(path, SHORT)
    assert sound is not None
    twice = [*BEEPS, *(beep + 4.0 for beep in BEEPS)]
    assert onsets(sound, RATE) == near(twice, 0.1)


def test_cover_pictures_do_not_disturb(tmp_path: Path) -> None:
    path = write_beeps(tmp_path / "a.mp3", SoundPlan("libmp3lame"))
    image = tmp_path / "cover.png"
    write_cover(image)
    data = image.read_bytes()
    body = b"\0image/png\0\x03\0" + data
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = len(frame)
    sizes = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    sound = path.read_bytes()
    tag = sum(byte << shift for byte, shift in zip(sound[6:10], (21, 14, 7, 0), strict=True))
    path.write_bytes(b"ID3\x03\0\0" + sizes + frame + sound[10 + tag :])
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    assert heard(path) == near(BEEPS)


def write_cover(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32), "red").save(path)


# --- what is not sound, or damaged --------------------------------------------------------------


def test_files_without_sound(tmp_path: Path) -> None:
    for name, data in (("a.mp3", os.urandom(20000)), ("b.wav", b"RIFF"), ("c.ogg", b"<html>" * 99)):
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name)
    with wave.open(str(tmp_path / "zero.wav"), "wb") as file:
        file.setparams((1, 2, 44100, 0, "NONE", ""))
    assert refused(tmp_path / "zero.wav") == "holds no sound"
    (tmp_path / "empty.wav").touch()
    assert refused(tmp_path / "empty.wav") == "file is empty"
    assert refused(tmp_path) == "is a directory"
    playlist = tmp_path / "list.mp3"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n")
    refused(playlist)


def test_videos_with_and_without_sound(tmp_path: Path) -> None:
    assert open_sound_track(write_video(tmp_path / "a.mp4"), SHORT) is None
    sound_only = write_beeps(tmp_path / "b.mp4", SoundPlan("aac"))
    with pytest.raises(NoPictureError, match="no video stream"):
        open_media(sound_only, ReadSpec(64))
    sound = open_sound_track(sound_only, SHORT)
    assert sound is not None
    assert onsets(sound, RATE) == near(BEEPS)


def test_all_silence_has_no_units(tmp_path: Path) -> None:
    sound = open_audio(write_beeps(tmp_path / "a.flac", SoundPlan("flac", beeps=())), SHORT)
    assert sound.info.duration_seconds == 4.0
    assert list(sound.units) == []


def test_silent_windows_are_passed_over(tmp_path: Path) -> None:
    path = write_beeps(tmp_path / "a.wav", SoundPlan(seconds=30, beeps=(12.3, 29.9)))
    units = open_audio(path, AudioSpec(RATE)).units
    assert [(unit.start_seconds, unit.end_seconds) for unit, _ in units] == [
        (5.0, 15.0),
        (10.0, 20.0),
        (20.0, 30.0),
    ]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp3", "libmp3lame"), ("a.wav", "pcm_s16le"), ("a.flac", "flac"), ("a.mka", "libopus")],
)
def test_a_file_that_breaks_off_is_damaged(tmp_path: Path, name: str, codec: str) -> None:
    plan = SoundPlan(codec, 48000, seconds=8, beeps=tuple(np.arange(0, 8, 0.25)))
    path = write_beeps(tmp_path / name, plan)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    assert refused(path).startswith("damaged: decoded 4.")
    path.write_bytes(data[: len(data) * 95 // 100])  # the end of a file is often missing
    assert len(list(open_audio(path, SHORT).units)) >= 6


@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.m4a", "a.opus", "a.wv", "a.mka"])
def test_damage_is_reported_or_read_never_a_crash(tmp_path: Path, name: str) -> None:
    codec = {"mp3": "libmp3lame", "flac": "flac", "m4a": "aac", "wv": "wavpack"}
    plan = SoundPlan(codec.get(name[2:], "libopus"), 48000)
    data = write_beeps(tmp_path / name, plan).read_bytes()
    random = np.random.default_rng(3)
    for share in (0.0005, 0.01, 0.2):
        noisy = np.frombuffer(data, np.uint8).copy()
        places = random.integers(0, len(data), max(1, int(share * len(data))))
        noisy[places] = random.integers(0, 256, len(places))
        (tmp_path / name).write_bytes(noisy.tobytes())
        try:
            for unit, samples in open_audio(tmp_path / name, SHORT).units:
                assert samples.shape == (2 * RATE,)
                assert np.isfinite(samples).all()
                assert 0 <= (unit.start_seconds or 0) < 100
        except MediaError:
            pass  # reported


@pytest.mark.parametrize("size", [0, 0x7FFFF024, 0xFFFFFFFF])
def test_a_wav_whose_size_was_never_written_is_whole(tmp_path: Path, size: int) -> None:
    path = write_beeps(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[4:8] = data[place : place + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    assert heard(path) == near(BEEPS)


def test_samples_that_are_no_numbers_are_silence(tmp_path: Path) -> None:
    samples = np.full((8000, 1), 0.25, np.float32)
    samples[1000:1010], samples[3000], samples[5000] = np.nan, np.inf, 1e30
    ((_, heard_samples),) = open_audio(
        write_float_wav(tmp_path / "a.wav", samples, 8000), AudioSpec(8000, 1.0, 1.0)
    ).units
    assert np.flatnonzero(heard_samples != 0.25).tolist() == [*range(1000, 1010), 3000, 5000]
    assert not heard_samples[[1000, 3000, 5000]].any()


@pytest.mark.parametrize(("rate", "channels"), [(1, 1), (4_000_000_000, 1), (8000, 300)])
def test_absurd_headers_are_refused(tmp_path: Path, rate: int, channels: int) -> None:
    refused(write_float_wav(tmp_path / "a.wav", np.full((4000, channels), 0.5, "f4"), rate))


def test_any_number_of_channels_that_can_be_mixed(tmp_path: Path) -> None:
    for channels in (1, 3, 5, 9, 16, 24):
        samples: NDArray[np.float32] = np.full((16000, channels), 0.5, np.float32)
        path = write_float_wav(tmp_path / "a.wav", samples, 8000)
        ((_, one),) = open_audio(path, AudioSpec(8000, 2.0, 2.0)).units
        np.testing.assert_allclose(one, 0.5, atol=1e-4)


# --- machine ------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
from collections.abc import Iterator
from pathlib import Path
from clipsearch.media import AudioSpec, open_audio
for name in sys.argv[1:]:
    for _ in open_audio(Path(name), AudioSpec(16000)).units: pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-9000, 9000, 16000 * 20, "<i2").tobytes()
    paths = []
    for seconds in (20, 300):
        paths.append(str(tmp_path / f"{seconds}.wav"))
        with wave.open(paths[-1], "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            for _ in range(seconds // 20):
                file.writeframes(noise)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True
    )
    short, long = (int(line) / 1024 for line in run.stdout.split())
    assert long - short < 6  # MiB; decoded at once it would be 17 more


def test_the_package_loads_no_library() -> None:
    code = "import sys, clipsearch.media as m; m.AudioSpec(1); m.subtitle_stems('a.srt');"
    code += "assert not {'av', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_are_one_tree() -> None:
    assert issubclass(NoPictureError, MediaError)
    assert issubclass(NoPictureError, ClipsearchError)


class LateStream:
    """A container that meets packets of a stream that its header does not list."""

    def __init__(self) -> None:
        self.packets = iter([1, 2, None, 3, None, None, 4])

    def demux(self, *streams: object) -> Iterator[int]:
        for packet in self.packets:
            if packet is None:
                raise IndexError("list index out of range")
            yield packet


def test_streams_that_begin_in_mid_file_are_passed_over() -> None:
    assert list(packets_of(LateStream())) == [1, 2, 3, 4]  # type: ignore[arg-type, comparison-overlap]


def test_a_reader_of_pictures_does_not_take_sound(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'a\.mp3' is of kind audio: use one of image, video"):
        open_media(tmp_path / "a.mp3", ReadSpec(64))


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mp4"])
def test_a_track_that_begins_late_and_ends_early_is_whole(tmp_path: Path, name: str) -> None:
    """Interleaved, so that FFmpeg meets no sound while it probes and takes the file's length."""
    path, rate = tmp_path / name, 44100
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=5)
        video.width, video.height, video.pix_fmt = 640, 480, "yuv420p"
        video.bit_rate = 8_000_000
        sound = output.add_stream("aac", rate=rate, layout="mono")
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, 9 * number, axis=0), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 5)
            output.mux(video.encode(frame))
            if 40 <= number < 55:
                tone = np.sin(np.arange(rate // 5) * 0.3).astype(np.float32)[None] / 2
                part = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                part.sample_rate, part.pts = rate, number * (rate // 5)
                part.time_base = Fraction(1, rate)
                output.mux(sound.encode(part))
        output.mux(video.encode())
        output.mux(sound.encode())
    track = open_sound_track(path, AudioSpec(16000, 2.0, 1.0))
    assert track is not None
    times = [unit.start_seconds for unit, _ in track.units]
    assert times[0] == pytest.approx(7.0, abs=1.0)
    assert times[-1] == pytest.approx(10.0, abs=1.0)
