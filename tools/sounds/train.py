"""Train the sound classifier: python -m tools.sounds.train WORKDIR [--steps N] [--weights FILE]

Fetches the sources, makes the clips, trains, writes WORKDIR/results.json and the weights file of
the package, or FILE. Needs fluidsynth, espeak-ng and flite, apt-get and pip; about 6 GB of disk.
`--steps 20 --weights /tmp/try.safetensors` shows in little time whether all of it works.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch

from clipsearch.encoders.sound_classifier import FORMAT, WEIGHTS_FILE, build_network, features
from tools.sounds import say
from tools.sounds.augment import Deck
from tools.sounds.classes import CLASSES, PARTS, classed
from tools.sounds.clips import Clip, load
from tools.sounds.dataset import SOUNDFONTS, TRAINING_SETS, build
from tools.sounds.evaluate import PROMPT, TEMPERATURE, accuracies, scores, texts_tried
from tools.sounds.fetch import fetch

SEED = 5
STEPS = 2000
BATCH = 64
RATE_OF_LEARNING = 3e-3
DECAY = 0.03
SMOOTHING = 0.05
AVERAGED = 0.998  # kept of the averaged weights at each step
THREADS = 2
KEPT_FROM = 0.45  # part of its validation clips that a class must name rightly to ship


def train(
    clips: list[Clip],
    *,
    steps: int = STEPS,
    validation: list[Clip] | None = None,
) -> torch.nn.Module:
    """The network after that many steps: the average of its weights over the last ones."""
    torch.manual_seed(SEED)
    rng, deck = np.random.default_rng(SEED), Deck(clips, PARTS)
    network = build_network(len(CLASSES)).to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE_OF_LEARNING, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: _pace(n, steps))
    started = time.monotonic()
    for step in range(1, steps + 1):
        loss = _step(network, optimizer, *deck.batch(rng, BATCH))
        schedule.step()
        _average(averaged, network, min(AVERAGED, step / (step + 10)))
        if step % 200 == 0:
            line = {"step": step, "loss": round(loss, 3), "s": round(time.monotonic() - started)}
            if validation and step % 400 == 0:
                line["validation"] = accuracies(scores(averaged, validation), validation, CLASSES)[
                    "mean of classes"
                ]
            say(json.dumps(line))
    return averaged


def _pace(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 150) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _step(network: torch.nn.Module, optimizer: torch.optim.Optimizer, powers, targets) -> float:  # type: ignore[no-untyped-def]
    network.train()
    wanted = torch.from_numpy(targets)
    wanted = wanted * (1 - SMOOTHING) + SMOOTHING / wanted.shape[1]
    loss = -(wanted * network(features(torch.from_numpy(powers))).log_softmax(dim=1)).sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _average(averaged: torch.nn.Module, network: torch.nn.Module, kept: float) -> None:
    for old, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if old.dtype.is_floating_point:
            old.mul_(kept).add_(new, alpha=1 - kept)
        else:
            old.copy_(new)


def without_weak(
    network: torch.nn.Module, validation: list[Clip]
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """The network without the classes that it knows too badly, and the names of the others."""
    found = accuracies(scores(network, validation), validation, CLASSES)["classes"]
    kept = [k for k, name in enumerate(CLASSES) if found[name]["accuracy"] >= KEPT_FROM]
    if not kept:
        raise SystemExit("no class is known well enough: train more steps")
    smaller = build_network(len(kept)).eval()
    state = network.state_dict()
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = state[name][kept]
    smaller.load_state_dict(state)
    return smaller, tuple(CLASSES[k] for k in kept)


def write_weights(path: Path, network: torch.nn.Module, names: tuple[str, ...]) -> None:
    """A weights file as it ships, in half precision, with what it needs to be used."""
    from safetensors.torch import save_file

    state = {
        name: value.half().contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    notes = {
        "format": FORMAT,
        "class_names": json.dumps(names),
        "class_parts": json.dumps([PARTS[name] for name in names]),
        "prompt": PROMPT,
        "temperature": str(TEMPERATURE),
        "licence": "Apache-2.0",
        "sources": "tools/sounds/README.md",
    }
    save_file(state, path, metadata=notes)
    path.chmod(0o644)  # it is written for its owner alone


def main(workdir: Path, steps: int = STEPS, weights: Path = WEIGHTS_FILE) -> None:
    """Everything, from the packages to the weights."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    fetch(workdir)
    build(workdir)
    folder = workdir / "clips"
    training = [c for n in TRAINING_SETS for c in load(folder / f"{n}.npz")]
    validation = classed(load(folder / "validation.npz"))
    network = train(training, steps=steps, validation=validation).half().float()
    finish(workdir, network, weights)


def finish(workdir: Path, network: torch.nn.Module, weights: Path = WEIGHTS_FILE) -> None:
    """Choose the classes by validation; write the weights; measure."""
    folder = workdir / "clips"
    validation = classed(load(folder / "validation.npz"))
    every = accuracies(scores(network, validation), validation, CLASSES)
    network, names = without_weak(network, validation)
    validation = [clip for clip in validation if clip.label in names]
    logits = scores(network, validation)
    write_weights(weights, network, names)
    test = [clip for clip in classed(load(folder / "test.npz")) if clip.label in names]
    fonts = {package for package, _, _ in SOUNDFONTS["test"]}
    tested = scores(network, test)
    results = {
        "validation of all classes": every,
        "validation": accuracies(logits, validation, names),
        "prompts": texts_tried(logits, validation, names),
        "test": accuracies(tested, test, names),
    }
    for title, played in (("test recordings", False), ("test phrases", True)):
        rows = [k for k, clip in enumerate(test) if (clip.source in fonts) == played]
        some = [test[k] for k in rows]
        results[title] = accuracies(tested[rows], some, names)
    (workdir / "results.json").write_text(json.dumps(results, indent=1))
    say(json.dumps(results["test"], indent=1))


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="python -m tools.sounds.train")
    options.add_argument("workdir", type=Path)
    options.add_argument("--steps", type=int, default=STEPS)
    options.add_argument("--weights", type=Path, default=WEIGHTS_FILE)
    given = options.parse_args()
    main(given.workdir, given.steps, given.weights)
