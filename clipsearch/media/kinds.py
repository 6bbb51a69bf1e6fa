"""Which files are media, by their suffix."""

from __future__ import annotations

import os.path
from functools import cache
from importlib.util import find_spec

from clipsearch.types import MediaKind

_IMAGES = """
    .jpg .jpeg .jpe .jfif .jif .png .apng .webp .gif .bmp .dib .tif .tiff .jp2 .j2k .jpx .avif
    .ppm .pgm .pbm .pnm .tga .psd .qoi
"""
_VIDEOS = """
    .mp4 .m4v .mov .qt .mkv .webm .avi .divx .mpg .mpeg .mpe .m2v .ts .mts .m2ts .wmv .asf .flv
    .f4v .3gp .3g2 .ogv .vob .mxf .dv
"""
_RAW = ".dng .cr2 .cr3 .nef .nrw .arw .srf .sr2 .raf .orf .rw2 .pef .srw"

SUFFIXES: dict[MediaKind, frozenset[str]] = {
    "image": frozenset(_IMAGES.split()),
    "video": frozenset(_VIDEOS.split()),
}

# Pictures that count only where the library that reads them is installed.
OPTIONAL_IMAGE_SUFFIXES: dict[str, frozenset[str]] = {
    "pillow_heif": frozenset({".heic", ".heif", ".hif"}),
    "rawpy": frozenset(_RAW.split()),
}

# Suffixes that TypeScript sources share with MPEG transport streams.
AMBIGUOUS_SUFFIXES = frozenset({".ts", ".mts"})


def suffix_of(name: str) -> str:
    """The suffix in lower case, with its dot; empty for names like `.mp4` that have none."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - names may be any bytes, not paths


def kind_of(name: str) -> MediaKind | None:
    """The kind of a file of this name, None when it is not media that can be read here."""
    suffix = suffix_of(name)
    for kind, suffixes in SUFFIXES.items():
        if suffix in suffixes:
            return kind
    for library, suffixes in OPTIONAL_IMAGE_SUFFIXES.items():
        if suffix in suffixes and _installed(library):
            return "image"
    return None


def looks_like_transport_stream(head: bytes) -> bool:
    """Whether the first bytes (200 are enough) are MPEG-TS packets of 188 or 192 bytes."""
    return any(head[at : at + 1] == b"G" == head[at + step : at + step + 1] for at, step in _SYNC)


_SYNC = ((0, 188), (4, 192))  # where the sync byte 0x47 stands, and stands again


@cache
def _installed(library: str) -> bool:
    return find_spec(library) is not None
