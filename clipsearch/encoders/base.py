"""What every encoder is: text, pictures and sounds in, rows of one space out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Pixels, Source, Vectors, Wave

Prepared = NDArray[Any]  # one picture as the image tower takes it; its shape is the encoder's own


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Which encoder: a family of `ENCODERS` and a name inside it, as `family:name` in text.

    `str(spec)` is what `--model` takes and what the index's manifest keeps.
    """

    family: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.family}:{self.name}" if self.name else self.family


@dataclass(frozen=True, slots=True)
class Feeding:
    """How pictures reach an encoder fastest.

    `calls` calls of `encode_images` at once, each in a thread of its own, of `batch` pictures.
    `threads`: of torch in each of these threads, see `devices.limit_threads`; 0: as they are.
    """

    batch: int = 32
    calls: int = 1
    threads: int = 0


class Encoder(Protocol):
    """Text and pictures, or text and sounds, or all three, to vectors of one space.

    Loading is lazy: a tower loads when first used. What an encoder does not support raises
    EncoderError, also for no items.

    Safe to call from several threads. Rows come in the order of the input, and are of unit length
    unless `normalize` is False: then they are what the model gave, before it was scaled, in
    float32. `values.unit_rows` of these is to the bit what comes with `normalize`; it gives a row
    of zeros, which has no direction, the first axis.
    """

    @property
    def spec(self) -> EncoderSpec:
        """What to pass to `load_encoder` to get this encoder again."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """Name, hash of the weights and pre-processing; equal means equal vectors."""
        ...

    @property
    def supports_text(self) -> bool:
        """Whether `encode_text` works."""
        ...

    @property
    def supports_images(self) -> bool:
        """Whether `prepare` and `encode_images` work."""
        ...

    @property
    def short_side(self) -> int:
        """Pixels that a picture's shorter side must keep for `prepare` to lose nothing.

        1 without pictures.
        """
        ...

    @property
    def supports_audio(self) -> bool:
        """Whether `encode_audio` works."""
        ...

    @property
    def sample_rate(self) -> int:
        """Hz of the waves that `encode_audio` takes; 0 without audio."""
        ...

    def encode_text(self, texts: Sequence[str], *, normalize: bool = True) -> Vectors:
        """(len(texts), dim) float32 rows. Raises EncoderError if text is not supported."""
        ...

    def fits(self, text: str) -> bool:
        """Whether `encode_text` reads all of `text`: what exceeds an encoder's window is cut off.

        Cheap next to encoding, and no reason to load a tower.
        """
        ...

    def prepare(self, pixels: Pixels) -> Prepared:
        """Resize, crop and scale one picture. Cheap to keep, safe in any thread."""
        ...

    def encode_images(self, prepared: Sequence[Prepared], *, normalize: bool = True) -> Vectors:
        """(len(prepared), dim) float32 rows of pictures that `prepare` made."""
        ...

    @property
    def feeding(self) -> Feeding:
        """How pictures reach this encoder fastest: by rules, and after `tune` by what it found.

        Loads no tower, but may have to ask torch for the device.
        """
        ...

    def tune(self, memory: Path) -> str | None:
        """Try for about a second how this machine encodes pictures fastest, and do so from then on.

        What was found is kept in the JSON file `memory` and read from there the next time, for the
        same model, machine and libraries; one that is damaged or cannot be written is as if it were
        not there. Fingerprint and vectors stay the same within the precision that the encoder
        promises. Returns a line for the user that says what was tried, None where nothing was.
        """
        ...

    def compile(self) -> None:
        """Have torch compile what encodes pictures, with the first full batch of `feeding`.

        That takes seconds to minutes, and may gain nothing: on a CPU builtin became no faster.
        Vectors stay the same within the precision that the encoder promises. Raises UsageError
        where there is nothing to compile; EncoderError comes with the first batch if torch cannot.
        """
        ...

    @property
    def supports_patches(self) -> bool:
        """Whether `encode_patches` works."""
        ...

    def encode_patches(self, pixels: Pixels) -> NDArray[np.float32]:
        """(rows, columns, dim) unit vectors of the places of one whole upright picture.

        In the space of texts: row 0 is the top, column 0 the left, and all are of one size. How
        many there are is the encoder's own: 7 rows of a wide picture for CLIP's ViT-B-32, 14 for
        builtin. A picture more than 8 times as long as wide is squeezed to that.

        Raises EncoderError if it is not supported, UsageError for no picture.
        """
        ...

    @property
    def audio_fingerprint(self) -> str:
        """The same for `encode_audio` alone, which may have weights of its own; "" without it."""
        ...

    @property
    def logit_scale(self) -> float:
        """The factor on cosines whose softmax gives the chances of labels, already exponentiated:
        what the model was trained with, or one that was measured.
        """
        ...

    @property
    def floors(self) -> Mapping[Source, float]:
        """Cosines to words below which sounds ("audio") and texts ("text") are hardly to the point,
        where that was measured; most encoders have none.
        """
        ...

    def encode_audio(self, waves: Sequence[Wave], *, normalize: bool = True) -> Vectors:
        """(len(waves), dim) float32 rows of mono waves (samples,) at `sample_rate`, -1..1.

        Each of any length from 0.1 s on. Raises UsageError for what is no such wave.
        """
        ...
