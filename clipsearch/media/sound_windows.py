"""Sound cut into windows: pure arithmetic on samples, with memory for one window."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipsearch.media.spec import SILENCE_DBFS, AudioSpec
from clipsearch.types import Unit, Wave

LOUDNESS_SECONDS = 0.05  # a window is as loud as its loudest stretch of this length


def is_silent(wave: Wave, rate: int) -> bool:
    """Whether every 50 ms of the samples, counted from the first, stay below SILENCE_DBFS (rms)."""
    block = max(1, round(LOUDNESS_SECONDS * rate))
    whole = len(wave) // block * block
    power = np.square(wave, dtype=np.float64)
    loudest = power[:whole].reshape(-1, block).mean(axis=1).max(initial=0.0)
    if whole < len(wave):
        loudest = max(loudest, power[whole:].mean())
    return bool(loudest < 10 ** (SILENCE_DBFS / 10))


class Windower:
    """Takes the samples of one sound in order; gives its windows that are not silent.

    Window k has round(window_seconds * rate) samples from round(k * hop_seconds * rate) on. The
    last one is the first that reaches the end, filled up with zeros. Every iterator that a
    method returns must be read to its end before the next call.
    """

    def __init__(self, spec: AudioSpec) -> None:
        self._spec = spec
        self._size = round(spec.window_seconds * spec.rate)
        self._window = np.zeros(self._size, np.float32)  # of the samples from _start to end
        self._number = 0
        self._start = 0
        self._heard = 0  # where the last window that was full ended
        self.end = 0  # samples taken

    def put(self, wave: Wave) -> Iterator[tuple[Unit, Wave]]:
        """Take samples that follow the ones before."""
        taken = 0
        while taken < len(wave):
            skip = self._start - self.end  # windows side by side may leave a sample between them
            if skip > 0:
                taken, self.end = taken + skip, self.end + skip
                continue
            filled = self.end - self._start
            part = wave[taken : taken + self._size - filled]
            self._window[filled : filled + len(part)] = part
            taken, self.end = taken + len(part), self.end + len(part)
            if filled + len(part) == self._size:
                yield from self._unit(self._size)
                self._next()

    def silence(self, count: int) -> Iterator[tuple[Unit, Wave]]:
        """Take `count` zeros, however many, without going through windows of nothing else."""
        near = min(count, self._size)
        yield from self.put(np.zeros(near, np.float32))
        if count == near:
            return
        self.end += count - near
        hop = self._spec.hop_seconds * self._spec.rate
        self._number = max(self._number, int((self.end - self._size) / hop))
        self._start = self._begin(self._number)
        self._window[:] = 0
        while self._start + self._size <= self.end:
            self._next()

    def finish(self) -> Iterator[tuple[Unit, Wave]]:
        """The window that holds the end, unless the one before reached it."""
        count = self.end - self._start
        if self.end > self._heard and count > 0:
            self._window[count:] = 0
            yield from self._unit(count)

    def _begin(self, number: int) -> int:
        return round(number * self._spec.hop_seconds * self._spec.rate)

    def _next(self) -> None:
        """Go to the next window, keeping what both have."""
        self._heard = self._start + self._size
        self._number += 1
        start = self._begin(self._number)
        kept = max(0, self._heard - start)
        self._window[:kept] = self._window[self._size - kept :].copy()
        self._start = start

    def _unit(self, count: int) -> Iterator[tuple[Unit, Wave]]:
        """The window, of which `count` samples are sound, unless it is silent."""
        spec = self._spec
        if is_silent(self._window[:count], spec.rate):
            return
        start = self._number * spec.hop_seconds
        padding = (self._size - count) / spec.rate
        end = start + spec.window_seconds
        if padding:
            end = max(start, self.end / spec.rate)
        yield Unit("audio", start, end, padding_seconds=padding), self._window.copy()
