"""The commands that keep labels in the index: tag, tags."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import UsageError
from clipsearch.interfaces.classify import (
    LabelOption,
    LabelsOption,
    PromptsOption,
    Skipped,
    StrictOption,
    TemplateOption,
    classifier_of,
    file_bar,
    labels_of,
    watched,
)
from clipsearch.interfaces.console import say, write
from clipsearch.interfaces.filters import WhereOption, where_of
from clipsearch.interfaces.options import (
    CsvOption,
    DeviceOption,
    IndexOption,
    JsonlOption,
    JsonOption,
    NoWaitOption,
)
from clipsearch.interfaces.places import index_folder
from clipsearch.interfaces.render import output_format

if TYPE_CHECKING:
    from clipsearch.classify import LabelledFile
    from clipsearch.engine import Index
    from clipsearch.where import Condition

FILES_AT_ONCE = 1024  # tagged together

Tagged = tuple[int, list[tuple[str, float | None]]]  # of a file by its id


def tag(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH|TAG",
            help="Indexed files and folders; with --remove the tags. [default: all]",
        ),
    ] = None,
    labels: LabelsOption = None,
    label: LabelOption = None,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", help="A tag for the files that are named; may be repeated."),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take tags from files: those named, or all tags.")
    ] = False,
    template: TemplateOption = None,
    prompts: PromptsOption = "none",
    top: Annotated[int, typer.Option("-t", "--top", "-k", min=1, help="Labels of a file.")] = 1,
    min_probability: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Least probability of a label.")
    ] = 0.5,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of all tags that the files have.")
    ] = False,
    index: IndexOption = None,
    where: WhereOption = None,
    no_wait: NoWaitOption = False,
    strict: StrictOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Write labels, or tags of your own, into the index, for --where "tag = 'dog'"."""
    from clipsearch.engine import Index

    condition, given = where_of(where), bool(labels or label)
    if given + bool(add) + remove != 1:
        raise UsageError("give one of --labels (or --label), --add TAG and --remove")
    named = labels_of(labels, label) if given else []
    own = [_tag(name) for name in add or ()]
    paths = None if remove or not arguments else [Path(path) for path in arguments]
    if add and paths is None and condition is None:
        raise UsageError("--add: name the files that get the tag, or choose them with --where")
    if remove and replace:
        raise UsageError("--replace is for --labels and --add: there is nothing to put in place")
    folder = index_folder(index, os.environ, Path.cwd())
    with Index.open(folder, device=device, on_notice=say) as opened:
        if remove:
            _remove(opened, arguments, condition, wait=not no_wait)
            return
        with file_bar("tagging") as bar:
            skipped = Skipped(bar)
            chosen = opened.selected(paths, where=condition, on_failure=skipped)
            found: Iterator[Tagged]
            if own:
                found = ((media.id, [(name, None) for name in own]) for media in chosen)
            else:
                classifier = classifier_of(opened.encoder, named, template, prompts)
                vectors = opened.file_vectors(chosen, on_failure=skipped)
                found = _likely(classifier.label(vectors, top), min_probability)
            found, count = watched(found, bar), 0
            while some := dict(islice(found, FILES_AT_ONCE)):
                opened.tag(some, replace=replace, wait=not no_wait)
                count += sum(bool(tags) for tags in some.values())
    skipped.report(count, "tagged", paths, strict=strict)


def tags(
    index: IndexOption = None,
    json: JsonOption = False,
    jsonl: JsonlOption = False,
    csv: CsvOption = False,
) -> None:
    """Print the tags of the index, and how many files have each."""
    from clipsearch.engine import Index

    render = output_format(json=json, jsonl=jsonl, csv=csv)
    with Index.open(index_folder(index, os.environ, Path.cwd())) as opened:
        counts = opened.tag_counts()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    write(render([{"tag": name, "files": count} for name, count in ranked]))


COMMANDS: tuple[Callable[..., None], ...] = (tag, tags)


def shown(tags: Sequence[tuple[str, float | None]], *, listed: bool) -> list[str] | str | None:
    """The tags of a file as a value of a record: a list, or a text, None without any."""
    names = [name for name, _ in tags]
    return names if listed else ", ".join(names) or None


def _remove(
    opened: Index, tags: Sequence[str] | None, where: Condition | None, *, wait: bool
) -> None:
    """Take tags, or all, from files, or from all, and say how many that were."""
    ids = None if where is None else [media.id for media in opened.selected(where=where)]
    counts = opened.tag_counts()
    for name in tags or ():
        if name not in counts and Path(name).exists():
            raise UsageError(
                f"--remove: no file has the tag {name!r}. What stands beside --remove are tags: "
                "choose the files with --where"
            )
    before = sum(counts.values())
    opened.untag(ids, tags or None, wait=wait)
    say(f"removed {before - sum(opened.tag_counts().values())} tags of files")


def _tag(name: str) -> str:
    cleaned = " ".join(name.split())
    if not cleaned:
        raise UsageError("--add: the tag is empty")
    return cleaned


def _likely(found: Iterator[LabelledFile], least: float) -> Iterator[Tagged]:
    for item in found:
        assert item.file.media_id is not None, "they are files of the index"
        yield item.file.media_id, [(label, p) for label, p in item.labels if p >= least]
