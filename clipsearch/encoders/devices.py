"""Device names to torch devices: what is asked for by name is there or is an error."""

from __future__ import annotations

import os
import re
import threading
import warnings
from typing import TYPE_CHECKING

from clipsearch.encoders.base import Feeding
from clipsearch.errors import EncoderError, UsageError

if TYPE_CHECKING:
    import torch


CALLS_MAX = 16  # a call more is a batch more of activations in memory
GPU_CALLS = 2  # one copies while the other computes
_limiting = threading.Lock()


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usual_feeding(device_type: str, *, batch: int) -> Feeding:
    """The rule without a trial: a CPU is shared by calls of one thread each, up to CALLS_MAX.

    They do not wait for each other at every layer, as the threads of one call do: with 2 cores
    ViT-B-32 encodes 16 pictures a second in place of 13 (docs/decisions/019).
    """
    if device_type == "cpu":
        cores = usable_cores()
        calls = min(cores, CALLS_MAX)
        return Feeding(batch=batch, calls=calls, threads=cores // calls)
    return Feeding(batch=batch, calls=GPU_CALLS if device_type == "cuda" else 1)


def limit_threads(count: int) -> None:
    """Let what torch computes in the calling thread use `count` threads; 0 changes nothing.

    Other threads keep what they have: torch notes the last number set for threads that have not
    used it yet, and that note is put back.
    """
    if not count:
        return
    import torch

    def put_back() -> None:
        usual = torch.get_num_threads()  # of a thread that has not used torch yet
        noted.set()
        limited.wait()
        torch.set_num_threads(usual)

    torch.get_num_threads()  # a thread's first use takes the noted number: have that behind it
    with _limiting:
        noted, limited = threading.Event(), threading.Event()
        other = threading.Thread(target=put_back)
        other.start()
        noted.wait()
        try:
            torch.set_num_threads(count)
        finally:
            limited.set()
            other.join()


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
