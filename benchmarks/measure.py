"""Processes as a whole: CPU seconds, peak memory, and JSON lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """cpu_seconds: with the processes that it waited for. peak_rss_mb: of the largest of them."""

    cpu_seconds: float
    wall_seconds: float
    peak_rss_mb: float
    stdout: str


def run(
    *command: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Run:
    """Run one process to its end; CPU time and peak memory as the system accounts them.

    environment: variables beside those that there are.
    """
    with tempfile.TemporaryFile() as errors:
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdout is not None
        stdout = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.stdout.close()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-2000:]
            sys.exit(f"{' '.join(command)} exited with {process.returncode}\n{said}")
    cpu = usage.ru_utime + usage.ru_stime
    return Run(cpu, time.monotonic() - start, usage.ru_maxrss / 1024, stdout)


def in_turns(count: int, *commands: tuple[str, ...]) -> list[Run]:
    """For each command the run with the least CPU time of `count`, the commands taking turns.

    The least is what the work costs without the neighbours' share; turns make drift hit all.
    """
    runs = [[run(*command) for command in commands] for _ in range(count)]
    return [min(column, key=lambda r: r.cpu_seconds) for column in zip(*runs, strict=True)]


def report(**figures: object) -> None:
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
    print(json.dumps(rounded), flush=True)
