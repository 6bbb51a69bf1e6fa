"""The progress line of `index`, on stderr, only where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from clipsearch.ingest import Progress


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None]]:
    """A function to call with each `Progress`; it draws files, units and their rate."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("indexing"),
        BarColumn(),
        TextColumn("{task.completed}/{task.fields[files]} files  {task.fields[units]} units"),
        TextColumn("{task.fields[rate]:.1f} units/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
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

        yield update
