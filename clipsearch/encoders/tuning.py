"""A tower for pictures tries its ways on this machine (trial.py), and remembers the best."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clipsearch.encoders.base import Prepared
from clipsearch.encoders.devices import limit_threads, usable_cores
from clipsearch.encoders.pictures import PictureTower
from clipsearch.encoders.trial import Trial, Way, pictures_a_second, recall, remember, splits
from clipsearch.encoders.values import unit_rows

CALL_SECONDS = 0.1  # of a call in a trial on a CPU: large models are given fewer pictures
NEAR = 0.999  # cosine to the rows of the usual way that those of another must keep


def tune(tower: PictureTower, memory: Path, *, fingerprint: str) -> str | None:
    """See Encoder.tune. Nothing else may use the tower meanwhile."""
    key = _key(fingerprint, tower.network.device)
    known = recall(memory, key)
    if known is not None and known.precision in _precisions(tower):
        tower.go(known)
        return None
    usual = tower.way
    compiles, tower.compiles = tower.compiles, False  # that takes longer than a trial may
    try:
        with ThreadPoolExecutor(1) as pool:  # a thread of its own, in which torch's are limited
            trial, best = pool.submit(_tried, tower).result()
    except RuntimeError:  # of the usual way: it does not fit into memory; `rows` sees to that
        tower.go(usual)
        return None
    finally:
        tower.compiles = compiles
    tower.go(best)
    tower.forget_other_weights()
    remember(memory, key, best)
    return str(trial)


def _tried(tower: PictureTower) -> tuple[Trial, Way]:
    """The trial, and the best way as it is gone from then on."""
    limit_threads(tower.way.feeding.threads)
    runner = _Runner(tower)
    trial = Trial(runner.first, runner.rate)
    if tower.network.device.type == "cuda":
        trial.grow()
        return trial, trial.best
    if tower.network.device.type == "cpu":
        _try_on_cpu(trial, tower)
    feeding = replace(trial.best.feeding, batch=runner.usual.feeding.batch)
    return trial, replace(trial.best, feeding=feeding)


def _precisions(tower: PictureTower) -> set[str]:
    """That a trial may choose."""
    own = {tower.way.precision}
    converts = tower.network.device.type == "cpu" and tower.network.convert is not None
    return own | {"fp32", "bf16"} if converts else own


def _try_on_cpu(trial: Trial, tower: PictureTower) -> None:
    if tower.network.convert is not None:
        others = _precisions(tower) - {trial.best.precision}
        trial.offer([replace(trial.best, precision=other) for other in sorted(others)])
        if _convolutions(tower.network.module) > 1:
            trial.offer([replace(trial.best, channels_last=False)])
    feedings = splits(trial.best.feeding, usable_cores())
    trial.offer([replace(trial.best, feeding=feeding) for feeding in feedings])


class _Runner:
    """Has a tower encode pictures of noise, in one way after the other.

    On a CPU in smaller batches than usual if one would take longer than CALL_SECONDS.
    """

    def __init__(self, tower: PictureTower) -> None:
        self._tower, self.usual = tower, tower.way
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 256, (8, *tower.network.shape), dtype=np.uint8)
        self._pictures = list(noise)
        tower.encode(self._pictures[:1])  # libraries load, memory is taken
        start = time.perf_counter()
        self._rows = unit_rows(tower.encode(self._pictures[:1]))
        size = self.usual.feeding.batch
        if tower.network.device.type == "cpu":
            fitting = int(CALL_SECONDS / (time.perf_counter() - start))
            size = min(size, max(1, fitting))
        self.first = replace(self.usual, feeding=replace(self.usual.feeding, batch=size))

    def rate(self, way: Way) -> float:
        """Pictures a second. RuntimeError where torch cannot, or if rows are others."""
        import torch

        try:
            self._tower.go(way)
            self._check(way)
            batch = self._batch(way.feeding.batch)
            return pictures_a_second(lambda: self._tower.encode(batch), way.feeding)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise

    def _check(self, way: Way) -> None:
        if (way.precision, way.channels_last) != (self.usual.precision, self.usual.channels_last):
            rows = unit_rows(self._tower.encode(self._pictures[:1]))
            if not (rows * self._rows).sum() > NEAR:  # also for NaN
                raise RuntimeError(f"{way} makes other vectors")

    def _batch(self, size: int) -> Sequence[Prepared]:
        return [self._pictures[k % len(self._pictures)] for k in range(size)]


def _convolutions(module: Any) -> int:
    import torch

    return sum(isinstance(part, torch.nn.Conv2d) for part in module.modules())


def _key(fingerprint: str, device: Any) -> str:
    """What a trial's result depends on."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    parts = (
        fingerprint,
        device.type,
        name,
        f"{usable_cores()} cores",
        f"torch {torch.__version__}",
    )
    return " | ".join(parts)


def _processor(cpu_info: Path = Path("/proc/cpuinfo")) -> str:
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()} {names[0] if names else ''}".strip()
