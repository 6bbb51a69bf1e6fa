"""From what a user names, a pooling and a file of weights, to a head that fits an index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.errors import EncoderError, UsageError
from clipsearch.heads import HEADS

if TYPE_CHECKING:
    from clipsearch.encoders.base import Encoder
    from clipsearch.heads import LoadedHead

MEAN = "mean"
OFFICIAL = "clip4clip@"  # how the fingerprint of a CLIP that a CLIP4Clip file holds begins


@dataclass(frozen=True, slots=True)
class PoolingSpec:
    """How frames become the one vector of a window: "mean", or by a trained head.

    weights: the head's file, of `clipsearch train-head` or of CLIP4Clip. max_frames: that the head
    takes at most, evenly over time; None: as it was trained.

    Raises UsageError for a head that does not exist, one without weights, and a mean with some.
    """

    name: str = MEAN
    weights: Path | str | None = None
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if self.name not in HEADS:
            raise UsageError(f"pooling {self.name!r}: use one of {', '.join(HEADS)}")
        if self.max_frames is not None and self.max_frames < 1:
            raise UsageError(f"at most {self.max_frames} frames: use 1 or more")
        if self.name == MEAN and self.weights is not None:
            raise UsageError(
                "the mean has no weights: leave out --pooling-weights; for the CLIP model of a "
                f"CLIP4Clip checkpoint use --model clip4clip:{self.weights}"
            )
        if self.name == MEAN and self.max_frames is not None:
            raise UsageError("the mean takes any number of frames: leave out --max-frames")
        if self.name != MEAN and self.weights is None:
            raise UsageError(
                f"a {self.name} head must be trained, and no weights are given: "
                f"{training_hint(self.name)}, then give it with --pooling-weights"
            )


def training_hint(name: str) -> str:
    """The command that makes weights."""
    return (
        f"train one with `clipsearch train-head --pooling {name} --captions FILE --out {name}.pt`"
    )


def trained_head(spec: PoolingSpec, encoder: Encoder) -> LoadedHead:
    """The head in a file, for the vectors of `encoder`.

    Raises UsageError for the mean, which has no file; EncoderError for a file that cannot be read,
    holds another head, or was trained on the vectors of another encoder.
    """
    from clipsearch.heads import load_head

    name, weights = spec.name, spec.weights
    if weights is None:
        raise UsageError("the mean has no file of weights to load")
    loaded = load_head(Path(weights), max_frames=spec.max_frames)
    if loaded.head.name != name:
        raise EncoderError(
            f"{weights} holds a {loaded.head.name} head, not {name}: ask for that, or "
            f"{training_hint(name)}"
        )
    made_for = loaded.encoder_fingerprint
    if made_for is not None and made_for != encoder.fingerprint:
        remedy = training_hint(name)
        if made_for.startswith(OFFICIAL):
            remedy = f"build an index with --model clip4clip:{weights}, or {remedy}"
        raise EncoderError(
            f"{weights} was trained on vectors of {made_for}, but the index has those of "
            f"{encoder.fingerprint}: {remedy}"
        )
    if loaded.head.dim != encoder.dim:
        raise EncoderError(
            f"{weights} takes vectors of {loaded.head.dim} dimensions, the index has "
            f"{encoder.dim}: {training_hint(name)}"
        )
    return loaded
