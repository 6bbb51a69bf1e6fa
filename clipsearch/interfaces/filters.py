"""Options that say which files are meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from clipsearch.where import Condition, Operator

WILD = "*?["

WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only files for which this holds: duration > 60 and path glob 'holiday/*'. Fields: "
        "path, name, kind, size, date, duration, width, height, resolution, megapixels, tag.",
    ),
]
PathGlobOption = Annotated[
    list[str] | None,
    typer.Option(
        "--path",
        metavar="GLOB",
        help="Only files whose path, below its indexed folder, is like this: 'holiday/*', '*.jpg'; "
        "without * ? [ a file or folder; from / on if it starts with /. Repeat for any of several.",
    ),
]
AfterOption = Annotated[
    str | None,
    typer.Option(
        "--after", metavar="DATE", help="Only files that were changed on this date or later."
    ),
]
BeforeOption = Annotated[
    str | None,
    typer.Option("--before", metavar="DATE", help="Only files last changed before this date."),
]
MinSizeOption = Annotated[
    str | None, typer.Option("--min-size", metavar="SIZE", help="Least size: 10MB, 1.5GiB.")
]
MaxSizeOption = Annotated[
    str | None, typer.Option("--max-size", metavar="SIZE", help="Largest size.")
]
MinDurationOption = Annotated[
    str | None,
    typer.Option("--min-duration", metavar="TIME", help="Least duration: 90, 1:30, 2m, 1h."),
]
MaxDurationOption = Annotated[
    str | None, typer.Option("--max-duration", metavar="TIME", help="Longest duration.")
]
MinResolutionOption = Annotated[
    str | None,
    typer.Option("--min-resolution", metavar="WxH", help="Least width and height: 1920x1080."),
]


def where_of(
    where: str | None = None,
    *,
    paths: list[str] | None = None,
    after: str | None = None,
    before: str | None = None,
    min_size: str | None = None,
    max_size: str | None = None,
    min_duration: str | None = None,
    max_duration: str | None = None,
    min_resolution: str | None = None,
) -> Condition | None:
    """All of them together; None if none is given. Raises UsageError."""
    from clipsearch.where import all_of, any_of, parse

    return all_of(
        None if where is None else parse(where),
        any_of(*(_path(path) for path in paths or ())),
        _bound("--after", "date", ">=", after),
        _bound("--before", "date", "<", before),
        _bound("--min-size", "size", ">=", min_size),
        _bound("--max-size", "size", "<=", max_size),
        _bound("--min-duration", "duration", ">=", min_duration),
        _bound("--max-duration", "duration", "<=", max_duration),
        _bound("--min-resolution", "resolution", ">=", min_resolution),
    )


def _bound(option: str, field: str, operator: Operator, value: str | None) -> Condition | None:
    from clipsearch.where.subjects import Given, Subject, UnfitError

    if value is None:
        return None
    try:
        given = Given(value.strip(), quoted=True)
        return Subject.of(field, quoted=False).compared(operator, given)
    except UnfitError as error:
        raise UsageError(f"{option}: {error}") from None


def _path(pattern: str) -> Condition | None:
    """A pattern; or a file, or all in a folder."""
    from clipsearch.where import any_of
    from clipsearch.where.subjects import Given, Subject, UnfitError

    subject, text = Subject.of("path", quoted=False), pattern.removeprefix("./")
    if text in ("", "."):
        raise UsageError(f"--path {pattern!r}: name a file or folder below the indexed one")
    try:
        if any(sign in text for sign in WILD):
            return subject.like(Given(text, quoted=True))
        name = text.rstrip("/")
        inside = subject.like(Given(name + "/*", quoted=True))
        return any_of(subject.compared("=", Given(name, quoted=True)), inside)
    except UnfitError as error:
        raise UsageError(f"--path {pattern!r}: {error}") from None
