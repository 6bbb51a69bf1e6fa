"""Videos: the frames that sampling chooses, at their exact presentation times, by PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from clipsearch.errors import MediaError, NoPictureError
from clipsearch.media.chosen import Chosen, chosen_frames
from clipsearch.media.decode import VideoPackets
from clipsearch.media.distinct import THUMBNAIL_SIDE, Sample, all_samples, distinct
from clipsearch.media.files import check_readable, media_error, short_reason
from clipsearch.media.pixels import Geometry
from clipsearch.media.sampling import SamplingSpec, uniform_step
from clipsearch.media.spec import ReadSpec
from clipsearch.media.timeline import Timeline, packets_end
from clipsearch.types import MediaInfo, MediaStream, Pixels, Stop, Unit

# Containers of videos. FFmpeg guesses the format from the content: playlists, which make it open
# other files and addresses, subtitles and pictures must not pass for videos.
CONTAINER_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegtsraw,mpegvideo,asf,asf_o,flv,"
    "live_flv,ogg,mxf,dv,h264,hevc,m4v,ivf,rm,nut,wtv"
)

# Where a stream does not say how far its pictures are reordered, take what its level allows.
# FFmpeg's guess from the pictures so far loses some whenever it turns out to be too low.
WHOLE_REORDERING = {"strict": "strict"}


def open_video(path: Path, spec: ReadSpec, *, stop: Stop | None = None) -> MediaStream:
    """The chosen frames of a video's first stream as units, decoded as they are asked for.

    A unit ends where the next frame that differs is shown, the last one with the video, so
    units come one step late. Memory does not grow with the length. Raises MediaError here if
    the file cannot be read or has no decodable frame, and while iterating if it is damaged:
    its frames end well before the stated duration.
    """
    check_readable(path)
    packets = _open_packets(path, spec, stop)
    timeline = packets.timeline
    geometry = Geometry.of(packets.stream, spec)

    def reopened(threads: int | None) -> VideoPackets:
        given = spec if threads is None else replace(spec, decoder_threads=threads)
        return _open_packets(path, given, stop)

    keyframes = spec.sampling.method == "keyframes"
    step = _step(timeline, spec.sampling)
    first, chosen = chosen_frames(packets, reopened, step, keyframes=keyframes)
    ends = [end for end in (timeline.file_end, timeline.video_end) if end is not None]
    duration = max(ends, default=first.end)
    geometry = geometry.upright(first.frame)
    info = MediaInfo(geometry.width, geometry.height, float(duration))
    return MediaStream(info, _units(chosen, geometry, timeline, spec.sampling))


def _open_packets(path: Path, spec: ReadSpec, stop: Stop | None) -> VideoPackets:
    container = open_container(path)
    stream = video_stream(container)
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = spec.decoder_threads
    if stream.codec_context.name == "h264":
        stream.codec_context.options = {**stream.codec_context.options, **WHOLE_REORDERING}
    timeline = _timeline(path, container, stream, spec.sampling, stop)
    return VideoPackets(container, stream, timeline, stop)


def open_container(
    path: Path, *, formats: str = CONTAINER_FORMATS, what: str = "a video"
) -> InputContainer:
    """Local files only: a file must not make FFmpeg open another address.

    formats: names of FFmpeg's demuxers, separated by commas. what: it should be, for messages.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": formats}
    try:
        return av.open(
            f"file:{os.fspath(path)}",
            mode="r",
            container_options=options,
            metadata_errors="replace",
        )
    except av.FFmpegError as error:
        raise decode_error(error, what) from error
    except (ValueError, LookupError) as error:
        raise MediaError(short_reason(error)) from error


def decode_error(error: av.FFmpegError, what: str = "a video") -> MediaError:
    """FFmpeg's reason without the path that its message carries."""
    if isinstance(error, av.InvalidDataError | av.EOFError | av.ArgumentError):
        return MediaError(f"not {what}, or damaged beyond reading")
    if isinstance(error, OSError):
        return media_error(error)
    return MediaError((error.strerror or type(error).__name__).lower())


def video_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is not an embedded cover picture.

    Raises NoPictureError if there is none but sound, MediaError if there is neither.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if cast(object, stream.codec_context) is None:
                raise MediaError("its video codec is not supported")
            return stream
    raise (NoPictureError if container.streams.audio else MediaError)("no video stream")


def _timeline(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    sampling: SamplingSpec,
    stop: Stop | None,
) -> Timeline:
    """From the header; where it lacks what is needed, from reading through the file once."""
    timeline = Timeline.of(container, stream)
    unknown = timeline.file_end is None or sampling.method == "uniform"
    if timeline.video_end is None and unknown:
        with open_container(path) as scanned:
            end = packets_end(scanned, video_stream(scanned), stop)
        if end is not None:
            return replace(timeline, video_end=end - timeline.origin)
    return timeline


def _units(
    chosen: Iterator[Chosen], geometry: Geometry, timeline: Timeline, sampling: SamplingSpec
) -> Iterator[tuple[Unit, Pixels]]:
    samples = (
        Sample(shown.time, shown.end, geometry.gray(decoded.frame, THUMBNAIL_SIDE), decoded)
        for shown, decoded in chosen
    )
    until = timeline.file_end or timeline.video_end or Fraction(0)
    keep = all_samples if sampling.keep_all_frames else distinct
    for kept in keep(samples, until=until):
        number = None if sampling.method == "keyframes" else kept.item.number
        unit = Unit("frame", float(kept.start), float(kept.end), number)
        yield unit, geometry.pixels(kept.item.frame)


def _step(timeline: Timeline, sampling: SamplingSpec) -> Fraction:
    if sampling.method == "uniform" and sampling.count is not None:
        end = timeline.video_end or timeline.file_end or Fraction(0)
        return uniform_step(sampling.count, end)
    return 1 / Fraction(repr(float(sampling.fps)))  # 0.1 is a tenth, not the nearest binary
