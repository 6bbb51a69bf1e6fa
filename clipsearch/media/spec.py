"""How media is read: the size that must be kept, the size that is refused, the frames wanted, and
the windows of sound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from clipsearch.errors import UsageError
from clipsearch.media.sampling import SamplingSpec

# A 200-megapixel phone photo (16320 x 12240) and gigantic panoramas pass; decoded to RGB this
# is 0.77 GB. Pillow's own refusal starts at 179 megapixels.
MAX_IMAGE_MEGAPIXELS = 256.0

MOST_DECODER_THREADS = 64

AUDIO_WINDOW_SECONDS = 10.0  # what the usual encoders of sound were trained on
AUDIO_HOP_SECONDS = 5.0
SHORTEST_WINDOW_SECONDS, LONGEST_WINDOW_SECONDS = 0.1, 600.0

# A window whose loudest 50 ms (root mean square, full scale is 1) stay below is silence and gets
# no unit. Rooms in recordings murmur at -50 and above; the noise of 16 bits is at -98.
SILENCE_DBFS = -60.0


@dataclass(frozen=True, slots=True)
class ReadSpec:
    """What a reader must keep.

    short_side: pixels that the shorter side keeps at least; decoding may shrink a picture down
        to it, never below, and never enlarges.
    max_image_megapixels: pictures and videos whose header says more are refused undecoded.
    sampling: which frames of a video become units.
    decoder_threads: with which one video is decoded; 0: as many as FFmpeg thinks fit. The pixels
        are the same with any number, save where damage gives no sign of itself, and of MPEG-4 in
        fields, where FFmpeg's threads differ.

    Raises UsageError for sizes that are not positive.
    """

    short_side: int
    max_image_megapixels: float = MAX_IMAGE_MEGAPIXELS
    sampling: SamplingSpec = field(default_factory=SamplingSpec)
    decoder_threads: int = 0

    def __post_init__(self) -> None:
        if self.short_side < 1:
            raise UsageError(f"short side of {self.short_side} pixels: use 1 or more")
        if not (self.max_image_megapixels > 0 and math.isfinite(self.max_image_megapixels)):
            raise UsageError(f"limit of {self.max_image_megapixels} megapixels: use more than 0")
        if not 0 <= self.decoder_threads <= MOST_DECODER_THREADS:
            raise UsageError(
                f"{self.decoder_threads} threads for decoding: use 0 to {MOST_DECODER_THREADS}"
            )


class ReadingStoppedError(Exception):
    """A reader was told to stop before its file ended. Nothing is wrong with the file."""


@dataclass(frozen=True, slots=True)
class AudioSpec:
    """The windows of sound that become units.

    rate: samples a second, as the encoder takes them. A window of window_seconds begins every
    hop_seconds. Raises UsageError for what is out of range.
    """

    rate: int
    window_seconds: float = AUDIO_WINDOW_SECONDS
    hop_seconds: float = AUDIO_HOP_SECONDS

    def __post_init__(self) -> None:
        if self.rate < 1:
            raise UsageError(f"rate of {self.rate} samples a second: use 1 or more")
        if not SHORTEST_WINDOW_SECONDS <= self.window_seconds <= LONGEST_WINDOW_SECONDS:
            raise UsageError(
                f"window of {self.window_seconds:g} seconds: use {SHORTEST_WINDOW_SECONDS:g} to "
                f"{LONGEST_WINDOW_SECONDS:g}"
            )
        if not 0 < self.hop_seconds <= self.window_seconds:
            raise UsageError(
                f"hop of {self.hop_seconds:g} seconds: use more than 0, and at most the window's "
                f"{self.window_seconds:g}"
            )
