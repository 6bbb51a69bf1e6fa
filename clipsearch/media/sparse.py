"""Decoding no more of a video than sampling needs: the same frames as by decoding everything.

A few packets are read ahead. By their times the order of presentation is known, and with it which
pictures will be on display at a sampled time. Of the others, those to which no picture refers are
not decoded, nor is what lies between the last wanted picture of a group and the next place where
decoding can begin anew. A decoder that is given a stream without these shows the others
unchanged, and each of them is awaited: at the first that comes otherwise than foretold, and at any
sign of damage, `UnsureError` is raised, and the plain way must tell.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from clipsearch.errors import MediaError
from clipsearch.media.decode import Decoded, VideoPackets
from clipsearch.media.roles import Role, RoleReader, UnsureError
from clipsearch.media.sampling import Shown, shown_at_steps

# The first packets are decoded in any case: whether this stream's packets are pictures one by one,
# in the order of their times, shows there.
TRIAL_PACKETS = 32
# A decoder holds back 16 pictures at most. Time stamps that turn out to be wrong are noticed
# before anything that they could have changed is handed out.
MARGIN_PACKETS = 17
# What is read ahead at most, where sampled times lie far apart.
MOST_BYTES_AHEAD = 8 << 20
MOST_PACKETS_AHEAD = 1000
# However heavy: of so many, half are decided. The others would be decoded, and their frames held.
FEW_PACKETS_AHEAD = 2 * MARGIN_PACKETS
PACKETS_BETWEEN_DROPS = 64

BEFORE_ALL = -(1 << 63)  # a time stamp


@dataclass(slots=True, eq=False)
class _Picture:
    """A packet. order: of decoding, number: of presentation; both from 0."""

    packet: Packet[VideoStream]
    pts: int
    order: int
    role: Role
    number: int = -1
    shown: Shown | None = None  # once it is known to be wanted


class SparseDecoder:
    """Decodes what sampling chooses of one stream, once, and closes its container at the end."""

    def __init__(self, packets: VideoPackets, role_of: RoleReader) -> None:
        self._packets = packets
        self._stream = packets.stream
        self._timeline = packets.timeline
        self._role_of = role_of
        self._ahead: deque[_Picture] = deque()  # in decoding order
        self._bytes_ahead = 0
        self._decided = BEFORE_ALL  # which pictures of earlier time stamps are wanted is known
        self._expected: list[tuple[int, int, _Picture]] = []  # a heap by time stamp
        self._ready: deque[tuple[_Picture, VideoFrame]] = deque()
        self._time_base: Fraction | None = None
        self._end = Fraction(0)
        self._size: tuple[int, int] | None = None

    def chosen(self, step: Fraction) -> Iterator[tuple[Shown, Decoded]]:
        """What `shown_at_steps` chooses from all frames. Raises UnsureError at any time, and
        ReadingStoppedError.
        """
        with self._packets.container:
            for shown, picture in shown_at_steps(self._pictures(), step):
                picture.shown = shown
                self._decided = max(self._decided, picture.pts + 1)
                if self._ahead and picture.order >= self._ahead[0].order:
                    self._decode(self._take(picture.order - self._ahead[0].order + 1))
                yield from self._decoded()
            self._decode(self._take(len(self._ahead)))
            self._receive(None)
            yield from self._decoded()
            if self._expected or self._decided == BEFORE_ALL:
                raise UnsureError("fewer frames than packets")

    def _pictures(self) -> Iterator[tuple[Shown, _Picture]]:
        """All pictures in the order of presentation, each as soon as no other can precede it."""
        waiting: list[tuple[int, int, _Picture]] = []  # a heap by time stamp
        bounds: deque[int] = deque()
        latest, number = BEFORE_ALL, 0
        for picture in self._admitted():
            if picture.pts < latest:
                raise UnsureError("a picture is shown before it is decoded")
            if picture.packet.dts is not None:
                latest = max(latest, picture.packet.dts)
            bounds.append(latest)
            heapq.heappush(waiting, (picture.pts, picture.order, picture))
            bound = bounds.popleft() if len(bounds) > MARGIN_PACKETS else BEFORE_ALL
            while waiting and waiting[0][0] <= bound:
                yield self._presented(heapq.heappop(waiting)[2], number)
                number += 1
            self._relieve()
        self._check_packets_end(waiting)
        for picture in islice(reversed(self._ahead), MARGIN_PACKETS):
            picture.role = picture.role._replace(spare=False)  # a file's end is where damage is
        while waiting:
            yield self._presented(heapq.heappop(waiting)[2], number)
            number += 1

    def _admitted(self) -> Iterator[_Picture]:
        anchor = BEFORE_ALL
        for order, packet in enumerate(self._packets):
            if packet is None:
                break
            odd = packet.is_corrupt or packet.is_discard or packet.has_sidedata("new_extradata")
            self._time_base = self._time_base or packet.time_base
            if odd or packet.pts is None or self._time_base is None:
                raise UnsureError("a packet is damaged, not shown, without a time or of new kind")
            role = self._role_of(bytes(packet), packet.is_keyframe)
            if role.between and packet.pts > anchor:
                raise UnsureError("a packet is missing")  # decoders show these in another order
            anchor = anchor if role.spare else max(anchor, packet.pts)
            picture = _Picture(packet, packet.pts, order, role)
            self._ahead.append(picture)
            self._bytes_ahead += packet.size
            yield picture

    def _presented(self, picture: _Picture, number: int) -> tuple[Shown, _Picture]:
        shown = self._shown(picture)
        if shown.time < 0 or (number and picture.pts <= self._decided):
            # The plain way moves the one to 0, and may distrust the time stamps of the other.
            raise UnsureError("a picture before time 0, or two of the same time")
        self._end = max(self._end, shown.end)
        self._decided = picture.pts
        picture.number = number
        return shown, picture

    def _shown(self, picture: _Picture) -> Shown:
        time_base = self._time_base
        assert time_base is not None, "looked at on admission"
        start = self._timeline.seconds(picture.pts, time_base)
        duration = picture.packet.duration
        return Shown(start, start + (duration * time_base if duration else self._timeline.frame))

    def _take(self, count: int) -> list[_Picture]:
        """The next `count` in decoding order, less those that nothing needs."""
        taken = [self._ahead.popleft() for _ in range(count)]
        self._bytes_ahead -= sum(picture.packet.size for picture in taken)
        begin = self._newest_restart(taken)
        begins_at = taken[begin].pts if begin is not None else BEFORE_ALL
        return [
            picture
            for index, picture in enumerate(taken)
            if picture.order < TRIAL_PACKETS
            or picture.shown
            or picture.pts >= self._decided
            or (index >= (begin or 0) and picture.pts >= begins_at and not picture.role.spare)
        ]

    def _newest_restart(self, pictures: Iterable[_Picture]) -> int | None:
        """Where decoding can begin for all pictures that may be wanted from now on."""
        newest, highest = None, BEFORE_ALL
        for index, picture in enumerate(pictures):
            if picture.role.restarts and highest < picture.pts < self._decided:
                newest = index
            highest = max(highest, picture.pts)
        return newest

    def _relieve(self) -> None:
        """Hold less, where much was read without a wanted picture; and begin with the trial."""
        if self._ahead and self._ahead[-1].order == TRIAL_PACKETS - 1:
            self._decode(self._take(len(self._ahead)))
        if len(self._ahead) % PACKETS_BETWEEN_DROPS == 0 or self._is_much():
            for _ in range(self._newest_restart(self._ahead) or 0):
                self._bytes_ahead -= self._ahead.popleft().packet.size
        while self._is_much():
            self._decode(self._take((len(self._ahead) + 1) // 2))
        while self._ready and self._ready[0][0].pts < self._decided and not self._ready[0][0].shown:
            self._ready.popleft()

    def _is_much(self) -> bool:
        many, heavy = len(self._ahead) > FEW_PACKETS_AHEAD, self._bytes_ahead > MOST_BYTES_AHEAD
        return len(self._ahead) > MOST_PACKETS_AHEAD or (many and heavy)

    def _decode(self, pictures: list[_Picture]) -> None:
        for picture in pictures:
            heapq.heappush(self._expected, (picture.pts, picture.order, picture))
            self._receive(picture.packet)

    def _receive(self, packet: Packet[VideoStream] | None) -> None:
        """Give the decoder a packet, or None for the end, and take what comes out."""
        try:
            frames = self._stream.decode(packet)
        except av.FFmpegError as error:
            raise UnsureError("a packet is undecodable") from error
        for frame in frames:
            if not self._expected:
                raise UnsureError("more frames than packets")
            _, _, picture = heapq.heappop(self._expected)
            same = frame.pts == picture.pts and frame.duration == (picture.packet.duration or 0)
            if not same or frame.is_corrupt or frame.interlaced_frame:
                raise UnsureError("not the frame that was foretold, or damaged, or of two fields")
            self._size = self._size or (frame.width, frame.height)
            if self._size != (frame.width, frame.height):
                raise UnsureError("frames of several sizes")
            if picture.shown or picture.pts >= self._decided:
                self._ready.append((picture, frame))

    def _decoded(self) -> Iterator[tuple[Shown, Decoded]]:
        while self._ready and self._ready[0][0].pts < self._decided:
            picture, frame = self._ready.popleft()
            if picture.shown:
                start, end = picture.shown
                yield picture.shown, Decoded(frame, start, end, picture.number)

    def _check_packets_end(self, last: list[tuple[int, int, _Picture]]) -> None:
        """Whether the file goes on as long as it says, before its last pictures are given out."""
        if self._packets.undecodable:
            raise UnsureError("the file breaks off")
        end = max([self._end, *(self._shown(picture).end for _, _, picture in last)])
        try:
            self._timeline.check_complete(end, self._packets.read_end(), 0)
        except MediaError as error:
            raise UnsureError("the file ends early") from error
