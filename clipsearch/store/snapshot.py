"""One published state of a store, opened, and searching it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.store.exact import Mask, Ranking, Scorers, merge_rankings
from clipsearch.store.lookup import LOOKUP_TYPE, Lookup
from clipsearch.store.manifest import Tuning
from clipsearch.store.merge import live_mask
from clipsearch.store.pooling import PoolingFacts
from clipsearch.store.quantiser import Quantiser
from clipsearch.store.recipes import SCANNED_ROWS, probe_count
from clipsearch.store.segment import Rows, Segment
from clipsearch.store.statements import SegmentEntry
from clipsearch.types import UNIT_KINDS, UnitKind, Vectors

QUERIES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Width:
    """How widely to search an ANN index: lists to probe, candidates to re-rank."""

    nprobe: int
    candidates: int


class View:
    """A segment and which of its rows are live, in one snapshot."""

    def __init__(self, entry: SegmentEntry, segment: Segment) -> None:
        self.entry, self.segment = entry, segment
        self._masks: dict[tuple[UnitKind, ...], tuple[Mask | None, int]] = {}

    def live(self, kinds: tuple[UnitKind, ...]) -> tuple[Mask | None, int]:
        """(rows,) True for live rows of `kinds`, None when that is every row; and how many."""
        if kinds not in self._masks:
            self._masks[kinds] = self._live(kinds)
        return self._masks[kinds]

    def _live(self, kinds: tuple[UnitKind, ...]) -> tuple[Mask | None, int]:
        segment, blocks = self.segment, self.segment.blocks
        wanted = sum(blocks[kind][1] - blocks[kind][0] for kind in kinds)
        if not self.entry.dead and wanted == segment.row_count:
            return None, wanted
        mask = np.zeros(segment.row_count, np.bool_)
        for kind in kinds:
            mask[slice(*blocks[kind])] = True
        mask &= live_mask(segment.row_count, self.entry.dead)
        return mask, int(np.count_nonzero(mask))


class Snapshot:
    """The segments of one generation. Safe to share between threads.

    A row of it is called its place: the number of rows in the segments before, and its row.
    """

    def __init__(
        self,
        generation: int,
        views: Sequence[View],
        quantisers: Sequence[Quantiser],
        dim: int,
        tuning: Tuning | None,
        pooling: PoolingFacts | None = None,
    ) -> None:
        """The last quantiser is the one in force; others are those of older segments."""
        self.pooling = pooling  # of the head that made the rows of kind "pooled"
        self.generation, self.views, self.quantisers = generation, tuple(views), tuple(quantisers)
        counts = [view.segment.row_count for view in self.views]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._starts = self._ends - counts
        self._dim, self._tuning = dim, tuning
        self._scorers = Scorers(dim)
        self._guard = threading.Lock()

    @property
    def row_count(self) -> int:
        """Rows, dead ones too."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def width(self, quantiser: Quantiser) -> Width:
        """How widely the lists of a quantiser are searched: as tuned, else as its recipe says."""
        recipe, lists = quantiser.recipe, quantiser.facts.lists
        tuning = self._tuning
        if tuning is not None and tuning.quantiser == quantiser.facts.name:
            return Width(min(tuning.nprobe, lists), tuning.candidates)
        return Width(probe_count(recipe, lists), recipe.candidates)

    def nearest(
        self,
        queries: Vectors,
        *,
        k: int,
        kinds: Sequence[UnitKind] = UNIT_KINDS,
        exact: bool = False,
        width: Width | None = None,
    ) -> list[Ranking]:
        """For each query the up to `k` best (scores, places) among live rows of `kinds`.

        Scores are exact cosines. Fewer than `k` come back only when there are no more. `width`
        overrides what `width()` says.
        """
        results: list[Ranking] = []
        for first in range(0, len(queries), QUERIES_AT_ONCE):
            part = np.ascontiguousarray(queries[first : first + QUERIES_AT_ONCE])
            results += self._nearest(part, k, tuple(kinds), exact, width)
        return results

    def rows(self, places: Rows) -> Lookup:
        """(len(places),) rows of LOOKUP_TYPE."""
        found = np.empty(len(places), LOOKUP_TYPE)
        for view, mine, rows in self._split(places):
            found[mine] = view.segment.take_rows(rows)
        return found

    def rows_with_columns(self, places: Rows) -> tuple[Lookup, list[bytes]]:
        """The rows, and JSON of the columns that were added with each; b"" where none were."""
        found, columns = np.empty(len(places), LOOKUP_TYPE), [b""] * len(places)
        for view, mine, rows in self._split(places):
            found[mine] = view.segment.take_rows(rows)
            contents = view.segment.columns(found[mine])
            for at, content in zip(mine.tolist(), contents, strict=True):
                columns[at] = content
        return found, columns

    def find(self, ids: NDArray[np.int64]) -> Rows:
        """The place of each id, -1 where it is none of a live row."""
        places = np.full(len(ids), -1)
        for start, view in zip(self._starts.tolist(), self.views, strict=True):
            rows = view.segment.find(ids)
            mask, _ = view.live(UNIT_KINDS)
            there = (rows >= 0) & (True if mask is None else mask[rows])
            places[there] = rows[there] + start
        return places

    def vectors(self, places: Rows) -> NDArray[np.float16]:
        """(len(places), dim) stored vectors."""
        found = np.empty((len(places), self._dim), np.float16)
        for view, mine, rows in self._split(places):
            found[mine] = view.segment.take(rows)
        return found

    def live_places(self, kinds: Sequence[UnitKind] = UNIT_KINDS) -> Rows:
        """Every place whose row is live and of `kinds`."""
        parts = [np.empty(0, np.int64)]
        for start, view in zip(self._starts.tolist(), self.views, strict=True):
            mask, _ = view.live(tuple(kinds))
            rows = np.arange(view.segment.row_count) if mask is None else np.flatnonzero(mask)
            parts.append(rows + start)
        return np.concatenate(parts)

    def are_scanned(self, places: Rows, kinds: tuple[UnitKind, ...]) -> Mask:
        """(len(places),) whether each is in a segment that is scanned, not probed."""
        scanned = np.zeros(len(places), np.bool_)
        for view, mine, _ in self._split(places):
            scanned[mine] = not self._is_probed(view, view.live(kinds)[1])
        return scanned

    def candidates(
        self, queries: Vectors, kinds: tuple[UnitKind, ...], quantiser: Quantiser, width: Width
    ) -> list[Ranking]:
        """For each query up to `width.candidates` (approximate scores, places), in no order, from
        the segments with lists of `quantiser`.
        """
        parts: list[list[Ranking]] = [[] for _ in queries]
        assignment = quantiser.assign(queries, width.nprobe)
        for start, view in zip(self._starts.tolist(), self.views, strict=True):
            lists = view.segment.lists
            mask, live = view.live(kinds)
            if not self._is_probed(view, live) or lists is None or lists.quantiser is not quantiser:
                continue
            count = min(width.candidates, live)
            for kept, scores, rows in zip(
                parts, *lists.search(queries, assignment, count, mask), strict=True
            ):
                kept.append((scores[rows >= 0], rows[rows >= 0] + start))
        return [_most_promising(part, width.candidates) for part in parts]

    def _nearest(
        self,
        queries: Vectors,
        k: int,
        kinds: tuple[UnitKind, ...],
        exact: bool,
        width: Width | None,
    ) -> list[Ranking]:
        parts: list[list[Ranking]] = [[] for _ in queries]
        probed: dict[str, tuple[Quantiser, int]] = {}
        for start, view in zip(self._starts.tolist(), self.views, strict=True):
            mask, live = view.live(kinds)
            lists = view.segment.lists
            if live and not exact and lists is not None and self._is_probed(view, live):
                _, rows = probed.get(lists.quantiser.facts.name, (None, 0))
                probed[lists.quantiser.facts.name] = lists.quantiser, rows + live
            elif live:
                found = self._scan(view, queries, k, mask, live)
                for kept, ranking in zip(parts, found, strict=True):
                    kept.append((ranking[0], ranking[1] + start))
        for quantiser, live in probed.values():
            own = width or self.width(quantiser)
            wide = Width(own.nprobe, max(own.candidates, k))
            found = self.candidates(queries, kinds, quantiser, wide)
            for at, (kept, (_, places)) in enumerate(zip(parts, found, strict=True)):
                if len(places) < min(k, live):  # the probed lists hold fewer than are asked for
                    query = queries[at : at + 1]
                    return [
                        *self._nearest(queries[:at], k, kinds, False, width),
                        *self._nearest(query, k, kinds, True, None),
                        *self._nearest(queries[at + 1 :], k, kinds, False, width),
                    ]
                kept.append(self._rank(queries[at], places, k))
        return [merge_rankings(part, k) for part in parts]

    def _is_probed(self, view: View, live: int) -> bool:
        """Whether a segment is searched by its lists; few rows are scanned: exact, and as fast."""
        return view.segment.lists is not None and live >= SCANNED_ROWS

    def _scan(
        self, view: View, queries: Vectors, k: int, mask: Mask | None, live: int
    ) -> list[Ranking]:
        if mask is None or live * 4 >= view.segment.row_count:
            return view.segment.search_exactly(queries, k, mask)
        rows = np.flatnonzero(mask)  # few are left: only those are read
        vectors = view.segment.take(rows).astype(np.float32)
        return [merge_rankings([(scores, rows)], k) for scores in queries @ vectors.T]

    def _rank(self, query: NDArray[np.float32], places: Rows, k: int) -> Ranking:
        """Exact top `k` among `places`."""
        places = np.sort(places)  # in file order
        scorer = self._scorers.get(len(places))
        cursor = 0
        for view, mine, rows in self._split(places):
            view.segment.take(rows, out=scorer.rows[cursor : cursor + len(mine)])
            cursor += len(mine)
        [(scores, found)] = scorer.best(query[None], len(places), k)
        return scores, places[found]

    def _split(self, places: Rows) -> list[tuple[View, Rows, Rows]]:
        """For each view with some of `places`: which of them, and their rows there."""
        if len(self.views) == 1:
            return [(self.views[0], np.arange(len(places)), places)]
        owners = np.searchsorted(self._ends, places, side="right")
        split = []
        for number in np.unique(owners).tolist():
            mine = np.flatnonzero(owners == number)
            split.append((self.views[number], mine, places[mine] - self._starts[number]))
        return split


def _most_promising(parts: Sequence[Ranking], count: int) -> Ranking:
    if len(parts) == 1:
        return parts[0]
    scores = np.concatenate([s for s, _ in parts] or [np.empty(0, np.float32)])
    places = np.concatenate([p for _, p in parts] or [np.empty(0, np.int64)])
    if len(scores) > count:
        best = np.argpartition(-scores, count)[:count]
        scores, places = scores[best], places[best]
    return scores, places
