"""Reading back what `npy` and `parquet` exports have written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipsearch.errors import MediaError, UsageError
from clipsearch.exchange.arrays import NOTE_KEY, PARQUET, ROWS_FILE, VECTOR, VECTORS_FILE
from clipsearch.exchange.importing import Facts
from clipsearch.exchange.parts import (
    Part,
    array_blocks,
    opened_array,
    table_batches,
    table_rows,
)
from clipsearch.exchange.places import parse_note, read_note
from clipsearch.types import Failure


def look_at_npy(folder: Path) -> Facts:
    """The dimension of `vectors.npy`, and the note. Raises UsageError."""
    try:
        return Facts(opened_array(folder / VECTORS_FILE).shape[1], read_note(folder))
    except MediaError as error:
        raise UsageError(f"{folder / VECTORS_FILE}: {error}") from error


def read_npy(folder: Path) -> Iterator[Part | Failure]:
    """The rows of `vectors.npy` with those of `rows.parquet`; a Failure where they do not fit."""
    path, table = folder / VECTORS_FILE, folder / ROWS_FILE
    try:
        vectors = opened_array(path)
        count = table_rows(table)
        if count != len(vectors):
            raise MediaError(f"it has {len(vectors)} rows, and {table.name} has {count}")
        for block, batch in zip(array_blocks(vectors), table_batches(table), strict=True):
            yield Part(path, block, batch)
    except MediaError as error:
        yield Failure(path, str(error))


def look_at_parquet(source: Path) -> Facts:
    """The dimension of the column `vector` of the first file that can be read, and the note.

    Raises UsageError.
    """
    reason = f"it has no column {VECTOR!r} of lists of numbers"
    for path in _tables(source):
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError) as error:
            reason = str(error)
            continue
        note = parse_note((schema.metadata or {}).get(NOTE_KEY))
        if VECTOR in schema.names:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=1, columns=[VECTOR]):
                    return Facts(len(batch[VECTOR][0]), note)
    raise UsageError(f"{source} holds no table of vectors that can be read: {reason}")


def read_parquet(source: Path) -> Iterator[Part | Failure]:
    """The rows of one file, or of those of a folder; a Failure for one that cannot be read."""
    for path in _tables(source):
        try:
            for table in table_batches(path):
                yield Part(path, _vectors(table), table.drop_columns([VECTOR]))
        except MediaError as error:
            yield Failure(path, str(error))


def _vectors(table: pa.Table) -> NDArray[np.floating[Any]]:
    """(n, dim) of the column `vector`. Raises MediaError."""
    if VECTOR not in table.column_names:
        raise MediaError(f"it has no column {VECTOR!r}")
    column = table[VECTOR].combine_chunks()
    inner = getattr(column.type, "value_type", None)
    if inner is None or not pa.types.is_floating(inner):
        raise MediaError(f"its column {VECTOR!r} is of type {column.type}: need lists of numbers")
    lengths = set(pc.list_value_length(column).to_pylist())
    if len(lengths) != 1 or not lengths - {None, 0}:
        raise MediaError(f"its column {VECTOR!r} has rows of several lengths, or empty ones")
    values = column.flatten().to_numpy(zero_copy_only=False)
    vectors: NDArray[np.floating[Any]] = values.reshape(len(table), -1)
    return vectors


def _tables(source: Path) -> list[Path]:
    """Raises UsageError where there are none."""
    found = [source] if source.is_file() else sorted(source.glob(f"*{PARQUET}"))
    if not found:
        raise UsageError(f"{source} holds no {PARQUET} files")
    return found
