"""What was found as one page: small pictures inside it, films and sounds beside it, no script."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from clipsearch.media.kinds import kind_of

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --faint: #666; --box: #eee }
@media (prefers-color-scheme: dark) {
  :root { --paper: #161616; --ink: #eaeaea; --faint: #9a9a9a; --box: #262626 }
}
body { margin: 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere }
header p, figcaption p { color: var(--faint); margin: 0 }
main { display: grid; gap: 1.25rem; margin-top: 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)) }
figure { margin: 0; min-width: 0 }
.seen { display: flex; align-items: center; justify-content: center; aspect-ratio: 4 / 3;
  background: var(--box); border-radius: 6px; overflow: hidden }
.seen img, .seen video { width: 100%; height: 100%; object-fit: contain }
.seen audio { width: 92% }
.seen p { margin: 1rem; color: var(--faint); text-align: center; overflow-wrap: anywhere }
figcaption { margin-top: .4rem; overflow-wrap: anywhere }
figcaption a { color: inherit }
.scores span { white-space: nowrap; font-variant-numeric: tabular-nums }
blockquote { margin: .3rem 0 0; padding-left: .6rem; border-left: 3px solid var(--faint);
  white-space: pre-line }
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One hit as a page shows it; texts are safe for a line, but not yet for HTML.

    picture: a JPEG file. words: what stands there without one. span: (start, end) seconds.
    """

    path: Path
    name: str
    folder: str
    facts: Sequence[str]
    picture: bytes | None
    words: str
    span: tuple[float, float] | None
    text: str | None


def page(title: str, entries: Sequence[Entry]) -> str:
    """A whole HTML document."""
    figures = "".join(map(_figure, entries))
    count = f"{len(entries)} hit{'' if len(entries) == 1 else 's'}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1><bdi>{escape(title)}</bdi></h1><p>{count}</p></header>\n"
        f"<main>\n{figures}</main>\n</body>\n</html>\n"
    )


def address(path: Path) -> str | None:
    """A `file:` URL, whatever bytes the name has; None for what is no place on this machine."""
    if not path.is_absolute():
        if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for some names
            return None
        path = path.absolute()
    return path.as_uri()


def _figure(entry: Entry) -> str:
    link = address(entry.path)
    name = f"<bdi>{escape(entry.name)}</bdi>"
    if link is not None:
        name = f'<a href="{escape(link)}" title="{escape(entry.folder)}">{name}</a>'
    facts = " · ".join(f"<span>{escape(fact)}</span>" for fact in entry.facts)
    player = _player(entry, link)
    below = f"<p>{escape(entry.words)}</p>" if entry.words else ""
    said = f"<blockquote><bdi>{escape(entry.text)}</bdi></blockquote>" if entry.text else ""
    seen = player or _picture(entry, link) or below or said
    under = "".join(part for part in (below, said) if part != seen)
    return (
        f'<figure>\n<div class="seen">{seen}</div>\n'
        f'<figcaption>{name}<p class="scores">{facts}</p>{under}</figcaption>\n</figure>\n'
    )


def _player(entry: Entry, link: str | None) -> str:
    kind = kind_of(entry.path.name)
    if link is None or kind not in ("video", "audio"):
        return ""
    picture = _data(entry.picture)
    poster = f' poster="{picture}"' if picture else ""
    label = f'aria-label="{escape(entry.name)}"'
    source = f'src="{_timed(entry, link)}"'
    return f'<{kind} controls preload="metadata" {label} {source}{poster}></{kind}>'


def _picture(entry: Entry, link: str | None) -> str:
    picture = _data(entry.picture)
    if picture is None:
        return ""
    image = f'<img src="{picture}" alt="{escape(entry.name)}" loading="lazy">'
    return image if link is None else f'<a href="{escape(link)}">{image}</a>'


def _timed(entry: Entry, link: str) -> str:
    """The address with the seconds to play: https://www.w3.org/TR/media-frags/#naming-time"""
    if entry.span is None:
        return escape(link)
    start, end = entry.span
    until = f",{end:.3f}" if end > start else ""
    return escape(f"{link}#t={start:.3f}{until}")


def _data(picture: bytes | None) -> str | None:
    if picture is None:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
