"""Windows of sound that belong together: one hit for as long as what is looked for is heard."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipsearch.store.lookup import Curve

Floats = NDArray[np.float64]


def heard_around(curve: Curve, at: int, least: float) -> tuple[float, float]:
    """The seconds around window `at` in which every window that covers them scores `least`.

    Windows overlap, and a sound that is heard in two of them is in what they share. If no time
    inside the window is covered by such alone, the window's own times.

    curve: the windows of one file in order of time. Source: the width at half maximum, as for
    frames, on the lower envelope of the windows' scores.
    """
    edges, low = envelope(curve)
    start, end = float(curve.starts[at]), float(curve.ends[at])
    good = low >= least
    inside = np.flatnonzero(good & (edges[:-1] >= start) & (edges[1:] <= end))
    if not inside.size:
        return start, end
    first = last = int(inside[np.argmax(low[inside])])
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(low) and good[last + 1]:
        last += 1
    return float(edges[first]), float(edges[last + 1])


def envelope(curve: Curve) -> tuple[Floats, Floats]:
    """(n + 1,) ascending edges of cells of time, and (n,) the lowest score of the windows that
    cover each; -inf where none does.
    """
    edges = np.unique(np.concatenate([curve.starts, curve.ends]))
    covering = np.full(max(len(edges) - 1, 0), np.inf)
    firsts = np.searchsorted(edges, curve.starts)
    lasts = np.searchsorted(edges, curve.ends)
    for first, last, score in zip(
        firsts.tolist(), lasts.tolist(), curve.scores.tolist(), strict=True
    ):
        covering[first:last] = np.minimum(covering[first:last], score)
    return edges, np.where(np.isinf(covering), -np.inf, covering)
