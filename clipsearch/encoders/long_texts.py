"""Texts of any length: what an encoder would cut off is encoded in pieces and averaged."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.values import unit_rows
from clipsearch.types import Vectors

PIECES_AT_ONCE = 1024  # bounds the memory that a book takes
_BEGINNING = 1 << 14  # characters: more than any window holds of ordinary text
_CANCELLED = 1e-6  # norm of a mean that is rounding error of float32 rows
_WIDE_ENDS = "。！？｡"  # noqa: RUF001  # end a sentence without a space after them
_ENDS = ".!?…؟।॥" + _WIDE_ENDS
_CLOSERS = "\"'”’»)]」』）】"  # noqa: RUF001
_SPACES = " \t\n\r\x0b\x0c\x85\xa0\u2028\u2029\u3000"
_SENTENCE_END = re.compile(
    rf"(?P<ends>[{_ENDS}]++)[{re.escape(_CLOSERS)}]*+(?P<gap>\s|\Z)?|[\n\r\x85\u2028\u2029]++"
)
_WORD_END = re.compile(r"\S++\s*+")

Fits = Callable[[str], bool]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTexts:
    """The vectors of texts, and in how many pieces each text was encoded."""

    vectors: Vectors  # (n, dim) float32, unit rows unless `normalize` was False
    pieces: tuple[int, ...]  # of each text; 1: as it is

    @property
    def split(self) -> tuple[int, ...]:
        """Positions of the texts that were longer than the encoder's window."""
        return tuple(i for i, count in enumerate(self.pieces) if count > 1)


def encode_texts(encoder: Encoder, texts: Sequence[str], *, normalize: bool = True) -> EncodedTexts:
    """One vector a text, in order, however long the texts are.

    What fits is encoded as it is, in one batch. What does not is cut into sentences, where these
    do not fit at words, and where a word does not within it; its vector is the unit mean of the
    vectors of the pieces. Without `normalize` what fits is what the encoder gives, and a mean of
    pieces has their mean length. Raises EncoderError if text is not supported.
    """
    rows = np.zeros((len(texts), encoder.dim), dtype=np.float32)
    pieces = [1] * len(texts)
    whole = [i for i, text in enumerate(texts) if _fits(encoder, text)]
    short = [texts[i] for i in whole]
    rows[whole] = encoder.encode_text(short) if normalize else _raw(encoder, short)
    for i in sorted(set(range(len(texts))).difference(whole)):
        rows[i], pieces[i] = _mean_of_pieces(encoder, texts[i], normalize=normalize)
    return EncodedTexts(rows, tuple(pieces))


def _mean_of_pieces(encoder: Encoder, text: str, *, normalize: bool) -> tuple[Vectors, int]:
    """The (dim,) row of a text that does not fit, and its number of pieces."""
    pieces = _pieces(text, encoder)
    units, lengths = _units(encoder, [next(pieces, text)], normalize=normalize)
    first, total, count = units[0], units[0].astype(np.float64), 1
    while batch := list(islice(pieces, PIECES_AT_ONCE)):
        units, more = _units(encoder, batch, normalize=normalize)
        total += units.sum(axis=0, dtype=np.float64)
        lengths += more
        count += len(batch)
    if count == 1 or np.linalg.norm(total) < _CANCELLED * count:
        row = first  # opposite pieces have no mean direction
    else:
        row = unit_rows(total[None])[0]
    return (row if normalize else row * np.float32(lengths / count)), count


def _units(encoder: Encoder, texts: list[str], *, normalize: bool) -> tuple[Vectors, float]:
    """Unit rows, and the sum of the lengths that they had; each counts 1 with `normalize`."""
    if normalize:
        return encoder.encode_text(texts), float(len(texts))
    raw = _raw(encoder, texts)
    return unit_rows(raw), float(np.linalg.norm(raw, axis=1).sum())


def _raw(encoder: Encoder, texts: list[str]) -> Vectors:
    return encoder.encode_text(texts, normalize=False)


def _pieces(text: str, encoder: Encoder) -> Iterator[str]:
    for sentence in sentences(text):
        if _fits(encoder, sentence):
            yield sentence
            continue
        ends = [match.end() for match in _WORD_END.finditer(sentence)]
        for words in _longest(sentence, ends, encoder.fits):
            if encoder.fits(words):
                yield words
            else:
                yield from _longest(words, range(1, len(words) + 1), encoder.fits)


def sentences(text: str) -> Iterator[str]:
    """The sentences and lines of `text`, in order: all of it but the spaces between them.

    Punctuation that stands alone goes with the words that follow it; at the end it is left out.
    """
    start, seen, has_words = 0, 0, False
    for match in _SENTENCE_END.finditer(text):
        has_words = has_words or not _is_punctuation(text[seen : match.start()])
        seen = match.end()
        ends = match["ends"]
        is_end = ends is None or match["gap"] is not None or ends[-1] in _WIDE_ENDS
        if is_end and has_words:
            yield text[start:seen].strip()
            start, has_words = seen, False
    if start == 0 or not _is_punctuation(text[start:]):
        yield text[start:].strip()


def _is_punctuation(text: str) -> bool:
    return not text.strip(_ENDS + _CLOSERS + _SPACES)


def _longest(text: str, stops: Sequence[int], fits: Fits) -> Iterator[str]:
    """`text` in the longest pieces that fit, cut only at `stops`; the last of these is its end.

    Where not even one step fits it comes alone. Tries each character a few times, not once for
    every piece that is left.
    """
    start, step = 0, 0
    while step < len(stops):
        begin, first, width = start, step, 1
        while first + width < len(stops) and fits(text[begin : stops[first + width]].rstrip()):
            width *= 2
        within = range(first, min(first + width, len(stops)))
        too_long = bisect_left(
            within, True, key=lambda stop: not fits(text[begin : stops[stop]].rstrip())
        )
        step = first + max(too_long, 1)
        start = stops[step - 1]
        yield text[begin:start].strip()


def _fits(encoder: Encoder, text: str) -> bool:
    """As `encoder.fits`; a beginning that is too long settles it without reading all of a book."""
    size = _BEGINNING
    while size < len(text):
        beginning = text[: text.rfind(" ", 0, size) + 1]
        if not encoder.fits(beginning):
            return False
        size *= 4
    return encoder.fits(text)
