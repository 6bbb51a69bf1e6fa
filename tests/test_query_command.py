"""The commands query and more-like: composed queries, stdin, batches and examples."""

from __future__ import annotations

import csv
import functools
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer

from clipsearch import Index
from clipsearch.encoders.fake import FakeEncoder
from clipsearch.interfaces import batch
from clipsearch.media import ReadSpec, open_media
from clipsearch.search.probe import Probe
from tests.e2e.support import BLUE, GREEN, RED, Ran, run, write_film, write_photo
from tests.sound_files import SoundPlan, write_beeps

ODD_NAMES = (
    "two words.jpg",
    "double \" and single '.jpg",
    "new\nline.jpg",
    "tab\there.jpg",
    "back\\slash.jpg",
    "ünïcode → 名前 🎞.jpg",
    "-dash.jpg",
    "a+b.jpg",
    "2:3.jpg",
    "film@2.jpg",
    "by\udcffte.jpg",
)


@pytest.fixture(scope="module", autouse=True)
def one_command_line() -> Iterator[None]:
    """The command line is put together once, not for every run: that takes longer than a query."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in red, blue and green, a film that turns from green to red, and a low sound."""
    folder = tmp_path_factory.mktemp("built")
    media = folder / "media"
    write_photo(media / "red.jpg", RED)
    write_photo(media / "red2.png", RED, seed=1)
    write_photo(media / "blue.png", BLUE)
    write_photo(media / "green.png", GREEN)
    shutil.copy(media / "red.jpg", media / "copy of red.jpg")
    green, red = list(range(0, 3000, 40)), list(range(3000, 5000, 40))
    write_film(media / "film.mp4", [(GREEN, green), (RED, red)])
    write_beeps(media / "low.wav", SoundPlan(beeps=(0.5,), seconds=1.0, hertz=100.0))
    run("index", media, "--index", folder / "indexes/default", "--model", "fake").ok()
    return folder


@pytest.fixture
def here(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(built / "media")
    return built / "media"


def names(ran: Ran) -> list[str]:
    return [Path(record["path"]).name for record in ran.ok().records]


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def text(words: str) -> np.ndarray:
    return FakeEncoder().encode_text([words])[0].astype(np.float64)


def picture(path: Path) -> np.ndarray:
    encoder = FakeEncoder()
    [(_, pixels)] = open_media(path, ReadSpec(encoder.short_side)).units
    return encoder.encode_images([encoder.prepare(pixels)])[0].astype(np.float64)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_composed_queries_score_as_their_arithmetic_says(here: Path) -> None:
    ran = run("query", "red", "+", "2:blue", "-", "./green.png", "--kind", "image", "--json")
    asked = text("red") + 2 * text("blue") - picture(here / "green.png")
    expected = {
        name: cosine(asked, picture(here / name))
        for name in ("red.jpg", "red2.png", "blue.png", "copy of red.jpg")
    }
    found = {Path(record["path"]).name: record["score"] for record in ran.ok().records}
    assert found.keys() == expected.keys(), "the picture that was named is left out"
    for name, score in expected.items():
        assert found[name] == pytest.approx(score, abs=2e-3), name
    assert names(ran)[0] == "blue.png"


@pytest.mark.parametrize(
    "arguments",
    [
        ["red", "-a", "2:blue", "-s", "./green.png"],
        ["-s", "green.png", "--add", "2:blue", "red"],
        ["--sub", "green.png", "-a", "red", "-a", "2:blue"],
    ],
)
def test_options_say_the_same_as_operators(here: Path, arguments: list[str]) -> None:
    said = run("query", "red", "+", "2:blue", "-", "green.png", "--json").ok().records
    found = run("query", *arguments, "--json").ok().records
    assert [hit["path"] for hit in found] == [hit["path"] for hit in said]
    assert [hit["score"] for hit in found] == pytest.approx([hit["score"] for hit in said])


def test_a_picture_finds_its_like_but_neither_itself_nor_copies(here: Path) -> None:
    found = names(run("query", "red.jpg", "--kind", "image", "--json"))
    assert set(found) == {"red2.png", "blue.png", "green.png"}
    assert found[0] == "red2.png"


def test_a_moment_of_a_film_finds_pictures_like_it(here: Path) -> None:
    for time, best in (("1", "green.png"), ("0:04", "red")):
        found = names(run("query", f"film.mp4@{time}", "--json"))
        assert found[0].startswith(best)
        assert "film.mp4" not in found
    ran = run("query", "film.mp4@1:00")
    assert ran.code == 2
    assert "film.mp4: it lasts 5" in ran.err


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_can_be_asked_for(here: Path, tmp_path: Path, name: str) -> None:
    odd = write_photo(tmp_path / name, RED, seed=5)
    ran = run("query", odd, "--kind", "image", "-t", "1", "--json")
    assert "red" in names(ran)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.jpg"], "gone.jpg: no such file; if it is words, put a backslash"),
        (["red", "-"], "nothing follows the '-'"),
        (["red", "-", "red"], "cancel each other"),
        (["https://example.org/a.jpg"], "download it first"),
        ([], "the query is empty"),
        (["red", "--prompts", "all"], "prompts 'all': use one of none, simple, imagenet"),
        (["red", "--min-score", "2"], "use 0 to 1; a least cosine is --min-cosine"),
        (["red", "--where", "size >"], "size >"),
        (["red", "--batch", "queries.txt"], "--batch has its queries in the file"),
        (["--batch", "queries.txt", "--html", "new.html"], "--batch only prints"),
        (["red", "--probe", "red.probe"], "--probe says what to look for"),
        (["--batch", "gone.txt"], "cannot read gone.txt: No such file or directory"),
        (["--probe", "gone.probe"], "gone.probe"),
    ],
)
def test_what_cannot_be_asked(here: Path, arguments: list[str], message: str) -> None:
    ran = run("query", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


@pytest.mark.parametrize("given", ["-5", "-grass", "--grass"])
def test_words_with_a_dash_say_how_to_write_them(here: Path, given: str) -> None:
    ran = run("query", "horse", given)
    assert ran.code == 2
    said = " ".join(ran.err.split())
    assert "write the minus apart: horse - grass" in said
    assert "go behind --: " in said
    assert run("query", "--", given, "-f").ok().out


def test_words_may_look_like_files(here: Path) -> None:
    ran = run("query", "\\red.jpg", "--kind", "image", "--json")
    by_name = dict(zip(names(ran), (hit["score"] for hit in ran.records), strict=True))
    assert by_name["blue.png"] == pytest.approx(
        cosine(text("red.jpg"), picture(here / "blue.png")), abs=2e-3
    )
    assert "red.jpg" in by_name


class TestStdin:
    @pytest.fixture(autouse=True)
    def own_temporary_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    @pytest.mark.parametrize("name", ["blue.png", "red.jpg", "film.mp4", "low.wav"])
    def test_media_by_their_first_bytes(
        self, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        expected = run("query", f"./{name}", "--json").ok().records
        feed(monkeypatch, (here / name).read_bytes())
        assert run("query", "--stdin", "--json").ok().records == expected
        assert list((tmp_path / "temporary").iterdir()) == []

    def test_a_line_of_terms(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = run("query", "red", "+", "2:blue", "-", "green.png", "--json").ok().records
        feed(monkeypatch, b"\xef\xbb\xbf 2:blue - green.png\r\n")
        found = run("query", "red", "--stdin", "--json").ok().records
        assert [hit["path"] for hit in found] == [hit["path"] for hit in expected]
        feed(monkeypatch, "r\u00e9d".encode())
        assert run("query", "--stdin", "-f").ok().out

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "nothing came on stdin"),
            (b" \n\n", "nothing came on stdin"),
            (b"red\nblue\n", "2 lines came on stdin: one is a query, give many by --batch -"),
            (b"\x00\x01\x02\x03", "no picture, sound or video, and no text"),
            (b"r\xe9d", "no text in UTF-8"),
            (b"\x89PNG\r\n\x1a\nno picture", "what came on stdin: "),
            (b"gone.jpg", "gone.jpg: no such file"),
        ],
    )
    def test_what_is_no_term(
        self,
        here: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        data: bytes,
        message: str,
    ) -> None:
        feed(monkeypatch, data)
        ran = run("query", "--stdin")
        assert ran.code in (1, 2)
        assert message in ran.err
        assert ran.out == ""
        assert list((tmp_path / "temporary").iterdir()) == []

    def test_one_that_is_closed(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", None)
        assert "nothing came on stdin" in run("query", "--stdin").err
        assert "stdin has no queries" in run("query", "--batch", "-").err

    def test_a_page_does_not_name_the_temporary_file(
        self, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        feed(monkeypatch, (here / "blue.png").read_bytes())
        run("query", "red", "--stdin", "--html", tmp_path / "page.html").ok()
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert "red + (stdin)" in page
        assert "temporary" not in page


LINES = ("red", "", "blue - 0.5:green.png", "2:green + \\x.jpg", '"film.mp4"@1')


class TestBatch:
    @pytest.fixture
    def queries(self, tmp_path: Path) -> Path:
        file = tmp_path / "queries.txt"
        file.write_text("\ufeff" + "\r\n".join(LINES), encoding="utf-8")
        return file

    @pytest.fixture(autouse=True)
    def two_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batch, "QUERIES_AT_ONCE", 2)

    @pytest.fixture
    def alone(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
        """What the lines find one after the other."""
        records = []
        for line in filter(None, LINES):
            feed(monkeypatch, line.encode())
            found = run("query", "--stdin", "--json", "-t", "3").ok().records
            records += [{"query": line, **record} for record in found]
        return records

    @pytest.mark.parametrize("by", ["file", "stdin"])
    def test_finds_what_its_lines_find(
        self,
        queries: Path,
        alone: list[dict[str, object]],
        monkeypatch: pytest.MonkeyPatch,
        by: str,
    ) -> None:
        given = queries if by == "file" else "-"
        for option in ("--json", "--jsonl"):
            feed(monkeypatch, queries.read_bytes())
            ran = run("query", "--batch", given, option, "-t", "3").ok()
            found = ran.records if option == "--json" else [json.loads(line) for line in ran.lines]
            assert [next(iter(record)) for record in found] == ["query"] * len(alone)
            assert [r["query"] for r in found] == [r["query"] for r in alone]
            assert [r["path"] for r in found] == [r["path"] for r in alone]
            assert [r["id"] for r in found] == [r["id"] for r in alone]
            scores = [r["score"] for r in found]
            assert scores == pytest.approx([r["score"] for r in alone], abs=1e-5)

    def test_tables_have_one_header(
        self, here: Path, queries: Path, alone: list[dict[str, object]]
    ) -> None:
        rows = list(
            csv.DictReader(
                io.StringIO(run("query", "--batch", queries, "--csv", "-t", "3").ok().out)
            )
        )
        assert [row["query"] for row in rows] == [record["query"] for record in alone]
        header, *lines = run("query", "--batch", queries, "-t", "3").ok().lines
        assert header.split("\t")[:3] == ["query", "score", "path"]
        assert len(lines) == len(alone)
        paths = run("query", "--batch", queries, "-f", "-t", "3").ok().lines
        assert paths == list(dict.fromkeys(record["path"] for record in alone))

    def test_a_bad_line_does_not_lose_the_others(self, here: Path, tmp_path: Path) -> None:
        (tmp_path / "bad.png").write_bytes(b"no picture")
        file = tmp_path / "queries.txt"
        bad = ["red - red", "gone.jpg", '"open', f"{tmp_path}/bad.png", "2:", "film.mp4@99"]
        lines = [line for one in bad for line in (one, "red", "blue")]
        file.write_text("\n".join(lines))
        ran = run("query", "--batch", file, "--jsonl", "-t", "1").ok()
        assert len(ran.lines) == 2 * len(bad)
        assert len(ran.skipped) == len(bad)
        for number, line in zip(range(1, len(lines), 3), ran.skipped, strict=True):
            assert line.startswith(f"skipping {file} line {number}: ")
        assert "answered 12 queries, skipped 6 lines" in ran.err
        strict = run("query", "--batch", file, "--strict", "--jsonl", "-t", "1")
        assert (strict.code, strict.out) == (4, ran.out)

    def test_an_option_that_is_wrong_is_no_line_that_is(self, here: Path, queries: Path) -> None:
        for option, value, message in (
            ("--kind", "smell", "kind 'smell'"),
            ("--min-score", "7", "use 0 to 1"),
            ("--pooling", "none", "none"),
        ):
            ran = run("query", "--batch", queries, option, value)
            assert (ran.code, ran.out) == (2, "")
            assert ran.err.startswith("error: ")
            assert message in ran.err

    def test_so_it_is_in_a_batch_of_one_line(self, here: Path, tmp_path: Path) -> None:
        (tmp_path / "words").write_text("red")
        ran = run("query", "--batch", tmp_path / "words", "--kind", "smell")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("error: kind 'smell'")
        (tmp_path / "id").write_text("id:999999")
        ran = run("query", "--batch", tmp_path / "id", "--strict")
        assert (ran.code, ran.out, len(ran.skipped)) == (4, "", 1)

    def test_what_is_no_batch(self, here: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").write_bytes(b"\n \n")
        for file, message in ((tmp_path / "empty", "has no queries"), ("red.jpg", "is no text")):
            ran = run("query", "--batch", file)
            assert (ran.code, ran.out) == (2, "")
            assert message in ran.err

    def test_nothing_found(self, here: Path, queries: Path) -> None:
        arguments = ["query", "--batch", queries, "--min-cosine", "1", "--json"]
        assert run(*arguments).ok().records == []
        assert "nothing found" in run(*arguments).err
        assert run(*arguments, "--fail-empty").code == 1


class TestMoreLike:
    def test_an_id_and_its_file_are_the_same_example(self, here: Path) -> None:
        hits = run("query", "red", "--kind", "image", "--json").ok().records
        ids = {Path(hit["path"]).name: hit["id"] for hit in hits}
        by_id = run("more-like", ids["red.jpg"], "--json").ok().records
        by_path = run("more-like", "red.jpg", "--json").ok().records
        assert by_id == by_path
        assert run("more-like", f"id:{ids['red.jpg']}", "--json").ok().records == by_id
        found = {Path(hit["path"]).name for hit in by_id}
        assert not found & {"red.jpg", "copy of red.jpg"}
        assert {"red2.png", "film.mp4"} <= found

    def test_moments_and_sounds(self, here: Path) -> None:
        assert names(run("more-like", "film.mp4@4", "--json"))[0].startswith("red")
        assert names(run("more-like", "low.wav", "--json", "-t", "1")) != ["low.wav"]

    def test_a_number_is_a_file_if_there_is_one(
        self, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = here.parent / "indexes/default"
        shutil.copy(here / "blue.png", tmp_path / "1")
        monkeypatch.chdir(tmp_path)
        found = names(run("more-like", "1", "--index", index, "--kind", "image", "--json"))
        assert "blue.png" not in found, "it is a copy of that, with another name"

    def test_a_file_that_is_away_is_known_by_the_index(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name, colour in (("a.png", RED), ("b.png", RED), ("c.png", BLUE)):
            write_photo(tmp_path / "media" / name, colour, seed=ord(name[0]))
        run("index", "media", "--model", "fake").ok()
        expected = run("more-like", "media/a.png", "--json").ok().records
        (tmp_path / "media").rename(tmp_path / "elsewhere")
        assert run("more-like", "media/a.png", "--json").ok().records == expected
        ran = run("more-like", "media/z.png")
        assert ran.code == 1
        assert "z.png: no such file" in ran.err

    @pytest.mark.parametrize(
        ("example", "message"),
        [
            ("999999", "no vector has the id 999999"),
            ("nothing", "nothing: no such file, and no id"),
            ("red.jpg@5", "red.jpg is a picture: it has no time"),
            ("gone.jpg@5", "gone.jpg@5: no such file, and no id"),
        ],
    )
    def test_what_is_no_example(self, here: Path, example: str, message: str) -> None:
        ran = run("more-like", example)
        assert (ran.code, ran.out) == (2, "")
        assert message in ran.err


def test_filters_and_duplicates_are_left_to_the_search(here: Path) -> None:
    found = names(run("query", "red", "--where", "name glob '*.png'", "--json"))
    assert found
    assert all(name.endswith(".png") for name in found)
    found = names(run("query", "red", "--path", "*.jpg", "--kind", "image", "--json"))
    assert sorted(found) == ["copy of red.jpg", "red.jpg"]
    alone = names(run("query", "red", "--path", "*.jpg", "--dedupe-threshold", "0.99", "--json"))
    assert len(alone) == 1
    wrong = run("query", "red", "--dedupe", "0.99")
    assert (wrong.code, "--dedupe-threshold" in wrong.err) == (2, True)


def test_a_probe_is_asked_like_its_vector(here: Path, tmp_path: Path) -> None:
    vector = picture(here / "blue.png").astype(np.float32)
    fingerprint = FakeEncoder().fingerprint
    Probe(vector, -1.0, 8.0, fingerprint, ("blue", "other"), (3, 3)).save(tmp_path / "blue.probe")
    found = run("query", "--probe", tmp_path / "blue.probe", "--kind", "image", "--json").ok()
    assert names(found)[0] == "blue.png"
    with Index.open(here.parent / "indexes/default") as index:
        hits = index.search(vector, kind="image")
    assert [hit["score"] for hit in found.records] == pytest.approx(
        [hit.score for hit in hits], abs=1e-5
    )


def test_prompts_change_what_is_seen(here: Path) -> None:
    plain = run("query", "red", "--kind", "image", "--json").ok().records
    simple = run("query", "red", "--kind", "image", "--prompts", "simple", "--json").ok().records
    assert {hit["path"] for hit in simple} == {hit["path"] for hit in plain}
    assert [hit["score"] for hit in simple] != [hit["score"] for hit in plain]


def test_heat_maps_need_words(here: Path, tmp_path: Path) -> None:
    for given in (["blue.png"], ["-s", "red"]):
        ran = run("query", *given, "--heatmap", tmp_path / "maps")
        assert ran.code == 2
        assert "--heatmap points at words" in ran.err
