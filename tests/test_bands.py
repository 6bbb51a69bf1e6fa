"""Pictures that are converted band by band must come out as if converted whole."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from clipsearch.media import ReadSpec, open_media
from clipsearch.media import image as module
from clipsearch.types import Pixels

WIDTH, HEIGHT = 203, 157
SHORT_SIDE = 20  # a factor of 7, which divides neither side


def colours() -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(values)


def with_alpha(mode: str) -> Image.Image:
    picture = colours().convert(mode)
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture


def deep() -> Image.Image:
    values = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    return Image.fromarray(values)


PICTURES = {
    "palette.png": lambda path: colours().quantize(50).save(path),
    "clear.png": lambda path: colours().quantize(50).save(path, transparency=3),
    "clears.png": lambda path: colours().quantize(50).save(path, transparency=bytes(range(50))),
    "alpha.png": lambda path: with_alpha("RGBA").save(path),
    "gray_alpha.png": lambda path: with_alpha("LA").save(path),
    "key.png": lambda path: colours().save(path, transparency=(1, 2, 3)),
    "gray_key.png": lambda path: colours().convert("L").save(path, transparency=9),
    "deep.png": lambda path: deep().save(path),
    "bits.png": lambda path: colours().convert("1").save(path),
    "ink.tif": lambda path: colours().convert("CMYK").save(path),
    "lab.tif": lambda path: colours().convert("LAB").save(path),
    "float.tif": lambda path: colours().convert("F").save(path),
    "rgb.png": lambda path: colours().save(path),
    "alpha.webp": lambda path: with_alpha("RGBA").save(path, lossless=True),
}


def read(path: Path, short_side: int = SHORT_SIDE) -> Pixels:
    [(_, pixels)] = open_media(path, ReadSpec(short_side)).units
    return pixels


def converted_whole(path: Path, short_side: int) -> Pixels:
    with Image.open(path) as picture:
        whole = module._to_8_bit(picture)
        return np.array(module._on_white(module._shrink(whole, short_side)))


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("name", PICTURES)
def test_bands_give_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    PICTURES[name](path)
    sizes: list[int] = []
    real = module._to_8_bit

    def watched(picture: Image.Image) -> Image.Image:
        sizes.append(picture.width * picture.height)
        return real(picture)

    for band_pixels in (1, 3000):
        monkeypatch.setattr(module, "BAND_PIXELS", band_pixels)
        for short_side in (SHORT_SIDE, 78, 157):
            expected = converted_whole(path, short_side)
            monkeypatch.setattr(module, "_to_8_bit", watched)
            np.testing.assert_array_equal(read(path, short_side), expected)
            monkeypatch.setattr(module, "_to_8_bit", real)
    sizes.clear()
    monkeypatch.setattr(module, "BAND_PIXELS", 3000)
    monkeypatch.setattr(module, "_to_8_bit", watched)
    read(path)
    whole = name in ("lab.tif", "float.tif", "rgb.png")
    assert max(sizes) == WIDTH * HEIGHT if whole else max(sizes) <= 3000
    assert sum(sizes) == WIDTH * HEIGHT


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_every_orientation_as_pillow_turns_it(tmp_path: Path, orientation: int, mode: str) -> None:
    exif = Image.Exif()
    exif[module.ORIENTATION_TAG] = orientation
    colours().convert(mode).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        expected = np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    stream = open_media(tmp_path / "a.png", ReadSpec(500))
    [(_, pixels)] = stream.units
    np.testing.assert_array_equal(pixels, expected)
    assert (stream.info.height, stream.info.width) == expected.shape[:2]
