"""Which way of encoding pictures is the fastest on this machine: tried once, then remembered.

Ways are compared by what they encode in a moment, one property after the other. A way must be
faster by a tenth to be taken in place of the usual one: on a busy machine times differ that much.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from clipsearch.encoders.base import Feeding
from clipsearch.encoders.devices import CALLS_MAX, limit_threads
from clipsearch.textfiles import write_durably

PRECISIONS = ("fp32", "bf16", "fp16")
GAIN = 1.1  # of a way that is taken in place of the usual one
BATCH_GAIN = 1.03  # of a batch that is twice as large
BATCH_MAX = 1024
MOMENT_SECONDS = 0.15  # for one way
THREADS_MAX = 1024  # that a memory may ask for: with too many the process is ended by OpenMP
LONGEST_SECONDS = 4.0  # no further way is tried from then on

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Way:
    """A way of encoding pictures: the type that the tower computes in, and how it is fed."""

    feeding: Feeding
    precision: str  # one of PRECISIONS
    channels_last: bool = True  # the order in memory of what convolutions read

    def __str__(self) -> str:
        order = "" if self.channels_last else ", channels first"
        fed = self.feeding
        threads = f" x {fed.threads} threads" if fed.threads else f", batch {fed.batch}"
        return f"{self.precision}{order}, {fed.calls} calls{threads}"


@dataclass(slots=True)
class Trial:
    """The fastest way so far, and pictures a second of all that were tried; 0 for one that failed.

    rate: measures a way; raises RuntimeError for one that this machine or model cannot go.
    """

    best: Way
    rate: Callable[[Way], float]
    clock: Clock = time.perf_counter
    rates: dict[Way, float] = field(default_factory=dict)
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.rates[self.best] = self.rate(self.best)

    def offer(self, ways: Sequence[Way], *, gain: float = GAIN) -> bool:
        """Try these, and keep the fastest if it is better by `gain`. Whether one was.

        Nothing is tried after LONGEST_SECONDS.
        """
        for way in ways:
            if way not in self.rates and self.clock() - self.started < LONGEST_SECONDS:
                try:
                    self.rates[way] = self.rate(way)
                except RuntimeError:  # also torch's, out of memory
                    self.rates[way] = 0.0
        fastest = max(ways, key=lambda way: self.rates.get(way, 0.0), default=self.best)
        if self.rates.get(fastest, 0.0) <= gain * self.rates[self.best]:
            return False
        self.best = fastest
        return True

    def grow(self) -> None:
        """Double the batch until that does not pay, or no memory is left."""
        while self.best.feeding.batch < BATCH_MAX:
            fed = self.best.feeding
            larger = replace(self.best, feeding=replace(fed, batch=2 * fed.batch))
            if not self.offer([larger], gain=BATCH_GAIN):
                return

    def __str__(self) -> str:
        tried = "; ".join(f"{way}: {rate:.1f}/s" for way, rate in self.rates.items() if rate)
        return f"tried how pictures are encoded fastest here ({tried}): {self.best}"


def splits(feeding: Feeding, cores: int) -> list[Feeding]:
    """Other ways for `cores` to be shared by calls: all in one, half and a quarter as many."""
    counts = {1, min(cores, CALLS_MAX), min(cores // 2, CALLS_MAX), min(cores // 4, CALLS_MAX)}
    return [
        replace(feeding, calls=calls, threads=cores // calls)
        for calls in sorted(counts - {0, feeding.calls}, reverse=True)
    ]


def pictures_a_second(
    encode: Callable[[], object], feeding: Feeding, *, clock: Clock = time.perf_counter
) -> float:
    """How many pictures `feeding` gets through: `encode` is one call with a batch of them.

    Every call is made once before, and then again until MOMENT_SECONDS have passed.
    """
    ready = threading.Barrier(feeding.calls)

    def work() -> tuple[float, int, float]:
        try:
            limit_threads(feeding.threads)
            encode()
            ready.wait()
        except BaseException:
            ready.abort()
            raise
        start, made = clock(), 0
        while not made or clock() - start < MOMENT_SECONDS:
            encode()
            made += 1
        return start, made, clock()

    with ThreadPoolExecutor(feeding.calls) as pool:
        done = [future.result() for future in [pool.submit(work) for _ in range(feeding.calls)]]
    seconds = max(end for _, _, end in done) - min(start for start, _, _ in done)
    return feeding.batch * sum(made for _, made, _ in done) / max(seconds, 1e-9)


def recall(memory: Path, key: str) -> Way | None:
    """What `remember` wrote under `key`; None if nothing, or nothing that makes sense, is there."""
    found = _read(memory).get(key)
    if not isinstance(found, dict):
        return None
    with contextlib.suppress(TypeError, ValueError, KeyError):
        way = Way(Feeding(**found["feeding"]), found["precision"], found["channels_last"])
        numbers = asdict(way.feeding).values()
        whole = all(type(number) is int for number in numbers)
        if (
            whole
            and min(way.feeding.batch, way.feeding.calls, way.feeding.threads + 1) > 0
            and max(way.feeding.calls, way.feeding.batch // BATCH_MAX) <= CALLS_MAX
            and way.feeding.threads <= THREADS_MAX
            and way.precision in PRECISIONS
            and isinstance(way.channels_last, bool)
        ):
            return way
    return None


def remember(memory: Path, key: str, way: Way) -> None:
    """Write `way` under `key` into the JSON file `memory`, beside what else it holds."""
    entries = {**_read(memory), key: asdict(way)}
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_durably(memory, (json.dumps(entries, indent=1) + "\n").encode())


def _read(memory: Path) -> dict[str, Any]:
    try:
        found = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
