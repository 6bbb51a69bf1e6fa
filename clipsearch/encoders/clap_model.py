"""The parts of a CLAP model as transformers has them: loading, comparing and hashing them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.encoders.state import tensors_sha256
from clipsearch.errors import EncoderError

if TYPE_CHECKING:
    import torch

# What of the configurations changes vectors and shows in no tensor's shape. Named one by one: what
# else transformers writes there differs from version to version.
_TEXT_KEYS = ("hidden_act", "layer_norm_eps", "num_attention_heads", "pad_token_id")
_AUDIO_KEYS = (
    *("depths", "enable_fusion", "enable_patch_layer_norm", "flatten_patch_embeds", "fusion_type"),
    *("hidden_act", "layer_norm_eps", "num_attention_heads", "num_mel_bins", "patch_size"),
    *("patch_stride", "projection_hidden_act", "spec_size", "window_size"),
)
_FEATURE_KEYS = (
    *("feature_size", "fft_window_size", "frequency_max", "frequency_min", "hop_length"),
    *("max_length_s", "padding", "padding_value", "sampling_rate", "top_db", "truncation"),
)
# Its tokens tell what else than its vocabulary makes a tokenizer. That as a whole, with its merges,
# is written differently from version to version.
_PROBE = "A dog BARKS twice; 3 bells ring, ça va? 日本語 🐈"


@dataclass(frozen=True, slots=True)
class LoadedClap:
    """A model of transformers on its device in fp32, and what it takes to feed it."""

    model: Any
    features: Any  # from a wave to its mel spectrogram
    tokenizer: Any
    device: torch.device


def check_package() -> None:
    """Raise EncoderError without the package that computes CLAP."""
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise EncoderError(
            f'CLAP needs a package that is missing ({error}): pip install "clipsearch[clap]"'
        ) from error


def load_parts(folder: Path, *, device: torch.device) -> LoadedClap:
    """Model, feature extractor and tokenizer from the files of a folder.

    Raises EncoderError for files that are missing or damaged, and for parts that do not belong
    together.
    """
    import torch
    import transformers

    library: Any = transformers
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):  # what is missing would use up a seed
            model, info = library.ClapModel.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, weights_only=True
            )
            features = library.ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
            tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file raises almost any type
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(
            f"{folder} cannot be loaded as a CLAP model with its feature extractor and tokenizer:"
            f" a file is missing or damaged ({type(error).__name__}: {reason})"
        ) from error
    state = model.state_dict()
    missing = sorted(n for n in info["missing_keys"] if state[n].is_floating_point())
    if missing:  # transformers would go on with random weights
        raise EncoderError(
            f"{folder} lacks {len(missing)} tensors of a CLAP model: {', '.join(missing[:3])}, …"
        )
    loaded = LoadedClap(model.float().to(device).eval(), features, tokenizer, device)
    _check_parts(loaded, folder)
    return loaded


def _check_parts(loaded: LoadedClap, folder: Path) -> None:
    """Raise EncoderError unless model, feature extractor and tokenizer belong together."""
    config, features, tokenizer = loaded.model.config, loaded.features, loaded.tokenizer
    fused, read = config.audio_config.enable_fusion, features.truncation == "fusion"
    problems = []
    if fused != read:
        problems.append(f"enable_fusion is {fused} but truncation {features.truncation!r}")
    if features.feature_size != config.audio_config.num_mel_bins:
        problems.append("feature_size is not num_mel_bins")
    if tokenizer.pad_token_id != config.text_config.pad_token_id:
        problems.append("the tokenizer pads with another token than the model")
    if len(tokenizer) > config.text_config.vocab_size:
        problems.append("the tokenizer knows more tokens than the model")
    if problems:
        raise EncoderError(f"the parts of the CLAP model in {folder} differ: {'; '.join(problems)}")


def max_tokens(loaded: LoadedClap) -> int:
    """As many as have a position, which RoBERTa counts from behind the padding's on."""
    text = loaded.model.config.text_config
    places = text.max_position_embeddings - text.pad_token_id - 1
    return int(min(loaded.tokenizer.model_max_length, places))


def fingerprint(loaded: LoadedClap) -> str:
    """clap@ and a hash of weights, architecture, pre-processing and tokenizer.

    Whatever the path and the format of the files. Not for several threads at a time.
    """
    state = loaded.model.state_dict()
    digest = tensors_sha256({n: v for n, v in state.items() if v.is_floating_point()})
    digest.update(json.dumps(_described(loaded), sort_keys=True).encode())
    return f"clap@{digest.hexdigest()[:12]}"


def _described(loaded: LoadedClap) -> list[Any]:
    """What else than the weights changes vectors, as JSON takes it."""
    config, tokenizer = loaded.model.config, loaded.tokenizer
    vocabulary = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    probe = list(tokenizer(_PROBE, padding=False, truncation=False).input_ids)
    return [
        _chosen(config.text_config, _TEXT_KEYS),
        _chosen(config.audio_config, _AUDIO_KEYS),
        _chosen(loaded.features, _FEATURE_KEYS),
        [hashlib.sha256(vocabulary.encode()).hexdigest(), probe, max_tokens(loaded)],
    ]


def _chosen(config: Any, keys: Sequence[str]) -> dict[str, Any]:
    return {key: getattr(config, key, None) for key in keys}


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no warnings of transformers on stderr."""
    from transformers.utils import logging as module

    logging: Any = module
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
