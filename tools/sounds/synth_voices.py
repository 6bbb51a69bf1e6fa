"""Throats: animals and people, as a source of pulses or noise through resonances."""

from __future__ import annotations

import numpy as np

from clipsearch.encoders.sound_classifier import RATE
from tools.sounds.waveforms import (
    Random,
    Wave,
    between,
    buzz,
    curve,
    decay,
    formants,
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


def throat(rng: Random, track: Wave, rough: float, centres: list[float], slope: float) -> Wave:
    """A voice that follows `track` in Hz; `rough` is the part of noise in it."""
    n = len(track)
    shaky = track * (1 + rng.uniform(0, 0.02) * noise(rng, n, 1, 30))
    source = buzz(shaky, n, slope, 40)
    breath = noise(rng, n, 100, 7500) * np.abs(1 + tone(shaky, n))
    return unit(formants((1 - rough) * unit(source) + rough * unit(breath), centres))


def dog(rng: Random) -> Wave:
    """Barks, alone or in a row."""
    pitch, size = between(rng, 250, 900), between(rng, 0.7, 1.5)
    rough = rng.uniform(0.1, 0.7)

    def bark() -> Wave:
        n = seconds(rng.uniform(0.08, 0.3))
        track = pitch * line(n, 0.8, 1.15, 1.0, rng.uniform(0.4, 0.8)) * rng.uniform(0.9, 1.1)
        voice = throat(rng, track, rough, [700 * size, 1200 * size, 2600 * size], 0.6)
        return np.tanh(rng.uniform(1, 4) * voice) * swell(n, 0.08, 0.6)

    gap = between(rng, 0.25, 0.9)
    length = rng.uniform(0.4, 3.5)
    return room(rng, repeated(rng, bark, length, (gap, gap * 1.4)), 0.08, rng.uniform(0, 0.5))


def cat(rng: Random) -> Wave:
    """Meows."""
    n = seconds(rng.uniform(0.4, 1.6))
    track = between(rng, 380, 950) * line(n, 0.75, 1.05, 1.0, rng.uniform(0.6, 0.95))
    size = between(rng, 0.8, 1.3)
    closed = throat(rng, track, 0.05, [450 * size, 2300 * size, 3600 * size], 0.9)
    opened = throat(rng, track, 0.05, [1000 * size, 1900 * size, 3400 * size], 0.7)
    mix = line(n, 0, 1, rng.uniform(0.4, 1), 0.1)
    out = (closed * (1 - mix) + opened * mix) * swell(n, 0.2, 0.45)
    return room(rng, out, 0.06, rng.uniform(0, 0.4))


def cow(rng: Random) -> Wave:
    """Moos: long, low, opening."""
    n = seconds(rng.uniform(0.9, 2.8))
    track = between(rng, 75, 240) * line(n, 0.75, 1.0, 1.05, rng.uniform(0.7, 1.1))
    closed = throat(rng, track, 0.05, [240, 900, 2200], 1.0)
    opened = throat(rng, track, rng.uniform(0.05, 0.3), [550, 1100, 2500], 0.6)
    mix = line(n, 0, 0.3, 1, rng.uniform(0.3, 1))
    return room(rng, (closed * (1 - mix) + opened * mix) * swell(n, 0.15, 0.3), 0.1, 0.2)


def sheep(rng: Random) -> Wave:
    """Bleats of sheep and goats: a voice that trembles."""
    n = seconds(rng.uniform(0.4, 1.6))
    tremble = 1 + rng.uniform(0.04, 0.12) * tone(rng.uniform(7, 16), n)
    track = between(rng, 150, 620) * line(n, 0.95, 1.05, 1, 0.85) * tremble
    size = between(rng, 0.8, 1.3)
    voice = throat(rng, track, rng.uniform(0.05, 0.35), [700 * size, 1500 * size, 2700 * size], 0.5)
    return room(rng, voice * swell(n, 0.1, 0.3) * tremble**3, 0.08, rng.uniform(0, 0.3))


def horse(rng: Random) -> Wave:
    """Neighs: high, trembling, falling, ending in a snort."""
    n = seconds(rng.uniform(0.9, 2.6))
    tremble = 1 + rng.uniform(0.04, 0.15) * tone(curve(rng, n, 7, 15, per_second=1), n)
    track = between(rng, 500, 1300) * line(n, 0.6, 1.2, 1.1, 0.8, 0.45) * tremble
    voice = throat(rng, track, rng.uniform(0.1, 0.5), [1000, 1900, 3200], 0.6)
    return room(rng, voice * swell(n, 0.12, 0.4) * tremble**4, 0.1, rng.uniform(0, 0.4))


def hooves(rng: Random) -> Wave:
    """A horse walks, trots or gallops."""
    hard = between(rng, 500, 2500)

    def hoof() -> Wave:
        n = seconds(0.08)
        clop = noise(rng, n, hard * 0.6, hard * 1.6) * decay(n, rng.uniform(0.004, 0.015))
        return clop + rng.uniform(0, 1) * noise(rng, n, 40, 300) * decay(n, 0.015)

    canvas, at = np.zeros(seconds(rng.uniform(2, 5)), "f4"), 0.0
    steps = rng.permutation(
        [[0.25, 0.25], [0.12, 0.12, 0.28], [0.1, 0.14, 0.1, 0.3], [0.4, 0.35]][rng.integers(4)]
    ) * rng.uniform(0.8, 1.4)
    while at < len(canvas) / RATE:
        for step in steps:
            put(canvas, hoof(), at, rng.uniform(0.5, 1))
            at += float(step) * rng.uniform(0.95, 1.05)
    return room(rng, canvas, 0.05, rng.uniform(0, 0.4))


def pig(rng: Random) -> Wave:
    """Grunts, now and then a squeal."""
    low = between(rng, 50, 160)

    def grunt() -> Wave:
        squeal = rng.random() < 0.25
        n = seconds(rng.uniform(0.3, 0.9) if squeal else rng.uniform(0.1, 0.4))
        pitch = between(rng, 500, 1300) if squeal else low
        track = pitch * curve(rng, n, 0.8, 1.25, per_second=8)
        centres = [1300.0, 2600.0, 3800.0] if squeal else [350.0, 800.0, 1700.0]
        return throat(rng, track, rng.uniform(0.3, 0.8), centres, 0.5) * swell(n, 0.2, 0.4)

    gap = rng.uniform(0.25, 0.9)
    return repeated(rng, grunt, rng.uniform(0.4, 3), (gap, gap * 1.6))


def wolf(rng: Random) -> Wave:
    """A howl."""
    n = seconds(rng.uniform(1.5, 5))
    track = between(rng, 280, 800) * line(n, 0.6, *rng.uniform(0.9, 1.1, 4), rng.uniform(0.6, 0.9))
    voice = throat(rng, track, rng.uniform(0, 0.1), [600, 1100, 2400], rng.uniform(1.2, 2.2))
    return room(rng, voice * swell(n, 0.2, 0.35), 0.3, rng.uniform(0.2, 0.8))


def roar(rng: Random) -> Wave:
    """Lions, bears and monsters: long, low and rough."""
    n = seconds(rng.uniform(0.6, 2.8))
    track = between(rng, 40, 170) * line(n, 0.8, 1.2, 1, 0.7)
    size = between(rng, 0.7, 1.4)
    voice = throat(rng, track, rng.uniform(0.3, 0.8), [380 * size, 800 * size, 1900 * size], 0.4)
    return room(rng, np.tanh(2.5 * voice) * swell(n, 0.15, 0.5), 0.15, rng.uniform(0, 0.5))


def laughter(rng: Random) -> Wave:
    """Ha ha ha: short open vowels at an even pace, falling."""
    pitch, size = between(rng, 100, 480), between(rng, 0.85, 1.25)
    out, at = np.zeros(seconds(rng.uniform(1, 3.5)), "f4"), 0.0
    pace, vowel = rng.uniform(0.14, 0.3), [[780, 1250, 2600], [500, 1800, 2500], [450, 850, 2500]]
    centres = [size * f for f in vowel[rng.integers(3)]]
    while at < len(out) / RATE:
        n = seconds(pace * rng.uniform(0.45, 0.75))
        put(out, 0.3 * noise(rng, n // 2, 600, 5000), at, 0.5)
        voice = throat(rng, pitch * line(n, 1.05, 1.1, 0.85), rng.uniform(0, 0.3), centres, 0.8)
        put(out, voice * swell(n, 0.2, 0.5), at + 0.04, rng.uniform(0.5, 1))
        at, pitch = at + pace * rng.uniform(0.9, 1.15), pitch * rng.uniform(0.94, 1.03)
    return room(rng, out, 0.1, rng.uniform(0, 0.4))


def scream(rng: Random) -> Wave:
    """A person screams."""
    n = seconds(rng.uniform(0.5, 2.5))
    track = between(rng, 350, 1500) * line(n, 0.8, 1.1, 1.05, rng.uniform(0.6, 1.0))
    voice = throat(rng, track, rng.uniform(0.05, 0.4), [950, 1500, 2900], 0.3)
    return room(rng, np.tanh(3 * voice) * swell(n, 0.1, 0.3), 0.12, rng.uniform(0, 0.5))


VOICES = {
    "dog barking": dog,
    "cat meowing": cat,
    "cow mooing": cow,
    "sheep bleating": sheep,
    "horse neighing": horse,
    "horse galloping": hooves,
    "pig grunting": pig,
    "wolf howling": wolf,
    "lion roaring": roar,
    "laughter": laughter,
    "screaming": scream,
}
