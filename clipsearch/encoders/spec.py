"""What `--model` takes, as text, to an EncoderSpec. Nothing is loaded or looked up here."""

from __future__ import annotations

import re
from pathlib import Path

from clipsearch.encoders.base import EncoderSpec
from clipsearch.errors import UsageError

HUB_PREFIX = "hf-hub:"
FAKE_MIN_DIM = 8
CLAP_DEFAULT = "laion/clap-htsat-unfused"
INT8 = "+int8"
_PATH_STARTS = ("/", "./", "../", "~")
_HUB_NAME = r"[\w.-]+/[\w.-]+"
_ALLOWED = (
    "builtin, openclip:MODEL/TAG, openclip:MODEL//path/to/checkpoint, hf-hub:ORG/NAME, each of the"
    " last three with +int8 behind it,"
    " clip4clip:path/to/checkpoint, clap, clap:ORG/NAME, clap:/path/to/folder,"
    " audioclip:path/to/checkpoint, fake"
)


def parse_spec(text: str) -> EncoderSpec:
    """The EncoderSpec that `text` means, such that `parse_spec(str(spec)) == spec`.

    builtin                               the encoder that needs no download
    fake, fake:DIM                        deterministic vectors for tests, DIM of at least 8
    openclip:ViT-B-32/laion2b_s34b_b79k   an open_clip model and one of its weight tags
    openclip:ViT-B-32//abs/file.pt        the same with a checkpoint of your own
    openclip:hf-hub:org/name              a model of the Hugging Face hub in open_clip's layout
    openclip:ViT-B-32/openai+int8         the same model with pictures in 8 bits, on CPUs
    clip4clip:path/pytorch_model.bin.4    the CLIP model in a checkpoint of CLIP4Clip
    clap, clap:org/name                   a CLAP model of the hub: text and sounds
    clap:/path/to/folder                  the same from a folder that transformers saved
    audioclip:path/AudioCLIP.pt           AudioCLIP: text, pictures and sounds

    What follows the first "/" is a checkpoint if it starts with "/", "./", "../" or "~", and
    otherwise a tag; what follows "clap:" is a folder or a name by the same rule. Relative paths
    become absolute. "openclip:" may be left out of names that hold a "/". Raises UsageError that
    says what is allowed.
    """
    family, colon, name = text.strip().partition(":")
    if family == "auto":
        raise UsageError("'auto' stands for no single encoder: resolve it first with resolve_auto")
    if family == f"builtin{INT8}":
        raise UsageError(
            f"encoder {text!r}: builtin has no 8-bit form, which would make other vectors; models"
            " of open_clip have one"
        )
    if family == "builtin":
        if colon:
            raise UsageError(f"encoder {text!r}: 'builtin' takes no name")
        return EncoderSpec("builtin")
    if family == "fake":
        return EncoderSpec("fake", _fake_dim(text, name) if colon else "")
    if family == "openclip":
        return EncoderSpec("openclip", _openclip_name(text, name))
    if family in ("clip4clip", "audioclip"):
        return EncoderSpec(family, _checkpoint_name(text, family, name))
    if family == "clap":
        return EncoderSpec("clap", _clap_name(text, name) if colon else CLAP_DEFAULT)
    return EncoderSpec("openclip", _openclip_name(text, text.strip()))


def without_int8(name: str) -> tuple[str, bool]:
    """An openclip name without what asks for 8 bits, and whether it asks for them."""
    return name.removesuffix(INT8), name.endswith(INT8)


def split_name(name: str) -> tuple[str, str, Path | None]:
    """(model, tag, checkpoint) of an openclip name; the tag is "" or the checkpoint None."""
    if name.startswith(HUB_PREFIX):
        return name, "", None
    model, _, weights = name.partition("/")
    if is_path(weights):
        return model, "", Path(weights)
    return model, weights, None


def is_path(name: str) -> bool:
    """Whether `name` is a path on this machine and not a name on the hub."""
    return name.startswith(_PATH_STARTS)


def _fake_dim(text: str, name: str) -> str:
    if not re.fullmatch(r"[0-9]{1,5}", name) or int(name) < FAKE_MIN_DIM:
        raise UsageError(f"encoder {text!r}: use fake or fake:DIM with DIM from {FAKE_MIN_DIM} on")
    return str(int(name))


def _openclip_name(text: str, name: str) -> str:
    plain, eight_bits = without_int8(name)
    return _plain_openclip_name(text, plain) + (INT8 if eight_bits else "")


def _plain_openclip_name(text: str, name: str) -> str:
    if name.startswith(HUB_PREFIX):
        if not re.fullmatch(_HUB_NAME, name.removeprefix(HUB_PREFIX)):
            raise UsageError(f"encoder {text!r}: use hf-hub:ORG/NAME")
        return name
    model, tag, checkpoint = split_name(name)
    if not model or ":" in model or not (tag or checkpoint):
        raise UsageError(f"encoder {text!r}: use one of {_ALLOWED}")
    if checkpoint is None:
        return f"{model}/{tag}"
    return f"{model}/{_absolute(text, checkpoint)}"


def _checkpoint_name(text: str, family: str, name: str) -> str:
    if not name:
        raise UsageError(f"encoder {text!r}: use {family}:path/to/checkpoint")
    return str(_absolute(text, Path(name)))


def _clap_name(text: str, name: str) -> str:
    if is_path(name):
        return str(_absolute(text, Path(name)))
    if not re.fullmatch(_HUB_NAME, name):
        raise UsageError(f"encoder {text!r}: use clap, clap:ORG/NAME or clap:./path/to/folder")
    return name


def _absolute(text: str, path: Path) -> Path:
    try:
        return path.expanduser().absolute().resolve()
    except RuntimeError as error:  # "~someone" without a home
        raise UsageError(f"encoder {text!r}: {error}") from error
