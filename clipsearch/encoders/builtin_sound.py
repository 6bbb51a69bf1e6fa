"""Sounds in the space of the built-in encoder: what a small classifier hears, said in words.

ConSE, as for pictures (builtin.py), on the classes of the sound classifier:

    T   = mean of minilm(prompt + part) over the parts of class c      (classes, 384)
    row = softmax(logits / temperature) (T - c̄)     with c̄, the centre of texts, of builtin.py

A class such as "animal calling" is made of parts, "dog barking" and others, that the classifier
does not tell apart. Their mean finds more than the class's own name (mAP on validation clips, asked
for a part: 0.75, by the name 0.65; asked for the class 0.83 and 0.84).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.minilm import MiniLM
from clipsearch.encoders.sound_classifier import (
    RATE,
    SoundClassifier,
    weights_sha256,
)
from clipsearch.encoders.values import checked_wave
from clipsearch.types import Vectors, Wave

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = RATE
LONGEST = 30 * RATE  # samples that the classifier takes at once; what is longer is averaged
FORMULA = 1  # raised when rows of the same weights change


class SoundTower:
    """The classifier and the directions of its classes. Safe in several threads."""

    def __init__(self, text: MiniLM, centre: Vectors, *, device: torch.device) -> None:
        """Raises EncoderError if the weights are missing or damaged."""
        self._classifier = SoundClassifier(device=device)
        prompt, parts = self._classifier.prompt, self._classifier.class_parts
        vectors = [text.encode([prompt + part for part in own]).mean(axis=0) for own in parts]
        self._directions = np.stack(vectors) - centre  # (classes, 384)

    def rows(self, waves: Sequence[Wave]) -> NDArray[np.float64]:
        """(len(waves), 384) rows, not scaled, of mono waves at SAMPLE_RATE.

        One that is longer than half a minute is the mean of its half minutes.
        """
        mixed: NDArray[np.float64] = self.probabilities(waves) @ self._directions
        return mixed

    def probabilities(self, waves: Sequence[Wave]) -> NDArray[np.float64]:
        """(len(waves), classes), each row with a sum of 1."""
        parts = [
            (owner, wave[at : at + LONGEST])
            for owner, wave in enumerate(map(checked_wave, waves))
            for at in range(0, len(wave), LONGEST)
        ]
        total = np.zeros((len(waves), len(self._directions)))
        for length, group in groupby(parts, key=lambda part: len(part[1])):  # alike ones together
            owners, pieces = zip(*group, strict=True)
            logits = self._classifier.logits(np.stack(pieces)).astype(np.float64)
            np.add.at(total, list(owners), length * _softmax(logits / self._classifier.temperature))
        means: NDArray[np.float64] = total / total.sum(axis=1, keepdims=True)
        return means


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return chances


def fingerprint(text_sha256: str, centre_sha256: str) -> str:
    """builtin-sound@ and a hash of both weights, the centre and the formula."""
    parts = [text_sha256, centre_sha256, weights_sha256(), repr(FORMULA)]
    return f"builtin-sound@{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:12]}"
