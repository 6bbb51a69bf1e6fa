"""The frames that sampling chooses from a video, decoded in the cheapest way that is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain, islice

from clipsearch.errors import MediaError
from clipsearch.media.decode import Decoded, Decoder, VideoPackets
from clipsearch.media.roles import RoleReader, UnsureError, role_reader
from clipsearch.media.sampling import Shown, shown_at_steps
from clipsearch.media.sparse import SparseDecoder

Chosen = tuple[Shown, Decoded]

PROGRESSIVE = frozenset({0, 1})  # AVFieldOrder: unknown, progressive
# Where almost every frame is wanted, reading ahead brings nothing.
FEWEST_FRAMES_A_STEP = 2


def chosen_frames(
    reopened: Callable[[], VideoPackets], step: Fraction, *, keyframes: bool
) -> tuple[Decoded, Iterator[Chosen]]:
    """The first frame of a video, and those that are on display at every `step`.

    `reopened` opens the file, for each way that is tried. Raises MediaError here if no frame can
    be decoded, and while iterating if the frames end too early; ReadingStoppedError.
    """
    packets = reopened()
    role_of = None if keyframes else _role_reader(packets, step)
    if role_of is None:
        return plainly(packets, step, keyframes=keyframes)
    sparse = SparseDecoder(packets, role_of).chosen(step)
    try:
        shown, first = next(sparse)
    except UnsureError:
        return plainly(reopened(), step, keyframes=False)
    return first, _resumed(chain([(shown, first)], sparse), reopened, step)


def plainly(
    packets: VideoPackets, step: Fraction, *, keyframes: bool
) -> tuple[Decoded, Iterator[Chosen]]:
    """The same as `chosen_frames` by decoding every frame, or every key frame."""
    decoder = Decoder(packets, keyframes=keyframes)
    frames = decoder.frames()
    first = next(frames, None)
    if first is None:
        raise MediaError(f"no frame could be decoded{decoder.hint()}")
    everything = chain([first], frames)
    times = ((Shown(decoded.start, decoded.end), decoded) for decoded in everything)
    return first, shown_at_steps(times, step)


def _resumed(
    sparse: Iterator[Chosen], reopened: Callable[[], VideoPackets], step: Fraction
) -> Iterator[Chosen]:
    """What is chosen sparsely and, from where that is not sure any more, plainly."""
    given = 0
    try:
        for item in sparse:
            yield item
            given += 1
    except UnsureError:
        _, every = plainly(reopened(), step, keyframes=False)
        yield from islice(every, given, None)


def _role_reader(packets: VideoPackets, step: Fraction) -> RoleReader | None:
    """None where everything must be decoded: fields, codecs not known, or frames all wanted."""
    context = packets.stream.codec_context
    if context.field_order not in PROGRESSIVE:
        return None
    if step < FEWEST_FRAMES_A_STEP * packets.timeline.frame:
        return None
    return role_reader(context.codec.canonical_name, context.extradata)
