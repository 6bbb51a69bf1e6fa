"""Where the pixels of a model's input come from in the picture: resize, then crop or pad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipsearch.encoders.values import checked_pixels
from clipsearch.types import Pixels

ResizeMode = Literal["shortest", "longest", "squash"]
MAX_STRETCH = 16  # areas of the crop that the whole resized picture may take


@dataclass(frozen=True, slots=True)
class Geometry:
    """Resize to `target`, then take the centre `crop`; both (height, width) in pixels.

    shortest: keep the aspect ratio, cover `target`; longest: keep it, fit inside and pad with
    `fill`; squash: ignore it. Equal to torchvision's Resize and CenterCrop, which the tests
    compare with; of very long pictures only the cropped part is computed, so that 1 by 3000
    pixels do not take a gigabyte.
    """

    target: tuple[int, int]
    crop: tuple[int, int]
    mode: ResizeMode = "shortest"
    interpolation: str = "bicubic"
    fill: int = 0

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a whole picture after resizing, before cropping."""
        target_height, target_width = self.target
        if self.mode == "squash":
            return self.target
        if self.mode == "shortest" and target_height == target_width:  # torchvision truncates
            short, long = sorted((height, width))
            longer = int(target_height * long / short)
            return (target_height, longer) if height <= width else (longer, target_height)
        pick = max if self.mode == "longest" else min
        ratio = pick(height / target_height, width / target_width)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def apply(self, pixels: Pixels) -> Pixels:
        """The model's input, (*crop, 3) uint8, of one picture. Raises UsageError for no picture."""
        height, width = checked_pixels(pixels).shape[:2]
        resized = self.resized(height, width)
        rows = _Axis.of(height, resized[0], self.crop[0])
        columns = _Axis.of(width, resized[1], self.crop[1])
        if resized[0] * resized[1] <= MAX_STRETCH * self.crop[0] * self.crop[1]:
            whole = resize(pixels, resized, interpolation=self.interpolation)
            part = whole[
                rows.first : rows.first + rows.length,
                columns.first : columns.first + columns.length,
            ]
        else:  # the part alone: the same arithmetic up to rounding, a grey level in photos
            box = (columns.start, rows.start, columns.stop, rows.stop)
            size = (rows.length, columns.length)
            part = resize(pixels, size, interpolation=self.interpolation, box=box)
        if part.shape[:2] == self.crop:
            return np.array(part)  # a copy: a view would keep the whole picture alive
        canvas = np.full((*self.crop, 3), self.fill, dtype=np.uint8)
        top, left = rows.padding, columns.padding
        canvas[top : top + rows.length, left : left + columns.length] = part
        return canvas


def resize(
    pixels: Pixels,
    size: tuple[int, int],
    *,
    interpolation: str = "bicubic",
    box: tuple[float, float, float, float] | None = None,
) -> Pixels:
    """`pixels` (height, width, 3) at the new `size` (height, width), by Pillow; may be read-only.

    box: (left, top, right, bottom) of the part to take, else all.
    """
    from PIL import Image  # here: asking for words does without it

    resample = Image.Resampling[interpolation.upper()]
    picture = Image.fromarray(pixels).resize((size[1], size[0]), resample=resample, box=box)
    return np.asarray(picture)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis: `length` pixels from `first` of the resized picture, after `padding` ones.

    [start, stop) is the same interval in the source picture.
    """

    first: int
    length: int
    padding: int
    start: float
    stop: float

    @staticmethod
    def of(source: int, resized: int, crop: int) -> _Axis:
        if resized <= crop:
            return _Axis(0, resized, (crop - resized) // 2, 0.0, float(source))
        first = round((resized - crop) / 2)
        scale = source / resized
        return _Axis(first, crop, 0, first * scale, min((first + crop) * scale, source))
