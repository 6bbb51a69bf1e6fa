"""The real clip-retrieval, in an environment of its own, indexes our export and is asked.

python3 -m venv cr && cr/bin/pip install "setuptools<70" clip-retrieval faiss-cpu==1.12.0
CLIP_RETRIEVAL_PYTHON=cr/bin/python pytest -m slow tests/test_clip_retrieval.py
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipsearch.engine import Index
from clipsearch.exchange import clip_retrieval, rows
from clipsearch.exchange.exporting import ExportSpec
from clipsearch.store.store import Store
from tests.test_sources import film
from tests.vectors import ROOT, manifest, unit_rows

VARIABLE = "CLIP_RETRIEVAL_PYTHON"
PYTHON = os.environ.get(VARIABLE)
DIM, COUNT, TOP = 64, 30_000, 10
QUERIES = 50
COLUMNS = ("image_path", "caption", "clipsearch_id", "path", "kind", "start")
# Its index command, then its service with both of its readers of metadata; only the CLIP model,
# whose weights it would fetch, is left out: queries are embeddings.
ASK = """
import importlib, json, os, sys
import numpy as np
back = importlib.import_module("clip_retrieval.clip_back")
build = importlib.import_module("clip_retrieval.clip_index").clip_index
folder, target, queries, columns, modality = sys.argv[1:6]
columns = columns.split(",")
build(folder, target, "1G", "4G", nb_cores=1)
indices = {n: back.load_index(f"{target}/{n}.index", False)
           if os.path.exists(f"{target}/{n}.index") else None for n in ("image", "text")}
answers = []
for hdf5 in (False, True):
    provider, _ = back.load_metadata_provider(target, hdf5, False, None, columns, False)
    resource = back.ClipResource(
        device="cpu", model=None, preprocess=None, tokenizer=None, model_txt_mclip=None,
        safety_model=None, violence_detector=None, metadata_provider=provider,
        image_index=indices["image"], text_index=indices["text"], ivf_old_to_new_mapping=None,
        columns_to_return=columns, metadata_is_ordered_by_ivf=False, aesthetic_embeddings=None)
    service = back.KnnService(clip_resources={"ours": resource})
    answers.append([service.query(embedding_input=q.tolist(), modality=modality, num_images=10,
                    num_result_ids=10, indice_name="ours", deduplicate=False)
                    for q in np.load(queries)])
for row in (row for found in answers for rows in found for row in rows):
    row.pop("image", None)
with open(f"{target}/{modality}.json") as file:
    key = json.load(file)["index_key"]
with open(sys.argv[6], "w") as file:
    json.dump({"answers": answers, "key": key}, file)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason=f"${VARIABLE} names no Python with clip-retrieval"),
]


def ask(folder: Path, work: Path, queries: np.ndarray, modality: str = "image") -> dict:
    """What clip-retrieval makes of a folder of embeddings, and answers."""
    work.mkdir()
    np.save(work / "queries.npy", queries)
    (work / "ask.py").write_text(ASK)
    names = [folder, work / "index", work / "queries.npy", ",".join(COLUMNS), modality]
    command = [PYTHON, work / "ask.py", *names, work / "answers.json"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((work / "answers.json").read_text())


def test_it_answers_with_our_top_results(tmp_path, monkeypatch):
    """Thirty thousand rows in several parts, a third of them moments of a video that exists."""
    monkeypatch.setattr(clip_retrieval, "PART_ROWS", 4000)
    monkeypatch.setattr(rows, "ROWS_AT_ONCE", 2000)
    film = tmp_path / "film.mp4"
    film.write_bytes(b"no picture: its server would fail if it opened this")
    # In clusters, as real embeddings are: a text's neighbours are not all equally far.
    centres = unit_rows(300, 3, DIM)
    near = centres[np.arange(COUNT) % 300] + 0.8 * unit_rows(COUNT, 4, DIM)
    vectors = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float16)
    moments = [n % 3 == 1 for n in range(COUNT)]
    table = {
        "path": [str(film) if moment else f"a/{n}.jpg" for n, moment in enumerate(moments)],
        "kind": ["frame" if moment else "image" for moment in moments],
        "start": [float(n) if moment else None for n, moment in enumerate(moments)],
        "end": [n + 1.0 if moment else None for n, moment in enumerate(moments)],
        "caption": [f"number {n}" for n in range(COUNT)],
    }
    mixed = centres[:QUERIES] + 0.8 * unit_rows(QUERIES, 5, DIM)
    queries = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
    with Index.create(tmp_path / "index", model=None, dim=DIM) as index:
        index.add_vectors(vectors, table)
        index.export_to(tmp_path / "out", "clip-retrieval")
        scores, ids = index.search_vectors(queries, top=TOP)
    assert len(list((tmp_path / "out/img_emb").iterdir())) > 5
    found = ask(tmp_path / "out", tmp_path / "work", queries)
    agree = []
    for answers in found["answers"]:
        for own_scores, own_ids, found_rows in zip(scores, ids, answers, strict=True):
            for row in found_rows:
                number = row["clipsearch_id"] - 1
                assert row["path"] == table["path"][number]
                assert row["caption"] == table["caption"][number]
            theirs = [row["clipsearch_id"] for row in found_rows]
            agree.append(len(set(theirs) & set(own_ids.tolist())) / TOP)
            if found["key"] == "Flat" or "HNSW" in found["key"]:  # they keep whole vectors
                assert theirs[0] == own_ids[0]
                assert found_rows[0]["similarity"] == pytest.approx(own_scores[0], abs=1e-3)
    print(f"\n{COUNT} rows: clip-retrieval chose {found['key']}, "
          f"{np.mean(agree):.3f} of its {TOP} nearest are ours")  # fmt: skip
    assert np.mean(agree) > 0.9


def test_subtitles_are_its_texts(tmp_path):
    store = Store.create(tmp_path / "index", replace(manifest(), texts=True))
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        films = [film(f"{n}.mp4", n, count=20, sources=("visual", "text")) for n in range(20)]
        writer.publish(films)
    query = unit_rows(1, 50)
    with Index(store) as index:
        index.export_to(tmp_path / "out", "clip-retrieval", ExportSpec(("text",)))
        [best] = store.search(query, k=1, kinds=("text",))[0]
    found = ask(tmp_path / "out", tmp_path / "work", query, "text")
    top = found["answers"][0][0][0]
    assert top["clipsearch_id"] == best.id
    assert top["caption"].split(" says ")[0] == top["path"].removeprefix("/media/")
