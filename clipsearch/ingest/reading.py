"""What one file is made of, as it is read: facts, then what is seen, heard and said in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.devices import usable_cores
from clipsearch.errors import MediaError, NoPictureError
from clipsearch.media import (
    AudioSpec,
    ReadSpec,
    embedded_subtitles,
    open_audio,
    open_media,
    open_sound_track,
    open_subtitles,
)
from clipsearch.media.sounding import without_silence
from clipsearch.types import FoundFile, MediaInfo, MediaKind, SoundStream, Source, Unit

CHUNK_UNITS = 8  # frames handed over at once by a reader
CHUNK_WAVES = 2  # a window of ten seconds at 48 kHz is 2 MB
NO_PICTURE = MediaInfo(0, 0)
MOST_DECODER_THREADS = 16  # FFmpeg advises against more for one video


@dataclass(frozen=True, slots=True)
class Hearing:
    """How sound is read, and the encoder that takes it."""

    encoder: Encoder
    spec: AudioSpec


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some units of a source, each with what its encoder takes."""

    source: Source
    pairs: list[tuple[Unit, Any]]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a part of a file cannot be read, while the rest of it can."""

    reason: str


Event = MediaInfo | Chunk | Trouble


def sources_in(kind: MediaKind, *, sound: bool, texts: bool) -> tuple[Source, ...]:
    """What is looked at in files of a kind, in an index with sound, with texts, or without."""
    if kind == "image":
        return ("visual",)
    if kind == "audio":
        return ("audio",) if sound else ()
    if kind == "subtitles":
        return ("text",) if texts else ()
    wanted: dict[Source, bool] = {"visual": True, "audio": sound, "text": texts}
    return tuple(source for source, is_wanted in wanted.items() if is_wanted)


class Cores:
    """Shares cores among the videos that are decoded at once: one alone gets them all."""

    def __init__(self, count: int) -> None:
        self._count, self._videos = count, 0
        self._guard = threading.Lock()

    @contextmanager
    def share(self) -> Iterator[int]:
        """How many threads a video that is opened now may have."""
        with self._guard:
            self._videos += 1
            share = max(1, self._count // self._videos)
        try:
            yield min(share, MOST_DECODER_THREADS)
        finally:
            with self._guard:
                self._videos -= 1


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads files as an index wants them. Safe to use from several threads."""

    encoder: Encoder
    read: ReadSpec
    hearing: Hearing | None = None
    texts: bool = False
    stop: Callable[[], bool] | None = None  # asked while a video is decoded
    cores: Cores = field(default_factory=lambda: Cores(usable_cores()))

    def sources(self, kind: MediaKind) -> tuple[Source, ...]:
        """What is looked at in files of a kind."""
        return sources_in(kind, sound=self.hearing is not None, texts=self.texts)

    def events(
        self, file: FoundFile, sources: tuple[Source, ...], known: MediaInfo | None = None
    ) -> Iterator[Event]:
        """The facts of a file, and the units of some of its sources as they are decoded.

        known: its facts, where what is seen is not read. Raises MediaError for a file that cannot
        be read, here or while iterating.
        """
        if file.kind == "audio":
            yield from self._sound(file)
        elif file.kind == "subtitles":
            yield NO_PICTURE
            yield from _chunks("text", _said(open_subtitles(file.path)), CHUNK_UNITS)
        elif "visual" in sources:
            yield from self._picture(file, sources)
        else:
            yield known or NO_PICTURE
            yield from self._rest(file, sources)

    def _picture(self, file: FoundFile, sources: tuple[Source, ...]) -> Iterator[Event]:
        with self.cores.share() if file.kind == "video" else nullcontext(0) as threads:
            read = replace(self.read, decoder_threads=threads)
            try:
                stream = open_media(file, read, stop=self.stop)
            except NoPictureError:
                if "audio" not in sources:
                    raise
                yield from self._sound(file)
                yield from self._rest(file, tuple(s for s in sources if s == "text"))
                return
            yield stream.info
            pairs = ((unit, self.encoder.prepare(pixels)) for unit, pixels in stream.units)
            yield from _chunks("visual", pairs, CHUNK_UNITS)
        yield from self._rest(file, sources)

    def _sound(self, file: FoundFile) -> Iterator[Event]:
        assert self.hearing is not None, "only asked for in an index with sound"
        stream = open_audio(file.path, self.hearing.spec)
        yield stream.info
        yield from self._heard(stream)

    def _heard(self, stream: SoundStream) -> Iterator[Chunk]:
        assert self.hearing is not None, "only asked for in an index with sound"
        rate = self.hearing.spec.rate
        pairs = ((without_silence(unit, wave, rate), wave) for unit, wave in stream.units)
        yield from _chunks("audio", pairs, CHUNK_WAVES)

    def _rest(self, file: FoundFile, sources: tuple[Source, ...]) -> Iterator[Event]:
        """The sound track and the subtitles in a video; one that is damaged spares the others."""
        if "audio" in sources and self.hearing is not None:
            try:
                track = open_sound_track(file.path, self.hearing.spec)
                if track is not None:
                    yield from self._heard(track)
            except MediaError as error:
                yield Trouble(f"its sound cannot be read to the end: {error}")
        if "text" in sources:
            try:
                yield from _chunks("text", _said(embedded_subtitles(file.path)), CHUNK_UNITS)
            except MediaError as error:
                yield Trouble(f"its subtitles cannot be read to the end: {error}")


def _said(units: Iterable[Unit]) -> Iterator[tuple[Unit, str]]:
    for unit in units:
        yield unit, unit.text or ""


def _chunks(source: Source, pairs: Iterable[tuple[Unit, Any]], size: int) -> Iterator[Chunk]:
    iterator = iter(pairs)
    while chunk := list(islice(iterator, size)):
        yield Chunk(source, chunk)
