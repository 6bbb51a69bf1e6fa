"""`rows.parquet`: what each vector stands for, for people and for repairs; needs pyarrow.

Searching and merging read `lookup.npy` and `extras.bin` instead, which have the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipsearch.errors import IndexDamagedError
from clipsearch.store.lookup import LOOKUP_TYPE, NO_FRAME, Lookup, norms_of, set_norms
from clipsearch.types import UNIT_KINDS

ROW_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("media_id", pa.int64()),
        ("kind", pa.string()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("frame_number", pa.int64()),
        ("norm", pa.float32()),  # of the vector before it was scaled; null: not known
        ("columns", pa.string()),  # JSON of what was added with a vector; null: nothing was
    ]
)
ROW_GROUP_ROWS = 65_536


def to_table(rows: Lookup, columns: Sequence[bytes]) -> pa.Table:
    """Rows as ROW_SCHEMA has them; `columns` is empty or has each row's, b"" for none."""
    frames = rows["frame_number"].astype(np.int64)
    names = pa.DictionaryArray.from_arrays(pa.array(rows["kind"]), pa.array(UNIT_KINDS))
    return pa.table(
        {
            "id": rows["id"],
            "media_id": rows["media_id"],
            "kind": names.cast(pa.string()),
            "start_seconds": pa.array(rows["start_seconds"], from_pandas=True),  # NaN: null
            "end_seconds": pa.array(rows["end_seconds"], from_pandas=True),
            "frame_number": pa.array(frames, mask=frames == NO_FRAME),
            "norm": pa.array(norms_of(rows), from_pandas=True),
            "columns": pa.array([c.decode() or None for c in columns], pa.string())
            if columns
            else pa.nulls(len(rows), pa.string()),
        },
        schema=ROW_SCHEMA,
    )


def from_table(table: pa.Table) -> tuple[Lookup, list[bytes]]:
    """The rows of `to_table`, and each row's columns; places and checks are not filled in."""
    rows = np.zeros(len(table), LOOKUP_TYPE)
    rows["kind"] = [UNIT_KINDS.index(kind) for kind in table["kind"].to_pylist()]
    for name in ("id", "media_id", "start_seconds", "end_seconds"):
        rows[name] = table[name].to_numpy()
    rows["frame_number"] = table["frame_number"].fill_null(NO_FRAME).to_numpy()
    set_norms(rows, table["norm"].to_numpy())  # null: NaN
    return rows, [(text or "").encode() for text in table["columns"].to_pylist()]


def parquet_writer(path: Path) -> pq.ParquetWriter:
    """A writer for tables of ROW_SCHEMA; a context manager."""
    return pq.ParquetWriter(path, ROW_SCHEMA, compression="zstd")


def release_memory() -> None:
    """Give back what pyarrow keeps for its next table: indexing makes one every few seconds."""
    pa.default_memory_pool().release_unused()


def read_rows(path: Path, row_count: int) -> pa.Table:
    """All rows. Raises IndexDamagedError if the file is not what was written.

    Only for files whose checksum was found right: a file made to harm could ask for any memory.
    """
    try:
        if pq.read_metadata(path).num_rows != row_count:
            raise IndexDamagedError(f"{path} does not have {row_count} rows", path)
        return pq.read_table(path, schema=ROW_SCHEMA)
    except (pa.ArrowInvalid, OSError) as error:
        raise IndexDamagedError(f"{path} cannot be read: {error}", path) from error
