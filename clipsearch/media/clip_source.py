"""Where a cut begins in a video file, and the packets from there on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from clipsearch.errors import MediaError
from clipsearch.media.timeline import CONTAINER_TICK, Timeline
from clipsearch.media.video import decode_error, open_container, video_stream

# How far before the start to seek, in seconds, until a key frame lies between; then the beginning.
SEEK_BACK = (0, 2, 10, 60)
# Streams of one file lie this close together: further on, nothing of the interval is to come.
LAG = Fraction(5)


@dataclass(frozen=True, slots=True)
class Interval:
    """Presentation seconds [start, end) of a video. Times that close to a frame's are the frame's:
    floats are not exact."""

    start: Fraction
    end: Fraction

    def begun_by(self, time: Fraction) -> bool:
        """Whether what is shown at `time` counts as shown by the start."""
        return time <= self.start + CONTAINER_TICK

    def over_at(self, time: Fraction) -> bool:
        """Whether `time` counts as at or after the end."""
        return time >= self.end - CONTAINER_TICK


@dataclass(frozen=True, slots=True)
class Covered:
    """What a cut holds of the source, in its presentation seconds, and what it had to leave out."""

    start: Fraction
    end: Fraction
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """An open video: its first stream of pictures and all of its sound."""

    path: Path
    container: InputContainer
    video: VideoStream
    audio: tuple[AudioStream, ...]
    timeline: Timeline

    @property
    def time_base(self) -> Fraction:
        """The unit of the video's time stamps, in seconds."""
        return self.video.time_base or CONTAINER_TICK

    def ticks(self, seconds: Fraction, stream: Stream) -> int:
        """The last time stamp of a stream at or before presentation seconds."""
        return math.floor((seconds + self.timeline.origin) / (stream.time_base or CONTAINER_TICK))

    def seconds(self, packet: Packet[Stream]) -> Fraction | None:
        """When a packet is due, in presentation seconds; None if it does not say."""
        stamp = packet.pts if packet.dts is None else packet.dts
        return None if stamp is None else self.timeline.seconds(stamp, packet.time_base)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to read from: seek to a time stamp of the video (None: the beginning), then pass over
    everything before the key frame shown at `key`, a time stamp too.

    No key: the file has no key frame or no presentation times to go by, and must be decoded whole.
    """

    seek: int | None
    key: int | None


WHOLE = Place(None, None)


class Taker(Protocol):
    """Takes the packets of one stream. `take` tells whether it wants more."""

    def take(self, packet: Packet[Stream], /) -> bool:
        """Use one packet."""


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a local video. Raises MediaError if it cannot be read or has no pictures."""
    container = open_container(path)
    with container:
        video = video_stream(container)
        audio = tuple(container.streams.audio)
        yield Source(path, container, video, audio, Timeline.of(container, video))


def locate(path: Path, start: Fraction) -> Place:
    """The last key frame shown at `start` or before; the file's first if there is none before.

    Reads from the seek point to `start`, not the whole file.
    """
    with opened(path) as source:
        if not _has_times(source):
            return WHOLE
        limit = source.ticks(start + CONTAINER_TICK, source.video)
        for back in SEEK_BACK:
            if start <= back:
                break
            place = Place(source.ticks(start - back, source.video), None)
            try:
                key = _last_key(source, place, limit)
            except av.FFmpegError:  # cannot seek
                break
            if key is not None:
                return Place(place.seek, key)
    with opened(path) as source:
        return Place(None, _last_key(source, WHOLE, limit))


def _has_times(source: Source) -> bool:
    """H.264 with B-frames in AVI has presentation times that FFmpeg makes up."""
    in_avi = source.container.format.name == "avi"
    codec = source.video.codec_context
    return not (in_avi and codec.name in ("h264", "hevc") and codec.has_b_frames)


def _last_key(source: Source, place: Place, limit: int) -> int | None:
    """The time stamp of the last key frame up to `limit`, of the first in the file otherwise."""
    found = None
    for packet in packets(source, place, source.video):
        if packet.pts is None:
            return None
        early = packet.pts <= limit
        if packet.is_keyframe and (early or (place.seek is None and found is None)):
            found = packet.pts
        over = packet.dts is not None and packet.dts > limit
        if over and (found is not None or place.seek is not None):
            break
    return found


def packets(source: Source, place: Place, *streams: Stream) -> Iterator[Packet[Stream]]:
    """Packets of the streams in the file's order. A file that breaks off ends there.

    Raises av.FFmpegError if the file cannot be searched, MediaError if it cannot be read.
    """
    if place.seek is not None:
        source.container.seek(place.seek, stream=source.video)
    try:
        for packet in source.container.demux(*streams):
            if packet.size:
                yield packet
    except av.FFmpegError as error:
        if isinstance(error, OSError) and not isinstance(error, av.EOFError):
            raise decode_error(error) from error


def feed(source: Source, place: Place, takers: Mapping[Stream, Taker], end: Fraction) -> None:
    """Give the packets of each stream to its taker, until none wants more or the end is long past.

    Reads no further than LAG seconds after `end`, which is in presentation seconds.
    """
    waiting = {stream.index: taker for stream, taker in takers.items()}
    for packet in packets(source, place, *takers):
        index, due = packet.stream.index, source.seconds(packet)
        if index in waiting and not waiting[index].take(packet):
            del waiting[index]
        if not waiting or (due is not None and due >= end + LAG):
            return


def first_frame(path: Path, place: Place) -> VideoFrame:
    """The first frame that can be decoded from a place on. Raises MediaError if there is none."""
    with opened(path) as source:
        for packet in packets(source, place, source.video):
            for frame in decoded(source.video, packet):
                return frame
        for frame in decoded(source.video, None):
            return frame
    raise MediaError("no frame could be decoded")


def decoded(stream: VideoStream, packet: Packet[Stream] | None) -> list[VideoFrame]:
    """The frames that a packet completes, those left in the decoder for None. Damage is skipped."""
    try:
        return [
            frame
            for frame in stream.decode(cast("Packet[VideoStream] | None", packet))
            if not frame.is_corrupt
        ]
    except av.FFmpegError:
        return []
