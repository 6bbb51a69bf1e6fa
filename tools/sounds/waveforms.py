"""Parts that sounds are made of: coloured noise, tones, envelopes, strikes, rooms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.sound_classifier import RATE

Wave = NDArray[Any]  # float32 samples
Random = np.random.Generator


def between(rng: Random, low: float, high: float) -> float:
    """A number of the log-uniform distribution: pitches, rates and decays are ratios."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def seconds(length: float) -> int:
    """Samples in that many seconds, at least one."""
    return max(1, int(length * RATE))


def curve(rng: Random, samples: int, low: float, high: float, *, per_second: float) -> Wave:
    """A smooth random walk between two positive numbers, with that many turns a second."""
    knots = max(2, int(samples / RATE * per_second) + 2)
    values = np.exp(rng.uniform(np.log(low), np.log(high), knots))
    return np.interp(np.linspace(0, knots - 1, samples), np.arange(knots), values).astype("f4")


def line(samples: int, *points: float) -> Wave:
    """Straight lines through equally spaced points."""
    return np.interp(
        np.linspace(0, len(points) - 1, samples), np.arange(len(points)), points
    ).astype("f4")


def decay(samples: int, halving: float) -> Wave:
    """Falls to a half every `halving` seconds."""
    return (0.5 ** (np.arange(samples) / (halving * RATE))).astype("f4")


def swell(samples: int, rise: float, fall: float) -> Wave:
    """Rises from and falls back to nothing, over those parts of the length."""
    x = np.linspace(0, 1, samples)
    return np.minimum(1, np.minimum(x / max(rise, 1e-3), (1 - x) / max(fall, 1e-3))).astype("f4")


def noise(rng: Random, samples: int, low: float = 20, high: float = 8000, tilt: float = 0) -> Wave:
    """Noise in a band in Hz with soft edges; `tilt` in dB an octave: -3 pink, -6 brown."""
    size = _quick(samples)
    spectrum = np.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    hertz = (np.fft.rfftfreq(size, 1 / RATE) + 1e-3).astype("f4")
    gain = 1 / (1 + (low / hertz) ** 4) / (1 + (hertz / high) ** 4)
    if tilt:
        gain *= (np.maximum(hertz, 30) / 1000) ** (tilt / 6.02)
    return unit(np.fft.irfft(spectrum * gain, size)[:samples])


def _quick(samples: int) -> int:
    """The next length that is fast to transform."""
    step = 4096 if samples > 8192 else 256
    return -(-samples // step) * step


def shaped(wave: Wave, hertz: list[float], decibels: list[float]) -> Wave:
    """`wave` through a filter whose gain goes through those points (log frequency)."""
    size = _quick(len(wave))
    at = np.fft.rfftfreq(size, 1 / RATE) + 1.0
    gain = 10 ** (np.interp(np.log(at), np.log(hertz), decibels) / 20)
    return np.fft.irfft(np.fft.rfft(wave, size) * gain, size)[: len(wave)].astype("f4")


def formants(wave: Wave, centres: list[float], width: float = 0.15) -> Wave:
    """`wave` through resonances at those frequencies, as a throat has them."""
    size = _quick(len(wave))
    at = np.fft.rfftfreq(size, 1 / RATE)
    gain = np.full(len(at), 0.02)
    for number, centre in enumerate(centres):
        band = width * centre + 40
        gain += 0.7**number / (1 + ((at - centre) / band) ** 2)
    return np.fft.irfft(np.fft.rfft(wave, size) * gain, size)[: len(wave)].astype("f4")


def tone(hertz: Wave | float, samples: int, harmonics: list[float] | None = None) -> Wave:
    """Sine of a changing frequency with harmonics of those strengths; none above 7.5 kHz."""
    track = np.broadcast_to(np.asarray(hertz, dtype=np.float64), (samples,))
    turn = np.exp(2j * np.pi * (np.cumsum(track) / RATE % 1)).astype(np.complex64)
    power, out, low = turn.copy(), np.zeros(samples, dtype="f4"), float(track.min())
    for number, strength in enumerate(harmonics or [1.0], start=1):
        if number * low > 7500:
            break
        if strength:
            out += np.float32(strength) * power.imag * (number * track < 7500)
        power *= turn
    return out


def buzz(hertz: Wave | float, samples: int, slope: float = 1.0, count: int = 30) -> Wave:
    """All harmonics, the n-th with strength n^-slope: a voice, a string, an engine."""
    return tone(hertz, samples, [n**-slope for n in range(1, count + 1)])


def strike(rng: Random, modes: list[float], length: float, halving: float) -> Wave:
    """A struck body: sines of those frequencies, the higher the sooner gone."""
    samples = seconds(length)
    time = np.arange(samples) / RATE
    out = np.zeros(samples)
    for hertz in modes:
        if hertz < 7600:
            gone = halving * (modes[0] / hertz) ** 0.5 * rng.uniform(0.5, 1.5)
            out += (
                rng.uniform(0.3, 1)
                * np.sin(2 * np.pi * hertz * time + rng.uniform(0, 6.28))
                * 0.5 ** (time / gone)
            )
    out[:16] *= np.linspace(0, 1, 16)[: len(out)]
    return unit(out)


def put(canvas: Wave, part: Wave, at: float, gain: float = 1.0) -> None:
    """Add `part` to `canvas` from that second on; what reaches past the end is cut."""
    start = int(at * RATE)
    if 0 <= start < len(canvas):
        room = canvas[start : start + len(part)]
        room += gain * part[: len(room)]


def room(rng: Random, wave: Wave, halving: float, wet: float) -> Wave:
    """`wave` with the echo of a room."""
    echo = noise(rng, seconds(halving * 6), 100, between(rng, 1500, 6000))
    echo *= decay(len(echo), halving)
    size = _quick(len(wave) + len(echo))
    tail = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(echo, size), size)[: len(wave)]
    return (unit(wave) + wet * unit(tail)).astype("f4")


def unit(wave: NDArray[np.floating]) -> Wave:
    """`wave` with its peak at 1, silence as it is."""
    peak = float(np.abs(wave).max()) if len(wave) else 0.0
    return (wave / peak if peak > 0 else wave).astype("f4")


def repeated(rng: Random, make, length: float, gap: tuple[float, float]) -> Wave:  # type: ignore[no-untyped-def]
    """make() again and again with pauses of gap[0]..gap[1] seconds between the starts."""
    canvas, at = np.zeros(seconds(length), "f4"), rng.uniform(0, min(gap[0], length / 4))
    while at < length:
        put(canvas, make(), at, rng.uniform(0.6, 1))
        at += rng.uniform(*gap)
    return canvas
