"""`npy` and `parquet`: the rows of an index as arrays and tables, for whatever reads those."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipsearch.exchange.columns import vector_column
from clipsearch.exchange.job import Job
from clipsearch.exchange.places import (
    NOTE_FILE,
    Layout,
    Note,
    check_file,
    check_folder,
    parse_note,
    whole_file,
    whole_folder,
)
from clipsearch.exchange.rows import Record, RowBlock, put_aside
from clipsearch.store.arrays import header_bytes

VECTORS_FILE, ROWS_FILE = "vectors.npy", "rows.parquet"
PARQUET, VECTOR = ".parquet", "vector"
PART_ROWS = 1_000_000  # of one file of a folder
NOTE_KEY = b"clipsearch"  # in the metadata of a Parquet file's schema
FIXED_TYPES = {
    "id": pa.int64(),
    "path": pa.string(),
    "kind": pa.string(),
    "start": pa.float64(),
    "end": pa.float64(),
    "frame_number": pa.int64(),
}


class NpyFile:
    """A .npy file of (n, dim) float16 that is written in blocks; n need not be known before."""

    def __init__(self, path: Path, dim: int) -> None:
        self._file = path.open("wb")
        self._dim, self.rows = dim, 0
        self._file.write(header_bytes(np.float16, (0, dim)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file as file:
            if kind is None:
                file.seek(0)  # NumPy leaves room for any number of rows
                file.write(header_bytes(np.float16, (self.rows, self._dim)))

    def write(self, vectors: NDArray[np.float16]) -> None:
        """Put (n, dim) rows behind those before."""
        self._file.write(np.ascontiguousarray(vectors, np.float16).data)
        self.rows += len(vectors)


def as_they_are(record: Record) -> Record:
    """Records keep their names."""
    return record


def as_parquet(record: Record) -> Record:
    """A record without a value called `vector`, which is the name of the vectors."""
    values = dict(record)
    if VECTOR in values:
        put_aside(values, VECTOR)
    return values


def noted_in(schema: pa.Schema) -> Note | None:
    """The note of an export in a Parquet file's schema."""
    return parse_note((schema.metadata or {}).get(NOTE_KEY))


def all_noted(folder: Path) -> bool:
    """Whether all Parquet files of a folder say that an export has written them."""
    try:
        return all(noted_in(pq.read_schema(path)) for path in folder.glob(f"*{PARQUET}"))
    except (pa.ArrowException, OSError):
        return False


NPY_LAYOUT = Layout((VECTORS_FILE, ROWS_FILE))
PARQUET_LAYOUT = Layout((f"*{PARQUET}",), all_noted)


def is_file(target: Path) -> bool:
    """Whether `parquet` is to be one file."""
    return target.suffix.lower() == PARQUET


def check_npy(target: Path, *, overwrite: bool) -> None:
    """Raise UsageError for a target that must not be written."""
    check_folder(target, NPY_LAYOUT, overwrite=overwrite)


def check_parquet(target: Path, *, overwrite: bool) -> None:
    """Raise UsageError for a target that must not be written."""
    if is_file(target):
        check_file(target, overwrite=overwrite)
    else:
        check_folder(target, PARQUET_LAYOUT, overwrite=overwrite)


def write_npy(job: Job, target: Path) -> int:
    """`vectors.npy`, (n, dim) float16 unit rows, and `rows.parquet`, whose row k describes its row
    k. How many rows; raises UsageError for a target that must not be written.
    """
    with whole_folder(target, NPY_LAYOUT, overwrite=job.overwrite) as folder:
        with (
            NpyFile(folder / VECTORS_FILE, job.dim) as vectors,
            pq.ParquetWriter(folder / ROWS_FILE, job.columns.schema, compression="zstd") as rows,
        ):
            for block in job.blocks():
                vectors.write(block.vectors)
                rows.write_table(job.columns.table(block.records))
        (folder / NOTE_FILE).write_text(job.note(vectors.rows).to_json(), "utf-8")
        return vectors.rows


def write_parquet(job: Job, target: Path) -> int:
    """One file if `target` ends with .parquet, else a folder of files of some million rows each:
    the vectors as lists of float32, which every reader has, in the column `vector`.

    The same values as float16: they are split by bytes, and the empty ones compress to nothing.
    How many rows; raises UsageError for a target that must not be written.
    """
    if is_file(target):
        with whole_file(target, overwrite=job.overwrite) as file, _Parts(job, file) as parts:
            for block in job.blocks():
                parts.write(block)
        return parts.rows
    with whole_folder(target, PARQUET_LAYOUT, overwrite=job.overwrite) as folder:
        with _Parts(job, folder) as parts:
            for block in job.blocks():
                parts.write(block)
        return parts.rows


class _Parts:
    """One Parquet file, or those of a folder one after the other."""

    def __init__(self, job: Job, target: Path) -> None:
        self._job, self._target, self.rows = job, target, 0
        note = {NOTE_KEY: job.note(0).to_json().encode()}  # a Parquet file counts its rows itself
        vectors = pa.list_(pa.field("element", pa.float32()), job.dim)
        self._schema = job.columns.schema.append(pa.field(VECTOR, vectors)).with_metadata(note)
        self._number = self._in_part = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, block: RowBlock) -> None:
        """Put a block's rows behind those before."""
        if self._writer is None or (self._target.is_dir() and self._in_part >= PART_ROWS):
            self._next_file()
        assert self._writer is not None, "a file was begun"
        vectors = vector_column(block.vectors.astype(np.float32)).cast(
            self._schema.field(VECTOR).type
        )
        table = self._job.columns.table(block.records).append_column(VECTOR, vectors)
        self._writer.write_table(table.cast(self._schema))
        self._in_part += len(block.records)
        self.rows += len(block.records)

    def _next_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
        path = self._target
        if path.is_dir():
            path = path / f"part-{self._number:05}{PARQUET}"
            self._number += 1
        leaf = f"{VECTOR}.list.element"
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            use_dictionary=[n for n in self._job.columns.schema.names if n != VECTOR],
            use_byte_stream_split=[leaf],
        )
        self._in_part = 0
