"""A clip that begins and ends exactly where it is asked to: decoded, and encoded anew."""

from __future__ import annotations

import math
from fractions import Fraction

import av
from av.container import OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from clipsearch.errors import MediaError
from clipsearch.media.clip_sound import SoundEncoding, sound_notes
from clipsearch.media.clip_source import (
    Covered,
    Interval,
    Place,
    Source,
    Taker,
    decoded,
    feed,
    first_frame,
)
from clipsearch.media.clip_target import Target
from clipsearch.media.pixels import RIGHT_ANGLE
from clipsearch.media.timeline import Clock

# Close to the source to the eye, at several times the speed of the encoders' defaults.
ENCODER_OPTIONS = {
    # No B-frames: the length of an ISO file is that of its decoding times.
    "libx264": {"crf": "18", "preset": "veryfast", "bf": "0"},
    "libvpx-vp9": {"crf": "24", "deadline": "good", "cpu-used": "5", "row-mt": "1"},
    "mpeg4": {"qmin": "2", "qmax": "4"},
}
COARSEST_TICK = Fraction(1, 10_000)  # a clip may begin between two ticks of its source
FINEST_TICK = Fraction(1, 1_000_000)  # what encoders take as a unit of time
MPEG4_TICK = Fraction(1, 60_000)  # its field for it has 16 bits
TURNS = {1: ("transpose=cclock",), 2: ("hflip", "vflip"), 3: ("transpose=clock",)}


def encode(
    source: Source, place: Place, interval: Interval, target: Target, output: OutputContainer
) -> Covered:
    """Encode what is on display in [start, end), upright, with the frames' own times.

    The first frame is the one on display at the start. Raises MediaError if there is none.
    """
    begin = interval.start
    if place.key is not None:
        begin = max(begin, source.timeline.seconds(place.key, source.time_base))
    first = first_frame(source.path, place)
    wanted = Interval(begin, interval.end)
    video = _VideoEncoding(source, place, wanted, _Pictures(source, first, target, output))
    takers: dict[Stream, Taker] = {source.video: video}
    sounds = []
    for stream in source.audio:
        sound = SoundEncoding.of(stream, source, wanted, target, output)
        if sound is not None:
            takers[stream] = sound
            sounds.append(sound)
    feed(source, place, takers, interval.end)
    end = video.finish()
    for sound in sounds:
        sound.finish()
    return Covered(begin, end, sound_notes(source.audio, len(sounds)))


class _VideoEncoding:
    """Takes the video's packets, decodes them and hands on what is shown in the interval."""

    def __init__(
        self, source: Source, place: Place, interval: Interval, pictures: _Pictures
    ) -> None:
        self._source = source
        self._interval = interval
        self._pictures = pictures
        self._clock = Clock(source.timeline, source.time_base)
        self._key = place.key
        self._started = place.key is None
        self._held: tuple[VideoFrame, Fraction, Fraction] | None = None  # until its end is known
        self._end = interval.start
        source.video.thread_type = "AUTO"

    def take(self, packet: Packet[Stream]) -> bool:
        """Decode a packet."""
        self._started = self._started or (packet.is_keyframe and packet.pts == self._key)
        if not self._started:
            return True
        wanted = [self._show(frame) for frame in decoded(self._source.video, packet)]
        return all(wanted)

    def finish(self) -> Fraction:
        """Encode what is left. Where it ends, in seconds of the source."""
        for frame in decoded(self._source.video, None):
            self._show(frame)
        if self._held is not None:
            self._hand_on(self._held[2])
        if self._interval.begun_by(self._end):
            start, end = float(self._interval.start), float(self._interval.end)
            raise MediaError(f"shows nothing between {start:g} and {end:g} seconds")
        self._pictures.finish()
        return self._end

    def _show(self, frame: VideoFrame) -> bool:
        """Whether frames after this one may be in the interval."""
        if self._key is not None and frame.pts is not None and frame.pts < self._key:
            return True  # a leading frame, which refers to what was not read
        start, end = self._clock.span(frame)
        if self._held is not None and not self._interval.begun_by(start):
            self._hand_on(start)
        if self._interval.over_at(start):
            return False
        self._held = (frame, start, end)
        return True

    def _hand_on(self, shown_until: Fraction) -> None:
        """Encode the frame that was held back, now that its end is known."""
        assert self._held is not None
        frame, start, _ = self._held
        self._held = None
        begin, end = self._interval.start, self._interval.end
        start, end = max(start, begin), min(shown_until, end)
        if end > start:
            self._pictures.put(frame, start - begin, end - begin)
            self._end = end


class _Pictures:
    """The video stream of the output: frames in, each with its seconds from the clip's start."""

    def __init__(
        self, source: Source, first: VideoFrame, target: Target, output: OutputContainer
    ) -> None:
        self._target = target
        self._output = output
        self._turns = round(first.rotation / RIGHT_ANGLE) % 4
        self._graph: tuple[tuple[int, int, str], Graph] | None = None
        self._stream = _video_stream(target, output, source.video)
        self._tick = _tick(source.time_base, self._stream)
        self._durations: dict[int, int] = {}
        self._last = -1
        self._shape(first, source.video)

    def put(self, frame: VideoFrame, start: Fraction, end: Fraction) -> None:
        """Encode a frame shown in [start, end) seconds of the clip."""
        pts = self._ticks(start)
        if pts <= self._last:
            return  # shown for less than a tick
        self._last = pts
        self._durations[pts] = max(1, self._ticks(end) - pts)
        upright = self._upright(frame)
        upright.pts, upright.time_base = pts, self._tick
        upright.pict_type = PictureType.NONE  # the encoder's choice, not the source's
        self._encode(upright)

    def finish(self) -> None:
        """Write what the encoder still has."""
        self._encode(None)

    def _ticks(self, seconds: Fraction) -> int:
        return math.floor(seconds / self._tick + Fraction(1, 2))

    def _shape(self, first: VideoFrame, video: VideoStream) -> None:
        """Size, shape of a sample and colours as shown; even sides, which H.264 needs."""
        context = self._stream.codec_context
        width, height = first.width, first.height
        aspect = video.sample_aspect_ratio or Fraction(1)
        if self._turns % 2:
            width, height, aspect = height, width, 1 / aspect
        context.width, context.height = max(2, width // 2 * 2), max(2, height // 2 * 2)
        context.pix_fmt = "yuv420p"
        context.time_base = self._tick
        context.sample_aspect_ratio = aspect
        for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
            setattr(context, name, int(getattr(first, name)))

    def _encode(self, frame: VideoFrame | None) -> None:
        with self._target.writing():
            for packet in self._stream.encode(frame):
                if packet.pts is not None:
                    packet.duration = self._durations.pop(packet.pts, packet.duration)
                self._output.mux(packet)

    def _upright(self, frame: VideoFrame) -> VideoFrame:
        if not self._turns:
            return frame
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is None or self._graph[0] != shape:
            self._graph = shape, _turning(frame, self._turns, self._tick)
        graph = self._graph[1]
        graph.vpush(frame)
        return graph.vpull()


def _turning(frame: VideoFrame, turns: int, tick: Fraction) -> Graph:
    """Turns frames like this one by so many right angles counter-clockwise."""
    graph = Graph()
    nodes = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=tick
        )
    ]
    for step in TURNS[turns]:
        name, _, value = step.partition("=")
        nodes.append(graph.add(name, value or None))
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph


def _tick(time_base: Fraction, stream: VideoStream) -> Fraction:
    """The encoder's unit of time: a whole part of the source's, where that is possible."""
    if stream.codec_context.name == "mpeg4":
        return MPEG4_TICK
    return max(time_base / math.ceil(time_base / COARSEST_TICK), FINEST_TICK)


def _video_stream(target: Target, output: OutputContainer, video: VideoStream) -> VideoStream:
    """A stream of the first of the container's encoders that this FFmpeg has."""
    rate = video.average_rate or video.guessed_rate or 25
    for encoder in target.form.video:
        try:
            stream = output.add_stream(encoder, rate=rate, options=ENCODER_OPTIONS[encoder])
        except (ValueError, av.FFmpegError):
            continue
        assert isinstance(stream, VideoStream)
        return stream
    raise MediaError(
        f"this FFmpeg has no encoder for {target.path.suffix}: name another suffix, such as .mkv"
    )
