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
from numpy.typing import NDArray

from clipsearch.encoders.base import EncoderSpec, Feeding, Prepared
from clipsearch.encoders.devices import check_device_name, pick_device, usual_feeding
from clipsearch.encoders.geometry import Geometry, ResizeMode
from clipsearch.encoders.int8 import SCHEME
from clipsearch.encoders.openclip_files import find_files
from clipsearch.encoders.openclip_pictures import BATCH, int8_tower, picture_tower
from clipsearch.encoders.openclip_texts import text_features
from clipsearch.encoders.openclip_tokens import find_tokenizer, fits_context
from clipsearch.encoders.openclip_towers import Towers, load_towers
from clipsearch.encoders.patch_towers import places_of
from clipsearch.encoders.patches import Places, WindowPlaces
from clipsearch.encoders.pictures import PictureTower
from clipsearch.encoders.spec import parse_spec, without_int8
from clipsearch.encoders.tuning import tune
from clipsearch.encoders.values import WithoutAudio, finished_rows, plain_text
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import Pixels, Vectors

if TYPE_CHECKING:
    import torch

BF16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}  # with one, bf16 is twice as fast (decisions/004)
BF16_CAPABILITY = (8, 0)  # of GPUs of CUDA
TEXT_BATCH = 64


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model of open_clip on its device, and what it takes to feed it."""

    towers: Towers
    tokenizer: Any  # from a list of texts to their tokens, (n, context) int64
    preprocess: dict[str, Any]  # as open_clip.PreprocessCfg
    device: torch.device
    precision: str  # fp32, fp16 or bf16: the type of the pictures, see precision_for
    fingerprint: Callable[[], str]  # asked once at most: it may have to read the weights
    int8: bool = False  # pictures in 8 bits; then the rest is in fp32 on the CPU


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
        self._towers = loaded.towers
        self._int8 = loaded.int8
        self._building = threading.Lock()
        self._tokenizer = loaded.tokenizer
        self._tokenizing = threading.Lock()  # whether transformers truncates is shared state
        self._preprocess = loaded.preprocess
        self._geometry = _geometry(self._preprocess)
        self.short_side = max(self._geometry.target)
        self.supports_patches = places_of(self._towers.outline.visual) is not None
        self.dim = self._towers.dim or self._encode_tokens([""]).shape[1]

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
        if not prepared:
            return np.zeros((0, self.dim), dtype=np.float32)
        return finished_rows(self._pictures.rows(prepared), normalize=normalize)

    @property
    def feeding(self) -> Feeding:
        """How pictures reach the tower for them fastest."""
        if "_built" in self.__dict__:
            return self._built.way.feeding
        return usual_feeding(self._device.type, batch=BATCH[self._device.type])

    def tune(self, memory: Path) -> str | None:
        """Try precisions and numbers of calls on a CPU, batches on a GPU: see Encoder.tune.

        In 8 bits there is one way only.
        """
        if self._int8:
            return None
        return tune(self._pictures, memory, fingerprint=self.fingerprint)

    def compile(self) -> None:
        """Have torch compile the tower for pictures, see Encoder.compile."""
        if self._int8:
            raise UsageError(
                f"the model {self.spec} is not computed by torch: it cannot compile it"
            )
        self._pictures.compiles = True

    @cached_property
    def _plain(self) -> PictureTower:
        return picture_tower(
            self._towers.whole(),
            self._preprocess,
            self._geometry,
            device=self._device,
            precision=self.precision,
        )

    @property
    def _pictures(self) -> PictureTower:
        with self._building:  # the first batches may come at once
            return self._built

    @cached_property
    def _built(self) -> PictureTower:
        return int8_tower(self._plain) if self._int8 else self._plain

    @cached_property
    def _places(self) -> WindowPlaces | None:
        visual, batch = self._towers.whole().visual, BATCH[self._device.type]
        return WindowPlaces.of(visual, self._normalised, batch=batch)

    def encode_patches(self, pixels: Pixels) -> Places:
        """(rows, columns, dim) unit vectors of the patches of a whole picture, by windows over it.

        Raises EncoderError for a tower that has none.
        """
        if not self.supports_patches or self._places is None:
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
            name.removeprefix("text."): tensor
            for name, tensor in self._towers.text().state_dict().items()
        }
        return {
            name: tensor.detach().to("cpu", torch.float32, copy=True)
            for name, tensor in named.items()
            if name == "positional_embedding" or name.startswith("transformer.")
        }

    @property
    def logit_scale(self) -> float:
        """The factor on cosines that the model was trained with."""
        return float(self._towers.text().logit_scale.detach().float().exp().mean())

    def _encode_tokens(self, texts: Sequence[str]) -> Vectors:
        with self._tokenizing:
            tokens = self._tokenizer([plain_text(text) for text in texts])
        with _inference_mode():
            return _raw(text_features(self._towers.text(), tokens.to(self._device)))

    def _normalised(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        return self._plain.normalised(pixels)


def load(spec: EncoderSpec, *, device: str) -> OpenClipEncoder:
    """The open_clip model of `spec`, downloading its weights if they are not in the cache.

    Raises EncoderError for an unknown model or tag, a checkpoint that is missing, damaged or of
    another model, a download that fails, a missing package and an absent device.
    """
    check_device_name(device)
    spec = parse_spec(str(spec))
    picked = pick_device(device)
    name, int8 = without_int8(spec.name)
    if int8 and device == "auto":
        picked = pick_device("cpu")
    if int8 and picked.type != "cpu":
        raise EncoderError(f"the model {spec} is in 8 bits and runs on CPUs: use --device cpu")
    precision = "fp32" if int8 else precision_for(picked.type)
    files = find_files(name)
    towers = load_towers(files, device=picked, precision=precision)
    preprocess = dict(towers.outline.visual.preprocess_cfg)
    return OpenClipEncoder(
        spec,
        LoadedModel(
            towers,
            find_tokenizer(files.model),
            preprocess,
            picked,
            precision,
            fingerprint=lambda: files.fingerprint(preprocess) + (f"+{SCHEME}" if int8 else ""),
            int8=int8,
        ),
    )


def precision_for(device_type: str, *, cpu_info: Path = Path("/proc/cpuinfo")) -> str:
    """bf16 on GPUs and CPUs that multiply it natively, fp16 on other GPUs of CUDA, else fp32.

    Fixed for each machine.
    """
    if device_type == "cuda":
        return _cuda_precision()
    if device_type != "cpu":
        return "fp32"
    try:
        words = set(cpu_info.read_text(encoding="utf-8", errors="replace").split())
    except OSError:  # not Linux
        return "fp32"
    return "bf16" if words & BF16_CPU_FLAGS else "fp32"


def _cuda_precision() -> str:
    """bf16 if all GPUs have it. It has the range of fp32, which fp16 has not: nothing overflows."""
    import torch

    devices = range(torch.cuda.device_count())
    native = [torch.cuda.get_device_capability(one) >= BF16_CAPABILITY for one in devices]
    return "bf16" if native and all(native) else "fp16"


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
