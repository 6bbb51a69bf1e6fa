"""Hits of several spaces as one ranking: by their ranks, as scores of spaces do not compare.

Reciprocal rank fusion: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet
and individual Rank Learning Methods" (SIGIR 2009), with their k of 60.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from clipsearch.types import SOURCES, Hit, Source

RANK_OFFSET = 60


def fuse(
    rankings: Mapping[Source, Sequence[Hit]], top: int, *, first: Source = "visual"
) -> list[Hit]:
    """The `top` best of several rankings, each best first; one ranking alone stays as it is.

    A hit counts 1 / (60 + its rank), its `rank_score`: as no hit is in two rankings, they take
    turns, `first` and then in the order of SOURCES. That what is seen and heard at one time counts
    for both was tried: every film then rises for having sound at all, above pictures that fit
    better.
    """
    order = sorted(SOURCES, key=lambda source: source != first)
    used = [source for source in order if rankings.get(source)]
    if len(used) < 2:
        return list(rankings[used[0]][:top]) if used else []
    found = [
        replace(hit, rank_score=1 / (RANK_OFFSET + rank))
        for source in used
        for rank, hit in enumerate(rankings[source], start=1)
    ]
    return sorted(found, key=lambda hit: -(hit.rank_score or 0.0))[:top]
