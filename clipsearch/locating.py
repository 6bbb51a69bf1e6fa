"""Where in a picture it is what words say: a map over its places, and the best box in it.

A place is compared with the words, and with fifty everyday things that might be there instead. Its
relevance is the chance of the words among all these, by the softmax of the encoder's cosines at its
logit scale, as in zero-shot classification: between 0 and 1, and low everywhere for what is not in
the picture. Things that are much the same as the words do not compete with them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, UsageError
from clipsearch.media.pictures import hit_picture, moment_of
from clipsearch.search.everyday import THINGS
from clipsearch.types import Hit, Pixels, Vectors

Relevance = NDArray[np.float32]  # (rows, columns), 0..1
Box = tuple[float, float, float, float]  # left, top, right, bottom: fractions of the picture

PICTURE_HEIGHTS = 3  # of the encoder's short side: also portraits keep more than encoders look at
SAME_COSINE = 0.5  # between the words and a thing, less what all things have in common
CERTAIN = 1e-6  # chances nearer to 0 or 1 than this count as this


class Locator:
    """Maps of the pictures of hits, by one encoder, which loads when it is first needed."""

    def __init__(self, encoder: Callable[[], Encoder]) -> None:
        self._encoder = encoder

    @cached_property
    def _things(self) -> Vectors:
        return self._encoder().encode_text([thing.strip() for thing in THINGS.split(",")])

    def picture(self, hit: Hit) -> Pixels:
        """(h, w, 3) uint8, upright and whole: the picture, or the frame at the hit's moment, or in
        the middle of a hit that has none.

        Raises UsageError for a hit that is not seen, MediaError for a file that cannot be read.
        """
        if hit.source != "visual":
            raise UsageError(f"a hit of kind {hit.kind} has no picture: use one that is seen")
        height = PICTURE_HEIGHTS * self._encoder().short_side
        return hit_picture(hit.path, moment_of(hit), height=height)

    def locate(self, hit: Hit, text: str) -> Relevance:
        """The map of the picture of a hit, see `Index.locate`."""
        return self.relevance(self.picture(hit), text)

    def relevance(self, pixels: Pixels, text: str) -> Relevance:
        """The map of a picture (h, w, 3).

        Raises UsageError for no words, EncoderError for an encoder without features of places.
        """
        encoder = self._encoder()
        if not text.strip():
            raise UsageError("nothing to look for in the picture: give words")
        if not encoder.supports_text:
            raise EncoderError(f"the model {encoder.spec} takes no text: use one that does")
        return self.relevance_of(encoder.encode_patches(pixels), text)

    def relevance_of(self, places: NDArray[np.float32], text: str) -> Relevance:
        """The map of the features of a picture's places (rows, columns, dim)."""
        encoder = self._encoder()
        [words] = encoder.encode_text([text])
        cosines = places @ np.vstack([words, self._others(words)]).T
        odds = np.exp(encoder.logit_scale * (cosines - cosines.max(axis=2, keepdims=True)))
        chances: Relevance = (odds[:, :, 0] / odds.sum(axis=2)).astype(np.float32)
        return chances

    def _others(self, words: Vectors) -> Vectors:
        """The rows of the things that are not what `words` (dim,) say."""
        common = self._things.mean(axis=0)
        things, own = self._things - common, words - common
        lengths = np.linalg.norm(things, axis=1) * np.linalg.norm(own)
        same = things @ own > SAME_COSINE * lengths
        others: Vectors = self._things[~same]
        return others


def best_box(relevance: Relevance) -> Box:
    """The rectangle of whole places that is most relevant, as fractions of the picture.

    It has the greatest sum of the log-odds of its places, less their mean over the picture: no
    other rectangle has a greater one (Kadane's sums over columns, for all pairs of rows). A flat
    map gives the whole picture. relevance: (rows, columns), 0..1. Raises UsageError for another.
    """
    if relevance.ndim != 2 or not relevance.size or not np.isfinite(relevance).all():
        raise UsageError(f"a map of shape {relevance.shape}: need finite numbers (rows, columns)")
    chances = np.clip(relevance.astype(np.float64), CERTAIN, 1 - CERTAIN)
    logits = np.log(chances / (1 - chances))
    gain = logits - logits.mean()
    rows, columns = gain.shape
    if np.ptp(gain) < CERTAIN:
        return 0.0, 0.0, 1.0, 1.0
    if rows > columns:  # pairs are of the shorter side
        (left, right), (top, bottom) = _best_rectangle(gain.T)
    else:
        (top, bottom), (left, right) = _best_rectangle(gain)
    return left / columns, top / rows, right / columns, bottom / rows


def _best_rectangle(gain: NDArray[np.float64]) -> tuple[tuple[int, int], tuple[int, int]]:
    """[first, last) rows and columns of the rectangle of `gain` with the greatest sum."""
    rows, columns = gain.shape
    above = np.zeros((rows + 1, columns + 1))
    above[1:, 1:] = gain.cumsum(axis=0).cumsum(axis=1)
    best, found = -np.inf, ((0, rows), (0, columns))
    for first in range(rows):
        sums = above[first + 1 :] - above[first]  # of the rows from `first` on, up to each column
        before = np.minimum.accumulate(sums[:, :-1], axis=1)
        totals = sums[:, 1:] - before
        at, last = divmod(int(totals.argmax()), columns)
        if totals[at, last] > best:
            best = float(totals[at, last])
            start = int(sums[at, : last + 1].argmin())
            found = ((first, first + 1 + at), (start, last + 1))
    return found
