"""How well a network names clips, and how well names find them in the space of the sentences."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipsearch.encoders.builtin import BuiltinEncoder
from clipsearch.encoders.sound_classifier import HOP, MELS, SHORTEST, features
from tools.sounds.classes import PARTS
from tools.sounds.clips import Clip

SHORTEST_FRAMES = (SHORTEST - 512) // HOP + 1
# Of the 20 below none is better by 0.002 mAP on validation, and words that have nothing to do with
# any class lie further off than with most.
PROMPT, TEMPERATURE = "the sound of ", 1.0
PROMPTS = ("", "the sound of a ", "the sound of ", "a recording of ", "sound: ")
TEMPERATURES = (0.7, 1.0, 1.5, 2.0)


@torch.inference_mode()
def scores(
    network: torch.nn.Module, clips: list[Clip], *, shortest: int = SHORTEST_FRAMES
) -> NDArray[np.float32]:
    """(clips, classes) logits, each clip followed by silence up to `shortest` frames."""
    rows = []
    for clip in clips:
        powers = np.zeros((1, max(shortest, len(clip.decibels)), MELS), dtype=np.float32)
        powers[0, : len(clip.decibels)] = 10 ** (clip.decibels.astype(np.float32) / 10)
        rows.append(network(features(torch.from_numpy(powers)))[0].numpy())
    return np.stack(rows)


def accuracies(
    logits: NDArray[np.float32], clips: list[Clip], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Part of the clips that are named rightly: of all, the mean of classes, and each class."""
    each: dict[str, Any] = {}
    right, total = 0, 0
    for number, label in enumerate(classes):
        rows = [k for k, clip in enumerate(clips) if clip.label == label]
        if not rows:
            continue
        named = logits[rows].argmax(axis=1)
        hits = int((named == number).sum())
        right, total = right + hits, total + len(rows)
        wrong = Counter(classes[k] for k in named if k != number).most_common(3)
        each[label] = {
            "accuracy": round(hits / len(rows), 3),
            "files": len(rows),
            "sources": len({clips[k].source for k in rows}),
            "taken for": wrong,
        }
    mean = float(np.mean([one["accuracy"] for one in each.values()]))
    return {
        "accuracy": round(right / max(1, total), 4),
        "mean of classes": round(mean, 4),
        "files": total,
        "classes": each,
    }


def texts_tried(
    logits: NDArray[np.float32], clips: list[Clip], classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """How well names find clips with each prompt and temperature."""
    encoder = BuiltinEncoder(device="cpu")
    return [
        {"prompt": p, "temperature": t, **retrieval(encoder, logits, clips, classes, p, t)}
        for p in PROMPTS
        for t in TEMPERATURES
    ]


def retrieval(
    encoder: BuiltinEncoder,
    logits: NDArray[np.float32],
    clips: list[Clip],
    classes: tuple[str, ...],
    prompt: str,
    temperature: float,
) -> dict[str, float]:
    """Precision at 1 and mAP of each class's name as a query for the clips, by ConSE."""
    known = [k for k, clip in enumerate(clips) if clip.label in classes]
    sounds = conse(encoder, logits[known], classes, prompt, temperature)
    labels = np.array([clips[k].label for k in known])
    asked = [name for name in classes if (labels == name).any()]
    similar = encoder.encode_text(asked) @ sounds.T
    precisions, firsts = [], []
    for name, row in zip(asked, similar, strict=True):
        hits = (labels == name)[np.argsort(-row, kind="stable")]
        firsts.append(float(hits[0]))
        precisions.append(float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()))
    return {"P@1": round(float(np.mean(firsts)), 4), "mAP": round(float(np.mean(precisions)), 4)}


def conse(
    encoder: BuiltinEncoder,
    logits: NDArray[np.float32],
    classes: tuple[str, ...],
    prompt: str,
    temperature: float,
) -> NDArray[np.float32]:
    """(n, 384) unit rows: the means of the vectors of the classes' parts, weighed by the
    probabilities, as clipsearch.encoders.builtin_sound does it.
    """
    texts = [[prompt + part for part in PARTS[name]] for name in classes]
    directions = np.stack([encoder.encode_text(own, normalize=False).mean(axis=0) for own in texts])
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    mixed = (weights / weights.sum(axis=1, keepdims=True)) @ directions
    unit: NDArray[np.float32] = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype("f4")
    return unit
