"""The encoders that `benchmarks.ingest` indexes with, and how fast they are alone."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from clipsearch.encoders import Encoder
    from clipsearch.encoders.base import Prepared

CLIP_SIDE = 224
POOL = 96  # prepared pictures that the encoder alone is given over and over
PLAIN_BATCH = 32
BATCHES_AHEAD = 4  # of each call, before the clock starts
Options = argparse.Namespace
Figures = dict[str, Any]


def timed(task: Callable[[], object]) -> Figures:
    wall, cpu = time.monotonic(), time.process_time()
    task()
    return {"wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu}


def null_encoder(side: int) -> Encoder:
    """Takes pictures as CLIP does and makes rows of some of their pixels."""
    from clipsearch.encoders.fake import FakeEncoder
    from clipsearch.encoders.geometry import Geometry
    from clipsearch.types import Pixels, Vectors

    geometry = Geometry(target=(side, side), crop=(side, side))

    class NullEncoder(FakeEncoder):
        short_side = side

        def prepare(self, pixels: Pixels) -> Prepared:
            return geometry.apply(pixels)

        def encode_images(self, prepared: Sequence[Prepared], *, normalize: bool = True) -> Vectors:
            rows = [picture.reshape(-1)[:: picture.size // self.dim] for picture in prepared]
            return np.array([row[: self.dim] for row in rows], np.float32) - 127.75

    return NullEncoder(512)


def onnx_encoder(model: Path, side: int) -> Encoder:
    """The tower for pictures as an ONNX file, by as many calls of one thread as there are cores."""
    import onnxruntime  # type: ignore[import-not-found, unused-ignore]

    from clipsearch.encoders.base import Feeding
    from clipsearch.encoders.devices import usable_cores
    from clipsearch.types import Vectors

    null = type(null_encoder(side))
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(model), sess_options=settings, providers=["CPUExecutionProvider"]
    )
    mean = np.array([0.4815, 0.4578, 0.4082], np.float32)
    std = np.array([0.2686, 0.2613, 0.2758], np.float32)

    class OnnxEncoder(null):  # type: ignore[misc, valid-type]
        feeding = Feeding(batch=8, calls=usable_cores(), threads=1)

        def encode_images(self, prepared: Sequence[Prepared], *, normalize: bool = True) -> Vectors:
            pixels = np.stack(prepared).astype(np.float32) / 255
            scaled = ((pixels - mean) / std).transpose(0, 3, 1, 2)
            rows: Vectors = session.run(None, {"input": np.ascontiguousarray(scaled)})[0]
            return rows

    encoder: Encoder = OnnxEncoder(512)
    return encoder


def load(options: Options) -> tuple[Encoder, Figures]:
    """The encoder that `--model` and `--how` name, and what loading it showed.

    how: "fp32"; "rules", what a library user gets; "trial", what this machine is fastest with.
    """
    from clipsearch.encoders import load_encoder, parse_spec
    from clipsearch.ingest.run import TRIALS

    start = time.monotonic()
    family, _, rest = options.model.partition("=")
    if family == "null":
        return null_encoder(int(rest or CLIP_SIDE)), {}
    if family == "onnx":
        return onnx_encoder(Path(rest), 256), {}
    if options.how == "fp32":
        from clipsearch.encoders import openclip

        openclip.precision_for = lambda *_, **__: "fp32"  # what load asks
    encoder = load_encoder(parse_spec(options.model), device=options.device)
    facts: Figures = {}
    if options.how == "trial":
        facts["tuned"] = encoder.tune(options.cache / TRIALS)
    else:
        encoder.tune = lambda memory: None  # type: ignore[method-assign]
    if hasattr(encoder, "precision"):
        facts["precision"] = encoder.precision
    return encoder, {**facts, "load_s": time.monotonic() - start}


def prepared_pictures(encoder: Encoder, options: Options) -> list[Prepared]:
    from clipsearch.media import ReadSpec, open_media

    spec = ReadSpec(encoder.short_side)
    files = sorted(Path(options.source).iterdir())[:POOL]
    return [encoder.prepare(pixels) for path in files for _, pixels in open_media(path, spec).units]


def alone(encoder: Encoder, prepared: list[Prepared], count: int) -> Figures:
    """At least `count` pictures in memory, in as many calls at once as the encoder wants."""
    from clipsearch.encoders.devices import limit_threads

    feeding = encoder.feeding
    pictures = prepared * (1 + feeding.batch // len(prepared))

    def encode(number: int) -> None:
        start = number * feeding.batch % (len(pictures) - feeding.batch + 1)
        encoder.encode_images(pictures[start : start + feeding.batch], normalize=False)

    def limit() -> None:
        limit_threads(feeding.threads)

    with ThreadPoolExecutor(feeding.calls, initializer=limit) as pool:
        ahead = timed(lambda: list(pool.map(encode, range(BATCHES_AHEAD * feeding.calls))))
        batches = -(-count // feeding.batch)
        figures = timed(lambda: list(pool.map(encode, range(batches))))
    done = batches * feeding.batch
    return {
        "per_s": done / figures["wall_s"],
        "cpu_ms": 1000 * figures["cpu_s"] / done,
        "ahead_s": ahead["wall_s"],
    }


def plainly(encoder: Encoder, prepared: list[Prepared], count: int) -> None:
    """Large batches, one after the other, with as many threads as torch takes by itself."""
    pictures = list(islice(cycle(prepared), count))
    for start in range(0, count, PLAIN_BATCH):
        encoder.encode_images(pictures[start : start + PLAIN_BATCH], normalize=False)
