"""What queries are made of, as vectors: encoded, read from files, or taken from the index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.prompts import ensemble, templates
from clipsearch.encoders.values import unit_rows
from clipsearch.errors import UsageError
from clipsearch.media import SamplingSpec
from clipsearch.search.grammar import Term
from clipsearch.search.indexed import Indexed
from clipsearch.search.query import Ears, Query, encode_words
from clipsearch.search.reading import frame_row, picture_row, sound_row, video_row
from clipsearch.store.store import Store
from clipsearch.types import SOURCES, Source, StoredMedia, Vectors

CANCELLED = 1e-3  # of the sum of weights: what is left then is the rounding of 16-bit vectors

# The space of the index's encoder, and that of another one for sound, which not every index has.
Space = Literal["seen", "heard"]
BOTH: frozenset[Space] = frozenset({"seen", "heard"})


@dataclass(frozen=True, slots=True)
class QuerySpace:
    """Where queries are encoded: one index, and what it sees and hears with.

    find: what the index has of the present content of the file at a path, if anything, as
        `clipsearch.ingest.changes.find_media`. named: ids of the files that it has under a path,
        whatever is there now. sampling: how the index samples videos; None: it has none yet.
    """

    store: Store
    encoder: Callable[[], Encoder]
    ears: Callable[[], Ears | None]
    find: Callable[[Path], StoredMedia | None]
    named: Callable[[Path], Iterable[int]]
    sampling: Callable[[], SamplingSpec | None]
    on_notice: Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class QueryVectors:
    """One query, encoded.

    rows: (1, dim) unit rows by the source that is asked, in the order of SOURCES; those whose space
        can hold all of the query. media, units: ids of its own files, also of copies of them, and
        of its own stored vectors: what is not to be found.
    """

    rows: Mapping[Source, Vectors]
    media: frozenset[int] = frozenset()
    units: frozenset[int] = frozenset()


def query_vectors(
    queries: Sequence[Query],
    space: QuerySpace,
    *,
    sources: Sequence[Source],
    prompts: str = "none",
) -> list[QueryVectors]:
    """Each query as vectors for those of `sources` whose space can hold all of it.

    The words of all queries are encoded in one batch for each space. A query's vector is the sum of
    its terms' unit rows times their weights, scaled to unit length. A file that is indexed, and has
    not changed since, takes its stored vectors: a frame the one nearest to its time, a video the
    mean of its frames, a sound that of its windows. prompts: templates that words are put into, for
    what is seen (clipsearch.encoders.prompts).

    Raises UsageError where no space can hold a query, or its terms cancel each other, EncoderError
    and MediaError.
    """
    work = _Work(space, templates(prompts))
    asked = [work.askable(query, sources) for query in queries]
    work.encode_words(queries, asked)
    return [
        QueryVectors({source: work.sum(query, source) for source in own}, *work.own(query, own))
        for query, own in zip(queries, asked, strict=True)
    ]


class _Work:
    """One round of queries: what is in several of them is looked up and encoded once."""

    def __init__(self, space: QuerySpace, sentences: tuple[str, ...]) -> None:
        self._space = space
        self._sentences = sentences  # templates
        self._indexed = Indexed(space.store, space.find, space.named)
        self._words: dict[tuple[str, str], Vectors] = {}  # by variant and text
        self._files: dict[tuple[str, str, float | None], Vectors] = {}
        hears, sees = space.store.manifest.audio, space.store.manifest.encoder
        self._hears = hears is not None
        self._shared = hears is None or hears.encoder == sees

    def askable(self, query: Query, sources: Sequence[Source]) -> list[Source]:
        """Those of `sources` whose space can hold all terms of a query, one at least."""
        spaces = BOTH
        for term in query.terms:
            spaces &= self._spaces(term)
        asked = [source for source in SOURCES if source in sources]
        found = [source for source in asked if self._space_of(source) in spaces]
        if not found:
            raise UsageError(_why_not(query, spaces))
        return found

    def encode_words(self, queries: Sequence[Query], asked: Sequence[Sequence[Source]]) -> None:
        """Encode the words of all queries for the sources that each of them asks."""
        texts: dict[str, dict[str, None]] = {}
        for query, sources in zip(queries, asked, strict=True):
            words = [term.content for term in query.terms if term.kind == "words"]
            for source in sources:
                texts.setdefault(self._variant(source), {}).update(dict.fromkeys(words))
        for variant, distinct in texts.items():
            if distinct:
                rows = self._encoded(variant, list(distinct))
                for text, row in zip(distinct, rows, strict=True):
                    self._words[variant, text] = row[None]

    def sum(self, query: Query, source: Source) -> Vectors:
        """(1, dim) unit row of a query, as `source` is asked. Raises UsageError if it has none."""
        rows = [self._row(term, source) for term in query.terms]
        weights = np.array([term.weight for term in query.terms])
        if len(rows) == 1 and weights[0] > 0:
            return rows[0]
        weights /= np.abs(weights).sum()  # weights near the largest numbers must not overflow
        total = weights @ np.concatenate(rows).astype(np.float64)
        if np.linalg.norm(total) < CANCELLED:
            raise UsageError(f"the terms cancel each other, so nothing is left to find: {query}")
        return unit_rows(total[None])

    def own(self, query: Query, sources: Sequence[Source]) -> tuple[frozenset[int], frozenset[int]]:
        """Ids of the files, and of single vectors that are of no file, that a query names: where
        subtitles are asked, with those of its films.
        """
        media: set[int] = set()
        units: set[int] = set()
        for term in query.terms:
            if term.is_file:
                media |= self._indexed.named(term)
            elif term.kind == "unit":
                owner = self._indexed.unit(term).media_id
                if owner is None:
                    units.add(int(term.content))
                else:
                    media |= self._indexed.copies_of(owner)
        if "text" in sources:
            media |= self._indexed.subtitles_of(media)
        return frozenset(media), frozenset(units)

    def _space_of(self, source: Source) -> Space:
        return "heard" if source == "audio" and not self._shared else "seen"

    def _variant(self, source: Source) -> str:
        """Sources for which words have the same vectors have the same variant."""
        return (
            "visual" if source == "visual" and len(self._sentences) > 1 else self._space_of(source)
        )

    def _spaces(self, term: Term) -> frozenset[Space]:
        if term.kind == "words":
            return BOTH
        if term.kind == "unit":
            return frozenset({self._space_of(self._indexed.unit(term).source)})
        if term.kind != "sound":
            return frozenset({"seen"})
        if not self._hears:
            raise UsageError("this index has no sound to compare with: index with --audio")
        return frozenset({self._space_of("audio")})

    def _encoded(self, variant: str, texts: list[str]) -> Vectors:
        if variant == "visual":
            return ensemble(self._space.encoder(), texts, self._sentences)
        encoder = self._ears().encoder if variant == "heard" else self._space.encoder()
        return encode_words(encoder, texts, on_notice=self._space.on_notice)

    def _ears(self) -> Ears:
        ears = self._space.ears()
        if ears is None:
            raise UsageError("this index has no sound to compare with: index with --audio")
        return ears

    def _row(self, term: Term, source: Source) -> Vectors:
        if term.kind == "words":
            return self._words[self._variant(source), term.content]
        if term.kind == "unit":
            return self._indexed.unit(term).row
        key = term.kind, term.content, term.seconds
        if key not in self._files:
            stored = self._indexed.row(term)
            self._files[key] = self._read(term) if stored is None else stored
        return self._files[key]

    def _read(self, term: Term) -> Vectors:
        """A term's file, encoded on the spot."""
        path = Path(term.content)
        if term.kind == "sound":
            ears = self._ears()
            return sound_row(path, ears.spec, ears.encoder, seconds=term.seconds)
        if term.seconds is not None:
            return frame_row(path, term.seconds, self._space.encoder())
        if term.kind == "video":
            sampling = self._space.sampling() or SamplingSpec()
            return video_row(path, sampling, self._space.encoder())
        return picture_row(path, self._space.encoder())


def _why_not(query: Query, spaces: frozenset[Space]) -> str:
    if "heard" in spaces:
        return (
            "sounds are heard in a space of their own here: they find sounds (--kind audio), not "
            "pictures or subtitles"
        )
    if not spaces:
        return (
            f"sounds are heard in a space of their own here: {query} says things of both spaces, "
            "which nothing can be compared with"
        )
    return (
        "sounds are heard in a space of their own here: what is seen finds pictures and subtitles, "
        "not sounds"
    )
