"""Text, pictures and sounds to vectors of one space. Importing this package does not load torch.

A new encoder is one file with a `load` function, one line in `ENCODERS`, and it must pass
tests/contracts/test_encoder_contract.py.
"""

from __future__ import annotations

from collections.abc import Callable

from clipsearch.encoders.auto import AUTO, resolve, resolve_auto
from clipsearch.encoders.base import Encoder, EncoderSpec
from clipsearch.encoders.spec import parse_spec
from clipsearch.errors import UsageError

__all__ = [
    "AUTO",
    "ENCODERS",
    "Encoder",
    "EncoderSpec",
    "load_encoder",
    "parse_spec",
    "resolve",
    "resolve_auto",
]


def _builtin(spec: EncoderSpec, device: str) -> Encoder:
    from clipsearch.encoders.builtin import load

    return load(spec, device=device)


def _openclip(spec: EncoderSpec, device: str) -> Encoder:
    from clipsearch.encoders.openclip import load

    return load(spec, device=device)


def _clip4clip(spec: EncoderSpec, device: str) -> Encoder:
    from clipsearch.encoders.clip4clip import load

    return load(spec, device=device)


def _clap(spec: EncoderSpec, device: str) -> Encoder:
    from clipsearch.encoders.clap import load

    return load(spec, device=device)


def _audioclip(spec: EncoderSpec, device: str) -> Encoder:
    from clipsearch.encoders.audioclip import load

    return load(spec, device=device)


def _fake(spec: EncoderSpec, device: str) -> Encoder:
    from clipsearch.encoders.fake import load

    return load(spec, device=device)


ENCODERS: dict[str, Callable[[EncoderSpec, str], Encoder]] = {
    "builtin": _builtin,
    "openclip": _openclip,
    "clip4clip": _clip4clip,
    "fake": _fake,
    "clap": _clap,
    "audioclip": _audioclip,
}


def load_encoder(spec: EncoderSpec, *, device: str = "auto", compile: bool = False) -> Encoder:
    """Load the encoder that `spec` names onto `device`: auto, cpu, cuda, cuda:N or mps.

    "auto" takes the fastest device present. `compile`: see Encoder.compile. Raises UsageError for
    an unknown family or a malformed device, EncoderError for an unknown model, weights or packages
    that are missing or damaged, and for a device that is asked for by name but absent.
    """
    if spec.family not in ENCODERS:
        raise UsageError(f"encoder family {spec.family!r}: use one of {', '.join(ENCODERS)}")
    encoder = ENCODERS[spec.family](spec, device)
    if compile:
        encoder.compile()
    return encoder
