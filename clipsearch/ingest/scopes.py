"""The paths that a user names → media roots, and which part of each is meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scope:
    """A media root and the parts of it, in POSIX form, that a run looks at; "" is all of it."""

    root: Path
    under: tuple[str, ...]

    def covers(self, relative: str) -> bool:
        """Whether a file of the root lies in the scope."""
        return any(is_below(relative, part) for part in self.under)


def is_below(relative: str, part: str) -> bool:
    """Whether a file, relative to a root, is `part` of it or lies below; "" is all of it."""
    return not part or relative == part or relative.startswith(part + "/")


def scopes_of(paths: Iterable[Path], known_roots: Sequence[Path]) -> list[Scope]:
    """One scope per media root for existing files and folders, given as absolute paths.

    A path inside a known root stays part of that root; another folder becomes a root, and the
    folder of another file does. Roots inside other roots of the same call are folded into them.
    """
    roots: dict[Path, set[str]] = {}
    taken = list(known_roots)
    folders_first = sorted(paths, key=lambda path: (not path.is_dir(), len(path.parts)))
    for path in folders_first:
        root = next((known for known in taken if path.is_relative_to(known)), None)
        if root is None:
            root = path if path.is_dir() else path.parent
            taken.append(root)
        relative = path.relative_to(root).as_posix()
        roots.setdefault(root, set()).add("" if relative == "." else relative)
    return [Scope(root, tuple(sorted(under))) for root, under in roots.items()]
