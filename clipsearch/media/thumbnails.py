"""Small pictures of a video at given times, by seeking: a long film is not decoded for a few."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from clipsearch.errors import UsageError
from clipsearch.media.files import check_readable
from clipsearch.media.pixels import Geometry
from clipsearch.media.spec import ReadSpec
from clipsearch.media.timeline import CONTAINER_TICK, Clock, Timeline
from clipsearch.media.video import open_container, video_stream
from clipsearch.types import Pixels

# Where a seek lands behind the wanted time, the next one aims this much earlier, doubled each time.
FIRST_STEP_BACK_SECONDS = 1.0


def thumbnails(path: Path, times: Sequence[float], *, height: int) -> list[Pixels | None]:
    """The frames on display at presentation seconds `times`, (h, w, 3), upright, in that order.

    h is `height`, less where the video is lower. A frame stays until the next one, the last one
    as long as the file lasts. None where nothing is on display or can be decoded. Raises
    MediaError if the file cannot be read, UsageError for a height or a time that is no number.
    """
    if height < 1:
        raise UsageError(f"thumbnails of {height} pixels: use 1 or more")
    if not all(map(math.isfinite, times)):
        raise UsageError("times of thumbnails must be numbers of seconds")
    check_readable(path)
    spec = ReadSpec(height)
    with closing(_Tape(path, spec)) as one, closing(_Tape(path, spec)) as other:
        player = _Player(one, other)
        found: dict[float, Pixels | None] = {}
        for time in sorted(set(times)):
            frame = player.on_display(time)
            found[time] = None if frame is None else _small(one.geometry, frame, height)
    return [found[time] for time in times]


def _small(geometry: Geometry, frame: VideoFrame, height: int) -> Pixels | None:
    """(h, w, 3) uint8 RGB, upright; enlarged only to make the samples square."""
    upright = geometry.upright(frame)
    scale = min(1.0, height / upright.height)
    shape = max(1, round(upright.width * scale)), max(1, round(upright.height * scale))
    width, lines = shape if upright.quarter_turns % 2 == 0 else shape[::-1]
    try:
        rgb = frame.reformat(width, lines, "rgb24", interpolation=Interpolation.AREA).to_ndarray()
    except (av.FFmpegError, ValueError):
        return None
    return np.ascontiguousarray(np.rot90(rgb, upright.quarter_turns), dtype=np.uint8)


class _Player:
    """Goes through a video by two tapes: one plays on while the other looks for a key frame.

    Whichever then is nearer before the wanted time plays, so no frame is decoded twice.
    """

    def __init__(self, playing: _Tape, scout: _Tape) -> None:
        self._playing = playing
        self._scout = scout

    def on_display(self, time: float) -> VideoFrame | None:
        """The frame shown at `time`; times must ascend."""
        if time < 0:
            return None
        key = self._scout.find_key(time)
        if key is not None and key > self._playing.position:
            self._playing, self._scout = self._scout, self._playing
        return self._playing.play(time)


class _Timed(NamedTuple):
    frame: VideoFrame
    start: float  # compared as floats, as the times of units are
    end: float


class _Tape:
    """One open file, read from the start or from the key frame that `find_key` found."""

    def __init__(self, path: Path, spec: ReadSpec) -> None:
        self._container = open_container(path)
        self._stream = video_stream(self._container)
        self._stream.thread_type = "AUTO"
        self.geometry = Geometry.of(self._stream, spec)
        self._timeline = Timeline.of(self._container, self._stream)
        ends = (self._timeline.file_end, self._timeline.video_end)
        self._stated_end = max((float(end) for end in ends if end is not None), default=0.0)
        self._rewound(None)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _rewound(self, key: Packet[VideoStream] | None) -> None:
        """Ready to play from where the file was sought, `key` being read already."""
        self.position = (0.0 if key is None else self._seconds(key)) or 0.0
        self._shown: _Timed | None = None
        self._ahead: _Timed | None = None
        self._frames = self._decode(key, self.position)
        self._started = False

    def find_key(self, time: float) -> float | None:
        """Seek to a key frame at or before `time` and give its time; None: there is no way."""
        latest = min(time, self._stated_end) if self._stated_end else time
        back, step = 0.0, FIRST_STEP_BACK_SECONDS
        while True:
            target = max(0.0, latest - back)
            key = self._key_after_seek(target)
            at = None if key is None else self._seconds(key)
            if at is not None and at <= time:
                self._rewound(key)
                return at
            if target == 0.0:
                return None
            back, step = back + step, 2 * step

    def _key_after_seek(self, target: float) -> Packet[VideoStream] | None:
        time_base = self._stream.time_base or CONTAINER_TICK
        ticks = math.floor((Fraction(target) + self._timeline.origin) / time_base)
        try:
            self._container.seek(ticks, stream=self._stream)
            packets = self._container.demux(self._stream)
            return next((packet for packet in packets if packet.is_keyframe), None)
        except (av.FFmpegError, OverflowError):
            return None

    def _seconds(self, packet: Packet[VideoStream]) -> float | None:
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or packet.time_base is None:
            return None
        return float(self._timeline.seconds(stamp, packet.time_base))

    def play(self, time: float) -> VideoFrame | None:
        """The last frame that starts at or before `time`, if it is still on display then."""
        if not self._started:
            self._started, self._ahead = True, next(self._frames, None)
        while self._ahead is not None and self._ahead.start <= time:
            self._shown = self._ahead
            self._ahead = next(self._frames, None)
            self.position = (self._ahead or self._shown).start
        if self._shown is None:
            return None
        lasts = self._ahead is not None or time < max(self._shown.end, self._stated_end)
        return self._shown.frame if lasts else None

    def _decode(self, key: Packet[VideoStream] | None, begin: float) -> Iterator[_Timed]:
        """Frames past those that cannot be decoded, or lean on frames before the key frame."""
        clock = Clock(self._timeline, self._stream.time_base or CONTAINER_TICK)
        for packet in self._packets(key):
            try:
                frames = self._stream.decode(packet)
            except av.EOFError:
                return  # flushed before
            except av.FFmpegError:
                continue
            for frame in frames:
                start, end = map(float, clock.span(frame))
                if start >= begin and not frame.is_corrupt:
                    yield _Timed(frame, start, end)

    def _packets(self, key: Packet[VideoStream] | None) -> Iterator[Packet[VideoStream] | None]:
        """`key` and those behind it, then None to flush. A file that breaks off ends there."""
        if key is not None:
            yield key
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        except av.FFmpegError:
            pass
        yield None
