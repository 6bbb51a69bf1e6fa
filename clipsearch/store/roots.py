"""The folders that were indexed, below which the paths of files are kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clipsearch.store import schema, statements
from clipsearch.store.connected import Connected


class Rooted(Connected):
    """The media roots of a catalog. Writing is for the holder of the index's lock only."""

    def roots(self) -> list[Path]:
        """The media roots, where they are now."""
        with self._reading() as db:
            return list(self._roots(db).values())

    def add_root(self, root: Path) -> None:
        """Enter a media root. Roots below it become part of it; their files keep their ids."""
        with self._writing() as db:
            root_id = self._root_id(db, root)
            for inner_id, inner in self._roots(db).items():
                if inner_id == root_id or not inner.is_relative_to(root):
                    continue
                prefix = inner.relative_to(root).as_posix() + "/"
                table = schema.media
                db.execute(
                    sa.update(table)
                    .where(table.c.root_id == inner_id)
                    .values(root_id=root_id, path=sa.literal(prefix) + table.c.path)
                )
                db.execute(sa.delete(schema.roots).where(schema.roots.c.id == inner_id))

    def prune_roots(self, keep: Sequence[Path]) -> None:
        """Forget roots that have no files any more, except those in `keep`."""
        used = sa.select(schema.media.c.root_id)
        with self._writing() as db:
            kept = [id_ for id_, path in self._roots(db).items() if path in keep]
            unused = schema.roots.c.id.not_in(used) & schema.roots.c.id.not_in(kept)
            db.execute(sa.delete(schema.roots).where(unused))

    def _root_id(self, db: Connection, root: Path) -> int:
        for id_, path in self._roots(db).items():
            if path == root:
                return id_
        values = {
            "path": str(root),
            "path_from_index": Path(os.path.relpath(root, self._folder)).as_posix(),
        }
        result = db.execute(sa.insert(schema.roots).values(values))
        return statements.new_id(result)
