"""Where in a window something is heard: silence around it is not part of what is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clipsearch.media.sound_windows import LOUDNESS_SECONDS
from clipsearch.media.spec import SILENCE_DBFS
from clipsearch.types import Unit, Wave


def without_silence(unit: Unit, wave: Wave, rate: int) -> Unit:
    """The unit of a window of sound with the times of what is heard in it, from the first to the
    last 50 ms that reach SILENCE_DBFS (rms); as it is if none does.

    The window that an encoder gets stays whole; the times are exact to 50 ms.
    """
    if unit.start_seconds is None or unit.end_seconds is None:
        return unit
    block = max(1, round(LOUDNESS_SECONDS * rate))
    filled = np.zeros(-(-len(wave) // block) * block)
    filled[: len(wave)] = np.square(wave, dtype=np.float64)
    power = filled.reshape(-1, block).mean(axis=1)
    loud = np.flatnonzero(power >= 10 ** (SILENCE_DBFS / 10))
    if not loud.size:
        return unit
    begin = unit.start_seconds
    start = begin + float(loud[0]) * block / rate
    end = begin + float(loud[-1] + 1) * block / rate
    return replace(unit, start_seconds=start, end_seconds=max(start, min(end, unit.end_seconds)))
