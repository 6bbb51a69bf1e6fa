"""The command that says what files show: classify; and what commands like it share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from clipsearch.errors import IndexMissingError, UsageError
from clipsearch.interfaces.console import escaped, say, write
from clipsearch.interfaces.filters import WhereOption, where_of
from clipsearch.interfaces.options import (
    CsvOption,
    DeviceOption,
    IndexOption,
    JsonlOption,
    JsonOption,
)
from clipsearch.interfaces.places import VARIABLE, index_folder, is_offline
from clipsearch.interfaces.render import Format, Record, as_csv, as_jsonl, as_tsv, output_format
from clipsearch.types import Failure

if TYPE_CHECKING:
    from clipsearch.classify import LabelledFile, ZeroShotClassifier
    from clipsearch.encoders.base import Encoder
    from clipsearch.engine import Index
    from clipsearch.ingest.vectors import FileVector
    from clipsearch.interfaces.progress import Bar

EXIT_SKIPPED = 4
FILES_AT_ONCE = 64  # printed together
MANY_TEXTS = 5000  # half a minute of the built-in encoder
STREAMED = (as_jsonl, as_csv, as_tsv)  # formats that can be added to
Item = TypeVar("Item")

LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        help="A text file with a label a line; of several names, as in cat|kitten, the first is "
        "what it is called.",
    ),
]
LabelOption = Annotated[
    list[str] | None, typer.Option("--label", help="A label, instead of a file; may be repeated.")
]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        help="A sentence with {} for the label, such as 'a photo of a {}'; may be repeated: the "
        "mean counts.",
    ),
]
PromptsOption = Annotated[
    str,
    typer.Option(
        "--prompts", help="none, or the sentences of CLIP's authors: simple (7), imagenet (80)."
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 4 if a file was skipped.")]


def classify(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files and folders. [default: all files of the index]"),
    ] = None,
    labels: LabelsOption = None,
    label: LabelOption = None,
    template: TemplateOption = None,
    prompts: PromptsOption = "none",
    top: Annotated[int, typer.Option("-t", "--top", "-k", min=1, help="Labels of a file.")] = 3,
    index: IndexOption = None,
    where: WhereOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Encode the files with this model, whatever is indexed; names as for `index`. "
            "[default: the index's model; without an index auto]"
        ),
    ] = None,
    json: JsonOption = False,
    jsonl: JsonlOption = False,
    csv: CsvOption = False,
    strict: StrictOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Print the labels that images, videos and sounds look or sound like most."""
    render = output_format(json=json, jsonl=jsonl, csv=csv)
    condition, named = where_of(where), labels_of(labels, label)
    if paths and condition is not None:
        raise UsageError("--where is for the files of the index: leave out the paths, or --where")
    if model is not None and not paths:
        raise UsageError("--model is for files that are named: an index has its own model")
    with ExitStack() as stack:
        # What is printed while a bar is drawn would end up beside it, on stderr.
        bar = None if render in STREAMED else stack.enter_context(file_bar("classifying"))
        skipped = Skipped(bar)
        opened = _index(index, needed=not paths, model=model, device=device)
        if opened is not None:
            stack.enter_context(opened)
            encoder, files = opened.encoder, paths or opened.selected(where=condition)
            vectors = opened.file_vectors(files, on_failure=skipped)
        else:
            encoder, vectors = _without_index(paths or [], model, skipped, device=device)
        classifier = classifier_of(encoder, named, template, prompts)
        found = watched(classifier.label(vectors, top), bar)
        count, rest = _print(_records(found), render)
    write(rest)
    skipped.report(count, "classified", paths, strict=strict)


COMMANDS: tuple[Callable[..., None], ...] = (classify,)


class Skipped:
    """Tells of every file that is skipped, and counts them. A listener."""

    def __init__(self, bar: Bar | None = None) -> None:
        self.count = 0
        self._tell = bar.say if bar else say

    def __call__(self, failure: Failure) -> None:
        """Tell of one."""
        self.count += 1
        self._tell(f"skipping {escaped(str(failure.path))}: {escaped(failure.reason)}")

    def report(self, done: int, what: str, paths: Sequence[Path] | None, *, strict: bool) -> None:
        """The last line of a command. Raises UsageError if none of the paths exists."""
        if not done and paths and not any(path.exists() for path in paths):
            raise UsageError(f"{', '.join(map(str, paths))}: no such file or folder")
        say(f"{what} {done}, skipped {self.count}")
        if strict and self.count:
            raise typer.Exit(EXIT_SKIPPED)


def file_bar(doing: str) -> AbstractContextManager[Bar]:
    """A progress bar that counts files."""
    from clipsearch.interfaces.progress import progress_bar

    return progress_bar(doing, ("files", "files"))


def watched(found: Iterable[Item], bar: Bar | None) -> Iterator[Item]:
    """The same, with a bar that says how many there were."""
    from clipsearch.ingest import Progress

    for count, item in enumerate(found, start=1):
        if bar is not None:
            bar.update(Progress(count, None, count))
        yield item


def labels_of(file: Path | None, given: list[str] | None) -> list[tuple[str, ...]]:
    """The names of each label. Raises UsageError unless there is a file or labels."""
    from clipsearch.classify import check_labels, parse_label, read_labels

    if (file is None) == (not given):
        raise UsageError("give the labels in a file with --labels, or each with --label")
    found = read_labels(file) if file else [parse_label(text, "--label") for text in given or ()]
    check_labels(found)
    return found


def classifier_of(
    encoder: Encoder, labels: Sequence[Sequence[str]], template: list[str] | None, prompts: str
) -> ZeroShotClassifier:
    """The classifier that the options ask for. Raises UsageError."""
    from clipsearch.classify import ZeroShotClassifier
    from clipsearch.encoders.prompts import templates

    count = sum(map(len, labels)) * len(template or templates(prompts))
    if count >= MANY_TEXTS:
        say(f"encoding {count} texts: labels times templates")
    return ZeroShotClassifier.of(encoder, labels, prompts=prompts, templates=tuple(template or ()))


def _index(name: str | None, *, needed: bool, model: str | None, device: str) -> Index | None:
    """The index that is named or found; None where files are encoded without one."""
    from clipsearch.engine import Index

    if model is not None:
        return None
    try:
        folder = index_folder(name, os.environ, Path.cwd())
        return Index.open(folder, device=device, on_notice=say)
    except IndexMissingError:
        if needed or name is not None or os.environ.get(VARIABLE):
            raise
        return None


def _without_index(
    paths: Sequence[Path], model: str | None, skipped: Skipped, *, device: str
) -> tuple[Encoder, Iterator[FileVector]]:
    from clipsearch.encoders import AUTO, load_encoder, resolve
    from clipsearch.ingest.vectors import Viewing, vectors_of

    spec = resolve(model or AUTO, offline=is_offline(os.environ), on_notice=say)
    encoder = load_encoder(spec, device=device)
    return encoder, vectors_of(paths, Viewing.by(encoder), on_failure=skipped)


def _records(found: Iterator[LabelledFile]) -> Iterator[list[Record]]:
    """One record a label, those of a file together."""
    for item in found:
        yield [
            {
                "path": str(item.file.path),
                "kind": item.file.kind,
                "label": label,
                "probability": round(probability, 6),
            }
            for label, probability in item.labels
        ]


def _print(found: Iterator[list[Record]], render: Format) -> tuple[int, str]:
    """Print as it comes where the format can be added to; the number of files, and what is left to
    print.
    """
    count, begun, kept = 0, False, list[Record]()
    while some := list(islice(found, FILES_AT_ONCE)):
        count += len(some)
        kept += [record for records in some for record in records]
        if render in STREAMED:
            text = render(kept)
            write(text if render is as_jsonl or not begun else text.partition("\n")[2])
            kept, begun = [], True
    return count, "" if render in STREAMED else render(kept)
