"""The files that a user names, on disk or as an index has them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from clipsearch.errors import MediaError
from clipsearch.ingest.changes import find_media
from clipsearch.media import kind_of
from clipsearch.media.discover import WalkSpec, discover
from clipsearch.store.store import Store
from clipsearch.textfiles import is_unicode
from clipsearch.types import Failure, FoundFile, MediaKind, StoredMedia

NOT_TEXT = "its name is not valid UTF-8: rename it"
_NOT_LOOKED_AT = {
    "audio": "its sound does not lie in a space with words and pictures here",
    "subtitles": "it is a subtitle file, and these are not looked at",
}

OnFailure = Callable[[Failure], None]


def named_files(
    paths: Iterable[Path],
    kinds: frozenset[MediaKind],
    store: Store | None,
    *,
    on_failure: OnFailure,
) -> Iterator[FoundFile]:
    """The files of these kinds that are named, in order, and those in folders that are, in order of
    their paths. One that is away is there too if the index has it. What is not is told.
    """
    for path in map(_absolute, paths):
        files = _in_folder(path, kinds, on_failure) if path.is_dir() else _alone(path, kinds, store)
        for file in files:
            if isinstance(file, Failure):
                on_failure(file)
            elif not is_unicode(file.path):  # no index has it, and no output format can say it
                on_failure(Failure(file.path, NOT_TEXT))
            else:
                yield file


def indexed_below(
    paths: Iterable[Path], store: Store, *, on_failure: OnFailure
) -> Iterator[StoredMedia]:
    """The files that an index has, as they are now, of these files and folders; each once. What it
    does not have is told.
    """
    given = [_absolute(path) for path in paths]
    seen: set[int] = set()
    for path in given:
        media = None if path.is_dir() else current_media(path, store)
        if media is not None and media.id not in seen:
            seen.add(media.id)
            yield media
        elif media is None and not path.is_dir():
            on_failure(Failure(path, "it is not indexed as it is now: index it first"))
    folders = {path: {path, path.resolve()} for path in given if path.is_dir()}
    empty = set(folders)
    for media in store.catalog.all_media() if folders else ():
        above = [folder for folder, places in folders.items() if places & {*media.path.parents}]
        if media.state != "ready" or not above:
            continue
        empty -= set(above)
        if media.id not in seen:
            yield media
    for folder in sorted(empty):
        on_failure(Failure(folder, "nothing in it is indexed: index it first"))


def current_media(path: Path, store: Store) -> StoredMedia | None:
    """What an index has of a file as it is now."""
    try:
        return find_media(store.catalog, path)[1] if is_unicode(path) else None
    except MediaError:
        return None  # whoever reads it says why


def _in_folder(
    folder: Path, kinds: frozenset[MediaKind], on_failure: OnFailure
) -> Iterator[FoundFile]:
    def tell(relative: str, reason: str) -> None:
        on_failure(Failure(folder / relative, reason))

    return discover(folder, on_unreadable=tell, spec=WalkSpec(kinds=kinds))


def _alone(
    path: Path, kinds: frozenset[MediaKind], store: Store | None
) -> Iterator[FoundFile | Failure]:
    kind = kind_of(path.name)
    if not path.is_file() and (store is None or current_media(path, store) is None):
        yield Failure(path, "no such file or folder")
    elif kind is None:
        yield Failure(path, "its name is not that of a picture, a video or a sound")
    elif kind not in kinds:
        yield Failure(path, _NOT_LOOKED_AT.get(kind, f"the model takes no {kind} files"))
    else:
        yield FoundFile(path.parent, path.name, kind, 0, 0)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100, as links are indexed
