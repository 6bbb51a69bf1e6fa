"""How the built-in sound classifier is trained and measured: see README.md."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
