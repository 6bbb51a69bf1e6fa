"""Tools, doors, coins, blades, horns: sounds of things that are struck, clicked and blown."""

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
    noise,
    put,
    repeated,
    room,
    seconds,
    shaped,
    strike,
    swell,
    tone,
    unit,
)


def bell(rng: Random) -> Wave:
    """Church bells, ship's bells, hand bells."""
    first = between(rng, 180, 1800)
    ratios = [0.5, 1, 1.19, 1.5, 2, 2.6, 3, 4.1, 5.4]
    modes = [first * r * rng.uniform(0.98, 1.02) for r in ratios]
    length = rng.uniform(1.5, 5)
    out = np.zeros(seconds(length), "f4")
    at, gap, toll = 0.0, rng.uniform(0.4, 2.5), strike(rng, modes, length, between(rng, 0.2, 1.2))
    while at < length:
        put(out, toll, at, rng.uniform(0.6, 1))
        at += gap * rng.uniform(0.95, 1.05)
    return room(rng, out, 0.25, rng.uniform(0, 0.5))


def door(rng: Random) -> Wave:
    """A hinge creaks, a latch clicks, a door falls shut."""
    n = seconds(rng.uniform(0.6, 2.5))
    out = 0.01 * noise(rng, n)
    if rng.random() < 0.6:
        m = seconds(rng.uniform(0.4, 1.8))
        stick = between(rng, 25, 350) * curve(rng, m, 0.6, 1.7, per_second=6)
        creak = shaped(
            buzz(stick, m, 0.1, 40),
            [50, 500, between(rng, 900, 2500), 5000, 8000],
            [-20, -5, 5, -10, -30],
        )
        put(out, unit(creak) * curve(rng, m, 0.2, 1, per_second=6) * swell(m, 0.1, 0.1), 0.0)
    if rng.random() < 0.75:
        m, at = seconds(0.5), rng.uniform(0, n / RATE * 0.6)
        slam = noise(rng, m, 40, between(rng, 300, 1500), -4) * decay(m, rng.uniform(0.02, 0.07))
        put(out, slam, at, 1.0)
        for _ in range(rng.integers(1, 5)):
            click = strike(rng, [between(rng, 900, 4000) for _ in range(4)], 0.05, 0.006)
            put(out, click, at + rng.normal(0, 0.12), rng.uniform(0.1, 0.6))
    return room(rng, out, 0.1, rng.uniform(0.1, 0.6))


def hammer(rng: Random) -> Wave:
    """Blows on nails, wood, stone and anvils."""
    first = between(rng, 250, 2800)
    metal = rng.random() < 0.6
    modes = [first * between(rng, 1, 6) for _ in range(6)]
    halving = between(rng, 0.015, 0.15) if metal else between(rng, 0.004, 0.015)

    def blow() -> Wave:
        hit = strike(rng, sorted(modes), 0.6, halving)
        hit[:800] += rng.uniform(0.3, 1) * noise(rng, 800, 100, 5000, -2) * decay(800, 0.004)
        return hit

    gap = rng.uniform(0.25, 0.9)
    return room(
        rng,
        repeated(rng, blow, gap * rng.integers(1, 7), (gap, gap * 1.1)),
        0.08,
        rng.uniform(0.05, 0.5),
    )


def sword(rng: Random) -> Wave:
    """Blades meet and slide along each other."""
    out = np.zeros(seconds(rng.uniform(0.4, 1.6)), "f4")
    for _ in range(rng.integers(1, 4)):
        first = between(rng, 1400, 3500)
        ring = strike(
            rng, sorted(first * between(rng, 1, 4) for _ in range(9)), 1.2, between(rng, 0.03, 0.25)
        )
        ring[:480] += noise(rng, 480, 2000, 8000) * decay(480, 0.004)
        if rng.random() < 0.5:
            m = seconds(rng.uniform(0.1, 0.4))
            scrape = noise(rng, m, between(rng, 1500, 4000), 8000) * swell(m, 0.6, 0.2)
            put(ring, scrape, 0.0, rng.uniform(0.2, 1))
        put(out, ring, rng.uniform(0, 0.7) * len(out) / RATE, rng.uniform(0.4, 1))
    return room(rng, out, 0.1, rng.uniform(0, 0.4))


def coins(rng: Random) -> Wave:
    """Small metal rings and jingles."""
    out = np.zeros(seconds(rng.uniform(0.4, 1.6)), "f4")
    for _ in range(rng.integers(1, 10)):
        first = between(rng, 2200, 5000)
        put(
            out,
            strike(rng, [first * r for r in (1, 1.3, 1.47, 1.8)], 0.5, between(rng, 0.02, 0.12)),
            abs(rng.normal(0, 0.3)),
            rng.uniform(0.2, 1),
        )
    return out


def typing(rng: Random) -> Wave:
    """Keys go down and up."""
    low = between(rng, 600, 2500)

    def key() -> Wave:
        out = np.zeros(seconds(0.2), "f4")
        for at, gain in ((0.0, 1.0), (rng.uniform(0.06, 0.12), rng.uniform(0.2, 0.7))):
            m = seconds(0.04)
            put(
                out,
                noise(rng, m, low * 0.5, low * 3) * decay(m, rng.uniform(0.002, 0.006)),
                at,
                gain,
            )
        return out

    return room(
        rng, repeated(rng, key, rng.uniform(1, 4), (0.06, rng.uniform(0.16, 0.4))), 0.03, 0.1
    )


def camera(rng: Random) -> Wave:
    """A shutter: two or three clicks, sometimes the motor that winds."""
    out, at = np.zeros(seconds(rng.uniform(0.3, 0.9)), "f4"), 0.0
    for _ in range(rng.integers(2, 4)):
        m = seconds(0.05)
        click = noise(rng, m, between(rng, 500, 3000), 8000) * decay(m, between(rng, 0.002, 0.01))
        put(out, click, at, rng.uniform(0.4, 1))
        at += rng.uniform(0.03, 0.15)
    if rng.random() < 0.5:
        m = seconds(rng.uniform(0.15, 0.5))
        motor = buzz(between(rng, 150, 600), m, 0.3) + 2 * noise(rng, m, 800, 7000)
        put(out, unit(motor) * swell(m, 0.1, 0.2), at, rng.uniform(0.1, 0.5))
    return out


def horn(rng: Random) -> Wave:
    """Car horns."""
    n = seconds(rng.uniform(0.25, 1.6))
    root = between(rng, 220, 620)
    out = buzz(root, n, rng.uniform(0.2, 0.9)) + buzz(root * rng.choice([1.0, 1.19, 1.26]), n, 0.5)
    on = swell(n, 0.03, 0.05)
    if rng.random() < 0.4:
        on = on * ((np.arange(n) / n * rng.integers(2, 4)) % 1 < 0.75)
    return room(rng, out * on, 0.15, rng.uniform(0, 0.5))


def laser(rng: Random) -> Wave:
    """Ray guns of films and games: a tone that falls at once."""
    n = seconds(rng.uniform(0.12, 0.8))
    high, low = between(rng, 1200, 7000), between(rng, 60, 900)
    track = low + (high - low) * decay(n, n / RATE / rng.uniform(2, 8))
    strengths = [1.0] if rng.random() < 0.4 else [1 / k for k in range(1, 12)]
    out = tone(track, n, strengths) * swell(n, 0.01, rng.uniform(0.2, 0.9))
    return room(
        rng, out + rng.uniform(0, 0.2) * noise(rng, n) * decay(n, 0.1), 0.08, rng.uniform(0, 0.4)
    )


def whistle(rng: Random) -> Wave:
    """A referee's whistle with its pea."""
    n = seconds(rng.uniform(0.2, 1.5))
    pea = 1 + rng.uniform(0, 0.06) * tone(rng.uniform(25, 60), n)
    pitch = between(rng, 1900, 4000)
    out = (tone(pitch * pea, n) + 0.5 * tone(pitch * 1.07 * pea, n)) * pea**8
    return room(rng, (out + 0.2 * noise(rng, n, 1500, 6000)) * swell(n, 0.05, 0.1), 0.15, 0.3)


THINGS = {
    "bell": bell,
    "door": door,
    "hammering": hammer,
    "sword fight": sword,
    "coins": coins,
    "typing": typing,
    "camera shutter": camera,
    "car horn": horn,
    "laser gun": laser,
    "whistle": whistle,
}
