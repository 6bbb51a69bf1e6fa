"""`Video`: one video that is searched for the seconds that match."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipsearch.encoders import AUTO, load_encoder, resolve
from clipsearch.encoders.base import Encoder
from clipsearch.errors import UsageError
from clipsearch.ingest import Progress
from clipsearch.ingest.frames import check_video, read_frames
from clipsearch.media import ReadSpec, SamplingSpec
from clipsearch.search.align import align, find_interval, joint_curve
from clipsearch.search.films import Film
from clipsearch.search.query import encode_words
from clipsearch.search.spans import SpanMethod, SpanOptions
from clipsearch.types import Span, Vectors, VideoFrames


def _ignore(_: object) -> None:
    """The listener that does not listen."""


class AlignOptions(TypedDict, total=False):
    """The options of `align` that a search in a video takes."""

    min_seconds: float
    max_seconds: float | None
    skip: float | None
    smooth_seconds: float
    beta: float


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Similarity over time: (n, m) cosines of n texts, at (m + 1,) edges in seconds."""

    times: NDArray[np.float64]
    similarities: NDArray[np.float64]


class Video:
    """A video's frames and the encoder they were made with.

    `Index.video` gives one, from the index where it has the video. Searches encode the texts and
    nothing else. Where the picture changes is known, so spans rather start and end there
    (`find_span`'s novelty).
    """

    def __init__(
        self,
        path: Path,
        frames: VideoFrames,
        encoder: Encoder,
        *,
        on_notice: Callable[[str], None] = _ignore,
    ) -> None:
        """on_notice: told when a text is longer than the encoder's window. Raises UsageError for a
        video without frames.
        """
        self.path = path
        self.frames = frames
        self._encoder, self._on_notice = encoder, on_notice
        self._film = Film(frames)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        model: str = AUTO,
        fps: float = 1.0,
        device: str = "auto",
        offline: bool = False,
        on_notice: Callable[[str], None] = _ignore,
        on_progress: Callable[[Progress], None] = _ignore,
    ) -> Self:
        """A video that is in no index: decodes and encodes `fps` frames a second.

        model, device, offline: as for `Index.create`. Raises UsageError for what is no video,
        MediaError for one that cannot be read, EncoderError.
        """
        file, sampling = Path(os.path.abspath(path)), SamplingSpec(fps=fps)  # noqa: PTH100
        check_video(file)
        encoder = load_encoder(resolve(model, offline=offline, on_notice=on_notice), device=device)
        return cls.read(file, encoder, sampling, on_notice=on_notice, on_progress=on_progress)

    @classmethod
    def read(
        cls,
        path: Path,
        encoder: Encoder,
        sampling: SamplingSpec,
        *,
        on_notice: Callable[[str], None] = _ignore,
        on_progress: Callable[[Progress], None] = _ignore,
    ) -> Self:
        """The same with an encoder that is loaded already, and any sampling."""
        spec = ReadSpec(encoder.short_side, sampling=sampling)
        frames = read_frames(path, encoder, spec, on_progress=on_progress)
        return cls(path, frames, encoder, on_notice=on_notice)

    @property
    def seconds(self) -> float:
        """From where the first frame is shown to where the last one ends."""
        return float(self._film.edges[-1] - self._film.edges[0])

    def span(self, text: str, **options: Unpack[SpanOptions]) -> Span | None:
        """The span that matches words best; None if nothing stands out. Options: `find_span`."""
        return next(iter(self.spans(text, k=1, **options)), None)

    def spans(
        self,
        text: str,
        *,
        k: int = 5,
        overlap: float = 0.0,
        method: SpanMethod = "scan",
        **options: Unpack[SpanOptions],
    ) -> list[Span]:
        """At most k spans that match words best, ranked, apart from each other unless `overlap`
        (an IoU) allows more. Options: those of `find_spans`.

        Those that match no better than the rest of the video are left out.
        """
        [curve] = self._film.curves(self._encode([text]))
        found = self._film.spans(curve, k=k, overlap=overlap, method=method, **options)
        return [self._film.in_frames(span) for span in found]

    def align(
        self, lines: Sequence[str], *, tau: ArrayLike | None = None, **options: Unpack[AlignOptions]
    ) -> list[Span | None]:
        """One span for each line of a script, in their order.

        tau: None, the default here, takes for each line what is halfway between the inside and
        the outside of its best span. Other options: those of `clipsearch.align`.
        Black at the ends of a span is left out of it; a line that falls into black has none.
        """
        curves = self._film.curves(self._encode(lines))
        found = align(curves, self._film.edges, novelty=self._film.novelty, tau=tau, **options)
        return [
            None if span is None else self._shown(span, curve)
            for span, curve in zip(found, curves, strict=True)
        ]

    def interval(
        self, lines: Sequence[str], *, max_texts: int = 8, **options: Unpack[SpanOptions]
    ) -> tuple[slice, Span] | None:
        """The run of neighbouring lines, and the span, that match best together.

        Options: those of `clipsearch.find_interval`.
        """
        vectors = self._encode(lines)
        curves, gram = self._film.curves(vectors), vectors @ vectors.T
        found = find_interval(
            curves,
            gram,
            self._film.edges,
            max_texts=max_texts,
            novelty=self._film.novelty,
            **options,
        )
        if found is None:
            return None
        texts, span = found
        curve = joint_curve(curves, gram, texts)
        assert curve is not None, "it was searched"
        shown = self._shown(span, curve)
        return None if shown is None else (texts, shown)

    def joint_span(
        self, lines: Sequence[str], texts: slice, **options: Unpack[SpanOptions]
    ) -> Span | None:
        """The span that matches some lines together, by the mean of their vectors."""
        [curve] = self.joint_curve(lines, texts).similarities
        found = self._film.spans(curve, k=1, **options)
        return self._film.in_frames(found[0]) if found else None

    def _shown(self, span: Span, curve: NDArray[np.float64]) -> Span | None:
        seen = self._film.seen(span.frames, curve, score=span.score)
        return None if seen is None else self._film.in_frames(seen)

    def curves(self, texts: Sequence[str]) -> Curves:
        """The similarity of each text over time."""
        return Curves(self._film.edges, self._film.curves(self._encode(texts)))

    def joint_curve(self, lines: Sequence[str], texts: slice) -> Curves:
        """The similarity over time to some lines together. Raises UsageError for none."""
        vectors = self._encode(lines[texts])
        every = slice(0, len(vectors))
        curve = joint_curve(self._film.curves(vectors), vectors @ vectors.T, every)
        if curve is None:
            raise UsageError("these lines cancel each other out: take fewer of them")
        return Curves(self._film.edges, curve[None])

    def _encode(self, texts: Sequence[str]) -> Vectors:
        return encode_words(self._encoder, list(texts), on_notice=self._on_notice)
