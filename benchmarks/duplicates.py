"""From which cosine on are two pictures copies? Near-copies of photos, against other photos.

The photos that scikit-image ships, each recompressed, resized, cropped and brightened, by the
built-in encoder; against each other, and 50 faces of different people against each other. Prints
for each kind of copy the share whose cosine reaches each threshold, then the pairs of different
pictures that do.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from benchmarks.measure import report
from clipsearch.encoders import load_encoder, parse_spec
from clipsearch.encoders.base import Encoder
from clipsearch.types import Vectors

PHOTOS = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "color", "grass"),
    *("gravel", "horse", "hubble_deep_field", "ihc", "logo", "moon", "motorcycle_left", "page"),
    *("retina", "rocket", "text"),
)
THRESHOLDS = (0.9, 0.95, 0.96, 0.97, 0.98, 0.99)
AT_ONCE = 16
FACE_PIXELS = 260

Change = Callable[[Image.Image], Image.Image]


def recompressed(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        content = io.BytesIO()
        image.save(content, "JPEG", quality=quality)
        return Image.open(content).convert("RGB")

    return change


def resized(short_side: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        scale = short_side / min(image.size)
        return image.resize((round(image.width * scale), round(image.height * scale)))

    return change


def cropped(share: float) -> Change:
    """Without a share of its width and height, all around."""

    def change(image: Image.Image) -> Image.Image:
        across, down = image.width * share / 2, image.height * share / 2
        box = (across, down, image.width - across, image.height - down)
        return image.crop(tuple(map(round, box)))

    return change


COPIES: dict[str, Change] = {
    "JPEG 90": recompressed(90),
    "JPEG 75": recompressed(75),
    "JPEG 50": recompressed(50),
    "256 pixels": resized(256),
    "128 pixels": resized(128),
    "cropped 2 %": cropped(0.02),
    "cropped 5 %": cropped(0.05),
    "cropped 10 %": cropped(0.1),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


def folder() -> Path:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data"


def encoded(encoder: Encoder, images: Sequence[Image.Image]) -> Vectors:
    parts = []
    for first in range(0, len(images), AT_ONCE):
        some = images[first : first + AT_ONCE]
        parts.append(encoder.encode_images([encoder.prepare(np.asarray(i)) for i in some]))
    return np.concatenate(parts)


def shares(cosines: NDArray[np.float32]) -> dict[str, float]:
    return {f"{least}": float((cosines >= least).mean()) for least in THRESHOLDS}


def pairs(vectors: Vectors) -> NDArray[np.float32]:
    return (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]


def main() -> None:
    encoder = load_encoder(parse_spec("builtin"))
    files = [path for path in sorted(folder().iterdir()) if path.stem in PHOTOS]
    photos = [Image.open(path).convert("RGB") for path in files if path.suffix in (".png", ".jpg")]
    vectors = encoded(encoder, photos)
    for name, change in COPIES.items():
        copies = encoded(encoder, [change(photo) for photo in photos])
        report(name=name, photos=len(photos), **shares(np.einsum("nd,nd->n", vectors, copies)))
    report(name="different photos", pairs=len(pairs(vectors)), **shares(pairs(vectors)))
    faces = np.load(folder() / "lfw_subset.npy")[:100:2]
    pixels = [Image.fromarray((face * 255).astype(np.uint8)).convert("RGB") for face in faces]
    found = pairs(encoded(encoder, [resized(FACE_PIXELS)(image) for image in pixels]))
    report(name="different faces", pairs=len(found), **shares(found))


if __name__ == "__main__":
    main()
