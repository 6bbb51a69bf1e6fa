"""The parts of `benchmarks.ingest` that run other programs, each in an environment of its own.

Figures of a picture are those of a run of many pictures less those of a run of a tenth of them, so
that imports and loading a model count for nobody; ours are taken in the same way. One more run
comes first, after which files are in memory and what is made once for a model is there. rss_mb is
that of the larger run, and of programs with several processes that of the largest process.

    python3 -m venv rclip && rclip/bin/pip install rclip
    python3 -m venv cr && cr/bin/pip install "setuptools<70" clip-retrieval faiss-cpu==1.12.0
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.ingest_setup import RANDOM_MODEL, Bench
from benchmarks.measure import Run, report, run

FEWER = 10  # pictures of the long run to one of the short run
# rclip's own indexing, in batches of its default size; only the download is left out, and where no
# model is given, its model's work.
RCLIP = """
import sqlite3, sys
import numpy as np
from rclip import main, model, model_download
folder, data, count, onnx = sys.argv[1:]
model.Model.ensure_downloaded = lambda self: None
if onnx:
    model_download.download_visual_query_model = lambda *_: onnx
else:
    model.Model.compute_preprocessed_image_features = (
        lambda self, images, **_: np.ones((len(images), 512), np.float32))
main.init_rclip(folder, 8)
stored = sqlite3.connect(data + "/db.sqlite3").execute("SELECT count(*) FROM images").fetchone()[0]
sys.exit(stored != int(count))
"""
# Its progress, which two processes of their own report, is left out.
CLIP_RETRIEVAL = """
import glob, sys
from unittest.mock import MagicMock
import numpy as np
from clip_retrieval.clip_inference import worker
from clip_retrieval.clip_inference import main as inference
inference.LoggerReader = worker.LoggerWriter = MagicMock
folder, target, count, model, batch, workers = sys.argv[1:]
inference.main(folder, target, enable_text=False, clip_model="open_clip:" + model,
               batch_size=int(batch), num_prepro_workers=int(workers), write_batch_size=10**9)
stored = sum(len(np.load(path)) for path in glob.glob(target + "/img_emb/*.npy"))
sys.exit(stored != int(count))
"""
CLIP_RETRIEVAL_BATCHES = (8, 256)  # what is fast on few cores, and its default
OWN = {"PYTHONPATH": ""}  # nothing of ours is imported there

Program = Callable[[Path, str, int], Run]  # pictures, a path for what it writes, how many there are


def rclip(bench: Bench) -> None:
    python = bench.rclip_python
    if python is None:
        report(name="rclip", skipped="--rclip-python or $RCLIP_PYTHON names its Python")
        return
    _compare(
        bench, {"rclip": _rclip(python, ""), "clipsearch": _ours(bench, "null=256")}, "no model"
    )
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        report(name="rclip, same ONNX", skipped=f"pip install {' '.join(missing)}")
        return
    model = str(bench.onnx())
    programs = {"rclip": _rclip(python, model), "clipsearch": _ours(bench, f"onnx={model}")}
    _compare(bench, programs, "the same ViT-B-32-256 of random weights as ONNX")


def clip_retrieval(bench: Bench) -> None:
    python = bench.clip_retrieval_python
    if python is None:
        reason = "--clip-retrieval-python or $CLIP_RETRIEVAL_PYTHON names its Python"
        report(name="clip-retrieval", skipped=reason)
        return
    programs = {
        f"clip-retrieval inference, batch {batch}": _clip_retrieval(python, bench.spec, batch)
        for batch in CLIP_RETRIEVAL_BATCHES
        if batch < bench.sizes.peers // 2  # or there is nothing to overlap
    }
    for how in ("fp32", "rules", "trial"):
        programs[f"clipsearch, {how}"] = _ours(bench, bench.spec, "--how", how)
    _compare(bench, programs, f"the same {RANDOM_MODEL} of random weights")


def _compare(bench: Bench, programs: Mapping[str, Program], what: str) -> None:
    many = bench.sizes.peers
    few = max(1, many // FEWER)
    costs = {}
    for name, program in programs.items():
        _, short, long = (
            program(bench.pictures(count), bench.new("peer"), count) for count in (few, few, many)
        )
        seconds = long.wall_seconds - short.wall_seconds
        costs[name] = 1000 * (long.cpu_seconds - short.cpu_seconds) / (many - few), seconds
        cpu, wall = costs[name]
        first_cpu, first_wall = next(iter(costs.values()))
        report(
            name=f"JPEG 1600x1200, {name}, {what}",
            items=many,
            items_per_s=(many - few) / wall,
            cpu_ms_per_item=cpu,
            ratio_to_first_items_per_s=first_wall / wall,
            ratio_to_first_cpu=cpu / first_cpu,
            rss_mb=long.peak_rss_mb,
        )


def _ours(bench: Bench, model: str, *options: str) -> Program:
    cache = bench.new("cache")

    def program(pictures: Path, target: str, count: int) -> Run:
        task = (
            sys.executable,
            "-m",
            "benchmarks.ingest_work",
            "index",
            str(pictures),
            target,
            "--cold",
        )
        return run(*task, "--cold", "--cache", cache, "--model", model, *options)

    return program


def _rclip(python: str, onnx: str) -> Program:
    def program(pictures: Path, target: str, count: int) -> Run:
        command = (python, "-c", RCLIP, str(pictures), target, str(count), onnx)
        return run(*command, environment={"RCLIP_DATADIR": target, **OWN})

    return program


def _clip_retrieval(python: str, spec: str, batch: int) -> Program:
    def program(pictures: Path, target: str, count: int) -> Run:
        sizes = (str(batch), str(os.cpu_count() or 1))
        command = (python, "-c", CLIP_RETRIEVAL, str(pictures), target, str(count), spec, *sizes)
        return run(*command, environment=OWN)

    return program
