"""Words, sounds and vectors asked of one index: which spaces answer, and their hits as one list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, cast

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, UsageError
from clipsearch.heads.choose import PoolingSpec
from clipsearch.ingest.changes import find_media, media_named
from clipsearch.ingest.given import recorded_sampling
from clipsearch.ingest.listening import audio_spec
from clipsearch.pooled import Heads, ask_alike
from clipsearch.search.asked import Asked
from clipsearch.search.background import Background
from clipsearch.search.fuse import fuse
from clipsearch.search.probe import Probe
from clipsearch.search.query import Ears, Query, encode_words
from clipsearch.search.relevance import Meaning
from clipsearch.search.rerank import Rerank, rerank
from clipsearch.search.retrieve import SearchSpec, span_kinds, wanted_kinds
from clipsearch.search.terms import QuerySpace, QueryVectors, query_vectors
from clipsearch.search.whole import search_each
from clipsearch.store.selection import Selection
from clipsearch.store.store import Store
from clipsearch.types import (
    SOURCE_OF,
    SOURCES,
    UNIT_KINDS,
    Hit,
    HitKind,
    Source,
    UnitKind,
    Vectors,
)
from clipsearch.where import Condition

Wanted = str | Query | Probe | Vectors  # what can be asked for
Kinds = dict[Source, tuple[HitKind, ...]]
Way = Source | Literal["words", "all"]  # a source alone, all that can be had, or all

QUERIES_AT_ONCE = 256
NEAR = 0.5  # relevance of sounds and subtitles that are shown among pictures


@dataclass(frozen=True, slots=True)
class _Encoded:
    """One query, ready to be searched; `kinds` of hits by source."""

    query: Query | Probe | Vectors
    kinds: Kinds
    own: QueryVectors

    def selection(self, where: Condition | None) -> Selection | None:
        """The rows that may be found: not those of the query itself."""
        found = Selection(where, self.own.media, self.own.units)
        return None if found == Selection() else found


@dataclass(frozen=True, slots=True)
class Asking:
    """One index as it is asked: its store, and its encoders, which load when they are needed.

    background: what cosines are compared with; it is measured, if there is none and it is needed.
    """

    store: Store
    heads: Heads
    encoder: Callable[[], Encoder]
    ear: Callable[[], Encoder | None]
    on_notice: Callable[[str], None]
    background: Callable[[bool], Background | None]

    def hits(self, query: Wanted, how: Asked) -> list[Hit]:
        """The best hits, as `Index.search` says."""
        return self.hits_of_each([query], how)[0]

    def hits_of_each(self, queries: Iterable[Wanted], how: Asked) -> list[list[Hit]]:
        """For each query its best hits, as `Index.search_many` says."""
        waiting = (Query(query) if isinstance(query, str) else query for query in queries)
        found: list[list[Hit]] = []
        while part := list(islice(waiting, QUERIES_AT_ONCE)):
            found += self._together(part, how)
        return found

    def _together(self, queries: Sequence[Query | Probe | Vectors], how: Asked) -> list[list[Hit]]:
        SearchSpec(how.top, min_cosine=how.min_cosine, merge_gap_seconds=how.merge_gap)  # checks
        if how.rerank is not None:
            return [self._reranked(query, how, how.rerank) for query in queries]
        asked = self._encoded(queries, how)
        rankings: list[dict[Source, list[Hit]]] = [{} for _ in asked]
        for source in SOURCES:
            alike: dict[tuple[HitKind, ...], list[int]] = {}
            for number, one in enumerate(asked):
                if source in one.own.rows:
                    alike.setdefault(one.kinds[source], []).append(number)
            for numbers in alike.values():
                found = self._search([asked[number] for number in numbers], source, how)
                for number, hits in zip(numbers, found, strict=True):
                    rankings[number][source] = hits
        return [
            self._fused(one.query, ranked, how) for one, ranked in zip(asked, rankings, strict=True)
        ]

    def _encoded(self, queries: Sequence[Query | Probe | Vectors], how: Asked) -> list[_Encoded]:
        ways = [self._way(query) for query in queries]
        known = {way: self._kinds(way, how) for way in dict.fromkeys(ways)}
        kinds = [known[way] for way in ways]
        found: dict[int, QueryVectors] = {}
        alike: dict[tuple[Source, ...], list[int]] = {}
        for number, (query, own) in enumerate(zip(queries, kinds, strict=True)):
            if isinstance(query, Query):
                alike.setdefault(tuple(own), []).append(number)
            else:
                found[number] = QueryVectors(dict.fromkeys(own, self._row(query, own)))
        for sources, numbers in alike.items():
            wanted = [cast(Query, queries[number]) for number in numbers]
            vectors = query_vectors(wanted, self._space(), sources=sources, prompts=how.prompts)
            found |= zip(numbers, vectors, strict=True)
        return [_Encoded(query, kinds[n], found[n]) for n, query in enumerate(queries)]

    def _way(self, query: Query | Probe | Vectors) -> Way:
        """Where a query is looked for if nothing is said of that."""
        if not isinstance(query, Query):
            return "visual"
        if query.is_words or "sound" in query.kinds:
            return "words" if query.is_words else "all"
        ids = [int(term.content) for term in query.terms if term.kind == "unit"]
        kinds = self.store.rows(np.array(ids, np.int64))[0]["kind"].tolist() if ids else []
        sources = {SOURCE_OF[UNIT_KINDS[kind]] for kind in kinds}
        return sources.pop() if len(sources) == 1 else "visual"

    def _kinds(self, way: Way, how: Asked) -> Kinds:
        source = way if how.by_default and way in ("audio", "text") else how.source
        kinds = wanted_kinds(self.store, how.kind, source, vector=way == "visual")
        return self._without_deaf(kinds) if how.by_default and way == "words" else kinds

    def _row(self, query: Probe | Vectors, kinds: Kinds) -> Vectors:
        """(1, dim) unit row of what has a vector."""
        if not isinstance(query, Probe):
            return np.asarray(query, np.float32).reshape(1, -1)
        manifest = self.store.manifest
        if query.fingerprint != manifest.fingerprint:
            raise EncoderError(
                f"the probe was trained on vectors of {query.fingerprint}, but the index has those "
                f"of {manifest.fingerprint or 'no model'}: train it with this index"
            )
        if set(kinds) != {"visual"}:
            raise UsageError("a probe looks at what is seen: leave out kinds and sources of sound")
        return query.vector[None]

    def _space(self) -> QuerySpace:
        store = self.store
        return QuerySpace(
            store,
            self.encoder,
            self._ears,
            lambda path: find_media(store.catalog, path)[1],
            lambda path: [media.id for _, media in media_named(store.catalog, path)],
            lambda: recorded_sampling(store),
            self.on_notice,
        )

    def _ears(self) -> Ears | None:
        settings, ear = self.store.manifest.audio, self.ear()
        if settings is None or ear is None:
            return None
        shared = settings.encoder == self.store.manifest.encoder
        return Ears(ear, audio_spec(settings, ear), shared)

    def _search(self, asked: Sequence[_Encoded], source: Source, how: Asked) -> list[list[Hit]]:
        """The best hits of queries in one space; they are of the same kinds there."""
        spec = SearchSpec(
            how.top,
            asked[0].kinds[source],
            how.min_cosine,
            how.merge_gap,
            how.exact,
            dedupe=how.least_same(self.store.manifest.encoder),
        )
        stored = self.background(how.min_score > 0)
        rows = [one.own.rows[source] for one in asked]
        meanings = [
            Meaning(row, _judge(one.query, stored)) for one, row in zip(asked, rows, strict=True)
        ]

        def ask(windows: UnitKind) -> list[list[Hit]]:
            kinds = span_kinds(replace(spec, windows=windows))
            specs = [
                replace(
                    spec,
                    windows=windows,
                    selection=one.selection(how.where),
                    bars=meaning.bars(kinds, how.min_score),
                )
                for one, meaning in zip(asked, meanings, strict=True)
            ]
            found = search_each(self.store, np.concatenate(rows), specs)
            return [m.judged(hits, windows) for m, hits in zip(meanings, found, strict=True)]

        return ask_alike(self.store, how.pooling, ask)[0]

    def _fused(
        self, query: Query | Probe | Vectors, rankings: dict[Source, list[Hit]], how: Asked
    ) -> list[Hit]:
        if how.by_default and isinstance(query, Query) and query.is_words:
            rankings = self._to_the_point(rankings)
        sound_alone = isinstance(query, Query) and query.kinds == {"sound"}
        return fuse(rankings, how.top, first="audio" if sound_alone else "visual")

    def _without_deaf(self, kinds: Kinds) -> Kinds:
        """Without sounds if their encoder cannot be had: what is seen and said is found all the
        same, and that is told.
        """
        if "audio" in kinds:
            try:
                self.ear()
            except EncoderError as error:
                self.on_notice(f"sounds are left out: {error}")
                return {source: own for source, own in kinds.items() if source != "audio"}
        return kinds

    def _to_the_point(self, rankings: dict[Source, list[Hit]]) -> dict[Source, list[Hit]]:
        """Without sounds and subtitles that words have little to do with, where pictures have."""
        if not rankings.get("visual"):
            return rankings
        return {
            source: hits if source == "visual" else [hit for hit in hits if self._is_near(hit)]
            for source, hits in rankings.items()
        }

    def _is_near(self, hit: Hit) -> bool:
        """By the cosines that were measured for the encoder, else by relevance, which says little
        of a few sounds or lines.
        """
        encoder = self.ear() if hit.source == "audio" else self.encoder()
        if encoder is not None and hit.source in encoder.floors:
            return hit.score >= encoder.floors[hit.source]
        return hit.relevance is None or hit.relevance >= NEAR

    def _reranked(self, query: Query | Probe | Vectors, how: Asked, by: Rerank) -> list[Hit]:
        """The best of what a search by cosines finds, by the score of a head."""
        if how.source not in (None, "visual"):
            raise UsageError("a head scores what is seen: leave out the source")
        if not isinstance(query, Query) or not query.is_plain:
            raise UsageError("a head scores words with frames: give the query as words alone")
        kinds = (how.kind,) if isinstance(how.kind, str) else how.kind
        if kinds is not None and tuple(kinds) != ("video",):
            raise UsageError("a head scores whole videos again: use kind 'video', and no other")
        head = self.heads.load(PoolingSpec(by.head, by.weights)).head
        wider = replace(how, top=max(how.top, by.candidates), kind="video", rerank=None)
        hits = self.hits(query, wider)
        [text] = encode_words(
            self.encoder(), [query.words], on_notice=lambda _: None, normalize=False
        )
        return rerank(self.store, hits, text, head, on_notice=self.on_notice)[: how.top]


def _judge(
    query: Query | Probe | Vectors, background: Background | None
) -> Background | Probe | None:
    """What says how relevant hits are: the background is of texts, and says so of words alone."""
    if isinstance(query, Probe):
        return query
    return background if isinstance(query, Query) and query.is_words else None
