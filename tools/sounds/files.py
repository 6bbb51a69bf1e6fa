"""Which file of which package holds which sound: training.txt, validation.txt and test.txt.

A package at the margin, below it `class: patterns`, separated by blanks; longer ones go on in the
next line, further in. A pattern is matched with the end of a path. Files whose names leave doubt
are not listed.
"""

from __future__ import annotations

from pathlib import Path

Files = dict[str, dict[str, str]]  # package: {class: patterns}


def read_files(path: Path) -> Files:
    """The lists of one text file."""
    files: Files = {}
    package = label = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        margin = len(line) - len(line.lstrip())
        if margin == 0:
            package = text
            files[package] = {}
        elif margin == 4:
            label, _, patterns = text.partition(":")
            files[package][label] = patterns.strip()
        else:
            files[package][label] += " " + text
    return files


_HERE = Path(__file__).parent
TRAINING = read_files(_HERE / "training.txt")
VALIDATION = read_files(_HERE / "validation.txt")
TEST = read_files(_HERE / "test.txt")
