"""Checks and arithmetic that every encoder shares, on numpy arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Never

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import EncoderSpec, Feeding, Prepared
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import Pixels, Source, Vectors, Wave

_ZERO_NORM = 1e-12


def unit_rows(rows: NDArray[Any]) -> Vectors:
    """`rows` (n, dim) scaled to unit length, float32.

    A row of zeros has no direction; it becomes the first axis, so that it is valid and constant.
    NaN stays NaN: the check in EmbeddingBatch reports it.
    """
    exact = np.asarray(rows, dtype=np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    zero = norms[:, 0] < _ZERO_NORM
    unit = exact / np.where(zero[:, None], 1.0, norms)
    unit[zero] = np.eye(1, rows.shape[1])
    return unit.astype(np.float32)


def finished_rows(raw: NDArray[Any], *, normalize: bool) -> Vectors:
    """What an encoder returns for the features `raw` (n, dim): float32, scaled if asked.

    Rounded to float32 before they are scaled, so that whoever scales them later gets the same.
    """
    rows = np.asarray(raw, dtype=np.float32)
    return unit_rows(rows) if normalize else rows


def plain_text(text: str) -> str:
    """`text` as valid Unicode: bytes of a command line that are not UTF-8 become '?'."""
    return text.encode("utf-8", "replace").decode("utf-8")


def checked_pixels(pixels: Pixels) -> Pixels:
    """`pixels` unchanged; UsageError unless it is (height, width, 3) uint8 and not empty."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise UsageError(
            f"pixels of shape {pixels.shape} and type {pixels.dtype}: need (height, width, 3) uint8"
        )
    return pixels


def checked_stack(prepared: Sequence[NDArray[Any]], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The prepared pictures as one (n, *shape) array; UsageError if one was not prepared for it."""
    for one in prepared:
        if one.shape != shape or one.dtype != np.uint8:
            raise UsageError(
                f"prepared picture of shape {one.shape} and type {one.dtype}: this encoder's"
                f" prepare() makes {shape} uint8"
            )
    return np.stack(prepared)


def checked_wave(wave: Wave) -> Wave:
    """`wave` unchanged; UsageError unless it is (samples,) float32, finite and not empty."""
    if wave.ndim != 1 or wave.dtype != np.float32 or not wave.size:
        raise UsageError(
            f"wave of shape {wave.shape} and type {wave.dtype}: need (samples,) float32, not empty"
        )
    if not np.isfinite(wave).all():
        raise UsageError(f"wave of {wave.size} samples holds NaN or infinity: need finite samples")
    return wave


NO_FLOORS: Mapping[Source, float] = MappingProxyType({})


class WithoutAudio:
    """The part of an Encoder that hears nothing."""

    spec: EncoderSpec
    floors = NO_FLOORS
    supports_audio = False
    sample_rate = 0
    audio_fingerprint = ""

    def encode_audio(self, waves: Sequence[Wave], *, normalize: bool = True) -> Vectors:
        """Raises EncoderError."""
        _refuse(self.spec, "sounds", "clap")


class Untuned:
    """The part of an Encoder whose pictures are encoded in one way only."""

    spec: EncoderSpec
    feeding = Feeding()

    def tune(self, memory: Path) -> str | None:
        """None: there is nothing to try."""
        return None

    def compile(self) -> None:
        """Raises UsageError."""
        raise UsageError(f"the model {self.spec} has nothing for torch to compile")


class WithoutImages(Untuned):
    """The part of an Encoder that sees nothing."""

    spec: EncoderSpec
    floors = NO_FLOORS
    supports_images = False
    supports_patches = False
    short_side = 1

    def prepare(self, pixels: Pixels) -> Prepared:
        """Raises EncoderError."""
        _refuse(self.spec, "pictures", "builtin")

    def encode_images(self, prepared: Sequence[Prepared], *, normalize: bool = True) -> Vectors:
        """Raises EncoderError."""
        _refuse(self.spec, "pictures", "builtin")

    def encode_patches(self, pixels: Pixels) -> NDArray[np.float32]:
        """Raises EncoderError."""
        _refuse(self.spec, "pictures", "builtin")


def _refuse(spec: EncoderSpec, what: str, instead: str) -> Never:
    raise EncoderError(f"the model {spec} takes no {what}: use one that does, such as {instead}")


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file of weights; EncoderError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EncoderError(f"cannot read the weights {path}: {error.strerror or error}") from error
