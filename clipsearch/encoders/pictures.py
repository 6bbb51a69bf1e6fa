"""A network for pictures on its device: what it is given, in which precision, on which streams."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Prepared
from clipsearch.encoders.devices import usual_feeding
from clipsearch.encoders.trial import Way
from clipsearch.encoders.values import checked_stack
from clipsearch.errors import EncoderError
from clipsearch.types import Vectors

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Network:
    """Features of pictures: `encode` makes (n, dim) of (n, 3, height, width) on `device`.

    module: what holds its weights. convert: changes their type in place, to fp32, bf16 or fp16;
    None for a network that has one type only. A pixel of 0 to 255 enters as
    (pixel / divisor - mean) / std.
    """

    encode: Callable[[torch.Tensor], torch.Tensor]
    module: Any
    device: torch.device
    shape: tuple[int, int, int]  # of a prepared picture: height, width, 3
    mean: Sequence[float]
    std: Sequence[float]
    divisor: float = 1.0
    convert: Callable[[Any, torch.dtype], object] | None = None


class PictureTower:
    """A Network and the way it is used. Safe in several threads, but for `go`.

    A GPU gets bytes, which are scaled there, from memory that it reads by itself (pinned).
    compiles: whether torch compiles the network with the first full batch, for full batches.
    """

    def __init__(self, network: Network, *, precision: str, batch: int) -> None:
        """`batch`: pictures a step, unless `tune` finds a better number."""
        import torch

        self.network = network
        self.way = Way(usual_feeding(network.device.type, batch=batch), precision)
        self._weights = {precision: [tensor.data for tensor in _tensors(network.module)]}
        self._own = threading.local()  # a stream and memory of each calling thread
        self.compiles = False
        self._compiled: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._compiling = threading.Lock()
        self._mean, self._std = (
            torch.tensor(values, device=network.device).reshape(-1, 1, 1)
            for values in (network.mean, network.std)
        )

    def rows(self, prepared: Sequence[Prepared]) -> Vectors:
        """(n, dim) float32 features, n of 1 at least.

        A step that does not fit into a GPU's memory is halved, from then on. Raises UsageError for
        a picture that was not prepared for it, EncoderError if not one picture fits.
        """
        import torch

        rows, start = [], 0
        while start < len(prepared):
            some = prepared[start : start + self.way.feeding.batch]
            try:
                rows.append(self.encode(some))
            except torch.OutOfMemoryError as error:
                self._halve(len(some), error)
            else:
                start += len(some)
        return np.concatenate(rows)

    def normalised(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """(n, 3, height, width) on the device, as the network takes it."""
        import torch

        return self._scaled(torch.from_numpy(pixels).to(self.network.device))

    def go(self, way: Way) -> None:
        """Encode this way from now on; weights in a type that was gone before are still there."""
        module = self.network.module
        if way.precision not in self._weights:
            if self.network.convert is None:
                raise EncoderError(f"this model is not computed in {way.precision}")
            self.network.convert(module, _dtype(way.precision))
            self._weights[way.precision] = [tensor.data for tensor in _tensors(module)]
        for tensor, values in zip(_tensors(module), self._weights[way.precision], strict=True):
            tensor.data = values
        self.way, self._compiled = way, None

    def forget_other_weights(self) -> None:
        """Free the weights in types that are not in use."""
        self._weights = {self.way.precision: self._weights[self.way.precision]}

    def encode(self, prepared: Sequence[Prepared]) -> Vectors:
        """(n, dim) float32 features in one step; what torch raises if it does not fit."""
        import torch

        pixels = checked_stack(prepared, self.network.shape)
        with torch.inference_mode(), self._stream():
            x = self._scaled(self._moved(pixels))
            full = self.compiles and len(pixels) == self.way.feeding.batch
            made = self._by_compiled(x) if full else self.network.encode(x)
            rows: Vectors = made.float().cpu().numpy()  # waits for this stream alone
        return rows

    def _halve(self, size: int, error: Exception) -> None:
        import torch

        if size == 1:
            raise EncoderError(
                f"one picture does not fit into the memory of {self.network.device}: end what"
                " else uses it, or use --device cpu"
            ) from error
        torch.cuda.empty_cache()
        self.way = replace(self.way, feeding=replace(self.way.feeding, batch=size // 2))

    def _by_compiled(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        with self._compiling:
            if self._compiled is None:
                compiled = torch.compile(self.network.encode, dynamic=False)
                try:
                    made = compiled(x)
                except torch.OutOfMemoryError:  # a smaller batch may fit
                    raise
                except Exception as error:  # of many types; a missing compiler is one of them
                    reason = " ".join(str(error).split())[:300]
                    raise EncoderError(f"torch cannot compile this model: {reason}") from error
                self._compiled = compiled
                return made
            compiled = self._compiled
        return compiled(x)

    def _moved(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """On the device; to a GPU by memory that it reads by itself, kept for the next step."""
        import torch

        if self.network.device.type != "cuda":
            return torch.from_numpy(pixels).to(self.network.device)
        held = getattr(self._own, "pinned", None)
        if held is None or len(held) < len(pixels):
            held = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
            self._own.pinned = held
        pinned = held[: len(pixels)]
        pinned.copy_(torch.from_numpy(pixels))
        return pinned.to(self.network.device, non_blocking=True)

    def _stream(self) -> AbstractContextManager[Any]:
        """The calling thread's own stream of a GPU, so that one copies while another computes."""
        import torch

        if self.network.device.type != "cuda":
            return nullcontext()
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self.network.device)  # type: ignore[no-untyped-call]
            self._own.stream.wait_stream(torch.cuda.default_stream(self.network.device))
        return torch.cuda.stream(self._own.stream)

    def _scaled(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.permute(0, 3, 1, 2).float()  # the order in memory stays: channels last
        if self.network.divisor != 1.0:
            x = x / self.network.divisor
        x = ((x - self._mean) / self._std).to(_dtype(self.way.precision))
        return x if self.way.channels_last else x.contiguous()


def _tensors(module: Any) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _dtype(precision: str) -> torch.dtype:
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
