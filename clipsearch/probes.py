"""Linear probes: a thing that words do not say well, learned from a few examples of it.

Logistic regression on vectors that stay as they are: the linear probe of Radford et al., "Learning
Transferable Visual Models From Natural Language Supervision" (2021), section 3.2 and appendix A.3.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.search.probe import Probe
from clipsearch.types import Vectors, check_unit_rows

# The inverse strength of L2 regularisation: CLIP's authors sweep it over these decades.
STRENGTHS = tuple(10.0**power for power in range(-2, 6))
FEW_STRENGTH = 30.0  # of too few examples to choose by: the best of 1, 3, 10, 30 and 100 overall
FEW = 16  # of each class: what is chosen from fewer was worse than FEW_STRENGTH
FOLDS = 5
MAX_ITERATIONS = 1000  # as CLIP's
SHOTS = (1, 2, 4, 8, 16)
DRAWS = 10


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of a number of examples of each class: the mean over draws, and their standard deviation.

    The accuracy of a draw is the mean of those on the two classes, so that guessing has 0.5
    whatever their sizes. shots: None for zero-shot, by words.
    """

    shots: int | None
    mean: float
    deviation: float
    draws: int


def train(
    positive: Vectors,
    negative: Vectors,
    *,
    fingerprint: str,
    classes: tuple[str, str] = ("positive", "negative"),
    seed: int = 0,
) -> Probe:
    """A probe for what `positive` (n, dim) has and `negative` (m, dim) has not: float32 unit rows.

    Both classes count alike, however many examples they have, so a probability is that of something
    of which half are positive. The strength of regularisation is the likeliest by cross-validation,
    where there are enough examples of each. fingerprint: of the encoder the vectors are of.
    Raises UsageError for a class without examples, or the same vectors in both.
    """
    _check(positive, negative)
    rows, truth = _stacked(positive, negative)
    model = _fitted(rows, truth, _strength(rows, truth, seed))
    direction, bias = model.coef_[0].astype(np.float64), float(model.intercept_[0])
    scale = float(np.linalg.norm(direction))
    if not scale > 0:
        raise UsageError("the examples of both classes are the same: nothing tells them apart")
    return Probe(
        (direction / scale).astype(np.float32),
        bias,
        scale,
        fingerprint,
        classes,
        (len(positive), len(negative)),
    )


def evaluate(
    positive: Vectors,
    negative: Vectors,
    *,
    shots: Sequence[int] = SHOTS,
    words: tuple[Vectors, Vectors] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Accuracy]:
    """How well probes do that learn from few examples, on examples they have not seen.

    In each draw half of each class, chosen at random, is held out for testing; a probe learns from
    `shots` examples of each class of the rest. Numbers that the rest does not have are left out.
    words: (n, dim) and (m, dim) unit rows of what says positive and negative, in the encoder's
    space; the class whose words are nearest is compared on the same held-out examples, and comes
    first. Raises UsageError for classes with less than two examples.
    """
    _check(positive, negative)
    smallest = min(len(positive), len(negative))
    if smallest < 2:
        raise UsageError("to measure a probe, give two examples of each class or more")
    if draws < 1 or not shots or min(shots) < 1:
        raise UsageError(f"{draws} draws of {list(shots)} shots: use numbers of 1 or more")
    possible = [count for count in sorted(set(shots)) if count <= smallest - _held_out(smallest)]
    found: dict[int | None, list[float]] = {} if words is None else {None: []}
    random = np.random.default_rng(seed)
    for _ in range(draws):
        learn_1, test_1 = _split(positive, random)
        learn_0, test_0 = _split(negative, random)
        if words is not None:
            sides = [(test @ said.T).max(axis=1) for test in (test_1, test_0) for said in words]
            found[None].append(_balanced(sides[0] - sides[1], sides[2] - sides[3]))
        for count in possible:
            probe = train(learn_1[:count], learn_0[:count], fingerprint="", seed=seed)
            logits = [probe.scale * (test @ probe.vector) + probe.bias for test in (test_1, test_0)]
            found.setdefault(count, []).append(_balanced(*logits))
    return [
        Accuracy(count, float(np.mean(values)), float(np.std(values)), len(values))
        for count, values in found.items()
    ]


def _check(positive: Vectors, negative: Vectors) -> None:
    for rows, name in ((positive, "positive"), (negative, "negative")):
        if not len(rows):
            raise UsageError(f"there are no {name} examples: give one at least")
        check_unit_rows(rows)
    if positive.shape[1] != negative.shape[1]:
        raise UsageError(
            f"positive examples have {positive.shape[1]} dimensions, negative ones "
            f"{negative.shape[1]}"
        )


def _stacked(positive: Vectors, negative: Vectors) -> tuple[Vectors, NDArray[np.int64]]:
    truth = np.repeat(np.array([1, 0]), [len(positive), len(negative)])
    return np.concatenate([positive, negative]), truth


def _strength(rows: Vectors, truth: NDArray[np.int64], seed: int) -> float:
    """The strongest regularisation that is about as likely on examples left out as the likeliest
    one: within a standard error of it (Hastie et al., "The Elements of Statistical Learning",
    section 7.10), as the best of few examples is often too sure.
    """
    from sklearn.model_selection import StratifiedKFold

    smallest = int(min(truth.sum(), len(truth) - truth.sum()))
    if smallest < FEW:
        return FEW_STRENGTH
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(rows, truth))
    weights = np.where(truth == 1, 0.5 / truth.sum(), 0.5 / (1 - truth).sum())
    losses = np.empty((len(STRENGTHS), len(truth)))
    for number, strength in enumerate(STRENGTHS):
        for learn, test in folds:
            model = _fitted(rows[learn], truth[learn], strength)
            logits = model.decision_function(rows[test])
            losses[number, test] = np.logaddexp(0.0, (1 - 2 * truth[test]) * logits)
    means = losses @ weights
    best = int(np.argmin(means))
    spread = losses[best] - means[best]
    error = float(np.sqrt((weights**2 * spread**2).sum()))
    return STRENGTHS[int(np.argmax(means <= means[best] + error))]


def _fitted(rows: Vectors, truth: NDArray[np.int64], strength: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        C=strength, class_weight="balanced", solver="lbfgs", tol=1e-6, max_iter=MAX_ITERATIONS
    )
    with warnings.catch_warnings():
        # Classes that a weak regularisation lets it tell apart fully: near the end is good enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows.astype(np.float64), truth)


def _held_out(count: int) -> int:
    return max(1, count // 2)


def _split(rows: Vectors, random: np.random.Generator) -> tuple[Vectors, Vectors]:
    """Examples to learn from, in random order, and those held out."""
    order = random.permutation(len(rows))
    held = _held_out(len(rows))
    return rows[order[held:]], rows[order[:held]]


def _balanced(positive: NDArray[Any], negative: NDArray[Any]) -> float:
    """The mean of the accuracies on two classes, from what decides: above 0 says positive; 0 is
    half right.
    """
    right = [(positive > 0).mean(), (negative < 0).mean()]
    ties = [(positive == 0).mean(), (negative == 0).mean()]
    return float(np.mean(right) + 0.5 * np.mean(ties))
