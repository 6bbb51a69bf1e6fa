"""`--batch`: many queries, one a line, encoded and searched together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from clipsearch.errors import ClipsearchError, MediaError, UsageError
from clipsearch.interfaces.console import escaped, say, write
from clipsearch.interfaces.render import Format, Record
from clipsearch.interfaces.showing import record_of
from clipsearch.interfaces.standard_input import standard_input
from clipsearch.types import Hit

if TYPE_CHECKING:
    from clipsearch.engine import Index
    from clipsearch.search.asked import SearchOptions
    from clipsearch.search.query import Query

STDIN = "-"
QUERIES_AT_ONCE = 128
Found = tuple[str, list[Hit]]  # a line, and its hits


class Line(NamedTuple):
    """A line of a batch, and what it means."""

    number: int
    text: str
    query: Query


@dataclass(slots=True)
class Batch:
    """A file of queries, `-` for standard input, and what came of them.

    streamed: print what each round of queries finds at once; else all at the end, as formats with
    a frame or a header need it.
    """

    file: str
    render: Format
    streamed: bool
    answered: int = 0
    hits: int = 0
    skipped: int = 0
    _records: list[Record] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the file, for messages."""
        return "stdin" if self.file == STDIN else self.file

    def ask(self, index: Index, options: SearchOptions) -> None:
        """Print the hits of every line, in order. A line that cannot be asked is said and skipped.

        Raises UsageError for a file that cannot be read or has no queries, and for options that no
        query can be asked with.
        """
        lines = self._lines()
        while part := list(islice(lines, QUERIES_AT_ONCE)):
            for text, hits in self._search(index, part, options):
                self.answered += 1
                self.hits += len(hits)
                self._records += [record_of(hit, self.render, text) for hit in hits]
            if self.streamed:
                write(self.render(self._records))
                self._records = []
        if not self.answered and not self.skipped:
            raise UsageError(f"{self.name} has no queries: write one a line")
        write(self.render(self._records))

    def _lines(self) -> Iterator[Line]:
        """Each line that says something."""
        from clipsearch.search.query import Query

        with _opened(self.file) as stream:
            for number, text in enumerate(_texts(stream, self.name), 1):
                try:
                    if text.strip():
                        yield Line(number, text.strip(), Query.parse(text))
                except UsageError as error:
                    self._skip(number, error)

    def _search(self, index: Index, part: Sequence[Line], options: SearchOptions) -> list[Found]:
        try:
            found = index.search_many([line.query for line in part], **options)
        except (UsageError, MediaError):
            return self._one_by_one(index, part, options)
        return [(line.text, hits) for line, hits in zip(part, found, strict=True)]

    def _one_by_one(
        self, index: Index, part: Sequence[Line], options: SearchOptions
    ) -> list[Found]:
        found: list[Found] = []
        failed: list[tuple[Line, UsageError | MediaError]] = []
        for line in part:
            try:
                found.append((line.text, index.search(line.query, **options)))
            except (UsageError, MediaError) as error:
                failed.append((line, error))
        reasons = {str(error) for _, error in failed}
        alike = not self.answered and not found and len(reasons) == 1
        if alike and (len(part) > 1 or _fails_for_words(index, options, *reasons)):
            raise failed[0][1]  # an option is wrong, not a line
        for line, reason in failed:
            self._skip(line.number, reason)
        return found

    def _skip(self, number: int, error: Exception) -> None:
        self.skipped += 1
        say(f"skipping {escaped(self.name)} line {number}: {escaped(str(error))}")


def _fails_for_words(index: Index, options: SearchOptions, reason: str) -> bool:
    """Whether any words at all cannot be asked, for this reason."""
    try:
        index.search("words", **options)
    except ClipsearchError as error:
        return str(error) == reason
    return False


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == STDIN:
        yield standard_input()
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
        yield stream


def _texts(stream: BinaryIO, name: str) -> Iterator[str]:
    """Lines as they come. Bytes that are no UTF-8 stand for themselves, as in names of files."""
    for number, line in enumerate(stream):
        if b"\0" in line:
            raise UsageError(f"{name} is no text: line {number + 1} has a zero byte")
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix("\ufeff") if number == 0 else text
