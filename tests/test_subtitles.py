import datetime
import os
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import srt
from av.subtitles.subtitle import SubtitleSet

from clipsearch.errors import MediaError
from clipsearch.media import embedded_subtitles, open_subtitles, subtitle_stems
from clipsearch.media.subtitles import MAX_BYTES, plain_text
from clipsearch.types import Unit
from tests.media_files import HEIGHT, WIDTH, numbered, write_video

Said = tuple[float | None, float | None, str | None]


def said(units: object) -> list[Said]:
    found = []
    for unit in units:  # type: ignore[attr-defined]
        assert isinstance(unit, Unit)
        assert unit.kind == "text"
        found.append((unit.start_seconds, unit.end_seconds, unit.text))
    return found


def read(path: Path, data: bytes | str, encoding: str = "utf-8") -> list[Said]:
    path.write_bytes(data if isinstance(data, bytes) else data.encode(encoding))
    return said(open_subtitles(path))


def composed(count: int) -> list[srt.Subtitle]:
    random = np.random.default_rng(count)
    starts = np.sort(random.integers(0, 6_000_000, count))
    return [
        srt.Subtitle(
            number,
            datetime.timedelta(milliseconds=int(start)),
            datetime.timedelta(milliseconds=int(start + random.integers(1, 9000))),
            f"line {number}\n- Überfall, «там» 字幕 {start}",
        )
        for number, start in enumerate(starts, 1)
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_srt_as_another_library_writes_it(tmp_path: Path, encoding: str, line_end: str) -> None:
    lines = composed(40)
    text = srt.compose(lines).replace("\n", line_end)
    expected = [
        (line.start.total_seconds(), line.end.total_seconds(), line.content.replace("\n", " "))
        for line in lines
    ]
    found = read(tmp_path / "a.srt", text, encoding)
    assert [text for _, _, text in found] == [text for _, _, text in expected]
    np.testing.assert_allclose([f[:2] for f in found], [e[:2] for e in expected], atol=1e-9)


def test_big_endian_and_western_bytes(tmp_path: Path) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nCafé “naïve” €\n"
    big = b"\xfe\xff" + text.encode("utf-16-be")
    for data in (big, text.encode("cp1252")):
        assert read(tmp_path / "a.srt", data) == [(1.0, 2.0, "Café “naïve” €")]
    latin = "1\n00:00:01,000 --> 00:00:02,000\nÀ bientôt, garçon\n".encode("latin-1")
    assert read(tmp_path / "a.srt", latin) == [(1.0, 2.0, "À bientôt, garçon")]


def test_a_damaged_byte_does_not_change_the_others(tmp_path: Path) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nKapitän Ahab fährt übers Meer\n"
    data = text.encode().replace(b"Ahab", b"Ah\xffb")
    (tmp_path / "a.srt").write_bytes(data)
    [unit] = open_subtitles(tmp_path / "a.srt")
    assert unit.text == "Kapitän Ah\ufffdb fährt übers Meer"


def test_webvtt_agrees_with_ffmpeg(tmp_path: Path) -> None:
    text = """WEBVTT - about
Kind: captions

STYLE
::cue { color: red }

NOTE a comment
of two lines

first
00:01.000 --> 00:02.500 align:start position:10%
<v Bob>Hi <c.loud>there</c> &amp; <00:00:01.500>you

01:00:05.000 --> 01:00:06.000
plain
- two
"""
    path = tmp_path / "a.vtt"
    found = read(path, text)
    assert found == [(1.0, 2.5, "Hi there & you"), (3605.0, 3606.0, "plain - two")]
    with av.open(str(path)) as container:
        theirs = [
            (packet.pts / 1000, (packet.pts + packet.duration) / 1000)
            for packet in container.demux()
            if packet.size
        ]
    assert [times for *times, _ in found] == [list(times) for times in theirs]


def test_cues_as_people_write_them(tmp_path: Path) -> None:
    text = """
00:00:05,000 --> 00:00:06,000
no number

3
00:00:03.5 --> 00:00:09,25  X1:117 X2:200
overlaps
4
00:00:08,000 --> 00:00:07,000
reversed

5
-00:00:01,000 --> 00:00:02,000
negative

6
00:00:10,000 --> 00:00:11,000

7
00:00:12,000 --> 00:00:12,000
no time at all

8
0:0:13,0 -> 00:00:14
short
\t
9
00:00:01,000 --> 00:00:02,000
   first   in
time
"""
    assert read(tmp_path / "a.srt", text) == [
        (1.0, 2.0, "first in time"),
        (3.5, 9.25, "overlaps"),
        (5.0, 6.0, "no number"),
        (13.0, 14.0, "short"),
    ]


def test_the_same_text_that_goes_on_is_one(tmp_path: Path) -> None:
    def cue(start: float, end: float, text: str) -> str:
        return f"00:00:{start:06.3f} --> 00:00:{end:06.3f}\n{text}\n\n"

    text = cue(1, 2, "a") + cue(2, 3, "<i>a</i>") + cue(2.5, 2.7, "a") + cue(3.04, 4, "a")
    text += cue(5, 6, "a") + cue(6, 7, "b") + cue(7, 8, "a")
    assert read(tmp_path / "a.srt", text) == [
        (1.0, 4.0, "a"),
        (5.0, 6.0, "a"),
        (6.0, 7.0, "b"),
        (7.0, 8.0, "a"),
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("<i>a</i> <font color='red'>b</font>", "a b"),
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
        ("I <3 you &lt;b&gt; &amp; &#39;x&#39;&nbsp;y", "I <3 you <b> & 'x' y"),
        (r"{\an8}up {\pos(1,2)\b1}there{\b0}\Nnext\hword", "up there next word"),
        (r"{\p1}m 0 0 l 100 0{\p0} sign", "sign"),
        (r"{\p1}m 0 0 l 100 0 100 100", ""),
        ("{ brace } stays", "{ brace } stays"),
        ("\u202bשל\u202c \ufeff\x00\x07x\n\ty", "של x y"),
        ("&#xD800; half", "\ufffd half"),
        ("♪ la la ♪", "♪ la la ♪"),
        ("a" * 1500, "a" * 1500),
    ],
)
def test_plain_text(written: str, meant: str) -> None:
    assert plain_text(written) == meant


def test_files_without_cues_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    cases = [b"hello\nworld\n", b"\xff\xfe", os.urandom(5000), b"1\n00:00:01,000 --> 00:00:02,0\n"]
    for data in cases:
        with pytest.raises(MediaError, match="holds no subtitles"):
            read(path, data)
    with pytest.raises(MediaError, match="file is empty"):
        read(path, b"")
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(MediaError, match="larger than 64 MiB"):
        open_subtitles(path)


def test_damaged_files_are_read_or_reported(tmp_path: Path) -> None:
    data = srt.compose(composed(30)).encode()
    random = np.random.default_rng(1)
    for _ in range(30):
        noisy = np.frombuffer(data, np.uint8)[: random.integers(1, len(data))].copy()
        places = random.integers(0, len(noisy), 1 + len(noisy) // 20)
        noisy[places] = random.integers(0, 256, len(places))
        try:
            found = read(tmp_path / "a.srt", noisy.tobytes())
        except MediaError:
            continue
        assert all(start < end and text for start, end, text in found)  # type: ignore[operator]
        assert found == sorted(found, key=lambda cue: cue[0] or 0)


def test_fifty_thousand_cues(tmp_path: Path) -> None:
    text = "".join(
        f"{i}\n{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02},000 --> "
        f"{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02},900\nline {i}\n\n"
        for i in range(50_000)
    )
    begin = time.process_time()
    found = read(tmp_path / "a.srt", text)
    assert time.process_time() - begin < 5
    assert len(found) == 50_000
    assert found[49_999] == (49999.0, 49999.9, "line 49999")


@pytest.mark.parametrize("part", ["<{\\p1}&", "{\\p1", "\\p1", "<a", " ", "-> ", "1:"])
def test_a_line_of_megabytes_takes_no_time(tmp_path: Path, part: str) -> None:
    long = part * (1 << 18)
    begin = time.process_time()
    read(tmp_path / "a.srt", f"{long}\n00:00:01,000 --> 00:00:02,000\nword {long} end\n")
    assert time.process_time() - begin < 5


# --- inside videos ------------------------------------------------------------------------------

CUES = ((1.0, 2.5, "Hello <i>world</i>"), (3.25, 4.0, "two\nlines"), (4.5, 5.0, "5 of 6"))


def write_film(path: Path, codecs: tuple[str, ...], first_ms: int = 0) -> Path:
    """A video with streams of CUES; those of stream s are s seconds later."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        streams = [output.add_stream(codec) for codec in codecs]
        for stream in streams:
            stream.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n"
            stream.codec_context.time_base = Fraction(1, 1000)
            stream.codec_context.open(strict=False)
        for number in range(200):
            frame = av.VideoFrame.from_ndarray(numbered(number), "rgb24")
            frame.pts, frame.time_base = number + first_ms // 40, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode())
        for order, (start, end, text) in enumerate(CUES):
            for late, stream in enumerate(streams):
                output.mux(_packet(stream, order, (start + late, end + late), text))
    return path


def _packet(stream, order: int, times: tuple[float, float], text: str):  # type: ignore[no-untyped-def]
    ass = text.replace("<i>", r"{\i1}").replace("</i>", r"{\i0}").replace("\n", r"\N")
    start, end = (round(1000 * seconds) for seconds in times)
    line = SubtitleSet.create(f"{order},0,Default,,0,0,0,,{ass}".encode(), 0, end - start, start)
    packet = stream.codec_context.encode_subtitle(line)
    packet.stream = stream
    packet.time_base = Fraction(1, 1000)
    packet.pts = packet.dts = start
    packet.duration = end - start
    return packet


@pytest.mark.parametrize(
    ("name", "codecs"),
    [
        ("a.mp4", ("mov_text",)),
        ("a.mkv", ("subrip",)),
        ("a.mkv", ("ass", "subrip")),
        ("a.mkv", ("webvtt",)),
    ],
)
@pytest.mark.parametrize("first_ms", [0, 1200])
def test_streams_of_text_inside_videos(
    tmp_path: Path, name: str, codecs: tuple[str, ...], first_ms: int
) -> None:
    path = write_film(tmp_path / name, codecs, first_ms)
    with av.open(str(path)) as container:
        origin = (container.start_time or 0) / 1e6
    found = said(embedded_subtitles(path))
    texts = ["Hello world", "two lines", "5 of 6"] * len(codecs)
    assert [text for _, _, text in found] == texts
    expected = [
        (max(0.0, start + late - origin), end + late - origin)
        for late in range(len(codecs))
        for start, end, _ in CUES
    ]
    np.testing.assert_allclose([cue[:2] for cue in found], expected, atol=2e-3)


def test_videos_without_subtitles_and_no_videos(tmp_path: Path) -> None:
    assert list(embedded_subtitles(write_video(tmp_path / "a.mp4"))) == []
    for name, data in (("b.mp4", b"no video"), ("c.mkv", os.urandom(3000))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError, match="not a video"):
            embedded_subtitles(tmp_path / name)


def test_a_video_that_breaks_off_keeps_the_cues_before(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", ("subrip",))
    data = path.read_bytes()
    for share in (0.3, 0.7, 0.97):
        path.write_bytes(data[: int(len(data) * share)])
        found = said(embedded_subtitles(path))
        texts = ["Hello world", "two lines", "5 of 6"]
        assert [text for _, _, text in found] == texts[: len(found)]


# --- whose they are -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stems"),
    [
        ("a/film.srt", ("a/film",)),
        ("a/film.en.srt", ("a/film.en", "a/film")),
        ("film.pt-BR.forced.vtt", ("film.pt-BR.forced", "film.pt-BR", "film")),
        ("film.mp4.srt", ("film.mp4", "film")),
        ("a.en/film.srt", ("a.en/film",)),
        ("my.great.movie.srt", ("my.great.movie",)),
        ("a/.en.srt", ("a/.en",)),
    ],
)
def test_the_media_that_subtitles_may_belong_to(name: str, stems: tuple[str, ...]) -> None:
    assert subtitle_stems(name) == stems
