"""`rows.parquet`: what each vector stands for, for people and for merging; needs pyarrow.

Searching looks rows up in `lookup.npy` instead, which has the same values at fixed places.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipsearch.errors import IndexDamagedError
from clipsearch.store.lookup import LOOKUP_TYPE, NO_FRAME
from clipsearch.types import UNIT_KINDS, Unit

ROW_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("media_id", pa.int64()),
        ("kind", pa.string()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("frame_number", pa.int64()),
    ]
)
ROW_GROUP_ROWS = 65_536


def rows_table(first_id: int, media_ids: Sequence[int], units: Sequence[Unit]) -> pa.Table:
    """Rows of ROW_SCHEMA for units of one kind; ids count up from `first_id`."""
    return pa.table(
        {
            "id": np.arange(first_id, first_id + len(units)),
            "media_id": np.asarray(media_ids, np.int64),
            "kind": [unit.kind for unit in units],
            "start_seconds": [unit.start_seconds for unit in units],
            "end_seconds": [unit.end_seconds for unit in units],
            "frame_number": [unit.frame_number for unit in units],
        },
        schema=ROW_SCHEMA,
    )


def to_lookup(table: pa.Table) -> NDArray[np.void]:
    """The same rows as an array of LOOKUP_TYPE."""
    lookup = np.empty(len(table), LOOKUP_TYPE)
    for name in ("id", "media_id"):
        lookup[name] = table[name].to_numpy()
    lookup["kind"] = [UNIT_KINDS.index(kind) for kind in table["kind"].to_pylist()]
    for name in ("start_seconds", "end_seconds"):
        lookup[name] = table[name].to_numpy()  # null becomes NaN
    lookup["frame_number"] = table["frame_number"].fill_null(NO_FRAME).to_numpy()
    return lookup


def parquet_writer(path: Path) -> pq.ParquetWriter:
    """A writer for tables of ROW_SCHEMA; a context manager."""
    return pq.ParquetWriter(path, ROW_SCHEMA, compression="zstd")


def read_rows(path: Path, row_count: int) -> pa.Table:
    """All rows. Raises IndexDamagedError if the file is not what was written."""
    try:
        table = pq.read_table(path, schema=ROW_SCHEMA)
    except (pa.ArrowInvalid, OSError) as error:
        raise IndexDamagedError(f"{path} cannot be read: {error}") from error
    if len(table) != row_count:
        raise IndexDamagedError(f"{path} has {len(table)} rows, not {row_count}")
    return table
