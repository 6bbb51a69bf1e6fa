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
from clipsearch.types import UNIT_KINDS, Norms, ScoredUnit, Unit

NO_FRAME = -1
NO_MEDIA = 0  # a vector that was added by itself; media ids start at 1
CHECKED_BYTES = 56
NORM_SHIFT = 7  # bits of a float32 that a norm does without
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
        ("norm_24", "V3"),  # of the vector before it was scaled to unit length (norms_of)
        ("check", "<u8"),  # of all before
    ]
)
LOOKUP_TYPE_2 = np.dtype(  # its last bytes meant nothing, and are zero
    [("padding" if field[0] == "norm_24" else field[0], field[1]) for field in LOOKUP_TYPE.descr]
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


def norms_of(rows: Lookup) -> Norms:
    """(n,) norms that rows of LOOKUP_TYPE hold; NaN where none is known.

    A norm is kept as the upper 24 bits of a positive float32: its exponent and 16 bits of its
    fraction, 2^-17 off at most. No bits at all mean that it is not known.
    """
    raw = np.zeros((len(rows), 4), np.uint8)
    raw[:, :3] = np.ascontiguousarray(rows["norm_24"]).view(np.uint8).reshape(-1, 3)
    bits = raw.view("<u4")[:, 0]
    norms: Norms = (bits << np.uint32(NORM_SHIFT)).view(np.float32)
    return np.where(bits == 0, np.float32(np.nan), norms)


def set_norms(rows: Lookup, norms: Norms | None) -> None:
    """Write (n,) norms into rows of LOOKUP_TYPE; NaN, and None for all, where none is known."""
    if norms is None:
        rows["norm_24"] = b""
        return
    known = ~np.isnan(norms)
    bits = np.where(known, norms, 0).astype("<f4").view("<u4")
    bits = (bits + np.uint32(1 << NORM_SHIFT >> 1)) >> np.uint32(NORM_SHIFT)
    bits = np.where(known, np.maximum(bits, 1), 0).astype("<u4")  # a norm of 0 is known, too
    raw = np.ascontiguousarray(bits[:, None].view(np.uint8)[:, :3])
    rows["norm_24"] = raw.view("V3")[:, 0]


def rounded_norms(norms: Norms) -> Norms:
    """(n,) norms as they come back."""
    rows = np.zeros(len(norms), LOOKUP_TYPE)
    set_norms(rows, norms)
    return norms_of(rows)


def lookup_rows(first_id: int, media_ids: Sequence[int], units: Sequence[Unit]) -> Lookup:
    """Rows for units whose ids count up from `first_id`, without columns and norms."""
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
        name = UNIT_KINDS[kind]
        unit = Unit(
            name,
            None if math.isnan(start) else start,
            None if math.isnan(end) else end,
            None if frame == NO_FRAME else frame,
            text="" if name == "text" else None,  # it is among the columns
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
