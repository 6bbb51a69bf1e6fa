"""The commands that write labels into the index, and ask for them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from clipsearch.engine import Index
from clipsearch.interfaces import tags
from clipsearch.store.store import Store
from tests.e2e.support import BLUE, GREEN, RED, Ran, run, write_film, write_photo

COLOURS = ("--label", "red|scarlet", "--label", "green", "--label", "blue")


def build(folder: Path) -> Path:
    """Four pictures and a film, red, green or blue, and an index of them."""
    for number, colour in enumerate((RED, GREEN, BLUE, RED)):
        write_photo(folder / "media" / f"{number}.png", colour, number)
    write_film(folder / "media" / "films" / "film.mp4", [(RED, [0, 500, 1000, 1500])])
    with Index.create(folder / "index", model="fake:64") as index:
        assert not index.add([folder / "media"]).failures
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return build(tmp_path)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tags"))


def tagged(place: Path) -> dict[str, list[str]]:
    records = run("list", "--index", place / "index", "--json").ok().records
    return {Path(record["path"]).name: record["tags"] for record in records}


def tag(place: Path, *arguments: object) -> Ran:
    return run("tag", *arguments, "--index", place / "index")


def test_labels_are_kept_and_asked_for(place: Path) -> None:
    ran = tag(place, *COLOURS).ok()
    assert "tagged 5, skipped 0" in ran.err
    wanted = {"0.png": "red", "1.png": "green", "2.png": "blue", "3.png": "red", "film.mp4": "red"}
    assert tagged(place) == {name: [label] for name, label in wanted.items()}
    with Index.open(place / "index") as index:
        [*chances] = [
            p for own in index.tags_of(m.id for m in index.media()).values() for _, p in own
        ]
        assert len(chances) == 5
        assert all(p is not None and 0.5 <= p <= 1 for p in chances)
        chosen = index.selected(where="tag = 'red' and kind = 'image'")
        assert [media.path.name for media in chosen] == ["0.png", "3.png"]
    counts = run("tags", "--index", place / "index", "--json").ok().records
    assert counts == [
        {"tag": "red", "files": 3},
        {"tag": "blue", "files": 1},
        {"tag": "green", "files": 1},
    ]


def test_a_search_is_narrowed_by_tags(place: Path) -> None:
    tag(place, *COLOURS).ok()
    ran = run(
        *("query", "red", "--kind", "image", "--where", "tag = 'blue'", "--json"),
        *("--index", place / "index"),
    ).ok()
    assert [Path(record["path"]).name for record in ran.records] == ["2.png"]


def test_only_what_is_likely_enough_is_kept(place: Path) -> None:
    alike = ("--label", "red", "--label", "a red door", "--label", "red things")
    said = run("classify", *alike, "-t", "1", "--index", place / "index", "--json").ok().records
    chances = sorted(record["probability"] for record in said)
    least = (chances[2] + chances[3]) / 2
    assert "tagged 2" in tag(place, *alike, "--min-probability", least).ok().err
    kept = {name for name, own in tagged(place).items() if own}
    assert kept == {Path(r["path"]).name for r in said if r["probability"] > least}
    tag(place, *COLOURS, "-t", "3", "--min-probability", "0", "--replace").ok()
    assert all(sorted(own) == ["blue", "green", "red"] for own in tagged(place).values())
    best = {name: own[0] for name, own in tagged(place).items()}
    assert best["1.png"] == "green"


def test_tags_by_hand(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "FILES_AT_ONCE", 2)  # written while the next are read
    media = place / "media"
    assert (
        "tagged 2, skipped 0"
        in tag(place, "--add", "  my  dog ", media / "0.png", media / "films").err
    )
    assert "tagged 5" in tag(place, "--add", "it's", "--add", "日本", media).ok().err
    own = tagged(place)
    assert sorted(own["film.mp4"]) == ["it's", "my dog", "日本"]
    assert sorted(own["1.png"]) == ["it's", "日本"]
    tag(place, *COLOURS, media / "1.png").ok()
    assert sorted(tagged(place)["1.png"]) == ["green", "it's", "日本"]
    tag(place, *COLOURS, "--replace", "--where", "kind = 'image'").ok()
    own = tagged(place)
    assert own["1.png"] == ["green"]
    assert sorted(own["film.mp4"]) == ["it's", "my dog", "日本"]
    assert "tagged 1" in tag(place, "--add", "x", "--where", """tag = 'it''s'""").ok().err
    assert "x" in tagged(place)["film.mp4"]


def test_tags_are_removed(place: Path) -> None:
    media = place / "media"
    for name in ("a", "b", "c"):
        tag(place, "--add", name, media).ok()
    assert (
        "removed 2 tags" in tag(place, "--remove", "a", "b", "--where", "path glob 'films/*'").err
    )
    assert tagged(place)["film.mp4"] == ["c"]
    assert tagged(place)["0.png"] == ["a", "b", "c"]
    tag(place, "--remove", "c").ok()
    images = {name: own for name, own in tagged(place).items() if name != "film.mp4"}
    assert list(images.values()) == [["a", "b"]] * 4
    assert tagged(place)["film.mp4"] == []
    assert "removed 8 tags" in tag(place, "--remove").ok().err
    assert run("tags", "--index", place / "index", "--json").ok().records == []


def test_what_is_not_indexed_is_told(place: Path) -> None:
    new = write_photo(place / "new.png", BLUE, 9)
    write_photo(place / "media" / "1.png", RED, 10)  # it has changed
    ran = tag(
        place, "--add", "x", new, place / "media" / "1.png", place / "media" / "0.png", "--strict"
    )
    assert ran.code == 4
    assert len(ran.skipped) == 2
    assert all("it is not indexed as it is now: index it first" in line for line in ran.skipped)
    assert tagged(place)["0.png"] == ["x"]
    (place / "empty").mkdir()
    nothing = tag(place, "--add", "x", place / "empty").ok()
    assert nothing.skipped == [
        f"skipping {place / 'empty'}: nothing in it is indexed: index it first"
    ]
    missing = tag(place, "--add", "x", place / "none.png")
    assert (missing.code, "no such file or folder" in missing.err) == (2, True)


def test_a_folder_beside_remove_is_no_tag(place: Path) -> None:
    tag(place, "--add", "x", place / "media").ok()
    ran = tag(place, "--remove", "x", place / "media" / "films")
    assert (ran.code, "choose the files with --where" in ran.err) == (2, True), ran.err
    assert all(own == ["x"] for own in tagged(place).values())
    assert "removed 0 tags" in tag(place, "--remove", "none").ok().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give one of --labels"),
        (["--add", "x", "--remove"], "give one of --labels"),
        ([*COLOURS, "--add", "x"], "give one of --labels"),
        (["--add", "x"], "name the files that get the tag"),
        (["--add", " ", "x.png"], "the tag is empty"),
        (["--remove", "--replace"], "--replace is for --labels and --add"),
        ([*COLOURS, "x.png", "--where", "kind = 'image'"], "give one of them"),
        (["--add", "x\0y", "--where", "kind = 'image'"], "use a text"),
    ],
)
def test_wrong_options_are_told(untouched: Path, options: list[str], message: str) -> None:
    ran = tag(untouched, *options)
    assert (ran.code, message in ran.err) == (2, True), ran.err


def test_a_writer_that_is_waited_for(untouched: Path) -> None:
    place = untouched
    store = Store.open(place / "index")
    with store.writing():
        ran = tag(place, "--add", "x", place / "media", "--no-wait")
    store.close()
    assert ran.code == 3
    assert tagged(place)["0.png"] == []


def test_a_list_for_spreadsheets_names_tags_in_one_cell(place: Path) -> None:
    tag(place, "--add", "a", "--add", "b, c", place / "media" / "0.png").ok()
    ran = run("list", "--index", place / "index", "--csv").ok()
    rows = {Path(row["path"]).name: row["tags"] for row in csv.DictReader(io.StringIO(ran.out))}
    assert (rows["0.png"], rows["1.png"]) == ("a, b, c", "")
