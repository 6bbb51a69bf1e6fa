"""Files that a command writes: refused before any work if they must not be, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from clipsearch.errors import UsageError


def check_target(target: Path, *, inputs: Sequence[Path] = (), overwrite: bool = False) -> None:
    """Raise UsageError for a file that cannot or must not be written.

    One that exists needs `overwrite`, and is never one of the `inputs`. Devices and pipes may be
    written to.
    """
    folder = Path(os.path.realpath(target)).parent
    if not target.parent.is_dir() or not folder.is_dir():
        missing = folder if target.parent.is_dir() else target.parent
        raise UsageError(f"{target}: there is no folder {missing}, make it first")
    if target.is_dir():
        raise UsageError(f"{target} is a folder: name a file in it")
    if any(target.exists() and path.exists() and target.samefile(path) for path in inputs):
        raise UsageError(f"{target} is what is read: name another file")
    if target.is_file() and not overwrite:
        raise UsageError(f"{target} exists: name another file, or give --overwrite")


def write_whole(target: Path, content: bytes) -> None:
    """Write a file under another name beside it, then rename it over what was there.

    A link's file is replaced and not the link; devices and pipes are written to as they are.
    Raises OSError; then nothing is left behind and what was there stays.
    """
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(content)
        else:
            _replace(Path(os.path.realpath(target)), content)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(target)) from error


def _replace(target: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".clipsearch-", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
