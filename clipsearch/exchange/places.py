"""Where exports go: there whole or not at all, and with a note of what they are."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clipsearch.errors import UsageError
from clipsearch.version import VERSION

NOTE_FILE = "clipsearch.json"
NOTE_FORMAT = "clipsearch-export"
LARGEST_NOTE = 1 << 20
TRASH_SUFFIX = ".replaced"


@dataclass(frozen=True, slots=True)
class Note:
    """What an export says of itself: the encoder of its vectors, which they were made with."""

    model: str | None
    fingerprint: str
    dim: int
    kinds: tuple[str, ...]
    rows: int
    written_by: str = VERSION

    def to_json(self) -> str:
        """As it is written."""
        return json.dumps({"format": NOTE_FORMAT, **asdict(self)}, ensure_ascii=False, indent=1)


def parse_note(content: bytes | str | None) -> Note | None:
    """The note in a text; None where there is none, or it is of something else."""
    try:
        values: Any = json.loads(content or "null")
        if values.pop("format") != NOTE_FORMAT:
            return None
        note = Note(**{**values, "kinds": tuple(values["kinds"])})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    plain = isinstance(note.fingerprint, str) and isinstance(note.dim, int)
    return note if plain and isinstance(note.model, str | None) else None


def read_note(folder: Path) -> Note | None:
    """The note that lies in a folder."""
    try:
        with (folder / NOTE_FILE).open("rb") as file:
            return parse_note(file.read(LARGEST_NOTE))
    except OSError:
        return None


def has_note(folder: Path) -> bool:
    """Whether an export has left its note in a folder."""
    return read_note(folder) is not None


@dataclass(frozen=True, slots=True)
class Layout:
    """What a format leaves in a folder: patterns of its names, and what tells that it did."""

    names: tuple[str, ...]
    is_ours: Callable[[Path], bool] = has_note


@contextmanager
def whole_folder(target: Path, layout: Layout, *, overwrite: bool) -> Iterator[Path]:
    """A new folder to write into, which becomes `target` when all went well.

    A folder that holds what no export has written is never replaced, nor without `overwrite` one
    that holds anything. Raises UsageError.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100
    check_folder(target, layout, overwrite=overwrite)
    made = Path(tempfile.mkdtemp(dir=target.parent, prefix=".clipsearch-", suffix=".part"))
    try:
        made.chmod(0o777 & ~_umask())
        yield made
        for path in (*made.rglob("*"), made):
            _sync(path)
        check_folder(target, layout, overwrite=overwrite)  # again: it may have been filled
        _put_in_place(made, target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


@contextmanager
def whole_file(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new file to write, which becomes `target` when all went well. Raises UsageError."""
    check_file(target, overwrite=overwrite)
    target = Path(os.path.realpath(target))
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".clipsearch-", suffix=".part")
    os.close(descriptor)
    made = Path(name)
    try:
        made.chmod(0o666 & ~_umask())
        yield made
        _sync(made)
        made.replace(target)
        _sync(target.parent)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def check_file(target: Path, *, overwrite: bool) -> None:
    """Raise UsageError for a file that `whole_file` would not write."""
    _check_parent(Path(os.path.realpath(target)))
    if target.is_dir():
        raise UsageError(f"{target} is a folder: name a file")
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is no ordinary file: name another")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists: name another file, or give --overwrite")


def _check_parent(target: Path) -> None:
    if not target.parent.is_dir():
        raise UsageError(f"{target}: there is no folder {target.parent}, make it first")


def check_folder(target: Path, layout: Layout, *, overwrite: bool) -> None:
    """Raise UsageError for a folder that `whole_folder` would not write."""
    _check_parent(Path(os.path.abspath(target)))  # noqa: PTH100
    if target.is_symlink():
        raise UsageError(f"{target} is a link: name the folder itself")
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{target} is a file: name a folder")
    patterns = (*layout.names, NOTE_FILE)
    others = [e.name for e in target.iterdir() if not any(map(Path(e.name).match, patterns))]
    if others:
        raise UsageError(
            f"{target} holds what no export has written, {sorted(others)[0]!r}: name a new folder"
        )
    if any(target.iterdir()) and not layout.is_ours(target):
        raise UsageError(f"{target} holds what no export has written: name a new folder")
    if any(target.iterdir()) and not overwrite:
        raise UsageError(f"{target} exists: name another folder, or give --overwrite")


def _put_in_place(made: Path, target: Path) -> None:
    """Rename; what is there goes aside first, and comes back if that fails."""
    if not target.exists():
        made.rename(target)
        return
    aside = made.with_suffix(TRASH_SUFFIX)
    target.rename(aside)
    try:
        made.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError) if path.is_dir() else nullcontext():  # not every system can
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
