"""Weather, water, fire and what bangs: sounds that are mostly noise."""

from __future__ import annotations

import numpy as np

from clipsearch.encoders.sound_classifier import RATE
from tools.sounds.waveforms import (
    Random,
    Wave,
    between,
    curve,
    decay,
    line,
    noise,
    put,
    repeated,
    room,
    seconds,
    strike,
    swell,
    tone,
    unit,
)


def rain(rng: Random) -> Wave:
    """A steady hiss with drops."""
    n = seconds(rng.uniform(3, 6))
    out = noise(rng, n, between(rng, 150, 1500), 8000, rng.uniform(-4, 1))
    out *= curve(rng, n, 0.7, 1.0, per_second=2)
    drops = np.zeros(n, "f4")
    for _ in range(int(n / RATE * between(rng, 5, 150))):
        drop = noise(rng, 200, between(rng, 500, 4000), 8000) * decay(200, 0.0015)
        put(drops, drop, rng.uniform(0, n / RATE), rng.uniform(0.1, 1))
    return out + rng.uniform(0, 1.2) * drops


def stream(rng: Random) -> Wave:
    """Bubbles, each a short rising tone, over a rush of water."""
    n = seconds(rng.uniform(3, 6))
    out = np.zeros(n, "f4")
    centre = between(rng, 400, 1400)
    for _ in range(int(n / RATE * between(rng, 20, 110))):
        put(
            out,
            _bubble(rng, centre * between(rng, 0.4, 2.5)),
            rng.uniform(0, n / RATE),
            between(rng, 0.1, 1),
        )
    rush = noise(rng, n, 150, between(rng, 1500, 7000), rng.uniform(-6, -1))
    return unit(out) + between(rng, 0.08, 1.0) * rush * curve(rng, n, 0.6, 1, per_second=4)


def _bubble(rng: Random, hertz: float) -> Wave:
    n = seconds(rng.uniform(0.01, 0.06))
    return tone(line(n, hertz, hertz * rng.uniform(1, 1.8)), n) * decay(n, n / RATE / 4)


def splash(rng: Random) -> Wave:
    """Something falls into water: a thump, a burst of spray, bubbles after it."""
    n = seconds(rng.uniform(0.6, 2))
    out = noise(rng, n, between(rng, 200, 800), 7000, rng.uniform(-5, -1))
    out *= swell(n, rng.uniform(0.01, 0.12), 0.9) * decay(n, rng.uniform(0.06, 0.3))
    for _ in range(rng.integers(5, 60)):
        put(out, _bubble(rng, between(rng, 250, 1800)), rng.exponential(0.3), rng.uniform(0, 0.5))
    return out


def waves(rng: Random) -> Wave:
    """Surf: noise that swells and runs out every few seconds."""
    n = seconds(10)
    out, at = 0.1 * noise(rng, n, 80, 3000, -5), rng.uniform(-3, 0.5)
    while at < 10:
        m = seconds(rng.uniform(3, 8))
        one = noise(rng, m, 100, between(rng, 1500, 7000), rng.uniform(-6, -2))
        one *= swell(m, rng.uniform(0.25, 0.5), rng.uniform(0.4, 0.7)) ** rng.uniform(1, 2)
        start = max(0.0, at)
        put(out, one[int((start - at) * RATE) :], start, rng.uniform(0.5, 1))
        at += rng.uniform(2.5, 7)
    return out


def wind(rng: Random) -> Wave:
    """Noise through a resonance that wanders, in gusts."""
    n = seconds(rng.uniform(4, 8))
    out: Wave = np.zeros(n, "f4")
    for _ in range(rng.integers(1, 4)):
        centre = curve(
            rng, n, *sorted((between(rng, 100, 900), between(rng, 150, 1400))), per_second=1.0
        )
        carrier = tone(centre, n)
        width = noise(rng, n, 1, between(rng, 25, 250))
        out = out + carrier * width * curve(rng, n, 0.15, 1, per_second=1.2)
    rumble = noise(rng, n, 30, between(rng, 200, 900), -6) * curve(rng, n, 0.3, 1, per_second=1)
    return unit(out) + rng.uniform(0.1, 1) * rumble


def fire(rng: Random) -> Wave:
    """Crackles of all sizes over a soft roar."""
    n = seconds(rng.uniform(3, 6))
    out = rng.uniform(0.02, 0.5) * noise(rng, n, 40, between(rng, 200, 2000), -5)
    out *= curve(rng, n, 0.5, 1, per_second=4)
    for _ in range(int(n / RATE * between(rng, 6, 60))):
        m = seconds(between(rng, 0.003, 0.03))
        crack = noise(rng, m, between(rng, 300, 3000), 8000) * decay(m, m / RATE / 6)
        put(out, crack, rng.uniform(0, n / RATE), between(rng, 0.05, 1))
    return out


def thunder(rng: Random) -> Wave:
    """A crack, near or far, and rolling rumble."""
    n = seconds(rng.uniform(3, 7))
    out = noise(rng, n, 25, between(rng, 120, 600), rng.uniform(-7, -3))
    out *= curve(rng, n, 0.1, 1, per_second=rng.uniform(2, 5)) * swell(n, 0.05, 0.8)
    for _ in range(rng.integers(0, 5)):
        m = seconds(rng.uniform(0.2, 1.2))
        crack = noise(rng, m, 60, between(rng, 800, 6000), -3) * decay(m, rng.uniform(0.05, 0.3))
        put(out, crack, abs(rng.normal(0.3, 0.5)), rng.uniform(0.2, 1))
    return room(rng, out, 0.5, 0.4)


def explosion(rng: Random) -> Wave:
    """A blow that starts at once, bright, and sinks and fades within seconds."""
    n = seconds(rng.uniform(0.8, 3.5))
    halving = rng.uniform(0.08, 0.45)
    low = noise(rng, n, 25, between(rng, 150, 500), -5) * decay(n, halving)
    high = noise(rng, n, 100, between(rng, 1500, 8000), -2) * decay(n, halving / between(rng, 2, 8))
    debris = noise(rng, n, 300, 6000) * curve(rng, n, 0.01, 0.3, per_second=25) * decay(n, halving)
    out = np.tanh(between(rng, 1, 6) * (low + rng.uniform(0.3, 1) * high + 0.4 * debris))
    return room(rng, out, 0.2, rng.uniform(0, 0.6))


def gunshot(rng: Random) -> Wave:
    """One shot or a burst: sharp cracks with a short tail."""
    halving, top = between(rng, 0.008, 0.06), between(rng, 3000, 8000)

    def shot() -> Wave:
        n = seconds(halving * 10)
        crack = noise(rng, n, between(rng, 80, 400), top, -2) * decay(n, halving)
        return np.tanh(between(rng, 2, 8) * crack)

    if rng.random() < 0.45:
        pace = rng.uniform(0.06, 0.16)
        out = repeated(rng, shot, rng.uniform(0.5, 2.5), (pace, pace * 1.05))
    else:
        out = np.zeros(seconds(rng.uniform(0.5, 1.5)), "f4")
        put(out, shot(), 0.0)
        if rng.random() < 0.3:
            put(out, shot(), rng.uniform(0.3, 0.6))
    return room(rng, out, rng.uniform(0.03, 0.25), rng.uniform(0.05, 0.5))


def glass(rng: Random) -> Wave:
    """A pane breaks: a crack, then shards that ring."""
    out = np.zeros(seconds(rng.uniform(0.7, 2)), "f4")
    put(out, noise(rng, 1600, 1500, 8000) * decay(1600, 0.015), 0.0, 1.0)
    for _ in range(rng.integers(15, 90)):
        first = between(rng, 1800, 6000)
        shard = strike(
            rng, [first * between(rng, 1, 2.2) for _ in range(4)], 0.3, between(rng, 0.008, 0.06)
        )
        put(out, shard, rng.exponential(0.25), between(rng, 0.05, 0.6))
    return out


def footsteps(rng: Random) -> Wave:
    """Steps on gravel, snow, wood or stone."""
    grit, dull = rng.random() < 0.6, between(rng, 300, 3500)

    def step() -> Wave:
        n = seconds(rng.uniform(0.08, 0.3))
        heel = noise(rng, n, 50, dull, -3) * decay(n, rng.uniform(0.008, 0.03))
        toe = noise(rng, n, 300, 7000, -1) * curve(rng, n, 0.02, 1, per_second=60)
        return heel + rng.uniform(0.1, 1.2) * grit * toe * swell(n, 0.3, 0.6)

    pace = rng.uniform(0.28, 0.75)
    length = pace * rng.integers(1, 9)
    return room(
        rng, repeated(rng, step, length, (pace * 0.94, pace * 1.06)), 0.05, rng.uniform(0, 0.3)
    )


def applause(rng: Random) -> Wave:
    """Many hands, sometimes with cheers."""
    n = seconds(rng.uniform(3, 6))
    out, hands = np.zeros(n, "f4"), int(between(rng, 6, 70))
    for _ in range(hands):
        pace, at, top = rng.uniform(0.18, 0.35), rng.uniform(0, 0.4), between(rng, 900, 3500)
        strength = between(rng, 0.15, 1)
        while at < n / RATE:
            clap = noise(rng, 320, top * 0.5, top * 2) * decay(320, rng.uniform(0.002, 0.006))
            put(out, clap, at, strength)
            at += pace * rng.uniform(0.9, 1.1)
    out = unit(out) + rng.uniform(0, 0.4) * noise(rng, n, 500, 6000, -2)
    return room(
        rng,
        out * swell(n, rng.uniform(0.02, 0.3), rng.uniform(0.1, 0.5)),
        0.15,
        rng.uniform(0.1, 0.7),
    )


NATURE = {
    "rain": rain,
    "running water": stream,
    "water splash": splash,
    "ocean waves": waves,
    "wind": wind,
    "fire crackling": fire,
    "thunder": thunder,
    "explosion": explosion,
    "gunshot": gunshot,
    "glass breaking": glass,
    "footsteps": footsteps,
    "applause": applause,
}
