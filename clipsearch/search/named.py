"""Files that are named in a query: which text is one, and what is meant of it."""

from __future__ import annotations

import os
import re
from typing import Literal, NamedTuple
from urllib.parse import unquote

from clipsearch.durations import parse_seconds
from clipsearch.errors import UsageError
from clipsearch.media import kind_of
from clipsearch.search.sniff import HEAD_BYTES, content_of

_EXPLICIT = re.compile(r"\.{1,2}/|/|~[^/\s]*/|file://", re.IGNORECASE)
_WEB = re.compile(r"https?://", re.IGNORECASE)
_FILE_SCHEME = re.compile(r"file://(?:localhost)?(?=/)", re.IGNORECASE)
SOUND_PREFIX = "sound:"


class Named(NamedTuple):
    """A file, and what is meant of it: a "sound" may be that of a video."""

    kind: Literal["picture", "frame", "video", "sound"]
    path: str
    seconds: float | None = None


def named_file(text: str) -> Named | None:
    """The file that `text` names; None if it is words.

    It names one if it starts with `./`, `../`, `/`, `~/`, `~user/` or `file://`, if it has the
    suffix of a medium and no white space, or is a file that exists and has such a suffix; `@TIME`
    may follow, and `sound:` precede. Raises UsageError for files that are not there, or are no
    media, for what has no such time, and for addresses of the web.
    """
    if _WEB.match(text):
        raise UsageError(f"{text}: download it first, and give the file")
    if text.startswith(SOUND_PREFIX):
        return _sound_of(text.removeprefix(SOUND_PREFIX))
    if existing := existing_file(text):
        return existing
    head, at, time = text.rpartition("@")
    if at and parse_seconds(time) is None and existing_file(head) is not None:
        raise UsageError(f"{text}: {time!r} is no time: use seconds, or for example 1:23")
    stem = head if at and parse_seconds(time) is not None else text
    if not _is_explicit(text) and (re.search(r"\s", text) or kind_of(stem) is None):
        return None
    path = _expanded(stem)
    what = "is a folder: name a file in it" if os.path.isdir(path) else "no such file"  # noqa: PTH112
    raise UsageError(f"{path}: {what}; if it is words, put a backslash before it")


def existing_file(text: str) -> Named | None:
    """The file that `text` names, if there is one; also with white space in its name.

    A file of just that name comes before one with a time. Raises UsageError as `named_file`.
    """
    if (path := _is_there(text)) is not None:
        return _meant(path, None)
    head, _, time = text.rpartition("@")
    seconds = parse_seconds(time)
    if seconds is not None and (path := _is_there(head)) is not None:
        return _meant(path, seconds)
    return None


def _is_explicit(text: str) -> bool:
    return _EXPLICIT.match(text) is not None


def _expanded(text: str) -> str:
    if scheme := _FILE_SCHEME.match(text):
        return unquote(text[scheme.end() :], errors="surrogateescape")
    if text[:7].lower() == "file://":
        raise UsageError(f"{text}: it is on another machine: use file:///path")
    return os.path.expanduser(text)  # noqa: PTH111, which never raises


def _is_there(text: str) -> str | None:
    """The path, if it is a file and `text` names one."""
    path = _expanded(text)
    named = _is_explicit(text) or kind_of(path) is not None
    return path if named and os.path.isfile(path) else None  # noqa: PTH113, which never raises


def _meant(path: str, seconds: float | None) -> Named:
    kind = kind_of(path) or _sniffed(path)
    if kind == "image":
        if seconds is not None:
            raise UsageError(f"{path} is a picture: it has no time @{seconds:g}")
        return Named("picture", path)
    if kind == "video":
        return Named("video" if seconds is None else "frame", path, seconds)
    if kind == "audio":
        return Named("sound", path, seconds)
    what = "is text: give its words" if kind == "subtitles" else "is no picture, video or sound"
    raise UsageError(f"{path} {what}")


def _sniffed(path: str) -> str | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            found = content_of(file.read(HEAD_BYTES))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    return found.kind if found else None


def _sound_of(text: str) -> Named | None:
    named = named_file(text)
    if named is None:
        return None
    if named.kind == "picture":
        raise UsageError(f"{named.path} is a picture: it has no sound")
    return Named("sound", named.path, named.seconds)
