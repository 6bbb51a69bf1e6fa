"""A network for pictures with 8-bit weights and products, by OpenVINO, on CPUs.

The weights of a layer are rounded to 8 bits with one scale for each of its outputs. What it is
given is rounded as it comes, with one scale for every 64 neighbouring channels of a place, so that
nothing has to be calibrated on pictures: the same weights make the same network on every machine.
On a CPU without instructions for 8-bit products OpenVINO multiplies the rounded weights in fp32.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Feeding
from clipsearch.errors import EncoderError

if TYPE_CHECKING:
    import torch

SCHEME = "int8.1"  # part of the fingerprint: raise the number when the rounding changes
GROUP_CHANNELS = 64  # with 32: 55 ms of CPU for a picture of ViT-B-32 in place of 41, as near
LEAST_CHANNELS = 64  # smaller layers are not worth it
_tracing = threading.Lock()  # of torch's fast path, which is one setting for all threads


def int8_network(
    encode: Callable[[torch.Tensor], torch.Tensor],
    module: Any,
    *,
    shape: tuple[int, int, int],
    feeding: Feeding,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The rounded form of `encode`, which takes (n, 3, height, width) in fp32 on the CPU.

    module: what holds its weights. shape: height, width, 3 of a picture. feeding: how many calls at
    once the result is made for. Raises EncoderError if OpenVINO is missing or cannot take it.
    """
    try:
        import openvino
    except ImportError as error:
        raise EncoderError(
            f"8-bit models need OpenVINO ({error}): pip install 'clipsearch[int8]'"
        ) from error
    try:
        model = _traced(encode, module, shape)
        _round_weights(model)
        compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "NUM_STREAMS": str(feeding.calls),
                "INFERENCE_NUM_THREADS": str(feeding.calls * max(1, feeding.threads)),
                "INFERENCE_PRECISION_HINT": "f32",
                "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(GROUP_CHANNELS),
            },
        )
    except Exception as error:  # of torch's tracing or of OpenVINO, of many types
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(
            f"this model has no 8-bit form: OpenVINO cannot take it ({reason})"
        ) from error
    return _Inference(compiled)


class _Inference:
    """A compiled model as a function of tensors; each thread has a request of its own."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._own = threading.local()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        made = self._own.request.infer({0: np.ascontiguousarray(x.numpy())})
        return torch.from_numpy(np.array(made[0]))


def _traced(encode: Any, module: Any, shape: tuple[int, int, int]) -> Any:
    """The network as OpenVINO's, for any number of pictures."""
    import openvino
    import torch

    class Traced(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = encode(x)
            return made

    height, width = shape[:2]
    with _tracing, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns of every shape that it fixes
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # it cannot be traced
        try:
            example = torch.zeros(2, 3, height, width)
            return openvino.convert_model(
                Traced().eval(), example_input=example, input=[-1, 3, height, width]
            )
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


def _round_weights(model: Any) -> None:
    """Put rounded weights, and what scales them back, in the place of those of each product."""
    from openvino import Type
    from openvino import opset13 as ops

    for product in model.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        weights = product.input_value(1).get_node()
        if weights.get_type_name() != "Constant":
            continue
        values, by_output = weights.data, product.get_attributes()["transpose_b"]
        if values.ndim != 2 or min(values.shape) < LEAST_CHANNELS:
            continue
        rounded, scales = rounded_to_int8(values if by_output else values.T)
        if not by_output:
            rounded, scales = rounded.T, scales.T
        wide = ops.convert(ops.constant(np.ascontiguousarray(rounded)), Type.f32)
        product.input(1).replace_source_output(ops.multiply(wide, ops.constant(scales)).output(0))


def rounded_to_int8(
    weights: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(outputs, inputs) weights as int8 of the same shape and (outputs, 1) scales: their product.

    Half to even; the largest of an output becomes 127 or -127.
    """
    largest = np.abs(weights).max(axis=1, keepdims=True)
    scales = (np.where(largest > 0, largest, 1.0) / 127.0).astype(np.float32)
    rounded = np.clip(np.rint(weights / scales), -127, 127).astype(np.int8)
    return rounded, scales
