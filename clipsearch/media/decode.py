"""Frames of one video stream with their times, past what cannot be decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from clipsearch.errors import MediaError
from clipsearch.media.roles import UnsureError
from clipsearch.media.timeline import CONTAINER_TICK, Clock, Timeline, check_stop, packets_of
from clipsearch.types import Stop


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded frame, shown in presentation seconds [start, end); `number` counts from 0."""

    frame: VideoFrame
    start: Fraction
    end: Fraction
    number: int


class VideoPackets:
    """The packets of one stream of an open container, once, from where it stands; then None, to
    flush its decoder. A file that breaks off ends there.

    undecodable: how often reading or decoding failed.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        timeline: Timeline,
        stop: Stop | None = None,
    ) -> None:
        self.container = container
        self.stream = stream
        self.timeline = timeline
        self._stop = stop
        self.undecodable = 0
        self._ends: dict[int, tuple[int, Fraction]] = {}  # of each stream, in its own ticks

    def __iter__(self) -> Iterator[Packet[VideoStream] | None]:
        """Raises ReadingStoppedError where it is told to stop.

        Where the header has only the whole file's duration, all streams are read, because the
        sound may last longer than the video.
        """
        everything = self.timeline.video_end is None
        streams: list[Stream] = list(self.container.streams) if everything else [self.stream]
        try:
            for number, packet in enumerate(packets_of(self.container, *streams)):
                check_stop(self._stop, number)
                self._note_end(packet)
                if packet.stream_index == self.stream.index and packet.size:
                    yield cast("Packet[VideoStream]", packet)
        except av.FFmpegError:
            self.undecodable += 1
        yield None

    def read_end(self, stream: Stream | None = None) -> Fraction:
        """Where what was read so far ends, in seconds, at least 0: one stream, or all of them."""
        known = self._ends if stream is None else {stream.index} & self._ends.keys()
        ends = (self.timeline.seconds(*self._ends[index]) for index in known)
        return max([Fraction(0), *ends])

    def _note_end(self, packet: Packet[Stream]) -> None:
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None:
            return
        end = stamp + (packet.duration or 0)
        known = self._ends.get(packet.stream_index)
        if known is None:
            if packet.time_base is not None:
                self._ends[packet.stream_index] = end, packet.time_base
        elif end > known[0]:
            self._ends[packet.stream_index] = end, known[1]


class Decoder:
    """Decodes one stream, once, and closes its container at the end.

    only_intact: raise UnsureError at any sign of damage.
    """

    def __init__(
        self, packets: VideoPackets, *, keyframes: bool, only_intact: bool = False
    ) -> None:
        self._packets = packets
        self._only_intact = only_intact
        self._stream = packets.stream
        self._timeline = packets.timeline
        self._keyframes_only = keyframes
        if keyframes:
            self._stream.codec_context.skip_frame = "NONKEY"

    def hint(self) -> str:
        """What may explain that no frame came."""
        if self._packets.undecodable:
            return f" ({self._packets.undecodable} packets undecodable)"
        return ": no key frame, sample by fps instead" if self._keyframes_only else ""

    def frames(self) -> Iterator[Decoded]:
        """The frames in presentation order. Raises MediaError if they end too early; UnsureError.

        Packets and frames that are damaged are passed over.
        """
        clock = Clock(self._timeline, self._stream.time_base or CONTAINER_TICK)
        frames_end = Fraction(0)
        number = -1
        packets = self._packets
        with packets.container:
            for frame in self._decode():
                number += 1
                start, end = clock.span(frame)
                frames_end = max(frames_end, end)
                if frame.is_corrupt:
                    self._met("a damaged frame")
                else:
                    yield Decoded(frame, start, end, number)
            if number < 0:
                self._met("no frame at all")
                return
            reached = packets.read_end(self._stream) if self._keyframes_only else frames_end
            try:
                self._timeline.check_complete(reached, packets.read_end(), packets.undecodable)
            except MediaError:
                self._met("an early end")
                raise

    def _met(self, damage: str) -> None:
        if self._only_intact:
            raise UnsureError(damage)

    def _decode(self) -> Iterator[VideoFrame]:
        for packet in self._packets:
            if packet is not None and self._keyframes_only and not packet.is_keyframe:
                continue
            if self._packets.undecodable or (packet is not None and packet.is_corrupt):
                self._met("a damaged packet, or a file that breaks off")
            try:
                yield from self._stream.decode(packet)
            except av.EOFError:
                return  # flushed before
            except av.FFmpegError:
                self._met("an undecodable packet")
                self._packets.undecodable += 1
