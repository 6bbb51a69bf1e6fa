"""The command line in this process, with the encoder that needs no weights."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from clipsearch.version import VERSION
from tests.e2e.support import BLUE, GREEN, RED, run, write_film, write_photo

FORMAT_OPTIONS = ["--json", "--jsonl", "--csv", "-f", "-0"]
ODD_NAMES = {
    "two words.jpg",
    "double \" and single '.jpg",
    "new\nline.jpg",
    "tab\there.jpg",
    "carriage\rreturn.jpg",
    "back\\there.jpg",
    "ünïcode → 名前 🎞.jpg",
    "-dash.jpg",
    "comma, semicolon;.jpg",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with an index of a red and a blue photo and a film that turns from green to red."""
    folder = tmp_path_factory.mktemp("built")
    write_photo(folder / "media" / "red.jpg", RED)
    write_photo(folder / "media" / "blue.png", BLUE)
    green, red = list(range(0, 6000, 40)), list(range(6000, 9000, 40))
    write_film(folder / "media" / "film.mp4", [(GREEN, green), (RED, red)])
    run("index", folder / "media", "--index", folder / "indexes/default", "--model", "fake").ok()
    return folder


@pytest.fixture
def here(built, monkeypatch):
    monkeypatch.chdir(built)
    return built


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only_line(text: str) -> str:
    (line,) = text.splitlines()
    return line


def test_version_and_help():
    assert run("--version").ok().out == f"clipsearch {VERSION}\n"
    for arguments in (["-h"], ["--help"], ["query", "-h"], ["index", "--help"], ["list", "-h"]):
        shown = run(*arguments).ok()
        assert shown.out.startswith("Usage: ")
        assert shown.err == ""


def test_a_pipe_gets_tab_separated_values(here):
    found = run("query", "red", "-t", "2").ok()
    header, *rows = found.lines
    assert header == "score\tpath\tstart\tend"
    film, photo = (row.split("\t") for row in rows)
    assert photo[1:] == [str(here / "media/red.jpg"), "", ""]
    assert film[1:] == [str(here / "media/film.mp4"), "6.000", "9.000"]
    for row in (photo, film):
        assert len(row[0].split(".")[1]) == 3
        assert 0.7 < float(row[0]) <= 1
    assert found.err == ""


def test_every_format_tells_the_same_hits(here):
    expected = run("query", "red", "--json").ok().records
    assert {record["kind"] for record in expected} == {"image", "frame"}
    jsonl = run("query", "red", "--jsonl").ok()
    assert [json.loads(line) for line in jsonl.lines] == expected
    rows = list(csv.DictReader(io.StringIO(run("query", "red", "--csv").ok().out, newline="")))
    assert [row["path"] for row in rows] == [record["path"] for record in expected]
    assert [float(row["score"]) for row in rows] == [record["score"] for record in expected]
    assert [row["start"] or None for row in rows] == [
        None if record["start"] is None else str(record["start"]) for record in expected
    ]
    paths = list(dict.fromkeys(record["path"] for record in expected))
    assert run("query", "red", "-f").ok().lines == paths
    assert run("query", "red", "-0").ok().out == "".join(path + "\0" for path in paths)


def test_json_has_times_in_seconds_for_moments_only(here):
    by_path = {Path(r["path"]).name: r for r in run("query", "red", "-t", "2", "--json").records}
    film, photo = by_path["film.mp4"], by_path["red.jpg"]
    assert (film["start"], film["end"]) == (6.0, 9.0)
    assert 6.0 <= film["moment"] < 9.0
    assert (photo["start"], photo["end"], photo["moment"]) == (None, None, None)


def test_hits_come_best_first_and_no_more_than_asked(here):
    scores = [record["score"] for record in run("query", "red", "--json").records]
    assert scores == sorted(scores, reverse=True)
    for option in ("-t", "--top", "-k"):
        assert run("query", "red", option, "1", "-f").lines == [str(here / "media/film.mp4")]
    everything = run("query", "red", "-t", "1000000", "-f").ok().lines
    assert {Path(path).name for path in everything} == {"red.jpg", "blue.png", "film.mp4"}


@pytest.mark.parametrize("kind", ["image", "frame", "video"])
def test_kinds(here, kind):
    records = run("query", "red", "--kind", kind, "--json").ok().records
    assert {record["kind"] for record in records} == {kind}
    names = {Path(record["path"]).name for record in records}
    assert names == ({"red.jpg", "blue.png"} if kind == "image" else {"film.mp4"})


def test_several_kinds(here):
    records = run("query", "red", "--kind", "image", "--kind", "video", "--json").ok().records
    assert {record["kind"] for record in records} == {"image", "video"}


def test_an_unknown_kind_names_the_choices(here):
    ran = run("query", "red", "--kind", "sound")
    assert (ran.code, ran.out) == (2, "")
    assert all(name in ran.err for name in ("'sound'", "image", "frame", "video"))


def test_min_score(here):
    scores = [record["score"] for record in run("query", "red", "--json").records]
    least = (scores[1] + scores[2]) / 2
    kept = run("query", "red", "--min-cosine", least, "--json").ok().records
    assert [record["score"] for record in kept] == scores[:2]


@pytest.mark.parametrize("option", FORMAT_OPTIONS)
def test_nothing_found(here, option):
    ran = run("query", "red", "--min-cosine", "0.9999", option).ok()
    assert ran.err == "nothing found\n"
    assert json.loads(ran.out) == [] if option == "--json" else "media" not in ran.out
    assert run("query", "red", "--min-cosine", "0.9999", option, "--fail-empty").code == 1
    assert run("query", "red", option, "--fail-empty").code == 0


@pytest.mark.parametrize("command", [["query", "red"], ["list"]])
@pytest.mark.parametrize("other", FORMAT_OPTIONS[1:])
def test_two_formats_are_one_too_many(here, command, other):
    ran = run(*command, "--json", other)
    assert (ran.code, ran.out) == (2, "")
    assert "json" in ran.err


def test_two_formats_are_wrong_without_an_index_too(empty):
    assert run("query", "red", "--json", "--csv").code == 2


def test_several_words_need_no_quotes(here):
    assert (
        run("query", "a", "red", "door", "--json").out == run("query", "a red door", "--json").out
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["query"],
        ["query", " "],
        ["query", "red", "-t", "0"],
        ["query", "red", "-t", "many"],
        ["query", "red", "--min-score", "nan"],
        ["query", "red", "--merge-gap", "-1"],
        ["query", "red", "--merge-gap", "nan"],
        ["query", "red", "--device", "abacus"],
        ["query", "red", "--nonsense"],
        ["nonsense"],
        ["index"],
        ["index", "media", "--fps", "0"],
        ["index", "media", "--fps", "nan"],
        ["index", "media", "--sampling", "often"],
        ["index", "media", "--sampling", "uniform:0"],
        ["index", "media", "--window-seconds", "0"],
        ["index", "media", "-b", "0"],
        ["index", "media", "--max-image-megapixels", "0"],
        ["index", "media", "--max-image-megapixels", "-1"],
        ["index", "media", "--fps", "2"],
        ["index", "media", "--keep-all-frames"],
        ["index", "media", "--window-seconds", "5"],
        ["index", "media", "--model", "nonsense", "--index", "new"],
        ["index", "media", "--model", "fake:3", "--index", "new"],
        ["index", "media", "--model", "fake", "--recipe", "pie", "--index", "new"],
        ["index", "media", "--model", "fake", "--catalog", "nope://x", "--index", "new"],
    ],
)
def test_wrong_usage_is_2_and_leaves_no_index_behind(here, arguments):
    ran = run(*arguments)
    assert ran.code == 2, ran
    assert ran.out == ""
    assert ran.err
    assert "Traceback" not in ran.err
    assert [folder.name for folder in (here / "indexes").iterdir()] == ["default"]


def test_another_rate_than_the_index_has_is_told_in_words(here):
    line = only_line(run("index", "media", "--fps", "2").err)
    assert "fps" in line
    assert "2" in line
    assert "SamplingSpec" not in line


def test_flags_that_repeat_what_the_index_has_are_fine(empty):
    write_photo(empty / "m" / "red.jpg", RED)
    build = ("index", "m", "--model", "fake")
    run(*build, "--sampling", "uniform:4", "--fps", "2", "--keep-all-frames").ok()
    for flags in (["--fps", "2"], ["--keep-all-frames"], ["--sampling", "uniform:4"], []):
        run("index", "m", *flags).ok()
    for flags in (["--fps", "1"], ["--sampling", "uniform:5"], ["--sampling", "keyframes"]):
        assert run("index", "m", *flags).code == 2


@pytest.mark.parametrize("command", [["query", "red"], ["list"], ["status"]])
def test_no_index_is_one_line_that_says_what_to_do(empty, command):
    ran = run(*command)
    assert (ran.code, ran.out) == (3, "")
    line = only_line(ran.err)
    assert line.startswith("error: ")
    assert str(empty / "indexes/default") in line
    assert "clipsearch index" in line
    assert not (empty / "indexes").exists()


def test_another_model_than_the_index_has(here):
    ran = run("index", "media", "--model", "builtin")
    assert (ran.code, ran.out) == (3, "")
    assert "fake" in only_line(ran.err)
    assert "builtin" in ran.err
    assert run("index", "media", "--model", "auto").code == 0
    assert run("index", "media", "--model", "fake").code == 0


def test_the_index_is_found_from_below_by_variable_and_by_option(here, monkeypatch, tmp_path):
    expected = run("query", "red", "--json").ok().out
    monkeypatch.chdir(here / "media")
    assert run("query", "red", "--json").ok().out == expected
    assert run("query", "red", "--json", "--index", "default").ok().out == expected
    monkeypatch.chdir(tmp_path)
    assert run("query", "red").code == 3
    path = here / "indexes" / "default"
    assert run("query", "red", "--json", "--index", path).ok().out == expected
    monkeypatch.setenv("CLIPSEARCH_INDEX", str(path))
    assert run("query", "red", "--json").ok().out == expected
    assert run("query", "red", "--json", "--index", "nowhere").code == 3


def test_named_indexes_live_side_by_side(empty):
    write_photo(empty / "m" / "red.jpg", RED)
    run("index", "m", "--index", "one", "--model", "fake").ok()
    run("index", "m", "--index", "two", "--model", "fake:32").ok()
    assert {folder.name for folder in (empty / "indexes").iterdir()} == {"one", "two"}
    assert run("query", "red", "--index", "two", "-f").ok().lines == [str(empty / "m/red.jpg")]
    assert run("query", "red").code == 3


@pytest.mark.parametrize("option", [None, *FORMAT_OPTIONS])
def test_odd_names_survive(empty, option):
    for number, name in enumerate(sorted(ODD_NAMES)):
        write_photo(empty / "m" / name, RED, number)
    ran = run("index", "m", "--model", "fake").ok()
    assert ran.out == ""
    assert ran.skipped == []
    out = run("query", "red", "-t", "100", *([option] if option else [])).ok().out
    listed = run("list", *([option] if option else [])).ok().out
    wanted = {str(empty / "m" / name) for name in ODD_NAMES}
    for text, name_column in ((out, 1), (listed, 0)):
        assert sorted(_paths(text, option, name_column, wanted)) == sorted(wanted)


def _paths(text: str, option: str | None, column: int, wanted: set[str]) -> list[str]:
    if option == "--json":
        return [record["path"] for record in json.loads(text)]
    if option == "--jsonl":
        return [json.loads(line)["path"] for line in text.split("\n")[:-1]]
    if option == "--csv":
        return [row["path"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    if option == "-0":
        return text.split("\0")[:-1]
    if option == "-f":  # raw: lines cannot tell a name with a line end from two names
        return [path for path in wanted if path + "\n" in text]
    cells = [line.split("\t")[column] for line in text.split("\n")[1:-1]]
    return [_unescaped(cell) for cell in cells]


def _unescaped(cell: str) -> str:
    parts = cell.split("\\\\")
    for letter, raw in (("t", "\t"), ("n", "\n"), ("r", "\r")):
        parts = [part.replace("\\" + letter, raw) for part in parts]
    return "\\".join(parts)


def test_a_skipped_file_of_any_name_is_one_line(empty):
    (empty / "m").mkdir()
    (empty / "m" / "bad\nname\x1b[31m.jpg").write_text("no picture")
    ran = run("index", "m", "--model", "fake").ok()
    assert len(ran.skipped) == 1
    assert len(ran.err.splitlines()) == 2  # and the count
    assert "\x1b" not in ran.err


def test_status_and_list(here):
    values = run("status", "--json").ok()
    facts = json.loads(values.out)
    assert (facts["images"], facts["videos"], facts["failed"]) == (2, 1, 0)
    assert facts["model"] == "fake"
    assert facts["roots"] == [str(here / "media")]
    assert "model: fake" in run("status").ok().lines
    listed = {Path(r["path"]).name: r for r in run("list", "--json").ok().records}
    assert set(listed) == {"red.jpg", "blue.png", "film.mp4"}
    assert listed["film.mp4"]["duration"] == pytest.approx(9.0, abs=0.5)
    assert (listed["red.jpg"]["width"], listed["red.jpg"]["height"]) == (48, 40)
    assert run("list", "--failed").ok().out == ""


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("clipsearch.engine.Index.search", ["query", "red"]),
        ("clipsearch.engine.load_encoder", ["index", "m", "--model", "fake", "--index", "new"]),
        ("clipsearch.ingest.reading.open_media", ["index", "m", "--model", "fake"]),
    ],
)
def test_an_interrupt_anywhere_ends_with_130(built, empty, monkeypatch, target, arguments):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    write_photo(empty / "m" / "red.jpg", RED)
    shutil.copytree(built / "indexes", empty / "indexes")
    monkeypatch.setattr(target, interrupt)
    ran = run(*arguments)
    assert (ran.code, ran.out) == (130, "")
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("name", ["catalog.sqlite", "manifest.json", "vectors.npy", "rows.parquet"])
@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_damaged_index_is_3_and_one_line(built, empty, name, content):
    shutil.copytree(built / "indexes", empty / "indexes")
    (path,) = (empty / "indexes").rglob(name)
    path.write_bytes(content)
    ran = run("query", "red")
    assert (ran.code, ran.out) == (3, "")
    line = only_line(ran.err)
    assert line.startswith("error: ")
    assert "%3A" not in line
    assert str(path) in line


def test_indexing_again_repairs_lost_segments(built, empty):
    """What the message of a damaged index says to do must help."""
    shutil.copytree(built / "media", empty / "media")
    run("index", "media", "--model", "fake").ok()
    before = [{**hit, "id": None} for hit in run("query", "red", "--json").ok().records]
    for folder in (empty / "indexes/default/segments").iterdir():
        shutil.rmtree(folder)
    assert run("query", "red").code == 3
    run("index", "media")
    after = run("query", "red", "--json").ok().records
    assert [{**hit, "id": None} for hit in after] == before, "with new ids"


def test_a_creation_that_was_cut_off_is_started_again(built, empty):
    """Everything a new index has before its manifest gets its final name."""
    shutil.copytree(built / "indexes", empty / "indexes")
    folder = empty / "indexes" / "default"
    manifest = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json.tmp").write_bytes(manifest[: len(manifest) // 2])
    (folder / "manifest.json").unlink()
    for published in (folder / "segments").iterdir():
        shutil.rmtree(published)
    write_photo(empty / "m" / "red.jpg", RED)
    assert run("query", "red").code == 3
    run("index", "m", "--model", "fake").ok()
    assert run("query", "red", "-f").ok().lines == [str(empty / "m" / "red.jpg")]


def test_a_folder_with_other_content_is_not_taken_for_an_index(empty):
    write_photo(empty / "m" / "red.jpg", RED)
    ran = run("index", "m", "--model", "fake", "--index", "./m")
    assert ran.code == 2
    assert [path.name for path in (empty / "m").iterdir()] == ["red.jpg"]


def test_an_index_where_a_file_stands(empty):
    write_photo(empty / "m" / "red.jpg", RED)
    ran = run("index", "m", "--model", "fake", "--index", "./m/red.jpg")
    assert ran.code == 2
    assert str(empty / "m" / "red.jpg") in only_line(ran.err)
