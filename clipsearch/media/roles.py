"""What a packet of compressed video is to the others, from its own first bytes.

Only what the formats' standards promise is taken for true: ITU-T H.264 and H.265 (NAL unit
types), ISO 13818-2 and 14496-2 (picture types), RFC 6386 (VP8), the VP9 and AV1 bitstream
specifications (frame headers).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple


class UnsureError(Exception):
    """What would come out of a decoder cannot be told without decoding everything."""


class Role(NamedTuple):
    """restarts: no picture that is shown at or after this one needs anything before it.
    spare: no other picture needs this one.
    between: it is shown before the newest picture that is not spare.
    """

    restarts: bool
    spare: bool
    between: bool = False


RoleReader = Callable[[bytes, bool], Role]  # a packet, whether its container calls it a key frame

H264_SLICES, H264_IDR, H264_SETS = frozenset({1, 2, 3, 4, 5}), 5, frozenset({7, 8})
H264_HARMLESS = frozenset({1, 6, 9, 12})  # slices, side information, delimiters, filling
HEVC_LAST_SLICE, HEVC_IDR, HEVC_SETS = 31, frozenset({19, 20}), frozenset({33, 34})
HEVC_HARMLESS = frozenset({*range(0, 16, 2), 35, 38, 39, 40})  # slices "_N" among them
MPEG4_SHORTEST_PICTURE = 16  # bytes; shorter ones may be "not coded", and are not shown

START_CODE = b"\0\0\1"


def role_reader(codec: str, extradata: bytes | None) -> RoleReader | None:
    """For one stream, whose packets must be given in order; None for codecs not known here.

    The reader raises UnsureError for packets that are not one picture.
    """
    known: dict[str, Callable[[bytes], RoleReader]] = {
        "h264": _H264,
        "hevc": _Hevc,
        "mpeg1video": lambda _: _mpeg2,
        "mpeg2video": lambda _: _mpeg2,
        "mpeg4": lambda _: _Mpeg4(),
        "vp8": lambda _: _vp8,
        "vp9": lambda _: _vp9,
        "av1": lambda _: _av1,
        "mjpeg": lambda _: _whole,
        "prores": lambda _: _whole,
        "dnxhd": lambda _: _whole,
    }
    maker = known.get(codec)
    return None if maker is None else maker(extradata or b"")


def _whole(packet: bytes, is_key: bool) -> Role:
    """Codecs whose every picture stands for itself."""
    return Role(restarts=True, spare=True)


class _ParameterSets:
    """A stream that once carried its parameters among the pictures can only be entered where it
    carries all of them again: what was passed over may have changed them.
    """

    def __init__(self, needed: frozenset[int]) -> None:
        self._needed = needed
        self._seen = False

    def complete(self, kinds: set[int], *, restarts: bool) -> bool:
        found = kinds & self._needed
        if found and not restarts:
            raise UnsureError("parameters change between key frames")
        complete = found == self._needed or not (found or self._seen)
        self._seen = self._seen or bool(found)
        return complete


class _H264:
    def __init__(self, extradata: bytes) -> None:
        self._length = (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0
        self._sets = _ParameterSets(H264_SETS)

    def __call__(self, packet: bytes, is_key: bool) -> Role:
        kinds: set[int] = set()
        pictures, referenced = 0, False
        for at in _nal_units(packet, self._length, header=1):
            kind = packet[at] & 31
            kinds.add(kind)
            if kind in H264_SLICES:
                pictures += packet[at + 1] >> 7  # its first macroblock is number 0
                referenced = referenced or packet[at] & 0x60 != 0
        if pictures != 1:
            raise UnsureError("a packet is not one picture")
        restarts = H264_IDR in kinds and is_key
        restarts = self._sets.complete(kinds, restarts=restarts) and restarts
        return Role(restarts, spare=kinds <= H264_HARMLESS and not referenced)


class _Hevc:
    def __init__(self, extradata: bytes) -> None:
        in_units = len(extradata) > 21 and extradata[0] == 1
        self._length = (extradata[21] & 3) + 1 if in_units else 0
        self._sets = _ParameterSets(HEVC_SETS)

    def __call__(self, packet: bytes, is_key: bool) -> Role:
        kinds: set[int] = set()
        pictures = 0
        for at in _nal_units(packet, self._length, header=2):
            if packet[at] & 1 or packet[at + 1] != 1:
                # "_N" does not say then that no picture of another layer refers to it.
                raise UnsureError("several layers")
            kind = packet[at] >> 1 & 63
            kinds.add(kind)
            if kind <= HEVC_LAST_SLICE:
                pictures += packet[at + 2] >> 7  # the first slice of its picture
        if pictures != 1:
            raise UnsureError("a packet is not one picture")
        restarts = bool(HEVC_IDR & kinds) and is_key
        restarts = self._sets.complete(kinds, restarts=restarts) and restarts
        return Role(restarts, spare=kinds <= HEVC_HARMLESS)


def _nal_units(packet: bytes, length_size: int, *, header: int) -> Iterator[int]:
    """Where the header of each unit begins; at least one byte follows a header."""
    end = len(packet)
    if not length_size:
        for match in re.finditer(START_CODE, packet):
            if match.end() + header < end:
                yield match.end()
        return
    at = 0
    while at < end:
        size = int.from_bytes(packet[at : at + length_size], "big")
        at += length_size
        if size <= header or at + size > end:
            raise UnsureError("units do not fill their packet")
        yield at
        at += size


def _mpeg2(packet: bytes, is_key: bool) -> Role:
    at = _only(packet, b"\0\0\1\0")
    picture_type = packet[at + 5] >> 3 & 7
    begins = b"\0\0\1\xb3" in packet  # the sequence header brings all matrices anew
    matrices = re.search(b"\0\0\1\xb5[\x30-\x3f]", packet) is not None
    return Role(
        restarts=picture_type == 1 and is_key and begins,
        spare=picture_type == 3 and not begins and not matrices,
        between=picture_type == 3,
    )


class _Mpeg4:
    def __init__(self) -> None:
        self._layer_seen = False

    def __call__(self, packet: bytes, is_key: bool) -> Role:
        at = _only(packet, b"\0\0\1\xb6")
        if len(packet) < MPEG4_SHORTEST_PICTURE:
            raise UnsureError("a picture that may not be coded")
        picture_type = packet[at + 4] >> 6
        layer = re.search(b"\0\0\1[\x20-\x2f]", packet[:at]) is not None
        if layer and picture_type != 0:
            raise UnsureError("parameters change between key frames")
        restarts = picture_type == 0 and is_key and (layer or not self._layer_seen)
        self._layer_seen = self._layer_seen or layer
        return Role(restarts, spare=picture_type == 2, between=picture_type == 2)


def _only(packet: bytes, code: bytes) -> int:
    """Where the start code of the only picture is."""
    at = packet.find(code)
    if at < 0 or at + 6 > len(packet) or packet.find(code, at + 4) >= 0:
        raise UnsureError("a packet is not one picture")
    return at


def _vp8(packet: bytes, is_key: bool) -> Role:
    if not packet[0] >> 4 & 1:
        raise UnsureError("a picture is not shown")
    return Role(restarts=not packet[0] & 1 and is_key, spare=False)


def _vp9(packet: bytes, is_key: bool) -> Role:
    head, tail = packet[0], packet[-1]
    if head >> 6 != 2 or head & 0x30 == 0x30:
        raise UnsureError("a packet is not one picture")
    existing, between, shown = head >> 3 & 1, head >> 2 & 1, head >> 1 & 1
    index_size = 2 + ((tail >> 3 & 3) + 1) * ((tail & 7) + 1)
    several = tail >> 5 == 6 and packet[-index_size : 1 - index_size or None] == bytes([tail])
    if not (several or existing or shown):
        raise UnsureError("a picture is not shown")
    return Role(restarts=is_key and not existing and not between, spare=False)


AV1_FRAMES = frozenset({3, 6})  # a header alone, a header with its tiles
AV1_SHOWN_KEY_FRAME = 0b0001  # not an existing frame (0), a key frame (00), shown (1)


def _av1(packet: bytes, is_key: bool) -> Role:
    """A temporal unit, which shows one picture. A key frame that is shown at once, as its first
    frame, resets everything.
    """
    at = 0
    while at < len(packet):
        kind, extended, sized = packet[at] >> 3 & 15, packet[at] >> 2 & 1, packet[at] >> 1 & 1
        at += 1 + extended
        size = len(packet) - at
        if sized:
            size, at = _leb128(packet, at)
        if kind in AV1_FRAMES and at < len(packet):
            return Role(restarts=is_key and packet[at] >> 4 == AV1_SHOWN_KEY_FRAME, spare=False)
        at += size
    raise UnsureError("a packet is not one picture")


def _leb128(packet: bytes, at: int) -> tuple[int, int]:
    """The number of variable length there, and where it ends."""
    value = 0
    for index, byte in enumerate(packet[at : at + 8]):
        value |= (byte & 127) << 7 * index
        if not byte & 128:
            return value, at + index + 1
    raise UnsureError("a number is too long")
