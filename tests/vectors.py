"""Made-up vectors and media for tests of the store and of retrieval."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipsearch.store.manifest import Manifest
from clipsearch.store.recipes import AUTO
from clipsearch.types import EmbeddingBatch, EncodedMedia, FoundFile, MediaInfo, Unit, Vectors

ROOT = Path("/media")
DIM = 32


def unit_rows(count: int, seed: int, dim: int = DIM) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def manifest(recipe: str = AUTO, dim: int = DIM) -> Manifest:
    return Manifest("fake", "fingerprint", dim, recipe, {})


def image(name: str, vector: Vectors) -> EncodedMedia:
    batch = EmbeddingBatch(vector.reshape(1, -1), (Unit("image"),))
    file = FoundFile(ROOT, name, "image", 10, 20)
    return EncodedMedia(file, f"hash of {name}", MediaInfo(640, 480), {"visual": batch})


def video(name: str, frames: Vectors, *, seconds_per_frame: float = 1.0) -> EncodedMedia:
    """A video of one window whose vector is the first frame's."""
    units = [
        Unit("frame", i * seconds_per_frame, (i + 1) * seconds_per_frame, i)
        for i in range(len(frames))
    ]
    duration = len(frames) * seconds_per_frame
    batch = EmbeddingBatch(np.vstack([frames, frames[:1]]), (*units, Unit("video", 0.0, duration)))
    file = FoundFile(ROOT, name, "video", 10, 20)
    return EncodedMedia(file, f"hash of {name}", MediaInfo(640, 480, duration), {"visual": batch})


def many(count: int, seed: int) -> list[EncodedMedia]:
    """An image and a video of eight frames, `count` times."""
    vectors = unit_rows(9 * count, seed)
    made: list[EncodedMedia] = []
    for i in range(count):
        rows = vectors[9 * i : 9 * i + 9]
        made += [image(f"{seed}/{i}.jpg", rows[0]), video(f"{seed}/{i}.mp4", rows[1:])]
    return made
