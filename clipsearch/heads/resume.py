"""The file that lets a training go on after it was interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipsearch.errors import UsageError
from clipsearch.heads.batches import TrainingSet
from clipsearch.heads.durable import save_durably
from clipsearch.heads.modules import Head
from clipsearch.heads.schedule import TrainSpec

VERSION = 1


@dataclass
class TrainState:
    """Where a training stands after an epoch."""

    epoch: int  # finished ones
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    best: Mapping[str, Tensor]  # a model
    best_epoch: int
    history: list[dict[str, Any]]  # one entry an epoch

    def save(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Write atomically and durably: the file is the old state or the new one, never a part.

        Raises UsageError where that fails, and leaves the old one.
        """
        try:
            save_durably(path, {"version": VERSION, "identity": identity, **vars(self)})
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"training state {path} cannot be written: {reason}") from error


def load_state(path: Path, identity: Mapping[str, Any]) -> TrainState:
    """The state at `path`, of a training with the same `identity`.

    Raises UsageError for a file that is damaged or newer, and for another training, with what
    differs.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        version, found = values.pop("version"), values.pop("identity")
        if version == VERSION:
            state = TrainState(**values)
    except Exception as error:  # unpickling a damaged file raises almost any type
        raise UsageError(
            f"training state {path} cannot be read ({type(error).__name__}): delete it to begin "
            "from the start"
        ) from error
    if version != VERSION:
        raise UsageError(
            f"training state {path} has version {version}, this clipsearch knows {VERSION}: "
            "install the one that wrote it, or delete it"
        )
    _same(path, dict(found), identity)
    return state


def identity_of(
    head: Head,
    sets: tuple[TrainingSet, TrainingSet | None],
    spec: TrainSpec,
    device: torch.device,
) -> dict[str, Any]:
    """Plain values that are equal for trainings that take the same steps to the same weights."""
    data, validation = sets
    return {
        **asdict(spec),
        "device": device.type,
        "head": head.name,
        "first weights": _weights_digest(head),
        "training data": data.digest(),
        "validation data": validation.digest() if validation is not None else "none",
    }


def _same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differing = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    if differing:
        told = "; ".join(
            f"{name} was {_short(found.get(name))} and is {_short(wanted.get(name))}"
            for name in differing
        )
        raise UsageError(
            f"training state {path} is of another training ({told}): repeat what it was begun "
            "with, or train without resuming"
        )


def _short(value: Any) -> str:
    return str(value)[:12]  # of a digest


def _weights_digest(module: nn.Module) -> str:
    found = sha256()
    for name, tensor in module.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()
