"""Tables of others as the index takes them: which column is the path, which values are plain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipsearch.exchange.rows import FIXED
from clipsearch.types import UNIT_NORM_TOLERANCE, VECTOR_KINDS

PATH, KIND = "path", "kind"
PATHS = ("image_path", "path", "video_path", "url", "uri", "filename", "file_name", "key")
OUR_ID = "clipsearch_id"  # only exports of ours have this column
TIMED = ("kind", "start", "end", "frame_number")
TAKEN = ("id", "media_id", "vector")  # names that rows of an index have already
PANDAS_INDEX = "__index_level_"


def unit_halves(vectors: NDArray[Any]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """(n, dim) vectors as the store keeps them, and (n,) which can be kept.

    Rows of unit length are as they were, to the bit for float16; others are scaled. One that is
    zero, or not finite, has no direction.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.asarray(vectors, np.float32)
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    usable = np.isfinite(norms) & (norms > 0)
    off = usable & ~(np.abs(norms - 1) <= UNIT_NORM_TOLERANCE / 2)
    if off.any():
        rows = np.where(off[:, None], rows / np.where(off, norms, 1)[:, None], rows)
    halves = np.where(usable[:, None], rows, 0).astype(np.float16)
    return halves, usable


def as_ours(table: pa.Table) -> pa.Table:
    """A table with the columns that the index takes: `path` without nulls but where no column says
    one, its own names only where they mean what they mean to it, and no binary columns.
    """
    columns = {
        name: plain(column)
        for name, column in zip(table.column_names, table.columns, strict=True)
        if not name.startswith(PANDAS_INDEX) and not _is_binary(column.type)
    }
    paths: tuple[str, ...] = PATHS
    if table.column_names[: len(FIXED)] == list(FIXED):
        paths = (PATH,)  # an export of ours, where all other names are those of added columns
    elif OUR_ID in columns and PATH in columns:
        columns.pop("image_path", None)
        _rename(columns, OUR_ID, "source_id")
        if _is_null(columns.get("caption")):
            columns.pop("caption", None)
    if not _is_timed(columns):
        for name in TIMED:
            _rename(columns, name, f"source_{name}")
    for name in TAKEN:
        _rename(columns, name, f"source_{name}")
    path = None
    for name in paths:
        if name in columns and pa.types.is_string(columns[name].type):
            if path is None:
                path = columns.pop(name)
            elif path.null_count:
                path = pc.coalesce(path, columns[name])
    if PATH in columns:
        _rename(columns, PATH, f"source_{PATH}")
    if path is None:
        path = pa.nulls(len(table), pa.string())
    return pa.table({PATH: path, **columns})


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text, numbers, booleans or lists: dates and the like become text."""
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_dictionary(kind):
        return plain(column.cast(kind.value_type))
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.string())
    return column


def _is_binary(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_binary(kind.value_type)
    if pa.types.is_dictionary(kind):
        return _is_binary(kind.value_type)
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_timed(columns: dict[str, pa.ChunkedArray]) -> bool:
    """Whether `kind`, `start` and `end` say what they say in an index."""
    kinds = columns.get(KIND)
    if kinds is None or not pa.types.is_string(kinds.type):
        return False
    if not set(pc.unique(kinds).to_pylist()) <= set(VECTOR_KINDS):
        return False
    numbers = [columns[name].type for name in TIMED[1:] if name in columns]
    return all(
        pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)
        for kind in numbers
    )


def _is_null(column: pa.ChunkedArray | None) -> bool:
    return column is not None and column.null_count == len(column)


def _rename(columns: dict[str, pa.ChunkedArray], name: str, wish: str) -> None:
    if name not in columns:
        return
    while wish in columns:
        wish += "_"
    columns[wish] = columns.pop(name)
