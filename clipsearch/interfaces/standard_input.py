"""`--stdin`: what comes on standard input as terms of a query."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from clipsearch.errors import MediaError, UsageError

if TYPE_CHECKING:
    from clipsearch.search.grammar import Term

MOST_TEXT_BYTES = 1 << 20
NAME = "stdin"  # of a file that has none


def standard_input() -> BinaryIO:
    """Standard input as bytes; nothing where the caller closed it."""
    return io.BytesIO() if sys.stdin is None else sys.stdin.buffer


@contextmanager
def terms_of_stdin() -> Iterator[tuple[Term, ...]]:
    """A picture, a sound or a video, known by its first bytes, or the terms of one line of text.

    Media are kept in a temporary file until the end. Raises UsageError for anything else.
    """
    from clipsearch.search.grammar import parse_term
    from clipsearch.search.sniff import HEAD_BYTES, content_of

    stream = standard_input()
    head = stream.read(HEAD_BYTES)
    content = content_of(head)
    if content is None:
        yield _text(head + stream.read(MOST_TEXT_BYTES))
        return
    folder = Path(tempfile.mkdtemp(prefix="clipsearch-"))
    try:
        file = folder / (NAME + content.suffix)
        with file.open("wb") as copy:
            copy.write(head)
            shutil.copyfileobj(stream, copy)
        yield (parse_term(str(file)),)
    except MediaError as error:
        raise MediaError(str(error).replace(str(file), "what came on stdin")) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _text(data: bytes) -> tuple[Term, ...]:
    from clipsearch.search.grammar import parse_line

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or len(data) > MOST_TEXT_BYTES:
        raise UsageError("what came on stdin is no picture, sound or video, and no text in UTF-8")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise UsageError("nothing came on stdin: give it a picture, a sound, a video or a line")
    if len(lines) > 1:
        raise UsageError(
            f"{len(lines)} lines came on stdin: one is a query, give many by --batch -"
        )
    return parse_line(lines[0])


def shown(text: str, terms: Sequence[Term]) -> str:
    """A query as text, with `(stdin)` in place of the temporary file."""
    for term in terms:
        if term.is_file and os.path.basename(term.content).startswith(NAME):  # noqa: PTH119
            text = text.replace(term.content, "(stdin)")
    return text
