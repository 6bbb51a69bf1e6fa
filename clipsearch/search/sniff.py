"""Media without a name: pictures, sounds and videos by their first bytes."""

from __future__ import annotations

import re
from typing import NamedTuple

from clipsearch.types import MediaKind

HEAD_BYTES = 512


class Content(NamedTuple):
    """What bytes are, and the suffix of a file of them."""

    kind: MediaKind
    suffix: str


# First bytes, as the formats' definitions give them; the first that matches counts.
_SIGNATURES: tuple[tuple[bytes, Content], ...] = (
    (rb"\xff\xd8\xff", Content("image", ".jpg")),
    (rb"\x89PNG\r\n\x1a\n", Content("image", ".png")),
    (rb"GIF8[79]a", Content("image", ".gif")),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", Content("image", ".bmp")),
    (rb"II[*+]\0|MM\0[*+]", Content("image", ".tif")),
    (rb"RIFF.{4}WEBP", Content("image", ".webp")),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", Content("image", ".jp2")),
    (rb"8BPS\0\x01", Content("image", ".psd")),
    (rb"qoif", Content("image", ".qoi")),
    (rb"P[1-6]\s+(?:#|\d+\s+[\d#])", Content("image", ".ppm")),
    (rb"\0.{3}ftypavi[fs]", Content("image", ".avif")),
    (rb"\0.{3}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", Content("image", ".heic")),
    (rb"\0.{3}ftyp(?:M4A |M4B )", Content("audio", ".m4a")),
    (rb"\0.{3}(?:ftyp|moov|mdat|wide)", Content("video", ".mp4")),
    (rb"\x1a\x45\xdf\xa3", Content("video", ".mkv")),
    (rb"RIFF.{4}AVI ", Content("video", ".avi")),
    (rb"FLV\x01", Content("video", ".flv")),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Content("video", ".wmv")),
    (rb"\0\0\x01[\xba\xb3]", Content("video", ".mpg")),
    (rb"G.{187}G.{187}G", Content("video", ".ts")),
    (rb"RIFF.{4}WAVE|RF64.{4}WAVE", Content("audio", ".wav")),
    (rb"fLaC", Content("audio", ".flac")),
    (rb"OggS.{24,}?(?:\x80theora|\x01video)", Content("video", ".ogv")),
    (rb"OggS", Content("audio", ".ogg")),
    (rb"FORM.{4}AIF[FC]", Content("audio", ".aiff")),
    (rb"\.snd", Content("audio", ".au")),
    (rb"caff\0", Content("audio", ".caf")),
    (rb"wvpk", Content("audio", ".wv")),
    (rb"#!AMR", Content("audio", ".amr")),
    (rb"ID3[\x02-\x04]|\xff[\xe2\xe3\xf2-\xf7\xfa\xfb]", Content("audio", ".mp3")),
    (rb"\xff[\xf0\xf1\xf8\xf9]", Content("audio", ".aac")),
)


def content_of(head: bytes) -> Content | None:
    """What a file is that begins with `head`, of which HEAD_BYTES are enough; None: not known."""
    for signature, content in _SIGNATURES:
        if re.match(signature, head, re.DOTALL):
            return content
    return None
