"""Writes `indexes/golden-vN`, the tiny index that every later version must still read.

Run once per format version, with the version that introduces it: python -m tests.goldens.make_index
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipsearch.store.manifest import FORMAT_VERSION, AudioSettings, Manifest
from clipsearch.store.pooling import SETTING, PoolingFacts, dump_facts
from clipsearch.store.recipes import AUTO
from clipsearch.store.store import Store
from clipsearch.store.tags import Tag
from clipsearch.types import EmbeddingBatch, EncodedMedia, FoundFile, MediaInfo, Unit, Vectors
from clipsearch.version import VERSION

GOLDEN = Path(__file__).parents[2] / "indexes" / f"golden-v{FORMAT_VERSION}"
DIM = 8
AUDIO_DIM = 12
ROOT = Path("/media")
TAGS: dict[int, list[Tag]] = {1: [("dog", None)], 2: [("big “Wuff”", 0.5), ("dog", 0.75)]}
POOLING = PoolingFacts("seqtransf", "seqtransf@0123456789ab", "/media/head.pt", "../head.pt", 12)


def rows(count: int, start: int, dim: int = DIM) -> Vectors:
    """Unit rows whose values fp16 holds: two axes of 0.6 and 0.8."""
    made = np.zeros((count, dim), np.float32)
    for row in range(count):
        made[row, (start + row) % dim] = 0.6
        made[row, (start + row + 1) % dim] = 0.8
    return made


def media() -> list[EncodedMedia]:
    photo = EncodedMedia(
        FoundFile(ROOT, "photo.jpg", "image", 100, 1_700_000_000_000_000_000),
        "sha256:1",
        MediaInfo(640, 480),
        {"visual": EmbeddingBatch(rows(1, 0), (Unit("image"),))},
    )
    frames = tuple(Unit("frame", float(i), float(i + 1), 25 * i) for i in range(3))
    film = EncodedMedia(
        FoundFile(ROOT, "sub/film.mp4", "video", 200, 1_700_000_000_000_000_001),
        "sha256:2",
        MediaInfo(1920, 1080, 3.0),
        {
            "visual": EmbeddingBatch(
                np.vstack([rows(4, 1), rows(1, 6)]),
                (*frames, Unit("video", 0.0, 3.0), Unit("pooled", 0.0, 3.0)),
                np.array([2, 3, 4, np.nan, np.nan], np.float32),
            ),
            "audio": EmbeddingBatch(
                rows(1, 2, AUDIO_DIM), (Unit("audio", 0.0, 3.0, padding_seconds=7.0),)
            ),
            "text": EmbeddingBatch(rows(1, 3), (Unit("text", 1.0, 2.5, text="“Wuff!” sagt er"),)),
        },
    )
    gone = EncodedMedia(
        FoundFile(ROOT, "gone.jpg", "image", 300, 1_700_000_000_000_000_002),
        "sha256:3",
        MediaInfo(10, 10),
        {"visual": EmbeddingBatch(rows(1, 5), (Unit("image"),))},
    )
    return [photo, film, gone]


def main() -> None:
    sampling = {
        "method": "fps",
        "fps": 1.0,
        "count": None,
        "keep_all_frames": False,
        "window_seconds": 30.0,
    }
    audio = AudioSettings(f"fake:{AUDIO_DIM}", "golden sound", AUDIO_DIM, 10.0, 5.0)
    manifest = Manifest(
        f"fake:{DIM}", "golden", DIM, AUTO, sampling, None, VERSION, audio=audio, texts=True
    )
    store = Store.create(GOLDEN, manifest)
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        writer.publish(media())
        writer.put_failure(FoundFile(ROOT, "bad.jpg", "image", 5, 6), "sha256:4", "damaged")
        writer.catalog.remove_media([3])
        writer.catalog.set_setting(SETTING, dump_facts(POOLING))
        writer.catalog.set_tags(TAGS, replace=True)
    store.close()
    for name in ("lock", "lock.json"):
        (GOLDEN / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
