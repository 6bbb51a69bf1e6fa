"""AudioCLIP: text, pictures and sounds in one space, from a checkpoint of its authors.

Guzhov, Raue, Hees, Dengel: AudioCLIP, ICASSP 2022. AudioCLIP-Full-Training.pt and
-Partial-Training.pt hold OpenAI's CLIP with a ResNet, fine-tuned, under its own names, and a
network for sound under `audio.*`. Texts were plain labels joined by ", ": no prompt is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.encoders import openclip
from clipsearch.encoders.audioclip_checkpoint import build
from clipsearch.encoders.audioclip_frames import SAMPLE_RATE
from clipsearch.encoders.base import EncoderSpec, Feeding, Prepared
from clipsearch.encoders.devices import check_device_name, pick_device
from clipsearch.encoders.openai_clip import tokenizer
from clipsearch.encoders.openclip_towers import Towers
from clipsearch.encoders.patches import Places
from clipsearch.encoders.spec import parse_spec
from clipsearch.encoders.state import read_state
from clipsearch.encoders.values import NO_FLOORS, checked_wave, finished_rows
from clipsearch.types import Pixels, Vectors, Wave

if TYPE_CHECKING:
    from clipsearch.encoders.audioclip_tower import AudioTower


class AudioClipEncoder:
    """An Encoder of CLIP for text and pictures, and the tower for sounds, in one space."""

    supports_text = True
    supports_images = True
    supports_audio = True
    floors = NO_FLOORS
    sample_rate = SAMPLE_RATE

    def __init__(self, clip: openclip.OpenClipEncoder, tower: AudioTower) -> None:
        """`clip` has the spec and the fingerprint of the whole."""
        self.spec = clip.spec
        self.dim = clip.dim
        self.short_side = clip.short_side
        self._clip = clip
        self._tower = tower

    @property
    def fingerprint(self) -> str:
        """audioclip@ and a hash of the weights and of the pre-processing of pictures and sounds."""
        return self._clip.fingerprint

    @property
    def audio_fingerprint(self) -> str:
        """That of the whole encoder."""
        return self.fingerprint

    @property
    def logit_scale(self) -> float:
        """The factor on cosines of pictures to texts that the model was trained with."""
        return self._clip.logit_scale

    def encode_text(self, texts: Sequence[str], *, normalize: bool = True) -> Vectors:
        """(len(texts), dim) float32 rows; what exceeds 77 tokens is cut off."""
        return self._clip.encode_text(texts, normalize=normalize)

    def fits(self, text: str) -> bool:
        """Whether 77 tokens hold all of `text`."""
        return self._clip.fits(text)

    def prepare(self, pixels: Pixels) -> Prepared:
        """(side, side, 3) uint8 of the model's input size: resized and cropped."""
        return self._clip.prepare(pixels)

    def encode_images(self, prepared: Sequence[Prepared], *, normalize: bool = True) -> Vectors:
        """(len(prepared), dim) float32 rows of pictures that `prepare` made."""
        return self._clip.encode_images(prepared, normalize=normalize)

    @property
    def feeding(self) -> Feeding:
        """How pictures reach the part that sees fastest."""
        return self._clip.feeding

    def tune(self, memory: Path) -> str | None:
        """Try how the part that sees is fastest, see OpenClipEncoder."""
        return self._clip.tune(memory)

    def compile(self) -> None:
        """Have torch compile the part that sees."""
        self._clip.compile()

    @property
    def supports_patches(self) -> bool:
        """Whether `encode_patches` works: it does, the tower is CLIP's ResNet."""
        return self._clip.supports_patches

    def encode_patches(self, pixels: Pixels) -> Places:
        """(rows, columns, dim) unit vectors of the places of a whole picture, by windows."""
        return self._clip.encode_patches(pixels)

    def encode_audio(self, waves: Sequence[Wave], *, normalize: bool = True) -> Vectors:
        """(len(waves), dim) float32 rows of mono waves (samples,) at 44.1 kHz, of any length.

        Loudness and offset of a wave have no part in its row; a constant one is taken as zeros.
        """
        rows = self._tower.encode([checked_wave(wave) for wave in waves])
        return finished_rows(rows, normalize=normalize)


def load(spec: EncoderSpec, *, device: str) -> AudioClipEncoder:
    """The model of the checkpoint that `spec` names by its path; its sound tower is in fp32.

    Raises EncoderError for a checkpoint that is missing, damaged or not one of AudioCLIP, with the
    names of the tensors that do not fit, and for an absent device.
    """
    check_device_name(device)
    spec = parse_spec(str(spec))
    picked = pick_device(device)
    precision = openclip.precision_for(picked.type)
    parts = build(read_state(Path(spec.name)), spec.name, precision=precision)
    clip = openclip.OpenClipEncoder(
        spec,
        openclip.LoadedModel(
            Towers(parts.clip.to(picked)),
            tokenizer(),
            parts.preprocess,
            picked,
            precision,
            fingerprint=lambda: parts.fingerprint,
        ),
    )
    return AudioClipEncoder(clip, parts.tower.to(picked))
