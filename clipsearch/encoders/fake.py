"""Deterministic vectors without weights: for tests, documentation and index benchmarks.

Only colours mean something: "red" and "a red door" lie near pictures whose mean colour is red.
All else, text or picture, is a direction drawn from a hash of the content.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import EncoderSpec, Prepared
from clipsearch.encoders.devices import check_device_name
from clipsearch.encoders.spec import parse_spec
from clipsearch.encoders.values import checked_pixels, checked_stack, finished_rows, plain_text
from clipsearch.types import Pixels, Vectors

DEFAULT_DIM = 64
SHORT_SIDE = 64
THUMBNAIL = 16  # prepared pictures are (16, 16, 3): enough for a mean colour and a hash
MAX_WORDS = 1000  # more are cut off, as other encoders do
COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "gray": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "orange": (255, 128, 0),
    "purple": (128, 0, 128),
}
_COLOUR_AXES = 4  # red, green, blue from -1 to 1, and a constant: grey has a direction too
_CONSTANT = 0.5
_COLOUR_SHARE = 0.95  # of the length; the rest is the content's hash, so equal colours still differ


class FakeEncoder:
    """An Encoder whose vectors follow from the content by arithmetic alone.

    Without `normalize` a row has a length of 2, 4, 8 or 16 that the content's hash chooses: powers
    of two, so that scaling it back loses nothing.
    """

    supports_text = True
    supports_images = True
    short_side = SHORT_SIDE

    def __init__(self, dim: int = DEFAULT_DIM) -> None:
        self.dim = dim
        self.spec = EncoderSpec("fake", str(dim))
        self.fingerprint = f"fake:{dim}@1"  # raise the number when the vectors change

    def encode_text(self, texts: Sequence[str], *, normalize: bool = True) -> Vectors:
        """(len(texts), dim) float32 rows; the colours that a text names are averaged.

        Of a text with more than a thousand words the first thousand count.
        """
        rows = [self._text(plain_text(text)) for text in texts]
        return self._stack(rows, normalize=normalize)

    def fits(self, text: str) -> bool:
        """Whether `text` has at most a thousand words."""
        return len(text.split(None, MAX_WORDS)) <= MAX_WORDS

    def prepare(self, pixels: Pixels) -> Prepared:
        """(16, 16, 3) uint8: the pixels at a regular grid. Raises UsageError for no picture."""
        height, width = checked_pixels(pixels).shape[:2]
        places = (np.arange(THUMBNAIL) + 0.5) / THUMBNAIL
        rows, columns = (places * height).astype(int), (places * width).astype(int)
        return np.ascontiguousarray(pixels[rows[:, None], columns])

    def encode_images(self, prepared: Sequence[Prepared], *, normalize: bool = True) -> Vectors:
        """(len(prepared), dim) float32 rows of pictures that `prepare` made."""
        if not prepared:
            return self._stack([], normalize=normalize)
        pictures = checked_stack(prepared, (THUMBNAIL, THUMBNAIL, 3))
        rows = [self._mix(p.mean(axis=(0, 1)), p.tobytes()) for p in pictures]
        return self._stack(rows, normalize=normalize)

    def _text(self, text: str) -> NDArray[np.float64]:
        if not self.fits(text):
            text = " ".join(text.split(None, MAX_WORDS)[:MAX_WORDS])
        words = re.findall(r"[a-z]+", text.lower())
        named = [COLOURS[word] for word in words if word in COLOURS]
        return self._mix(np.mean(named, axis=0) if named else None, text.encode())

    def _mix(self, rgb: NDArray[np.float64] | None, content: bytes) -> NDArray[np.float64]:
        """Colour (0 to 255 a channel) in the first axes, a hash of the content in the others.

        Of the length that the content chooses.
        """
        rest = np.frombuffer(
            hashlib.shake_256(content).digest(2 * (self.dim - _COLOUR_AXES)), dtype="<u2"
        )
        noise = rest / 32767.5 - 1.0
        noise /= np.linalg.norm(noise)
        length = float(2 ** (1 + int(rest[-1]) % 4))
        if rgb is None:
            return length * np.concatenate([np.zeros(_COLOUR_AXES), noise])
        colour = np.append(rgb / 127.5 - 1.0, _CONSTANT)
        colour *= _COLOUR_SHARE / np.linalg.norm(colour)
        return length * np.concatenate([colour, np.sqrt(1 - _COLOUR_SHARE**2) * noise])

    def _stack(self, rows: list[NDArray[np.float64]], *, normalize: bool) -> Vectors:
        return finished_rows(np.array(rows).reshape(len(rows), self.dim), normalize=normalize)


def load(spec: EncoderSpec, *, device: str) -> FakeEncoder:
    """The fake encoder of `spec`: "fake", or "fake:DIM". The device only has to be well formed."""
    check_device_name(device)
    name = parse_spec(str(spec)).name
    return FakeEncoder(int(name) if name else DEFAULT_DIM)
