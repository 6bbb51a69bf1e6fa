"""What the cosines to one query mean: chances, and the cosines that have a chance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clipsearch.errors import UsageError
from clipsearch.search.background import Background
from clipsearch.search.probe import Probe
from clipsearch.types import Hit, UnitKind, Vectors


@dataclass(frozen=True, slots=True)
class Meaning:
    """A (1, dim) query, and what says how relevant a cosine to it is; None: nothing does."""

    row: Vectors
    by: Background | Probe | None

    def bars(self, kinds: Iterable[UnitKind], least: float) -> dict[UnitKind, float]:
        """The least cosine of units of some kinds that have a relevance of `least`, 0 to 1.

        Raises UsageError where nothing says so.
        """
        if least <= 0:
            return {}
        if self.by is None:
            raise UsageError(
                "only hits of words, in an index with a model, and of probes have a relevance: use "
                "a least cosine (--min-cosine)"
            )
        if isinstance(self.by, Probe):
            return dict.fromkeys(kinds, self.by.cosine_at(least))
        return {kind: self.by.cosine_at(self.row[0], kind, least) for kind in kinds}

    def judged(self, hits: Sequence[Hit], windows: UnitKind) -> list[Hit]:
        """The hits with their relevance. windows: the kind of unit that stands for whole videos."""
        found = list(hits)
        if self.by is None:
            return found
        units = [unit_kind(hit, windows) for hit in hits]
        for kind in dict.fromkeys(units):
            mine = [at for at, unit in enumerate(units) if unit == kind]
            cosines = np.array([hits[at].score for at in mine], np.float64)
            for at, chance in zip(mine, self._chances(kind, cosines).tolist(), strict=True):
                if not np.isnan(chance):  # else of a kind that was not measured
                    found[at] = replace(hits[at], relevance=chance)
        return found

    def _chances(self, kind: UnitKind, cosines: np.ndarray) -> np.ndarray:
        if isinstance(self.by, Probe):
            return self.by.probability(cosines)
        assert self.by is not None, "was looked at before"
        return self.by.relevance(self.row[0], kind, cosines)


def unit_kind(hit: Hit, windows: UnitKind) -> UnitKind:
    """The kind of unit that a hit was found by: a span by frames."""
    if hit.kind == "span":
        return "frame"
    return windows if hit.kind == "video" else hit.kind
