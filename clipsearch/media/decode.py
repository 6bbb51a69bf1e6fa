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

from clipsearch.media.timeline import CONTAINER_TICK, Clock, Timeline, packets_of


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded frame, shown in presentation seconds [start, end); `number` counts from 0."""

    frame: VideoFrame
    start: Fraction
    end: Fraction
    number: int


class Decoder:
    """Decodes one stream of an open container, once, from its start, and closes it at the end."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        timeline: Timeline,
        keyframes_only: bool,
    ) -> None:
        self._container = container
        self._stream = stream
        self._timeline = timeline
        self._keyframes_only = keyframes_only
        self._undecodable = 0
        self._read_end = Fraction(0)  # of the packets of all streams read
        self._video_read_end = Fraction(0)
        stream.thread_type = "AUTO"
        if keyframes_only:
            stream.codec_context.skip_frame = "NONKEY"

    def hint(self) -> str:
        """What may explain that no frame came."""
        if self._undecodable:
            return f" ({self._undecodable} packets undecodable)"
        return ": no key frame, sample by fps instead" if self._keyframes_only else ""

    def frames(self) -> Iterator[Decoded]:
        """The frames in presentation order. Raises MediaError if they end too early.

        Packets and frames that are damaged are passed over.
        """
        clock = Clock(self._timeline, self._stream.time_base or CONTAINER_TICK)
        frames_end = Fraction(0)
        number = -1
        with self._container:
            for frame in self._decode():
                number += 1
                start, end = clock.span(frame)
                frames_end = max(frames_end, end)
                if not frame.is_corrupt:
                    yield Decoded(frame, start, end, number)
            if number < 0:
                return
            reached = self._video_read_end if self._keyframes_only else frames_end
            self._timeline.check_complete(reached, self._read_end, self._undecodable)

    def _decode(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            if packet is not None and self._keyframes_only and not packet.is_keyframe:
                continue
            try:
                yield from self._stream.decode(packet)
            except av.EOFError:
                return  # flushed before
            except av.FFmpegError:
                self._undecodable += 1

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        """The video's packets, then None to flush. A file that breaks off ends there.

        Where the header has only the whole file's duration, all streams are read, because the
        sound may last longer than the video.
        """
        everything = self._timeline.video_end is None
        streams: list[Stream] = list(self._container.streams) if everything else [self._stream]
        try:
            for packet in packets_of(self._container, *streams):
                is_video = packet.stream.index == self._stream.index
                self._note_end(packet, is_video)
                if is_video and packet.size:
                    yield cast("Packet[VideoStream]", packet)
        except av.FFmpegError:
            self._undecodable += 1
        yield None

    def _note_end(self, packet: Packet[Stream], is_video: bool) -> None:
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or packet.time_base is None:
            return
        end = self._timeline.seconds(stamp + (packet.duration or 0), packet.time_base)
        self._read_end = max(self._read_end, end)
        if is_video:
            self._video_read_end = max(self._video_read_end, end)
