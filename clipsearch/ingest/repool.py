"""Pooling the windows of every indexed video anew, from the frames that the index has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipsearch.errors import IndexDamagedError, UsageError
from clipsearch.heads.sampling import count_crowded, crowded_notice
from clipsearch.ingest.pooling import pool
from clipsearch.ingest.run import Progress
from clipsearch.store.pooling import PooledWindows, PoolingFacts
from clipsearch.store.store import Store
from clipsearch.store.writer import Writer

if TYPE_CHECKING:
    from clipsearch.heads import Head


@dataclass(frozen=True, slots=True)
class RepoolReport:
    """What was pooled: videos, their windows, and what a user should know of it."""

    videos: int
    windows: int
    warnings: tuple[str, ...] = ()


def repool(
    store: Store,
    writer: Writer,
    head: Head,
    facts: PoolingFacts,
    *,
    on_progress: Callable[[Progress], None],
) -> RepoolReport:
    """Put the rows of `head` in the place of any other head's, in one transaction.

    Interrupted, it leaves the index as it was. Raises UsageError for frames without norms.
    """
    counts = store.catalog.row_counts("video")
    crowded = 0

    def pooled() -> Iterator[PooledWindows]:
        nonlocal crowded
        windows = 0
        for done, media_id in enumerate(counts, 1):
            found = store.windows(media_id)
            runs = store.frames(media_id).raw_runs(found.starts)
            if not all(map(len, runs)):
                reason = "a window of a video has no frames: run `clipsearch verify`"
                raise IndexDamagedError(reason)
            crowded += count_crowded(map(len, runs), head)
            times = tuple(zip(found.starts.tolist(), found.ends.tolist(), strict=True))
            yield PooledWindows(media_id, times, pool(head, runs))
            windows += len(times)
            on_progress(Progress(done, len(counts), windows))

    total = sum(counts.values())
    try:
        writer.publish_pooled(facts, pooled(), total)
    except UsageError as error:
        raise UsageError(f"{store.folder} was not changed: {error}") from error
    writer.maintain()
    warnings = (crowded_notice(crowded, head),) if crowded else ()
    return RepoolReport(len(counts), total, (*lost_notices(writer), *warnings))


def lost_notices(writer: Writer) -> list[str]:
    """What a user should know of segments that were found damaged when writing began."""
    return [
        f"{loss.reason}: {loss.files} files are read again by the next `clipsearch index`"
        for loss in writer.losses
        if loss.files
    ]
