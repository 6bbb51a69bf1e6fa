"""Hits as clips in a folder, with a manifest that says where each one comes from."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipsearch.errors import MediaError, UsageError
from clipsearch.interfaces.console import escaped, say
from clipsearch.interfaces.files import write_whole
from clipsearch.types import Failure

Record = dict[str, Any]

MANIFEST_FILE = "clips.json"
FALLBACK_SUFFIX = ".mkv"  # holds what other containers hold, nearly all
STEM_BYTES = 120  # of a source's name that go into a clip's: names end at 255
DECIMALS = 3
SCORE_DECIMALS = 6
LOCK_FILE = ".clips.lock"
_KEYS = frozenset({"file", "source", "start", "end", "clip_start", "clip_end", "score", "query"})
_UNSAFE = re.compile(r"[^\w-]+")
_NUMBER = re.compile(r"(\d+)_")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a video to export: presentation seconds [start, end); None for a picture."""

    path: Path
    start: float | None
    end: float | None
    score: float
    query: str | None = None


def export_clips(
    pieces: Sequence[Piece],
    folder: Path,
    *,
    pad_seconds: float,
    reencode: bool,
    on_failure: Callable[[Failure], None],
) -> list[Record]:
    """Cut each piece out of its video, with `pad_seconds` more at both ends, into `folder`.

    Files are named `NNN_<stem>_<start>-<end>.<suffix>` and listed in `clips.json`, in the order of
    the pieces. A folder that has clips keeps them: numbers go on from the highest in use, and the
    manifest grows. It is written after each clip, so an interrupted run has listed what it made.
    A second run into the same folder waits for the first.

    Returns the records of the new clips. A source that cannot be cut goes to `on_failure`; a
    picture is passed over with a notice. Raises UsageError for a folder that cannot be used, and
    OSError if it cannot be written.
    """
    if not (math.isfinite(pad_seconds) and pad_seconds >= 0):
        raise UsageError(f"{pad_seconds} seconds of padding: need 0 or more")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: clips need a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        return _export(pieces, folder, pad_seconds, reencode, on_failure)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Numbers and the manifest belong to one process at a time."""
    import filelock

    lock = filelock.FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"waiting for another export into {escaped(str(folder))}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _export(
    pieces: Sequence[Piece],
    folder: Path,
    pad_seconds: float,
    reencode: bool,
    on_failure: Callable[[Failure], None],
) -> list[Record]:
    from clipsearch.media.clips import cut

    listed = _listed(folder / MANIFEST_FILE)
    number = _last_number(folder, listed)
    records: list[Record] = []
    for piece in pieces:
        if piece.start is None or piece.end is None:
            say(f"no clip of {escaped(str(piece.path))}: a picture has no times")
            continue
        number += 1
        target = folder / _name(number, piece.path, piece.start, piece.end)
        begin, end = max(0.0, piece.start - pad_seconds), piece.end + pad_seconds
        try:
            _check_length(begin, end)
            clip = cut(piece.path, begin, end, target, reencode=reencode)
        except MediaError as error:
            on_failure(Failure(piece.path, str(error)))
            number -= 1
            continue
        for note in clip.notes:
            say(f"{escaped(target.name)}: {escaped(note)}")
        records.append(_record(piece, target.name, clip.start, clip.end))
        _save(folder, [*listed, *records])
    return records


def _check_length(begin: float, end: float) -> None:
    if not begin < end:
        raise MediaError("a moment without length makes no clip: pad it")


def _record(piece: Piece, file: str, clip_start: float, clip_end: float) -> Record:
    return {
        "file": file,
        "source": str(piece.path),
        "start": piece.start,
        "end": piece.end,
        "clip_start": round(clip_start, DECIMALS),
        "clip_end": round(clip_end, DECIMALS),
        "score": round(piece.score, SCORE_DECIMALS),
        "query": piece.query,
    }


def _name(number: int, source: Path, start: float, end: float) -> str:
    """A name that every file system takes: letters, digits, `_`, `-` and two dots."""
    from clipsearch.media.clips import CLIP_SUFFIXES

    suffix = source.suffix.lower()
    suffix = suffix if suffix in CLIP_SUFFIXES else FALLBACK_SUFFIX
    stem = _UNSAFE.sub("_", unicodedata.normalize("NFC", source.stem)).strip("_")
    stem = stem.encode()[:STEM_BYTES].decode(errors="ignore") or "video"
    return f"{number:03}_{stem}_{start:.2f}-{end:.2f}{suffix}"


def _listed(path: Path) -> list[Record]:
    """What a manifest lists; nothing if there is none."""
    try:
        listed = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return []
    except ValueError:
        listed = None
    if not isinstance(listed, list) or not all(_is_record(record) for record in listed):
        raise UsageError(f"{path} is no list of clips: name another folder, or move it away")
    return listed


def _is_record(record: object) -> bool:
    return isinstance(record, dict) and record.keys() >= _KEYS and isinstance(record["file"], str)


def _last_number(folder: Path, listed: Sequence[Record]) -> int:
    """The highest number that a file in the folder or in its manifest begins with."""
    names = [path.name for path in folder.iterdir()] + [record["file"] for record in listed]
    numbers = [int(match[1]) for name in names if (match := _NUMBER.match(name))]
    return max(numbers, default=0)


def _save(folder: Path, records: Sequence[Record]) -> None:
    """Write the manifest atomically. ASCII: paths may hold bytes that are no text."""
    content = json.dumps(list(records), indent=1) + "\n"
    write_whole(folder / MANIFEST_FILE, content.encode("ascii"))
