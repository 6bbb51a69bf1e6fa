"""CLIP and its relatives: every model that open_clip can build."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.encoders.base import EncoderSpec, Prepared
from clipsearch.encoders.devices import check_device_name, pick_device
from clipsearch.encoders.geometry import Geometry, ResizeMode
from clipsearch.encoders.openclip_files import ModelFiles, find_files
from clipsearch.encoders.openclip_tokens import fits_context
from clipsearch.encoders.patches import Places, WindowPlaces
from clipsearch.encoders.spec import parse_spec
from clipsearch.encoders.values import WithoutAudio, checked_stack, finished_rows, plain_text
from clipsearch.errors import EncoderError
from clipsearch.types import Pixels, Vectors

if TYPE_CHECKING:
    import torch

BF16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}  # with one, bf16 is twice as fast (decisions/004)
IMAGE_BATCH = {"cuda": 128, "cpu": 8, "mps": 32}
TEXT_BATCH = 64


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model of open_clip on its device, and what it takes to feed it."""

    model: Any
    tokenizer: Any  # from a list of texts to their tokens, (n, context) int64
    preprocess: dict[str, Any]  # as open_clip.PreprocessCfg
    device: torch.device
    precision: str  # fp32, fp16 or bf16: the type of the pictures, see precision_for
    fingerprint: Callable[[], str]  # asked once at most: it may have to read the weights


class OpenClipEncoder(WithoutAudio):
    """An Encoder around one loaded model of open_clip.

    The fingerprint leaves the precision out: an index that a GPU built in fp16 can be queried on
    a laptop in fp32, where a row differs by less than 1e-2 in cosine. In half precision a row
    also depends on its batch, by less than that (docs/decisions/004).
    """

    supports_text = True
    supports_images = True

    def __init__(self, spec: EncoderSpec, loaded: LoadedModel) -> None:
        """`spec`: what `load_encoder` makes the same encoder of."""
        self.spec = spec
        self.precision = loaded.precision
        self._device = loaded.device
        self._fingerprint = loaded.fingerprint
        self._model = loaded.model
        self._tokenizer = loaded.tokenizer
        self._tokenizing = threading.Lock()  # whether transformers truncates is shared state
        self._preprocess = loaded.preprocess
        self._geometry = _geometry(self._preprocess)
        self.short_side = max(self._geometry.target)
        batch = IMAGE_BATCH[self._device.type]
        self._places = WindowPlaces.of(self._model.visual, self._normalised, batch=batch)
        self.dim = self._encode_tokens([""]).shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """Family and model, @, and a hash of weights, architecture and pre-processing."""
        return self._fingerprint()

    def encode_text(self, texts: Sequence[str], *, normalize: bool = True) -> Vectors:
        """(len(texts), dim) float32 rows; what exceeds the model's context is cut off."""
        rows = [np.zeros((0, self.dim), dtype=np.float32)]
        for start in range(0, len(texts), TEXT_BATCH):
            rows.append(self._encode_tokens(texts[start : start + TEXT_BATCH]))
        return finished_rows(np.concatenate(rows), normalize=normalize)

    def fits(self, text: str) -> bool:
        """Whether the model's context, usually 77 tokens, holds all of `text`."""
        with self._tokenizing:
            return fits_context(self._tokenizer, plain_text(text))

    def prepare(self, pixels: Pixels) -> Prepared:
        """(height, width, 3) uint8 of the model's input size: resized and cropped or padded."""
        return self._geometry.apply(pixels)

    def encode_images(self, prepared: Sequence[Prepared], *, normalize: bool = True) -> Vectors:
        """(len(prepared), dim) float32 rows of pictures that `prepare` made."""
        rows = [np.zeros((0, self.dim), dtype=np.float32)]
        step = IMAGE_BATCH[self._device.type]
        for start in range(0, len(prepared), step):
            rows.append(self._encode_pictures(prepared[start : start + step]))
        return finished_rows(np.concatenate(rows), normalize=normalize)

    @property
    def supports_patches(self) -> bool:
        """Whether the tower for pictures can be asked for one place alone (patches.places_of)."""
        return self._places is not None

    def encode_patches(self, pixels: Pixels) -> Places:
        """(rows, columns, dim) unit vectors of the patches of a whole picture, by windows over it.

        Raises EncoderError for a tower that has none.
        """
        if self._places is None:
            raise EncoderError(
                f"the model {self.spec} has no features of places: use a ViT or a ResNet of CLIP, a"
                " SigLIP, or builtin"
            )
        return self._places.of_picture(pixels, self._geometry)

    def text_tower(self) -> dict[str, torch.Tensor]:
        """positional_embedding and transformer.* of the text tower, by the names of CLIP.

        Copies on the CPU in fp32, of the values in the precision here. A tower that is not CLIP's
        own kind has other names under transformer, or none.
        """
        import torch

        named = {
            name.removeprefix("text."): tensor for name, tensor in self._model.state_dict().items()
        }
        return {
            name: tensor.detach().to("cpu", torch.float32, copy=True)
            for name, tensor in named.items()
            if name == "positional_embedding" or name.startswith("transformer.")
        }

    @property
    def logit_scale(self) -> float:
        """The factor on cosines that the model was trained with."""
        return float(self._model.logit_scale.detach().float().exp().mean())

    def _encode_tokens(self, texts: Sequence[str]) -> Vectors:
        with self._tokenizing:
            tokens = self._tokenizer([plain_text(text) for text in texts])
        with _inference_mode():
            return _raw(self._model.encode_text(tokens.to(self._device)))

    def _encode_pictures(self, prepared: Sequence[Prepared]) -> Vectors:
        pixels = checked_stack(prepared, (*self._geometry.crop, 3))
        with _inference_mode():
            return _raw(self._model.encode_image(self._normalised(pixels)))

    def _normalised(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> torch.Tensor:
        """(n, 3, height, width) on the device, in the model's type: (x / 255 - mean) / std."""
        import torch

        x = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).float() / 255
        mean, std = (
            torch.tensor(self._preprocess[key], device=self._device).reshape(-1, 1, 1)
            for key in ("mean", "std")
        )
        kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        return ((x - mean) / std).to(kinds[self.precision])


def load(spec: EncoderSpec, *, device: str) -> OpenClipEncoder:
    """The open_clip model of `spec`, downloading its weights if they are not in the cache.

    Raises EncoderError for an unknown model or tag, a checkpoint that is missing, damaged or of
    another model, a download that fails, a missing package and an absent device.
    """
    check_device_name(device)
    spec = parse_spec(str(spec))
    picked = pick_device(device)
    precision = precision_for(picked.type)
    files = find_files(spec.name)
    model = _build(files, device=picked, precision=precision)
    preprocess = dict(model.visual.preprocess_cfg)
    return OpenClipEncoder(
        spec,
        LoadedModel(
            model,
            _tokenizer(files.model),
            preprocess,
            picked,
            precision,
            fingerprint=lambda: files.fingerprint(preprocess),
        ),
    )


def precision_for(device_type: str, *, cpu_info: Path = Path("/proc/cpuinfo")) -> str:
    """fp16 on CUDA, bf16 on CPUs that multiply it natively, else fp32: fixed for each machine."""
    if device_type != "cpu":
        return "fp16" if device_type == "cuda" else "fp32"
    try:
        words = set(cpu_info.read_text(encoding="utf-8", errors="replace").split())
    except OSError:  # not Linux
        return "fp32"
    return "bf16" if words & BF16_CPU_FLAGS else "fp32"


def _build(files: ModelFiles, *, device: torch.device, precision: str) -> Any:
    import open_clip

    from_hub = files.model.startswith("hf-hub:")  # open_clip finds the cached file again
    try:
        model = open_clip.create_model(
            files.model,
            pretrained=None if from_hub else str(files.weights),
            precision=precision,
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


def _tokenizer(model: str) -> Any:
    """A callable from a list of texts to their tokens, (n, context) int64."""
    import open_clip

    try:
        return open_clip.get_tokenizer(model)
    except ImportError as error:
        raise EncoderError(
            f"the tokenizer of {model} needs a package that is missing ({error}):"
            " pip install transformers"
        ) from error
    except Exception as error:
        raise EncoderError(f"cannot load the tokenizer of {model}: {error}") from error


def _geometry(preprocess: dict[str, Any]) -> Geometry:
    size = preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
    mode: ResizeMode = preprocess["resize_mode"] or "shortest"
    # open_clip: all else means bicubic, and so does "shortest" to what is not a square
    bilinear = preprocess["interpolation"] == "bilinear" and (height == width or mode != "shortest")
    return Geometry(
        target=(height, width),
        crop=(height, width),
        mode=mode,
        interpolation="bilinear" if bilinear else "bicubic",
        fill=preprocess["fill_color"],
    )


def _raw(features: torch.Tensor) -> Vectors:
    rows: Vectors = features.float().cpu().numpy()
    return rows


def _inference_mode() -> AbstractContextManager[Any]:
    import torch

    return torch.inference_mode()
