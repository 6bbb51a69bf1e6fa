"""The grammar of queries: words, pictures, sounds and moments of videos, added and subtracted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from clipsearch.errors import UsageError
from clipsearch.media import kind_of
from clipsearch.search.named import SOUND_PREFIX, Named, existing_file, named_file

TermKind = Literal["words", "picture", "frame", "video", "sound", "unit"]
TERM_KINDS: tuple[TermKind, ...] = get_args(TermKind)
FILE_KINDS = ("picture", "frame", "video", "sound")
TIMED_KINDS = ("frame", "sound")
OPERATORS = ("+", "-")
_WEIGHT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+):")
_UNIT = re.compile(r"id:([0-9]+)")
_PREFIX = re.compile(rf"(?:{_WEIGHT.pattern})?(?:{SOUND_PREFIX})?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
_BARE = re.compile(r"\S*")


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a query is made of.

    content: the words, the path of a file, or the id of a stored vector ("unit"). A "sound" may be
        that of a video. A "video" is the mean of its frames.
    weight: how much it counts; below 0 it is subtracted.
    seconds: presentation time of a "frame", and of the window of a "sound"; None: all of it.

    Raises UsageError for what cannot be.
    """

    kind: TermKind
    content: str
    weight: float = 1.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in TERM_KINDS:
            raise UsageError(f"term of kind {self.kind!r}: use one of {', '.join(TERM_KINDS)}")
        if not self.content.strip():
            raise UsageError("a term is empty: say in words what to look for, or name a file")
        if self.weight == 0 or not math.isfinite(self.weight):
            raise UsageError(f"weight {self.weight:g}: use a number above 0, to subtract one below")
        if self.kind == "unit" and not re.fullmatch("[0-9]{1,18}", self.content):
            raise UsageError(f"{self.content!r} is no id of a stored vector: use a whole number")
        if self.is_file:
            object.__setattr__(self, "content", str(Path(self.content)))
        self._check_time()

    def _check_time(self) -> None:
        seconds = self.seconds
        if seconds is None:
            if self.kind == "frame":
                raise UsageError(f"a frame of {self.content!r} needs a time in seconds")
        elif self.kind not in TIMED_KINDS:
            raise UsageError(f"a term of kind {self.kind} has no time")
        elif not 0 <= seconds < math.inf:
            raise UsageError(f"time {seconds}: use seconds from 0 on")

    @property
    def is_file(self) -> bool:
        """Whether `content` is a path."""
        return self.kind in FILE_KINDS


class _Argument(NamedTuple):
    text: str
    is_operator: bool = False


def parse_terms(arguments: Sequence[str]) -> tuple[Term, ...]:
    """The terms that arguments of a command line say; none for nothing.

    An argument that is exactly `+` or `-` adds or subtracts all that follows, up to the next one.
    Between two of these, all arguments joined by spaces may be a file; else each one that names a
    file (clipsearch.search.named), or a stored vector as `id:12`, is a term, and runs of others are
    words, joined by spaces. `N:` before a term is its weight. A backslash before it makes it words
    whatever it looks like.

    Raises UsageError for operators and weights without a term, and as `named_file`.
    """
    return _terms([_Argument(text, text in OPERATORS) for text in arguments])


def parse_line(line: str) -> tuple[Term, ...]:
    """The terms that a line says: the arguments are what white space separates.

    `"…"` is one argument, and no operator, whatever is in it; there `\\"` stands for a quote and
    `\\\\` for a backslash. A quote means this at the start of an argument, also behind a weight.
    Raises UsageError as `parse_terms`, and for a quote that is not closed.
    """
    return _terms(list(_arguments(line)))


def parse_term(text: str) -> Term:
    """The one term that an option's value says; here `+` and `-` are words. Raises UsageError."""
    if not text.strip():
        raise UsageError("a term is empty: say in words what to look for, or name a file")
    [term] = _segment([text])
    return term


def said(terms: Sequence[Term]) -> str:
    """How to say terms in a line: `parse_line` gives them again, as long as their files exist."""
    parts: list[str] = []
    for term in terms:
        if parts or term.weight < 0:
            parts.append("-" if term.weight < 0 else "+")
        parts.append(_said(replace(term, weight=abs(term.weight))))
    return " ".join(parts)


def _terms(arguments: Sequence[_Argument]) -> tuple[Term, ...]:
    found: list[Term] = []
    operator, texts = None, list[str]()
    for argument in (*arguments, None):
        if argument is not None and not argument.is_operator:
            texts += [argument.text] if argument.text.strip() else []
            continue
        if texts:
            sign = -1.0 if operator == "-" else 1.0
            found += [replace(term, weight=sign * term.weight) for term in _segment(texts)]
        elif operator is not None:
            raise UsageError(
                f"nothing follows the {operator!r}: name what to "
                f"{'subtract' if operator == '-' else 'add'}, or put a backslash before it for the "
                "sign itself"
            )
        operator, texts = argument.text if argument else None, []
    return tuple(found)


def _segment(texts: Sequence[str]) -> list[Term]:
    """The terms that arguments without operators say, one at least."""
    joined = " ".join(texts)
    for weight, text in ((1.0, joined), _weighed(joined)):
        if (named := _existing(text)) is not None:
            return [_file_term(named, weight)]
    found: list[Term] = []
    weight, run = 1.0, list[str]()
    for text in texts:
        if (thing := _thing(text)) is not None:
            found += [_words(run, weight)] if run else []
            found.append(thing)
            weight, run = 1.0, []
            continue
        own, rest = (1.0, text) if run else _weighed(text)
        if not rest.strip():
            raise UsageError(f"{text}: a weight stands right before its term, as in 2:stripes")
        weight = weight if run else own
        run.append(rest.removeprefix("\\") or rest)
    return [*found, _words(run, weight)] if run else found


def _existing(text: str) -> Named | None:
    return None if text.startswith("\\") else existing_file(text)


def _thing(text: str) -> Term | None:
    """The file or the stored vector that an argument names; None: it is words."""
    weight, rest = _weighed(text)
    if rest != text and (named := _existing(text)) is not None:
        return _file_term(named, 1.0)
    if rest.startswith("\\"):
        return None
    if unit := _UNIT.fullmatch(rest):
        return Term("unit", unit[1], weight)
    named = named_file(rest)
    return None if named is None else _file_term(named, weight)


def _file_term(named: Named, weight: float) -> Term:
    return Term(named.kind, named.path, weight, named.seconds)


def _words(run: Sequence[str], weight: float) -> Term:
    return Term("words", " ".join(run), weight)


def _weighed(text: str) -> tuple[float, str]:
    match = _WEIGHT.match(text)
    return (float(match[1]), text[match.end() :]) if match else (1.0, text)


def _arguments(line: str) -> Iterator[_Argument]:
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        start = _PREFIX.match(line, at)
        assert start is not None, "it may be empty"
        text, at = start[0], start.end()
        is_quoted = line[at : at + 1] == '"'
        if is_quoted:
            quoted = _QUOTED.match(line, at)
            if quoted is None:
                raise UsageError(f"the quote is not closed: {line[at:].strip()}")
            text, at = text + _ESCAPED.sub(r"\1", quoted[1]), quoted.end()
        end = _BARE.match(line, at)
        assert end is not None, "it may be empty"
        text, at = text + end[0], end.end()
        yield _Argument(text, not is_quoted and text in OPERATORS)


def _said(term: Term) -> str:
    """A term with a weight above 0."""
    before = "" if term.weight == 1.0 else f"{_plain(term.weight)}:"
    after = "" if term.seconds is None else f"@{_plain(term.seconds)}"
    if term.kind == "unit":
        bodies = [f"id:{term.content}"]
    elif term.kind == "words":
        bodies = [term.content, "\\" + term.content]
    else:
        of_sound = term.kind == "sound" and kind_of(term.content) != "audio"
        before += SOUND_PREFIX if of_sound else ""
        bodies = [start + term.content + after for start in ("", "./")]
    forms = [form for body in bodies for form in (before + body, before + _quote(body))]
    fallback = forms[1 if any(map(str.isspace, term.content)) else 0]  # its file is gone
    return next((form for form in forms if _says(form, term)), fallback)


def _says(form: str, term: Term) -> bool:
    try:
        return parse_line(form) == (term,)
    except UsageError:
        return False


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(number: float) -> str:
    """All digits that matter, without an exponent."""
    return np.format_float_positional(number, trim="-")
