"""Labels of files, each maybe with a probability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clipsearch.errors import UsageError
from clipsearch.store import schema, statements
from clipsearch.store.connected import Connected

Tag = tuple[str, float | None]  # its text, and how probable it is; None: given by hand

LONGEST_TAG = 500  # characters


class Tagging(Connected):
    """The tags of a catalog. Writing is for the holder of the index's lock only."""

    def set_tags(self, media_ids: Mapping[int, Sequence[Tag]], *, replace: bool) -> None:
        """Give files tags, by media id; a tag that a file has gets the new probability. Ids that
        are not there are passed over.

        replace: take all others from these files. Raises UsageError for a tag that is no text.
        """
        for own in media_ids.values():
            for tag, probability in own:
                check_tag(tag, probability)
        with self._writing() as db:
            for chunk in statements.chunks(_plain(media_ids)):
                here = schema.media.c.id.in_(chunk)
                there = db.execute(sa.select(schema.media.c.id).where(here)).scalars().all()
                _put(db, {id_: dict(media_ids[id_]) for id_ in there}, replace=replace)

    def remove_tags(
        self, media_ids: Iterable[int] | None = None, tags: Iterable[str] | None = None
    ) -> None:
        """Take tags from files; None: from all files, or all tags."""
        table = schema.tags
        statement = sa.delete(table)
        texts = None if tags is None else sorted(set(tags))
        with self._writing() as db:
            for own in [None] if texts is None else statements.chunks(texts):
                named = statement if own is None else statement.where(table.c.tag.in_(own))
                if media_ids is None:
                    db.execute(named)
                    continue
                for chunk in statements.chunks(_plain(media_ids)):
                    db.execute(named.where(table.c.media_id.in_(chunk)))

    def tags_of(self, ids: Iterable[int]) -> dict[int, list[Tag]]:
        """The tags of files that have some, by media id, most probable first."""
        table = schema.tags
        found: dict[int, list[Tag]] = {}
        with self._reading() as db:
            for chunk in statements.chunks(_plain(ids)):
                for row in db.execute(sa.select(table).where(table.c.media_id.in_(chunk))):
                    found.setdefault(row.media_id, []).append(_tag(row.tag, row.probability))
        for own in found.values():
            own.sort(key=lambda tag: (-(2 if tag[1] is None else tag[1]), tag[0]))
        return found

    def tag_counts(self) -> dict[str, int]:
        """How many files have each tag, in the order of the tags."""
        query = sa.select(schema.tags.c.tag, sa.func.count()).group_by(schema.tags.c.tag)
        with self._reading() as db:
            found = {_tag(row[0], None)[0]: int(row[1]) for row in db.execute(query)}
        return dict(sorted(found.items()))


def check_tag(tag: str, probability: float | None = None) -> None:
    """Raise UsageError for a tag that cannot be kept or asked for."""
    if not isinstance(tag, str) or not tag.strip() or len(tag) > LONGEST_TAG or "\0" in tag:
        raise UsageError(f"tag {tag!r}: use a text of 1 to {LONGEST_TAG} characters")
    try:
        tag.encode()
    except UnicodeEncodeError:
        raise UsageError(f"tag {tag!r} is not valid UTF-8") from None
    if probability is not None and not 0 <= probability <= 1:
        raise UsageError(f"tag {tag!r} with the probability {probability}: use 0 to 1")


def forget_tags(db: Connection, hashes: Mapping[int, str]) -> None:
    """Take all tags from files whose content is to become another one: `hashes`, by media id.

    A file that lost its vectors by damage has no hash until it is read again.
    """
    table = schema.media
    for chunk in statements.chunks(sorted(hashes)):
        query = sa.select(table.c.id, table.c.content_hash).where(table.c.id.in_(chunk))
        rows = db.execute(query).all()
        changed = [row.id for row in rows if row.content_hash not in ("", hashes[row.id])]
        if changed:
            db.execute(sa.delete(schema.tags).where(schema.tags.c.media_id.in_(changed)))


def _put(db: Connection, given: Mapping[int, Mapping[str, float | None]], *, replace: bool) -> None:
    """Enter tags of files that are there."""
    table = schema.tags
    mine = table.c.media_id.in_(list(given))
    if not replace:
        texts = sorted({tag for own in given.values() for tag in own})
        known = sa.select(table.c.media_id, table.c.tag).where(mine)
        for row in db.execute(known).all() if texts else ():
            if row.tag in given[row.media_id]:
                one = (table.c.media_id == row.media_id) & (table.c.tag == row.tag)
                db.execute(sa.delete(table).where(one))
    else:
        db.execute(sa.delete(table).where(mine))
    rows = [
        {"media_id": id_, "tag": tag, "probability": probability}
        for id_, own in given.items()
        for tag, probability in own.items()
    ]
    if rows:
        db.execute(sa.insert(table), rows)


def _plain(ids: Iterable[int]) -> list[int]:
    """Ids in order; SQLite would take numpy's for bytes."""
    return sorted({int(id_) for id_ in ids})


def _tag(text: object, probability: object) -> Tag:
    """A tag as our own type. Raises ValueError for values that cannot be."""
    if not isinstance(text, str) or not isinstance(probability, float | int | None):
        raise ValueError(f"a tag is {text!r}, {probability!r}")
    return text, None if probability is None else float(probability)
