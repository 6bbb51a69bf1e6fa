"""The towers of a model of open_clip, each with its weights when it is first used.

For words the text tower alone is read: of ViT-L-14 a sixth of the time and a third of the memory.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.encoders.openclip_files import FileVersion, ModelFiles
from clipsearch.errors import EncoderError

if TYPE_CHECKING:
    import torch

_CONVERTED = (".npz", ".npy")  # of big_vision: open_clip copies them into the whole model


class Towers:
    """Both towers, of which the one for pictures brings the other one along.

    outline: the model with the names and the shapes of all its weights; they may be without values.
    dim: length of a vector; None where the model has to be asked.
    """

    def __init__(
        self,
        outline: Any,
        *,
        dim: int | None = None,
        text: Callable[[], Any] | None = None,
        whole: Callable[[], Any] | None = None,
    ) -> None:
        """`text` and `whole` make the models that are asked for words and for all; None: `outline`
        is a whole model.
        """
        self.outline = outline
        self.dim = dim
        self._make_text, self._make_whole = text, whole
        self._text: Any = None
        self._whole: Any = outline if whole is None else None
        self._lock = threading.Lock()

    def whole(self) -> Any:
        """The model with all its weights. Raises EncoderError if they cannot be read any more."""
        with self._lock:
            if self._whole is None and self._make_whole is not None:
                self._whole = _made(self._make_whole)
                self._text = None
            return self._whole

    def text(self) -> Any:
        """A model that takes words. Raises EncoderError as `whole`."""
        with self._lock:
            if self._whole is not None:
                return self._whole
            if self._text is None and self._make_text is not None:
                self._text = _made(self._make_text)
            return self._text


def _made(make: Callable[[], Any]) -> Any:
    """A model for whoever asks: one made in inference mode rounds in another way (torch takes
    other kernels for its weights).
    """
    import torch

    with torch.inference_mode(False):
        return make()


def load_towers(files: ModelFiles, *, device: torch.device, precision: str) -> Towers:
    """The towers of `files`, whose weights are read later: here their names and shapes alone.

    All is read at once where words cannot be had by themselves: for models with a text tower of
    transformers or a text decoder (CoCa), and for checkpoints of big_vision or of a kind that
    cannot be mapped. Raises EncoderError for a checkpoint that is damaged or of another model.
    """

    def build() -> Any:
        return _whole_model(files, device=device, precision=precision)

    if not _splits(files):
        return Towers(build())
    read_from = FileVersion(files.weights)
    try:
        outline = _outline(files, precision)
        _read(outline, files.weights, lambda state: None)
        dim = _dim(outline)
    except Exception:  # of many kinds; what is wrong with the file, the next line tells
        return Towers(build())

    def text() -> Any:
        read_from.check()
        model = _outline(files, precision)
        _read(model, files.weights, lambda state: _fill_text(model, state, device))
        return model

    def whole() -> Any:
        read_from.check()
        return build()

    return Towers(outline, dim=dim, text=text, whole=whole)


def _splits(files: ModelFiles) -> bool:
    config = files.config.get("model_cfg", files.config)
    return (
        "hf_model_name" not in config.get("text_cfg", {})
        and "multimodal_cfg" not in config
        and files.weights.suffix not in _CONVERTED
    )


def _whole_model(files: ModelFiles, *, device: torch.device, precision: str) -> Any:
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


def _outline(files: ModelFiles, precision: str) -> Any:
    """The model as open_clip builds it, without values."""
    import open_clip
    import torch

    with torch.device("meta"), _told_nothing():
        model = open_clip.create_model(
            files.model,
            load_weights=False,
            precision=precision,
            device="meta",
            force_quick_gelu=files.quick_gelu,
            force_preprocess_cfg=files.preprocess,
        )
    return model.eval()


@contextmanager
def _told_nothing() -> Iterator[None]:
    """Without what open_clip says of a model that gets no weights."""

    def told(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("No pretrained weights loaded")

    root = logging.getLogger()
    root.addFilter(told)
    try:
        yield
    finally:
        root.removeFilter(told)


def _read(model: Any, weights: Path, take: Callable[[dict[str, Any]], None]) -> None:
    """Have open_clip read and convert a checkpoint for `model`, compare and hand it to `take`.

    Tensors are parts of the mapped file: what is not used is not read.
    """
    import open_clip
    import torch

    def checked(state: dict[str, Any], strict: bool = True) -> None:
        with warnings.catch_warnings():  # values for a model without any are no-ops
            warnings.simplefilter("ignore")
            torch.nn.Module.load_state_dict(model, state, strict=strict)
        take(state)

    model.load_state_dict = checked
    try:
        with _mapped():
            open_clip.load_checkpoint(model, str(weights), strict=True, weights_only=True)
    finally:
        del model.load_state_dict


@contextmanager
def _mapped() -> Iterator[None]:
    """torch.load maps files where this torch has a setting for it."""
    try:
        from torch.utils.serialization import config
    except ImportError:
        yield
        return
    with config.patch("load.mmap", True):  # type: ignore[attr-defined]  # made at run time
        yield


def _fill_text(model: Any, state: dict[str, Any], device: torch.device) -> None:
    """Give all but the tower for pictures its values, in the model's own types.

    Raises EncoderError if something of it then has none.
    """
    import torch

    own = {name: tensor for name, tensor in state.items() if not name.startswith("visual.")}
    kinds = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    values = {
        name: tensor.to(device=device, dtype=kinds[name], copy=True) for name, tensor in own.items()
    }
    torch.nn.Module.load_state_dict(model, values, strict=False, assign=True)
    owner = getattr(model, "text", model)
    if owner.attn_mask is not None:  # as TextTransformer.build_causal_mask makes it
        mask = torch.full(owner.attn_mask.shape, float("-inf")).triu_(1)
        owner.attn_mask = mask.to(device=device, dtype=owner.attn_mask.dtype)
    tensors = (*model.named_parameters(), *model.named_buffers())
    empty = [n for n, tensor in tensors if tensor.is_meta and not n.startswith("visual.")]
    if empty:
        raise EncoderError(f"the text tower of this model has no values for {', '.join(empty)}")


def _dim(outline: Any) -> int:
    import torch

    tokens = torch.zeros((1, outline.context_length), dtype=torch.long, device="meta")
    with torch.inference_mode():
        return int(outline.encode_text(tokens).shape[1])
