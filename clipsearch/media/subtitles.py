"""Subtitles as units of text: .srt and .vtt files, and the text streams inside videos.

Files are read here, by their lines of times: FFmpeg takes the minus of a time for a dash and
stretches cues whose times are reversed. Streams are read by FFmpeg, through PyAV.
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.subtitles.stream import SubtitleStream

from clipsearch.errors import MediaError
from clipsearch.media.files import check_readable, media_error
from clipsearch.media.timeline import CONTAINER_TICK, packets_of
from clipsearch.media.video import open_container
from clipsearch.types import Unit

MAX_BYTES = 64 << 20
DAMAGED_SHARE = 4  # of the characters beyond ASCII so many to one that is no UTF-8: it is damaged
LONGEST_TIMES = 200  # characters of a line of times that are looked at
TOUCH_SECONDS = 0.05  # the same text again after so short a pause is one cue, as when lines roll
# Codecs of text; streams of pictures of text have others.
TEXT_CODECS = frozenset(
    {"ass", "ssa", "subrip", "srt", "mov_text", "webvtt", "text", "ttml", "sami", "microdvd"}
)

# The longer marks first: that of UTF-16 begins that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TIME = r"(-?)\s*(?:(\d{1,4})\s*:\s*)?(\d{1,2})\s*:\s*(\d{1,2})(?:\s*[.,:]\s*(\d{1,9}))?"
_TIMES = re.compile(rf"{_TIME}\s*-+\s*>\s*{_TIME}(?=\s|$)")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]*>|</>|<\d[\d:.]*>")
_ASS_BLOCK = re.compile(r"\{\\[^{}]*\}")
_ASS_DRAWING = re.compile(r"\\p(\d)")  # switches drawing on; 0: off
_ASS_BREAK = re.compile(r"\\[Nnh]")
# Control characters, and the marks that steer the direction of lines.
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ASS_FIELDS = 8  # before the text of a line: order, layer, style, name, three margins, effect


class _Cue(NamedTuple):
    start: float
    end: float
    text: str


def open_subtitles(path: Path) -> Iterator[Unit]:
    """The cues of a .srt or .vtt file in order of their start, those that overlap too.

    The encoding is the one its byte order mark names, else UTF-8, else Windows-1252. Cues whose
    times are negative, reversed or empty, and cues without text, are passed over. Raises
    MediaError here if the file cannot be read, is larger than MAX_BYTES or has no cue at all.
    """
    check_readable(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise media_error(error) from error
    if len(data) > MAX_BYTES:
        raise MediaError(f"larger than {MAX_BYTES >> 20} MiB: no subtitles are")
    cues = list(_units(_cues(_decoded(data))))
    if not cues:
        raise MediaError("holds no subtitles: no line of times with a text was found")
    return iter(cues)


def embedded_subtitles(path: Path) -> Iterator[Unit]:
    """The cues of all streams of text of a video: stream after stream, each in order of start.

    Times are on the clock of the video's frames. Streams of pictures are passed over, as are
    packets that cannot be decoded; where the file breaks off, so do the cues. Reads through the
    file once if there is such a stream. Raises MediaError here if it cannot be opened.
    """
    check_readable(path)
    with open_container(path) as container:
        streams = [stream for stream in container.streams.subtitles if _is_text(stream)]
        found = _streamed(container, streams) if streams else {}
    return (unit for stream in sorted(found) for unit in _units(found[stream]))


def plain_text(text: str) -> str:
    """What is read: without tags of HTML, WebVTT and ASS, entities resolved, in one line."""
    text = _ASS_BREAK.sub(" ", _without_blocks(text))
    text = html.unescape(_TAG.sub("", text))
    return " ".join(_SURROGATE.sub("\ufffd", _UNSEEN.sub("", text)).split())


def _without_blocks(text: str) -> str:
    """Without ASS's blocks of tags, and without the outlines that are drawn between them."""
    parts = []
    drawing, begin = False, 0
    for block in _ASS_BLOCK.finditer(text):
        if not drawing:
            parts.append(text[begin : block.start()])
        if modes := _ASS_DRAWING.findall(block[0]):
            drawing = modes[-1] != "0"
        begin = block.end()
    if not drawing:
        parts.append(text[begin:])
    return "".join(parts)


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    text = data.decode("utf-8-sig", "replace")
    if text.count("\ufffd") * DAMAGED_SHARE <= sum(char > "\x7f" for char in text):
        return text  # all of it, or all but a few bytes, is UTF-8
    return data.decode("cp1252", "replace")


def _cues(text: str) -> Iterator[_Cue]:
    """Each line of times with the lines below it, up to an empty one or the next line of times."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    number = 0
    while number < len(lines):
        times = _times(lines[number])
        number += 1
        if times is None:
            continue
        below = number
        while number < len(lines) and lines[number].strip() and not _times(lines[number]):
            number += 1
        said = lines[below:number]
        if number < len(lines) and lines[number].strip() and said and said[-1].strip().isdigit():
            said.pop()  # the number of the next cue, where the empty line is missing
        start, end = _seconds(*times.groups()[:5]), _seconds(*times.groups()[5:])
        if start is not None and end is not None:
            yield _Cue(start, end, " ".join(said))


def _times(line: str) -> re.Match[str] | None:
    return _TIMES.match(line.strip()[:LONGEST_TIMES]) if "->" in line else None


def _seconds(
    sign: str, hours: str | None, minutes: str, seconds: str, part: str | None
) -> float | None:
    """None before 0."""
    if sign:
        return None
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole if part is None else float(f"{whole}.{part}")


def _units(cues: Iterable[_Cue]) -> Iterator[Unit]:
    """Sorted, plain, without the empty ones; the same text that goes on is one unit."""
    last: _Cue | None = None
    for cue in sorted(cues, key=lambda cue: cue.start):
        plain = cue._replace(text=plain_text(cue.text))
        if not plain.text or not 0 <= plain.start < plain.end:
            continue
        if last and last.text == plain.text and plain.start <= last.end + TOUCH_SECONDS:
            last = last._replace(end=max(last.end, plain.end))
            continue
        if last:
            yield Unit("text", last.start, last.end, text=last.text)
        last = plain
    if last:
        yield Unit("text", last.start, last.end, text=last.text)


def _is_text(stream: SubtitleStream) -> bool:
    context = cast(Any, stream.codec_context)
    return context is not None and context.name in TEXT_CODECS


def _streamed(container: InputContainer, streams: list[SubtitleStream]) -> dict[int, list[_Cue]]:
    """The cues of each stream, by its index."""
    origin = (container.start_time or 0) * CONTAINER_TICK
    found: dict[int, list[_Cue]] = {}
    size = 0
    try:
        for packet in packets_of(container, *streams):
            size += packet.size
            if size > MAX_BYTES:
                raise MediaError(f"more than {MAX_BYTES >> 20} MiB of subtitles: none are so long")
            cue = _cue(cast("Packet[SubtitleStream]", packet), origin)
            if cue is not None:
                found.setdefault(packet.stream.index, []).append(cue)
    except av.FFmpegError:
        pass  # the readers of pictures and sound meet the same error, and judge it
    return found


def _cue(packet: Packet[SubtitleStream], origin: Fraction) -> _Cue | None:
    """What one packet shows; what began before the video does is cut to it."""
    if packet.pts is None or not packet.duration or not packet.size or not packet.time_base:
        return None
    start = packet.pts * packet.time_base - origin
    end = start + packet.duration * packet.time_base
    try:
        lines = [_ass_text(cast(Any, line)) for line in packet.stream.decode(packet)]
    except av.FFmpegError:
        return None
    return _Cue(max(0.0, float(start)), float(end), " ".join(lines))


def _ass_text(line: Any) -> str:
    """The text of a decoded line: FFmpeg hands out all kinds of subtitles as ASS."""
    fields = bytes(getattr(line, "ass", b"")).decode("utf-8", "replace").split(",", _ASS_FIELDS)
    return fields[_ASS_FIELDS] if len(fields) > _ASS_FIELDS else ""
