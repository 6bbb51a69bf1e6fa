"""What the commands that search have in common: an index that is opened, asked and shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from clipsearch.errors import UsageError
from clipsearch.interfaces.batch import Batch
from clipsearch.interfaces.console import say
from clipsearch.interfaces.heatmaps import check_model
from clipsearch.interfaces.options import EXIT_EMPTY, EXIT_SKIPPED
from clipsearch.interfaces.showing import Showing

if TYPE_CHECKING:
    from clipsearch.search.asked import SearchOptions
    from clipsearch.search.query import Query
    from clipsearch.search.rerank import Rerank


class TermsCommand(TyperCommand):
    """A command whose arguments may look like options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As every command does; the error for an unknown option also says what to write."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if type(error).__name__ != "NoSuchOption":  # of click, or of typer's copy of it
                raise
            ctx.fail(
                f"{error}. To subtract, write the minus apart: horse - grass. Words that start "
                f"with a dash go behind --: {ctx.command_path} -- -5"
            )
            raise


@dataclass(frozen=True, slots=True)
class Look:
    """An index, and how it is searched."""

    folder: Path
    device: str
    options: SearchOptions

    def ask(self, asked: Query, showing: Showing, *, title: str) -> None:
        """Search for a query and show what is found. `title`: how it is called."""
        from clipsearch.engine import Index

        if showing.heatmap is not None and not asked.words:
            raise UsageError("--heatmap points at words: the query has none")
        showing.keep([Path(term.content) for term in asked.terms if term.is_file])
        with Index.open(self.folder, device=self.device, on_notice=say) as index:
            if showing.heatmap is not None:
                check_model(index.encoder)
            hits = index.search(asked, **self.options)
            showing.show(index, hits, title=title, words=asked.words)

    def ask_probe(self, file: Path, showing: Showing) -> None:
        """Search for what a probe has learned."""
        from clipsearch.engine import Index
        from clipsearch.search.probe import Probe

        if showing.heatmap is not None:
            raise UsageError("--heatmap points at words: a probe has none")
        showing.keep([file])
        probe = Probe.load(file)
        with Index.open(self.folder, device=self.device, on_notice=say) as index:
            hits = index.search(probe, **self.options)
            showing.show(index, hits, title=probe.classes[0])

    def ask_batch(self, batch: Batch, *, fail_empty: bool, strict: bool) -> None:
        """Search for many queries and print what is found; exits as the options want it."""
        from clipsearch.engine import Index

        with Index.open(self.folder, device=self.device, on_notice=say) as index:
            batch.ask(index, self.options)
        if not batch.hits:
            say("nothing found")
        if batch.skipped:
            lines = f"{batch.skipped} line{'' if batch.skipped == 1 else 's'}"
            say(f"answered {batch.answered} queries, skipped {lines}")
        if strict and batch.skipped:
            raise typer.Exit(EXIT_SKIPPED)
        if fail_empty and not batch.hits:
            raise typer.Exit(EXIT_EMPTY)


def rerank_of(head: str | None, weights: Path | None, candidates: int) -> Rerank | None:
    """What the options of `--rerank` ask for; None if they are silent. Raises UsageError."""
    from clipsearch.heads.choose import PoolingSpec
    from clipsearch.search.rerank import Rerank

    if head is None:
        if weights is not None:
            raise UsageError("--pooling-weights is for --rerank: an index knows its head's file")
        return None
    spec = PoolingSpec(head, weights)  # refuses a head without weights
    if spec.weights is None:
        raise UsageError("--rerank mean: the mean is what videos are ranked by already; use tight")
    return Rerank(spec.weights, head, candidates)
