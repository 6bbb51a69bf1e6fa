"""Files that a user names: their names, reading their text, writing them whole."""

from __future__ import annotations

import os
from pathlib import Path

from clipsearch.errors import UsageError


def read_bounded(file: Path, most_bytes: int) -> bytes:
    """The content of a file; a video that was given by mistake is refused before it fills memory.

    Raises UsageError for a file that cannot be read or is larger.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(most_bytes + 1)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
    if len(data) > most_bytes:
        raise UsageError(f"{file} is larger than {most_bytes >> 20} MiB: is it a text?")
    return data


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a file over what is at `path`; on any error that stays as it was. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_unicode(path: str | os.PathLike[str]) -> bool:
    """Whether a path can be said in UTF-8, as databases and output formats need it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
