"""What a container says about time, and whether the decoded frames bear it out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from clipsearch.errors import MediaError
from clipsearch.media.spec import ReadingStoppedError
from clipsearch.types import Stop

CONTAINER_TICK = Fraction(1, 1_000_000)  # the unit of a container's own times
DEFAULT_FRAME_RATE = Fraction(25)
# A file is damaged if its frames end earlier than both of these before their stated end:
# frames at the end without a duration, and estimated durations, stay well below.
MISSING_SECONDS = Fraction(2)
MISSING_SHARE = Fraction(1, 10)

PACKETS_BETWEEN_STOPS = 16


def check_stop(stop: Stop | None, packets: int) -> None:
    """Raise ReadingStoppedError if `stop` says so; it is asked once in a few packets."""
    if stop is not None and packets % PACKETS_BETWEEN_STOPS == 0 and stop():
        raise ReadingStoppedError


@dataclass(frozen=True, slots=True)
class Timeline:
    """Presentation seconds of one video stream, 0 where players start the file.

    origin: what file times start at. video_end: where the video stream says it ends, None if
    it does not say. file_end: where the whole file says it ends. frame: a frame's usual length.
    """

    origin: Fraction
    video_end: Fraction | None
    file_end: Fraction | None
    frame: Fraction

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream) -> Timeline:
        """Read from the container's header."""
        time_base = stream.time_base or CONTAINER_TICK
        begin = None if stream.start_time is None else stream.start_time * time_base
        origin = (container.start_time or 0) * CONTAINER_TICK
        if begin is not None and (
            container.start_time is None or abs(begin - origin) < 2 * CONTAINER_TICK
        ):
            origin = begin  # exact, where the container's time is rounded to microseconds
        video_end = stated_end(stream, origin)
        file_end = None if container.duration is None else container.duration * CONTAINER_TICK
        rate = stream.average_rate or stream.guessed_rate or DEFAULT_FRAME_RATE
        return cls(origin, video_end, file_end, 1 / rate)

    def seconds(self, ticks: int, time_base: Fraction) -> Fraction:
        """Presentation time of a time stamp."""
        return ticks * time_base - self.origin

    def check_complete(self, frames_end: Fraction, read_end: Fraction, undecodable: int) -> None:
        """Raise MediaError unless the frames go on until where the file says they end.

        `read_end` is where the packets of all streams ended. Where only the file's end is known
        and its packets reach it, the video may be shorter than the sound.
        """
        stated = self.video_end or self.file_end
        if stated is None or not is_missing(frames_end, stated):
            return
        if self.video_end is None and not undecodable and not is_missing(read_end, stated):
            return
        packets = f" ({undecodable} packets undecodable)" if undecodable else ""
        raise MediaError(
            f"damaged: decoded {float(frames_end):.1f} of {float(stated):.1f} seconds{packets}"
        )


def is_missing(end: Fraction, stated: Fraction) -> bool:
    """Whether so much lacks before the stated end that a file must be damaged."""
    return stated - end > max(MISSING_SECONDS, MISSING_SHARE * stated)


def clock_seconds(text: str) -> Fraction | None:
    """`00:01:22.040000000` in seconds; None for other texts."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None


def stated_end(
    stream: VideoStream | AudioStream, origin: Fraction, *, trusted: bool = True
) -> Fraction | None:
    """Where a stream says it ends; None if it does not say.

    trusted: whether its duration is its own, and not the file's that FFmpeg filled in. Matroska
    keeps each track's end in a tag, which is.
    """
    tag = clock_seconds(stream.metadata.get("DURATION", ""))
    if tag is not None:
        return tag - origin
    if stream.duration is None or not trusted:
        return None
    time_base = stream.time_base or CONTAINER_TICK
    begin = Fraction(0) if stream.start_time is None else stream.start_time * time_base
    return begin + stream.duration * time_base - origin


class Clock:
    """Presentation times of decoded frames, whichever of their time stamps can be trusted.

    Frames carry a presentation and a decoding time stamp. Either may be missing or run
    backwards (H.264 in AVI has no true presentation times); the one with fewer such faults so
    far counts. A frame without any comes one frame after its predecessor.
    """

    def __init__(self, timeline: Timeline, time_base: Fraction) -> None:
        self._timeline = timeline
        self._time_base = time_base
        self._last: dict[str, int] = {}
        self._faults = {"pts": 0, "dts": 0}
        self._next = Fraction(0)

    def span(self, frame: VideoFrame) -> tuple[Fraction, Fraction]:
        """[start, end) of a frame: never before 0; the end by its own or the usual length."""
        stamps = {"pts": frame.pts, "dts": frame.dts}
        for name, stamp in stamps.items():
            if stamp is None or stamp <= self._last.get(name, stamp - 1):
                self._faults[name] += 1
            if stamp is not None:
                self._last[name] = stamp
        name = "pts" if self._faults["pts"] <= self._faults["dts"] else "dts"
        stamp = stamps[name]
        time_base = frame.time_base or self._time_base
        start = self._next if stamp is None else self._timeline.seconds(stamp, time_base)
        start = max(start, Fraction(0))
        length = frame.duration * time_base if frame.duration else self._timeline.frame
        self._next = start + length
        return start, self._next


def packets_of(container: InputContainer, *streams: Stream) -> Iterator[Packet[Stream]]:
    """As the container's own `demux`, from where it stands.

    A stream that begins in mid-file, as broadcasts have them, makes PyAV raise IndexError for
    each of its packets: these are passed over.
    """
    while True:
        try:
            yield from container.demux(*streams)
            return
        except IndexError:
            continue  # that packet has been read, so this comes to an end


def packets_end(
    container: InputContainer, stream: Stream, stop: Stop | None = None
) -> Fraction | None:
    """Where the last packet of the stream ends, by reading (not decoding) the whole file.

    In seconds of the file's own clock. None where no packet has a time. Raises
    ReadingStoppedError.
    """
    time_base = stream.time_base or CONTAINER_TICK
    end: Fraction | None = None
    try:
        for number, packet in enumerate(packets_of(container, stream)):
            check_stop(stop, number)
            if packet.pts is not None:
                packet_end = (packet.pts + (packet.duration or 0)) * time_base
                end = packet_end if end is None else max(end, packet_end)
    except av.FFmpegError:
        pass  # the reader meets the same error, and judges it
    return end
