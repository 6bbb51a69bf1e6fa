"""How many of the true nearest a store finds, and how widely to search to find enough."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.store.exact import Ranking
from clipsearch.store.manifest import Measured, Tuning
from clipsearch.store.quantiser import Quantiser
from clipsearch.store.recipes import SCANNED_ROWS
from clipsearch.store.snapshot import Snapshot, Width
from clipsearch.types import UNIT_KINDS, UnitKind, Vectors

NPROBE_STEP = 2**0.5
CANDIDATE_STEPS = (100, 200, 300, 400, 640, 1000, 1500, 2000, 3000, 5000)
TIMED_QUERIES = 50
CHOICES_TIMED = 6
AIM_BEYOND = 0.1  # of what is missing to 1: other queries find a little less or more
WARM_UP = 5


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Queries of one kind: (m, dim) float32 unit rows; where they are stored, if they are."""

    name: str
    vectors: Vectors
    own_places: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class RecallReport:
    """Recall@k and the median CPU time of a query, by the kind of query."""

    k: int
    rows: int
    queries: dict[str, int]
    recall: dict[str, float]
    cpu_ms: dict[str, float]
    exact_cpu_ms: float
    nprobe: int | None  # None: everything is scanned
    candidates: int | None
    recipe: str

    @property
    def measured(self) -> Measured:
        """What the manifest keeps."""
        return Measured(self.k, self.rows, self.recall, self.cpu_ms)


def stored_queries(snapshot: Snapshot, count: int, kinds: Sequence[UnitKind]) -> QuerySet:
    """A uniform random sample of stored vectors as queries by images."""
    places = snapshot.live_places(kinds)
    chosen = np.random.default_rng(0).choice(places, min(count, len(places)), replace=False)
    chosen.sort()
    vectors = snapshot.vectors(chosen).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return QuerySet("image", vectors, chosen)


class RecallBench:
    """The true nearest of some queries in one snapshot, and searches to compare with them."""

    def __init__(
        self,
        snapshot: Snapshot,
        sets: Sequence[QuerySet],
        *,
        k: int = 10,
        kinds: Sequence[UnitKind] = UNIT_KINDS,
    ) -> None:
        self._snapshot, self._k, self._kinds = snapshot, k, tuple(kinds)
        self._sets = [queries for queries in sets if len(queries.vectors)]
        if not self._sets:
            raise UsageError("there is nothing to ask: the index is empty")
        self._truth = {s.name: self._answers(s, exact=True) for s in self._sets}

    def measure(self, width: Width | None = None) -> RecallReport:
        """Recall and CPU time with `width`, None for what the index has."""
        quantiser = self._quantiser()
        used = width or (self._snapshot.width(quantiser) if quantiser else None)
        found = {s.name: self._answers(s, width=width) for s in self._sets}
        recall = {name: self._share(self._truth[name], own) for name, own in found.items()}
        return RecallReport(
            k=self._k,
            rows=len(self._snapshot.live_places(self._kinds)),
            queries={s.name: len(s.vectors) for s in self._sets},
            recall=recall,
            cpu_ms={s.name: self._cpu_ms(s.vectors, width=width) for s in self._sets},
            exact_cpu_ms=self._cpu_ms(self._sets[0].vectors, exact=True),
            nprobe=used.nprobe if used else None,
            candidates=used.candidates if used else None,
            recipe=quantiser.recipe.name if quantiser else "flat",
        )

    def tune(self, target: float) -> Width | None:
        """The width of least CPU time with at least `target` recall in every set; None for an
        index that is scanned, which finds everything.

        Raises UsageError when no width reaches it.
        """
        if not 0 < target <= 1:
            raise UsageError(f"target {target}: use a recall above 0 and up to 1")
        quantiser = self._quantiser()
        if quantiser is None:
            return None
        choices, best = [], 0.0
        for nprobe in _ladder(quantiser.facts.lists):
            recalls = self._candidate_recalls(quantiser, nprobe)
            best = max(best, *recalls.values())
            aim = target + AIM_BEYOND * (1 - target)
            enough = [count for count, recall in recalls.items() if recall >= aim]
            if enough:
                choices.append(Width(nprobe, min(enough)))
            if len(choices) == CHOICES_TIMED:
                break
        if not choices:
            raise UsageError(
                f"target {target}: the most that {quantiser.recipe.name} reaches here is "
                f"{best:.3f}; use --exact, or the recipe flat"
            )
        queries = self._sets[0].vectors
        return min(choices, key=lambda width: self._cpu_ms(queries, width=width))

    def _quantiser(self) -> Quantiser | None:
        """The one whose lists are searched; None when everything is scanned."""
        for quantiser in reversed(self._snapshot.quantisers):
            for view in self._snapshot.views:
                lists, (_, live) = view.segment.lists, view.live(self._kinds)
                if lists is not None and lists.quantiser is quantiser and live >= SCANNED_ROWS:
                    return quantiser
        return None

    def _candidate_recalls(self, quantiser: Quantiser, nprobe: int) -> dict[int, float]:
        """The least recall of any set by the number of candidates: those of one search serve all,
        as re-ranking finds what is among them.
        """
        width = Width(nprobe, CANDIDATE_STEPS[-1])
        least = dict.fromkeys(CANDIDATE_STEPS, 1.0)
        for queries in self._sets:
            hits = np.zeros(len(CANDIDATE_STEPS), np.int64)
            truths = self._truth[queries.name]
            for query, truth in zip(queries.vectors, truths, strict=True):
                [(scores, places)] = self._snapshot.candidates(
                    query[None], self._kinds, quantiser, width
                )
                best_first = places[np.argsort(-scores)]
                ranks = np.flatnonzero(np.isin(best_first, truth))
                hits += [np.count_nonzero(ranks < count) for count in CANDIDATE_STEPS]
                hits += int(np.count_nonzero(self._snapshot.are_scanned(truth, self._kinds)))
            for count, share in zip(CANDIDATE_STEPS, hits / sum(map(len, truths)), strict=True):
                least[count] = min(least[count], float(share))
        return least

    def _answers(
        self, queries: QuerySet, *, exact: bool = False, width: Width | None = None
    ) -> list[NDArray[np.int64]]:
        """The places of the `k` nearest of each query, itself left out."""
        extra = 0 if queries.own_places is None else 1
        found = self._snapshot.nearest(
            queries.vectors, k=self._k + extra, kinds=self._kinds, exact=exact, width=width
        )
        answers = [places for _, places in found]
        if queries.own_places is not None:
            pairs = zip(answers, queries.own_places, strict=True)
            answers = [places[places != own] for places, own in pairs]
        return [places[: self._k] for places in answers]

    def _share(
        self, truth: Sequence[NDArray[np.int64]], found: Sequence[NDArray[np.int64]]
    ) -> float:
        hits = [len(np.intersect1d(t, f)) for t, f in zip(truth, found, strict=True)]
        return sum(hits) / max(1, sum(map(len, truth)))

    def _cpu_ms(
        self, queries: Vectors, *, exact: bool = False, width: Width | None = None
    ) -> float:
        times = []
        for query in queries[: TIMED_QUERIES + WARM_UP]:
            start = time.process_time()
            self._ask(query[None], exact, width)
            times.append(time.process_time() - start)
        return float(np.median(times[WARM_UP:] or times)) * 1000

    def _ask(self, query: Vectors, exact: bool, width: Width | None) -> list[Ranking]:
        return self._snapshot.nearest(query, k=self._k, kinds=self._kinds, exact=exact, width=width)


def tuning_of(snapshot: Snapshot, report: RecallReport) -> Tuning | None:
    """What the manifest keeps of a measurement; None when everything is scanned."""
    if report.nprobe is None or report.candidates is None or not snapshot.quantisers:
        return None
    name = snapshot.quantisers[-1].facts.name
    return Tuning(name, report.nprobe, report.candidates, report.measured)


def _ladder(lists: int) -> list[int]:
    """Numbers of lists to try, each about 1.4 times the one before."""
    steps: list[int] = []
    probes = 4.0
    while probes < lists:
        if not steps or round(probes) > steps[-1]:
            steps.append(round(probes))
        probes *= NPROBE_STEP
    return [*steps, lists]
