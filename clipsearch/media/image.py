"""Pictures: everything that Pillow opens, HEIC and camera raw where their libraries are there."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

from clipsearch.errors import MediaError
from clipsearch.media.files import check_readable, media_error, short_reason
from clipsearch.media.kinds import OPTIONAL_IMAGE_SUFFIXES, suffix_of
from clipsearch.media.spec import ReadSpec
from clipsearch.types import MediaInfo, MediaStream, Pixels, Unit

ORIENTATION_TAG = 0x0112
TRANSPOSED_ORIENTATIONS = frozenset({5, 6, 7, 8})  # those that swap width and height
UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# EPS runs Ghostscript, a program, on the file. No suffix of ours asks for it.
REFUSED_FORMATS = frozenset({"EPS"})
DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
# Whose values depend on the whole picture, or whose conversion takes long to prepare.
WHOLE_MODES = frozenset({"I", "F", "LAB"})
BAND_PIXELS = 1 << 20  # converted at a time
# What Pillow and its plugins raise for bad files, besides OSError.
BAD_FILE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,  # where the application turned warnings into errors
    struct.error,
)


def open_image(path: Path, spec: ReadSpec) -> MediaStream:
    """One picture as one unit: upright, on white where transparent, first frame if animated.

    Decoded here, not when iterated: the unit is small and the file is closed on return. Raises
    MediaError if the file cannot be read, is damaged or has too many pixels. A picture that
    does not fit into memory raises MemoryError: that is the machine's trouble.
    """
    check_readable(path)
    read = _read_raw if suffix_of(path.name) in OPTIONAL_IMAGE_SUFFIXES["rawpy"] else _read
    try:
        with path.open("rb") as file:
            info, pixels = read(file, spec)
    except OSError as error:
        raise media_error(error) from error
    except BAD_FILE_ERRORS as error:
        raise MediaError(f"damaged picture: {short_reason(error)}") from error
    return MediaStream(info, _one(pixels))


def _one(pixels: Pixels) -> Iterator[tuple[Unit, Pixels]]:
    yield Unit("image"), pixels


def _read(file: IO[bytes], spec: ReadSpec) -> tuple[MediaInfo, Pixels]:
    with _open(file) as picture:
        width, height = picture.size
        _check_megapixels(width, height, spec)
        # JPEG only: decode at 1/2, 1/4 or 1/8, both sides keeping at least short_side.
        drafted = picture.draft(None, (spec.short_side, spec.short_side)) is not None
        picture.load()
        if not drafted:
            width, height = picture.size  # TIFF turns upright while it loads
        orientation = _orientation(picture)
        small = _small(picture, spec.short_side)
    if orientation in TRANSPOSED_ORIENTATIONS:
        width, height = height, width
    if orientation != 1:
        small = small.transpose(UPRIGHT_BY[orientation])
    return MediaInfo(width, height), np.array(_on_white(small))


def _open(file: IO[bytes]) -> ImageFile.ImageFile:
    """What Image.open does, from its registry, less its check of the number of pixels.

    That check warns or raises by limits that only a global can change, for every thread of an
    application; ours follows, from the header too. HEIF is tried without being registered.
    """
    head = file.read(16)
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        for name in Image.ID:
            factory, accept = Image.OPEN[name]
            if name in REFUSED_FORMATS or (accept and not _accepted(accept, head)):
                continue
            picture = _try_plugin(factory, file)
            if picture is not None:
                return picture
    picture = _open_heif(file) if head[4:8] == b"ftyp" else None
    if picture is None:
        raise MediaError("not a picture in a format that can be read here")
    return picture


def _accepted(accept: Callable[[bytes], bool | str], head: bytes) -> bool:
    try:
        verdict = accept(head)
        return bool(verdict) and not isinstance(verdict, str)  # text says why it cannot read it
    except (IndexError, TypeError, struct.error):  # a head too short to look at
        return False


def _try_plugin(
    factory: Callable[[IO[bytes], str], ImageFile.ImageFile], file: IO[bytes]
) -> ImageFile.ImageFile | None:
    file.seek(0)
    try:
        return factory(file, "")
    except (SyntaxError, IndexError, TypeError, struct.error):
        return None  # how plugins say "not mine"


def _open_heif(file: IO[bytes]) -> ImageFile.ImageFile | None:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        return None
    return _try_plugin(HeifImageFile, file)


def _check_megapixels(width: int, height: int, spec: ReadSpec) -> None:
    megapixels = width * height / 1e6
    if megapixels > spec.max_image_megapixels:
        raise MediaError(
            f"{width}x{height} is {megapixels:.0f} megapixels, more than the allowed"
            f" {spec.max_image_megapixels:g}"
        )


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) also when the EXIF data are broken."""
    try:
        orientation = picture.getexif().get(ORIENTATION_TAG, 1)
    except (OSError, *BAD_FILE_ERRORS):
        return 1
    return orientation if orientation in range(1, 9) else 1


def _small(picture: Image.Image, short_side: int) -> Image.Image:
    """The picture by `_to_8_bit`, shrunk: where that makes copies, one band after another.

    A band has as many rows as become whole rows of the result, so the pixels are the same.
    """
    width, height = picture.size
    factor = min(width, height) // short_side
    plain = picture.mode in ("L", "RGB") and not picture.has_transparency_data
    if factor < 2 or plain or picture.mode in WHOLE_MODES:
        return _shrink(_to_8_bit(picture), short_side)
    rows = max(1, BAND_PIXELS // (width * factor)) * factor
    small: Image.Image | None = None
    for top in range(0, height, rows):
        band = picture.crop((0, top, width, min(top + rows, height)))
        reduced = _to_8_bit(band).reduce(factor)
        if small is None:
            small = Image.new(reduced.mode, (reduced.width, -(-height // factor)))
        small.paste(reduced, (0, top // factor))
    assert small is not None, "a picture has rows"
    return small


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """The picture as L, RGB, LA or RGBA, with the values that a viewer would show."""
    mode = picture.mode
    if mode in DEEP_MODES:
        return Image.fromarray(_scale_to_8_bit(np.asarray(picture), mode))
    if picture.has_transparency_data:
        return picture if mode in ("LA", "RGBA") else picture.convert("RGBA")
    if mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    return picture if mode in ("L", "RGB") else picture.convert("L" if mode == "1" else "RGB")


def _scale_to_8_bit(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    """Deep gray, (h, w), to 8 bits by the range of its type, or its own where that is not known.

    `I;16…` is 16 bits. `I` and `F` are taken as 0..1 (F only), 0..255 or 0..65535, the first
    that holds all values, otherwise as stretching from the darkest to the brightest value.
    """
    if mode.startswith("I;16"):
        return (values >> 8).astype(np.uint8)
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    limits = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
    limit = next((limit for limit in limits if high <= limit), None) if low >= 0 else None
    if limit is None:
        finite, limit = finite - low, max(high - low, 1e-12)
    return np.rint(finite * (255.0 / limit)).astype(np.uint8)


def _shrink(picture: Image.Image, short_side: int) -> Image.Image:
    """Reduced by a whole factor, as far as the shorter side stays at least `short_side`."""
    factor = min(picture.size) // short_side
    return picture.reduce(factor) if factor > 1 else picture


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in ("LA", "RGBA"):
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _read_raw(file: IO[bytes], spec: ReadSpec) -> tuple[MediaInfo, Pixels]:
    """A camera's raw file by LibRaw, turned upright by it; at half size where that is enough."""
    try:
        import rawpy
    except ImportError as error:
        raise MediaError("camera raw: install rawpy to read it") from error
    try:
        with rawpy.imread(file) as raw:
            width, height = raw.sizes.width, raw.sizes.height
            _check_megapixels(width, height, spec)
            half = min(width, height) // 2 >= spec.short_side
            pixels = raw.postprocess(use_camera_wb=True, output_bps=8, half_size=half)
    except rawpy.LibRawError as error:
        raise MediaError(f"damaged camera raw file: {short_reason(error)}") from error
    if (pixels.shape[0] > pixels.shape[1]) != (height > width):
        width, height = height, width
    small = _shrink(Image.fromarray(pixels), spec.short_side)
    return MediaInfo(width, height), np.array(small)
