"""Writing what torch saves so that a file is the old one or the new one, never a part."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def save_durably(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` for torch.load, over what is at `path`; on any error that stays as it was.

    Raises OSError.
    """
    content = io.BytesIO()  # of a file that cannot be written torch would not say why
    torch.save(values, content)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
