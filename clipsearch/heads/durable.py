"""Writing what torch saves so that a file is the old one or the new one, never a part."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipsearch.textfiles import write_durably


def save_durably(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` for torch.load, over what is at `path`; on any error that stays as it was.

    Raises OSError.
    """
    content = io.BytesIO()  # of a file that cannot be written torch would not say why
    torch.save(values, content)
    write_durably(path, content.getbuffer())
