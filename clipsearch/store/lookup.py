"""`lookup.npy`: the rows at fixed places, so that those of a hit are found without a search."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import IndexDamagedError
from clipsearch.store.checks import Checks, row_checks
from clipsearch.types import UNIT_KINDS, ScoredUnit, Unit

NO_FRAME = -1
NO_MEDIA = 0  # a vector that was added by itself; media ids start at 1
CHECKED_BYTES = 56
LOOKUP_TYPE = np.dtype(
    [
        ("id", "<i8"),
        ("media_id", "<i8"),  # NO_MEDIA: not of a file that was indexed
        ("start_seconds", "<f8"),  # NaN: has no time
        ("end_seconds", "<f8"),
        ("extra_at", "<u8"),  # where the row's columns start in extras.bin
        ("extra_bytes", "<u4"),  # their length; 0: has none
        ("extra_crc", "<u4"),  # CRC-32 of these bytes
        ("frame_number", "<i4"),  # NO_FRAME: is none
        ("kind", "u1"),  # its place in UNIT_KINDS
        ("padding", "V3"),
        ("check", "<u8"),  # of all before
    ]
)
LOOKUP_TYPE_1 = np.dtype(
    [
        ("id", "<i8"),
        ("media_id", "<i8"),
        ("kind", "u1"),
        ("start_seconds", "<f8"),
        ("end_seconds", "<f8"),
        ("frame_number", "<i8"),
    ]
)
Lookup = NDArray[np.void]  # (n,) of LOOKUP_TYPE


@dataclass(frozen=True, slots=True)
class Curve:
    """The frames of one video in order of time: four arrays of one length."""

    ids: NDArray[np.int64]  # ascending
    starts: NDArray[np.float64]  # seconds
    ends: NDArray[np.float64]  # seconds
    scores: NDArray[np.float32]  # cosines to one query

    @classmethod
    def of(cls, rows: Lookup, scores: NDArray[np.float32]) -> Curve:
        """From rows of LOOKUP_TYPE and their scores."""
        return cls(rows["id"], rows["start_seconds"], rows["end_seconds"], scores)


def lookup_rows(first_id: int, media_ids: Sequence[int], units: Sequence[Unit]) -> Lookup:
    """Rows for units whose ids count up from `first_id`, without columns."""
    rows = np.zeros(len(units), LOOKUP_TYPE)
    rows["id"] = np.arange(first_id, first_id + len(units))
    rows["media_id"] = media_ids
    rows["kind"] = [UNIT_KINDS.index(unit.kind) for unit in units]
    rows["start_seconds"] = [_or_nan(unit.start_seconds) for unit in units]
    rows["end_seconds"] = [_or_nan(unit.end_seconds) for unit in units]
    rows["frame_number"] = [NO_FRAME if u.frame_number is None else u.frame_number for u in units]
    return rows


def from_version_1(rows: NDArray[np.void]) -> Lookup:
    """Rows of LOOKUP_TYPE_1 in the present form."""
    upgraded = np.zeros(len(rows), LOOKUP_TYPE)
    for name in LOOKUP_TYPE_1.names or ():
        upgraded[name] = rows[name]
    return upgraded


def lookup_checks(rows: Lookup, numbers: NDArray[np.int64], salt: np.uint64) -> Checks:
    """What the rows' `check` must be."""
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), LOOKUP_TYPE.itemsize)
    return row_checks(raw[:, :CHECKED_BYTES], numbers, salt)


def scored_units(rows: Lookup, scores: NDArray[np.float32]) -> list[ScoredUnit]:
    """Rows with their scores, as values."""
    columns = ("id", "media_id", "kind", "start_seconds", "end_seconds", "frame_number")
    values = zip(*(rows[name].tolist() for name in columns), strict=True)
    found = []
    for score, (id_, media_id, kind, start, end, frame) in zip(
        scores.tolist(), values, strict=True
    ):
        unit = Unit(
            UNIT_KINDS[kind],
            None if math.isnan(start) else start,
            None if math.isnan(end) else end,
            None if frame == NO_FRAME else frame,
        )
        found.append(ScoredUnit(score, id_, media_id, unit))
    return found


def _or_nan(seconds: float | None) -> float:
    return math.nan if seconds is None else seconds


def parse_columns(columns: Sequence[bytes]) -> list[dict[str, Any]]:
    """The columns of some rows. Raises IndexDamagedError for what is no JSON object."""
    try:
        found: list[dict[str, Any]] = json.loads(
            b"[" + b",".join(content or b"{}" for content in columns) + b"]"
        )
    except (ValueError, RecursionError) as error:
        raise IndexDamagedError(f"extras.bin holds what is no JSON: {error}") from error
    if len(found) != len(columns) or not all(type(item) is dict for item in found):
        raise IndexDamagedError("extras.bin holds what is no JSON object")
    return found


def lookup_columns(rows: Lookup, columns: Sequence[bytes]) -> list[dict[str, Any]]:
    """Rows and their columns as dictionaries; `media_id` None where the row is of no file."""
    extras = parse_columns(columns)
    names = ("id", "media_id", "kind", "start_seconds", "end_seconds", "frame_number")
    values = zip(*(rows[name].tolist() for name in names), strict=True)
    found = []
    for (id_, media_id, kind, start, end, frame), extra in zip(values, extras, strict=True):
        found.append(
            {
                "id": id_,
                "path": extra.pop("path", None),
                "kind": UNIT_KINDS[kind],
                "start": None if math.isnan(start) else start,
                "end": None if math.isnan(end) else end,
                "frame_number": None if frame == NO_FRAME else frame,
                **extra,
                "media_id": None if media_id == NO_MEDIA else media_id,
            }
        )
    return found
