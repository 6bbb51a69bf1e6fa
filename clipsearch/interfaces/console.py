"""Writing to the two streams: results to stdout, everything else to stderr, safely."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

_CONTROL = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SHORT = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def prepare_streams() -> None:
    """UTF-8 whatever the locale says, and somewhere to write where the caller closed a stream."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)  # stays open as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            errors = "surrogateescape" if name == "stdout" else "backslashreplace"
            stream.reconfigure(encoding="utf-8", errors=errors)  # a name may have any bytes


def escaped(text: str) -> str:
    """Text that stays on its line and cannot steer a terminal; backslashes are doubled."""
    return _CONTROL.sub(lambda m: _SHORT.get(m[0], f"\\x{ord(m[0]):02x}"), text)


def write(text: str) -> None:
    """Results."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say(message: str) -> None:
    """Everything that is not a result."""
    print(message, file=sys.stderr, flush=True)
