"""Photos of scikit-image side by side: two things in one picture, each in a half of its own."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageOps

from clipsearch.types import Pixels

WIDTH, HEIGHT = 200, 300  # of each half
THINGS = {
    "chelsea.png": "a cat",
    "coffee.png": "a cup of coffee",
    "rocket.jpg": "a rocket",
    "motorcycle_left.png": "a motorcycle",
    "horse.png": "a horse",
}


class Composite(NamedTuple):
    """Two photos (300, 400, 3), and what is on the left and on the right."""

    pixels: Pixels
    left: str
    right: str


def photo(name: str) -> Pixels:
    """The middle of a photo of scikit-image's data folder, (300, 200, 3)."""
    folder = Path(pytest.importorskip("skimage").__file__).parent / "data"
    with Image.open(folder / name) as picture:
        whole = picture.convert("RGB")
    return np.asarray(ImageOps.fit(whole, (WIDTH, HEIGHT)))


def composites() -> list[Composite]:
    """All ten pairs of the five things; each is twice on the left and twice on the right."""
    names = list(THINGS)
    photos = {name: photo(name) for name in names}
    made = []
    for number, left in enumerate(names):
        for right in ((names * 2)[number + step] for step in (1, 2)):
            pixels = np.concatenate([photos[left], photos[right]], axis=1)
            made.append(Composite(pixels, THINGS[left], THINGS[right]))
    return made
