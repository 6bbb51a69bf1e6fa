"""Sound: audio files and the sound tracks of videos as windows of samples, by PyAV.

FFmpeg is the decoder and the resampler. What a file says about priming and padding of its codec
is cut by FFmpeg, so one event has one time in wav, mp3, m4a and mp4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import cast

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from clipsearch.errors import MediaError
from clipsearch.media.files import check_readable
from clipsearch.media.sound import SoundDecoder
from clipsearch.media.sound_windows import Windower
from clipsearch.media.spec import AudioSpec
from clipsearch.media.timeline import (
    CONTAINER_TICK,
    Timeline,
    is_missing,
    packets_end,
    stated_end,
)
from clipsearch.media.video import open_container
from clipsearch.types import MediaInfo, SoundStream, Unit, Wave

# Containers of sound; as for videos, playlists and everything that names other files are refused.
SOUND_FORMATS = (
    "wav,w64,flac,ogg,mp3,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,loas,asf,aiff,caf,au,amr,"
    "amrnb,amrwb,ac3,eac3,dts,dtshd,wv,ape,tta,voc,mpc,mpc8,tak,mpegts,mpeg,avi"
)
# Streams of bare frames, whose length FFmpeg estimates from their first bit rate, if at all.
BARE_FORMATS = frozenset({"mp3", "aac", "loas", "ac3", "eac3", "dts", "dtshd", "amr", "amrnb"})
TRIMMED_FORMATS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2"})  # they say to the sample where to end
# Their streams state no length: FFmpeg fills in the file's for one that begins late.
UNSTATED_FORMATS = frozenset({"matroska,webm", "mpegts", "mpeg"})
UNKNOWN_SIZE = 0x7FFF_0000  # programs that cannot go back to write a file's size write this or more
TRIM_SECONDS = Fraction(1, 10)  # encoders fill up their last frame with less than this


def open_audio(path: Path, spec: AudioSpec) -> SoundStream:
    """The windows of a file's first stream of sound, decoded as they are asked for.

    Time 0 is where players start the file. Memory does not grow with the length. Raises
    MediaError here if the file cannot be read or no sound in it be decoded, and while iterating
    if it is damaged: more than 2 seconds and a tenth of it are missing.
    """
    check_readable(path)
    container = open_container(path, formats=SOUND_FORMATS, what="sound")
    stream = _sound_stream(container)
    if stream is None:
        raise MediaError("holds no sound")
    timeline = _timeline(container, stream)
    if container.format.name == "wav":
        timeline = _promised(path, stream, timeline)
    elif timeline.file_end is None or container.format.name in BARE_FORMATS:
        timeline = _scanned(path, timeline)
    sound = _opened(container, stream, timeline, spec)
    if sound is None:
        raise MediaError("holds no sound")
    return sound


def open_sound_track(path: Path, spec: AudioSpec) -> SoundStream | None:
    """The windows of a video's first stream of sound; None if it has none, or an empty one.

    Times are on the clock of the video's frames: 0 is where players start the file. Raises
    MediaError as `open_audio`; a track that ends before its video is not damaged.
    """
    check_readable(path)
    container = open_container(path)
    stream = _sound_stream(container)
    if stream is None:
        container.close()
        return None
    return _opened(container, stream, _timeline(container, stream), spec)


def _sound_stream(container: InputContainer) -> AudioStream | None:
    """The first whose codec is there."""
    streams = container.streams.audio
    for stream in streams:
        if cast(object, stream.codec_context) is not None:
            return stream
    if streams:
        raise MediaError("the codec of its sound is not supported")
    return None


def _timeline(container: InputContainer, stream: AudioStream) -> Timeline:
    """From the header. Without moving pictures, the file ends with its sound."""
    origin = (container.start_time or 0) * CONTAINER_TICK
    end = stated_end(stream, origin, trusted=container.format.name not in UNSTATED_FORMATS)
    file_end = None if container.duration is None else container.duration * CONTAINER_TICK
    pictures = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    if end is None and next(pictures, None) is None:
        end = file_end
    return Timeline(origin, end, end or file_end, Fraction(0))


def _promised(path: Path, stream: AudioStream, timeline: Timeline) -> Timeline:
    """With the end of a wav file by its header: FFmpeg tells what was left when it was cut off."""
    with path.open("rb") as file:
        head = file.read(8)
    promised = 8 + int.from_bytes(head[4:8], "little")
    bit_rate = stream.codec_context.bit_rate
    if head[:4] != b"RIFF" or promised >= UNKNOWN_SIZE or not bit_rate or not timeline.video_end:
        return timeline
    lacking = Fraction(8 * max(0, promised - path.stat().st_size), bit_rate)
    end = timeline.video_end + lacking
    return replace(timeline, video_end=end, file_end=end)


def _scanned(path: Path, timeline: Timeline) -> Timeline:
    """With the end that the packets tell, by reading through the file once.

    Except where the header promises more than the file has bytes for: then it was cut off.
    """
    with open_container(path, formats=SOUND_FORMATS, what="sound") as container:
        stream = _sound_stream(container)
        assert stream is not None
        bit_rate = stream.codec_context.bit_rate
        held = Fraction(8 * path.stat().st_size, bit_rate) if bit_rate else None
        if held and timeline.video_end and is_missing(held, timeline.video_end):
            return timeline
        end = packets_end(container, stream)
    end = None if end is None else max(Fraction(0), end - timeline.origin)
    if end and timeline.video_end and 0 <= end - timeline.video_end < TRIM_SECONDS:
        return timeline  # the header knows about the encoder's padding
    return Timeline(timeline.origin, end, end, Fraction(0))


def _opened(
    container: InputContainer, stream: AudioStream, timeline: Timeline, spec: AudioSpec
) -> SoundStream | None:
    """None if there is not a single packet."""
    trimmed = timeline.video_end if container.format.name in TRIMMED_FORMATS else None
    decoder = SoundDecoder(container, stream, timeline.origin, timeline.file_end)
    waves = decoder.waves(spec.rate)
    first = next(waves, None)
    if first is None and decoder.undecodable:
        raise MediaError(f"no sound could be decoded ({decoder.undecodable} packets undecodable)")
    if first is None:
        return None
    duration = timeline.file_end or decoder.end
    placed = _trimmed(chain([first], waves), trimmed, spec.rate)
    units = _units(placed, decoder, timeline, spec)
    return SoundStream(MediaInfo(0, 0, float(duration)), units)


def _trimmed(
    waves: Iterator[tuple[int, Wave]], end: Fraction | None, rate: int
) -> Iterator[tuple[int, Wave]]:
    """Without the samples that fill up the encoder's last frame after `end`."""
    if end is None:
        yield from waves
        return
    last, spared = round(end * rate), round((end + TRIM_SECONDS) * rate)
    for position, wave in waves:
        if position < spared:
            yield position, wave[: max(0, last - position)]
        if position + len(wave) > spared:  # the file goes on: its header was wrong
            cut = max(0, spared - position)
            yield position + cut, wave[cut:]


def _units(
    waves: Iterator[tuple[int, Wave]], decoder: SoundDecoder, timeline: Timeline, spec: AudioSpec
) -> Iterator[tuple[Unit, Wave]]:
    """Raises MediaError at the end if too much was missing."""
    windower = Windower(spec)
    for position, wave in waves:
        ahead = position - windower.end
        if ahead > 0 and len(wave):
            yield from windower.silence(ahead)
        yield from windower.put(wave[max(0, -ahead) :])
    yield from windower.finish()
    if not windower.end:
        raise MediaError("holds no sound")
    whole = max(timeline.video_end or Fraction(0), decoder.end)
    decoded = min(decoder.end, whole - decoder.lost)
    replace(timeline, video_end=whole).check_complete(decoded, whole, decoder.undecodable)
