"""A query vector to ranked hits: candidates, adjacent frames as one moment, one hit a video.

What a search looks for, by kind:

    image   stills
    frame   moments of videos: runs of neighbouring frames, with their best frame
    video   whole videos, by their best window's pooled vector
    span    the seconds of videos that stand out (clipsearch.search.whole)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.store.lookup import NO_MEDIA, Curve, parse_columns
from clipsearch.store.store import Store
from clipsearch.types import HIT_KINDS, UNIT_KINDS, Hit, HitKind, ScoredUnit, UnitKind, Vectors

PATH_COLUMN = "path"
WINDOW_KINDS: tuple[UnitKind, ...] = ("video", "pooled")
DEFAULT_KINDS: tuple[HitKind, ...] = ("image", "frame")
MERGE_GAP_SECONDS = 4.0
FIRST_CANDIDATES_PER_HIT = 8  # several frames usually share one moment
MORE_CANDIDATES = 4  # factor, while merging leaves too few hits


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """How many hits of which kinds, at least how good, and how frames merge into moments.

    Raises UsageError for values out of range.
    """

    top: int = 10
    kinds: tuple[HitKind, ...] = DEFAULT_KINDS
    min_score: float = -1.0
    merge_gap_seconds: float = MERGE_GAP_SECONDS
    exact: bool = False
    windows: UnitKind = "video"  # what stands for whole videos: "video", or "pooled" by a head

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"top {self.top}: ask for 1 hit or more")
        if not self.merge_gap_seconds >= 0:
            raise UsageError(f"merge gap {self.merge_gap_seconds}: use 0 seconds or more")
        if math.isnan(self.min_score):
            raise UsageError("least score nan: use a cosine, -1 to 1")
        unknown = [kind for kind in self.kinds if kind not in HIT_KINDS]
        if unknown or not self.kinds:
            given = ", ".join(map(repr, unknown)) or "none"
            raise UsageError(f"kind {given}: use some of {', '.join(HIT_KINDS)}")
        object.__setattr__(self, "kinds", tuple(dict.fromkeys(self.kinds)))


def unit_kinds(spec: SearchSpec) -> tuple[UnitKind, ...]:
    """The kinds of single vectors that stand for what is looked for."""
    wanted = [spec.windows if kind == "video" else kind for kind in spec.kinds]
    return tuple(kind for kind in UNIT_KINDS if kind in wanted)


def retrieve(store: Store, query: Vectors, spec: SearchSpec) -> list[Hit]:
    """The `spec.top` best images, moments and videos for a (1, dim) unit row, best first.

    Fewer come back only when the index has no more that score `spec.min_score`.
    """
    videos = _Videos(store, query, spec)
    wanted = spec.top * FIRST_CANDIDATES_PER_HIT
    while True:
        kinds = unit_kinds(spec)
        found = store.search(query, k=wanted, kinds=kinds, exact=spec.exact)[0]
        good = [unit for unit in found if unit.score >= spec.min_score]
        chosen = _choose(good, videos, spec.top)
        if len(chosen) == spec.top or len(found) < wanted or len(good) < len(found):
            return _hits(store, chosen, videos)
        wanted *= MORE_CANDIDATES


def _choose(units: Iterable[ScoredUnit], videos: _Videos, top: int) -> list[ScoredUnit]:
    """The first `top` of the ranked units that are not part of a better hit."""
    chosen: list[ScoredUnit] = []
    best_windows: set[int] = set()
    videos.forget_moments()
    for unit in units:
        if len(chosen) == top:
            break
        if unit.media_id == NO_MEDIA:
            pass  # no file, so no neighbours
        elif unit.unit.kind == "frame":
            if not videos.open_moment(unit):
                continue
        elif unit.unit.kind in WINDOW_KINDS:
            if unit.media_id in best_windows:
                continue
            best_windows.add(unit.media_id)
        chosen.append(unit)
    return chosen


def _hits(store: Store, chosen: Sequence[ScoredUnit], videos: _Videos) -> list[Hit]:
    media = store.catalog.media(unit.media_id for unit in chosen)
    hits = []
    for unit in chosen:
        owner, kind = media.get(unit.media_id), unit.unit.kind
        if unit.media_id == NO_MEDIA:
            hits += loose_hits(store, [unit])
            continue
        if owner is None:
            continue  # removed since the snapshot was taken
        start, end, moment = unit.unit.start_seconds, unit.unit.end_seconds, None
        if kind == "frame":
            moment, (start, end) = start, videos.moments[unit.id]
        elif kind in WINDOW_KINDS:
            moment = videos.best_frame(unit)
        hits.append(Hit(owner.path, _hit_kind(kind), unit.score, start, end, moment, unit.id))
    return hits


def loose_hits(store: Store, units: Sequence[ScoredUnit]) -> list[Hit]:
    """Hits of units that were added as vectors, with their columns."""
    _, columns, there = store.rows(np.array([unit.id for unit in units], np.int64))
    kept = [unit for unit, is_there in zip(units, there.tolist(), strict=True) if is_there]
    hits = []
    for found, values in zip(kept, parse_columns(columns), strict=True):
        path, unit = Path(str(values.pop(PATH_COLUMN, ""))), found.unit
        moment = unit.start_seconds if unit.kind == "frame" else None
        place = (unit.start_seconds, unit.end_seconds, moment)
        hits.append(Hit(path, _hit_kind(unit.kind), found.score, *place, found.id, values))
    return hits


def _hit_kind(kind: UnitKind) -> HitKind:
    return "video" if kind == "pooled" else kind


class _Videos:
    """The score curves of the videos that have hits, and the moments found on them."""

    def __init__(self, store: Store, query: Vectors, spec: SearchSpec) -> None:
        self._store, self._query, self._gap = store, query, spec.merge_gap_seconds
        typical = [kind for kind in unit_kinds(spec) if kind not in WINDOW_KINDS]
        self._typical = store.mean_score(query, typical)
        self._curves: dict[int, Curve] = {}
        self._taken: dict[int, NDArray[np.bool_]] = {}  # frames that belong to a moment
        self.moments: dict[int, tuple[float, float]] = {}  # id of the best frame → start, end

    def forget_moments(self) -> None:
        """Start over, keeping the curves."""
        self._taken, self.moments = {}, {}

    def open_moment(self, peak: ScoredUnit) -> bool:
        """Make a moment of a frame that is the best of those left; False if it is in one already.

        The moment is the run of frames around the peak that score at least half as far above the
        collection's mean as the peak does, with gaps of at most the merge gap: its width at half
        maximum. Frames that near the run are part of it and open no moments of their own.
        """
        curve = self._curve(peak.media_id)
        taken = self._taken.setdefault(peak.media_id, np.zeros(len(curve.ids), np.bool_))
        at = int(np.searchsorted(curve.ids, peak.id))
        if at == len(curve.ids) or curve.ids[at] != peak.id or taken[at]:
            return False
        high = np.flatnonzero((curve.scores >= (peak.score + self._typical) / 2) & ~taken)
        high = np.union1d(high, [at])
        breaks = curve.starts[high[1:]] - curve.ends[high[:-1]] > self._gap
        run = np.concatenate([[0], np.cumsum(breaks)])
        mine = high[run == run[np.searchsorted(high, at)]]
        start, end = float(curve.starts[mine[0]]), float(curve.ends[mine[-1]])
        taken |= (curve.starts <= end + self._gap) & (curve.ends >= start - self._gap)
        self.moments[peak.id] = start, end
        return True

    def best_frame(self, window: ScoredUnit) -> float:
        """Where in a window the best matching frame starts, in seconds."""
        start, end = window.unit.start_seconds, window.unit.end_seconds
        assert start is not None, "windows have times"
        assert end is not None, "windows have times"
        curve = self._curve(window.media_id)
        inside = (curve.starts >= start) & (curve.starts < end)
        if not inside.any():
            return start
        return float(curve.starts[np.argmax(np.where(inside, curve.scores, -np.inf))])

    def _curve(self, media_id: int) -> Curve:
        if media_id not in self._curves:
            self._curves[media_id] = self._store.curve(self._query, media_id)
        return self._curves[media_id]
