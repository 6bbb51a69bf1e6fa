"""Heads on arrays: frames of many videos in, one vector or score a video out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipsearch.errors import UsageError
from clipsearch.heads.modules import Head, TightHead
from clipsearch.heads.sampling import sampled
from clipsearch.types import Vectors

FRAMES_AT_ONCE = 4096  # padding included: 8 MB an activation at a width of 512


def pool(head: Head, videos: Sequence[Vectors]) -> Vectors:
    """(len(videos), dim) float32 unit rows, one for each video's raw frames (n, dim), in order.

    `videos` may be of different lengths; what exceeds `head.max_frames` is sampled. A video has
    the same row, to rounding, whatever comes with it. Computed where the head is. Raises
    UsageError for a head that has no vector for a video alone, and for a video that is empty, of
    another width or not finite.
    """
    if isinstance(head, TightHead):
        raise UsageError(
            "a tight head has no vectors of videos: it scores pairs, use score_videos to rank again"
        )
    rows = np.zeros((len(videos), head.dim), dtype=np.float32)
    with torch.inference_mode():
        for places, frames, mask in _batches(head, videos):
            rows[places] = head.encode(frames, mask).cpu().numpy()
    return rows


def score_videos(
    head: Head, text: NDArray[np.float32], videos: Sequence[Vectors]
) -> NDArray[np.float32]:
    """(len(videos),) scores of one text (dim,) with each video's frames (n, dim), all of them raw.

    Not scaled: cosines, but of a tight head any number. Otherwise as `pool`.
    """
    scores = np.zeros(len(videos), dtype=np.float32)
    asked = torch.from_numpy(np.array(text, dtype=np.float32)).reshape(1, -1).to(_device(head))
    with torch.inference_mode():
        for places, frames, mask in _batches(head, videos):
            scores[places] = head.score(asked, frames, mask)[0].cpu().numpy()
    return scores


def _batches(head: Head, videos: Sequence[Vectors]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Places in `videos`, frames (n, longest, dim) and mask; videos of like length together."""
    chosen = [_sampled_frames(head, i, video) for i, video in enumerate(videos)]
    by_length = sorted(range(len(chosen)), key=lambda i: len(chosen[i]))
    batch: list[int] = []
    for i in by_length:
        if batch and (len(batch) + 1) * len(chosen[i]) > FRAMES_AT_ONCE:
            yield batch, *_padded(head, [chosen[j] for j in batch])
            batch = []
        batch.append(i)
    if batch:
        yield batch, *_padded(head, [chosen[j] for j in batch])


def _sampled_frames(head: Head, place: int, video: Vectors) -> Vectors:
    frames = np.asarray(video)
    if frames.ndim != 2 or frames.shape[1] != head.dim or not len(frames):
        raise UsageError(
            f"video {place} has frames of shape {frames.shape}: this {head.name} head takes"
            f" (n, {head.dim}) with n of at least 1"
        )
    if head.max_frames is not None:
        frames = frames[sampled(len(frames), head.max_frames)]
    frames = frames.astype(np.float32, copy=False)
    if not np.isfinite(frames).all():
        raise UsageError(f"video {place} has frames that are NaN or infinite")
    return frames


def _padded(head: Head, videos: list[Vectors]) -> tuple[Tensor, Tensor]:
    frames = np.zeros((len(videos), max(len(v) for v in videos), head.dim), dtype=np.float32)
    mask = np.zeros(frames.shape[:2], dtype=bool)
    for i, video in enumerate(videos):
        frames[i, : len(video)] = video
        mask[i, : len(video)] = True
    device = _device(head)
    return torch.from_numpy(frames).to(device), torch.from_numpy(mask).to(device)


def _device(head: Head) -> torch.device:
    """Where the head's weights are; the CPU for a head without any."""
    return next((weights.device for weights in head.parameters()), torch.device("cpu"))
