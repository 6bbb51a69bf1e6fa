"""The frames of one video as vectors, without an index."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from clipsearch.encoders.base import Encoder, Prepared
from clipsearch.errors import MediaError, UsageError
from clipsearch.ingest.encoding import Encoding
from clipsearch.ingest.pooling import with_norms
from clipsearch.ingest.readahead import read_ahead
from clipsearch.ingest.run import Progress
from clipsearch.media import ReadSpec, kind_of, open_media
from clipsearch.types import Unit, Vectors, VideoFrames

MOST_FRAMES = 64  # in a batch: decoding one video is slower than any GPU

Chunk = list[tuple[Unit, Prepared]]


def check_video(path: Path) -> None:
    """Raise UsageError for a path that is not that of a video."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name one video")
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    if kind_of(path.name) != "video":
        raise UsageError(f"{path}: its name is not that of a video, and spans are parts of videos")


def read_frames(
    path: Path, encoder: Encoder, spec: ReadSpec, *, on_progress: Callable[[Progress], None]
) -> VideoFrames:
    """Decode and encode the frames that sampling chooses; decoding runs beside in a thread.

    Raises UsageError for what is no video, MediaError for one that cannot be read.
    """
    check_video(path)
    stop, feeding = threading.Event(), encoder.feeding
    size = min(feeding.batch, MOST_FRAMES)

    def prepared(file: Path) -> Iterator[Chunk]:
        chunk: Chunk = []
        for unit, pixels in open_media(file, spec, stop=stop.is_set).units:
            chunk.append((unit, encoder.prepare(pixels)))
            if len(chunk) == size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    units: list[Unit] = []
    batches: list[Future[Vectors]] = []
    with closing(read_ahead([path], prepared, workers=1, stop=stop)) as reading:
        encode = partial(encoder.encode_images, normalize=False)
        with Encoding({"visual": encode}, feeding) as encoding:
            for message in reading:
                if message.error is not None:
                    raise MediaError(f"{path}: {message.error}") from message.error
                for chunk in message.events:
                    batches.append(encoding.submit("visual", [picture for _, picture in chunk]))
                    units += [unit for unit, _ in chunk]
                    on_progress(Progress(0, 1, len(units)))
    raw = [np.empty((0, encoder.dim), np.float32), *(batch.result() for batch in batches)]
    vectors, norms = with_norms(np.concatenate(raw))
    return VideoFrames(
        vectors,
        np.array([unit.start_seconds for unit in units], np.float64),
        np.array([unit.end_seconds for unit in units], np.float64),
        norms,
    )
