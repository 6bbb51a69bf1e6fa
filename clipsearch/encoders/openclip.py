"""CLIP and its relatives: every model that open_clip can build."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.encoders.base import EncoderSpec, Prepared
from clipsearch.encoders.devices import check_device_name, pick_device
from clipsearch.encoders.geometry import Geometry
from clipsearch.encoders.openclip_files import ModelFiles, find_files
from clipsearch.encoders.spec import parse_spec
from clipsearch.encoders.values import checked_stack, plain_text, unit_rows
from clipsearch.errors import EncoderError
from clipsearch.types import Pixels, Vectors

if TYPE_CHECKING:
    import torch

# Half precision on GPUs only; on a CPU it moves vectors more than it is worth
# (docs/decisions/004). Fixed for each kind of device: a run must be repeatable.
PRECISION = {"cuda": "fp16", "cpu": "fp32", "mps": "fp32"}
IMAGE_BATCH = {"cuda": 128, "cpu": 8, "mps": 32}
TEXT_BATCH = 64


class OpenClipEncoder:
    """An Encoder around one open_clip model, loaded whole on creation.

    The fingerprint leaves the precision out: an index that a GPU built in fp16 can be queried on
    a laptop in fp32, where a row differs by less than 1e-2 in cosine (docs/decisions/004).
    """

    supports_text = True
    supports_images = True

    def __init__(self, name: str, *, device: str = "auto") -> None:
        """`name` as in EncoderSpec. Raises EncoderError, see `load`."""
        self.spec = EncoderSpec("openclip", name)
        self._device = pick_device(device)
        self._files = find_files(name)
        self._model = _build(self._files, self._device)
        self._tokenizer = _tokenizer(self._files.model)
        self._preprocess = dict(self._model.visual.preprocess_cfg)
        self._geometry = _geometry(self._preprocess)
        self.short_side = max(self._geometry.target)
        self.dim = self._encode_tokens([""]).shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """openclip:MODEL@ and a hash of weights, architecture and pre-processing."""
        return self._files.fingerprint(self._preprocess)

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """(len(texts), dim) float32 unit rows; what exceeds the model's context is cut off."""
        rows = [np.zeros((0, self.dim), dtype=np.float32)]
        for start in range(0, len(texts), TEXT_BATCH):
            rows.append(self._encode_tokens(texts[start : start + TEXT_BATCH]))
        return np.concatenate(rows)

    def prepare(self, pixels: Pixels) -> Prepared:
        """(height, width, 3) uint8 of the model's input size: resized and cropped or padded."""
        return self._geometry.apply(pixels)

    def encode_images(self, prepared: Sequence[Prepared]) -> Vectors:
        """(len(prepared), dim) float32 unit rows of pictures that `prepare` made."""
        rows = [np.zeros((0, self.dim), dtype=np.float32)]
        step = IMAGE_BATCH[self._device.type]
        for start in range(0, len(prepared), step):
            rows.append(self._encode_pictures(prepared[start : start + step]))
        return np.concatenate(rows)

    def _encode_tokens(self, texts: Sequence[str]) -> Vectors:
        tokens = self._tokenizer([plain_text(text) for text in texts])
        with _inference_mode():
            return _rows(self._model.encode_text(tokens.to(self._device)))

    def _encode_pictures(self, prepared: Sequence[Prepared]) -> Vectors:
        pixels = checked_stack(prepared, (*self._geometry.crop, 3))
        with _inference_mode():
            return _rows(self._model.encode_image(self._normalised(pixels)))

    def _normalised(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> torch.Tensor:
        """(n, 3, height, width) on the device, in the model's type: (x / 255 - mean) / std."""
        import torch

        x = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).float() / 255
        mean, std = (
            torch.tensor(self._preprocess[key], device=self._device).reshape(-1, 1, 1)
            for key in ("mean", "std")
        )
        half = PRECISION[self._device.type] == "fp16"
        return ((x - mean) / std).to(torch.float16 if half else torch.float32)


def load(spec: EncoderSpec, *, device: str) -> OpenClipEncoder:
    """The open_clip model of `spec`, downloading its weights if they are not in the cache.

    Raises EncoderError for an unknown model or tag, a checkpoint that is missing, damaged or of
    another model, a download that fails, a missing package and an absent device.
    """
    check_device_name(device)
    return OpenClipEncoder(parse_spec(str(spec)).name, device=device)


def _build(files: ModelFiles, device: torch.device) -> Any:
    import open_clip

    from_hub = files.model.startswith("hf-hub:")  # open_clip finds the cached file again
    try:
        model = open_clip.create_model(
            files.model,
            pretrained=None if from_hub else str(files.weights),
            precision=PRECISION[device.type],
            device=device,
            force_quick_gelu=files.quick_gelu,
            force_preprocess_cfg=files.preprocess,
            require_pretrained=True,
            weights_only=True,  # a checkpoint cannot run code
        )
    except ImportError as error:
        raise EncoderError(f"{files.model} needs a package that is missing: {error}") from error
    except Exception as error:  # unpickling a damaged file raises almost any type
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(
            f"{files.weights} cannot be loaded as {files.model}: the file is damaged or belongs to"
            f" another model ({type(error).__name__}: {reason})"
        ) from error
    return model.eval()


def _tokenizer(model: str) -> Callable[[list[str]], torch.Tensor]:
    import open_clip

    try:
        tokenizer: Callable[[list[str]], torch.Tensor] = open_clip.get_tokenizer(model)
    except ImportError as error:
        raise EncoderError(
            f"the tokenizer of {model} needs a package that is missing ({error}):"
            " pip install transformers"
        ) from error
    except Exception as error:
        raise EncoderError(f"cannot load the tokenizer of {model}: {error}") from error
    return tokenizer


def _geometry(preprocess: dict[str, Any]) -> Geometry:
    size = preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
    bilinear = preprocess["interpolation"] == "bilinear"  # open_clip: all else means bicubic
    return Geometry(
        target=(height, width),
        crop=(height, width),
        mode=preprocess["resize_mode"] or "shortest",
        interpolation="bilinear" if bilinear else "bicubic",
        fill=preprocess["fill_color"],
    )


def _rows(features: torch.Tensor) -> Vectors:
    return unit_rows(features.float().cpu().numpy())


def _inference_mode() -> AbstractContextManager[Any]:
    import torch

    return torch.inference_mode()
