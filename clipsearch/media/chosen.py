"""The frames that sampling chooses from a video, decoded in the cheapest way that is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice

from clipsearch.errors import MediaError
from clipsearch.media.decode import Decoded, Decoder, VideoPackets
from clipsearch.media.roles import RoleReader, UnsureError, role_reader
from clipsearch.media.sampling import Shown, shown_at_steps
from clipsearch.media.sparse import SparseDecoder

Chosen = tuple[Shown, Decoded]
# Opens a video anew, to be decoded by so many threads; None: as its reader was told.
Reopen = Callable[[int | None], VideoPackets]

PROGRESSIVE = frozenset({0, 1})  # AVFieldOrder: unknown, progressive
# Where almost every frame is wanted, reading ahead brings nothing.
FEWEST_FRAMES_A_STEP = 2


def chosen_frames(
    packets: VideoPackets, reopened: Reopen, step: Fraction, *, keyframes: bool
) -> tuple[Decoded, Iterator[Chosen]]:
    """The first of the frames that are on display at every `step` of a video, and all of them.

    `reopened` opens the file again, for each further way that is tried. Raises MediaError here if
    no frame can be decoded, and while iterating if the frames end too early; ReadingStoppedError.
    """
    chosen = _surely(_ways(packets, reopened, step, keyframes=keyframes))
    item = next(chosen)
    return item[1], chain([item], chosen)


def _surely(ways: Iterable[Iterator[Chosen]]) -> Iterator[Chosen]:
    """What the first way gives and, from where it is not sure any more, the next one."""
    given = 0
    for way in ways:
        try:
            for item in islice(way, given, None):
                yield item
                given += 1
            return
        except UnsureError:
            continue


def _ways(
    packets: VideoPackets, reopened: Reopen, step: Fraction, *, keyframes: bool
) -> Iterator[Iterator[Chosen]]:
    """From the cheapest to the one that is always sure: what FFmpeg makes of damage depends on
    the number of its threads, save where there is but one.
    """
    role_of = None if keyframes else _role_reader(packets, step)
    if role_of is not None:
        yield SparseDecoder(packets, role_of).chosen(step)
        packets = reopened(None)
    if packets.stream.codec_context.thread_count != 1:
        yield plainly(packets, step, keyframes=keyframes, only_intact=True)
        packets = reopened(1)
    yield plainly(packets, step, keyframes=keyframes)


def plainly(
    packets: VideoPackets, step: Fraction, *, keyframes: bool, only_intact: bool = False
) -> Iterator[Chosen]:
    """The same as `chosen_frames` by decoding every frame, or every key frame.

    only_intact: raise UnsureError at any sign of damage.
    """
    decoder = Decoder(packets, keyframes=keyframes, only_intact=only_intact)
    frames = decoder.frames()
    first = next(frames, None)
    if first is None:
        raise MediaError(f"no frame could be decoded{decoder.hint()}")
    everything = chain([first], frames)
    times = ((Shown(decoded.start, decoded.end), decoded) for decoded in everything)
    yield from shown_at_steps(times, step)


def _role_reader(packets: VideoPackets, step: Fraction) -> RoleReader | None:
    """None where everything must be decoded: fields, codecs not known, or frames all wanted."""
    context = packets.stream.codec_context
    if context.field_order not in PROGRESSIVE:
        return None
    if step < FEWEST_FRAMES_A_STEP * packets.timeline.frame:
        return None
    return role_reader(context.codec.canonical_name, context.extradata)
