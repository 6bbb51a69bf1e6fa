"""One published state of a store, opened, and searching it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipsearch.store.exact import (
    SCAN_ROWS,
    SMALL_SCAN_VALUES,
    Mask,
    Ranking,
    Scorers,
    merge_rankings,
)
from clipsearch.store.gpu import Copies, Gpu, Part
from clipsearch.store.lookup import LOOKUP_TYPE, Lookup
from clipsearch.store.manifest import Tuning
from clipsearch.store.merge import live_mask
from clipsearch.store.pooling import PoolingFacts
from clipsearch.store.quantiser import Quantiser
from clipsearch.store.recipes import SCANNED_ROWS, probe_count
from clipsearch.store.segment import Rows, Segment
from clipsearch.store.selecting import Chosen
from clipsearch.store.statements import SegmentEntry
from clipsearch.types import UNIT_KINDS, UnitKind, Vectors

QUERIES_AT_ONCE = 256

# What `benchmarks/filters.py` found: a row that is read alone takes twice as long as one of a whole
# scan with a mask. 50,000 of a million take 20 ms, and up to a share of 1/32 it is as fast as to
# probe widely enough for the recall that there is without a filter.
SCATTERED = 2
FILTERED_ROWS = 50_000
FILTERED_SHARE = 1 / 32
FULL_SHARE = 0.95  # of a segment's rows; where less are left, lists are probed in proportion
WIDEST = 8.0  # times as many lists
MOST = 4.0  # times as many candidates


@dataclass(frozen=True, slots=True)
class Width:
    """How widely to search an ANN index: lists to probe, candidates to re-rank."""

    nprobe: int
    candidates: int


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is looked for; the arguments of `Snapshot.nearest`."""

    k: int
    kinds: tuple[UnitKind, ...]
    exact: bool
    width: Width | None
    chosen: Chosen | None
    gpu: Gpu | None

    def live(self, view: View) -> tuple[Mask | None, int]:
        """(rows,) True for the rows of a segment that may be found, None for all; and how many."""
        if self.chosen is None:
            return view.live(self.kinds)
        return self.chosen.live(view, self.kinds)

    def copies(self, views: Sequence[View], queries: int) -> Copies:
        """What of the segments is on a GPU."""
        if self.gpu is None:
            return {}
        return self.gpu.copies([view.segment for view in views], queries)


@dataclass(frozen=True, slots=True)
class _Probed:
    """The segments with lists of one quantiser: how many rows may be found, out of how many."""

    quantiser: Quantiser
    live: int = 0
    rows: int = 0

    def with_rows(self, live: int, view: View) -> _Probed:
        """These and a segment."""
        return _Probed(self.quantiser, self.live + live, self.rows + view.segment.row_count)

    def widened(self, width: Width) -> Width:
        """More lists and candidates where less is left: the nearest of few rows are further away,
        in more lists, and what is left may all look alike.
        """
        factor = min(WIDEST, max(1.0, FULL_SHARE * self.rows / self.live))
        nprobe = min(self.quantiser.facts.lists, round(width.nprobe * factor))
        return Width(nprobe, round(width.candidates * min(factor, MOST)))


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

    def count(self, kind: UnitKind) -> int:
        """How many live rows are of a kind; at no cost, unlike `live`, which keeps a mask."""
        start, end = self.segment.blocks[kind]
        runs = ((max(first, start), min(first + rows, end)) for first, rows in self.entry.dead)
        return end - start - sum(max(last - first, 0) for first, last in runs)

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
        chosen: Chosen | None = None,
        gpu: Gpu | None = None,
    ) -> list[Ranking]:
        """For each query the up to `k` best (scores, places) among live rows of `kinds`.

        Scores are exact cosines. Fewer than `k` come back only when there are no more. `width`
        overrides what `width()` says. chosen: the rows that may be found. gpu: may be used, if that
        pays; all that is copied there is searched exactly.
        """
        wanted = _Wanted(k, tuple(kinds), exact, width, chosen, gpu)
        results: list[Ranking] = []
        for first in range(0, len(queries), QUERIES_AT_ONCE):
            part = np.ascontiguousarray(queries[first : first + QUERIES_AT_ONCE])
            results += self._nearest(part, wanted)
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

    def live_places(
        self, kinds: Sequence[UnitKind] = UNIT_KINDS, *, chosen: Chosen | None = None
    ) -> Rows:
        """Every place whose row is live and of `kinds`, and may be found."""
        parts = [np.empty(0, np.int64)]
        for start, view in zip(self._starts.tolist(), self.views, strict=True):
            own = tuple(kinds)
            mask, _ = view.live(own) if chosen is None else chosen.live(view, own)
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
        self,
        queries: Vectors,
        kinds: tuple[UnitKind, ...],
        quantiser: Quantiser,
        width: Width,
        chosen: Chosen | None = None,
    ) -> list[Ranking]:
        """For each query up to `width.candidates` (approximate scores, places), in no order, from
        the segments with lists of `quantiser`.
        """
        parts: list[list[Ranking]] = [[] for _ in queries]
        assignment = quantiser.assign(queries, width.nprobe)
        for start, view in zip(self._starts.tolist(), self.views, strict=True):
            lists = view.segment.lists
            mask, live = view.live(kinds) if chosen is None else chosen.live(view, kinds)
            if not self._is_probed(view, live) or lists is None or lists.quantiser is not quantiser:
                continue
            count = min(width.candidates, live)
            for kept, scores, rows in zip(
                parts, *lists.search(queries, assignment, count, mask), strict=True
            ):
                kept.append((scores[rows >= 0], rows[rows >= 0] + start))
        return [_most_promising(part, width.candidates) for part in parts]

    def _nearest(self, queries: Vectors, wanted: _Wanted) -> list[Ranking]:
        parts: list[list[Ranking]] = [[] for _ in queries]
        probed: dict[str, _Probed] = {}
        copies, on_gpu = wanted.copies(self.views, len(queries)), list[Part]()
        for start, view in zip(self._starts.tolist(), self.views, strict=True):
            mask, live = wanted.live(view)
            lists = view.segment.lists
            if live and view.segment in copies and live * SCATTERED >= _count(view, wanted.kinds):
                on_gpu.append(Part(copies[view.segment], start, mask))
            elif live and not wanted.exact and lists is not None and self._is_probed(view, live):
                before = probed.get(lists.quantiser.facts.name, _Probed(lists.quantiser))
                probed[lists.quantiser.facts.name] = before.with_rows(live, view)
            elif live:
                found = self._scan(view, queries, wanted.k, mask, live)
                for kept, ranking in zip(parts, found, strict=True):
                    kept.append((ranking[0], ranking[1] + start))
        short = self._propose(queries, wanted, on_gpu, parts) if on_gpu else set[int]()
        for one in probed.values():
            own = wanted.width or one.widened(self.width(one.quantiser))
            wide = Width(own.nprobe, max(own.candidates, wanted.k))
            found = self.candidates(queries, wanted.kinds, one.quantiser, wide, wanted.chosen)
            for at, (kept, (_, places)) in enumerate(zip(parts, found, strict=True)):
                if len(places) < min(wanted.k, one.live):  # the probed lists hold fewer
                    short.add(at)
                else:
                    kept.append(self._rank(queries[at], places, wanted.k))
        results = [merge_rankings(part, wanted.k) for part in parts]
        if short:
            again = sorted(short)
            everything = replace(wanted, exact=True, width=None, gpu=None)
            scanned = self._nearest(queries[again], everything)
            for at, ranking in zip(again, scanned, strict=True):
                results[at] = ranking
        return results

    def _propose(
        self, queries: Vectors, wanted: _Wanted, on_gpu: list[Part], parts: list[list[Ranking]]
    ) -> set[int]:
        """Rank what a GPU proposes; the queries for which that may not be all."""
        assert wanted.gpu is not None, "only a GPU has copies"
        short = set()
        found = wanted.gpu.propose(queries, on_gpu, wanted.kinds, wanted.k)
        for at, places in enumerate(found):
            if places is None:
                short.add(at)
            elif len(places):
                ranking = self._rank(queries[at], places, len(places))
                parts[at].append(merge_rankings([ranking], wanted.k))  # ties as in a scan
        return short

    def _is_probed(self, view: View, live: int) -> bool:
        """Whether a segment is searched by its lists; few rows are scanned: exact, and as fast."""
        if view.segment.lists is None or live < SCANNED_ROWS:
            return False
        rows = view.segment.row_count
        return live * 2 >= rows or live >= max(FILTERED_ROWS, rows * FILTERED_SHARE)

    def _scan(
        self, view: View, queries: Vectors, k: int, mask: Mask | None, live: int
    ) -> list[Ranking]:
        if mask is None or live * SCATTERED >= view.segment.row_count:
            return view.segment.search_exactly(queries, k, mask)
        rows = np.flatnonzero(mask)  # few are left: only those are read
        if live * self._dim <= SMALL_SCAN_VALUES:
            vectors = view.segment.take(rows).astype(np.float32)
            return [merge_rankings([(scores, rows)], k) for scores in queries @ vectors.T]
        best: list[list[Ranking]] = [[] for _ in queries]
        scorer = self._scorers.get(SCAN_ROWS)
        for first in range(0, live, SCAN_ROWS):
            part = rows[first : first + SCAN_ROWS]
            view.segment.take(part, out=scorer.rows[: len(part)])
            found = scorer.best(queries, len(part), k)
            for kept, (scores, places) in zip(best, found, strict=True):
                kept.append((scores, part[places]))
        return [merge_rankings(parts, k) for parts in best]

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


def _count(view: View, kinds: Sequence[UnitKind]) -> int:
    """Rows of `kinds`, dead ones too."""
    blocks = view.segment.blocks
    return sum(blocks[kind][1] - blocks[kind][0] for kind in kinds)


def _most_promising(parts: Sequence[Ranking], count: int) -> Ranking:
    if len(parts) == 1:
        return parts[0]
    scores = np.concatenate([s for s, _ in parts] or [np.empty(0, np.float32)])
    places = np.concatenate([p for _, p in parts] or [np.empty(0, np.int64)])
    if len(scores) > count:
        best = np.argpartition(-scores, count)[:count]
        scores, places = scores[best], places[best]
    return scores, places
