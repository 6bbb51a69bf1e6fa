"""The sound tower of AudioCLIP: a ResNeXt with attention over pictures of wavelets' power.

Built of the sizes that a checkpoint's tensors have, in fp32 on every device. Attention at each of
the four stages looks along time and along frequency in turn; a fifth weighs the pooled features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clipsearch.encoders.audioclip_frames import (
    BAND_BINS,
    BANDS,
    BINS,
    FRAME,
    WAVELET,
    frame_basis,
    framed,
    scaled,
    wavelets,
)
from clipsearch.encoders.state import count_blocks
from clipsearch.errors import EncoderError
from clipsearch.types import Vectors, Wave

STAGES = 4
# Tensors that are not the network's, with their shapes: the wavelets and what tapers a frame.
SOUND_SHAPES = {"window": (FRAME,), "fbsp.m": (BINS,), "fbsp.fb": (BINS,), "fbsp.fc": (BINS,)}
# What the sizes are read from, and how many axes each has.
TELLING = {
    "conv1.weight": 4,
    "fc.weight": 2,
    **{f"layer{s}.0.conv{c}.weight": 4 for s in range(1, STAGES + 1) for c in (2, 3)},
}
_NO_POWER = 1e-18  # in the place of 0, whose logarithm is not finite
_KERNELS = ((3, 1), (1, 5), (3, 1), (1, 5), (3, 5))  # of the attentions: (bins, frames)
# Frames a step; 5 s are 393. On 2 CPU cores 400, 800, 1600 and 3200 took 1.1 to 1.4 s for 5 s of
# sound, with no order among them, and 3200 half a GB more than 800. Not measured on a GPU.
_BATCH_FRAMES = {"cpu": 800, "cuda": 12800, "mps": 3200}


@dataclass(frozen=True, slots=True)
class Stage:
    """Sizes of one stage: its blocks, and channels inside a block, in groups, and after it."""

    blocks: int
    width: int
    groups: int
    channels: int


class AudioTower:
    """Waves at 44.1 kHz to rows of the shared space."""

    def __init__(self, network: Network, basis: Tensor) -> None:
        """`basis`: what `basis_of` gives. Both move to a device by `to`."""
        self._network = network.eval()
        self._basis = basis

    def to(self, device: torch.device) -> AudioTower:
        """The same tower there."""
        return AudioTower(self._network.to(device), self._basis.to(device))

    def encode(self, waves: Sequence[Wave]) -> Vectors:
        """(len(waves), dim) float32 rows, not scaled, of waves (samples,) of any length.

        Those with as many frames go through together, in batches of bounded size; one wave is
        never divided, so that memory follows the longest.
        """
        rows = np.zeros((len(waves), self._network.fc.out_features), dtype=np.float32)
        frames = [framed(scaled(wave)) for wave in waves]
        for chosen in _batches([len(f) for f in frames], _BATCH_FRAMES[self._basis.device.type]):
            batch = torch.from_numpy(np.stack([frames[i] for i in chosen]))
            with torch.inference_mode():
                pictures = loudness(batch.to(self._basis.device), self._basis)
                rows[chosen] = self._network(pictures).cpu().numpy()
        return rows


def loudness(frames: Tensor, basis: Tensor) -> Tensor:
    """(n, 3, 341, m) decibels of m frames of n waves, (n, m, FRAME): bands as colours.

    `basis`: (2, 1023, FRAME), its wavelets in order of frequency.
    """
    real, imaginary = frames @ basis[0].T, frames @ basis[1].T
    power = real.square() + imaginary.square()
    decibels = 10 * torch.where(power > 0, power, _NO_POWER).log10()
    waves, count, _ = decibels.shape
    return decibels.reshape(waves, count, BANDS, BAND_BINS).permute(0, 2, 3, 1)


def basis_of(state: Mapping[str, Tensor], *, what: str) -> Tensor:
    """The `basis` of `loudness` from tensors with the names and shapes of SOUND_SHAPES.

    Raises EncoderError for wavelets that are not finite.
    """
    kept = BANDS * BAND_BINS
    values = {name: state[name].detach().double().numpy() for name in SOUND_SHAPES}
    m, fb, fc = (values[f"fbsp.{name}"][:kept] for name in ("m", "fb", "fc"))
    basis = frame_basis(wavelets(m, fb, fc, size=WAVELET), values["window"])
    broken = np.flatnonzero(~np.isfinite(basis).all(axis=(0, 2)))
    if broken.size:
        i = broken[0]
        raise EncoderError(
            f"{what} does not fit: its fbsp.m {m[i]:.4g}, fbsp.fb {fb[i]:.4g} and fbsp.fc"
            f" {fc[i]:.4g} of bin {i} give no finite wavelet"
        )
    return torch.from_numpy(basis)


class Network(nn.Module):
    """From pictures (n, 3, bins, frames) to (n, dim); parameters have the published names."""

    def __init__(self, stem: int, stages: Sequence[Stage], *, dim: int) -> None:
        """`stem`: channels before the first stage."""
        super().__init__()
        self.conv1 = nn.Conv2d(BANDS, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        before = stem
        for number, stage in enumerate(stages, 1):
            stride = 1 if number == 1 else 2
            blocks = [_Block(before, stage, stride=stride)]
            blocks += [_Block(stage.channels, stage, stride=1) for _ in range(1, stage.blocks)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            attention = _Attention(before, stage.channels, kernel=_KERNELS[number - 1])
            self.add_module(f"att{number}", attention)
            before = stage.channels
        self.att5 = _Attention(before, before, kernel=_KERNELS[-1])
        self.fc = nn.Linear(before, dim)

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, dim) of (n, 3, bins, frames)."""
        x = functional.relu(self.bn1(self.conv1(pictures)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for number in range(1, STAGES + 1):
            layer, attention = (self.get_submodule(f"{n}{number}") for n in ("layer", "att"))
            x = layer(x) * attention(x if number == 1 else halved(x))
        pooled = x.mean(dim=(2, 3), keepdim=True) * self.att5(x.amax(dim=(2, 3), keepdim=True))
        rows: Tensor = self.fc(pooled.flatten(1))
        return rows


def network_for(state: Mapping[str, Any], *, dim: int, what: str) -> Network:
    """A Network of the sizes of these tensors, which hold TELLING; its weights are not theirs.

    Raises EncoderError if a stage has no block or is not in equal groups.
    """
    stages = []
    for number in range(1, STAGES + 1):
        layer = f"layer{number}."
        width, group = state[f"{layer}0.conv2.weight"].shape[:2]
        if width % group:
            raise EncoderError(
                f"{what} does not fit: {layer}0.conv2.weight divides {width} channels in groups of"
                f" {group}"
            )
        channels = state[f"{layer}0.conv3.weight"].shape[0]
        blocks = count_blocks(state, layer, what=what)
        stages.append(Stage(blocks, width, width // group, channels))
    return Network(state["conv1.weight"].shape[0], stages, dim=dim)


class _Block(nn.Module):
    """The bottleneck of ResNeXt: its middle convolution is in groups, and takes the stride."""

    def __init__(self, before: int, stage: Stage, *, stride: int) -> None:
        super().__init__()
        width, after = stage.width, stage.channels
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride=stride, padding=1, groups=stage.groups, bias=False
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            shortcut = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        kept = x if self.downsample is None else self.downsample(x)
        return functional.relu(self.bn3(self.conv3(y)) + kept)


class _Attention(nn.Module):
    """Weights from 0 to 1 for each channel and place."""

    def __init__(self, before: int, after: int, *, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv_depth = nn.Conv2d(before, before, kernel, padding=padding, groups=before)
        self.conv_point = nn.Conv2d(before, after, 1)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.bn(self.conv_point(self.conv_depth(x))).sigmoid()
        return weights


def halved(x: Tensor) -> Tensor:
    """The adaptive max pooling of (n, c, h, w) to h / 2 and w / 2, both rounded up.

    Written as a plain one, which every device has: an output of an even axis is the maximum of
    two, of an odd one that of three which overlap by one.
    """
    odd = [side % 2 for side in x.shape[2:]]
    return functional.max_pool2d(x, [2 + one for one in odd], stride=2, padding=odd)


def _batches(frames: Sequence[int], most: int) -> list[list[int]]:
    """Positions in groups of one number of frames, with at most `most` in all, or of one wave."""
    groups: dict[int, list[int]] = {}
    for i, count in enumerate(frames):
        groups.setdefault(count, []).append(i)
    batches = []
    for count, group in groups.items():
        step = max(1, most // count)
        batches += [group[at : at + step] for at in range(0, len(group), step)]
    return batches
