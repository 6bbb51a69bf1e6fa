"""Device names to torch devices: what is asked for by name is there or is an error."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

from clipsearch.errors import EncoderError, UsageError

if TYPE_CHECKING:
    import torch


def check_device_name(name: str) -> None:
    """Raise UsageError unless `name` is auto, cpu, cuda, cuda:N or mps. Does not load torch."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", name):
        raise UsageError(f"device {name!r}: use auto, cpu, cuda, cuda:N or mps")


def pick_device(name: str) -> torch.device:
    """The torch device of that name; "auto" is cuda, else mps, else cpu.

    Raises UsageError for a malformed name, EncoderError for a device that this machine lacks.
    """
    import torch

    check_device_name(name)
    with warnings.catch_warnings():  # a driver that is too old is told as a warning
        warnings.simplefilter("ignore")
        cudas = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cudas else "mps" if has_mps else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= cudas:
        raise EncoderError(
            f"device {name!r} is not there: torch sees {cudas} CUDA devices; use auto or cpu"
        )
    if device.type == "mps" and not has_mps:
        raise EncoderError("device 'mps' is not there: torch sees no Apple GPU; use auto or cpu")
    return device
