"""The progress line of what takes long, on stderr, only where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from clipsearch.ingest import Progress
from clipsearch.interfaces.console import say

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Bar:
    """`update` draws what is done, its parts and their rate; `say` prints a line above the bar;
    `stage` gives an `update` for another thing that is done and counted, before or after.
    """

    update: Callable[[Progress], None]
    say: Callable[[str], None]
    stage: Callable[[str, tuple[str, str]], Callable[[Progress], None]]


@contextmanager
def progress_bar(
    doing: str = "indexing", counted: tuple[str, str] = ("files", "units")
) -> Iterator[Bar]:
    """A bar on a terminal; elsewhere only what is said. `counted`: what is done, and its parts."""
    if not sys.stderr.isatty():
        yield Bar(lambda _: None, say, lambda *_: lambda _: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichBar

    console = Console(stderr=True)
    bar = RichBar(
        TextColumn("{task.fields[doing]}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.fields[files]} {task.fields[whole]}"),
        TextColumn("{task.fields[units]} {task.fields[part]}"),
        TextColumn("{task.fields[rate]:.1f} {task.fields[part]}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        whole, part = counted
        start: dict[str, Any] = {"files": "?", "units": 0, "rate": 0.0}
        task = bar.add_task("", total=None, doing=doing, whole=whole, part=part, **start)

        def stage(name: str, counted: tuple[str, str]) -> Callable[[Progress], None]:
            def update(progress: Progress) -> None:
                if bar.tasks[0].fields["doing"] != name:
                    whole, part = counted
                    bar.reset(task, total=None, doing=name, whole=whole, part=part, **start)
                elapsed = bar.tasks[0].elapsed or 0.0
                bar.update(
                    task,
                    completed=progress.done,
                    total=progress.total,
                    files=progress.total if progress.total is not None else "?",
                    units=progress.units,
                    rate=progress.units / elapsed if elapsed else 0.0,
                )

            return update

        say_above = partial(_print, console)
        yield Bar(stage(doing, counted), say_above, stage)


def _print(console: Console, line: str) -> None:
    from rich.text import Text

    console.print(Text(line), soft_wrap=True)
