"""The lock of the one writer, and a note of who holds it for those who wait."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from clipsearch.errors import IndexDamagedError, IndexLockedError

LOCK_FILE = "lock"  # the system releases it when its process dies
NOTE_FILE = "lock.json"
POLL_SECONDS = 0.1


@contextmanager
def locked(
    folder: Path, *, wait: bool = True, on_wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the index's lock. `on_wait` is told once who has it, if another process has.

    Raises IndexLockedError when another process has it and `wait` is false.
    """
    for path in (folder / LOCK_FILE, folder / NOTE_FILE):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise IndexDamagedError(f"{path} is a link or no file: remove it", path)
    lock = filelock.FileLock(folder / LOCK_FILE, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        who = _holder(folder)
        if not wait:
            raise IndexLockedError(
                f"{who} writes to {folder}: try again, or leave out --no-wait"
            ) from None
        if on_wait is not None:
            on_wait(who)
        try:
            lock.acquire(poll_interval=POLL_SECONDS)
        except RuntimeError:  # filelock's word for waiting for oneself
            raise IndexLockedError(f"this thread writes to {folder} already") from None
    try:
        note = folder / NOTE_FILE
        _write_note(note)
        yield
        note.unlink(missing_ok=True)
    finally:
        lock.release()


def _write_note(path: Path) -> None:
    facts = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    path.unlink(missing_ok=True)  # it may be a link
    path.write_text(json.dumps(facts), encoding="utf-8")


def _holder(folder: Path) -> str:
    """Who holds the lock, as far as the note tells."""
    try:
        facts = json.loads((folder / NOTE_FILE).read_text(encoding="utf-8"))
        return (
            f"process {facts['pid']} on {facts['host']} ({facts['command']}, since "
            f"{facts['since']})"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
