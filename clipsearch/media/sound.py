"""One stream of sound, decoded, mixed down to one channel and resampled, at its true times."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.filter import Graph
from av.packet import Packet

from clipsearch.errors import MediaError
from clipsearch.media.timeline import CONTAINER_TICK, packets_of
from clipsearch.media.video import decode_error
from clipsearch.types import Wave

JITTER = Fraction(1, 50)  # time stamps that differ by less leave no gap: containers round them
BACKWARDS = Fraction(1)  # time stamps that jump back by more have been started anew
LATE = Fraction(10)  # time stamps so far after the stated end are wrong
RATES = range(1_000, 3_000_001)  # Hz; from outside, a second would be resampled to gigabytes
ABSURD = 2.0**16  # samples beyond are damage, like NaN: full scale is 1


class Resampler:
    """Sound of one shape to mono float32 at `rate`, by FFmpeg's aresample (libswresample).

    Mixing down is normalised, so that no sum exceeds full scale and files of whole numbers and of
    floats come out equally loud; sound whose channels have no known places is averaged.
    """

    def __init__(self, frame: AudioFrame, rate: int) -> None:
        if frame.sample_rate not in RATES:
            raise MediaError(
                f"sound of {frame.sample_rate} samples a second: "
                f"{RATES.start} to {RATES.stop - 1} can be read"
            )
        self.shape = shape_of(frame)
        try:
            self._graph = self._linked(frame, rate, {"out_chlayout": "mono"})
        except (av.FFmpegError, ValueError):
            try:
                self._graph = self._linked(frame, rate, {})
            except (av.FFmpegError, ValueError) as error:
                raise MediaError(
                    f"sound of {frame.layout.nb_channels} channels cannot be mixed down to one"
                ) from error

    def _linked(self, frame: AudioFrame, rate: int, layout: dict[str, str]) -> Graph:
        graph = Graph()
        steps = [
            graph.add(
                "abuffer",
                sample_rate=str(frame.sample_rate),
                sample_fmt=frame.format.name,
                channel_layout=frame.layout.name,
                time_base=f"1/{frame.sample_rate}",
            ),
            graph.add(
                "aresample",
                out_sample_rate=str(rate),
                out_sample_fmt="flt",
                rematrix_maxval="1.0",
                **layout,
            ),
            graph.add("aformat", sample_rates=str(rate), sample_fmts="flt"),
            graph.add("abuffersink"),
        ]
        for one, other in pairwise(steps):
            one.link_to(other)
        graph.configure()
        return graph

    def put(self, frame: AudioFrame | None) -> Wave:
        """What comes out after a frame; None: what is still inside. The first sample that comes
        out stands for the same moment as the first that went in.
        """
        if frame is not None:
            frame.pts = None  # counted by ourselves
        parts = [np.zeros(0, np.float32)]
        try:
            self._graph.push(frame)
            while True:
                out = cast(AudioFrame, self._graph.pull())
                parts.append(out.to_ndarray().reshape(-1, out.layout.nb_channels).mean(axis=1))
        except (av.BlockingIOError, av.EOFError):
            pass  # all that is there has been pulled
        except av.FFmpegError as error:
            raise decode_error(error, "sound") from error
        wave: Wave = np.concatenate(parts)
        wave[~(np.abs(wave) < ABSURD)] = 0  # NaN too
        return wave


def shape_of(frame: AudioFrame) -> tuple[str, str, int]:
    """What must not change inside one Resampler: sample format, layout, rate."""
    return frame.format.name, frame.layout.name, frame.sample_rate


class SoundDecoder:
    """Decodes one stream of an open container, once, from its start, and closes it at the end.

    origin: file time of presentation time 0. file_end: presentation time where the file says it
    ends, None if it does not. Afterwards, `end` is where the sound ended, and `undecodable` and
    `lost` are the packets that could not be decoded and their seconds.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: AudioStream,
        origin: Fraction,
        file_end: Fraction | None,
    ) -> None:
        self._container = container
        self._stream = stream
        self._origin = origin
        self._limit = None if file_end is None else file_end + LATE
        self._shift = Fraction(0)  # added to time stamps that were started anew
        self.end = Fraction(0)
        self.undecodable = 0
        self.lost = Fraction(0)

    def waves(self, rate: int) -> Iterator[tuple[int, Wave]]:
        """Samples at `rate`, each run of them with its position counted from presentation time 0.

        Runs follow one another, except where the file has gaps or overlaps; the first may begin
        before 0. Packets and frames that are damaged are passed over and leave a gap.
        """
        resampler: Resampler | None = None
        position = 0
        with self._container:
            for frame in self._frames():
                begin = self._begin(frame, resampler is None)
                gap = resampler is None or begin != self.end
                self.end = begin + Fraction(frame.samples, frame.sample_rate or 1)
                if resampler is None or gap or resampler.shape != shape_of(frame):
                    if resampler is not None:
                        yield position, resampler.put(None)
                    resampler = Resampler(frame, rate)
                    position = round(begin * rate)
                wave = resampler.put(frame)
                if len(wave):
                    yield position, wave
                    position += len(wave)
            if resampler is not None:
                yield position, resampler.put(None)

    def _begin(self, frame: AudioFrame, first: bool) -> Fraction:
        """When a frame begins; where the one before ended, if time stamps are near or wrong."""
        if frame.pts is None:
            return self.end
        time_base = frame.time_base or self._stream.time_base or CONTAINER_TICK
        stamp = frame.pts * time_base - self._origin
        begin = stamp + self._shift
        if first:
            return begin
        if abs(begin - self.end) <= JITTER:
            return self.end
        late = self._limit is not None and begin > self._limit
        if late or begin < self.end - BACKWARDS:
            self._shift = self.end - stamp
            return self.end
        return begin

    def _frames(self) -> Iterator[AudioFrame]:
        for packet in self._packets():
            try:
                frames = self._stream.decode(packet)
            except av.EOFError:
                return  # flushed before
            except av.FFmpegError:
                self.undecodable += 1
                if packet is not None and packet.duration and packet.time_base:
                    self.lost += packet.duration * packet.time_base
                continue
            yield from (frame for frame in frames if frame.samples and not frame.is_corrupt)

    def _packets(self) -> Iterator[Packet[AudioStream] | None]:
        """The stream's packets, then None to flush. A file that breaks off ends there."""
        try:
            for packet in packets_of(self._container, self._stream):
                if packet.size:
                    yield cast("Packet[AudioStream]", packet)
        except av.FFmpegError:
            self.undecodable += 1
        yield None
