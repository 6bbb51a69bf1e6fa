"""The best spans over all videos of an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from clipsearch.search.dedupe import Distinct, Row, stored_rows
from clipsearch.search.films import Film
from clipsearch.search.profile import SLACK_SECONDS, Floats
from clipsearch.search.retrieve import SearchSpec, retrieve, retrieve_each
from clipsearch.search.spans import MIN_SECONDS
from clipsearch.store.lookup import NO_MEDIA
from clipsearch.store.store import Store
from clipsearch.types import SOURCE_OF, Hit, HitKind, Span, Vectors, VideoFrames

SPANS_A_VIDEO = 5
VIDEOS_PER_HIT = 32  # looked at, at most
SLACK_SCORE = 1e-6  # rounding
FIRST_FRAMES_PER_HIT = 16  # several frames usually share one span
MORE_FRAMES = 4  # factor, while the frames do not settle the ranking


def search(store: Store, query: Vectors, spec: SearchSpec) -> list[Hit]:
    """The `spec.top` best hits of all kinds asked for, spans among them, best first."""
    return search_each(store, query, [spec])[0]


def search_each(store: Store, queries: Vectors, specs: Sequence[SearchSpec]) -> list[list[Hit]]:
    """The same for (m, dim) unit rows; the m specs differ in their selections and bars alone."""
    if not specs:
        return []
    others = tuple(kind for kind in specs[0].kinds if kind != "span")
    store.check_queries(queries, SOURCE_OF[others[0]] if others else "visual")
    if "span" not in specs[0].kinds:
        return retrieve_each(store, queries, specs)
    pairs = zip(np.split(queries, len(specs)), specs, strict=True)
    return [_among_others(store, query, spec, others) for query, spec in pairs]


def _among_others(
    store: Store, query: Vectors, spec: SearchSpec, others: tuple[HitKind, ...]
) -> list[Hit]:
    """Spans and hits of `others` as one ranking."""
    wanted = spec.top
    while True:
        each = replace(spec, top=wanted)
        ranked = [_ranked(store, query, each)]
        if others:
            units = retrieve(store, query, replace(each, kinds=others))
            ranked.append(_with_rows(store, units, spec))
        merged = sorted(chain(*ranked), key=lambda found: -found[0].score)
        if spec.dedupe is not None and others:
            distinct = Distinct(spec.dedupe)
            merged = [found for found in merged if distinct.admit(found[1])]
        further = [part[-1][0].score for part in ranked if len(part) >= wanted]  # more may follow
        hits = [hit for hit, _ in merged if hit.score >= max(further, default=-np.inf)]
        if len(hits) >= spec.top or not further:
            return hits[: spec.top]
        wanted *= 2


def _with_rows(store: Store, hits: Sequence[Hit], spec: SearchSpec) -> list[tuple[Hit, Row | None]]:
    """Hits with the vectors that are stored for them, if these are needed."""
    ids = [hit.id for hit in hits if hit.id is not None and spec.dedupe is not None]
    rows = stored_rows(store, ids, hits[0].source) if ids else {}
    return [(hit, rows.get(hit.id or 0)) for hit in hits]


def retrieve_spans(store: Store, query: Vectors, spec: SearchSpec) -> list[Hit]:
    """The `spec.top` best spans of all videos for a (1, dim) unit row, best first.

    In each video spans are found on its whole curve, where they stand out from the rest of it: the
    best one, and those apart from it that reach at least halfway up from the outside of the best
    to its inside. Spans that are at most the merge gap apart are one. Where nothing stands out the
    video is one span. Between videos they rank by the mean cosine inside: one query's cosines mean
    the same everywhere, while a curve's z-scores are its own.

    Videos are taken in the order of their best frames. No span's mean exceeds its video's best
    frame, so the ranking is settled when the next frame is no better than the last hit wanted:
    the hits are those of all videos, up to what the vector index misses, among
    the VIDEOS_PER_HIT most promising videos a hit. `spec.exact` looks at every video.
    """
    return [hit for hit, _ in _ranked(store, query, spec)]


class _Found(NamedTuple):
    """A span of a video, in seconds, and the vector of its best frame if that is needed."""

    media_id: int
    score: float
    start: float
    end: float
    moment: float
    row: Row | None


def _ranked(store: Store, query: Vectors, spec: SearchSpec) -> list[tuple[Hit, Row | None]]:
    found: list[_Found] = []
    best: list[_Found] = []
    videos = _all_videos(store, spec) if spec.exact else _promising(store, query, spec)
    for looked, (media_id, most) in enumerate(videos):
        full = len(best) >= spec.top
        least = max(spec.least("frame"), best[spec.top - 1].score if full else -np.inf)
        enough = most == least or (looked >= spec.top * VIDEOS_PER_HIT and not spec.exact)
        if most < least or (full and enough):
            break
        every = spec.exact or spec.dedupe is not None  # a later one may stand for several before
        found += _spans(store, query, media_id, spec, least=-np.inf if every else least)
        found.sort(key=lambda each: (-each.score, each.media_id, each.start))
        best = _distinct(found, spec)
        if spec.dedupe is None:
            found = list(best)
    media = store.catalog.media(each.media_id for each in best)
    return [
        (Hit(media[each.media_id].path, "span", each.score, *each[2:5]), each.row)
        for each in best
        if each.media_id in media  # else removed since the snapshot was taken
    ]


def _distinct(found: Sequence[_Found], spec: SearchSpec) -> list[_Found]:
    """The best of ranked spans, without those that are the same as a better one."""
    if spec.dedupe is None:
        return list(found[: spec.top])
    distinct = Distinct(spec.dedupe)
    return list(islice((each for each in found if distinct.admit(each.row)), spec.top))


def _all_videos(store: Store, spec: SearchSpec) -> Iterator[tuple[int, float]]:
    """Every video, and the most that a frame can score."""
    for media in store.selected_media(spec.selection):
        if media.kind == "video":
            yield media.id, np.inf


def _promising(store: Store, query: Vectors, spec: SearchSpec) -> Iterator[tuple[int, float]]:
    """Videos and the cosines of their best frames, best first, as far as the index finds them."""
    seen = {NO_MEDIA}
    wanted = spec.top * FIRST_FRAMES_PER_HIT
    while True:
        media_ids, scores = store.nearest_media(
            query, k=wanted, kinds=("frame",), selection=spec.selection
        )
        for media_id, score in zip(media_ids, scores, strict=True):
            if media_id not in seen:
                seen.add(media_id)
                yield media_id, score
        if len(scores) < wanted:
            return
        wanted *= MORE_FRAMES


def _spans(
    store: Store, query: Vectors, media_id: int, spec: SearchSpec, *, least: float
) -> list[_Found]:
    """The spans of one video; none when they cannot score `least`."""
    frames = store.frames(media_id)
    if not len(frames.vectors):
        return []  # removed since the snapshot was taken
    film = Film(frames)
    [curve] = film.curves(query)
    if best_mean(film, curve) < least:
        return []
    found = film.spans(curve, k=SPANS_A_VIDEO, overlap=0.0)
    places = _merged(_strong(found), spec.merge_gap_seconds) or [(0, len(curve))]
    spans = []
    for first, last in places:
        span = film.seen((first, last), curve)
        if span is not None and span.similarity >= spec.least("frame"):
            moment = film.moment(span, curve)
            row = None if spec.dedupe is None else _row_at(frames, moment)
            spans.append(_Found(media_id, span.similarity, span.start, span.end, moment, row))
    return spans


def _row_at(frames: VideoFrames, moment: float) -> Row:
    """(dim,) unit row of the frame that starts at a moment; it is stored in 16 bits."""
    row: Row = frames.vectors[int(np.argmin(np.abs(frames.starts - moment)))]
    return row / np.linalg.norm(row)


def best_mean(film: Film, curve: Floats) -> float:
    """No span of at least the usual length has a larger mean over time of its frames.

    A span of several frames falls into runs of two and three, one of which has its mean or more; a
    span of one frame is that frame, which must last long enough, or has black beside it.
    """
    values, lengths = curve[film.there], film.lengths[film.there]
    every = len(values) == 1 or not film.there.all()
    alone = values if every else values[lengths >= MIN_SECONDS - SLACK_SECONDS]
    best = float(alone.max(initial=-1.0))
    for count in (2, 3):
        if len(values) >= count:
            ones = np.ones(count)
            sums = np.convolve(values * lengths, ones, "valid")
            best = max(best, float((sums / np.convolve(lengths, ones, "valid")).max()))
    return best + SLACK_SCORE


def _strong(ranked: Sequence[Span]) -> list[Span]:
    """The best span, and those that are more like it than like the rest of the video."""
    if not ranked:
        return []
    halfway = ranked[0].similarity - ranked[0].contrast / 2
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
