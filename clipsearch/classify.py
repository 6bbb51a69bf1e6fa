"""Zero-shot classification: which of some labels, that are given in words, a file looks like most.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021),
section 3.1: the text vectors of the labels are the weights of a linear classifier, and the softmax
of the cosines, times the scale that the model was trained with, gives probabilities. A video is
classified by the mean of its frames, as ActionCLIP does without training (Wang et al., 2021).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders import prompts as published
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.prompts import checked_templates, ensemble
from clipsearch.encoders.values import unit_rows
from clipsearch.errors import EncoderError, UsageError
from clipsearch.ingest.vectors import FileVector
from clipsearch.textfiles import read_bounded
from clipsearch.types import Vectors, check_unit_rows

FILES_AT_ONCE = 64  # classified together, and printed together
MAX_LABEL_BYTES = 64 << 20  # of a labels file
NAME_SEPARATOR = "|"


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file with its likeliest labels and their probabilities, best first."""

    file: FileVector
    labels: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class ZeroShotClassifier:
    """Labels as vectors; what is classified are vectors of the same encoder.

    weights: (n, dim) float32 unit rows, one a label. scale: what cosines are multiplied with before
    the softmax. Raises UsageError for less than two labels, with which all is certain, and for
    labels that are the same.
    """

    labels: tuple[str, ...]
    weights: Vectors
    scale: float

    def __post_init__(self) -> None:
        check_labels([(label,) for label in self.labels])
        check_unit_rows(self.weights)
        if len(self.labels) != len(self.weights):
            raise UsageError(f"{len(self.weights)} rows for {len(self.labels)} labels")
        if not (self.scale > 0 and np.isfinite(self.scale)):
            raise UsageError(f"scale {self.scale}: use a number above 0")

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        labels: Sequence[str | Sequence[str]],
        *,
        prompts: str = "none",
        templates: Sequence[str] = (),
    ) -> Self:
        """The classifier of these labels. One that is a sequence has several names: it has the mean
        of their vectors, and is called by the first.

        prompts: the templates that names are put into, a name of `clipsearch.encoders.prompts`;
        templates: other ones in their place, such as "a photo of a {}".
        The weights of single names are those of open_clip's `build_zero_shot_classifier`.
        Raises UsageError, or EncoderError for an encoder without text.
        """
        named = [(label,) if isinstance(label, str) else tuple(label) for label in labels]
        check_labels(named)
        if templates and prompts != "none":
            raise UsageError("prompts and templates are both given: give one of them")
        chosen = checked_templates(templates) if templates else published.templates(prompts)
        if not encoder.supports_text:
            raise EncoderError(f"the model {encoder.spec} takes no text")
        rows = ensemble(encoder, [name for names in named for name in names], chosen)
        starts = np.cumsum([0, *(len(names) for names in named)])[:-1]
        counts = np.array([len(names) for names in named])
        sums = np.add.reduceat(rows.astype(np.float64), starts, axis=0)
        single = counts[:, None] == 1
        weights = np.where(single, rows[starts], unit_rows(sums)).astype(np.float32)
        return cls(tuple(names[0] for names in named), weights, encoder.logit_scale)

    def probabilities(self, vectors: Vectors) -> NDArray[np.float64]:
        """(m, n) of vectors (m, dim), float32 unit rows: the chances of the labels for each row,
        which sum to 1. Raises UsageError.
        """
        check_unit_rows(vectors)
        if vectors.shape[1] != self.weights.shape[1]:
            raise UsageError(
                f"vectors have {vectors.shape[1]} dimensions, the labels {self.weights.shape[1]}"
            )
        logits = self.scale * (vectors @ self.weights.T).astype(np.float64)
        chances: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        return chances

    def top(self, vectors: Vectors, k: int = 1) -> list[list[tuple[str, float]]]:
        """The k likeliest labels of each of (m, dim) unit rows, with their probabilities, best
        first; of labels that are alike the first.
        """
        if k < 1:
            raise UsageError(f"{k} labels: use 1 or more")
        chances = self.probabilities(vectors)
        order = np.argsort(-chances, axis=1, kind="stable")[:, :k]
        return [
            [(self.labels[label], float(own[label])) for label in best]
            for own, best in zip(chances, order, strict=True)
        ]

    def label(self, files: Iterable[FileVector], k: int = 1) -> Iterator[LabelledFile]:
        """Files with their k likeliest labels, in order, as they come, some at a time."""
        iterator = iter(files)
        while some := list(islice(iterator, FILES_AT_ONCE)):
            best = self.top(np.stack([file.vector for file in some]), k)
            for file, labels in zip(some, best, strict=True):
                yield LabelledFile(file, tuple(labels))


def read_labels(path: Path) -> list[tuple[str, ...]]:
    """The labels of a UTF-8 file: one a line, of several names separated by `|` the first is what
    the label is called. Blank lines do not count. Raises UsageError that names the line.
    """
    try:
        text = read_bounded(path, MAX_LABEL_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    labels, first_line = [], dict[str, int]()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        label = parse_label(line, f"{path}, line {number}")
        if label[0] in first_line:
            raise UsageError(
                f"{path}, line {number}: {label[0]!r} is the label of line {first_line[label[0]]} "
                "already"
            )
        first_line[label[0]] = number
        labels.append(label)
    if not labels:
        raise UsageError(f"{path} has no labels: write one a line")
    return labels


def parse_label(text: str, where: str) -> tuple[str, ...]:
    """The names of a label. Raises UsageError that begins with `where` for an empty one."""
    names = tuple(" ".join(name.split()) for name in text.split(NAME_SEPARATOR))
    if not all(names):
        raise UsageError(f"{where}: {text.strip()!r} has an empty name: write name|other name")
    return names


def check_labels(labels: Sequence[Sequence[str]]) -> None:
    """Raise UsageError unless these are names of two labels or more, and differ."""
    if len(labels) < 2:
        raise UsageError(
            f"{len(labels)} labels: give two or more, as probabilities are shared out among them"
        )
    seen: set[str] = set()
    for names in labels:
        if not names or not all(name.strip() for name in names):
            raise UsageError(f"label {tuple(names)!r}: a name is empty")
        if names[0] in seen:
            raise UsageError(f"label {names[0]!r} is given twice: leave one out")
        seen.add(names[0])
