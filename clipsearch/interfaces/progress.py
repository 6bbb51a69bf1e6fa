"""The progress line of what takes long, on stderr, only where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from clipsearch.ingest import Progress
from clipsearch.interfaces.console import say


@dataclass(frozen=True, slots=True)
class Bar:
    """`update` draws files, units and their rate; `say` prints a line above the bar."""

    update: Callable[[Progress], None]
    say: Callable[[str], None]


@contextmanager
def progress_bar(
    doing: str = "indexing", counted: tuple[str, str] = ("files", "units")
) -> Iterator[Bar]:
    """A bar on a terminal; elsewhere only what is said. `counted`: what is done, and its parts."""
    if not sys.stderr.isatty():
        yield Bar(lambda _: None, say)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichBar
    from rich.text import Text

    console = Console(stderr=True)
    bar = RichBar(
        TextColumn(doing),
        BarColumn(),
        TextColumn("{task.completed}/{task.fields[files]} " + counted[0]),
        TextColumn("{task.fields[units]} " + counted[1]),
        TextColumn("{task.fields[rate]:.1f} " + counted[1] + "/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task("index", total=None, files="?", units=0, rate=0.0)

        def update(progress: Progress) -> None:
            elapsed = bar.tasks[0].elapsed or 0.0
            bar.update(
                task,
                completed=progress.done,
                total=progress.total,
                files=progress.total if progress.total is not None else "?",
                units=progress.units,
                rate=progress.units / elapsed if elapsed else 0.0,
            )

        yield Bar(update, lambda line: console.print(Text(line), soft_wrap=True))
