"""Run the command line, in a process of its own or in this one, and make coloured media for it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch import Index
from clipsearch.interfaces.cli import main
from tests.media_files import HEIGHT, WIDTH, VideoPlan, write_video

COMMAND = Path(sys.executable).with_name("clipsearch")
RED, GREEN, BLUE = (230, 20, 20), (20, 230, 20), (20, 20, 230)
SHADES = 40
ALL_KINDS = ("--kind", "image", "--kind", "frame", "--kind", "video")
# The command line with readers that pause and publications every so many seconds, so that a test
# can meet a run in the middle, and many publications and merges in little time. READ grows by a
# byte with each file that was read.
READ = "read.log"
SLOW_COMMAND = f"""
import sys, time
from pathlib import Path
import clipsearch.ingest.reading as reading, clipsearch.ingest.flow as flow
pause, flow.PUBLISH_SECONDS = float(sys.argv[1]), float(sys.argv[2])
read = reading.open_media
def read_slowly(*arguments, **more):
    time.sleep(pause)
    found = read(*arguments, **more)
    with Path("{READ}").open("ab") as log:
        log.write(b".")
    return found
reading.open_media = read_slowly
from clipsearch.interfaces.cli import main
main(sys.argv[3:])
"""

_started: list[subprocess.Popen[str]] = []


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """What `--json` printed."""
        found = json.loads(self.out)
        assert isinstance(found, list)
        return found

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def skipped(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("skipping ")]

    def ok(self) -> Ran:
        assert self.code == 0, self
        return self


def run(*arguments: object) -> Ran:
    """Run the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
            code: Any = 0
        except SystemExit as stop:
            code = stop.code or 0
    assert isinstance(code, int), code
    return Ran(code, out.getvalue(), err.getvalue())


def spawn(*arguments: object, cwd: Path, env: dict[str, str] | None = None) -> Ran:
    """Run the installed command to its end. Output that is no UTF-8 fails."""
    return end(_start([str(COMMAND), *map(str, arguments)], cwd, env))


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """Start the installed command in a process group of its own."""
    return _start([str(COMMAND), *map(str, arguments)], cwd, None)


def start_slowly(
    *arguments: object, cwd: Path, pause: float, publish: float = 3.0
) -> subprocess.Popen[str]:
    """Start the command with `pause` seconds before each file that is read, and READ in `cwd`."""
    head = [sys.executable, "-c", SLOW_COMMAND, str(pause), str(publish)]
    return _start([*head, *map(str, arguments)], cwd, None)


def end(process: subprocess.Popen[str], *, timeout: float = 60) -> Ran:
    """Wait for a started command."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return Ran(process.returncode, out, err)


def end_all() -> None:
    """Kill what tests started and did not wait for."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout is not None and not process.stdout.closed:
            process.communicate()


def _start(command: list[str], cwd: Path, env: dict[str, str] | None) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=None if env is None else {**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )
    _started.append(process)
    return process


def contents(folder: Path) -> dict[str, Any]:
    """Every unit's score for a query, by path, kind and time; and the number of live rows."""
    with Index.open(folder) as index:
        status = index.status()
        paths = [str(media.path) for media in index.media()]
    hits = run(
        "query", "red", "-t", "100000", "--merge-gap", "0", *ALL_KINDS, "--index", folder, "--json"
    )
    keys = [(hit["path"], hit["kind"], hit["start"]) for hit in hits.ok().records]
    assert len(set(keys)) == len(keys)
    assert len(set(paths)) == len(paths)
    return {
        "scores": {key: hit["score"] for key, hit in zip(keys, hits.records, strict=True)},
        "paths": sorted(paths),
        "rows": status.rows - status.dead_rows,
    }


def media_ids(folder: Path) -> dict[str, int]:
    """Media id by path, each path once."""
    with Index.open(folder) as index:
        media = list(index.media())
    assert len({item.path for item in media}) == len(media)
    return {item.relative: item.id for item in media}


def locked(index: Path) -> bool:
    """Whether a process is writing to the index."""
    lock = filelock.FileLock(index / "lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def write_photo(
    path: Path, colour: tuple[int, int, int], seed: int = 0, size: tuple[int, int] = (48, 40)
) -> Path:
    """A picture of one colour with some noise, another one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-SHADES, SHADES, (size[1], size[0], 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_photos(folder: Path, count: int) -> list[Path]:
    """`count` small JPEG files of three colours, a few folders deep."""
    colours = (RED, GREEN, BLUE)
    return [
        write_photo(folder / f"{n % 7}" / f"photo {n}.jpg", colours[n % 3], n) for n in range(count)
    ]


def write_film(
    path: Path, parts: list[tuple[tuple[int, int, int], list[int]]], plan: VideoPlan | None = None
) -> Path:
    """A video of (colour, presentation times in milliseconds) parts; no two frames are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [time for _, part in parts for time in part]
    colours = [colour for colour, part in parts for _ in part]
    given = plan or VideoPlan()
    plan = VideoPlan(
        times=tuple(times), rotation=given.rotation, container_options=given.container_options
    )
    return write_video(path, plan, (_textured(c, n) for n, c in enumerate(colours)))


def _textured(colour: tuple[int, int, int], number: int) -> NDArray[np.uint8]:
    picture = np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
    left = 16 * number % WIDTH
    picture[16:48, left : left + 16] = (128, 128, 128)
    return picture
