import io
import struct
import sys
import threading
import types
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from clipsearch.errors import MediaError, UsageError
from clipsearch.media import ReadSpec, open_media
from clipsearch.types import MediaInfo, Pixels, Unit

RED, GREEN, BLUE = (220, 20, 30), (20, 200, 40), (30, 40, 210)


def read(path: Path, short_side: int = 64, **limits: float) -> tuple[MediaInfo, Pixels]:
    stream = open_media(path, ReadSpec(short_side, **limits), kind="image")
    ((unit, pixels),) = list(stream.units)
    assert unit == Unit("image")
    return stream.info, pixels


def corners(width: int = 120, height: int = 80) -> Image.Image:
    """Red, green / blue, white quadrants."""
    picture = Image.new("RGB", (width, height), "white")
    picture.paste(RED, (0, 0, width // 2, height // 2))
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    return picture


def quadrants(pixels: Pixels) -> list[tuple[int, ...]]:
    height, width = pixels.shape[:2]
    spots = [(height // 4, width // 4), (height // 4, width * 3 // 4)]
    spots += [(height * 3 // 4, width // 4), (height * 3 // 4, width * 3 // 4)]
    return [tuple(int(value) for value in pixels[spot]) for spot in spots]


def close(found: list[tuple[int, ...]], wanted: list[tuple[int, ...]], tolerance: int = 6) -> bool:
    return bool(np.abs(np.array(found) - np.array(wanted)).max() <= tolerance)


CORNERS = [RED, GREEN, BLUE, (255, 255, 255)]


FORMATS = ("png", "jpg", "webp", "bmp", "tif", "gif", "jp2", "avif", "ppm", "tga", "qoi", "jfif")


@pytest.mark.parametrize("name", [f"a.{suffix}" for suffix in FORMATS])
def test_formats(tmp_path: Path, name: str) -> None:
    kind = {"jfif": "JPEG"}.get(name[2:])
    corners().save(tmp_path / name, kind, quality=95)
    info, pixels = read(tmp_path / name)
    assert info == MediaInfo(120, 80)
    assert pixels.shape == (80, 120, 3)
    assert close(quadrants(pixels), CORNERS, 12)


def test_heic_without_registering_the_plugin(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(corners()).save(tmp_path / "a.heic", quality=95)
    info, pixels = read(tmp_path / "a.heic")
    assert info == MediaInfo(120, 80)
    assert close(quadrants(pixels), CORNERS, 12)
    assert "HEIF" not in Image.OPEN


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = corners(1200, 800) if undo is None else corners(1200, 800).transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif, quality=95)
    info, pixels = read(tmp_path / f"a.{suffix}", 100)
    assert info == MediaInfo(1200, 800)
    assert pixels.shape == (100, 150, 3)
    assert close(quadrants(pixels), CORNERS, 12)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_lose_the_picture(tmp_path: Path) -> None:
    corners().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff", quality=95)
    assert close(quadrants(read(tmp_path / "a.jpg")[1]), CORNERS, 12)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L", "RGB"])
def test_transparency_is_white(tmp_path: Path, mode: str) -> None:
    if mode in ("RGBA", "LA"):
        picture = Image.new(mode, (40, 40), (0,) * len(mode))  # type: ignore[arg-type]
        picture.paste((100, 100, 100, 255)[-len(mode) :], (0, 0, 20, 40))
        options = {}
    elif mode == "PA":
        picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
        picture.paste((100, 100, 100, 255), (0, 0, 20, 40))
        picture, options = picture.convert("PA"), {}
    else:
        gray, clear = (100, 100, 100), (0, 0, 0)
        picture = Image.new("RGB", (40, 40), clear)
        picture.paste(gray, (0, 0, 20, 40))
        picture = picture.convert(mode)
        options = {"transparency": clear if mode == "RGB" else picture.getpixel((30, 30))}
    suffix = "tif" if mode == "PA" else "png"
    if mode == "PA":
        picture = picture.convert("RGBA")
    picture.save(tmp_path / f"a.{suffix}", **options)
    _, pixels = read(tmp_path / f"a.{suffix}")
    assert close([tuple(pixels[20, 5]), tuple(pixels[20, 35])], [(100,) * 3, (255,) * 3])


def test_transparent_colours_do_not_bleed_when_shrunk(tmp_path: Path) -> None:
    array = np.zeros((400, 400, 4), np.uint8)
    array[::2] = (200, 100, 50, 255)  # the other rows are transparent black
    Image.fromarray(array).save(tmp_path / "a.png")
    _, pixels = read(tmp_path / "a.png", 100)
    assert close([tuple(pixels[50, 50])], [(228, 178, 152)], 2)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "tif"), ("LAB", "tif")]
)
def test_other_colour_spaces(tmp_path: Path, mode: str, suffix: str) -> None:
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(corners(), *profiles, outputMode="LAB")
        assert picture is not None
    else:
        picture = corners().convert(mode)
    picture.save(tmp_path / f"a.{suffix}", quality=95)
    assert close(quadrants(read(tmp_path / f"a.{suffix}")[1]), CORNERS, 12)


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.arange(1600).reshape(40, 40) % 80 < 40).save(tmp_path / "a.png")
    _, pixels = read(tmp_path / "a.png")
    assert set(np.unique(pixels)) == {0, 255}


RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        ((RAMP * 65535).astype(np.uint16), "png"),
        ((RAMP * 65535).astype(np.uint16), "tif"),
        ((RAMP * 65535).astype(">u2"), "tif"),
        ((RAMP * 65535).astype(np.int32), "tif"),
        ((RAMP * 255).astype(np.int32), "tif"),
        ((RAMP * 9e6 - 4e6).astype(np.int32), "tif"),
        (RAMP.astype(np.float32), "tif"),
        ((RAMP * 255).astype(np.float32), "tif"),
        ((RAMP * 65535).astype(np.float32), "tif"),
        ((RAMP * 20 - 10).astype(np.float32), "tif"),
    ],
)
def test_deep_gray_is_scaled_not_clipped(tmp_path: Path, values: np.ndarray, suffix: str) -> None:
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    _, pixels = read(tmp_path / f"a.{suffix}")
    assert np.abs(pixels.astype(int) - (RAMP * 255)[:, :, None]).max() <= 1.01


def test_deep_gray_with_no_number_in_it(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[0, 0], values[0, 1] = np.nan, np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif")[1].max() == 255


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_animations_give_their_first_frame(tmp_path: Path, suffix: str) -> None:
    others = [Image.new("RGB", (120, 80), colour) for colour in ("black", "white")]
    corners().save(
        tmp_path / f"a.{suffix}", save_all=True, append_images=others, quality=95, duration=100
    )
    assert close(quadrants(read(tmp_path / f"a.{suffix}")[1]), CORNERS, 12)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("size", [(1600, 1200), (1201, 3001), (63, 500), (64, 64), (127, 127)])
def test_the_short_side_is_kept(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    corners(*size).save(tmp_path / f"a.{suffix}")
    for short_side in (64, 224, 297):
        info, pixels = read(tmp_path / f"a.{suffix}", short_side)
        assert (info.width, info.height) == size
        kept = min(pixels.shape[:2])
        assert kept == min(size) or short_side <= kept < 2 * short_side


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000)))


def test_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(30_000, 30_000))
    with pytest.raises(MediaError, match=r"^30000x30000 is 900 megapixels, more than the allowed"):
        read(tmp_path / "a.png")


def test_panoramas_pass_without_a_warning_and_without_touching_pillow(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters), dict(Image.OPEN)
    Image.new("L", (19_000, 9_800), 77).save(tmp_path / "a.jpg", quality=10)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        info, pixels = read(tmp_path / "a.jpg")
    assert not caught
    assert info == MediaInfo(19_000, 9_800)
    assert min(pixels.shape[:2]) < 128
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before[:2]


def test_the_limit_can_be_set(tmp_path: Path) -> None:
    corners(1000, 1000).save(tmp_path / "a.png")
    read(tmp_path / "a.png", max_image_megapixels=1.0)
    with pytest.raises(MediaError, match="megapixels"):
        read(tmp_path / "a.png", max_image_megapixels=0.99)
    for limit in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError):
            ReadSpec(64, max_image_megapixels=limit)
    with pytest.raises(UsageError):
        ReadSpec(0)


def test_truncated_jpeg_says_so(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    corners(600, 400).save(buffer, "JPEG", quality=95)
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue()[: buffer.tell() // 2])
    with pytest.raises(MediaError, match="truncated"):
        read(tmp_path / "a.jpg")


def test_no_program_runs_for_postscript(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    with pytest.raises(MediaError, match="not a picture"):
        read(tmp_path / "a.png")


def test_camera_raw_asks_for_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nef").write_bytes(b"raw")
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(MediaError, match="install rawpy"):
        read(tmp_path / "a.nef")


def test_camera_raw_by_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with rawpy's interface, for a picture taken upright: LibRaw turns it."""

    class Raw:
        sizes = types.SimpleNamespace(width=400, height=300)

        def __enter__(self) -> "Raw":
            return self

        def __exit__(self, *_: object) -> None: ...

        def postprocess(self, *, half_size: bool, **_: object) -> Pixels:
            return np.full((200, 150, 3) if half_size else (400, 300, 3), 9, np.uint8)

    library = types.SimpleNamespace(imread=lambda file: Raw(), LibRawError=RuntimeError)
    monkeypatch.setitem(sys.modules, "rawpy", library)
    (tmp_path / "a.nef").write_bytes(b"raw")
    info, pixels = read(tmp_path / "a.nef", 100)
    assert info == MediaInfo(300, 400)
    assert pixels.shape == (200, 150, 3)
    assert read(tmp_path / "a.nef", 200)[1].shape == (400, 300, 3)


def test_pictures_are_read_in_threads(tmp_path: Path) -> None:
    corners(800, 600).save(tmp_path / "a.jpg", quality=95)
    found: list[bool] = []
    work = [
        threading.Thread(
            target=lambda: found.append(close(quadrants(read(tmp_path / "a.jpg")[1]), CORNERS, 12))
        )
        for _ in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert found == [True] * 8
