"""Decoded frames to upright RGB pixels of the wanted size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from clipsearch.errors import MediaError
from clipsearch.media.spec import ReadSpec
from clipsearch.types import Pixels

# Outside of this a sample aspect ratio is a mistake, not an anamorphic film.
SAMPLE_ASPECT_RANGE = (Fraction(1, 4), Fraction(4))
# A right angle with room for the rounding of a display matrix.
RIGHT_ANGLE = 90


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the frames of a video are shown: upright size in pixels, shape of a sample, turn.

    quarter_turns counts counter-clockwise.
    """

    width: int
    height: int
    sample_aspect: Fraction
    quarter_turns: int
    short_side: int

    @classmethod
    def of(cls, stream: VideoStream, spec: ReadSpec) -> Geometry:
        """From the header. Raises MediaError for no size, or more pixels than are allowed."""
        context = stream.codec_context
        width, height = context.width, context.height
        if width < 1 or height < 1:
            raise MediaError("its video stream has no picture size")
        if width * height > spec.max_image_megapixels * 1e6:
            raise MediaError(
                f"{width}x{height} is {width * height / 1e6:.0f} megapixels, more than the"
                f" allowed {spec.max_image_megapixels:g}"
            )
        aspect = stream.sample_aspect_ratio or Fraction(1)
        low, high = SAMPLE_ASPECT_RANGE
        aspect = aspect if low <= aspect <= high else Fraction(1)
        return cls(width, height, aspect, 0, spec.short_side)

    def upright(self, frame: VideoFrame) -> Geometry:
        """The geometry with a decoded frame's size and the turn that its file asks for."""
        turns = round(frame.rotation / RIGHT_ANGLE) % 4
        width, height = self._shown_size(frame)
        if turns % 2:
            width, height = height, width
        return replace(self, width=width, height=height, quarter_turns=turns)

    def pixels(self, frame: VideoFrame) -> Pixels:
        """(h, w, 3) uint8 RGB, upright, contiguous; the shorter side is short_side or less."""
        width, height = self._shown_size(frame)
        shorter = min(width, height)
        if shorter > self.short_side:
            scale = self.short_side / shorter
            width, height = round(width * scale), round(height * scale)
        rgb = _scaled(frame, width, height, "rgb24")
        array = np.rot90(rgb.to_ndarray(), self.quarter_turns)
        return np.ascontiguousarray(array, dtype=np.uint8)

    def gray(self, frame: VideoFrame, side: int) -> NDArray[np.uint8]:
        """(side, side) uint8 full-range gray, as stored, for comparing frames."""
        return np.asarray(_scaled(frame, side, side, "gray").to_ndarray(), dtype=np.uint8)

    def _shown_size(self, frame: VideoFrame) -> tuple[int, int]:
        return max(1, round(frame.width * self.sample_aspect)), frame.height


def _scaled(frame: VideoFrame, width: int, height: int, pixel_format: str) -> VideoFrame:
    # In one thread: starting more for each frame costs as much as they save, with the same bits.
    return frame.reformat(width, height, pixel_format, interpolation=Interpolation.AREA, threads=1)
