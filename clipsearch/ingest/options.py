"""How one run of indexing is asked for, and what it tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clipsearch.encoders.spec import parse_spec
from clipsearch.errors import UsageError
from clipsearch.ingest.run import Progress
from clipsearch.media import SamplingSpec
from clipsearch.media.spec import MAX_IMAGE_MEGAPIXELS
from clipsearch.types import Failure


def _ignore(_: object = None) -> None:
    """The listener that does not listen."""


@dataclass(frozen=True, slots=True)
class AddOptions:
    """How `Index.add` looks for files and reads them.

    sampling, window_seconds: fixed by the first `add` of an index, and then the same for all;
        None takes what the index has, or one frame a second and windows of 30 seconds.
    exclude_dirs: folder names to leave out, besides version control and thumbnails.
    batch_size: pictures encoded in one step; None takes what suits the encoder and the device.
    workers: reading threads; None takes one per core.
    cache: a folder for what is worth remembering on this machine: how encoders run fastest, which
        is tried for about a second once a run has encoded a few dozen pictures, and the vectors
        of the texts that relevance is measured with. Without one nothing is tried, and fixed
        rules hold.
    retry_failed: read files again that failed before and have not changed since.
    audio: whether sound files and the sound of videos are indexed; None takes what the index has,
        and for a new one whether its encoder, or one given as audio_model, takes sound.
    audio_model: an encoder of sound besides the index's own, in a space of its own, such as "clap".
    audio_window_seconds, audio_hop_seconds: windows of sound, one every hop; None takes what the
        index has, or 10 seconds and half a window.
    subtitles: whether subtitle files and streams are indexed; None takes what the index has, and
        they are for a new one. What an older index lacks is read when it is asked for.
    wait: for another process that is writing; otherwise IndexLockedError.
    """

    sampling: SamplingSpec | None = None
    window_seconds: float | None = None
    exclude_dirs: tuple[str, ...] = ()
    include_hidden: bool = False
    batch_size: int | None = None
    max_image_megapixels: float = MAX_IMAGE_MEGAPIXELS
    workers: int | None = None
    cache: Path | None = None
    retry_failed: bool = False
    audio: bool | None = None
    audio_model: str | None = None
    audio_window_seconds: float | None = None
    audio_hop_seconds: float | None = None
    subtitles: bool | None = None
    wait: bool = True

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}: use 1 or more")
        if self.window_seconds is not None and not self.window_seconds > 0:
            raise UsageError(f"windows of {self.window_seconds} seconds: use more than 0")
        for seconds in (self.audio_window_seconds, self.audio_hop_seconds):
            if seconds is not None and not seconds > 0:
                raise UsageError(f"sound in windows or hops of {seconds} seconds: use more than 0")
        if self.audio_model is not None:
            parse_spec(self.audio_model)  # before an index is made
        how = (self.audio_model, self.audio_window_seconds, self.audio_hop_seconds)
        if self.audio is False and any(value is not None for value in how):
            raise UsageError("without audio there is no audio model, window or hop: leave them out")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"{self.workers} workers: use 1 or more")


@dataclass(frozen=True, slots=True)
class AddListener:
    """What `Index.add` tells while it runs, from the calling thread.

    count_files: walk the folders once more beforehand, so that `on_progress` knows the total.
    on_notice: what a person may want to know, such as what a trial found.
    """

    on_failure: Callable[[Failure], None] = _ignore
    on_progress: Callable[[Progress], None] = _ignore
    on_wait: Callable[[str], None] = _ignore
    on_notice: Callable[[str], None] = _ignore
    count_files: bool = False
