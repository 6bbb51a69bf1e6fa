"""Vectors that were made elsewhere, with a table of what they stand for, in blocks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.store.lookup import LOOKUP_TYPE, NO_FRAME, Lookup
from clipsearch.types import UNIT_KINDS, VECTOR_KINDS, check_unit_rows

if TYPE_CHECKING:
    import pyarrow as pa

Table = Union["pa.Table", Mapping[str, Sequence[Any]]]

BLOCK_ROWS = 131_072  # rows published at once: 128 MB of fp16 at 512 dimensions
PATH, KIND, START, END, FRAME = "path", "kind", "start", "end", "frame_number"
OWN_COLUMNS = (KIND, START, END, FRAME)  # kept at fixed places; the others as JSON
LARGEST_FRAME = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """Checked vectors, (n, dim) float16 unit rows, with their n rows and columns as JSON."""

    vectors: NDArray[np.float16]
    rows: Lookup
    columns: list[bytes]


def blocks_of(
    vectors: NDArray[Any] | Iterable[NDArray[Any]],
    table: Table | Iterable[Table],
    *,
    dim: int,
    normalize: bool,
) -> Iterator[VectorBlock]:
    """Arrays and tables, one of each or as many of one as of the other, in checked blocks.

    Raises UsageError for the first block that is not as it must be.
    """
    if isinstance(vectors, np.ndarray):
        pairs: Iterable[tuple[Any, Any]] = [(vectors, table)]
    else:
        pairs = _paired(vectors, table)
    for array, columns in pairs:
        arrow = _arrow(columns)
        if array.ndim != 2 or array.shape[1] != dim:
            raise UsageError(f"vectors of shape {array.shape}: need (n, {dim})")
        if len(arrow) != len(array):
            raise UsageError(f"a table of {len(arrow)} rows for {len(array)} vectors")
        for first in range(0, len(array), BLOCK_ROWS):
            part = _unit_rows(array[first : first + BLOCK_ROWS], normalize)
            yield VectorBlock(part, *_rows(arrow.slice(first, BLOCK_ROWS)))


def _paired(vectors: Iterable[Any], tables: Any) -> Iterator[tuple[Any, Any]]:
    try:
        yield from zip(vectors, iter(tables), strict=True)
    except ValueError as error:
        if "zip()" not in str(error):
            raise
        raise UsageError("there are not as many tables as arrays of vectors") from None


def _arrow(table: Any) -> pa.Table:
    import pyarrow as pa

    try:
        arrow = table if isinstance(table, pa.Table) else pa.table(dict(table))
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as error:
        raise UsageError(f"the table of the vectors: {error}") from error
    if PATH not in arrow.column_names or arrow[PATH].null_count:
        raise UsageError(f"the table needs a column {PATH!r} without nulls")
    return arrow


def _unit_rows(array: NDArray[Any], normalize: bool) -> NDArray[np.float16]:
    if array.dtype not in (np.float32, np.float16):
        raise UsageError(f"vectors of type {array.dtype}: need float32 or float16")
    vectors = np.asarray(array, np.float32)
    if normalize:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        bad = np.flatnonzero(~((norms[:, 0] > 0) & np.isfinite(norms[:, 0])))
        if bad.size:
            raise UsageError(f"row {bad[0]} has norm {norms[bad[0], 0]}: cannot be normalised")
        vectors = vectors / norms
    check_unit_rows(vectors)
    return vectors.astype(np.float16)


def _rows(table: pa.Table) -> tuple[Lookup, list[bytes]]:
    rows = np.zeros(len(table), LOOKUP_TYPE)
    rows["kind"] = _kinds(table)
    rows["start_seconds"] = _numbers(table, START)
    rows["end_seconds"] = _numbers(table, END)
    _check_times(rows)
    frames = np.nan_to_num(_numbers(table, FRAME), nan=NO_FRAME)
    if (frames > LARGEST_FRAME).any() or (frames < NO_FRAME).any():
        raise UsageError(f"column {FRAME!r}: use numbers from 0 to {LARGEST_FRAME}")
    rows["frame_number"] = frames
    others = table.drop_columns([name for name in OWN_COLUMNS if name in table.column_names])
    return rows, [_json(values) for values in others.to_pylist()]


def _kinds(table: pa.Table) -> NDArray[np.uint8]:
    if KIND not in table.column_names:
        return np.zeros(len(table), np.uint8)  # images
    kinds = table[KIND].to_pylist()
    unknown = set(kinds) - set(VECTOR_KINDS)
    if unknown:
        raise UsageError(f"kind {unknown.pop()!r}: use one of {', '.join(VECTOR_KINDS)}")
    return np.array([UNIT_KINDS.index(kind) for kind in kinds], np.uint8)


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column of numbers; NaN where it is null, or not there at all."""
    import pyarrow as pa

    if name not in table.column_names:
        return np.full(len(table), np.nan)
    try:
        numbers: NDArray[np.float64] = table[name].cast(pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(f"column {name!r} must hold numbers: {error}") from error
    return numbers


def _check_times(rows: Lookup) -> None:
    start, end = rows["start_seconds"], rows["end_seconds"]
    still = rows["kind"] == UNIT_KINDS.index("image")
    timed = ~np.isnan(start) & ~np.isnan(end)
    ordered = (start >= 0) & (start <= end) & np.isfinite(end)
    wrong = np.flatnonzero(np.where(still, ~(np.isnan(start) & np.isnan(end)), ~(timed & ordered)))
    if wrong.size:
        at = wrong[0]
        kind = UNIT_KINDS[rows["kind"][at]]
        raise UsageError(
            f"row {at} of the table is of kind {kind} with start {start[at]} and end {end[at]}: "
            + ("images have no times" if kind == "image" else "need seconds, 0 <= start <= end")
        )


def _json(values: dict[str, Any]) -> bytes:
    try:
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    except TypeError:
        odd = next(name for name, value in values.items() if not _is_plain(value))
        raise UsageError(
            f"column {odd!r} holds {type(values[odd]).__name__}: use text, numbers, booleans or "
            "lists of them"
        ) from None


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
