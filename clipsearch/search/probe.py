"""A linear probe: a direction in the space of pictures that was learned from examples."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipsearch.errors import UsageError
from clipsearch.textfiles import read_bounded, write_durably
from clipsearch.types import UNIT_NORM_TOLERANCE

FORMAT = "clipsearch probe"
VERSION = 1
MAX_BYTES = 16 << 20  # a probe of 1024 dimensions has 25 kB


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What pictures of one thing have in common: probability = sigmoid(scale · cosine + bias).

    vector: (dim,) float32 of unit length; what is nearest to it is likeliest. fingerprint: of the
    encoder whose vectors it was learned from. classes: what stands for its two sides, the wanted
    first; counts: how many examples of each. Raises UsageError for values that are no probe.
    """

    vector: NDArray[np.float32]
    bias: float
    scale: float
    fingerprint: str
    classes: tuple[str, str]
    counts: tuple[int, int]

    def __post_init__(self) -> None:
        if self.vector.ndim != 1 or self.vector.dtype != np.float32 or not self.vector.size:
            raise UsageError(
                f"vector of shape {self.vector.shape} and type {self.vector.dtype}: need (dim,) "
                "float32"
            )
        length = float(np.linalg.norm(self.vector))
        if not abs(length - 1.0) <= UNIT_NORM_TOLERANCE:  # NaN is refused too
            raise UsageError(f"vector of length {length:.4g}: need unit length")
        if not (self.scale > 0 and np.isfinite([self.scale, self.bias]).all()):
            raise UsageError(f"scale {self.scale} and bias {self.bias}: need finite, a scale > 0")

    @property
    def dim(self) -> int:
        """Length of the vector."""
        return len(self.vector)

    def probability(self, cosines: ArrayLike) -> NDArray[np.float64]:
        """(n,) chances, 0..1, that what has these cosines to `vector` (n,) is the wanted."""
        logits = self.scale * np.asarray(cosines, dtype=np.float64) + self.bias
        chances: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -logits))  # no overflow
        return chances

    def cosine_at(self, probability: float) -> float:
        """The cosine whose probability this is; infinite for 0 and 1, which no cosine reaches.

        Raises UsageError unless it is in 0..1.
        """
        if not 0 <= probability <= 1:
            raise UsageError(f"probability {probability}: use 0 to 1")
        if probability in (0.0, 1.0):
            return float("inf") if probability else float("-inf")
        return float((np.log(probability) - np.log1p(-probability) - self.bias) / self.scale)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, over what is there, whole or not at all. Raises OSError."""
        write_durably(Path(path), self.to_json().encode())

    def to_json(self) -> str:
        """What `load` reads: the numbers to the bit, the version, and a checksum over all."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "classes": list(self.classes),
            "counts": list(self.counts),
            "bias": self.bias,
            "scale": self.scale,
            "vector": [float(value) for value in self.vector],
        }
        return json.dumps({**content, "sha256": _checksum(content)}, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Probe:
        """Raises UsageError for a file that is missing, damaged, too new, or no probe."""
        file = Path(path)
        content = _parsed(read_bounded(file, MAX_BYTES), file)
        if content["version"] > VERSION:
            raise UsageError(
                f"{file} is a probe of version {content['version']}, this clipsearch reads "
                f"{VERSION}: install a newer one"
            )
        if content.pop("sha256", None) != _checksum(content):
            raise UsageError(f"{file} is damaged: its checksum does not fit, train the probe anew")
        try:
            wanted, other = map(str, content["classes"])
            wanted_count, other_count = map(int, content["counts"])
            return cls(
                np.array(content["vector"], dtype=np.float32),
                float(content["bias"]),
                float(content["scale"]),
                str(content["fingerprint"]),
                (wanted, other),
                (wanted_count, other_count),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"{file} is no whole probe ({error}): train it anew") from error


def _parsed(data: bytes, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(f"{file} is no probe: make one with `clipsearch probe train`")
    if not isinstance(content.get("version"), int) or content["version"] < 1:
        raise UsageError(f"{file} is damaged: it does not say its version")
    return content


def _checksum(content: dict[str, Any]) -> str:
    plain = json.dumps(content, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()
