"""The errors that clipsearch raises on purpose.

    ClipsearchError            exit code 1
    ├── UsageError             2    an argument is wrong; the message says what is allowed
    ├── MediaError             1    one file cannot be read; ingest reports and skips it
    │   └── NoPictureError     1    a video that has sound only
    ├── EncoderError           3    a model cannot be loaded, or is not the index's model
    ├── IndexMissingError      3    there is no index where one was expected
    ├── IndexExistsError       2    an index is there already
    ├── IndexDamagedError      3    files of an index are missing, changed or too new
    └── IndexLockedError       3    another process is writing and we were told not to wait

Every message says what was given and what to do about it.
"""

from __future__ import annotations

from pathlib import Path


class ClipsearchError(Exception):
    """Base of every error that clipsearch raises on purpose."""

    exit_code = 1


class UsageError(ClipsearchError, ValueError):
    """An argument is out of its range."""

    exit_code = 2


class MediaError(ClipsearchError):
    """One media file cannot be read. The message is the reason, without the path."""


class NoPictureError(MediaError):
    """A video file whose only streams are sound, which can be read on its own."""


class EncoderError(ClipsearchError):
    """A model cannot be loaded, or differs from the one the index was built with."""

    exit_code = 3


class IndexMissingError(ClipsearchError):
    """No index at the given place."""

    exit_code = 3


class IndexExistsError(ClipsearchError):
    """An index is there already and was not asked for."""

    exit_code = 2


class IndexDamagedError(ClipsearchError):
    """Index files are missing, changed, or too new. `file`: which, if it is known."""

    exit_code = 3

    def __init__(self, message: str, file: Path | None = None) -> None:
        super().__init__(message)
        self.file = file


class IndexLockedError(ClipsearchError):
    """Another process writes to the index."""

    exit_code = 3
