"""compact, recall, verify, repair and doctor as a user types them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import clipsearch
from clipsearch.store.store import Store
from tests.e2e.support import run, write_photos
from tests.vectors import unit_rows


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "m", 12)
    run("index", "m", "--model", "fake").ok()
    return tmp_path


def segment_file(here, name):
    [path] = (here / "indexes" / "default" / "segments").glob(f"*/{name}")
    return path


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_compact_says_what_there_is_now(here):
    ran = run("compact").ok()
    assert ran.err.endswith(f"recipe flat (auto): {here / 'indexes' / 'default'}\n")
    assert "recipe ivfpq:" not in ran.err
    assert json.loads(run("status", "--json").ok().out)["recipe"] == "flat (auto)"
    run("compact", "--recipe", "flat").ok()
    assert "recipe: flat\n" in run("status").ok().out


def test_a_recipe_that_does_not_exist_is_a_usage_error(here):
    ran = run("compact", "--recipe", "hnsw")
    assert ran.code == 2
    assert "use one of flat, ivfpq" in ran.err


def test_recall_reports_texts_and_pictures_apart(here):
    values = json.loads(run("recall", "--json").ok().out)
    assert values["recall"] == {"text": 1.0, "image": 1.0}
    assert values["queries"] == {"text": 200, "image": 12}
    (here / "asked.txt").write_text("red\n\ngreen\n")
    lines = run("recall", "--queries", "asked.txt", "-k", "3").ok().lines
    assert "queries: text 2, image 12" in lines
    assert "recall: text 1.0, image 1.0" in lines


@pytest.mark.parametrize("content", [None, "", "\n\n"])
def test_a_list_of_queries_that_cannot_be_used_is_a_usage_error(here, content):
    if content is not None:
        (here / "asked.txt").write_text(content)
    ran = run("recall", "--queries", "asked.txt")
    assert (ran.code, ran.out) == (2, "")
    assert "asked.txt" in ran.err


def test_recall_takes_vectors_for_an_index_without_a_model(here):
    with clipsearch.Index.create("mine", model=None, dim=16) as index:
        index.add_vectors(unit_rows(40, 1, 16), {"path": ["x"] * 40})
    np.save("asked.npy", unit_rows(5, 2, 16))
    values = json.loads(
        run("recall", "--index", "./mine", "--queries", "asked.npy", "--json").ok().out
    )
    assert values["queries"] == {"text": 5, "image": 40}
    (here / "asked.txt").write_text("red\n")
    assert run("recall", "--index", "./mine", "--queries", "asked.txt").code == 2


def test_verify_names_the_file_and_repair_mends_it(here):
    assert run("verify").ok().out == ""
    path = segment_file(here, "checks.npy")
    flip(path)
    ran = run("verify")
    assert ran.code == 3
    assert ran.out.startswith(f"{path} is damaged")
    [problem] = json.loads(run("verify", "--json").out)["problems"]
    assert problem["path"] == str(path)
    assert "1 problems, all mended" in run("repair").ok().err
    assert run("verify").ok().out == ""
    assert len(run("query", "red", "-t", "100", "-f").ok().lines) == 12


def test_what_is_lost_is_said_and_read_again(here):
    flip(segment_file(here, "vectors.npy"))
    ran = run("query", "red")
    assert ran.code == 3
    assert "clipsearch repair" in ran.err
    assert "1 files lost their vectors: index their folders again" in run("repair").ok().err
    assert len(run("query", "red", "-t", "100", "-f").ok().lines) == 11
    assert "added 0, updated 1, unchanged 11" in run("index", "m").ok().err
    assert len(run("query", "red", "-t", "100", "-f").ok().lines) == 12


def test_doctor_looks_at_everything(here):
    lines = run("doctor").ok().lines
    assert any("faiss-cpu" in line and line.startswith("ok") for line in lines)
    assert any("12 vectors, recipe flat (auto)" in line for line in lines)
    assert f"ok      {here / 'm'}" in lines
    (here / "m").rename(here / "away")
    assert f"warning {here / 'm'} is not there" in run("doctor").ok().lines
    with Store.open(here / "indexes" / "default").writing():
        assert any("process" in line and "writes to" in line for line in run("doctor").lines)
    (here / "indexes" / "default" / "catalog.sqlite").write_bytes(b"x" * 5000)
    ran = run("doctor")
    assert ran.code == 1
    assert any(line.startswith("error") and "catalog.sqlite" in line for line in ran.lines)


def test_doctor_without_an_index_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = run("doctor").ok()
    assert f"warning no index at {tmp_path / 'indexes' / 'default'}" in ran.lines


@pytest.mark.parametrize("command", ["compact", "repair"])
def test_no_wait_says_who_writes(here, command):
    with Store.open(here / "indexes" / "default").writing():
        ran = run(command, "--no-wait")
    assert ran.code == 3
    assert "process " in ran.err
    assert " writes to " in ran.err


def test_index_says_when_compaction_would_pay(here, monkeypatch):
    from clipsearch.store import recipes, writer

    monkeypatch.setattr(recipes, "SMALLEST_TRAINING_ROWS", 5)
    monkeypatch.setattr(recipes, "FLAT_ROWS", 10)
    monkeypatch.setattr(writer, "SMALLEST_TRAINING_ROWS", 5)
    assert (
        "12 vectors are scanned by every search: `clipsearch compact`" in run("index", "m").ok().err
    )
    assert "advice: 12 vectors are scanned" in run("status").ok().out
