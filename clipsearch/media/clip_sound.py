"""The sound of a clip that is encoded anew, cut to the sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from numpy.typing import NDArray

from clipsearch.media.clip_source import Interval, Source
from clipsearch.media.clip_target import Target

OPUS_RATE = 48_000  # the only one that every Opus player takes
AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
JITTER = Fraction(1, 50)  # times of sound differ by less without a gap, from rounding
FORMAT = "fltp"


class SoundEncoding:
    """Takes the packets of one stream of sound and encodes the samples inside the interval.

    Samples keep their times: gaps are filled with silence, what overlaps is cut. More than two
    channels are mixed down to two.
    """

    def __init__(
        self, stream: AudioStream, source: Source, interval: Interval, output: _Output
    ) -> None:
        self._input = stream
        self._origin = source.timeline.origin + interval.start  # the clip's start, in file times
        self._output = output
        self._rate = output.stream.rate
        self._layout = output.stream.layout.name
        self._resampler = AudioResampler(format=FORMAT, layout=self._layout, rate=self._rate)
        self._total = round((interval.end - interval.start) * self._rate)
        self._done = 0  # samples

    @classmethod
    def of(
        cls,
        stream: AudioStream,
        source: Source,
        interval: Interval,
        target: Target,
        output: OutputContainer,
    ) -> SoundEncoding | None:
        """None for sound that cannot be decoded."""
        if cast(object, stream.codec_context) is None or not stream.rate or not stream.channels:
            return None
        encoder = target.form.audio
        rate = stream.rate if encoder == "aac" and stream.rate in AAC_RATES else OPUS_RATE
        layout = "mono" if stream.channels == 1 else "stereo"
        added = output.add_stream(encoder, rate=rate, layout=layout)
        assert isinstance(added, AudioStream)
        if language := stream.metadata.get("language"):
            added.metadata["language"] = language
        return cls(stream, source, interval, _Output(added, target, output))

    def take(self, packet: Packet[Stream] | None) -> bool:
        """Decode a packet, None for what the decoder still has. Damage is skipped."""
        try:
            frames = self._input.decode(cast("Packet[AudioStream] | None", packet))
            for frame in frames:
                self._put_all(self._resampler.resample(frame))
        except (av.FFmpegError, ValueError):  # damage; or the sound changes its shape
            pass
        return self._done < self._total

    def finish(self) -> None:
        """Encode what is left."""
        self.take(None)
        self._put_all(self._resampler.resample(None))
        self._output.put(None)

    def _put_all(self, frames: Sequence[AudioFrame | None]) -> None:
        for frame in frames:
            if frame is not None:
                self._put(frame)

    def _put(self, frame: AudioFrame) -> None:
        """Encode the part of the frame that is inside the interval and not encoded yet."""
        samples = np.asarray(frame.to_ndarray(), np.float32)  # (channels, n)
        position = self._done
        if frame.pts is not None and frame.time_base is not None:
            begin = frame.pts * frame.time_base - self._origin
            position = round(begin * self._rate)
        if self._done and abs(position - self._done) < JITTER * self._rate:
            position = self._done
        if position + samples.shape[1] <= self._done or position >= self._total:
            self._done = self._total if position >= self._total else self._done
            return
        for silence in self._silence(samples.shape[0], position - self._done):
            self._encode(silence)
        self._encode(samples[:, self._done - position :][:, : self._total - self._done])

    def _silence(self, channels: int, count: int) -> Iterator[NDArray[np.float32]]:
        """`count` samples of silence, a second at a time."""
        for begin in range(0, count, self._rate):
            yield np.zeros((channels, min(self._rate, count - begin)), np.float32)

    def _encode(self, samples: NDArray[np.float32]) -> None:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), FORMAT, self._layout)
        frame.sample_rate = self._rate
        frame.pts, frame.time_base = self._done, Fraction(1, self._rate)
        self._done += samples.shape[1]
        self._output.put(frame)


class _Output:
    """One stream of sound of the output."""

    def __init__(self, stream: AudioStream, target: Target, output: OutputContainer) -> None:
        self.stream = stream
        self._target = target
        self._output = output

    def put(self, frame: AudioFrame | None) -> None:
        """Encode a frame, None for what the encoder still has."""
        with self._target.writing():
            for packet in self.stream.encode(frame):
                self._output.mux(packet)


def sound_notes(streams: Sequence[AudioStream], encoded: int) -> tuple[str, ...]:
    """What encoding changes about the sound besides the codec."""
    notes = []
    if encoded < len(streams):
        notes.append(f"{len(streams) - encoded} streams of sound left out: they cannot be decoded")
    if any(cast(object, s.codec_context) is not None and s.channels > 2 for s in streams):
        notes.append("sound of more than two channels mixed down to two")
    return tuple(notes)
