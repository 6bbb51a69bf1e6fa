"""The stored pictures, or windows of videos, that are compared with each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clipsearch.search.alike import SLACK, Joined, Numbers
from clipsearch.store.lookup import NO_MEDIA, Lookup, parse_columns
from clipsearch.store.selection import Selection
from clipsearch.store.store import Store
from clipsearch.types import UnitKind, Vectors

BLOCK_ROWS = 8192
NEAREST = 16
MOST_NEAREST = 1024  # more near-copies of one are found by way of each other
SLACK_COSINE = 1e-3  # the vector index scores rows as they are stored, of nearly unit length
SLACK_SECONDS = 1e-3


class Compared:
    """Rows of one kind in one snapshot, numbered from 0; those of a file in order of time."""

    def __init__(self, store: Store, kind: UnitKind, selection: Selection | None) -> None:
        self._store, self._kind, self._selection = store, kind, selection
        self._snapshot, places = store.live_places((kind,), selection)
        self.places: Numbers = places
        parts = [self._snapshot.rows(self.places[rows])["media_id"] for rows in self._blocks()]
        self.media: Numbers = np.concatenate([np.empty(0, np.int64), *parts])

    def __len__(self) -> int:
        return len(self.places)

    def _blocks(self) -> Iterator[slice]:
        return (slice(at, at + BLOCK_ROWS) for at in range(0, len(self), BLOCK_ROWS))

    def rows(self, numbers: Numbers) -> Lookup:
        """(len(numbers),) rows of LOOKUP_TYPE."""
        return self._snapshot.rows(self.places[numbers])

    def vectors(self, numbers: Numbers) -> Vectors:
        """(len(numbers), dim) unit rows."""
        found = self._snapshot.vectors(self.places[numbers]).astype(np.float32)
        unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit

    def block(self, first: int, end: int) -> Vectors:
        """(end - first, dim) unit rows of neighbouring numbers."""
        return self.vectors(np.arange(first, end))

    def runs(self, threshold: float) -> Numbers:
        """(len(self),) the number of the run that each row is of, ascending from 0.

        A run is a picture, or windows of one video that follow each other, each with a cosine of
        `threshold` or more to the next.
        """
        starts = np.ones(len(self), np.bool_)
        if self._kind == "image":
            return np.arange(len(self))
        for first in range(0, len(self) - 1, BLOCK_ROWS):
            end = min(first + BLOCK_ROWS + 1, len(self))
            vectors = self.block(first, end)
            cosines = np.einsum("nd,nd->n", vectors[:-1], vectors[1:])
            near = np.flatnonzero(cosines >= threshold - SLACK) + first
            starts[near[self._follow(near)] + 1] = False
        return np.cumsum(starts) - 1

    def _follow(self, numbers: Numbers) -> NDArray[np.bool_]:
        """Whether the window after each of `numbers` is the next one of the same video."""
        same: NDArray[np.bool_] = self.media[numbers] == self.media[numbers + 1]
        loose = np.flatnonzero(same & (self.media[numbers] == NO_MEDIA))
        if len(loose):
            one, paths = self._with_paths(numbers[loose])
            other, next_paths = self._with_paths(numbers[loose] + 1)
            ordered = other["start_seconds"] > one["start_seconds"]
            touching = other["start_seconds"] <= one["end_seconds"] + SLACK_SECONDS
            same[loose] = ordered & touching & (paths == next_paths)
        return same

    def _with_paths(self, numbers: Numbers) -> tuple[Lookup, NDArray[np.object_]]:
        rows, columns = self._snapshot.rows_with_columns(self.places[numbers])
        paths = [str(values.get("path")) for values in parse_columns(columns)]
        return rows, np.array(paths, np.object_)

    def join_nearest(self, joined: Joined, runs: Numbers, numbers: Numbers, least: float) -> None:
        """Unite the runs of `numbers` with those of their nearest with a cosine of `least` or more,
        up to what the vector index misses.
        """
        queries, wanted = self.vectors(numbers), NEAREST
        while len(numbers):
            _, ids = self._store.search_ids(
                queries, k=wanted, kinds=(self._kind,), exact=False, selection=self._selection
            )
            at = self._numbers_of(ids)  # (len(numbers), wanted)
            near = self.vectors(np.maximum(at, 0).reshape(-1)).reshape(*at.shape, -1)
            alike = np.einsum("nd,nkd->nk", queries, near) >= least - SLACK
            alike &= at >= 0
            joined.join(runs[np.repeat(numbers, alike.sum(axis=1))], runs[at[alike]])
            more = alike.all(axis=1) & (wanted < MOST_NEAREST)
            numbers, queries, wanted = numbers[more], queries[more], wanted * 4

    def _numbers_of(self, ids: Numbers) -> Numbers:
        """The number of each id, -1 where it is none of these rows; of the same shape."""
        places = self._snapshot.find(ids.reshape(-1))
        at = np.minimum(np.searchsorted(self.places, places), len(self) - 1)
        there = (places >= 0) & (self.places[at] == places)
        return np.where(there, at, -1).reshape(ids.shape)
