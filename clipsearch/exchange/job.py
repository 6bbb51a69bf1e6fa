"""One export: what is written, of which index, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipsearch.exchange.places import Note
from clipsearch.exchange.rows import IndexRows, Record, RowBlock
from clipsearch.ingest import Progress
from clipsearch.store.manifest import Manifest

if TYPE_CHECKING:
    from clipsearch.exchange.columns import Columns


@dataclass(frozen=True, slots=True)
class Job:
    """What a format writes, block by block."""

    rows: IndexRows
    columns: Columns  # of the records as `renamed` gives them
    renamed: Callable[[Record], Record]
    manifest: Manifest
    overwrite: bool
    on_progress: Callable[[Progress], None]

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.manifest.dim_of(self.rows.source)

    def blocks(self) -> Iterator[RowBlock]:
        """The rows with their records as the format calls them."""
        done = 0
        for block in self.rows.blocks():
            yield RowBlock(block.vectors, list(map(self.renamed, block.records)))
            done += len(block.records)
            self.on_progress(Progress(done, len(self.rows), done))

    def note(self, rows: int) -> Note:
        """What the export says of itself."""
        manifest, audio = self.manifest, self.manifest.audio
        model, fingerprint = manifest.encoder, manifest.fingerprint
        if self.rows.source == "audio" and audio is not None:
            model, fingerprint = audio.encoder, audio.fingerprint
        return Note(model, fingerprint, self.dim, self.rows.kinds, rows)
