"""A checkpoint of CLIP4Clip as a whole: the encoder and the head, made for each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipsearch.encoders import Encoder, load_encoder, parse_spec
from clipsearch.encoders.devices import check_device_name, pick_device
from clipsearch.errors import EncoderError
from clipsearch.heads.checkpoint import load_head
from clipsearch.heads.modules import Head


@dataclass(frozen=True, slots=True)
class Loaded:
    """An encoder, and the head that takes its features without `normalize`."""

    encoder: Encoder | None  # None where the file has no CLIP model and names no encoder
    head: Head  # on the device, fp32, in eval mode
    logit_scale: float


def load_clip4clip(
    path: Path | str, *, device: str = "auto", max_frames: int | None = None
) -> Loaded:
    """The CLIP model and the head of an official checkpoint, or of a file of `save_head`.

    Of such a file the encoder is the one that it names, which must be the very one it was trained
    with. `device` as in load_encoder, `max_frames` as in load_head. Raises EncoderError for a file
    or an encoder that cannot be loaded, and for an encoder and a head that do not fit.
    """
    check_device_name(device)
    picked = pick_device(device)
    loaded = load_head(path, max_frames=max_frames)
    head = loaded.head.to(picked)
    if not loaded.encoder:
        return Loaded(None, head, loaded.logit_scale)
    encoder = load_encoder(parse_spec(loaded.encoder), device=device)
    if loaded.encoder_fingerprint != encoder.fingerprint:
        raise EncoderError(
            f"{path} was trained on vectors of {loaded.encoder_fingerprint}, but {loaded.encoder}"
            f" is now {encoder.fingerprint}: restore that encoder, or train again"
        )
    if encoder.dim != head.dim:
        raise EncoderError(
            f"{path} holds a head of width {head.dim}, but {loaded.encoder} gives {encoder.dim}"
        )
    return Loaded(encoder, head, loaded.logit_scale)
