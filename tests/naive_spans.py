"""What spans are, in plain loops over all of them: the oracle for the fast searches."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXACT = 1e-8  # the searches round z-scores to 2^-40
SLACK = 1e-6  # seconds by which a span may be too short or too long


@dataclass(frozen=True)
class Scored:
    """Frames [first, last), and what they score."""

    score: float
    first: int
    last: int


def edges_of(times: Sequence[float], count: int) -> list[float]:
    edges = [float(t) for t in times]
    if len(edges) == count:
        lengths = [b - a for a, b in itertools.pairwise(edges)]
        edges.append(edges[-1] + (statistics.median(lengths) if lengths else 1.0))
    return edges


def lengths_of(edges: Sequence[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(edges)]


def z_scores(values: Sequence[float], edges: Sequence[float]) -> list[float] | None:
    """Mean 0 and variance 1 over time; None for a constant curve."""
    lengths = lengths_of(edges)
    whole = sum(lengths)
    mean = sum(v * w for v, w in zip(values, lengths, strict=True)) / whole
    variance = sum((v - mean) ** 2 * w for v, w in zip(values, lengths, strict=True)) / whole
    if math.sqrt(variance) <= 1e-9 * abs(mean):
        return None
    return [(v - mean) / math.sqrt(variance) for v in values]


def smooth(values: Sequence[float], edges: Sequence[float], seconds: float) -> list[float]:
    """Each frame the mean of all, by a Gaussian of their distance, up to three deviations of it."""
    if seconds == 0:
        return list(values)
    lengths = lengths_of(edges)
    near = [min(w, 4 * seconds) for w in lengths]  # the part that matters to a neighbour
    reach = 3 * math.hypot(seconds, max(near) / math.sqrt(12))
    if max(lengths) - min(lengths) < 1e-6 * max(lengths):
        near, reach = lengths, 3 * math.hypot(seconds, lengths[0] / math.sqrt(12))
    result = []
    for i in range(len(values)):
        total, norm = values[i] * lengths[i], lengths[i]
        for j in range(len(values)):
            low, high = min(i, j), max(i, j)
            distance = edges[high] + near[high] / 2 - (edges[low + 1] - near[low] / 2)
            if i != j and distance <= reach:
                variance = seconds**2 + (near[i] ** 2 + near[j] ** 2) / 24
                share = math.exp(-(distance**2) / variance / 2) * near[j]
                total, norm = total + share * values[j], norm + share
        result.append(total / norm)
    return result


def stepped(
    values: Sequence[float], edges: Sequence[float], seconds: float
) -> tuple[list[float], list[int]]:
    """Means over steps, and the frames at which the steps begin and the last one ends."""
    lengths = lengths_of(edges)
    groups: dict[int, list[int]] = {}
    for f in range(len(values)):
        groups.setdefault(math.floor((edges[f] - edges[0] + SLACK) / seconds), []).append(f)
    means = [
        sum(values[f] * lengths[f] for f in group) / sum(lengths[f] for f in group)
        for group in groups.values()
    ]
    return means, [group[0] for group in groups.values()] + [len(values)]


def bonus_of(novelty: Sequence[float], beta: float) -> list[float]:
    inside = list(novelty[1:-1])
    if not inside or max(inside) == min(inside):
        return [0.0] * len(novelty)
    mean = statistics.fmean(inside)
    deviation = statistics.pstdev(inside)
    return [0.0, *(beta * (v - mean) / deviation for v in inside), 0.0]


def lawful(length: float, least: float, most: float | None) -> bool:
    return least - SLACK <= length and (most is None or length <= most + SLACK)


def all_spans(
    z: Sequence[float],
    edges: Sequence[float],
    limits: tuple[float, float | None],
    *,
    alpha: float = 0.0,
    tau: float = 0.0,
    bonus: Sequence[float] | None = None,
) -> list[Scored]:
    """Every lawful span."""
    whole = edges[-1] - edges[0]
    frame = whole / len(z)
    found = []
    for first in range(len(z)):
        total = 0.0
        for last in range(first + 1, len(z) + 1):
            total += (z[last - 1] - tau) * (edges[last] - edges[last - 1]) / frame
            length = edges[last] - edges[first]
            if not lawful(length, *limits):
                continue
            cells = length / frame
            score = total / (math.sqrt(cells) if alpha == 0.5 else cells**alpha)
            if bonus is not None:
                score += bonus[first] + bonus[last]
            found.append(Scored(score, first, last))
    return found


def best_of(spans: Sequence[Scored]) -> Scored:
    """The highest score, then the earliest start, then the shortest."""
    return min(spans, key=lambda s: (-s.score, s.first, s.last))


def random_curve(generator: np.random.Generator, count: int) -> Floats:
    """Noise, few values with many ties, plateaus, spikes, slopes, negative or constant."""
    kind = int(generator.integers(0, 9))
    curve: Floats
    if kind == 0:
        curve = generator.integers(-1, 2, count).astype(np.float64)
    elif kind == 1:
        curve = np.repeat(generator.standard_normal(count), 4)[:count]
    elif kind == 2:
        curve = -np.abs(generator.standard_normal(count)) - 1
    elif kind == 3:
        curve = np.zeros(count)
        curve[generator.integers(0, count)] = generator.choice([-1.0, 1.0])
    elif kind == 4:
        curve = np.cumsum(generator.standard_normal(count))
    elif kind == 5:
        curve = (np.arange(count) % 2).astype(np.float64)
    elif kind == 6 and generator.random() < 0.3:
        curve = np.full(count, generator.choice([0.0, 0.3, -7.0]))
    else:
        curve = generator.standard_normal(count)
    scale = generator.choice([1e-3, 0.1, 1.0, 50.0])
    moved: Floats = curve * scale + generator.choice([0.0, 0.25, -3.0])
    return moved


def random_times(generator: np.random.Generator, count: int) -> list[float]:
    """The starts of `count` frames, even or uneven, with the end of the last or without."""
    kind = int(generator.integers(0, 5))
    lengths: Floats
    if kind < 2:
        lengths = np.full(count, generator.choice([1.0, 0.5, 2.0, 1 / 30, 0.1]))
    elif kind == 2:
        lengths = generator.integers(1, 5, count).astype(np.float64) / 4
    elif kind == 3:
        lengths = generator.random(count) + 0.01
    else:
        lengths = np.where(generator.random(count) < 0.1, 9.0, 0.4)
    edges = generator.choice([0.0, 0.0, 100.0, -3.0]) + np.cumsum([0.0, *lengths])
    return [float(t) for t in edges[: count + int(generator.integers(0, 2))]]


def random_limits(
    generator: np.random.Generator, edges: Sequence[float]
) -> tuple[float, float | None]:
    """Any, of one length, whole, too long, or between two lengths."""
    whole, frame = edges[-1] - edges[0], (edges[-1] - edges[0]) / (len(edges) - 1)
    least = float(generator.choice([0.01, frame, 2 * frame, 2.5 * frame, 0.3 * whole, whole]))
    kind = int(generator.integers(0, 6))
    if kind == 0:
        return least, least
    if kind == 1:
        return least, least + 0.4 * frame
    if kind == 2:
        return least, least + 3 * frame
    if kind == 3:
        return 1.2 * whole, None
    return least, None
