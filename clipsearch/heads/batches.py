"""What a head is trained on, checked, and the batches that an epoch takes from it. Numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.heads.sampling import sampled

Positions = NDArray[np.int64]

ORDER, DRAW, SPLIT = 1, 2, 3  # what a random stream is for: those of one seed differ


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Videos as encoder features and the texts that describe them, checked on creation.

    Raw: as the encoder gives them, not normalised. Rows of `frames` where `mask` is False may hold
    anything. A pair is (row of `texts`, row of `frames`); every pair left out is a wrong match, so
    all true ones must be there. Text rows with equal vectors count as one text, true for the
    videos of each. Raises UsageError for wrong shapes or types, a video without a real frame or
    without a caption, padding before a frame, values that are not finite, and pairs out of range.
    """

    frames: NDArray[Any]  # (n, F, D) float16 or float32
    mask: NDArray[np.bool_]  # (n, F), True for a real frame
    texts: NDArray[np.float32]  # (c, D)
    pairs: Positions  # (p, 2)

    def __post_init__(self) -> None:
        _check_frames(self.frames, self.mask)
        _check_texts(self.texts, self.frames.shape[2])
        _check_pairs(self.pairs, len(self.texts), len(self.frames))

    @property
    def longest(self) -> int:
        """The most real frames that a video has."""
        return int(self.mask.sum(axis=1).max())

    def narrowed(self, most: int) -> TrainingSet:
        """The same with at most `most` frames of each video, evenly over it, and no more padding
        than that leaves.
        """
        width = min(most, self.longest)
        if width == self.frames.shape[1]:
            return self
        frames = np.zeros((len(self.frames), width, self.frames.shape[2]), self.frames.dtype)
        mask = np.zeros(frames.shape[:2], np.bool_)
        for at, count in enumerate(self.mask.sum(axis=1).tolist()):
            chosen = sampled(count, width)
            frames[at, : len(chosen)], mask[at, : len(chosen)] = self.frames[at, chosen], True
        return TrainingSet(frames, mask, self.texts, self.pairs)

    def digest(self) -> str:
        """SHA-256 of types, shapes and contents, in hex."""
        found = sha256()
        for array in (self.frames, self.mask, self.texts, self.pairs):
            found.update(f"{array.dtype.str} {array.shape} ".encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of a TrainingSet to score against each other."""

    videos: Positions  # (v,)
    texts: Positions  # (t,), no two with equal vectors
    positives: NDArray[np.bool_]  # (t, v), every true pair among them

    @property
    def has_negatives(self) -> bool:
        """Whether some text of the batch does not fit some video of it."""
        return not self.positives.all()


class Captions:
    """The texts of each video of a set, equal texts merged, to draw batches from."""

    def __init__(self, data: TrainingSet) -> None:
        texts = _first_equal(data.texts)[data.pairs[:, 0]]
        pairs = np.unique(np.column_stack([data.pairs[:, 1], texts]), axis=0)  # by video, then text
        self._videos = len(data.frames)
        self._starts = np.searchsorted(pairs[:, 0], np.arange(self._videos + 1))
        self._texts: Positions = pairs[:, 1]
        self.distinct: Positions = np.unique(self._texts)  # rows of the merged texts with a video
        if len(pairs) == len(self.distinct) * self._videos:
            raise UsageError(
                f"every one of the {len(self.distinct)} texts fits every one of the "
                f"{self._videos} videos: there is nothing to tell apart, give captions that differ"
            )

    def of(self, video: int) -> Positions:
        """The texts of one video, ascending."""
        return self._texts[self._starts[video] : self._starts[video + 1]]

    def videos_of(self) -> list[Positions]:
        """For each text of `distinct` the videos that it fits."""
        videos = np.repeat(np.arange(self._videos), np.diff(self._starts))
        order = np.argsort(self._texts, kind="stable")
        return np.split(videos[order], np.searchsorted(self._texts[order], self.distinct)[1:])

    def batches(self, size: int, most: int, key: tuple[int, int]) -> Iterator[Batch]:
        """Every video once, `size` at a time, each with up to `most` of its texts.

        Order and texts depend on `key`, (seed, epoch), alone. Videos left over make a last
        smaller batch; one alone goes into the batch before.
        """
        seed, epoch = key
        order = np.random.default_rng([ORDER, epoch, seed]).permutation(self._videos)
        draw = np.random.default_rng([DRAW, epoch, seed])
        for start, end in batch_bounds(self._videos, size):
            videos = order[start:end]
            texts = np.unique(np.concatenate([_drawn(self.of(v), most, draw) for v in videos]))
            yield Batch(videos, texts, self._positives(texts, videos))

    def _positives(self, texts: Positions, videos: Positions) -> NDArray[np.bool_]:
        positives = np.zeros((len(texts), len(videos)), bool)
        for column, video in enumerate(videos):
            positives[:, column] = np.isin(texts, self.of(video), assume_unique=True)
        return positives


def batch_bounds(count: int, size: int) -> list[tuple[int, int]]:
    """[start, end) of each batch of `count` videos."""
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def split(data: TrainingSet, fraction: float, seed: int) -> tuple[TrainingSet, TrainingSet]:
    """(training set, validation set), with `fraction` of the videos in the second.

    Which ones depends on the seed and the number of videos alone; each part keeps the order. A
    text that describes videos of both is in both. Raises UsageError where a part would have fewer
    than two videos.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"fraction {fraction}: use a share of the videos between 0 and 1")
    count = len(data.frames)
    held = round(count * fraction)
    if held < 2 or count - held < 2:
        raise UsageError(
            f"{fraction} of {count} videos for validation is {held}: training and validation need "
            "at least two each; use another fraction, or none (0), or more videos"
        )
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng([SPLIT, 0, seed]).permutation(count)[:held]] = True
    return _part(data, ~chosen), _part(data, chosen)


def _part(data: TrainingSet, chosen: NDArray[np.bool_]) -> TrainingSet:
    pairs = data.pairs[chosen[data.pairs[:, 1]]]
    texts, text_rows = np.unique(pairs[:, 0], return_inverse=True)
    video_rows = (np.cumsum(chosen) - 1)[pairs[:, 1]]
    return TrainingSet(
        data.frames[chosen],
        data.mask[chosen],
        data.texts[texts],
        np.column_stack([text_rows, video_rows]).astype(np.int64),
    )


def _drawn(texts: Positions, most: int, draw: np.random.Generator) -> Positions:
    return texts if len(texts) <= most else draw.choice(texts, most, replace=False)


def _first_equal(texts: NDArray[np.float32]) -> Positions:
    """For each row the first row with the same vector, (c,)."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), at) for at, row in enumerate(texts)], np.int64)


def _check_frames(frames: NDArray[Any], mask: NDArray[np.bool_]) -> None:
    if frames.ndim != 3 or 0 in frames.shape or frames.dtype not in (np.float16, np.float32):
        raise UsageError(
            f"frames of shape {frames.shape} and type {frames.dtype}: need (n, F, D) "
            "float16 or float32"
        )
    if mask.shape != frames.shape[:2] or mask.dtype != np.bool_:
        raise UsageError(
            f"mask of shape {mask.shape} and type {mask.dtype}: need {frames.shape[:2]} bool"
        )
    empty = np.flatnonzero(~mask.any(axis=1))
    if empty.size:
        raise UsageError(f"video {empty[0]} has no real frame ({empty.size} such): leave it out")
    torn = np.flatnonzero((mask[:, 1:] & ~mask[:, :-1]).any(axis=1))
    if torn.size:
        raise UsageError(f"video {torn[0]} has padding before a frame: put it after the last one")
    for video, rows in enumerate(frames):
        if not np.isfinite(rows[mask[video]]).all():
            raise UsageError(f"video {video} has a frame that is not finite: leave it out")


def _check_texts(texts: NDArray[np.float32], dim: int) -> None:
    if texts.ndim != 2 or texts.shape[1] != dim or texts.dtype != np.float32:
        raise UsageError(
            f"texts of shape {texts.shape} and type {texts.dtype}: need (c, {dim}) float32, "
            "as wide as the frames"
        )
    bad = np.flatnonzero(~np.isfinite(texts).all(axis=1) | ~texts.any(axis=1))
    if bad.size:
        raise UsageError(f"text {bad[0]} is not finite or all zeros ({bad.size} such)")


def _check_pairs(pairs: Positions, texts: int, videos: int) -> None:
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype != np.int64:
        raise UsageError(
            f"pairs of shape {pairs.shape} and type {pairs.dtype}: need (p, 2) int64, "
            "text and video"
        )
    wrong = np.flatnonzero(((pairs < 0) | (pairs >= [texts, videos])).any(axis=1))
    if wrong.size:
        raise UsageError(
            f"pair {wrong[0]} is {tuple(pairs[wrong[0]].tolist())}: there are {texts} texts and "
            f"{videos} videos, counted from 0"
        )
    bare = np.flatnonzero(np.bincount(pairs[:, 1], minlength=videos) == 0)
    if bare.size:
        raise UsageError(f"video {bare[0]} has no caption ({bare.size} such): leave it out")
