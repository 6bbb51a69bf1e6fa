"""Reading text files that a user names."""

from __future__ import annotations

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
