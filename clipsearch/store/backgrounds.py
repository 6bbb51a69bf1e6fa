"""`background.bin`: what unrelated texts score in an index, kept beside it.

    64 hex digits   SHA-256 of all that follows the line
    one line        JSON: format, version, facts, and the name, type and shape of each array
    the arrays      one after the other, little-endian

It can be made again at any time, so one that is damaged, or of another version, is as if there
were none.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import IndexDamagedError
from clipsearch.store.arrays import read_file
from clipsearch.store.manifest import sync_folder

BACKGROUND_FILE = "background.bin"
BACKGROUND_TEMPORARY = BACKGROUND_FILE + ".tmp"
FORMAT_NAME = "clipsearch-background"
FORMAT_VERSION = 2  # 1: by a law without an end


@dataclass(frozen=True, slots=True, eq=False)
class StoredBackground:
    """What the file holds: facts that JSON can say, and rows in half precision by name."""

    facts: Mapping[str, Any]
    rows: Mapping[str, NDArray[np.float16]]  # (n, dim) each

    def save(self, folder: Path) -> None:
        """Write atomically and durably; an interruption leaves the file from before."""
        arrays = {name: np.ascontiguousarray(rows, "<f2") for name, rows in self.rows.items()}
        header = {
            "format": FORMAT_NAME,
            "version": FORMAT_VERSION,
            "facts": dict(self.facts),
            "rows": {name: list(array.shape) for name, array in arrays.items()},
        }
        line = json.dumps(header).encode() + b"\n"
        content = b"".join([line, *(array.tobytes() for array in arrays.values())])
        digest = hashlib.sha256(content).hexdigest().encode() + b"\n"
        temporary = folder / BACKGROUND_TEMPORARY
        temporary.unlink(missing_ok=True)  # it may be a link
        with temporary.open("xb") as file:
            file.write(digest + content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / BACKGROUND_FILE)
        sync_folder(folder)


def load_background(folder: Path) -> StoredBackground | None:
    """What `folder` has; None if there is none that can be used."""
    try:
        content = read_file(folder / BACKGROUND_FILE)
        digest, _, rest = content.partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != digest:
            return None
        line, _, data = rest.partition(b"\n")
        header = json.loads(line)
        if header["format"] != FORMAT_NAME or header["version"] != FORMAT_VERSION:
            return None
        return StoredBackground(header["facts"], _arrays(header["rows"], data))
    except (OSError, IndexDamagedError, ValueError, KeyError, TypeError):
        return None


def background_stamp(folder: Path) -> tuple[int, ...]:
    """Another one whenever the file is; () without one. Cheap."""
    try:
        facts = (folder / BACKGROUND_FILE).lstat()
    except OSError:
        return ()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _arrays(shapes: Mapping[str, list[int]], data: bytes) -> dict[str, NDArray[np.float16]]:
    found, at = {}, 0
    for name, shape in shapes.items():
        found[name] = np.frombuffer(data, "<f2", math.prod(shape), at).reshape(shape)
        at += found[name].nbytes
    return found
