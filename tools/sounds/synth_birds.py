"""Birds, frogs and insects: whistles, quacks, trains of pulses."""

from __future__ import annotations

import numpy as np

from clipsearch.encoders.sound_classifier import RATE
from tools.sounds.synth_voices import throat
from tools.sounds.waveforms import (
    Random,
    Wave,
    between,
    buzz,
    curve,
    line,
    noise,
    put,
    repeated,
    room,
    seconds,
    swell,
    tone,
    unit,
)


def rooster(rng: Random) -> Wave:
    """Cock-a-doodle-doo."""
    parts, size = [], between(rng, 0.85, 1.25)
    for length, low, high in (
        (0.15, 0.7, 0.9),
        (0.18, 0.8, 1.1),
        (0.3, 1.0, 1.25),
        (0.8, 1.2, 0.7),
    ):
        n = seconds(length * rng.uniform(0.7, 1.5))
        track = 680 * size * line(n, low, high, (low + high) / 2)
        parts.append(
            throat(rng, track, rng.uniform(0.05, 0.35), [1100, 2200, 3400], 0.4)
            * swell(n, 0.15, 0.35)
        )
        parts.append(np.zeros(seconds(rng.uniform(0.0, 0.08)), "f4"))
    return room(rng, np.concatenate(parts), 0.15, rng.uniform(0, 0.6))


def hens(rng: Random) -> Wave:
    """Hens cluck."""
    pitch = between(rng, 350, 900)

    def cluck() -> Wave:
        n = seconds(rng.uniform(0.05, 0.4 if rng.random() < 0.2 else 0.13))
        track = pitch * line(n, 0.8, 1.2, 0.8) * rng.uniform(0.8, 1.3)
        return throat(rng, track, rng.uniform(0.1, 0.4), [900, 1900, 3000], 0.5) * swell(
            n, 0.2, 0.5
        )

    return repeated(rng, cluck, rng.uniform(1.5, 4), (0.13, rng.uniform(0.3, 0.8)))


def duck(rng: Random) -> Wave:
    """Quacks, also of geese."""
    pitch, size = between(rng, 130, 420), between(rng, 0.8, 1.3)

    def quack() -> Wave:
        n = seconds(rng.uniform(0.1, 0.35))
        track = pitch * line(n, 1.1, 1.0, 0.8)
        voice = throat(rng, track, rng.uniform(0.05, 0.3), [1100 * size, 1900 * size, 3000], 0.1)
        return voice * swell(n, 0.1, 0.4)

    gap = rng.uniform(0.2, 0.6)
    return repeated(rng, quack, rng.uniform(0.4, 3), (gap, gap * 1.3))


def crow(rng: Random) -> Wave:
    """Caws."""
    pitch = between(rng, 300, 650)

    def caw() -> Wave:
        n = seconds(rng.uniform(0.2, 0.5))
        track = pitch * line(n, 0.9, 1.05, 0.85)
        voice = throat(rng, track, rng.uniform(0.3, 0.7), [1100, 1700, 2700], 0.1)
        out: Wave = np.tanh(2 * voice) * swell(n, 0.1, 0.35)
        return out

    gap = rng.uniform(0.4, 1)
    return room(rng, repeated(rng, caw, rng.uniform(0.5, 4), (gap, gap * 1.4)), 0.15, 0.3)


def bird(rng: Random) -> Wave:
    """Chirps, trills and whistled phrases of song birds."""
    n = seconds(rng.uniform(1, 6))
    out = np.zeros(n, "f4")
    for _ in range(rng.integers(1, 4)):
        pitch, loud = between(rng, 1700, 5500), between(rng, 0.2, 1)
        at = rng.uniform(0, 1)
        while at < n / RATE:
            shape = rng.uniform(0.65, 1.45, rng.integers(2, 6))
            length, gap = between(rng, 0.03, 0.25), rng.uniform(0.01, 0.12)
            for _ in range(rng.integers(1, 9)):
                m = seconds(length)
                note = tone(pitch * line(m, *shape), m, [1, rng.uniform(0, 0.2)])
                put(out, note * swell(m, 0.25, 0.4), at, loud)
                at += length + gap
            at += rng.uniform(0.1, 1.2)
    return room(rng, out, 0.12, rng.uniform(0, 0.6))


def owl(rng: Random) -> Wave:
    """Hoots: soft, low, nearly pure."""
    pitch, out, at = between(rng, 250, 850), np.zeros(seconds(rng.uniform(1.2, 4)), "f4"), 0.0
    while at < len(out) / RATE:
        n = seconds(rng.uniform(0.12, 0.9))
        shake = 1 + rng.choice([0, 0.03]) * tone(rng.uniform(8, 16), n)
        hoot = tone(pitch * line(n, 0.93, 1, 0.97, 0.9) * shake, n, [1, 0.15, 0.05])
        put(out, hoot * swell(n, 0.25, 0.4), at, rng.uniform(0.6, 1))
        at += n / RATE + rng.uniform(0.05, 0.7)
    return room(rng, out, 0.2, rng.uniform(0.1, 0.6))


def frog(rng: Random) -> Wave:
    """Croaks: trains of short pulses."""
    pitch, pulse = between(rng, 350, 2600), between(rng, 18, 90)

    def croak() -> Wave:
        n = seconds(rng.uniform(0.1, 0.7))
        gate = np.maximum(0, tone(pulse * line(n, 1, rng.uniform(0.8, 1.3)), n)) ** 2
        body = tone(pitch, n, [1, 0.4, 0.2]) + 0.5 * noise(rng, n, pitch * 0.7, pitch * 1.4)
        return unit(body * gate * swell(n, 0.2, 0.2))

    gap = rng.uniform(0.25, 1)
    return repeated(rng, croak, rng.uniform(0.6, 5), (gap, gap * 1.5))


def crickets(rng: Random) -> Wave:
    """Crickets and grasshoppers: high pulses, in groups or without end."""
    n = seconds(rng.uniform(2, 6))
    out = np.zeros(n, "f4")
    for _ in range(rng.integers(1, 4)):
        pitch, pulse, group = between(rng, 2600, 7000), rng.uniform(16, 70), rng.uniform(0.4, 3)
        x = np.arange(n) / RATE + rng.uniform(0, 1)
        gate = np.maximum(0, np.sin(2 * np.pi * pulse * x))
        if rng.random() < 0.7:
            gate = gate * ((x * group) % 1 < rng.uniform(0.2, 0.7))
        song = tone(pitch, n) if rng.random() < 0.7 else noise(rng, n, pitch * 0.8, pitch * 1.2)
        out += between(rng, 0.2, 1) * (song * gate).astype("f4")
    return out + rng.uniform(0, 0.1) * noise(rng, n, 1000, 7500)


def insect(rng: Random) -> Wave:
    """Bees, flies and mosquitoes."""
    n = seconds(rng.uniform(1, 4))
    track = between(rng, 110, 650) * curve(rng, n, 0.88, 1.12, per_second=4)
    out = buzz(track, n, rng.uniform(0.4, 1.3), 30) * curve(rng, n, 0.1, 1, per_second=2)
    return out + 0.05 * noise(rng, n, 100, 4000)


BIRDS = {
    "rooster crowing": rooster,
    "hen clucking": hens,
    "duck quacking": duck,
    "crow cawing": crow,
    "bird singing": bird,
    "owl hooting": owl,
    "frog croaking": frog,
    "crickets chirping": crickets,
    "insect buzzing": insect,
}
