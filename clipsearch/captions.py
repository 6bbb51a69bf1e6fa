"""Caption files: which words belong to which video, and which of them to which indexed video.

    read_captions    CSV, TSV, JSON lines, MSR-VTT's JSON, or a plain JSON object or array
    match_videos     the videos that a file names, found among the paths of an index

    CSV, TSV         a header with a video and a caption column, separated by comma, `;` or tab
    JSON lines       an object a line with the same two keys; a caption may be a list of texts
    JSON             {"videos": [...], "sentences": [{"video_id": ..., "caption": ...}]} (MSR-VTT),
                     {video: text or texts}, or an array of objects as in JSON lines

Everything raises UsageError that names the file and the line, or the place in a JSON document.
"""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.textfiles import read_bounded

VIDEO_NAMES = ("video", "video_id", "path", "file", "file_name")
# MSR-VTT's test lists number their rows with `key` beside `video_id`; elsewhere it is the video.
LAST_VIDEO_NAME = "key"
CAPTION_NAMES = ("caption", "sentence", "text", "description")
SPLIT_NAME = "split"
MAX_BYTES = 512 << 20

_DELIMITERS = (",", ";", "\t")
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_HALF = re.compile("[\ud800-\udfff]")
_MOST_SHOWN = 3
_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Caption:
    """One text of one video, named as the file names it."""

    video: str
    text: str


@dataclass(frozen=True, eq=False)
class Matched:
    """Captions whose video is in the index."""

    texts: tuple[str, ...]  # unique, in order of their first appearance
    pairs: NDArray[np.int64]  # (p, 2): position in `texts`, media id; each once
    missing: tuple[str, ...]  # unique names that no indexed video fits, in order


@dataclass(frozen=True, slots=True)
class _Row:
    """What a file says in one place, not looked at yet."""

    place: str
    video: Any
    caption: Any
    split: Any


def read_captions(path: str | os.PathLike[str], split: str | None = None) -> list[Caption]:
    """The captions of a file, in their order, each pair of video and text once.

    `split`: only those of one split, such as MSR-VTT's train, validate and test. White space at
    the ends of a text is cut, and inside it each run becomes one space.
    """
    file = Path(path)
    text = _text_of(file)
    rows = list(_json_rows(file, text) if _is_json(file, text) else _csv_rows(file, text))
    if split is not None:
        rows = _of_split(file, rows, split)
    captions = list(dict.fromkeys(caption for row in rows for caption in _captions(file, row)))
    if not captions:
        raise UsageError(f"{file} has no captions: write a video and a text for each")
    return captions


def match_videos(
    captions: Iterable[Caption], videos: Mapping[int, Path], *, beside: str | os.PathLike[str]
) -> Matched:
    """Which captions belong to which indexed video; `videos`: media id → absolute path.

    A name is, in this order: a path, absolute or from the folder `beside` (of the captions file);
    the end of a path, by whole components (`train/a.mp4` fits `/data/train/a.mp4`, never
    `/data/test/a.mp4`). Each of the two first with its suffix, then without. The first of these
    that any video fits decides; several videos that fit alike are an error. Paths are compared as
    text and nothing is looked up on the disk. Texts of missing videos alone are left out.
    """
    names = _Names(videos, posixpath.abspath(beside))
    found: dict[str, int | None] = {}
    texts: dict[str, int] = {}
    pairs: dict[tuple[int, int], None] = {}
    for caption in captions:
        if caption.video not in found:
            found[caption.video] = names.find(caption.video)
        media_id = found[caption.video]
        if media_id is not None:
            position = texts.setdefault(caption.text, len(texts))
            pairs[position, media_id] = None
    missing = tuple(name for name, media_id in found.items() if media_id is None)
    if not pairs:
        raise UsageError(_nothing_matches(missing, videos))
    return Matched(tuple(texts), np.array(list(pairs), np.int64).reshape(-1, 2), missing)


class _Names:
    """Every way to name each video: all ends of its path, with and without the suffix."""

    def __init__(self, videos: Mapping[int, Path], folder: str) -> None:
        self._videos = videos
        self._folder = folder
        self._whole: dict[str, list[int]] = {}
        self._stems: dict[str, list[int]] = {}
        for media_id, path in videos.items():
            whole = _normal(os.fspath(path))
            stem, _ = posixpath.splitext(whole)
            for names, name in ((self._whole, whole), (self._stems, stem)):
                for end in _ends(name):
                    names.setdefault(end, []).append(media_id)

    def find(self, name: str) -> int | None:
        """The media id that a name fits best, None without one, UsageError with several."""
        keys = [_normal(posixpath.join(self._folder, name))]
        if not posixpath.isabs(name):
            keys.append(_without_parents(posixpath.normpath(name)))
        for key in keys:
            fitting = self._whole.get(key) or self._stems.get(key)
            if fitting:
                return self._only(name, fitting)
        return None

    def _only(self, name: str, fitting: Sequence[int]) -> int:
        if len(fitting) > 1:
            paths = ", ".join(str(self._videos[media_id]) for media_id in fitting[:_MOST_SHOWN])
            more = ", ..." if len(fitting) > _MOST_SHOWN else ""
            raise UsageError(
                f"{name!r} in the captions fits {len(fitting)} videos ({paths}{more}): "
                "write more of the path"
            )
        return fitting[0]


def _normal(path: str) -> str:
    normal = posixpath.normpath(path)
    return normal[1:] if normal.startswith("//") else normal  # POSIX lets two slashes stand


def _ends(path: str) -> Iterator[str]:
    """The path, then `a/b/c`, `b/c` and `c` of `/a/b/c`."""
    yield path
    cut = path.find("/")
    while cut >= 0:
        path = path[cut + 1 :]
        yield path
        cut = path.find("/")


def _without_parents(name: str) -> str:
    while name.startswith("../"):
        name = name[3:]
    return name


def _nothing_matches(missing: Sequence[str], videos: Mapping[int, Path]) -> str:
    if not missing:
        return "no captions to match: give at least one"
    if not videos:
        return f"the captions name {missing[0]!r} and the index has no videos: add them first"
    path = next(iter(videos.values()))
    return (
        f"no video of the captions is in the index: they name {missing[0]!r}, it has {path}: "
        "write the path, the end of it, or the file name"
    )


def _text_of(file: Path) -> str:
    data = read_bounded(file, MAX_BYTES)
    end = data.find(b"\0")  # UTF-16 without its mark is valid UTF-8
    try:
        text = (data if end < 0 else data[:end]).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        end = data.startswith(b"\xef\xbb\xbf") * 3 + error.start
        text = ""
    if end >= 0:
        line = data.count(b"\n", 0, end) + 1
        raise _error(file, f"line {line}", f"byte {end + 1} is no UTF-8 text: save it as UTF-8")
    return text


def _is_json(file: Path, text: str) -> bool:
    suffix = file.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return False
    return suffix in _JSON_SUFFIXES or text.lstrip()[:1] in ("{", "[")


def _csv_rows(file: Path, text: str) -> Iterator[_Row]:
    delimiter, header = _csv_header(file, text)
    columns = _columns(file, "line 1", tuple(header))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    before = 0  # the line that a record ends on, and the one before the next begins
    try:
        for number, cells in enumerate(reader):
            place, before = f"line {before + 1}", reader.line_num
            if number == 0 or not cells:
                continue
            if len(cells) != len(header):
                given = f"{len(cells)} fields below a header of {len(header)}"
                raise _error(file, place, f"{given}: quote a caption that has {delimiter!r}")
            yield _Row(place, *(None if at is None else cells[at] for at in columns))
    except csv.Error as error:
        raise _error(file, f"line {before + 1}", f"{error}: is a quote not closed?") from error


def _csv_header(file: Path, text: str) -> tuple[str, list[str]]:
    """The separator and the names of the columns.

    The separator that shows both columns: guessing from how often each stands in the lines
    (csv.Sniffer) takes the commas of long captions for one.
    """
    found: dict[str, list[str]] = {}
    for delimiter in ("\t",) if file.suffix.lower() == ".tsv" else _DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            found[delimiter] = next(reader, [])
        except csv.Error:
            continue
        if _names_both(found[delimiter]):
            return delimiter, found[delimiter]
    if not found:
        raise _error(file, "line 1", "a quote in the header is not closed")
    return max(found.items(), key=lambda item: len(item[1]))


def _columns(file: Path, place: str, names: tuple[str, ...]) -> tuple[int, int, int | None]:
    """Where the video, the caption and the split stand among names."""
    videos = _candidates(names, VIDEO_NAMES) or _candidates(names, (LAST_VIDEO_NAME,))
    captions = _candidates(names, CAPTION_NAMES)
    for what, found, allowed in (
        ("video", videos, (*VIDEO_NAMES, LAST_VIDEO_NAME)),
        ("caption", captions, CAPTION_NAMES),
    ):
        if len(found) != 1:
            given = ", ".join(map(_short, names)) or "nothing"
            count = "several names" if found else "no name"
            needed = f"need one of {', '.join(allowed)}"
            raise _error(file, place, f"{count} of a {what} among {given}: {needed}")
    splits = _candidates(names, (SPLIT_NAME,))
    return videos[0], captions[0], splits[0] if splits else None


def _names_both(names: Iterable[str]) -> bool:
    """Whether names can be those of a record: one of a video and one of a caption are there."""
    found = tuple(names)
    video = _candidates(found, (*VIDEO_NAMES, LAST_VIDEO_NAME))
    return bool(video and _candidates(found, CAPTION_NAMES))


@lru_cache(maxsize=64)  # every record of a file has the same names
def _candidates(names: tuple[str, ...], allowed: tuple[str, ...]) -> list[int]:
    return [at for at, name in enumerate(names) if name.strip().lower() in allowed]


def _json_rows(file: Path, text: str) -> Iterator[_Row]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if _is_json_lines(file, text, lines):
        for number, line in lines:
            yield _record(file, f"line {number}", _parsed(file, line, number))
        return
    document = _parsed(file, text, 1)
    if isinstance(document, list):
        for number, record in enumerate(document, 1):
            yield _record(file, f"item {number}", record)
    elif not isinstance(document, dict):
        raise _error(file, "line 1", f"{_short(document)} is neither an object nor an array")
    elif isinstance(document.get("sentences"), list) and "videos" in document:
        yield from _msrvtt_rows(file, document["videos"], document["sentences"])
    elif _names_both(document):
        yield _record(file, "line 1", document)
    else:
        for video, caption in document.items():
            yield _Row(f"video {_short(video)}", video, caption, None)


def _is_json_lines(file: Path, text: str, lines: Sequence[tuple[int, str]]) -> bool:
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        return not text.lstrip().startswith("[")
    if len(lines) < 2:
        return False
    try:  # JSON lines that are called .json
        return isinstance(json.loads(lines[0][1]), dict)
    except (ValueError, RecursionError):
        return False


def _msrvtt_rows(file: Path, videos: Any, sentences: Sequence[Any]) -> Iterator[_Row]:
    splits: dict[str, Any] = {}
    if not isinstance(videos, list):
        raise _error(file, "videos", f"{_short(videos)} is no array of objects with a video_id")
    for number, video in enumerate(videos, 1):
        if not isinstance(video, dict) or "video_id" not in video:
            raise _error(file, f"videos, item {number}", f"{_short(video)} has no video_id")
        splits[str(video["video_id"])] = video.get(SPLIT_NAME)
    for number, sentence in enumerate(sentences, 1):
        row = _record(file, f"sentences, item {number}", sentence)
        yield _Row(row.place, row.video, row.caption, splits.get(str(row.video), row.split))


def _record(file: Path, place: str, record: Any) -> _Row:
    if not isinstance(record, dict):
        raise _error(file, place, f"{_short(record)} is no object with a video and a caption")
    names = tuple(record)
    columns = _columns(file, place, names)
    return _Row(place, *(None if at is None else record[names[at]] for at in columns))


def _parsed(file: Path, text: str, line: int) -> Any:
    """One JSON document that begins on a line of the file."""

    try:
        return json.loads(text, object_pairs_hook=_members)
    except json.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1}"
        raise _error(file, place, f"no JSON at character {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise _error(file, f"line {line}", str(error)) from error


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # json itself would keep the last and lose the others' captions
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{_short(twice)} stands twice in one object: use a list of texts")
    return found


def _of_split(file: Path, rows: Sequence[_Row], split: str) -> list[_Row]:
    """The rows of one split; a row without one belongs to none."""
    known = dict.fromkeys(_split_of(row) for row in rows)
    known.pop(None, None)
    if not known:
        raise UsageError(f"{file} names no splits, such as {split!r}: leave the split out")
    if split not in known:
        names = ", ".join(map(_short, known))
        raise UsageError(f"{file} has no captions of split {split!r}: use one of {names}")
    return [row for row in rows if _split_of(row) == split]


def _split_of(row: _Row) -> str | None:
    return None if row.split is None else str(row.split).strip() or None


def _captions(file: Path, row: _Row) -> Iterator[Caption]:
    """The captions of a row, checked."""
    number = isinstance(row.video, int) and not isinstance(row.video, bool)
    video = str(row.video).strip() if number or isinstance(row.video, str) else ""
    if not video:
        raise _error(file, row.place, f"{_short(row.video)} is no name of a video")
    texts = row.caption if isinstance(row.caption, list) else [row.caption]
    if not texts:
        raise _error(file, row.place, "the list of captions is empty")
    for text in texts:
        if not isinstance(text, str):
            raise _error(file, row.place, f"the caption {_short(text)} is no text")
        words = " ".join(text.split())
        if not words:
            raise _error(file, row.place, "the caption is empty: write one or leave the line out")
        if _HALF.search(words):  # JSON can escape half of a pair
            raise _error(file, row.place, f"the caption {_short(words)} has half a character")
        yield Caption(video, words)


def _error(file: Path, place: str, what: str) -> UsageError:
    return UsageError(f"{file}, {place}: {what}")


def _short(value: Any) -> str:
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
