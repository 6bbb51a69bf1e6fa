"""What the operating system says about one media file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from clipsearch.errors import MediaError

# The machine's trouble, not the file's: these stop a run instead of skipping a file.
MACHINE_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})

GONE_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


def is_gone(path: Path, *, follow_links: bool = True) -> bool:
    """Whether there is surely nothing: where we may not look, or a disk fails, there may be."""
    try:
        path.stat(follow_symlinks=follow_links)
    except OSError as error:
        return error.errno in GONE_ERRNOS
    except ValueError:  # a NUL byte in the name
        return True
    return False


def media_error(error: OSError) -> MediaError:
    """The MediaError for an OSError of one file: a short reason without the path.

    Raises `error` itself when it is about the machine: no memory, disk space or file handles.
    """
    if error.errno in MACHINE_ERRNOS:
        raise error
    if error.errno is not None and error.errno > 0 and error.strerror:
        return MediaError(error.strerror.lower())
    return MediaError(short_reason(error))


def short_reason(error: BaseException) -> str:
    """The first line of an error's text, at most 120 characters, or the error's name."""
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


def check_readable(path: Path) -> None:
    """Raise MediaError unless `path` is a regular file with bytes in it that we may read."""
    try:
        status = path.stat()
    except OSError as error:
        raise media_error(error) from error
    except ValueError as error:  # a NUL byte in the name
        raise MediaError(short_reason(error)) from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError("is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError("is not a regular file")
    if not os.access(path, os.R_OK):
        raise MediaError("permission denied")
    if status.st_size == 0:
        raise MediaError("file is empty")
