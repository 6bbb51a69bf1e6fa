"""What the built-in sound classifier knows of held-out sounds: python -m benchmarks.sounds WORKDIR

WORKDIR is that of tools.sounds.train, with clips/test.npz in it. Prints JSON lines: one for each
class, then one for all. Retrieval takes the bare name of a class as the query, in the space of the
built-in encoder: text = unit(minilm(name) - c), sound = unit(softmax(logits / τ) (T - c)).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from clipsearch.encoders.builtin import BuiltinEncoder
from clipsearch.encoders.sound_classifier import SoundClassifier, weights_sha256
from tools.sounds.classes import classed
from tools.sounds.clips import load
from tools.sounds.evaluate import SHORTEST_FRAMES, accuracies, retrieval, scores

WINDOW_FRAMES = 499  # of a window of 10 s, as an index cuts them


def main(workdir: Path) -> None:
    torch.set_num_threads(1)
    classifier = SoundClassifier(device=torch.device("cpu"))
    names = classifier.class_names
    network = classifier._network
    clips = [c for c in classed(load(workdir / "clips" / "test.npz")) if c.label in names]
    encoder = BuiltinEncoder(device="cpu")
    for title, shortest in (("at its own length", SHORTEST_FRAMES), ("in 10 s", WINDOW_FRAMES)):
        logits = scores(network, clips, shortest=shortest)
        found = accuracies(logits, clips, names)
        for name, row in found.pop("classes").items():
            if shortest == SHORTEST_FRAMES:
                print(json.dumps({"class": name, **row}))
        asked = retrieval(encoder, logits, clips, names, classifier.prompt, classifier.temperature)
        print(json.dumps({"each clip": title, **found, **asked, "weights": weights_sha256()[:12]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
