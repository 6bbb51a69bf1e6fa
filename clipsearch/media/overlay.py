"""Heat maps over pictures: where it is warm there is what was looked for, with a box around it."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clipsearch.types import Pixels

# From cold to hot; in between they are mixed.
COLOURS = np.array(
    [(20, 30, 110), (0, 120, 200), (0, 190, 150), (250, 220, 40), (240, 60, 20)], np.float32
)
OPACITY = 0.65  # of the hottest places; cold ones are darkened a little, and keep their colours
DARKENED = 0.2
FULL_HEAT = 0.3  # a map that reaches no more than this is not scaled up any further
QUALITY = 90


def overlay(
    pixels: Pixels, relevance: NDArray[np.float32], box: tuple[float, float, float, float] | None
) -> bytes:
    """A JPEG of the picture (h, w, 3) under the colours of a map (rows, columns) of 0..1, smoothed,
    with a frame at `box`, if there is one: left, top, right, bottom in fractions of the picture.

    The hottest place has the last colour, but where all are below 0.3 that colour is left out.
    """
    height, width = pixels.shape[:2]
    heat = relevance / max(FULL_HEAT, float(relevance.max()))
    smooth = Image.fromarray(heat.astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    level = np.clip(np.asarray(smooth), 0.0, 1.0)
    share = DARKENED + (OPACITY - DARKENED) * level
    steps = np.linspace(0.0, 1.0, len(COLOURS))
    mixed = np.empty_like(pixels)
    for channel, colours in enumerate(COLOURS.T):  # one at a time: such numbers take much memory
        colour = np.interp(level, steps, colours)
        mixed[:, :, channel] = np.rint(pixels[:, :, channel] * (1 - share) + colour * share)
    picture = Image.fromarray(mixed)
    if box is not None:
        _frame(picture, box)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _frame(picture: Image.Image, box: tuple[float, float, float, float]) -> None:
    """White between two black lines: seen on every ground."""
    width, height = picture.size
    left, right = (round(x * (width - 1)) for x in (box[0], box[2]))
    top, bottom = (round(y * (height - 1)) for y in (box[1], box[3]))
    stroke = max(1, min(width, height) // 200)
    draw = ImageDraw.Draw(picture)
    for inset, colour in ((0, "black"), (stroke, "white"), (2 * stroke, "black")):
        if right - left >= 2 * inset and bottom - top >= 2 * inset:
            draw.rectangle(
                (left + inset, top + inset, right - inset, bottom - inset),
                outline=colour,
                width=stroke,
            )
