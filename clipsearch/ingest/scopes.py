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
    folder of another file does. No root lies inside another: the outer one takes the inner one in.
    """
    paths = list(paths)
    roots = set(known_roots)
    for path in paths:
        if not any(path.is_relative_to(root) for root in known_roots):
            roots.add(path if path.is_dir() else path.parent)
    outermost = [root for root in roots if not any(o in root.parents for o in roots)]
    under: dict[Path, set[str]] = {}
    for path in paths:
        root = next(root for root in outermost if path.is_relative_to(root))
        relative = path.relative_to(root).as_posix()
        under.setdefault(root, set()).add("" if relative == "." else relative)
    return [Scope(root, tuple(sorted(parts))) for root, parts in sorted(under.items())]
