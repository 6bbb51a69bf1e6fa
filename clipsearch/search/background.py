"""What unrelated texts score in an index: what a cosine means there.

A cosine says little by itself: chance finds more in many pictures than in few, and more for "an
animal" than for "a spoon of cinnamon". So the texts of a bank (clipsearch.search.unrelated) are
looked for, and the relevance of a hit is the chance that `DRAWS` of them, drawn at random, all find
nothing as near as it. Of texts that have nothing to do with the index one in nine gets a hit of
relevance 0.5, and one in sixty a hit of 0.9.

    t in the bank, q the query, v the units of a kind
    breadth(q)   fourth root of the mean fourth power of cos(q, t) - their mean: how much there is
                 near q in the language at all
    best(t)      max over v of cos(t, v)
    expected(q)  a + b breadth(q), the line through best(t) over breadth(t), without the texts that
                 find most: they may have been found rightly
    ratio        best(t) / expected(t): location m and scale s, fitted where the lower ones lie,
                 for the same reason
    relevance    F((cos(q, v) / expected(q) - m) / s) ** DRAWS
    F(z)         exp(-(1 - TAPER z) ** (1 / TAPER)); 1 where TAPER z > 1

F is the law of the largest of many whose values have an end, as cosines do: Jenkinson, "The
frequency distribution of the annual maximum (or minimum) values of meteorological elements" (1955).
What else was tried, and with what success, is in docs/decisions/012-relevance.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import UnitKind, Vectors

Floats = NDArray[np.float64]

DRAWS = 6  # benchmarks/calibration.py
TAPER = 0.1  # the likeliest for pictures is 0 to 0.12, by what is indexed (decision 012)
SAME_TEXT = 0.8  # of the way from a text's mean cosine to 1: not another text
LEAST_EXPECTED = 0.02  # of a cosine; keeps ratios finite where an index has next to nothing
UNRELATED_SHARE = 0.8  # of the bank, those that find least for what they are
FITTING_ROUNDS = 6
FITTED_QUANTILES = (0.1, 0.7)
LEAST_SCALE = 1e-3


@dataclass(frozen=True, slots=True)
class Scale:
    """The best cosines of unrelated texts among units of one kind."""

    base: float  # expected = base + slope * breadth, for breadths of the bank
    slope: float
    narrowest: float
    broadest: float
    location: float  # of best / expected, in the law of the largest
    spread: float

    @classmethod
    def fit(cls, best: Floats, breadths: Floats) -> Scale:
        """From the best cosine of each text of the bank, and its breadth; (n,) each."""
        base, slope = _lower_line(breadths, best)
        ends = float(breadths.min()), float(breadths.max())
        expected = np.maximum(base + slope * breadths, LEAST_EXPECTED)
        return cls(base, slope, *ends, *_lower_law(best / expected))

    def expected(self, breadth: float) -> float:
        """What a text of this breadth finds by chance: a cosine above 0."""
        inside = min(max(breadth, self.narrowest), self.broadest)
        return max(self.base + self.slope * inside, LEAST_EXPECTED)


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """How well unrelated texts match an index, by the kind of unit. It is about words: other
    queries, such as pictures, lie elsewhere in a space than texts do.
    """

    scales: Mapping[UnitKind, Scale]
    banks: Mapping[UnitKind, Vectors]  # (texts, dim) unit rows in the space of the kind

    def relevance(self, query: Vectors, kind: UnitKind, cosines: NDArray[np.floating]) -> Floats:
        """(n,) relevance, 0 to 1, of units with these cosines to a (dim,) unit row; NaN for a kind
        that was not measured. It never falls as the cosine rises.
        """
        scale = self.scales.get(kind)
        values = np.asarray(cosines, np.float64)
        if scale is None:
            return np.full(values.shape, np.nan)
        ratio = values / scale.expected(self._breadth(query, kind))
        left = np.maximum(1 - TAPER * (ratio - scale.location) / scale.spread, 0)
        found: Floats = np.exp(-DRAWS * left ** (1 / TAPER))
        return found

    def cosine_at(self, query: Vectors, kind: UnitKind, relevance: float) -> float:
        """The least cosine to a (dim,) unit row with this relevance; -1 for a kind that was not
        measured, or a relevance of 0, which everything has.
        """
        scale = self.scales.get(kind)
        if scale is None or relevance <= 0:
            return -1.0
        ratio = scale.location + scale.spread * float(_standard(relevance ** (1 / DRAWS)))
        return max(ratio * scale.expected(self._breadth(query, kind)), -1.0)

    def _breadth(self, query: Vectors, kind: UnitKind) -> float:
        return float(breadths_of(np.asarray(query, np.float32)[None], self.banks[kind])[0])


def breadths_of(queries: Vectors, bank: Vectors) -> Floats:
    """(m,) breadth of (m, dim) unit rows: how unevenly near they are to the (n, dim) texts of a
    bank. Texts that are the query itself do not count, so those of the bank can be asked too.
    """
    cosines = (queries @ bank.T).astype(np.float64)
    means = cosines.mean(axis=1, keepdims=True)
    others = cosines <= means + SAME_TEXT * (1 - means)
    counts = np.maximum(others.sum(axis=1, keepdims=True), 1)
    means = (cosines * others).sum(axis=1, keepdims=True) / counts
    squares = ((cosines - means) * others) ** 2  # numpy's fourth power takes twenty times as long
    breadths: Floats = ((squares * squares).sum(axis=1) / counts[:, 0]) ** 0.25
    return breadths


def _lower_line(x: Floats, y: Floats) -> tuple[float, float]:
    """Intercept and slope of the least-squares line, again and again without the points that lie
    highest above it. Level, at the median, where y does not rise with x.
    """
    kept = np.ones(len(x), np.bool_)
    base, slope = float(np.median(y)), 0.0
    for _ in range(FITTING_ROUNDS):
        if np.ptp(x[kept]) == 0:
            return float(np.median(y)), 0.0
        slope, base = np.polyfit(x[kept], y[kept], 1).tolist()
        above = y - base - slope * x
        kept = above <= np.quantile(above, UNRELATED_SHARE)
    return (base, slope) if slope > 0 else (float(np.median(y)), 0.0)


def _lower_law(ratios: Floats) -> tuple[float, float]:
    """Location and scale, by the line through the lower quantiles over those of the law."""
    ranked = np.sort(ratios)
    shares = (np.arange(len(ranked)) + 0.5) / len(ranked)
    lower, upper = FITTED_QUANTILES
    fitted = (shares >= lower) & (shares <= upper)
    scale, location = np.polyfit(_standard(shares[fitted]), ranked[fitted], 1).tolist()
    return location, max(scale, LEAST_SCALE)


def _standard(shares: Floats | float) -> Floats:
    """Quantiles of the law with location 0 and scale 1; shares above 0, and up to 1."""
    quantiles: Floats = (1 - (-np.log(shares)) ** TAPER) / TAPER
    return quantiles
