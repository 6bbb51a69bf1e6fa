"""Reading what is left of a damaged segment. Every row that still fits its check counts as good.

Nothing is asked of segment.json: rows and name come from the catalog, the rest follows from them.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from clipsearch.errors import IndexDamagedError
from clipsearch.store import segment as layout
from clipsearch.store.arrays import PageBudget, header_bytes, open_file, read_file
from clipsearch.store.checks import row_checks, salt_of
from clipsearch.store.exact import VECTOR_TYPE
from clipsearch.store.lookup import LOOKUP_TYPE, Lookup, lookup_checks
from clipsearch.store.merge import MergePart, live_mask
from clipsearch.store.segment import Rows, file_facts, read_facts
from clipsearch.store.statements import SegmentEntry
from clipsearch.types import UNIT_KINDS

BLOCK_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Remains:
    """A damaged segment: a source of its good rows."""

    vectors: NDArray[np.float16]  # (rows or less, dim); junk where a row is not good
    lookup: Lookup  # (rows,)
    extras: bytes | memoryview
    good: NDArray[np.bool_]  # (rows,)

    def take(self, rows: Rows) -> NDArray[np.float16]:
        """(len(rows), dim) vectors."""
        taken: NDArray[np.float16] = self.vectors[rows]
        return taken

    def take_rows(self, rows: Rows) -> Lookup:
        """(len(rows),) rows of LOOKUP_TYPE."""
        taken: Lookup = self.lookup[rows]
        return taken

    def columns(self, rows: Lookup) -> list[bytes]:
        """JSON of the columns of some rows."""
        places = zip(rows["extra_at"].tolist(), rows["extra_bytes"].tolist(), strict=True)
        return [bytes(self.extras[at : at + size]) for at, size in places]

    def part(self, entry: SegmentEntry) -> MergePart:
        """The good rows that are live, for merging."""
        alive = self.good & live_mask(entry.row_count, entry.dead)
        live = {
            kind: np.flatnonzero(alive & (self.lookup["kind"] == number))
            for number, kind in enumerate(UNIT_KINDS)
        }
        return MergePart(entry.id, self, entry.row_count, live)


def salvage(folder: Path, entry: SegmentEntry, dim: int) -> Remains:
    """What can be read of a published segment, whatever happened to its files."""
    rows = entry.row_count
    facts = _facts_as_written(folder, entry)
    if facts is not None and facts["dim"] != dim:
        raise IndexDamagedError(
            f"the manifest says {dim} dimensions, {folder} has {facts['dim']}: put the manifest "
            "back from a copy"
        )
    if not entry.digest:
        return _salvage_version_1(folder, rows, dim)
    vectors = _array(folder / layout.VECTORS, VECTOR_TYPE, (rows, dim))
    checks = _array(folder / layout.CHECKS, layout.CHECK_TYPE, (rows,))
    good = np.zeros(rows, np.bool_)
    salt = salt_of(entry.name, layout.VECTORS)
    for numbers in _blocks(min(len(vectors), len(checks))):
        found = row_checks(vectors[numbers], numbers, salt)
        good[numbers] = found == checks[numbers]
    if not good.all() and _is_as_written(folder, layout.VECTORS, entry, dim):
        good[:] = True  # it is checks.npy that is damaged
    lookup, extras = _salvage_rows(folder, entry, dim)
    good &= _fitting_rows(lookup, extras, entry.name)
    return Remains(vectors, lookup, extras, good)


def stored_ids(folder: Path) -> NDArray[np.int64]:
    """The ids of the good rows in the folder of a segment that the catalog does not know."""
    try:
        size = (folder / layout.LOOKUP).stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return np.empty(0, np.int64)
    # The header is padded to a multiple of 64 bytes, so it is as long for any number of rows.
    rows = (size - len(header_bytes(LOOKUP_TYPE, (1,)))) // LOOKUP_TYPE.itemsize
    if rows < 1:
        return np.empty(0, np.int64)
    lookup = _array(folder / layout.LOOKUP, LOOKUP_TYPE, (rows,))
    numbers, salt = np.arange(len(lookup)), salt_of(folder.name, layout.LOOKUP)
    ids: NDArray[np.int64] = lookup["id"][lookup_checks(lookup, numbers, salt) == lookup["check"]]
    return ids


def _salvage_rows(folder: Path, entry: SegmentEntry, dim: int) -> tuple[Lookup, bytes]:
    """The lookup rows and columns as they are, or from rows.parquet where those are damaged."""
    lookup = np.zeros(entry.row_count, LOOKUP_TYPE)
    found = _array(folder / layout.LOOKUP, LOOKUP_TYPE, lookup.shape)
    lookup[: len(found)] = found
    extras = _content(folder / layout.EXTRAS)
    fitting = _fitting_rows(lookup, extras, entry.name)
    if fitting.all() or not _is_as_written(folder, layout.ROWS, entry, dim):
        return lookup, extras
    from clipsearch.store.rows import from_table, read_rows

    rows, columns = from_table(read_rows(folder / layout.ROWS, entry.row_count))
    lengths = np.array([len(content) for content in columns], np.int64)
    rows["extra_bytes"] = lengths
    rows["extra_at"] = np.cumsum(lengths) - lengths
    rows["extra_crc"] = [zlib.crc32(content) for content in columns]
    numbers = np.arange(len(rows))
    rows["check"] = lookup_checks(rows, numbers, salt_of(entry.name, layout.LOOKUP))
    return rows, b"".join(columns)


def _fitting_rows(lookup: Lookup, extras: bytes, name: str) -> NDArray[np.bool_]:
    """(rows,) whether each row fits its check and its columns their checksum."""
    fitting = np.zeros(len(lookup), np.bool_)
    salt = salt_of(name, layout.LOOKUP)
    for numbers in _blocks(len(lookup)):
        part = lookup[numbers]
        fitting[numbers] = lookup_checks(part, numbers, salt) == part["check"]
        fitting[numbers] &= part["kind"] < len(UNIT_KINDS)
    places = ("extra_at", "extra_bytes", "extra_crc")
    for row in np.flatnonzero(fitting & (lookup["extra_bytes"] > 0)).tolist():
        at, size, crc = (int(lookup[row][place]) for place in places)
        fitting[row] = zlib.crc32(extras[at : at + size]) == crc
    return fitting


def _salvage_version_1(folder: Path, rows: int, dim: int) -> Remains:
    """All or nothing: such segments have no checks of rows."""
    try:
        written = read_facts(folder, dim, "")
        for name in (layout.VECTORS, layout.LOOKUP):
            if file_facts(folder / name)["sha256"] != written["files"][name]["sha256"]:
                raise IndexDamagedError(f"{folder / name} is damaged")
        whole = layout.Segment(folder, dim, "", PageBudget())
    except (IndexDamagedError, FileNotFoundError):
        lookup = np.zeros(rows, LOOKUP_TYPE)
        return Remains(np.empty((0, dim), VECTOR_TYPE), lookup, b"", np.zeros(rows, np.bool_))
    every = np.arange(rows)
    return Remains(whole.take(every), whole.take_rows(every), b"", np.ones(rows, np.bool_))


def _is_as_written(folder: Path, name: str, entry: SegmentEntry, dim: int) -> bool:
    """Whether a file has the hash that an undamaged segment.json says."""
    facts = _facts_as_written(folder, entry)
    try:
        return bool(facts and file_facts(folder / name) == facts["files"][name])
    except (FileNotFoundError, IndexDamagedError):
        return False


def _facts_as_written(folder: Path, entry: SegmentEntry) -> dict[str, Any] | None:
    """What segment.json says, if it is the one that was written."""
    content = _content(folder / layout.FACTS)
    if hashlib.sha256(content).hexdigest() != entry.digest:
        return None
    facts: dict[str, Any] = json.loads(content)
    return facts


def _array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """The whole rows that a file has of those it should have, whatever its header says."""
    start = len(header_bytes(dtype, shape))
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
    try:
        rows = min(shape[0], (path.stat().st_size - start) // row_bytes)
        if rows > 0:
            with open(open_file(path), "rb") as file:  # noqa: PTH123, of a descriptor
                return np.memmap(file, dtype, "r", start, (rows, *shape[1:]))
    except (FileNotFoundError, IndexDamagedError):
        pass
    return np.empty((0, *shape[1:]), dtype)


def _content(path: Path) -> bytes:
    try:
        return read_file(path)
    except (FileNotFoundError, IndexDamagedError):
        return b""


def _blocks(rows: int) -> Iterator[Rows]:
    for first in range(0, rows, BLOCK_ROWS):
        yield np.arange(first, min(first + BLOCK_ROWS, rows))
