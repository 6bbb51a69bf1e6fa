"""From the name of an open_clip model to its files: known or not, on this disk or to download."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipsearch.encoders.auto import hub_reachable
from clipsearch.encoders.spec import HUB_PREFIX, split_name
from clipsearch.encoders.values import file_sha256
from clipsearch.errors import EncoderError

_PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")
_HUB_CONFIG = "open_clip_config.json"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What to build and from which file: `preprocess` overrides open_clip's defaults."""

    model: str  # what open_clip.create_model takes
    weights: Path
    config: dict[str, Any]
    preprocess: dict[str, Any]
    quick_gelu: bool  # the weights were trained with it: the model must use it too

    def weights_sha256(self) -> str:
        """Hash of the weights' file; the hub's cache names large files by it already."""
        blob = self.weights.resolve().name
        in_cache = self.weights.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob)
        return blob if in_cache else file_sha256(self.weights)

    def fingerprint(self, preprocess: dict[str, Any]) -> str:
        """Model name and a hash of weights, architecture and pre-processing.

        Neither the tag nor the path of the weights is part of it: they name the same vectors.
        """
        described = json.dumps(
            [self.weights_sha256(), self.config, preprocess, self.quick_gelu], sort_keys=True
        )
        return f"openclip:{self.model}@{hashlib.sha256(described.encode()).hexdigest()[:12]}"


class FileVersion:
    """A file as it is now: weights that are read later must be of the same model."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._now()

    def check(self) -> None:
        """Raises EncoderError if the file is another one now, or gone."""
        if self._now() != self._seen:
            raise EncoderError(
                f"{self._path} was changed or removed while its model was in use: load it again"
            )

    def _now(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns


def find_files(name: str) -> ModelFiles:
    """The files of an openclip name (see spec.parse_spec), downloaded if they are not here yet.

    Raises EncoderError for an unknown model or tag, with names that are close, and for weights
    that are missing or cannot be downloaded.
    """
    import open_clip

    model, tag, checkpoint = split_name(name)
    if model.startswith(HUB_PREFIX):
        return _hub_files(model)
    config = open_clip.get_model_config(model)
    if config is None:
        raise EncoderError(
            f"open_clip has no model {model!r}{_close(model, open_clip.list_models())}"
        )
    if checkpoint is not None:
        if not checkpoint.is_file():
            raise EncoderError(f"the checkpoint {checkpoint} is missing or not a file")
        return ModelFiles(model, checkpoint, config, {}, bool(config.get("quick_gelu")))
    tag_config = open_clip.get_pretrained_cfg(model, tag)
    if not tag_config:
        known = [t for m, t in open_clip.list_pretrained() if m == model]
        raise EncoderError(
            f"open_clip has no weights {tag!r} for {model}{_close(tag, known)}; for a checkpoint"
            f" of your own write {model}//path/to/file"
        )
    preprocess = {k: tag_config[k] for k in _PREPROCESS_KEYS if k in tag_config}
    quick_gelu = bool(tag_config.get("quick_gelu"))
    return ModelFiles(model, _tag_weights(name, tag_config), config, preprocess, quick_gelu)


def _tag_weights(name: str, tag_config: dict[str, Any]) -> Path:
    from open_clip import download_pretrained

    repository, _, file = tag_config.get("hf_hub", "").rpartition("/")
    if repository:
        return _hub_weights(repository, file)
    try:
        return Path(download_pretrained(tag_config))
    except Exception as error:
        raise EncoderError(
            f"cannot download the weights of {name}: {_first_line(error)}"
        ) from error


def _hub_files(model: str) -> ModelFiles:
    repository = model.removeprefix(HUB_PREFIX)
    config_file = _hub_file(repository, _HUB_CONFIG)
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        quick_gelu = bool(config["model_cfg"].get("quick_gelu"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{config_file} is no open_clip configuration: {error!r}") from error
    return ModelFiles(model, _hub_weights(repository), config, {}, quick_gelu)


def _hub_weights(repository: str, file: str = "") -> Path:
    """The weights of a repository, safetensors if it has them; cached ones without the network."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip.pretrained import download_pretrained_from_hf

    wanted = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    for one in wanted:
        cached = try_to_load_from_cache(repository, one)
        if isinstance(cached, str):
            return Path(cached)
    _check_hub(repository)
    try:
        return Path(download_pretrained_from_hf(repository, filename=file or None))
    except Exception as error:
        raise _unreachable(repository, error) from error


def _hub_file(repository: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    _check_hub(repository)
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:
        raise _unreachable(repository, error) from error


def _check_hub(repository: str) -> None:
    """Fail at once where the hub's client would try again for a minute."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and not hub_reachable(constants.ENDPOINT):
        raise _unreachable(repository, OSError(f"{constants.ENDPOINT} does not answer"))


def _unreachable(repository: str, error: Exception) -> EncoderError:
    return EncoderError(
        f"cannot get {repository} from the model hub and it is not in the cache"
        f" ({_first_line(error)}); connect once, give MODEL//path/to/checkpoint, or use --model"
        " builtin"
    )


def _close(word: str, known: Iterable[str]) -> str:
    """ ": did you mean …" for the names that resemble `word`, or all of a few."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    matches = difflib.get_close_matches(word.lower(), lowered, n=5, cutoff=0.5)
    if matches:
        return ": did you mean " + ", ".join(lowered[match] for match in matches)
    if names and len(names) <= 20:
        return ": use one of " + ", ".join(names)
    return "; open_clip.list_pretrained() lists what there is"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
