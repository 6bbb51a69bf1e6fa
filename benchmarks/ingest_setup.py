"""What the parts of `benchmarks.ingest` share: sizes, media that are written once, processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.measure import Run, run

RANDOM_MODEL = "ViT-B-32"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. `--full` is what the README's figures are of."""

    images: int = 160  # end to end with an encoder
    null: tuple[int, ...] = (300, 1500)  # with one that computes nothing
    peers: int = 200
    minutes: float = 2.0  # of the film that is compared with FFmpeg
    lengths: tuple[float, ...] = (2.0, 10.0)  # of films whose memory is compared
    sound: tuple[float, ...] = (2.0, 20.0)
    repeats: int = 3
    cuda: int = 20_000

    @classmethod
    def full(cls) -> Sizes:
        return cls(
            images=2000,
            null=(1000, 20_000),
            peers=1000,
            minutes=10.0,
            lengths=(2.0, 60.0),
            sound=(2.0, 60.0),
        )


@dataclass(frozen=True)
class Bench:
    """One run: sizes, where media are written, where indexes, and where other programs are."""

    sizes: Sizes
    media: Path
    indexes: Path
    rclip_python: str | None = None
    clip_retrieval_python: str | None = None
    ffmpeg: str | None = None

    def pictures(self, count: int) -> Path:
        """A folder of `count` JPEG."""
        return self._written("pictures", f"pictures-{count}", str(count))

    def film(self, minutes: float) -> Path:
        return self._written("film", f"film-{minutes:g}.mp4", str(minutes))

    def sound(self, minutes: float) -> Path:
        return self._written("sound", f"sound-{minutes:g}.mp3", str(minutes))

    def checkpoint(self, model: str) -> Path:
        return self._written("checkpoint", f"{model}.pt", model)

    def onnx(self) -> Path:
        return self._written("onnx", "visual.onnx", "ViT-B-32-256")

    @cached_property
    def spec(self) -> str:
        """What `--model` takes for the random weights."""
        return f"{RANDOM_MODEL}/{self.checkpoint(RANDOM_MODEL)}"

    def new(self, name: str) -> str:
        """A path that nothing is at."""
        number = 0
        while (path := self.indexes / f"{name}-{number}").exists():
            number += 1
        return str(path)

    def _written(self, what: str, name: str, argument: str) -> Path:
        path = self.media / name
        if not path.exists():
            part = path.with_name(f"part-{name}")  # a run that is stopped leaves nothing half done
            run(sys.executable, "-m", "benchmarks.ingest_media", what, str(part), argument)
            part.rename(path)
        return path


def work(*arguments: str) -> tuple[dict[str, Any], Run]:
    """What one task of `benchmarks.ingest_work` says of itself, and its process as a whole."""
    done = run(sys.executable, "-m", "benchmarks.ingest_work", *arguments)
    return json.loads(done.stdout), done


def least(runs: list[dict[str, Any]], key: str) -> float:
    """What the work costs without the neighbours' share."""
    return float(min(one[key] for one in runs))


def overridden(sizes: Sizes, given: Mapping[str, Any]) -> Sizes:
    """With those of `given` that are not None."""
    values = {field.name: getattr(sizes, field.name) for field in fields(sizes)}
    values |= {name: value for name, value in given.items() if value is not None}
    return Sizes(**values)
