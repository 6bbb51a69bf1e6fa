"""What readers of other formats give: vectors with a table of what they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipsearch.errors import MediaError
from clipsearch.exchange.rows import ROWS_AT_ONCE

ARCHIVE = b"PK"  # how a .npz begins, by whatever name
BATCH_ROWS = 1024  # of a table, read at once
LARGEST_ROWS = 1 << 31  # bytes that are held: a small file may repeat a large text without end
WIDTHS = (2, 4, 8)  # bytes of a number
# What NumPy raises for a header, which it reads as Python reads a literal.
NO_ARRAY = (OSError, ValueError, EOFError, OverflowError, TypeError, RecursionError, TokenError)


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a file: (n, dim) vectors, not checked, and a table with n rows."""

    path: Path
    vectors: NDArray[Any]
    table: pa.Table


def opened_array(path: Path) -> NDArray[Any]:
    """The (n, dim) vectors in a .npy file, mapped. Raises MediaError."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(ARCHIVE))
        if begin == ARCHIVE:
            raise MediaError("it is an archive of arrays: need one array")
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except NO_ARRAY as error:
        raise MediaError(f"it is no .npy file of numbers: {error}") from error
    if array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize not in WIDTHS:
        what = f"{array.dtype} of shape {array.shape}"
        raise MediaError(f"it holds {what}: need (n, dim) float16, float32 or float64")
    return array


def array_blocks(vectors: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Its rows, ROWS_AT_ONCE at a time."""
    for first in range(0, len(vectors), ROWS_AT_ONCE):
        yield vectors[first : first + ROWS_AT_ONCE]


def table_batches(path: Path) -> Iterator[pa.Table]:
    """The rows of a Parquet file, ROWS_AT_ONCE at a time. Raises MediaError."""
    try:
        with pq.ParquetFile(path) as file:
            held: pa.Table | None = None
            for group in range(file.num_row_groups):  # one after the other: all would be read ahead
                for batch in file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group]):
                    batch.validate(full=True)  # text may be none
                    more = pa.Table.from_batches([batch])
                    held = more if held is None else pa.concat_tables([held, more])
                    if held.nbytes > LARGEST_ROWS:
                        raise MediaError(f"{path.name} has rows that are too large together")
                    while len(held) >= ROWS_AT_ONCE:
                        yield held.slice(0, ROWS_AT_ONCE)
                        held = held.slice(ROWS_AT_ONCE)
            if held is not None and len(held):
                yield held
    except (pa.ArrowException, OSError, EOFError) as error:
        raise MediaError(f"{path.name} cannot be read: {error}") from error


def paired(path: Path, table: Path) -> Iterator[Part]:
    """The rows of an array with those of the table that describes it. Raises MediaError."""
    vectors, rows = opened_array(path), table_rows(table)
    if rows != len(vectors):
        raise MediaError(f"it has {len(vectors)} rows, and {table.name} has {rows}")
    batches = table_batches(table)
    for block in array_blocks(vectors):
        batch = next(batches, None)
        if batch is None or len(batch) != len(block):
            raise MediaError(f"{table.name} has fewer rows than it says")
        yield Part(path, block, batch)


def table_rows(path: Path) -> int:
    """How many rows a Parquet file has. Raises MediaError."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise MediaError(f"{path.name} cannot be read: {error}") from error
