"""Which files are media, by their suffix, and which belong together, by their stem."""

from __future__ import annotations

import os.path
import posixpath
import re
from collections.abc import Callable
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
_AUDIO = """
    .wav .wave .rf64 .w64 .flac .ogg .oga .opus .spx .mp3 .mp2 .mpga .m4a .m4b .m4r .aac .wma .aif
    .aiff .aifc .caf .au .snd .amr .ac3 .eac3 .dts .dtshd .mka .weba .wv .ape .tta .tak .voc .mpc
"""
_RAW = ".dng .cr2 .cr3 .nef .nrw .arw .srf .sr2 .raf .orf .rw2 .pef .srw"

SUFFIXES: dict[MediaKind, frozenset[str]] = {
    "image": frozenset(_IMAGES.split()),
    "video": frozenset(_VIDEOS.split()),
    "audio": frozenset(_AUDIO.split()),
    "subtitles": frozenset({".srt", ".vtt"}),
}

# Pictures that count only where the library that reads them is installed.
OPTIONAL_IMAGE_SUFFIXES: dict[str, frozenset[str]] = {
    "pillow_heif": frozenset({".heic", ".heif", ".hif"}),
    "rawpy": frozenset(_RAW.split()),
}

# What stands between the stem of a film and the suffix of its subtitles: languages, `forced` …
_SUBTITLE_TAG = re.compile(
    r"[a-z]{2,3}([-_][a-z0-9]{2,8})*|forced|sdh|hi|cc|default|full|signs|commentary|\d{1,2}",
    re.IGNORECASE,
)


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


def looks_like_dts(head: bytes) -> bool:
    """Whether the first bytes may be sound in DTS: they are no text."""
    return b"\0" in head or bool(re.search(rb"[\x80-\xff]", head))


_SYNC = ((0, 188), (4, 192))  # where the sync byte 0x47 stands, and stands again

# Suffixes that media share with sources: TypeScript, and the device trees of Linux.
AMBIGUOUS_SUFFIXES: dict[str, Callable[[bytes], bool]] = {
    ".ts": looks_like_transport_stream,
    ".mts": looks_like_transport_stream,
    ".dts": looks_like_dts,
}


def subtitle_stems(relative: str) -> tuple[str, ...]:
    """The stems of the media that subtitles of this name may belong to, the likeliest first.

    `a/film.en.srt` may belong to `a/film.en` and to `a/film`; a medium's own suffix may stand in
    its place too, as in `film.mp4.srt`.
    """
    stem = relative[: len(relative) - len(suffix_of(posixpath.basename(relative)))]
    stems = [stem]
    while (tag := suffix_of(posixpath.basename(stem))) and (
        _SUBTITLE_TAG.fullmatch(tag[1:]) or kind_of(f"x{tag}") in ("video", "audio")
    ):
        stem = stem[: -len(tag)]
        stems.append(stem)
    return tuple(stems)


@cache
def _installed(library: str) -> bool:
    return find_spec(library) is not None
