"""Do heat maps lie on what was asked for, and how well does the best box fit it?

    python -m benchmarks.heatmaps [MODEL]

Photos of scikit-image and scikit-learn, names in everyday words, by the built-in encoder or MODEL:

    halves      two photos side by side, all pairs in both orders, both names asked
    held out    the same of photos and names that nothing was chosen on
    pasted      a photo somewhere on another one that fills the picture
    whole       photos as they are, boxes drawn by hand

right: the share of maps with more than half of their mass in the box; share: the mass there.
pointing: the share of maps whose highest place lies in the box. iou: intersection over union of
`best_box` and the box, beside that of the whole picture.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from benchmarks.measure import report
from clipsearch.encoders import load_encoder, parse_spec
from clipsearch.locating import Box, Locator, best_box

CHOSEN_ON = {
    "skimage/data/chelsea.png": "a cat",
    "skimage/data/coffee.png": "a cup of coffee",
    "skimage/data/rocket.jpg": "a rocket",
    "skimage/data/motorcycle_left.png": "a motorcycle",
    "skimage/data/horse.png": "a horse",
}
HELD_OUT = {
    "sklearn/datasets/images/china.jpg": "a temple",
    "sklearn/datasets/images/flower.jpg": "a flower",
    "skimage/data/brick.png": "a brick wall",
    "skimage/data/grass.png": "grass",
    "skimage/data/hubble_deep_field.jpg": "stars",
    "skimage/data/camera.png": "a man with a camera",
    "skimage/data/page.png": "a page of text",
    "skimage/data/coins.png": "coins",
}
BOXES: dict[str, Box] = {
    "skimage/data/coffee.png": (0.13, 0.05, 0.80, 0.97),
    "skimage/data/rocket.jpg": (0.47, 0.28, 0.54, 0.97),
    "skimage/data/motorcycle_left.png": (0.15, 0.17, 0.92, 0.89),
    "sklearn/datasets/images/china.jpg": (0.10, 0.07, 0.57, 0.90),
    "sklearn/datasets/images/flower.jpg": (0.27, 0.20, 0.70, 0.84),
    "skimage/data/camera.png": (0.05, 0.12, 0.60, 1.0),
}
SIZE = (600, 400)  # of a picture that another is pasted on
HALF = (300, 300)


class Case(NamedTuple):
    picture: Image.Image
    text: str
    box: Box


def photo(name: str) -> Image.Image:
    package, _, rest = name.partition("/")
    found = find_spec(package)
    if found is None or found.origin is None:
        sys.exit(f"install {package} for its photos")
    with Image.open(Path(found.origin).parent / rest) as picture:
        return picture.convert("RGB")


def halves(names: dict[str, str]) -> Iterator[Case]:
    for left, right in permutations(names, 2):
        both = Image.new("RGB", (2 * HALF[0], HALF[1]))
        for name, x in ((left, 0), (right, HALF[0])):
            both.paste(ImageOps.fit(photo(name), HALF), (x, 0))
        yield Case(both, names[left], (0.0, 0.0, 0.5, 1.0))
        yield Case(both, names[right], (0.5, 0.0, 1.0, 1.0))


def pasted() -> Iterator[Case]:
    names, rng = {**CHOSEN_ON, **HELD_OUT}, np.random.default_rng(0)
    for thing, ground in permutations(BOXES, 2):
        whole = ImageOps.fit(photo(ground), SIZE)
        width, height = (int(side * rng.uniform(0.45, 0.65)) for side in SIZE)
        x, y = int(rng.uniform(0, SIZE[0] - width)), int(rng.uniform(0, SIZE[1] - height))
        whole.paste(ImageOps.fit(photo(thing), (width, height)), (x, y))
        box = x / SIZE[0], y / SIZE[1], (x + width) / SIZE[0], (y + height) / SIZE[1]
        yield Case(whole, names[thing], box)


def alone() -> Iterator[Case]:
    names = {**CHOSEN_ON, **HELD_OUT}
    for name, box in BOXES.items():
        yield Case(photo(name), names[name], box)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return both / (sum(areas) - both)


def mass(relevance: np.ndarray, box: Box) -> float:
    """The share of a map that lies in the columns and rows of a box, by the centres of places."""
    rows, columns = relevance.shape
    x, y = (np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows
    inside = np.outer((y > box[1]) & (y < box[3]), (x > box[0]) & (x < box[2]))
    return float(relevance[inside].sum() / relevance.sum())


def measure(name: str, cases: Iterator[Case], locator: Locator) -> None:
    shares, points, fits, wholes, cpu = [], [], [], [], 0.0
    for case in cases:
        start = time.process_time()
        relevance = locator.relevance(np.asarray(case.picture), case.text)
        box = best_box(relevance)
        cpu += time.process_time() - start
        hottest = np.zeros_like(relevance)
        hottest.flat[int(relevance.argmax())] = 1.0
        shares.append(mass(relevance, case.box))
        points.append(mass(hottest, case.box))
        fits.append(overlap(box, case.box))
        wholes.append(overlap((0.0, 0.0, 1.0, 1.0), case.box))
    report(
        pictures=name,
        maps=len(shares),
        right=round(float(np.mean(np.array(shares) > 0.5)), 3),
        share=round(float(np.mean(shares)), 3),
        pointing=round(float(np.mean(points)), 3),
        iou=round(float(np.mean(fits)), 3),
        iou_of_whole=round(float(np.mean(wholes)), 3),
        cpu_s_a_map=round(cpu / len(shares), 2),
    )


def main(model: str = "builtin") -> None:
    encoder = load_encoder(parse_spec(model), device="cpu")
    locator = Locator(lambda: encoder)
    locator.relevance(np.zeros((9, 9, 3), np.uint8), "loading is not measured")
    for name, cases in (
        ("halves", halves(CHOSEN_ON)),
        ("held out", halves(HELD_OUT)),
        ("pasted", pasted()),
        ("whole", alone()),
    ):
        measure(name, cases, locator)


if __name__ == "__main__":
    main(*sys.argv[1:])
