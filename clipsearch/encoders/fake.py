"""Deterministic vectors without weights: for tests, documentation and index benchmarks.

Only colours and pitches mean something. "red" and "a red door" lie near pictures whose mean colour
is red; "low" and "a low hum" near sounds whose strongest frequency is below 300 Hz, "middle" from
there on, and "high" from 2000 Hz on. The two have axes of their own: a colour says nothing of a
sound, and a text that names both lies near both. All else, text, picture or sound, and silence, is
a direction drawn from a hash of the content.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import EncoderSpec, Prepared
from clipsearch.encoders.devices import check_device_name
from clipsearch.encoders.patches import Places, fit
from clipsearch.encoders.spec import parse_spec
from clipsearch.encoders.values import (
    NO_FLOORS,
    Untuned,
    checked_pixels,
    checked_stack,
    checked_wave,
    finished_rows,
    plain_text,
)
from clipsearch.types import Pixels, Vectors, Wave

DEFAULT_DIM = 64
SHORT_SIDE = 64
PLACES = 8
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
SAMPLE_RATE = 16000
PITCH_EDGES = (300.0, 2000.0)  # Hz, between low, middle and high
PITCHES: dict[str, int] = {"low": 0, "hum": 0, "middle": 1, "high": 2, "whistle": 2}
_COLOUR_AXES = 4  # red, green, blue from -1 to 1, and a constant: grey has a direction too
_CONSTANT = 0.5
_PITCH_AXES = 3  # one each; where no pitch is named they are the hash's, as they were before
_MEANING_SHARE = 0.95  # of the length; the rest is the content's hash: equal colours still differ


class FakeEncoder(Untuned):
    """An Encoder whose vectors follow from the content by arithmetic alone.

    Without `normalize` a row has a length of 2, 4, 8 or 16 that the content's hash chooses: powers
    of two, so that scaling it back loses nothing.
    """

    supports_text = True
    supports_images = True
    supports_patches = True
    supports_audio = True
    floors = NO_FLOORS
    logit_scale = 100.0  # as CLIP ends up with
    short_side = SHORT_SIDE
    sample_rate = SAMPLE_RATE

    def __init__(self, dim: int = DEFAULT_DIM) -> None:
        self.dim = dim
        self.spec = EncoderSpec("fake", str(dim))
        self.fingerprint = f"fake:{dim}@1"  # raise the number when the vectors change

    @property
    def audio_fingerprint(self) -> str:
        """That of the whole encoder."""
        return self.fingerprint

    def encode_text(self, texts: Sequence[str], *, normalize: bool = True) -> Vectors:
        """(len(texts), dim) float32 rows; the colours that a text names are averaged; pitches too.

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
        rows = [self._mix(_colour(p.mean(axis=(0, 1))), p.tobytes()) for p in pictures]
        return self._stack(rows, normalize=normalize)

    def encode_patches(self, pixels: Pixels) -> Places:
        """(rows, columns, dim) unit vectors of the mean colours of places, 8 on a short side."""
        picture = fit(pixels, PLACES * THUMBNAIL)
        rows, columns = (round(side / THUMBNAIL) for side in picture.shape[:2])
        bands = np.array_split(picture, rows)
        places = [place for band in bands for place in np.array_split(band, columns, axis=1)]
        made = [self._mix(_colour(p.mean(axis=(0, 1))), p.tobytes()) for p in places]
        return self._stack(made, normalize=True).reshape(rows, columns, self.dim)

    def encode_audio(self, waves: Sequence[Wave], *, normalize: bool = True) -> Vectors:
        """(len(waves), dim) float32 rows of mono waves (samples,) at 16000 Hz, of any length."""
        rows = [
            self._mix(_heard(checked_wave(wave)), wave.astype("<f4").tobytes()) for wave in waves
        ]
        return self._stack(rows, normalize=normalize)

    def _text(self, text: str) -> NDArray[np.float64]:
        if not self.fits(text):
            text = " ".join(text.split(None, MAX_WORDS)[:MAX_WORDS])
        words = re.findall(r"[a-z]+", text.lower())
        colours = [COLOURS[word] for word in words if word in COLOURS]
        pitches = [PITCHES[word] for word in words if word in PITCHES]
        colour = _colour(np.mean(colours, axis=0)) if colours else None
        if not pitches:
            return self._mix(colour, text.encode())
        pitch = _pitch(pitches)
        if colour is not None:
            pitch[:_COLOUR_AXES] = colour / np.linalg.norm(colour)
        return self._mix(pitch, text.encode())

    def _mix(self, meaning: NDArray[np.float64] | None, content: bytes) -> NDArray[np.float64]:
        """What is meant in the first axes, a hash of the content in the others.

        Of the length that the content chooses. What means nothing leaves the colours' axes empty.
        """
        first = _COLOUR_AXES if meaning is None else len(meaning)
        rest = np.frombuffer(hashlib.shake_256(content).digest(2 * (self.dim - first)), dtype="<u2")
        noise = rest / 32767.5 - 1.0
        noise /= np.linalg.norm(noise)
        length = float(2 ** (1 + int(rest[-1]) % 4))
        if meaning is None:
            return length * np.concatenate([np.zeros(first), noise])
        meant = meaning * (_MEANING_SHARE / np.linalg.norm(meaning))
        return length * np.concatenate([meant, np.sqrt(1 - _MEANING_SHARE**2) * noise])

    def _stack(self, rows: list[NDArray[np.float64]], *, normalize: bool) -> Vectors:
        return finished_rows(np.array(rows).reshape(len(rows), self.dim), normalize=normalize)


def _colour(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """The colours' axes of a colour of 0 to 255 a channel."""
    return np.append(rgb / 127.5 - 1.0, _CONSTANT)


def _pitch(bands: Sequence[int]) -> NDArray[np.float64]:
    """The axes of colours, empty, and of pitches, of unit length; one band at least."""
    counts = np.bincount(bands, minlength=_PITCH_AXES) / len(bands)
    return np.concatenate([np.zeros(_COLOUR_AXES), counts / np.linalg.norm(counts)])


def _heard(wave: Wave) -> NDArray[np.float64] | None:
    """The axes of the band of the strongest frequency; None for silence."""
    power = np.abs(np.fft.rfft(wave))
    power[0] = 0.0  # a constant is no sound
    if not power.any():
        return None
    hertz = float(np.argmax(power)) * SAMPLE_RATE / len(wave)
    return _pitch([bisect_right(PITCH_EDGES, hertz)])


def load(spec: EncoderSpec, *, device: str) -> FakeEncoder:
    """The fake encoder of `spec`: "fake", or "fake:DIM". The device only has to be well formed."""
    check_device_name(device)
    name = parse_spec(str(spec)).name
    return FakeEncoder(int(name) if name else DEFAULT_DIM)
