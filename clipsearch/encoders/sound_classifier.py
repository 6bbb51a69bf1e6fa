"""The sound classifier that ships with the package: a wave to scores of named classes of sounds.

A small convolutional network on log-mel spectrograms, trained by `python -m tools.sounds.train` on
sounds that are free to use; tools/sounds/README.md says on which, and what it knows. Training and
use share `mel_powers` and `features`, so that what was learned is what is computed here.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import EncoderError, UsageError

if TYPE_CHECKING:
    import torch

RATE: int = 16000  # Hz that waves must have
WEIGHTS_FILE: Path = Path(__file__).with_name("sound_classifier.safetensors")
FORMAT = "1"  # of the weights file: raised when the network or the features change

FRAME = 512  # samples: 32 ms
HOP = 320  # samples: 20 ms
MELS = 64
LOWEST_HZ = 50.0
RANGE_DB = 80.0  # below the loudest cell of a wave: what is quieter counts as silence
SILENCE = 1e-9  # power of the loudest cell below which nothing is heard
SHORTEST = 2 * RATE  # shorter waves are followed by silence: the network was trained on 3 to 10 s
_BATCH = 16  # waves a step: bounds the memory
_WIDTHS = (16, 32, 64, 128, 192)  # channels after each halving


class SoundClassifier:
    """The classifier on one device. Loads on creation; safe in several threads."""

    class_names: tuple[str, ...]
    class_parts: tuple[tuple[str, ...], ...]  # the sounds that each class is made of, in words
    prompt: str  # what stands before one of these when it is used as text
    temperature: float  # that the logits are divided by before they become probabilities

    def __init__(self, path: Path = WEIGHTS_FILE, *, device: torch.device) -> None:
        """Raises EncoderError if the weights are missing or damaged."""
        state, notes = _read(path)
        try:
            self.class_names = tuple(json.loads(notes["class_names"]))
            self.class_parts = tuple(map(tuple, json.loads(notes["class_parts"])))
            self.prompt = notes["prompt"]
            self.temperature = float(notes["temperature"])
            network = build_network(len(self.class_names))
            network.load_state_dict({name: value.float() for name, value in state.items()})
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise EncoderError(f"{path} is damaged ({error}): reinstall clipsearch") from error
        self._device = device
        self._network = network.eval().to(device)

    def logits(self, waves: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, classes) scores of mono waves (n, samples) in -1..1 at `RATE`, 0.1 to 30 s long.

        A row does not depend on its neighbours. Silence has scores like any other sound.
        """
        import torch

        if waves.ndim != 2 or not waves.shape[1]:
            raise UsageError(f"waves of shape {waves.shape}: need (n, samples), not empty")
        rows = [np.zeros((0, len(self.class_names)), dtype=np.float32)]
        with torch.inference_mode():
            for start in range(0, len(waves), _BATCH):
                some = np.ascontiguousarray(waves[start : start + _BATCH], dtype=np.float32)
                powers = mel_powers(torch.from_numpy(some).to(self._device))
                scores = self._network(features(powers))
                rows.append(scores.float().cpu().numpy())
        return np.concatenate(rows)


def weights_sha256(path: Path = WEIGHTS_FILE) -> str:
    """Hash of the weights file. Raises EncoderError if it is missing."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise EncoderError(f"{path} is missing ({error}): reinstall clipsearch") from error


def mel_powers(waves: torch.Tensor) -> torch.Tensor:
    """(n, frames, 64) powers in mel bands of waves (n, samples) at `RATE`."""
    import torch

    missing = max(0, SHORTEST - waves.shape[1])
    waves = torch.nn.functional.pad(waves, (0, missing))
    frames = waves.unfold(1, FRAME, HOP) * torch.hann_window(FRAME, device=waves.device)
    spectra = torch.fft.rfft(frames)
    powers = spectra.real.square() + spectra.imag.square()
    bands: torch.Tensor = powers @ torch.from_numpy(mel_filters()).to(waves.device)
    return bands


def features(powers: torch.Tensor) -> torch.Tensor:
    """Mel powers (n, frames, 64) as the network takes them: about -2..2, whatever the loudness."""
    loudest = powers.amax(dim=(1, 2), keepdim=True).clamp(min=SILENCE)
    decibels = 10 * (powers / loudest).clamp(min=10 ** (-RANGE_DB / 10)).log10()
    return decibels / (RANGE_DB / 4) + 2


@lru_cache(maxsize=1)
def mel_filters() -> NDArray[np.float32]:
    """(257, 64) triangles, equally spaced on the mel scale, each with its peak at 1."""
    edges = _hertz(np.linspace(_mel(LOWEST_HZ), _mel(RATE / 2), MELS + 2))
    bins = np.arange(FRAME // 2 + 1)[:, None] * (RATE / FRAME)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(700 * (10 ** (mels / 2595) - 1))


def build_network(classes: int) -> torch.nn.Module:
    """The untrained network: features (n, frames, 64) to logits (n, classes)."""
    import torch
    from torch import nn

    class Residual(nn.Module):
        """A convolution that keeps the shape, added to its input."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.body = _convolution(width, width, kernel=3, stride=(1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept: torch.Tensor = x + self.body(x)
            return kept

    class Network(nn.Module):
        """Convolutions, then the mean over bands and attention plus maximum over time."""

        def __init__(self) -> None:
            super().__init__()
            first, second, third, fourth, last = _WIDTHS
            self.body = nn.Sequential(
                _convolution(1, first, kernel=5, stride=(2, 2)),
                _convolution(first, second, kernel=3, stride=(2, 2)),
                _convolution(second, third, kernel=3, stride=(2, 2)),
                Residual(third),
                _convolution(third, fourth, kernel=3, stride=(2, 2)),
                Residual(fourth),
                _convolution(fourth, last, kernel=3, stride=(1, 2)),
            )
            self.attention = nn.Linear(last, 1)
            self.drop = nn.Dropout(0.3)
            self.classifier = nn.Linear(2 * last, classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            steps = self.body(x[:, None]).mean(dim=3).transpose(1, 2)  # (n, steps, last)
            weights = self.attention(steps).softmax(dim=1)
            pooled = torch.cat([(weights * steps).sum(dim=1), steps.amax(dim=1)], dim=1)
            logits: torch.Tensor = self.classifier(self.drop(pooled))
            return logits

    return Network()


def _convolution(width_in: int, width: int, *, kernel: int, stride: tuple[int, int]) -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(width_in, width, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The parameters and the notes of a weights file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"{path} cannot be read ({error}): reinstall clipsearch") from error
    if notes.get("format") != FORMAT:
        raise EncoderError(
            f"{path} has format {notes.get('format')}: this clipsearch reads {FORMAT}; reinstall it"
        )
    return state, notes
