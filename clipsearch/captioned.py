"""`CaptionedVideos`: the indexed videos that have captions, for training heads and for measuring.

Both take the frames and windows that the index has; nothing is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.captions import match_videos, read_captions
from clipsearch.encoders.base import Encoder
from clipsearch.errors import UsageError
from clipsearch.eval import PRIOR_TEMPERATURE, retrieval_report
from clipsearch.heads.sampling import sampled
from clipsearch.ingest import Progress
from clipsearch.pooled import ask_alike, fingerprint_of, window_kind
from clipsearch.search.query import encode_words
from clipsearch.store.pooling import PoolingFacts
from clipsearch.store.store import Store
from clipsearch.types import UnitKind, Vectors
from clipsearch.version import VERSION

if TYPE_CHECKING:
    from clipsearch.heads.schedule import TrainSpec
    from clipsearch.heads.training import OnEpoch, OnStep, Trained, TrainingSet

TEXTS_AT_ONCE = 256
SHOWN_NAMES = 3


def _ignore(_: object) -> None:
    """The listener that does not listen."""


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """Which head to train, and on what of each video.

    name: "seqlstm", "seqtransf" or "tight". layers: Transformer blocks, of the latter two.
    max_frames: of each video at most, evenly over its time, in training and ever after; fewer if
    no video has so many.
    validation: share of the videos that choose the best epoch; 0: the last epoch is taken.
    """

    name: str
    layers: int = 4
    max_frames: int = 12
    validation: float = 0.1


@dataclass(frozen=True, slots=True)
class TrainListener:
    """What a training tells while it runs, from the calling thread."""

    on_texts: Callable[[Progress], None] = _ignore  # as they are encoded
    on_videos: Callable[[Progress], None] = _ignore  # as their frames are read
    on_step: OnStep = _ignore
    on_epoch: OnEpoch = _ignore


class CaptionedVideos:
    """The videos of an index that a captions file names, with their texts.

    `Index.captioned` gives one.
    """

    def __init__(
        self, store: Store, encoder: Encoder, captions: Path, *, split: str | None = None
    ) -> None:
        """captions: see clipsearch.captions; split: only its rows of that one.

        Raises UsageError for a file that cannot be read or names no indexed video.
        """
        videos = {
            media.id: media.path
            for media in store.catalog.all_media()
            if media.kind == "video" and media.state == "ready"
        }
        beside = captions.absolute().parent
        found = match_videos(read_captions(captions, split), videos, beside=beside)
        media_ids, positions = np.unique(found.pairs[:, 1], return_inverse=True)
        self.media_ids: list[int] = media_ids.tolist()
        self.paths = tuple(videos[media_id] for media_id in self.media_ids)
        self.texts = found.texts
        self.pairs: NDArray[np.int64] = np.column_stack([found.pairs[:, 0], positions.reshape(-1)])
        self.missing = found.missing  # names of videos that are not in the index
        self._store, self._encoder = store, encoder
        self._source = {"captions": captions.name, "split": split}

    @property
    def notice(self) -> str | None:
        """What a user should know of captions that were left out."""
        if not self.missing:
            return None
        more = ", …" if len(self.missing) > SHOWN_NAMES else ""
        shown = ", ".join(self.missing[:SHOWN_NAMES]) + more
        return f"videos of the captions that are not in the index: {len(self.missing)} ({shown})"

    def train(
        self,
        spec: HeadSpec,
        out: str | os.PathLike[str],
        settings: TrainSpec | None = None,
        *,
        resume: bool = False,
        device: str = "auto",
        listener: TrainListener | None = None,
    ) -> Trained:
        """Train a head to tell the captions apart, and write it to `out`, for `PoolingSpec` and
        `Rerank`. The encoder stays as it is.

        After each epoch the training is kept in `out` with ".state" added, which `resume` goes on
        from: the outcome is the same, to the bit on a CPU. Raises UsageError or EncoderError.
        """
        from clipsearch.heads.initial import new_head
        from clipsearch.heads.tower import text_tower_of
        from clipsearch.heads.training import split, train

        listener = listener or TrainListener()
        settings = settings or self.default_settings(spec.name)
        head = new_head(
            spec.name,
            self._encoder.dim,
            depth=spec.layers,
            seed=settings.seed,
            text_tower=text_tower_of(self._encoder),
        )
        _check_frames(spec, head.max_frames)
        data, validation = self.training_set(spec.max_frames, listener), None
        if spec.validation:
            data, validation = split(data, spec.validation, settings.seed)
        trained = train(
            head,
            data,
            validation,
            settings,
            state_path=state_of(Path(out)),
            resume=resume,
            device=device,
            on_step=listener.on_step,
            on_epoch=listener.on_epoch,
        )
        self._save(Path(out), trained, {"validation": spec.validation, **asdict(settings)})
        return trained

    def default_settings(self, head: str) -> TrainSpec:
        """Settings to begin with for a head of that name."""
        from clipsearch.heads.tower import default_settings

        return default_settings(head, self._encoder)

    def training_set(self, max_frames: int, listener: TrainListener | None = None) -> TrainingSet:
        """The texts and frames as the encoder gave them; of each video `max_frames` evenly.

        Raises UsageError for videos that were indexed before the lengths of vectors were kept.
        """
        from clipsearch.heads.training import TrainingSet

        listener = listener or TrainListener()
        count = len(self.media_ids)
        frames = np.zeros((count, max_frames, self._encoder.dim), np.float32)
        mask = np.zeros((count, max_frames), np.bool_)
        taken = 0
        for at, media_id in enumerate(self.media_ids):
            raw = self._store.frames(media_id).raw()
            chosen = raw[sampled(len(raw), max_frames)]
            frames[at, : len(chosen)], mask[at, : len(chosen)] = chosen, True
            taken += len(chosen)
            listener.on_videos(Progress(at + 1, count, taken))
        longest = int(mask.any(axis=0).sum())
        texts = self._encoded(normalize=False, on_progress=listener.on_texts)
        return TrainingSet(frames[:, :longest], mask[:, :longest], texts, self.pairs)

    def evaluate(
        self,
        *,
        pooling: str | None = None,
        dual_softmax: bool = False,
        on_progress: Callable[[Progress], None] = _ignore,
    ) -> dict[str, Any]:
        """How well the texts find their videos among these videos, and the reverse: R@1, R@5, R@10,
        median and mean rank (`clipsearch.eval.retrieval_report`), and what it was measured on.

        Videos rank as `Index.search` with kind "video" ranks them: by the cosine of their best
        window. pooling: as there. dual_softmax: weigh each score by how well the text suits the
        video beside all other texts; for comparison with papers, as no single search can do it.
        Raises UsageError.
        """
        window_kind(self._store.snapshot().pooling, pooling)  # refuses before texts are encoded
        texts = self._encoded(normalize=True, on_progress=on_progress)
        scores, facts = self._scores(texts, pooling)
        windows = window_kind(facts, pooling)
        temperature = PRIOR_TEMPERATURE if dual_softmax else None
        return {
            "pooling": fingerprint_of(facts if windows == "pooled" else None),
            "model": self._encoder.fingerprint,
            "dual_softmax": dual_softmax,
            "missing_videos": len(self.missing),
            **retrieval_report(scores, self.pairs, dual_softmax=temperature),
        }

    def _scores(
        self, texts: Vectors, pooling: str | None
    ) -> tuple[NDArray[np.float32], PoolingFacts | None]:
        """(t, videos) cosines of the best windows, all pooled alike; and the head of the index."""
        scores = np.empty((len(texts), len(self.media_ids)), np.float32)

        def fill(windows: UnitKind) -> Path | None:
            """Returns a video that is gone."""
            for at, media_id in enumerate(self.media_ids):
                vectors = self._store.windows(media_id, windows).vectors
                if not len(vectors):
                    return self.paths[at]
                scores[:, at] = (texts @ vectors.T).max(axis=1)
            return None

        gone, facts = ask_alike(self._store, pooling, fill)
        if gone is not None:
            raise UsageError(f"{gone} left the index meanwhile: run it again")
        return scores, facts

    def _encoded(self, *, normalize: bool, on_progress: Callable[[Progress], None]) -> Vectors:
        """(t, dim) rows of the texts, encoded some at a time."""
        rows: list[Vectors] = []
        for first in range(0, len(self.texts), TEXTS_AT_ONCE):
            part: Sequence[str] = self.texts[first : first + TEXTS_AT_ONCE]
            rows.append(encode_words(self._encoder, part, on_notice=_ignore, normalize=normalize))
            done = first + len(part)
            on_progress(Progress(done, len(self.texts), done))
        return np.concatenate(rows)

    def _save(self, out: Path, trained: Trained, settings: dict[str, Any]) -> None:
        """Write a trained head with how it came about; then drop the state of its training."""
        from clipsearch.heads import save_head

        best = trained.history[trained.best_epoch - 1]
        save_head(
            out,
            trained.head,
            logit_scale=trained.logit_scale,
            encoder=str(self._encoder.spec),
            encoder_fingerprint=self._encoder.fingerprint,
            training={
                **self._source,
                "videos": len(self.media_ids),
                "texts": len(self.texts),
                "settings": settings,
                "best_epoch": trained.best_epoch,
                "train_loss": best.train_loss,
                "val_loss": best.val_loss,
                "metrics": dict(best.metrics),
                "clipsearch": VERSION,
            },
        )
        state_of(out).unlink(missing_ok=True)


def state_of(out: Path) -> Path:
    """Where a training that is to write `out` keeps how far it is."""
    return out.with_name(out.name + ".state")


def _check_frames(spec: HeadSpec, most: int | None) -> None:
    if most is not None and not 1 <= spec.max_frames <= most:
        raise UsageError(f"{spec.max_frames} frames a video: a {spec.name} head takes 1 to {most}")
