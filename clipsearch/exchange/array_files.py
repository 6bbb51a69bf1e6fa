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
from clipsearch.exchange.arrays import PARQUET, ROWS_FILE, VECTOR, VECTORS_FILE, noted_in
from clipsearch.exchange.importing import Facts
from clipsearch.exchange.parts import (
    Part,
    opened_array,
    paired,
    table_batches,
)
from clipsearch.exchange.places import read_note
from clipsearch.types import Failure

LOOKED_AT = 64  # rows read together until one has a vector


def look_at_npy(folder: Path) -> Facts:
    """The dimension of `vectors.npy`, and the note. Raises UsageError."""
    try:
        return Facts(opened_array(folder / VECTORS_FILE).shape[1], read_note(folder))
    except MediaError as error:
        raise UsageError(f"{folder / VECTORS_FILE}: {error}") from error


def read_npy(folder: Path) -> Iterator[Part | Failure]:
    """The rows of `vectors.npy` with those of `rows.parquet`; a Failure where they do not fit."""
    path = folder / VECTORS_FILE
    try:
        yield from paired(path, folder / ROWS_FILE)
    except MediaError as error:
        yield Failure(path, str(error))


def look_at_parquet(source: Path) -> Facts:
    """The dimension of the column `vector` of the first file that can be read, and the note.

    Raises UsageError.
    """
    reason = f"no row has a list of numbers in a column {VECTOR!r}"
    for path in _tables(source):
        try:
            with pq.ParquetFile(path) as file:
                if VECTOR not in file.schema_arrow.names:
                    continue
                for batch in file.iter_batches(batch_size=LOOKED_AT, columns=[VECTOR]):
                    dim = _vectors(pa.Table.from_batches([batch])).shape[1]
                    if dim:
                        return Facts(dim, noted_in(file.schema_arrow))
        except (pa.ArrowException, OSError, EOFError, MediaError) as error:
            reason = str(error)
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
    """(n, dim) of the column `vector`; rows without one are zero. Raises MediaError."""
    count = table.column_names.count(VECTOR)
    if count != 1:
        raise MediaError(f"it has {count or 'no'} columns {VECTOR!r}: need one")
    column = table[VECTOR].combine_chunks()
    if isinstance(column, pa.ExtensionArray):  # tensors
        column = column.storage
    inner = getattr(column.type, "value_type", None)
    if inner is None or not pa.types.is_floating(inner):
        raise MediaError(f"its column {VECTOR!r} is of type {column.type}: need lists of numbers")
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    lengths = np.unique(counts[counts > 0])
    if len(lengths) > 1:
        raise MediaError(f"its column {VECTOR!r} has rows of several lengths")
    values: NDArray[np.floating[Any]] = column.flatten().to_numpy(zero_copy_only=False)
    dim = int(lengths[0]) if len(lengths) else 0
    if len(values) == len(table) * dim:
        return values.reshape(len(table), dim)
    vectors = np.zeros((len(table), dim), values.dtype)
    vectors[counts > 0] = values.reshape(-1, dim)
    return vectors


def _tables(source: Path) -> list[Path]:
    """Raises UsageError where there are none."""
    found = [source] if source.is_file() else sorted(source.glob(f"*{PARQUET}"))
    if not found:
        raise UsageError(f"{source} holds no {PARQUET} files")
    return found
