"""Checkpoints as names and tensors: reading, comparing and hashing them."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor


def read_state(path: Path) -> dict[str, Any]:
    """The state dict in a file of torch.save, on the CPU: tensors, or plain values, by name.

    Runs no code of the file. Raises EncoderError for a file that is missing, damaged, holds
    something else, or would run code.
    """
    import torch

    if not path.is_file():
        raise EncoderError(f"the checkpoint {path} is missing or not a file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a damaged file raises almost any type
        # torch's words on what weights_only refuses advise to switch the check off.
        unsafe = isinstance(error, pickle.UnpicklingError)
        reason = "not tensors alone" if unsafe else " ".join(str(error).split())[:200]
        raise EncoderError(
            f"{path} cannot be read as a checkpoint: it is damaged, or not a plain state dict of"
            f" torch.save ({type(error).__name__}: {reason})"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise EncoderError(
            f"{path} holds a {type(state).__name__}, not a state dict: names with a tensor each"
        )
    return state


def check_state(
    given: Mapping[str, Any], wanted: Mapping[str, Tensor], *, what: str, prefix: str = ""
) -> None:
    """Raise EncoderError that names all that is missing, unexpected or of another shape.

    `wanted`: what the model's own state_dict gives; only its names and shapes count. A tensor that
    is not of finite floats does not fit either. `prefix` stands before the names in the file.
    """
    from torch import Tensor

    problems = [f"{prefix}{name} is missing" for name in wanted if name not in given]
    for name, value in given.items():
        full = f"{prefix}{name}"
        if name not in wanted:
            problems.append(f"{full} is unexpected")
        elif not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            problems.append(f"{full} is {kind}, not floats")
        elif value.shape != wanted[name].shape:
            wants = tuple(wanted[name].shape)
            problems.append(f"{full} has shape {tuple(value.shape)}, not {wants}")
        elif not bool(value.isfinite().all()):
            problems.append(f"{full} holds NaN or infinity")
    if problems:
        raise EncoderError(f"{what} does not fit: {'; '.join(problems)}")


def check_telling(
    state: Mapping[str, Any], axes_of: Mapping[str, int], *, what: str, prefix: str = ""
) -> None:
    """Raise EncoderError unless every tensor that sizes are read from is there, with so many axes.

    `prefix` stands before the names in the file.
    """
    from torch import Tensor

    problems = []
    for name, axes in axes_of.items():
        value = state.get(name)
        if value is None:
            problems.append(f"{prefix}{name} is missing")
        elif not isinstance(value, Tensor) or value.ndim != axes or not value.numel():
            problems.append(f"{prefix}{name} is not a tensor of {axes} axes")
    if problems:
        raise EncoderError(f"{what} does not fit: {'; '.join(problems)}")


def count_blocks(names: Iterable[str], prefix: str, *, what: str) -> int:
    """How many blocks a transformer has whose parameters are called `prefix`0.…, `prefix`1.…

    Raises EncoderError if one is left out, or all are.
    """
    found = {int(n[len(prefix) :].split(".")[0]) for n in names if _is_block(n, prefix)}
    missing = next(i for i in range(len(found) + 1) if i not in found)
    if missing == 0 or missing < len(found):
        raise EncoderError(f"{what} does not fit: {prefix}{missing}.* is missing")
    return len(found)


def _is_block(name: str, prefix: str) -> bool:
    return re.match(re.escape(prefix) + r"[0-9]{1,6}\.", name) is not None


def tensors_sha256(state: Mapping[str, Any]) -> hashlib._Hash:
    """A SHA-256 over names, shapes and float32 values, whatever the order and the precision.

    Raises EncoderError for a value that is not a tensor of floats.
    """
    from torch import Tensor

    digest = hashlib.sha256()
    for name in sorted(state):
        if not isinstance(state[name], Tensor) or not state[name].is_floating_point():
            raise EncoderError(f"{name} of the checkpoint is not a tensor of floats")
        values = state[name].detach().cpu().float().contiguous().numpy()
        digest.update(f"{name} {values.shape}\n".encode())
        digest.update(values.astype("<f4", copy=False).data)
    return digest
