"""Training examples out of clips: placed, mixed, filtered, drowned in noise, all on mel powers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.sound_classifier import MELS
from tools.sounds.classes import OFTEN
from tools.sounds.clips import FLOOR_DB, Clip
from tools.sounds.waveforms import Random, between

Powers = NDArray[np.float32]

MIXED = 0.4  # part of the examples that hold a second sound
NOISY = 0.6
FILTERED = 0.85
MASKED = 0.5
BRIEF = 0.3  # part of the longer clips that is cut to 0.4 to 1.2 s: words, single calls
LENGTHS = (100, 125, 150, 175, 200, 250)  # frames of a batch: 2 to 5 s


class Deck:
    """Clips to draw from: classes of several labels more often, the kinds of source alike."""

    def __init__(self, clips: list[Clip], parts: dict[str, tuple[str, ...]]) -> None:
        """`parts` says which labels of clips make up each class; other clips are left out."""
        kinds: dict[str, dict[str, list[Clip]]] = {}
        for clip in clips:
            kinds.setdefault(clip.label, {}).setdefault(_kind(clip.source), []).append(clip)
        self._kinds = [
            [[kinds[label][k] for k in sorted(kinds[label])] for label in labels]
            for labels in parts.values()
        ]
        sizes = np.array(
            [len(labels) ** 0.5 * OFTEN.get(name, 1) for name, labels in parts.items()]
        )
        self._often = sizes / sizes.sum()

    def draw(self, rng: Random) -> tuple[int, Clip]:
        """A clip and the number of its class."""
        number = int(rng.choice(len(self._kinds), p=self._often))
        kinds = self._kinds[number][int(rng.integers(len(self._kinds[number])))]
        some = kinds[int(rng.integers(len(kinds)))]
        return number, some[int(rng.integers(len(some)))]

    def batch(self, rng: Random, size: int) -> tuple[Powers, NDArray[np.float32]]:
        """(size, frames, 64) powers and (size, classes) parts of the classes in them."""
        frames = int(rng.choice(LENGTHS))
        powers = np.zeros((size, frames, MELS), dtype=np.float32)
        targets = np.zeros((size, len(self._kinds)), dtype=np.float32)
        for row in range(size):
            powers[row], labels = self._example(rng, frames)
            for label, part in labels:
                targets[row, label] += part
        return powers, targets

    def _example(self, rng: Random, frames: int) -> tuple[Powers, list[tuple[int, float]]]:
        label, clip = self.draw(rng)
        powers, labels = placed(rng, clip, frames), [(label, 1.0)]
        if rng.random() < MIXED:
            other, second = self.draw(rng)
            louder = rng.uniform(-12, 12)  # dB of the first above the second
            part = float(1 / (1 + 10 ** (-louder / 10)))
            powers += placed(rng, second, frames) * np.float32(10 ** (-louder / 10))
            labels = [(label, part), (other, 1 - part)]
        if rng.random() < FILTERED:
            powers *= filter_gain(rng)
        if rng.random() < NOISY:
            powers += noise_powers(rng, frames, float(powers.max()))
        if rng.random() < MASKED:
            mask(rng, powers)
        return powers, labels


def _kind(source: str) -> str:
    return source if source in ("synthesised", "spoken") else "recorded"


def placed(rng: Random, clip: Clip, frames: int) -> Powers:
    """`clip` at a random place of a window, a little faster or slower, higher or lower."""
    levels = clip.decibels
    if rng.random() < BRIEF and len(levels) > 60:
        start = int(rng.integers(0, len(levels) - 60))
        levels = levels[start : start + int(rng.integers(20, 60))]
    if rng.random() < 0.4:
        pace = rng.uniform(0.85, 1.18)
        levels = levels[np.arange(0, len(levels) - 0.5, pace).astype(int)]
    if len(levels) > frames:
        start = int(rng.integers(0, len(levels) - frames + 1))
        levels = levels[start : start + frames]
    if rng.random() < 0.5:
        levels = np.roll(levels, int(rng.integers(-3, 4)), axis=1)
    part = 10 ** (np.maximum(levels.astype(np.float32), FLOOR_DB) / 10)
    out = np.zeros((frames, MELS), dtype=np.float32)
    start = int(rng.integers(0, frames - len(part) + 1))
    out[start : start + len(part)] = part / max(float(part.max()), 1e-9)
    return out


def filter_gain(rng: Random) -> Powers:
    """(64,) gains of a microphone, a loudspeaker, a codec: uneven, often without the treble."""
    decibels = np.interp(np.arange(MELS), np.linspace(0, MELS - 1, 8), rng.normal(0, 7, 8))
    if rng.random() < 0.5:  # many files were once sampled at 8 to 22 kHz
        edge = int(rng.integers(36, MELS))
        decibels[edge:] -= np.arange(1, MELS - edge + 1) * between(rng, 2, 80)
    if rng.random() < 0.2:
        edge = int(rng.integers(2, 14))
        decibels[:edge] -= np.arange(edge, 0, -1) * rng.uniform(1, 6)
    return (10 ** (decibels / 10)).astype(np.float32)


def noise_powers(rng: Random, frames: int, peak: float) -> Powers:
    """Steady noise of a random colour, 15 to 65 dB below the loudest cell."""
    decibels = np.interp(np.arange(MELS), np.linspace(0, MELS - 1, 5), rng.uniform(-12, 12, 5))
    decibels -= np.arange(MELS) * rng.uniform(-0.1, 0.5)
    decibels -= decibels.max() + rng.uniform(15, 65)
    grain = rng.standard_exponential((frames, MELS), dtype=np.float32)
    return grain * (peak * 10 ** (decibels / 10)).astype(np.float32)


def mask(rng: Random, powers: Powers) -> None:
    """Silence a few bands and a stretch of time (SpecAugment)."""
    low = int(rng.integers(0, MELS - 8))
    powers[:, low : low + int(rng.integers(1, 8))] = 0
    start = int(rng.integers(0, len(powers)))
    powers[start : start + int(rng.integers(1, 20))] = 0
