"""A look at everything that clipsearch needs to work here."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipsearch.errors import ClipsearchError, EncoderError, IndexLockedError, IndexMissingError

if TYPE_CHECKING:
    from clipsearch.engine import Index

PACKAGES = ("numpy", "torch", "open_clip_torch", "av", "pillow", "pyarrow", "sqlalchemy")
FAISS_PACKAGES = ("faiss-cpu", "faiss-gpu-cu12", "faiss-gpu-cu11", "faiss-gpu")
FREE_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Literal["ok", "warning", "error"]
    what: str


def examine(folder: Path, *, device: str) -> list[Finding]:
    """Packages, then the index in `folder`: its place, lock, model, media and advice."""
    return [*_packages(), *_index(folder, device)]


def _packages() -> Iterator[Finding]:
    yield Finding("ok", f"Python {sys.version.split()[0]}, clipsearch {version('clipsearch')}")
    for name in PACKAGES:
        found = _version(name)
        yield Finding("ok" if found else "error", f"{name} {found or 'is missing: install it'}")
    builds = [f"{name} {found}" for name in FAISS_PACKAGES if (found := _version(name))]
    if len(builds) == 1:
        yield Finding("ok", builds[0])
    elif builds:
        both = " and ".join(builds)
        yield Finding("error", f"{both} overwrite each other: uninstall both, then install one")
    else:
        yield Finding("error", "faiss is missing: install faiss-cpu")


def _index(folder: Path, device: str) -> Iterator[Finding]:
    from clipsearch.engine import Index

    try:
        with Index.open(folder, device=device) as index:
            yield from _place(folder)
            yield from _state(index)
    except IndexMissingError:
        yield Finding("warning", f"no index at {folder}")
    except ClipsearchError as error:
        yield Finding("error", str(error))


def _place(folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free
    level: Literal["ok", "warning"] = "ok" if free >= FREE_BYTES else "warning"
    yield Finding(level, f"{folder}: {free / 1e9:.1f} GB free")
    if not os.access(folder, os.W_OK):
        yield Finding("warning", f"{folder} cannot be written to: it can be searched only")


def _state(index: Index) -> Iterator[Finding]:
    status = index.status()
    try:
        index.check_unlocked()
        yield Finding("ok", "no process is writing to it")
    except IndexLockedError as error:
        yield Finding("ok", str(error).rpartition(":")[0])
    except OSError:
        pass  # not writable, as was said
    lists = f", {status.lists} lists" if status.lists else ""
    yield Finding("ok", f"{status.rows} vectors, recipe {status.recipe}{lists}")
    if status.model is not None:
        yield Finding("ok", f"{index.encoder.fingerprint} loads")
        yield from _ear(index)
        yield from _head(index)
    for root in status.roots:
        found = root.is_dir()
        yield Finding("ok" if found else "warning", f"{root}{'' if found else ' is not there'}")
    if status.failed:
        yield Finding("warning", f"{status.failed} files failed: `clipsearch list --failed`")
    if status.dead_rows:
        share = status.dead_rows / max(1, status.rows)
        yield Finding("ok", f"{share:.0%} of the vectors are dead: `clipsearch compact` drops them")
    if status.advice is not None:
        yield Finding("warning", status.advice)


def _ear(index: Index) -> Iterator[Finding]:
    try:
        ear = index.ear
    except EncoderError as error:
        yield Finding("error", str(error))
        return
    if ear is not None:
        yield Finding("ok", f"it hears: {ear.audio_fingerprint} loads")


def _head(index: Index) -> Iterator[Finding]:
    try:
        head = index.head
    except EncoderError as error:
        yield Finding("error", str(error))
        return
    if head is not None:
        yield Finding("ok", f"the {head.name} head of {head.dim} dimensions loads")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
