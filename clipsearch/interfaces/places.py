"""What the environment says: where indexes and the cache live, and whether hubs may be asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

INDEXES = "indexes"
DEFAULT_NAME = "default"
VARIABLE = "CLIPSEARCH_INDEX"
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def index_folder(given: str | None, environment: Mapping[str, str], here: Path) -> Path:
    """The folder meant by `given`, else by $CLIPSEARCH_INDEX, else `indexes/default`.

    A text with a separator, or `.`, or `..` is a path; a bare word is a name under `indexes`.
    Names are looked up in `here` and then in its parents, as git finds .git; one that is nowhere
    lies in `here`.
    """
    chosen = given or environment.get(VARIABLE) or DEFAULT_NAME
    path = Path(chosen).expanduser()
    if path.is_absolute() or len(path.parts) != 1 or os.sep in chosen or chosen in (".", ".."):
        return here / path
    for folder in (here, *here.parents):
        candidate = folder / INDEXES / chosen
        if (candidate / "manifest.json").is_file():
            return candidate
    return here / INDEXES / chosen


def cache_folder(environment: Mapping[str, str]) -> Path | None:
    """Where what is worth remembering on this machine lies: in the user's cache, if any."""
    cache = Path(environment.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # as the XDG base directory specification has it
        try:
            cache = Path("~/.cache").expanduser()
        except RuntimeError:  # a user without a home
            return None
    return cache / "clipsearch"


def is_offline(environment: Mapping[str, str]) -> bool:
    """Whether the environment forbids asking model hubs."""
    values = (environment.get(name, "").lower() for name in OFFLINE_VARIABLES)
    return any(value in ("1", "true", "yes", "on") for value in values)
