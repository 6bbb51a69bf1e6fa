"""Engines, signals, bells, tools: sounds of things that people made."""

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
    line,
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


def engine(rng: Random) -> Wave:
    """A car or motorcycle: idles, revs or passes."""
    n = seconds(rng.uniform(1.5, 6))
    base = between(rng, 18, 110)
    track = base * curve(rng, n, 1, between(rng, 1.02, 3.5), per_second=rng.uniform(0.3, 1.5))
    fire = np.maximum(0, tone(track, n)) ** between(rng, 2, 14)
    fire += rng.uniform(0, 0.7) * np.maximum(0, tone(track / 2, n)) ** 4
    hiss = fire * noise(rng, n, 60, between(rng, 600, 5000), -3)
    out = unit(fire - fire.mean()) + rng.uniform(0.1, 0.8) * unit(hiss)
    out += rng.uniform(0, 0.3) * noise(rng, n, 80, 3000, -4)
    body = [40, between(rng, 80, 250), between(rng, 400, 1500), 4000, 8000]
    out = shaped(out, body, [-10, 5, 0, -rng.uniform(5, 25), -30])
    return np.tanh(rng.uniform(0.5, 3) * unit(out)) * swell(
        n, rng.uniform(0.02, 0.5), rng.uniform(0.02, 0.5)
    )


def helicopter(rng: Random) -> Wave:
    """Blades chop the air; a turbine whines."""
    n = seconds(rng.uniform(2, 6))
    rate = rng.uniform(8, 26)
    chop = np.maximum(0, tone(rate * curve(rng, n, 0.97, 1.03, per_second=1), n)) ** 3
    low = noise(rng, n, 30, between(rng, 200, 1500), -4)
    out = low * (rng.uniform(0.05, 0.4) + chop)
    whine = tone(between(rng, 500, 3000) * curve(rng, n, 0.98, 1.02, per_second=1), n, [1, 0.4])
    return unit(out) + rng.uniform(0, 0.1) * whine + rng.uniform(0, 0.2) * noise(rng, n, 200, 5000)


def airplane(rng: Random) -> Wave:
    """A propeller that drones or a jet that roars and whines; both may pass."""
    n = seconds(rng.uniform(3, 8))
    passing = line(n, 1.06, 1.05, 1, 0.95, 0.94)
    roar = noise(rng, n, 60, between(rng, 500, 5000), rng.uniform(-6, -2))
    if rng.random() < 0.5:
        body = buzz(
            between(rng, 55, 150) * passing * curve(rng, n, 0.99, 1.01, per_second=2),
            n,
            rng.uniform(0.5, 1.3),
        )
        out = unit(body) + rng.uniform(0.1, 0.8) * roar
    else:
        whine = tone(between(rng, 900, 4500) * passing, n, [1, 0.3])
        out = roar + rng.uniform(0, 0.25) * whine
    return out * (swell(n, 0.5, 0.45) if rng.random() < 0.6 else 1)


def train(rng: Random) -> Wave:
    """Wheels on rail joints, steam, or a whistle of several pipes."""
    n = seconds(rng.uniform(3, 7))
    out, kind = (
        rng.uniform(0.05, 0.4) * noise(rng, n, 40, between(rng, 500, 3000), -5),
        rng.random(),
    )
    if kind < 0.45:  # clack-clack, clack-clack
        gap, at = rng.uniform(0.35, 1.1), 0.0
        while at < n / RATE:
            for offset in (0.0, gap * 0.22, gap * 0.5, gap * 0.72)[: rng.choice([2, 4])]:
                m = seconds(0.15)
                clack = noise(rng, m, 100, 3500, -2) * decay(m, 0.02)
                put(out, clack, at + offset, rng.uniform(0.6, 1))
            at += gap
    elif kind < 0.75:  # puffs
        pace = between(rng, 1.5, 7)
        puff = np.maximum(0, tone(pace * line(n, 1, rng.uniform(1, 1.6)), n)) ** 2
        out += puff * noise(rng, n, 150, between(rng, 2000, 7000), -2)
    if kind > 0.6 or rng.random() < 0.3:
        m = seconds(rng.uniform(0.5, 2.5))
        root = between(rng, 250, 900)
        chord = sum(buzz(root * r, m, 1.2, 8) for r in (1, 1.19, 1.5, 1.68)[: rng.integers(2, 5)])
        pipe = unit(np.asarray(chord)) * swell(m, 0.1, 0.2) * (1 + 0.2 * noise(rng, m, 1000, 6000))
        put(out, pipe, rng.uniform(0, 1.5), rng.uniform(0.5, 1.2))
    return room(rng, out, 0.1, rng.uniform(0, 0.4))


def siren(rng: Random) -> Wave:
    """Police, ambulance, fire brigade, air raid."""
    n = seconds(rng.uniform(2.5, 8))
    x, low = np.arange(n) / RATE, between(rng, 300, 900)
    high, kind = low * rng.uniform(1.3, 2.6), rng.random()
    rate = {0: rng.uniform(0.12, 0.4), 1: rng.uniform(2, 5), 2: rng.uniform(0.4, 1.2)}[
        int(kind * 3)
    ]
    phase = (x * rate + rng.random()) % 1
    if kind < 2 / 3:
        shape = 0.5 - 0.5 * np.cos(2 * np.pi * phase)
    else:
        shape, high = (phase < 0.5).astype(float), low * rng.uniform(1.2, 1.5)
    track = low * (high / low) ** shape
    voice = buzz(track.astype("f4"), n, rng.uniform(0.5, 2.5), 10)
    return room(rng, voice, 0.2, rng.uniform(0, 0.7))


def beeps(rng: Random) -> Wave:
    """Alarm clocks, computers, appliances: short tones, once or again and again."""
    pitch, length = between(rng, 350, 4500), between(rng, 0.04, 0.5)
    slope = [1.0] if rng.random() < 0.5 else [1, 0, 0.4, 0, 0.25, 0, 0.15]

    def beep() -> Wave:
        n = seconds(length)
        return tone(pitch * rng.choice([1, 1, 1, 1.26]), n, slope) * swell(n, 0.02, 0.05)

    gap = length * rng.uniform(1.2, 2.5)
    times = rng.integers(1, 8)
    return repeated(rng, beep, gap * times, (gap, gap * 1.01))


def telephone(rng: Random) -> Wave:
    """Bells of old telephones and warbles of newer ones, ringing and pausing."""
    n = seconds(rng.uniform(1.5, 6))
    x = np.arange(n) / RATE
    on = (x % rng.uniform(2, 6)) < rng.uniform(0.6, 2)
    if rng.random() < 0.6:
        out, at, gap = np.zeros(n, "f4"), 0.0, 1 / rng.uniform(16, 30)
        bells = [[between(rng, 900, 2600) * r for r in (1, 2.0, 2.9, 4.1)] for _ in range(2)]
        hits = [strike(rng, bell, 0.4, between(rng, 0.03, 0.15)) for bell in bells]
        while at < n / RATE:
            put(out, hits[int(at / gap) % 2], at)
            at += gap
        return room(rng, unit(out) * on, 0.08, rng.uniform(0, 0.4))
    pitch, warble = between(rng, 500, 2200), rng.uniform(8, 28)
    track = pitch * np.where((x * warble) % 1 < 0.5, 1, rng.uniform(1.15, 1.5))
    return tone(track.astype("f4"), n, [1, 0, rng.uniform(0, 0.4)]) * on


def clock(rng: Random) -> Wave:
    """Tick, tock."""
    bright = between(rng, 1200, 5500)
    sounds = []
    for factor in (1.0, rng.uniform(0.75, 1.1)):
        m = seconds(0.06)
        tick = noise(rng, m, bright * factor * 0.6, bright * factor * 1.6)
        tick *= decay(m, between(rng, 0.001, 0.006))
        ring = strike(rng, [bright * factor * r for r in (0.4, 0.7, 1.0)], 0.06, 0.008)
        sounds.append(unit(tick + rng.uniform(0, 0.8) * ring))
    gap, out, at, turn = rng.choice([0.2, 0.25, 0.5, 0.5, 1.0]), np.zeros(seconds(4), "f4"), 0.1, 0
    while at < 4:
        put(out, sounds[turn % 2], at)
        at, turn = at + float(gap), turn + 1
    return room(rng, out, 0.06, rng.uniform(0, 0.4))


MACHINES = {
    "car engine": engine,
    "helicopter": helicopter,
    "airplane": airplane,
    "train": train,
    "siren": siren,
    "electronic beep": beeps,
    "telephone ringing": telephone,
    "clock ticking": clock,
}
