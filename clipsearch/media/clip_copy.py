"""A clip of a video's own packets: fast and without loss, from key frame to key frame's needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar

from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from clipsearch.errors import MediaError
from clipsearch.media.clip_source import (
    Covered,
    Interval,
    Place,
    Source,
    Taker,
    feed,
    first_frame,
)
from clipsearch.media.clip_target import Target
from clipsearch.media.timeline import CONTAINER_TICK

_StreamT = TypeVar("_StreamT", bound=Stream)


def copy(
    source: Source, place: Place, interval: Interval, target: Target, output: OutputContainer
) -> Covered:
    """Copy the packets that show [start, end), from the key frame at `place` on.

    Raises MediaError where that cannot be done faithfully, or nothing is shown in the interval.
    """
    if place.key is None:
        raise MediaError("has no key frames with presentation times to cut at: use --reencode")
    if not target.form.turns and first_frame(source.path, place).rotation:
        raise target.refused("the turn of this video")
    begin = source.timeline.seconds(place.key, source.time_base)
    stream = _added(output, source.video, target)
    if stream is None:
        raise target.refused(f"{_codec(source.video)} video")
    video = _VideoCopy(source, interval, place.key, _Lane(output, stream, target, place.key))
    takers: dict[Stream, Taker] = {source.video: video}
    notes = []
    for sound in source.audio:
        added = _added(output, sound, target)
        if added is None:
            notes.append(f"{_codec(sound)} sound left out: {target.path.suffix} cannot hold it")
            continue
        lane = _Lane(output, added, target, source.ticks(begin, sound))
        takers[sound] = _AudioCopy(source, interval, begin, lane)
    feed(source, place, takers, interval.end)
    end = video.finish()
    if interval.begun_by(end) or interval.over_at(begin):
        raise MediaError(
            f"shows nothing between {float(interval.start):g} and {float(interval.end):g} seconds"
        )
    return Covered(max(begin, Fraction(0)), end, tuple(notes))


def _codec(stream: Stream) -> str:
    """The name of a stream's codec, for people."""
    return stream.codec_context.codec.canonical_name if _readable(stream) else "unknown"


def _readable(stream: Stream) -> bool:
    return getattr(stream, "codec_context", None) is not None


def _added(output: OutputContainer, stream: _StreamT, target: Target) -> _StreamT | None:
    """A stream of the output with the codec, shape and turn of another; None if it cannot be."""
    if not _readable(stream) or not target.can_copy(stream):
        return None
    try:
        added = output.add_stream_from_template(stream, opaque=True)
    except ValueError:
        return None
    if _codec(stream) == "hevc" and target.form.name in ("mp4", "mov"):
        added.codec_context.codec_tag = "hvc1"  # Apple's players take no other
    if language := stream.metadata.get("language"):
        added.metadata["language"] = language
    return added


@dataclass
class _Lane:
    """One stream of the output, whose time stamps start `shift` ticks earlier than the source's."""

    output: OutputContainer
    stream: Stream
    target: Target
    shift: int
    _last: int | None = None
    _undated: list[Packet[Stream]] = field(default_factory=list)

    def put(self, packet: Packet[Stream]) -> None:
        """Write a packet, in decoding order. Matroska has no decoding times for the first few."""
        if packet.dts is None:
            self._undated.append(packet)
            return
        self._date(packet.dts)
        self._write(packet, packet.dts)

    def finish(self) -> None:
        """Write what still waits for a decoding time."""
        if self._undated:
            self._date(min(packet.pts or 0 for packet in self._undated))

    def _date(self, next_dts: int) -> None:
        """Decoding times for the packets that came without, ending before `next_dts`."""
        for place, packet in enumerate(self._undated):
            step = max(packet.duration or 0, 1)
            self._write(packet, next_dts - (len(self._undated) - place) * step)
        self._undated.clear()

    def _write(self, packet: Packet[Stream], dts: int) -> None:
        dts -= self.shift
        if self._last is not None and dts <= self._last:
            dts = self._last + 1  # rounding made two the same
        self._last = dts
        packet.dts = dts
        packet.pts = max((packet.pts or 0) - self.shift, dts)
        packet.stream = self.stream
        with self.target.writing():
            self.output.mux(packet)


class _VideoCopy:
    """Passes on the packets that [key frame, end) needs, and finds where they really end.

    Packets come in decoding order: one that is shown after the end is needed if one that is shown
    before it follows, and then so is everything shown between, or there would be a hole.
    """

    def __init__(self, source: Source, interval: Interval, key: int, lane: _Lane) -> None:
        self._source = source
        self._key = key
        self._lane = lane
        end = interval.end - CONTAINER_TICK + source.timeline.origin
        self._limit = end / source.time_base  # in ticks; what is shown before it is wanted
        self._started = False
        self._later: list[tuple[int, Packet[Stream]]] = []  # shown at the limit or after it
        self._end_ticks = key

    def take(self, packet: Packet[Stream]) -> bool:
        """Raises MediaError for a packet without a presentation time."""
        if packet.pts is None:
            raise MediaError("lacks presentation times: use --reencode")
        self._started = self._started or (packet.is_keyframe and packet.pts == self._key)
        if not self._started or packet.pts < self._key:  # leading frames lack what they refer to
            return True
        if packet.pts < self._limit:
            self._include(packet, packet.pts)
            return True
        self._later.append((packet.pts, packet))
        return packet.dts is None or packet.dts < self._next_shown()

    def finish(self) -> Fraction:
        """Where the display of what was passed on ends, in presentation seconds."""
        self._lane.finish()
        ticks = self._next_shown() if self._later else self._end_ticks
        return self._source.timeline.seconds(ticks, self._source.time_base)

    def _next_shown(self) -> int:
        return min(pts for pts, _ in self._later)

    def _include(self, packet: Packet[Stream], pts: int) -> None:
        for later_pts, later in self._later:
            self._limit = max(self._limit, Fraction(later_pts))
            self._pass_on(later, later_pts)
        self._later.clear()
        self._pass_on(packet, pts)

    def _pass_on(self, packet: Packet[Stream], pts: int) -> None:
        usual = round(self._source.timeline.frame / self._source.time_base)
        self._end_ticks = max(self._end_ticks, pts + (packet.duration or usual))
        self._lane.put(packet)


class _AudioCopy:
    """Passes on the packets that begin inside [begin, end)."""

    def __init__(self, source: Source, interval: Interval, begin: Fraction, lane: _Lane) -> None:
        self._source = source
        self._interval = interval
        self._begin = begin
        self._lane = lane

    def take(self, packet: Packet[Stream]) -> bool:
        """Packets without any time are dropped."""
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None:
            return True
        time = self._source.timeline.seconds(stamp, packet.time_base)
        if self._interval.over_at(time):
            return False
        if time >= self._begin - CONTAINER_TICK:
            packet.pts = stamp
            packet.dts = stamp if packet.dts is None else packet.dts
            self._lane.put(packet)
        return True
