"""One immutable segment: a folder with fp16 vectors, their rows, and maybe an ANN index.

    vectors.npy    (rows, dim) float16, the truth that every score is computed from
    checks.npy     (rows,) uint64, the check of each vector (checks.py)
    lookup.npy     each row's id, media, kind, times and norm at a fixed place (lookup.py)
    extras.bin     JSON of the columns that were added with vectors, row after row
    rows.parquet   the last two once more, for people and for repairs (rows.py)
    sums.npy       (unit kinds, dim) float32, the sum of the vectors of each kind
    lists.bin, lists.npy   optional: inverted lists for candidates (lists.py)
    segment.json   name, row count, dimension, the block of rows of each kind, the quantiser of the
                   lists, size and hash of each file; its own hash is in the catalog

Rows are sorted by kind, then by id: a kind is a range of rows, and so is a media's share of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import IndexDamagedError
from clipsearch.store import exact
from clipsearch.store.arrays import (
    ArrayFile,
    BytesFile,
    PageBudget,
    header_bytes,
    naming,
    open_file,
    read_file,
)
from clipsearch.store.checks import row_checks, salt_of
from clipsearch.store.lists import LIST_TABLE, LISTS, ListFile, write_lists
from clipsearch.store.lookup import (
    LOOKUP_TYPE,
    LOOKUP_TYPE_1,
    LOOKUP_TYPE_2,
    Lookup,
    from_version_1,
    lookup_checks,
)
from clipsearch.store.manifest import sync_folder
from clipsearch.store.quantiser import NAME, Quantiser
from clipsearch.store.statements import SegmentEntry
from clipsearch.types import SOURCE_OF, UNIT_KINDS, UnitKind, Vectors

VECTORS, CHECKS, LOOKUP, EXTRAS, ROWS, SUMS, FACTS = (
    "vectors.npy",
    "checks.npy",
    "lookup.npy",
    "extras.bin",
    "rows.parquet",
    "sums.npy",
    "segment.json",
)
SEGMENT_VERSION = 4
LOOKUP_TYPES = {1: LOOKUP_TYPE_1, 2: LOOKUP_TYPE_2, 3: LOOKUP_TYPE, 4: LOOKUP_TYPE}
KIND_COUNTS = {1: 3, 2: 3, 3: 4, 4: len(UNIT_KINDS)}  # of UNIT_KINDS that a version knows
CHECK_TYPE = np.dtype("<u8")
SUM_TYPE = np.dtype("<f4")

Rows = NDArray[np.int64]
FindQuantiser = Callable[[str], Quantiser | None]


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring rows of one kind: (n, dim) float16 vectors, their n rows of LOOKUP_TYPE, and
    the columns of each that has some, in their order. Places and checks are filled in by writing.
    """

    kind: UnitKind
    vectors: NDArray[np.float16]
    rows: Lookup
    columns: Sequence[bytes] = ()  # empty, or one for each row; b"": has none


def write_segment(
    folder: Path,
    name: str,
    pieces: Iterable[Piece],
    *,
    shape: tuple[int, int],
    quantiser: Quantiser | None = None,
) -> str:
    """Write a whole segment of `shape` (rows, dim) into the new `folder`, durably; its digest.

    `pieces` come in the order of UNIT_KINDS and of ids. `name` is what the folder is called when
    it is published. With `quantiser` the segment gets inverted lists.
    """
    # pyarrow takes a tenth of a second to import, and searching does without it.
    from clipsearch.store.rows import ROW_GROUP_ROWS, parquet_writer, release_memory, to_table

    folder.mkdir(parents=True)
    vector_salt, lookup_salt = salt_of(name, VECTORS), salt_of(name, LOOKUP)
    sums = np.zeros((len(UNIT_KINDS), shape[1]), SUM_TYPE)
    blocks = {kind: [0, 0] for kind in UNIT_KINDS}
    cursor = extra_cursor = 0
    with (
        (folder / VECTORS).open("wb") as vectors_file,
        (folder / CHECKS).open("wb") as checks_file,
        (folder / LOOKUP).open("wb") as lookup_file,
        (folder / EXTRAS).open("wb") as extras_file,
        parquet_writer(folder / ROWS) as rows_file,
    ):
        vectors_file.write(header_bytes(exact.VECTOR_TYPE, shape))
        checks_file.write(header_bytes(CHECK_TYPE, shape[:1]))
        lookup_file.write(header_bytes(LOOKUP_TYPE, shape[:1]))
        for piece in pieces:
            count = len(piece.vectors)
            numbers = np.arange(cursor, cursor + count)
            vectors = np.ascontiguousarray(piece.vectors, exact.VECTOR_TYPE)
            vectors_file.write(vectors.data)
            checks_file.write(row_checks(vectors, numbers, vector_salt).data)
            rows = _placed(piece, extra_cursor)
            rows["check"] = lookup_checks(rows, numbers, lookup_salt)
            lookup_file.write(rows.data)
            extra_cursor += sum(map(len, piece.columns))
            extras_file.writelines(piece.columns)
            rows_file.write_table(to_table(rows, piece.columns), row_group_size=ROW_GROUP_ROWS)
            sums[UNIT_KINDS.index(piece.kind)] += vectors.sum(axis=0, dtype=np.float32)
            if blocks[piece.kind][1] == 0:
                blocks[piece.kind] = [cursor, cursor]
            cursor += count
            blocks[piece.kind][1] = cursor
    release_memory()
    assert cursor == shape[0], "the pieces do not add up to the announced rows"
    with (folder / SUMS).open("wb") as file:
        file.write(header_bytes(SUM_TYPE, sums.shape) + sums.tobytes())
    if quantiser is not None:
        written = ArrayFile(folder / VECTORS, exact.VECTOR_TYPE, shape, PageBudget())
        write_lists(quantiser, written, folder, salt_of(name, LISTS))
    return _write_facts(folder, name, shape, blocks, quantiser)


def _placed(piece: Piece, extra_cursor: int) -> Lookup:
    """The piece's rows with the places of their columns."""
    rows = piece.rows.astype(LOOKUP_TYPE)
    rows["extra_at"] = rows["extra_bytes"] = rows["extra_crc"] = 0
    if piece.columns:
        lengths = np.fromiter(map(len, piece.columns), np.int64, len(rows))
        rows["extra_bytes"] = lengths
        rows["extra_at"] = extra_cursor + np.cumsum(lengths) - lengths
        rows["extra_crc"] = np.fromiter(map(zlib.crc32, piece.columns), np.uint32, len(rows))
    return rows


def _write_facts(
    folder: Path,
    name: str,
    shape: tuple[int, int],
    blocks: dict[UnitKind, list[int]],
    quantiser: Quantiser | None,
) -> str:
    files = {path.name: file_facts(path, sync=True) for path in sorted(folder.iterdir())}
    facts = {
        "version": SEGMENT_VERSION,
        "name": name,
        "rows": shape[0],
        "dim": shape[1],
        "kinds": blocks,
        "quantiser": quantiser.facts.name if quantiser else None,
        "files": files,
    }
    content = json.dumps(facts, indent=1).encode()
    with (folder / FACTS).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return hashlib.sha256(content).hexdigest()


def file_facts(path: Path, *, sync: bool = False) -> dict[str, Any]:
    """Size and hash of a file as it is now; `sync` makes it durable."""
    with open(open_file(path), "rb") as file, naming(path):  # noqa: PTH123, of a descriptor
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": digest}


class Segment:
    """A segment opened for reading. Opening reads `segment.json`, `sums.npy` and file sizes; what
    else is read is checked when it is read.

    Files stay open, so a reader keeps its segment when a writer merges it away.

    Raises FileNotFoundError when a file is missing, IndexDamagedError when one has another size
    than it was written with or other content.
    """

    def __init__(
        self,
        folder: Path,
        dim: int,
        digest: str,
        budget: PageBudget,
        find_quantiser: FindQuantiser = lambda _: None,
    ) -> None:
        """`digest` is of segment.json; empty for segments of version 1, which have none."""
        self.folder, self.dim = folder, dim
        facts = read_facts(folder, dim, digest)
        self.facts = facts
        self.row_count: int = facts["rows"]
        self.blocks: dict[UnitKind, list[int]] = facts["kinds"]
        self.version: int = facts.get("version", 1)
        rows = (self.row_count,)
        self._vectors = ArrayFile(
            folder / VECTORS, exact.VECTOR_TYPE, (self.row_count, dim), budget
        )
        self._lookup = ArrayFile(folder / LOOKUP, LOOKUP_TYPES[self.version], rows, budget)
        kinds = UNIT_KINDS[: KIND_COUNTS[self.version]]
        self._sums = ArrayFile(folder / SUMS, SUM_TYPE, (len(kinds), dim), budget)
        self.lists: ListFile | None = None
        self._checks: ArrayFile | None = None
        if self.version > 1:
            self._salts = {n: salt_of(folder.name, n) for n in (VECTORS, LOOKUP, LISTS)}
            self._checks = ArrayFile(folder / CHECKS, CHECK_TYPE, rows, budget)
            self._extras = BytesFile(folder / EXTRAS, budget)
            quantiser = find_quantiser(facts["quantiser"]) if facts["quantiser"] else None
            if quantiser is not None:
                self.lists = ListFile(folder, quantiser, self.row_count, self._salts[LISTS], budget)
        self._scanned = np.zeros(-(-self.row_count // exact.SCAN_ROWS), np.bool_)
        sums = self._sums.read(0, len(kinds))
        self._check_whole(SUMS, sums)
        self.sums: NDArray[np.float32] = np.zeros((len(UNIT_KINDS), dim), SUM_TYPE)
        self.sums[: len(kinds)] = sums
        if self.lists is not None:
            self._check_whole(LIST_TABLE, self.lists.table)

    def search_exactly(
        self, queries: Vectors, k: int, mask: NDArray[np.bool_] | None
    ) -> list[exact.Ranking]:
        """For each query the up to `k` best (scores, rows) where `mask` is True, best first."""
        shape = (self.row_count, self.dim)
        return exact.scan(self._read_checked, shape, queries, k, mask)

    def vectors(self, first: int, count: int) -> NDArray[np.float16]:
        """(count, dim) stored vectors of neighbouring rows."""
        vectors: NDArray[np.float16] = self._vectors.read(first, count)
        self._check_vectors(vectors, np.arange(first, first + count))
        return vectors

    def take(self, rows: Rows, out: NDArray[np.float16] | None = None) -> NDArray[np.float16]:
        """(len(rows), dim) stored vectors of scattered rows."""
        if out is None and _are_neighbours(rows):  # mapped, they would stay in memory
            return self.vectors(int(rows[0]), len(rows))
        vectors = self._vectors.take(rows, out)
        self._check_vectors(vectors, rows)
        return vectors

    def rows(self, first: int, count: int) -> Lookup:
        """(count,) neighbouring rows of LOOKUP_TYPE."""
        return self._checked_rows(self._lookup.read(first, count), np.arange(first, first + count))

    def take_rows(self, rows: Rows) -> Lookup:
        """(len(rows),) scattered rows of LOOKUP_TYPE."""
        return self._checked_rows(self._lookup.take(rows), rows)

    def find(self, ids: NDArray[np.int64]) -> Rows:
        """The row of each id, -1 where there is none."""
        stored = self._lookup.mapped()["id"]
        found = np.full(len(ids), -1)
        for first, end in self.blocks.values():
            if first == end:
                continue
            block = stored[first:end]
            order = np.argsort(block) if self.version == 1 else None  # else they are in order
            at, _ = _places_in_order(block, order, ids)
            there = block[at] == ids
            found = np.where(there, at + first, found)
            if not there.all():
                _, looked_at = _places_in_order(block, order, ids[~there])
                self.take_rows(np.unique(looked_at) + first)  # a damaged id would lead astray
        return found

    def columns(self, rows: Lookup) -> list[bytes]:
        """JSON of the columns of some rows of LOOKUP_TYPE; b"" where there are none."""
        if not rows["extra_bytes"].any():
            return [b""] * len(rows)
        places = zip(rows["extra_at"].tolist(), rows["extra_bytes"].tolist(), strict=True)
        found = self._extras.take(places)
        right = np.fromiter(map(zlib.crc32, found), np.uint32, len(rows)) == rows["extra_crc"]
        if not right.all():
            raise self._damaged(EXTRAS, f"at byte {rows['extra_at'][np.argmin(right)]}")
        return found

    def _read_checked(self, buffer: NDArray[np.uint8], first: int, count: int) -> None:
        """Rows for a scan; a block is checked when it is first read."""
        self._vectors.read_into(buffer, first, count)
        blocks = slice(first // exact.SCAN_ROWS, -(-(first + count) // exact.SCAN_ROWS))
        if not self._scanned[blocks].all():
            data = buffer[: count * self.dim * exact.VECTOR_TYPE.itemsize]
            vectors = data.view(exact.VECTOR_TYPE).reshape(count, self.dim)
            self._check_vectors(vectors, np.arange(first, first + count))
            self._scanned[blocks] = True

    def _check_vectors(self, vectors: NDArray[np.float16], rows: Rows) -> None:
        if self._checks is None or not len(rows):
            return
        right = row_checks(vectors, rows, self._salts[VECTORS]) == self._checks.take(rows)
        if not right.all():
            raise self._damaged(VECTORS, f"(or {CHECKS}) in row {rows[np.argmin(right)]}")

    def _checked_rows(self, found: NDArray[np.void], rows: Rows) -> Lookup:
        if self.version == 1:
            return from_version_1(found)
        found = found.view(LOOKUP_TYPE)
        right = lookup_checks(found, rows, self._salts[LOOKUP]) == found["check"]
        right &= found["kind"] < len(UNIT_KINDS)
        if not right.all():
            raise self._damaged(LOOKUP, f"in row {rows[np.argmin(right)]}")
        return found

    def _check_whole(self, name: str, data: NDArray[Any]) -> None:
        digest = hashlib.sha256(header_bytes(data.dtype, data.shape) + data.tobytes()).hexdigest()
        if digest != self.facts["files"][name]["sha256"]:
            raise self._damaged(name, "somewhere")

    def _damaged(self, name: str, where: str) -> IndexDamagedError:
        return IndexDamagedError(
            f"{self.folder / name} is damaged {where}: run `clipsearch repair`", self.folder / name
        )


def open_segment(
    folder: Path,
    entry: SegmentEntry,
    dim: int,
    budget: PageBudget,
    find_quantiser: FindQuantiser,
) -> Segment:
    """The segment that the catalog has as `entry`. Raises what Segment does, and IndexDamagedError
    for one of another source than the catalog says.
    """
    segment = Segment(folder, dim, entry.digest, budget, find_quantiser)
    for kind, (first, end) in segment.blocks.items():
        if first < end and SOURCE_OF[kind] != entry.source:
            raise IndexDamagedError(
                f"the catalog says that {folder} is of the source {entry.source}, but it has rows "
                f"of kind {kind}"
            )
    return segment


def _are_neighbours(rows: Rows) -> bool:
    span = len(rows) - 1
    return bool(span > 0 and rows[-1] - rows[0] == span and (np.diff(rows) == 1).all())


def _places_in_order(
    stored: NDArray[np.int64], order: Rows | None, ids: NDArray[np.int64]
) -> tuple[Rows, Rows]:
    """Where among `stored` ids, which ascend in `order`, each id is if it is there at all; and
    every place that was looked at.

    By halving, for all at once: np.searchsorted would first copy every id from the mapped file.
    As ids are whole numbers that ascend, the first and the last leave little room: none at all
    where no id is left out.
    """
    end = len(stored) - 1
    first, last = stored[[0, end] if order is None else order[[0, end]]].tolist()
    high = np.clip(ids - first, 0, end)
    low = np.clip(end - (last - ids), 0, high)
    looked_at = [np.array([0, end]), low, high]
    while (open_ := low < high).any():
        middle = (low + high) // 2
        looked_at.append(middle)
        less = open_ & (stored[middle if order is None else order[middle]] < ids)
        low = np.where(less, middle + 1, low)
        high = np.where(open_ & ~less, middle, high)
    places = np.concatenate([*looked_at, low])
    return (low, places) if order is None else (order[low], order[places])


def read_facts(folder: Path, dim: int, digest: str) -> dict[str, Any]:
    """What segment.json says, if the files are as it says. `digest` is its own; "": has none.

    Raises FileNotFoundError or IndexDamagedError.
    """
    path = folder / FACTS
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise IndexDamagedError(f"{folder} is a link or no folder", folder)
    content = read_file(path)
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise IndexDamagedError(f"{path} is not the file that was written", path)
    try:
        facts: dict[str, Any] = json.loads(content)
        _check_facts(facts, digest)
        for name, file in facts["files"].items():
            size = (folder / name).lstat().st_size
            if size != file["bytes"]:
                raise IndexDamagedError(
                    f"{folder / name} has {size} bytes, not the {file['bytes']} that were written",
                    folder / name,
                )
        if facts["dim"] != dim:
            raise IndexDamagedError(f"{path} has dim {facts['dim']}, the index {dim}", path)
        _check_blocks(facts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IndexDamagedError(f"{path} cannot be read: {error}", path) from error
    return facts


def _check_facts(facts: dict[str, Any], digest: str) -> None:
    """Raise ValueError, KeyError or TypeError for what no segment can be."""
    version = facts.get("version", 1)
    if version not in (range(2, SEGMENT_VERSION + 1) if digest else (1,)):
        raise ValueError(f"version {version}: install a newer clipsearch")
    if any(type(facts[name]) is not int or facts[name] < 1 for name in ("rows", "dim")):
        raise ValueError(f"{facts['rows']} rows of {facts['dim']}")
    names = facts["files"].keys()
    if version == 1:
        needed, others = {VECTORS, LOOKUP, ROWS, SUMS}, {"ann.faiss"}
    else:
        needed, others = {VECTORS, CHECKS, LOOKUP, EXTRAS, ROWS, SUMS}, {LISTS, LIST_TABLE}
        quantiser = facts["quantiser"]
        if quantiser is not None:
            needed, others = needed | others, set()
            if not NAME.fullmatch(quantiser):
                raise ValueError(f"quantiser {quantiser!r}")
    if needed - names or names - needed - others:
        raise ValueError(f"files {', '.join(names)}")


def _check_blocks(facts: dict[str, Any]) -> None:
    """Raise ValueError unless the kinds' blocks of rows cover all rows once."""
    for kind in UNIT_KINDS[KIND_COUNTS[facts.get("version", 1)] :]:
        facts["kinds"].setdefault(kind, [facts["rows"], facts["rows"]])
    blocks = [facts["kinds"][kind] for kind in UNIT_KINDS]
    cursor = 0
    for first, end in blocks:
        if first == end:
            continue
        if first != cursor or end < first:
            raise ValueError(f"kinds {facts['kinds']} do not cover {facts['rows']} rows")
        cursor = end
    if cursor != facts["rows"]:
        raise ValueError(f"kinds {facts['kinds']} do not cover {facts['rows']} rows")
