"""What of a video, or of a sound, belongs to one hit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.search.sounds import heard_around
from clipsearch.store.lookup import Curve
from clipsearch.store.store import Store
from clipsearch.types import ScoredUnit, UnitKind, Vectors

WINDOW_KINDS: tuple[UnitKind, ...] = ("video", "pooled")
MOMENT_KINDS: tuple[UnitKind, ...] = ("frame", "audio")  # neighbouring units are one hit


class Videos:
    """The score curves of the videos that have hits, and the moments found on them."""

    def __init__(
        self, store: Store, query: Vectors, kinds: Sequence[UnitKind], gap_seconds: float
    ) -> None:
        """query: a (1, dim) unit row. kinds: that are looked for, of which the collection's mean is
        taken. gap_seconds: how far apart frames of one moment may be.
        """
        self._store, self._query, self._gap = store, query, gap_seconds
        typical = [kind for kind in kinds if kind not in WINDOW_KINDS]
        self._typical = store.mean_score(query, typical)
        self._curves: dict[tuple[int, UnitKind], Curve] = {}
        self._taken: dict[tuple[int, UnitKind], NDArray[np.bool_]] = {}  # that are of a moment
        self.moments: dict[int, tuple[float, float]] = {}  # id of the best frame → start, end

    def forget_moments(self) -> None:
        """Start over, keeping the curves."""
        self._taken, self.moments = {}, {}

    def open_moment(self, peak: ScoredUnit) -> bool:
        """Make a moment of a frame, or a window of sound, that is the best of those left; False if
        it is in one already.

        The moment is the run of frames around the peak that score at least half as far above the
        collection's mean as the peak does, with gaps of at most the merge gap: its width at half
        maximum. Frames that near the run are part of it and open no moments of their own. In sound
        such a run is narrowed to what all its windows share (clipsearch.search.sounds).
        """
        kind = peak.unit.kind
        curve = self._curve(peak.media_id, kind)
        taken = self._taken.setdefault((peak.media_id, kind), np.zeros(len(curve.ids), np.bool_))
        at = int(np.searchsorted(curve.ids, peak.id))
        if at == len(curve.ids) or curve.ids[at] != peak.id or taken[at]:
            return False
        least = (peak.score + self._typical) / 2
        high = np.flatnonzero((curve.scores >= least) & ~taken)
        high = np.union1d(high, [at])
        breaks = curve.starts[high[1:]] - curve.ends[high[:-1]] > self._gap
        run = np.concatenate([[0], np.cumsum(breaks)])
        mine = high[run == run[np.searchsorted(high, at)]]
        start, end = float(curve.starts[mine[0]]), float(curve.ends[mine[-1]])
        taken |= (curve.starts <= end + self._gap) & (curve.ends >= start - self._gap)
        self.moments[peak.id] = start, end
        if kind == "audio":
            self.moments[peak.id] = heard_around(curve, at, least)
        return True

    def best_frame(self, window: ScoredUnit) -> float:
        """Where in a window the best matching frame starts, in seconds."""
        start, end = window.unit.start_seconds, window.unit.end_seconds
        assert start is not None, "windows have times"
        assert end is not None, "windows have times"
        curve = self._curve(window.media_id, "frame")
        inside = (curve.starts >= start) & (curve.starts < end)
        if not inside.any():
            return start
        return float(curve.starts[np.argmax(np.where(inside, curve.scores, -np.inf))])

    def _curve(self, media_id: int, kind: UnitKind) -> Curve:
        if (media_id, kind) not in self._curves:
            self._curves[media_id, kind] = self._store.curve(self._query, media_id, kind)
        return self._curves[media_id, kind]
