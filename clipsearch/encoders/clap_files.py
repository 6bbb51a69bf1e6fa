"""From the name of a CLAP model to the folder of its files: here, in the hub's cache or there."""

from __future__ import annotations

import json
from pathlib import Path

from clipsearch.encoders.auto import hub_reachable
from clipsearch.encoders.spec import is_path
from clipsearch.errors import EncoderError

MODEL_TYPE = "clap"  # as transformers names it in a configuration
_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the better one first
_FEATURES = ("preprocessor_config.json", "processor_config.json")
_VOCABULARY = ("tokenizer.json", "vocab.json")
_MORE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")


def find_folder(name: str) -> Path:
    """The folder with the files of a clap name (see spec.parse_spec), downloaded if need be.

    Raises EncoderError for a folder that is missing or holds another model, and for a model of the
    hub that cannot be downloaded.
    """
    folder = Path(name) if is_path(name) else _hub_folder(name)
    if not folder.is_dir():
        raise EncoderError(f"{folder} is missing or not a folder: give one with a CLAP model")
    config_file = folder / _CONFIG
    try:
        found = json.loads(config_file.read_text(encoding="utf-8"))["model_type"]
    except OSError as error:
        raise EncoderError(f"cannot read {config_file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{config_file} is no configuration of transformers: {error!r}"
        ) from error
    if found != MODEL_TYPE:
        raise EncoderError(f"{folder} holds a model of type {found!r}: need {MODEL_TYPE!r}")
    return folder


def _hub_folder(repository: str) -> Path:
    cached = _cached_folder(repository)
    if cached is not None:
        return cached
    from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download

    if not constants.HF_HUB_OFFLINE and not hub_reachable(constants.ENDPOINT):
        # the hub's own client would try again for a minute
        raise _unreachable(repository, OSError(f"{constants.ENDPOINT} does not answer"))
    try:
        there = HfApi().list_repo_files(repository)
        weights = next((name for name in _WEIGHTS if name in there), None)
        if weights is not None:
            small = [_CONFIG, *_FEATURES, *_VOCABULARY, *_MORE]
            snapshot_download(repository, allow_patterns=small)
            return Path(hf_hub_download(repository, weights)).parent  # last: then all is there
    except Exception as error:
        raise _unreachable(repository, error) from error
    raise EncoderError(f"{repository} on the model hub has none of {', '.join(_WEIGHTS)}")


def _cached_folder(repository: str) -> Path | None:
    """Where the hub's cache has all that it takes."""
    from huggingface_hub import try_to_load_from_cache

    for weights in _WEIGHTS:
        file = try_to_load_from_cache(repository, weights)
        if isinstance(file, str):
            folder = Path(file).parent
            wanted = ((_CONFIG,), _FEATURES, _VOCABULARY)
            if all(any((folder / name).is_file() for name in names) for names in wanted):
                return folder
    return None


def _unreachable(repository: str, error: Exception) -> EncoderError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return EncoderError(
        f"cannot get {repository} from the model hub and it is not in the cache ({reason}); connect"
        f" once, or give clap:/path/to/folder"
    )
