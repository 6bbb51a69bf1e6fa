"""The best spans over all videos of an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from clipsearch.search.films import Film
from clipsearch.search.retrieve import SearchSpec, retrieve, unit_kinds
from clipsearch.search.spans import find_spans
from clipsearch.store.lookup import NO_MEDIA
from clipsearch.store.store import Store
from clipsearch.types import Hit, Span, Vectors

SPANS_A_VIDEO = 5
FIRST_FRAMES_PER_HIT = 16  # several frames usually share one span
MORE_FRAMES = 4  # factor, while the frames do not settle the ranking


def search(store: Store, query: Vectors, spec: SearchSpec) -> list[Hit]:
    """The `spec.top` best hits of all kinds asked for, spans among them, best first."""
    store.check_queries(query)
    units = unit_kinds(spec.kinds)
    hits = retrieve(store, query, replace(spec, kinds=units)) if units else []
    if "span" not in spec.kinds:
        return hits
    return sorted(hits + retrieve_spans(store, query, spec), key=lambda hit: -hit.score)[: spec.top]


def retrieve_spans(store: Store, query: Vectors, spec: SearchSpec) -> list[Hit]:
    """The `spec.top` best spans of all videos for a (1, dim) unit row, best first.

    In each video spans are found on its whole curve, where they stand out from the rest of it: the
    best one, and those apart from it that reach at least halfway up from the outside of the best
    to its inside. Spans that are at most the merge gap apart are one. Where nothing stands out the
    video is one span. Between videos they rank by the mean cosine inside: one query's cosines mean
    the same everywhere, while a curve's z-scores are its own.

    Videos are taken in the order of their best frames. No span's mean exceeds its video's best
    frame, so the ranking is settled when the next frame is no better than the last hit wanted:
    the hits are those of all videos, up to what the vector index misses. `spec.exact` looks at
    every video.
    """
    hits: list[Hit] = []
    for media_id, best in _all_videos(store) if spec.exact else _promising(store, query, spec.top):
        settled = len(hits) >= spec.top and hits[spec.top - 1].score >= best
        if settled or best < spec.min_score:
            break
        hits += _hits(store, query, media_id, spec)
        hits.sort(key=lambda hit: (-hit.score, str(hit.path), hit.start))
    return hits[: spec.top]


def _all_videos(store: Store) -> Iterator[tuple[int, float]]:
    """Every video, and the most that a frame can score."""
    for media in store.catalog.all_media():
        if media.kind == "video" and media.state == "ready":
            yield media.id, np.inf


def _promising(store: Store, query: Vectors, top: int) -> Iterator[tuple[int, float]]:
    """Videos and the cosines of their best frames, best first, as far as the index finds them."""
    seen = {NO_MEDIA}
    wanted = top * FIRST_FRAMES_PER_HIT
    while True:
        media_ids, scores = store.nearest_media(query, k=wanted, kinds=("frame",))
        for media_id, score in zip(media_ids, scores, strict=True):
            if media_id not in seen:
                seen.add(media_id)
                yield media_id, score
        if len(scores) < wanted:
            return
        wanted *= MORE_FRAMES


def _hits(store: Store, query: Vectors, media_id: int, spec: SearchSpec) -> list[Hit]:
    owner = store.catalog.media([media_id]).get(media_id)
    frames = store.frames(media_id)
    if owner is None or not len(frames.vectors):
        return []  # removed since the snapshot was taken
    film = Film(frames)
    [curve] = film.curves(query)
    found = find_spans(curve, film.edges, k=SPANS_A_VIDEO, overlap=0.0, novelty=film.novelty)
    places = _merged(_strong(found), spec.merge_gap_seconds) or [(0, len(curve))]
    hits = []
    for first, last in places:
        lengths = np.diff(film.edges[first : last + 1])
        score = float(curve[first:last] @ lengths / lengths.sum())
        at = first + int(np.argmax(curve[first:last]))
        start, end = float(film.edges[first]), float(film.edges[last])
        moment = float(film.edges[at])
        if score >= spec.min_score:
            hits.append(Hit(owner.path, "span", score, start, end, moment))
    return hits


def _strong(ranked: Sequence[Span]) -> list[Span]:
    """The best span, and those that are more like it than like the rest of the video."""
    if not ranked:
        return []
    halfway = ranked[0].similarity - max(ranked[0].contrast, 0.0) / 2
    return [ranked[0], *(span for span in ranked[1:] if span.similarity >= halfway)]


def _merged(spans: Sequence[Span], gap_seconds: float) -> list[tuple[int, int]]:
    """The cells [first, last) of spans, those in one that are close to each other."""
    places: list[tuple[int, int]] = []
    end = -np.inf
    for span in sorted(spans, key=lambda span: span.start):
        if span.start - end <= gap_seconds and places:
            places[-1] = (places[-1][0], max(places[-1][1], span.frames[1]))
        else:
            places.append(span.frames)
        end = max(end, span.end)
    return places
