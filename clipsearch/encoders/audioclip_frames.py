"""A window of sound as AudioCLIP's network takes it, up to the wavelets: numpy alone.

The numbers are those of the published model: 44.1 kHz, frames of 37.5 ms every 12.7 ms, and
complex frequency B-spline wavelets (Guzhov et al., ESResNe(X)t-fbsp, IJCNN 2021) in the place of
a Fourier transform, whose centre, width and order were learned for each bin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Wave

SAMPLE_RATE = 44100
FRAME = 1654  # samples
HOP = 561  # samples from one frame to the next
WAVELET = 2048  # samples, of which a frame covers the middle
BINS = WAVELET // 2 + 1
BANDS = 3  # neighbouring bins, as the colours of a picture are
BAND_BINS = BINS // BANDS  # 341: two of the highest bins are left out
_TINY = 1e-8  # what the published model adds where it might divide by 0

Floats = NDArray[np.float64]


def scaled(wave: Wave) -> Wave:
    """`wave` moved and stretched to reach from -1 to 1; zeros for one that is constant.

    The model was trained on such sounds, so that a recording's loudness tells it nothing.
    """
    exact = wave.astype(np.float64)
    low, high = exact.min(), exact.max()
    if low == high:
        return np.zeros_like(wave, dtype=np.float32)
    reaching: Wave = ((exact - low) * (2 / (high - low)) - 1).astype(np.float32)
    return reaching


def framed(wave: Wave, *, length: int = FRAME, hop: int = HOP) -> NDArray[np.float32]:
    """(frames, length) float32, one frame every `hop` samples, as few as hold all of `wave`.

    The zeros that the last frame lacks stand half before and half, with the odd one, after it.
    """
    frames = 1 + max(0, -(-(len(wave) - length) // hop))
    lacking = (frames - 1) * hop + length - len(wave)
    padded = np.pad(wave, (lacking // 2, lacking - lacking // 2))
    return np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]


def wavelets(m: Floats, fb: Floats, fc: Floats, *, size: int) -> NDArray[np.complex128]:
    """(n, size) wavelets of orders `m`, bandwidths `fb` and centres `fc`, each (n,).

    sqrt(fb) sinc(fb t / m)^m exp(-i fc t) / sqrt(size), with sinc(x) = sin(x) / x and `size`
    times t from -pi to pi. A power of a negative sinc is complex; 0^0 is 1. Not finite where fb
    is negative, or m is and the sinc is 0.
    """
    t = np.pi * np.linspace(-1, 1, size) + _TINY
    m, fb, fc = m[:, None], fb[:, None], fc[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        spline = np.sinc(fb * t / (m + _TINY) / np.pi)
        amplitude = np.sqrt(fb / size) * np.abs(spline) ** m
        phase = m * np.where(spline < 0, np.pi, 0.0) - fc * t
        made: NDArray[np.complex128] = amplitude * np.exp(1j * phase)
    return made


def frame_basis(wavelets: NDArray[np.complex128], window: Floats) -> NDArray[np.float32]:
    """(2, n, len(window)): the real and imaginary parts of what a frame is multiplied with.

    `window` tapers a frame, which lies in the middle of the wavelets (n, size), between zeros.
    """
    front = (wavelets.shape[1] - len(window)) // 2
    seen = wavelets[:, front : front + len(window)] * window
    return np.stack([seen.real, seen.imag]).astype(np.float32)
