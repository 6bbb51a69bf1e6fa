"""Where in pictures it is: maps on composites, boxes against brute force, overlays, the command."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch.encoders import Encoder, load_encoder, parse_spec
from clipsearch.encoders.fake import FakeEncoder
from clipsearch.errors import EncoderError, MediaError, UsageError
from clipsearch.interfaces import heatmaps
from clipsearch.locating import Locator, best_box
from clipsearch.media.overlay import overlay
from clipsearch.types import Hit
from tests.composites import composites
from tests.e2e.support import run
from tests.media_files import number_of, write_video

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(parse_spec("builtin"), device="cpu")


def test_the_mass_of_a_map_lies_on_the_half_with_the_thing(encoder: Encoder) -> None:
    """Ten composites of two photos: of 20 names 19 at least on their own halves."""
    things = Locator(lambda: encoder)
    right, boxes = 0, 0
    for composite in composites():
        places = encoder.encode_patches(composite.pixels)
        maps = [things.relevance_of(places, name) for name in (composite.left, composite.right)]
        middle = maps[0].shape[1] // 2
        right += maps[0][:, :middle].sum() > maps[0][:, middle:].sum()
        right += maps[1][:, middle:].sum() > maps[1][:, :middle].sum()
        for (left, top, end, bottom), begin in zip(map(best_box, maps), (0.0, 0.5), strict=True):
            inside = max(0.0, min(end, begin + 0.5) - max(left, begin)) * (bottom - top)
            boxes += inside > 0.5 * (end - left) * (bottom - top)
    assert right >= 19
    assert boxes >= 18  # of 20 lie for the greater part on the half


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture with red on the left and blue on the right, another, and an index of both."""
    media = tmp_path / "media"
    media.mkdir()
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, :40], halves[:, 40:] = RED, BLUE
    Image.fromarray(halves).save(media / "halves.png")
    Image.fromarray(np.full((50, 50, 3), 40, np.uint8)).save(media / "grey \n one.png")
    with clipsearch.Index.create(tmp_path / "index", model="fake") as index:
        index.add([media])
    return tmp_path


def test_a_map_lies_over_the_picture(folder: Path) -> None:
    with clipsearch.Index.open(folder / "index") as index:
        [hit] = [h for h in index.search("red", kind="image") if h.path.name == "halves.png"]
        red, blue, tree = (index.locate(hit, text) for text in ("red", "blue", "a tree"))
        assert red.dtype == np.float32
        assert red.shape == blue.shape == (8, 16)
        assert red[:, :8].min() > 0.9 > 0.1 > red[:, 8:].max() >= 0
        assert blue[:, 8:].min() > 0.9 > 0.1 > blue[:, :8].max()
        assert tree.max() < 0.5
        assert best_box(red) == (0.0, 0.0, 0.5, 1.0)
        assert best_box(blue) == (0.5, 0.0, 1.0, 1.0)


def test_everyday_things_compete_unless_they_are_what_is_asked_for() -> None:
    encoder = load_encoder(parse_spec("fake"))
    locator = Locator(lambda: encoder)
    red = np.full((30, 30, 3), RED, np.uint8)
    assert locator.relevance(red, "a red car").min() > 0.9  # one of the things
    assert locator.relevance(red, "a blue car").max() < 0.1


def test_what_has_no_map_says_why(folder: Path, encoder: Encoder) -> None:
    with clipsearch.Index.open(folder / "index") as index:
        hit = index.search("red", kind="image")[0]
        with pytest.raises(UsageError, match="give words"):
            index.locate(hit, " \n")
        with pytest.raises(UsageError, match="kind text has no picture"):
            index.locate(Hit(hit.path, "text", 0.5, 0.0, 1.0, text="hello"), "red")
        with pytest.raises(MediaError):
            index.locate(Hit(folder / "gone.png", "image", 0.5), "red")

    class Blind:
        spec = parse_spec("fake")
        supports_text = True

        def encode_text(self, texts: list[str]) -> np.ndarray:
            raise AssertionError("before the picture")

        def encode_patches(self, pixels: np.ndarray) -> np.ndarray:
            raise EncoderError("no places")

    with pytest.raises(EncoderError, match="no places"):
        Locator(Blind).relevance(np.zeros((9, 9, 3), np.uint8), "red")  # type: ignore[arg-type]


def test_the_picture_of_a_window_of_a_video_is_of_its_middle(tmp_path: Path) -> None:
    video, fake = write_video(tmp_path / "v.mp4"), load_encoder(parse_spec("fake"))
    pixels = Locator(lambda: fake).picture(Hit(video, "video", 0.5, 0.0, 1.0))
    assert number_of(pixels) == 12


# the best box


def log_odds(chances: np.ndarray) -> np.ndarray:
    chances = np.clip(chances.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(chances / (1 - chances))


def best_by_force(chances: np.ndarray) -> float:
    gain = log_odds(chances) - log_odds(chances).mean()
    rows, columns = gain.shape
    return max(
        float(gain[top:bottom, left:right].sum())
        for top, bottom in itertools.combinations(range(rows + 1), 2)
        for left, right in itertools.combinations(range(columns + 1), 2)
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (4, 7), (7, 4), (5, 5)])
def test_no_rectangle_is_better_than_the_best_box(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        chances = (rng.random(shape) ** rng.integers(1, 9)).astype(np.float32)
        box = np.array(best_box(chances)) * np.array([*shape[::-1], *shape[::-1]])
        left, top, right, bottom = np.rint(box).astype(int)
        np.testing.assert_allclose(box, [left, top, right, bottom], atol=1e-9)
        gain = log_odds(chances) - log_odds(chances).mean()
        found = gain[top:bottom, left:right]
        assert found.size
        assert found.sum() == pytest.approx(best_by_force(chances), abs=1e-6)


def test_boxes_of_odd_maps() -> None:
    assert best_box(np.full((3, 4), 0.2, np.float32)) == (0, 0, 1, 1)
    chances = np.zeros((4, 10), np.float32)
    chances[1:3, 6:9] = 1.0
    assert best_box(chances) == (0.6, 0.25, 0.9, 0.75)
    for bad in (np.zeros(3), np.zeros((0, 3)), np.full((2, 2), np.nan)):
        with pytest.raises(UsageError, match="need finite numbers"):
            best_box(bad.astype(np.float32))


# pictures of maps


def test_an_overlay_warms_the_place_and_frames_the_box() -> None:
    grey = np.full((100, 200, 3), 128, np.uint8)
    chances = np.zeros((4, 8), np.float32)
    chances[:, 6:] = 0.9
    with Image.open(io.BytesIO(overlay(grey, chances, (0.75, 0.0, 1.0, 1.0)))) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (200, 100)
        drawn = np.asarray(picture).astype(int)
    cold, hot = drawn[50, 50], drawn[50, 180]
    assert hot[0] > cold[0] + 60  # red
    assert hot[2] < 100
    assert drawn[2:98, 150:154].max(axis=(1, 2)).min() > 200  # the white line of the frame
    assert np.ptp(drawn[20:80, 20:120], axis=(0, 1)).max() < 8  # nothing else is drawn


def test_a_faint_map_looks_faint() -> None:
    grey = np.full((50, 50, 3), 128, np.uint8)
    faint, none = (np.full((4, 4), chance, np.float32) for chance in (0.04, 0.0))
    pictures = []
    for chances in (faint, none):
        with Image.open(io.BytesIO(overlay(grey, chances, (0, 0, 1, 1)))) as picture:
            pictures.append(np.asarray(picture).astype(int)[10:40, 10:40])
    assert np.abs(pictures[0] - pictures[1]).max() < 40


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
def test_tiny_pictures_can_be_drawn_on(size: tuple[int, int]) -> None:
    pixels = np.zeros((*size, 3), np.uint8)
    chances = np.ones((1, 1), np.float32)
    with Image.open(io.BytesIO(overlay(pixels, chances, (0.2, 0.2, 0.3, 0.3)))) as picture:
        assert picture.size == size[::-1]


# the option


def test_heat_maps_are_written_by_rank(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder / "maps"
    heatmaps.check(target)
    with clipsearch.Index.open(folder / "index") as index:
        hits = index.search("red", kind="image")
        heard = Hit(hits[0].path, "audio", 0.5, 0.0, 5.0)
        gone = Hit(folder / "gone\x1b.png", "image", 0.5)
        moment = Hit(hits[0].path, "frame", 0.5, 1.0, 3.0, 2.25)
        heatmaps.write(index, [*hits, heard, gone, moment], "red", target)
        with Image.open(hits[0].path) as picture:
            drawn = overlay(np.asarray(picture), index.locate(hits[0], "red"), (0, 0, 0.5, 1))
    names = sorted(path.name for path in target.iterdir())
    assert names == ["001-halves.png.jpg", "002-grey \n one.png.jpg", "005-halves.png@2.2s.jpg"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "gone\\x1b.png: " in said.err
    assert said.err.endswith("3 heat maps in " + str(target) + "; 1 of the hits is heard or said\n")
    assert (target / names[0]).read_bytes() == drawn  # with the box on the left half
    with pytest.raises(UsageError, match="not empty"):
        heatmaps.check(target)


def test_no_folder_is_made_for_no_heat_map(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder / "maps"
    with clipsearch.Index.open(folder / "index") as index:
        heatmaps.write(index, [Hit(folder / "a.wav", "audio", 0.5, 0.0, 5.0)], "red", target)
    assert not target.exists()
    assert capsys.readouterr().err == "0 heat maps; 1 of the hits is heard or said\n"


def test_a_model_without_places_is_refused_before_the_search(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeEncoder, "supports_patches", False)
    ran = run("query", "red", "--index", folder / "index", "--heatmap", folder / "maps")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("error: --heatmap: the model fake:64 has no features of places: use")
    assert not (folder / "maps").exists()


def test_no_box_is_drawn_where_nothing_matches(folder: Path) -> None:
    target = folder / "maps"
    with clipsearch.Index.open(folder / "index") as index:
        hits = index.search("red", kind="image")
        grey = [hit for hit in hits if hit.path.name.startswith("grey")]
        assert index.locate(grey[0], "white").max() < heatmaps.LEAST_RELEVANCE
        heatmaps.write(index, grey, "white", target)
    [written] = target.iterdir()
    with Image.open(written) as picture:
        assert np.ptp(np.asarray(picture).astype(int), axis=(0, 1)).max() < 12


def test_folders_that_cannot_take_heat_maps(tmp_path: Path) -> None:
    heatmaps.check(None)
    heatmaps.check(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        heatmaps.check(tmp_path / "file")
    with pytest.raises(UsageError, match="there is no folder"):
        heatmaps.check(tmp_path / "no" / "maps")
