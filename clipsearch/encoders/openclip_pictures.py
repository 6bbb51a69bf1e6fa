"""The tower for pictures of an open_clip model: in the types it can be computed in, or 8-bit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clipsearch.encoders.devices import usual_feeding
from clipsearch.encoders.geometry import Geometry
from clipsearch.encoders.int8 import int8_network
from clipsearch.encoders.pictures import Network, PictureTower

if TYPE_CHECKING:
    import torch

BATCH = {"cuda": 128, "cpu": 8, "mps": 32}


def picture_tower(
    model: Any,
    preprocess: dict[str, Any],
    geometry: Geometry,
    *,
    device: torch.device,
    precision: str,
) -> PictureTower:
    """That of a whole `model` of open_clip, whose pictures `geometry` prepares."""
    network = Network(
        model.encode_image,
        model.visual,
        device,
        shape=(*geometry.crop, 3),
        mean=preprocess["mean"],
        std=preprocess["std"],
        divisor=255.0,
        convert=_convert,
    )
    return PictureTower(network, precision=precision, batch=BATCH[device.type])


def int8_tower(plain: PictureTower) -> PictureTower:
    """The 8-bit form of a tower in fp32 on the CPU. Raises EncoderError, see int8_network."""
    network = plain.network
    feeding = usual_feeding("cpu", batch=BATCH["cpu"])
    encode = int8_network(network.encode, network.module, shape=network.shape, feeding=feeding)
    rounded = replace(network, encode=encode, convert=None)
    return PictureTower(rounded, precision="fp32", batch=BATCH["cpu"])


def _convert(visual: Any, dtype: torch.dtype) -> None:
    """Change the type of a tower in place, as open_clip does when it builds one."""
    from open_clip.model import convert_weights_to_lp
    from open_clip.timm_model import TimmModel

    if isinstance(visual, TimmModel):
        visual.to(dtype)
    else:
        convert_weights_to_lp(visual, dtype)
