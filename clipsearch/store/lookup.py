"""`lookup.npy`: the rows at fixed places, so that those of a hit are found without a search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import UNIT_KINDS, ScoredUnit, Unit

NO_FRAME = -1
LOOKUP_TYPE = np.dtype(
    [
        ("id", "<i8"),
        ("media_id", "<i8"),
        ("kind", "u1"),  # its place in UNIT_KINDS
        ("start_seconds", "<f8"),  # NaN: has no time
        ("end_seconds", "<f8"),
        ("frame_number", "<i8"),  # NO_FRAME: is none
    ]
)


@dataclass(frozen=True, slots=True)
class Curve:
    """The frames of one video in order of time: four arrays of one length."""

    ids: NDArray[np.int64]  # ascending
    starts: NDArray[np.float64]  # seconds
    ends: NDArray[np.float64]  # seconds
    scores: NDArray[np.float32]  # cosines to one query

    @classmethod
    def of(cls, rows: NDArray[np.void], scores: NDArray[np.float32]) -> Curve:
        """From rows of LOOKUP_TYPE and their scores."""
        return cls(rows["id"], rows["start_seconds"], rows["end_seconds"], scores)


def scored_units(rows: NDArray[np.void], scores: NDArray[np.float32]) -> list[ScoredUnit]:
    """Rows of LOOKUP_TYPE with their scores, as values."""
    found = []
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        id_, media_id, kind, start, end, frame = row
        unit = Unit(
            UNIT_KINDS[kind],
            None if math.isnan(start) else start,
            None if math.isnan(end) else end,
            None if frame == NO_FRAME else frame,
        )
        found.append(ScoredUnit(score, id_, media_id, unit))
    return found
