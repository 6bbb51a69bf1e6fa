"""Scripts, the lines that `align` places in a video: read from text and subtitles, written as them.

New output format: one function and one line in `SCRIPT_FORMATS`.

Subtitles are read by hand: the srt package takes a cue without times for text of the cue before,
lets a cue end before it starts, and tells no line numbers. The tests read what is written here
with it and with FFmpeg.
"""

from __future__ import annotations

import codecs
import html
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from clipsearch.errors import UsageError
from clipsearch.interfaces.render import DECIMALS, Record, as_json, as_tsv
from clipsearch.textfiles import read_bounded
from clipsearch.types import Span

ScriptLine = tuple[str, Span | None]  # None: the line was left out
ScriptFormat = Callable[[Sequence[ScriptLine]], str]

MAX_BYTES = 64 << 20
SCORE_DECIMALS = 6  # as hits have
TSV_COLUMNS = ("line", "start", "end", "score", "text")
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_LINE_END = re.compile(r"\r\n?|\n")
_TIME = r"(?:(\d{1,4}):)?(\d{1,3}):(\d{1,3})(?:[.,](\d{1,3}))?"
_TIMES = re.compile(rf"{_TIME}\s*-\s?-\s?>\s*{_TIME}(?:\s.*)?")  # what follows: settings
_CLOCK = re.compile(r"\d+:\d+:\d+[.,]\d")
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?")
_NOTE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s.*)?")
_BREAK_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)
_SRT_MARKUP = re.compile(  # other "<" are text: SRT cannot escape them
    r"</?(?:b|i|u|s|em|strong|font|span|c|v|lang|ruby|rt)(?:[\s.][^<>]*)?/?>|\{\\[^{}]*\}",
    re.IGNORECASE,
)
_VTT_MARKUP = re.compile(r"<[^<>]*>")
_ARROW = re.compile(r"(?<!-)-[- ]*+>")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def read_script(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a script: the texts of the cues of a .srt or .vtt, or the lines of a text file.

    In their order, without markup and without the empty ones. Raises UsageError that names the
    file and the line for what is no UTF-8 (or marked UTF-16) text and for malformed subtitles.
    """
    file = Path(path)
    lines = [line.strip() for line in _LINE_END.split(_text_of(file))]
    kind = file.suffix.lower()
    if kind == ".vtt":
        cues = _cues(file, _without_notes(file, lines), strict=True)
        lines = [" ".join(html.unescape(_plain(cue, _VTT_MARKUP)).split()) for cue in cues]
    elif kind == ".srt":
        lines = [_plain(cue, _SRT_MARKUP) for cue in _cues(file, lines, strict=False)]
    script = [line for line in lines if line]
    if not script:
        raise UsageError(f"{file} has no lines of text: write one line for each scene")
    return script


def as_srt(lines: Sequence[ScriptLine]) -> str:
    """SubRip, numbered from 1; arrows in the text become `->`, for SRT cannot escape them."""
    cues = (
        f"{number}\n{_times(span, ',')}\n{_ARROW.sub('->', _one_line(text))}\n\n"
        for number, (text, span) in enumerate(_placed(lines), 1)
    )
    return "".join(cues)


def as_vtt(lines: Sequence[ScriptLine]) -> str:
    """WebVTT; `&`, `<` and `>` in the text are escaped."""
    cues = (
        f"\n{_times(span, '.')}\n{html.escape(_one_line(text), quote=False)}\n"
        for text, span in _placed(lines)
    )
    return "WEBVTT\n" + "".join(cues)


def as_script_json(lines: Sequence[ScriptLine]) -> str:
    """One JSON array with an object for each line, numbered from 0; null where it was left out."""
    return as_json(_records(lines))


def as_script_tsv(lines: Sequence[ScriptLine]) -> str:
    """A header and a line for each line of the script, escaped as the hits are."""
    return as_tsv([{name: record[name] for name in TSV_COLUMNS} for record in _records(lines)])


SCRIPT_FORMATS: dict[str, ScriptFormat] = {
    "srt": as_srt,
    "vtt": as_vtt,
    "json": as_script_json,
    "tsv": as_script_tsv,
}


def _text_of(file: Path) -> str:
    data = read_bounded(file, MAX_BYTES)
    bom = next((bom for bom in _BOMS if data.startswith(bom)), b"")
    codec = _BOMS.get(bom, "utf-8")
    try:
        text = data[len(bom) :].decode(codec)
    except UnicodeDecodeError as error:
        before = data[len(bom) :][: error.start].decode(codec, "replace")
        place = f"byte {len(bom) + error.start + 1}"
        raise _error(
            file, _line_ends(before), f"{place} is not {codec.upper()}: save it as UTF-8"
        ) from error
    if "\0" in text:  # UTF-16 without its mark is valid UTF-8
        before = text[: text.index("\0")]
        raise _error(file, _line_ends(before), "a zero byte is no text: save it as UTF-8")
    return text.replace("\ufeff", "")  # marks inside come from files that were joined


def _line_ends(text: str) -> int:
    return len(_LINE_END.findall(text))


def _without_notes(file: Path, lines: Sequence[str]) -> list[str]:
    """WebVTT's lines, with empty ones for header, comments, styles and regions."""
    if not re.fullmatch(r"WEBVTT(?:\s.*)?", lines[0]):
        raise _error(file, 0, f"a .vtt starts with WEBVTT, not {_short(lines[0])}")
    kept, skipping = [], True
    for i, line in enumerate(lines):
        if i and not lines[i - 1]:
            skipping = _NOTE.fullmatch(line) is not None
        skipping = skipping and _TIMES.fullmatch(line) is None
        kept.append("" if skipping else line)
    return kept


def _cues(file: Path, lines: Sequence[str], *, strict: bool) -> list[list[str]]:
    """The lines of text of every cue.

    strict: as WebVTT, a blank line ends a cue and any line may name one. Otherwise blank lines
    are found inside texts, and cues without a number or a blank line before it.
    """
    cues: list[list[str]] = []
    named = False
    for i, line in enumerate(lines):
        starts_block = i == 0 or not lines[i - 1]
        above, named = named, _names_a_cue(lines, i, strict=strict)
        if not line or named:
            continue
        if _TIMES.fullmatch(line):
            _check_order(file, i, line)
            cues.append([])
        elif "-->" in line or ((starts_block or above) and _CLOCK.match(line)):
            raise _error(file, i, f"{_short(line)} is no 00:00:01,000 --> 00:00:02,500")
        elif not cues or (starts_block and (strict or _NUMBER.fullmatch(line))):
            raise _error(file, i, f"{_short(line)} without the times of a cue below it")
        else:
            cues[-1].append(line)
    return cues


def _names_a_cue(lines: Sequence[str], i: int, *, strict: bool) -> bool:
    """Whether line i is the number or name above the times of a cue."""
    starts_block = i == 0 or not lines[i - 1]
    named_freely = strict and starts_block and "-->" not in lines[i]
    if not lines[i] or not (named_freely or _NUMBER.fullmatch(lines[i])):
        return False
    below = i + 1
    while starts_block and not strict and below < len(lines) and not lines[below]:
        below += 1
    times = lines[below] if below < len(lines) else ""
    return "-->" in times or _CLOCK.match(times) is not None or _TIMES.fullmatch(times) is not None


def _check_order(file: Path, i: int, line: str) -> None:
    found = _TIMES.fullmatch(line)
    assert found is not None
    numbers = tuple(int(group or 0) for group in found.groups())
    for hours, minutes, seconds, _ in (found.groups()[:4], found.groups()[4:]):
        if int(seconds) > 59 or (hours is not None and int(minutes) > 59):
            raise _error(file, i, f"no such time: {_short(line)}")
    start, end = (((h * 60 + m) * 60 + s, ms) for h, m, s, ms in (numbers[:4], numbers[4:]))
    if end < start:
        raise _error(file, i, f"the cue ends before it starts: {_short(line)}")


def _plain(cue: Sequence[str], markup: re.Pattern[str]) -> str:
    text = markup.sub("", _BREAK_TAG.sub(" ", " ".join(cue)))
    return " ".join(text.split())


def _error(file: Path, index: int, what: str) -> UsageError:
    return UsageError(f"{file}, line {index + 1}: {what}")


def _short(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:59] + "…")


def _placed(lines: Sequence[ScriptLine]) -> list[tuple[str, Span]]:
    return [(text, span) for text, span in lines if span is not None]


def _one_line(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", " ".join(text.split()))


def _times(span: Span, mark: str) -> str:
    start, end = round(span.start * 1000), round(span.end * 1000)
    end = max(end, start + 1)  # players drop a cue that lasts no time
    return f"{_clock(start, mark)} --> {_clock(end, mark)}"


def _clock(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{mark}{rest:03}"


def _records(lines: Sequence[ScriptLine]) -> list[Record]:
    return [_record(line, text, span) for line, (text, span) in enumerate(lines)]


def _record(line: int, text: str, span: Span | None) -> Record:
    names = ("start", "end", "score", "similarity", "contrast")
    values: Record = {"line": line, "text": text} | dict.fromkeys(names)
    if span is not None:
        for name in names:
            decimals = DECIMALS if name in ("start", "end") else SCORE_DECIMALS
            values[name] = round(float(getattr(span, name)), decimals)
    return values
