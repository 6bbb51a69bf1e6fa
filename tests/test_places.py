from __future__ import annotations

import pytest

from clipsearch.interfaces.places import cache_folder, index_folder


@pytest.fixture
def tree(tmp_path):
    """a/b/c, with an index `default` and one named `other` beside a."""
    for name in ("default", "other"):
        folder = tmp_path / "indexes" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    return tmp_path


def test_without_any_index_it_lies_in_the_working_folder(tmp_path):
    assert index_folder(None, {}, tmp_path) == tmp_path / "indexes" / "default"


@pytest.mark.parametrize("below", [".", "a", "a/b/c"])
def test_the_nearest_parent_that_has_one(tree, below):
    assert index_folder(None, {}, tree / below) == tree / "indexes" / "default"


def test_a_nearer_one_wins(tree):
    near = tree / "a" / "b" / "indexes" / "default"
    near.mkdir(parents=True)
    (near / "manifest.json").write_text("{}")
    assert index_folder(None, {}, tree / "a" / "b" / "c") == near
    assert index_folder(None, {}, tree / "a") == tree / "indexes" / "default"


def test_a_folder_without_manifest_is_no_index(tree):
    (tree / "a" / "indexes" / "default").mkdir(parents=True)
    assert index_folder(None, {}, tree / "a" / "b") == tree / "indexes" / "default"


def test_a_word_is_a_name(tree):
    assert index_folder("other", {}, tree / "a") == tree / "indexes" / "other"
    assert index_folder("new", {}, tree / "a") == tree / "a" / "indexes" / "new"


@pytest.mark.parametrize("given", ["./other", "x/y", "../other", "other/"])
def test_what_has_a_separator_is_a_path(tree, given):
    assert index_folder(given, {}, tree / "a") == tree / "a" / given


def test_dots_and_absolute_paths_are_paths(tree):
    assert index_folder(".", {}, tree) == tree
    assert index_folder("..", {}, tree) == tree / ".."
    assert index_folder("/elsewhere/i", {}, tree).as_posix() == "/elsewhere/i"


def test_home(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    assert index_folder("~/other", {}, tree / "a") == tree / "other"


def test_the_option_goes_before_the_environment_and_that_before_the_default(tree):
    environment = {"CLIPSEARCH_INDEX": "other"}
    assert index_folder(None, environment, tree) == tree / "indexes" / "other"
    assert index_folder("default", environment, tree) == tree / "indexes" / "default"
    assert index_folder(None, {"CLIPSEARCH_INDEX": ""}, tree) == tree / "indexes" / "default"
    assert index_folder(None, {"CLIPSEARCH_INDEX": "/elsewhere"}, tree).as_posix() == "/elsewhere"


@pytest.mark.parametrize("given", [{}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}])
def test_the_cache_is_the_users_unless_a_full_path_says_otherwise(tree, monkeypatch, given):
    monkeypatch.setenv("HOME", str(tree))
    assert cache_folder(given) == tree / ".cache" / "clipsearch"
    assert cache_folder({"XDG_CACHE_HOME": str(tree / "c")}) == tree / "c" / "clipsearch"
