"""Words, sounds and vectors asked of one index: which spaces answer, and their hits as one list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, UsageError
from clipsearch.heads.choose import PoolingSpec
from clipsearch.ingest.listening import audio_spec
from clipsearch.pooled import Heads, ask_alike
from clipsearch.search.fuse import fuse
from clipsearch.search.query import Ears, Query, encode_words, query_vectors
from clipsearch.search.rerank import Rerank, rerank
from clipsearch.search.retrieve import MERGE_GAP_SECONDS, SearchSpec, wanted_kinds
from clipsearch.search.whole import search
from clipsearch.store.store import Store
from clipsearch.types import Hit, HitKind, Source, Vectors

Kinds = dict[Source, tuple[HitKind, ...]]


@dataclass(frozen=True, slots=True)
class Asked:
    """How something is looked for; the fields are the arguments of `Index.search`."""

    top: int = 10
    kind: str | Iterable[str] | None = None
    source: str | None = None
    min_score: float = -1.0
    merge_gap: float = MERGE_GAP_SECONDS
    exact: bool = False
    pooling: str | None = None
    rerank: Rerank | None = None

    @property
    def by_default(self) -> bool:
        """Whether it was left open what kinds of hits are wanted."""
        return self.kind is None and self.source is None


@dataclass(frozen=True, slots=True)
class Asking:
    """One index as it is asked: its store, and its encoders, which load when they are needed."""

    store: Store
    heads: Heads
    encoder: Callable[[], Encoder]
    ear: Callable[[], Encoder | None]
    on_notice: Callable[[str], None]

    def hits(self, query: str | Query | Vectors, how: Asked) -> list[Hit]:
        """The best hits, as `Index.search` says."""
        if isinstance(query, str):
            query = Query(query)
        if how.rerank is not None:
            return self._reranked(query, how, how.rerank)
        kinds = wanted_kinds(self.store, how.kind, how.source, vector=not isinstance(query, Query))
        open_words = how.by_default and isinstance(query, Query) and not query.sounds
        if open_words:
            kinds = self._without_deaf(kinds)
        chosen = tuple(chain(*kinds.values()))
        spec = SearchSpec(how.top, chosen, how.min_score, how.merge_gap, how.exact)
        rankings = {
            source: self._search(rows, replace(spec, kinds=kinds[source]), how.pooling)
            for source, rows in self._vectors(query, tuple(kinds)).items()
        }
        if open_words:
            rankings = self._to_the_point(rankings)
        sound_alone = isinstance(query, Query) and not query.words.strip()
        return fuse(rankings, how.top, first="audio" if sound_alone else "visual")

    def _vectors(self, query: Query | Vectors, sources: Sequence[Source]) -> dict[Source, Vectors]:
        if not isinstance(query, Query):
            return dict.fromkeys(sources, np.asarray(query, np.float32).reshape(1, -1))
        return query_vectors(
            query, self.encoder, self._ears, sources=sources, on_notice=self.on_notice
        )

    def _ears(self) -> Ears | None:
        settings, ear = self.store.manifest.audio, self.ear()
        if settings is None or ear is None:
            return None
        shared = settings.encoder == self.store.manifest.encoder
        return Ears(ear, audio_spec(settings, ear), shared)

    def _search(self, query: Vectors, spec: SearchSpec, pooling: str | None) -> list[Hit]:
        """The best hits of one space."""
        found, _ = ask_alike(
            self.store,
            pooling,
            lambda kind: search(self.store, query, replace(spec, windows=kind)),
        )
        return found

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
        kept = {}
        for source, hits in rankings.items():
            encoder = self.ear() if source == "audio" else self.encoder()
            floor = encoder.floors.get(source, -1.0) if encoder else -1.0
            kept[source] = [hit for hit in hits if hit.score >= floor]
        return kept

    def _reranked(self, query: Query | Vectors, how: Asked, by: Rerank) -> list[Hit]:
        """The best of what a search by cosines finds, by the score of a head."""
        if how.source not in (None, "visual"):
            raise UsageError("a head scores what is seen: leave out the source")
        if not isinstance(query, Query) or query.sounds:
            raise UsageError("a head scores words with frames: give the query as words")
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
