"""Scripts in and out: against the srt package and FFmpeg, and what files in the wild look like."""

from __future__ import annotations

import csv
import io
import json
import random
import time
from pathlib import Path

import av
import numpy as np
import pytest
import srt

from clipsearch.errors import UsageError
from clipsearch.interfaces.console import escaped
from clipsearch.interfaces.scripts import SCRIPT_FORMATS, read_script
from clipsearch.types import Span

T = "00:00:01,000 --> 00:00:02,500"
GOOD = f"1\n{T}\nhello\n\n2\n{T}\nworld\n"


def span(start: float, end: float) -> Span:
    return Span(start, end, 12.3456789, 0.25, 0.123456789, (3, 8))


def read(folder: Path, content: str | bytes, name: str = "s.srt") -> list[str]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_script(path)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["s.txt", "s", "s.md"])
def test_text_of_every_system_is_one_line_each(
    name: str, codec: str, ending: str, tmp_path: Path
) -> None:
    text = ending.join(["a cat", "", "  日本語 🐈  ", "\t", "a --> b", "1", "1"])
    assert read(tmp_path, text.encode(codec), name) == ["a cat", "日本語 🐈", "a --> b", "1", "1"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_subtitles_of_every_system(codec: str, ending: str, tmp_path: Path) -> None:
    content = f"1\n{T}\nhello\nthere\n\n2\n{T}\n世界\n".replace("\n", ending)
    assert read(tmp_path, content.encode(codec)) == ["hello there", "世界"]
    assert read(tmp_path, content.encode(codec), "S.SRT") == ["hello there", "世界"]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (GOOD, ["hello", "world"]),
        (f"7\n{T}\nhello\n\n3\n{T}\nworld", ["hello", "world"]),
        (f"{T}\nhello\n\n{T}\nworld", ["hello", "world"]),
        (f"1\n{T}\nhello\n2\n{T}\nworld", ["hello", "world"]),
        (f"{T}\nhello\n{T}\nworld", ["hello", "world"]),
        (f"\n\n 1 \n {T} \n\nhello\n   \n\n\n-2.0\n{T}\nworld\n\n\n", ["hello", "world"]),
        (f"1\n{T}\nhello\n\nagain\n\n2\n{T}\nworld\n", ["hello again", "world"]),
        (f"1\n{T}\n\n2\n{T}\nworld\n\n{T}\n\n{T}\nend", ["world", "end"]),
        (f"1\n{T}\n3\n\n2\n{T}\n2\n1\n\n3\n{T}\ngo", ["3", "2 1", "go"]),
        (f"1\n{T}\n42\n\n{T}\nworld\n", ["42", "world"]),
        (f"1\n{T} X1:40 X2:600 Y1:20 Y2:50\nhello", ["hello"]),
        ("1\n0:0:1.5 --> 00:00:02\nhello", ["hello"]),
        ("1\n00:00:01,000-->00:00:01,000\nhello", ["hello"]),
        ("1\n00:00:01,000 -- > 00:00:02,000\nhello", ["hello"]),
        ("1\n00:59,000 --> 1:00:00,000\nhello", ["hello"]),
        (f"1\n{T}\n{{\\an8}}<i>he</i><B>llo</B><br/>\n<font color='#f00'\nface=x>you</font>", None),
        (
            f"1\n{T}\n<3 if a<b> and 1 < 2 > 0, {{so}} &amp; on",
            ["<3 if a and 1 < 2 > 0, {so} &amp; on"],
        ),
        (f"\ufeff1\n{T}\nhello\n\n\ufeff2\n{T}\nworld", ["hello", "world"]),
    ],
)
def test_subtitles_as_found_in_the_wild(
    content: str, texts: list[str] | None, tmp_path: Path
) -> None:
    assert read(tmp_path, content) == (texts or ["hello you"])


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ("hello\n", 1, "'hello' without the times"),
        (f"\nhello\n1\n{T}\nx", 2, "'hello' without the times"),
        (f"1\n{T}\nx\n\n2\n00:00:0x,000 --> 00:00:02,000\ny", 6, "'00:00:0x,000 --"),
        (f"1\n{T}\nx\n\n2\n00:00:01,000 -> 00:00:02,000\ny", 6, "-> 00:00:02,000' is no 00:"),
        (f"1\n{T}\nx\n\n2\n00:00:01,000\ny", 6, "is no 00:00:01,000 -->"),
        (f"1\n{T}\nx\n\n2\n--> 00:00:01,000\ny", 6, "is no 00:00:01,000 -->"),
        (f"1\n{T}\nx\n\n2\ny\n\n3\n{T}\nz", 5, "'2' without the times"),
        (f"1\n{T}\nx\n\n2\n\n3\n{T}\nz", 5, "'2' without the times"),
        (f"1\n{T}\nx\n\n2\n", 5, "'2' without the times"),
        (f"1\r\n{T}\r\nx\r\n\r\n2\r\n00:00:02,000 --> 00:00:01,999\r\ny", 6, "ends before it st"),
        ("1\n1:00:00,000 --> 59:59,999\ny", 2, "ends before it starts"),
        ("1\n99999:00:00,000 --> 99999:00:01,000\ny", 2, "is no 00:00"),
        (f"1\n{T}\n" + "x" * 99 + " --> y", 3, "x…' is no"),
    ],
)
def test_malformed_subtitles_name_the_line(
    content: str, line: int, what: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path, content)
    assert f"s.srt, line {line}: " in str(error.value)
    assert what in str(error.value)


@pytest.mark.parametrize(
    ("data", "name", "what"),
    [
        (b"good\r\nb\xe4d\n", "s.txt", r"s\.txt, line 2: byte 8 is not UTF-8: save it as UTF-8"),
        (b"\xef\xbb\xbfgood\rb\xe4d", "s.srt", r"s\.srt, line 2: byte 10 is not UTF-8"),
        ("a\nb".encode("utf-16") + b"!", "s.txt", r"s\.txt, line 2: byte 9 is not UTF-16-LE"),
        ("a\nb".encode("utf-16-le"), "s.txt", r"s\.txt, line 1: a zero byte.*save it as UTF-8"),
        (b"", "s.txt", r"s\.txt has no lines of text"),
        (b" \n\t\r\n\xef\xbb\xbf", "s.txt", r"s\.txt has no lines of text"),
        (b"", "s.srt", r"s\.srt has no lines of text"),
        (f"1\n{T}\n<i></i>\n".encode(), "s.srt", r"s\.srt has no lines of text"),
        (b"", "s.vtt", r"s\.vtt, line 1: a \.vtt starts with WEBVTT, not ''"),
        (b"WEBVTT\n", "s.vtt", r"s\.vtt has no lines of text"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, name: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=what):
        read(tmp_path, data, name)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            read_script(path)
    monkeypatch.setattr("clipsearch.interfaces.scripts.MAX_BYTES", 9)
    assert read(tmp_path, "123456789", "s.txt") == ["123456789"]
    with pytest.raises(UsageError, match="larger than"):
        read(tmp_path, "1234567890", "s.txt")


VTT = """\ufeffWEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE 1 --> 2 is no cue
nor is this

REGION
id:fred

intro
00:01.000 --> 00:02.500 align:start position:0%
<v.loud Mary>Hello <00:01.500><c.x>there</c>
1 &lt; 2 &amp;&nbsp;3

00:00:03.000 --> 00:00:04.000
plain

NOTE

00:00:05.000 --> 00:00:06.000

9
00:00:05.000 --> 00:00:06.000
7
NOTE this is text
"""


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_webvtt(ending: str, tmp_path: Path) -> None:
    texts = read(tmp_path, VTT.replace("\n", ending), "s.vtt")
    assert texts == ["Hello there 1 < 2 & 3", "plain", "7 NOTE this is text"]
    assert read(tmp_path, "WEBVTT\n00:01.000 --> 00:02.000\nx", "s.vtt") == ["x"]


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (f"1\n{T}\nx\n", 1, "starts with WEBVTT, not '1'"),
        ("WEBVTTX\n\n00:01.000 --> 00:02.000\nx", 1, "starts with WEBVTT"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nx\n\ny", 6, "'y' without the times"),
        ("WEBVTT\n\nname\n\n00:01.000 --> 00:02.000\nx", 3, "'name' without the times"),
        ("WEBVTT\n\n00:01.000 -> 00:02.000\nx", 3, "without the times"),
        ("WEBVTT\n\n00:01.000 --> 00:02.0x0\nx", 3, "is no 00:00"),
        ("WEBVTT\n\n00:02.000 --> 00:01.000\nx", 3, "ends before it starts"),
    ],
)
def test_malformed_webvtt_names_the_line(
    content: str, line: int, what: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path, content, "s.vtt")
    assert f"s.vtt, line {line}: " in str(error.value)
    assert what in str(error.value)


ODD = ["a cat", "a  b\n\n c\r\nd", "1", "-->", "a --> b", T, "00:00:01,000 - > 00:00:02,000"]
ODD += ["----> x", "- - -->", "<i>not</i> &amp; markup", "{\\an8}", "日本語 🐈", "NOTE x", "WEBVTT"]
ODD += ["\u2028\x85\x1c tail", "\x1b[31m\x00", "\udce9", "a\\b\tc", "", "1 < 2 > 0 & 3", "2\n" + T]


def odd_lines(seed: int) -> list[tuple[str, Span | None]]:
    rng = random.Random(seed)
    starts = np.cumsum([rng.choice([0.0004, 0.5, 61.0005, 3599.9996, 90000.0]) for _ in range(30)])
    return [
        (
            rng.choice(ODD) + rng.choice(["", " ", "\n"]) + rng.choice(ODD),
            span(start, start + rng.choice([0.0, 0.0001, 1.25, 100.0]))
            if rng.random() < 0.7
            else None,
        )
        for start in starts.tolist()
    ]


def one_line(text: str) -> str:
    text = " ".join(text.split())
    return "".join("\ufffd" if c in "\x00\x1b\udce9" else c for c in text)


@pytest.mark.parametrize("seed", range(20))
def test_srt_is_what_the_srt_package_reads(seed: int) -> None:
    lines = odd_lines(seed)
    placed = [(one_line(text), s) for text, s in lines if s is not None]
    text = SCRIPT_FORMATS["srt"](lines)
    cues = list(srt.parse(text))
    assert [cue.index for cue in cues] == list(range(1, len(placed) + 1))
    for cue, (words, place) in zip(cues, placed, strict=True):
        assert abs(cue.start.total_seconds() - place.start) <= 0.0005001
        assert abs(cue.end.total_seconds() - place.end) <= 0.0015001
        assert cue.start < cue.end
        if ">" not in words:
            assert cue.content.strip() == words
        else:
            assert cue.content.replace("-", "").replace(" ", "") == words.replace("-", "").replace(
                " ", ""
            )
    assert srt.compose(cues, reindex=False) == text


@pytest.mark.parametrize("seed", range(20))
def test_our_srt_comes_back_as_the_srt_package_reads_it(seed: int, tmp_path: Path) -> None:
    lines = [line for line in odd_lines(seed) if not {"<", "{"} & set(line[0])]
    text = SCRIPT_FORMATS["srt"](lines)
    expected = [cue.content.strip() for cue in srt.parse(text) if cue.content.strip()]
    assert read(tmp_path, text) == expected


@pytest.mark.parametrize("seed", range(20))
def test_vtt_comes_back_word_for_word(seed: int, tmp_path: Path) -> None:
    lines = odd_lines(seed)
    wanted = [one_line(text) for text, s in lines if s is not None]
    text = SCRIPT_FORMATS["vtt"](lines)
    assert read(tmp_path, text, "s.vtt") == [words for words in wanted if words]
    assert text.count("-->") == len(wanted)


@pytest.mark.parametrize("seed", range(20))
def test_srt_is_read_as_the_srt_package_reads_it(seed: int, tmp_path: Path) -> None:
    """Files as srt.compose makes them, with any numbers, orders and texts of several lines."""
    rng = random.Random(seed)
    words = ["a", "cat", "1984", "x: y", "“No.”", "日本", "2", "-", "0:30"]
    cues = [
        srt.Subtitle(
            rng.choice([0, 7, i]),
            srt.timedelta(milliseconds=rng.randrange(10**7)),
            srt.timedelta(milliseconds=10**7 + rng.randrange(10**9)),
            "\n".join(" ".join(rng.choices(words, k=3)) for _ in range(rng.randrange(1, 4))),
        )
        for i in range(20)
    ]
    text = srt.compose(cues, reindex=False, eol=rng.choice(["\n", "\r\n"]))
    expected = [" ".join(cue.content.split()) for cue in srt.parse(text)]
    assert read(tmp_path, text) == expected


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_ffmpeg_finds_the_same_cues(name: str, tmp_path: Path) -> None:
    lines = [("a cat", span(0, 1.5)), ("left out", None), ("x --> & y", span(61.25, 3661.007))]
    path = tmp_path / f"s.{name}"
    path.write_text(SCRIPT_FORMATS[name](lines))
    with av.open(path) as file:
        packets = [packet for packet in file.demux() if packet.size]
    found = [
        (float(p.pts * p.time_base), float((p.pts + p.duration) * p.time_base), bytes(p).decode())
        for p in packets
    ]
    text = {"srt": "x -> & y", "vtt": "x --&gt; &amp; y"}[name]
    assert found == [(0, 1.5, "a cat"), (61.25, 3661.007, text)]


def test_srt_and_vtt_letter_by_letter() -> None:
    lines = [("a <b>", span(0, 1.25)), ("no", None), ("c", span(3599.9996, 360000.001))]
    assert SCRIPT_FORMATS["srt"](lines) == (
        "1\n00:00:00,000 --> 00:00:01,250\na <b>\n\n2\n01:00:00,000 --> 100:00:00,001\nc\n\n"
    )
    assert SCRIPT_FORMATS["vtt"](lines) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\na &lt;b&gt;\n"
        "\n01:00:00.000 --> 100:00:00.001\nc\n"
    )


def test_json_and_tsv_hold_every_line() -> None:
    lines = [("a\tcat\\", span(1.23456, 2)), ("nowhere\n", None)]
    placed = {"start": 1.235, "end": 2.0, "score": 12.345679, "similarity": 0.25}
    left_out = dict.fromkeys(("start", "end", "score", "similarity", "contrast"))
    assert json.loads(SCRIPT_FORMATS["json"](lines)) == [
        {"line": 0, "text": "a\tcat\\", **placed, "contrast": 0.123457},
        {"line": 1, "text": "nowhere\n", **left_out},
    ]
    assert SCRIPT_FORMATS["tsv"](lines) == (
        "line\tstart\tend\tscore\ttext\n0\t1.235\t2.000\t12.346\ta\\tcat\\\\\n1\t\t\t\tnowhere\\n\n"
    )
    rows = odd_lines(0)
    cells = csv.reader(
        io.StringIO(SCRIPT_FORMATS["tsv"](rows)), "excel-tab", quoting=csv.QUOTE_NONE
    )
    assert [row[4] for row in cells][1:] == [escaped(text) for text, _ in rows]


@pytest.mark.parametrize("name", SCRIPT_FORMATS)
def test_nothing_placed_is_still_a_file(name: str) -> None:
    none = {"srt": "", "vtt": "WEBVTT\n", "json": "[]\n", "tsv": ""}
    assert SCRIPT_FORMATS[name]([]) == none[name]
    assert bool(SCRIPT_FORMATS[name]([("x", None)])) == (name != "srt")


@pytest.mark.parametrize(
    "content",
    [
        "\n" * 300_000 + "x",
        f"1\n{T}\n" + "7\n" * 150_000,
        f"1\n{T}\n" + "<i " * 100_000,
        f"1\n{T}\n" + "7" * 300_000 + "\nx",
        f"1\n{T}\n" + "- " * 150_000,
        f"1\n{T}\nx\n\n" * 20_000,
    ],
)
def test_reading_takes_no_quadratic_time(content: str, tmp_path: Path) -> None:
    began = time.process_time()
    for name in ("s.srt", "s.vtt"):
        try:
            read(tmp_path, "WEBVTT\n\n" * (name == "s.vtt") + content, name)
        except UsageError:
            continue
    assert time.process_time() - began < 2
