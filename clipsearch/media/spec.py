"""How media is read: the size that must be kept, the size that is refused, the frames wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from clipsearch.errors import UsageError
from clipsearch.media.sampling import SamplingSpec

# A 200-megapixel phone photo (16320 x 12240) and gigantic panoramas pass; decoded to RGB this
# is 0.77 GB. Pillow's own refusal starts at 179 megapixels.
MAX_IMAGE_MEGAPIXELS = 256.0


@dataclass(frozen=True, slots=True)
class ReadSpec:
    """What a reader must keep.

    short_side: pixels that the shorter side keeps at least; decoding may shrink a picture down
        to it, never below, and never enlarges.
    max_image_megapixels: pictures and videos whose header says more are refused undecoded.
    sampling: which frames of a video become units.

    Raises UsageError for sizes that are not positive.
    """

    short_side: int
    max_image_megapixels: float = MAX_IMAGE_MEGAPIXELS
    sampling: SamplingSpec = field(default_factory=SamplingSpec)

    def __post_init__(self) -> None:
        if self.short_side < 1:
            raise UsageError(f"short side of {self.short_side} pixels: use 1 or more")
        if not (self.max_image_megapixels > 0 and math.isfinite(self.max_image_megapixels)):
            raise UsageError(f"limit of {self.max_image_megapixels} megapixels: use more than 0")
