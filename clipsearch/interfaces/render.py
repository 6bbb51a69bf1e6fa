"""Results as text. New output format: one function and one line in `FORMATS`.

A format takes records, dictionaries of one shape, and gives the text for stdout.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clipsearch.errors import UsageError
from clipsearch.interfaces.console import escaped
from clipsearch.types import Hit, Span, StoredMedia

Record = dict[str, Any]
Format = Callable[[Sequence[Record]], str]

COLUMNS_WITH_TIME = ("start", "end", "moment")
DECIMALS = 3
NUMERIC = (
    *("score", "relevance", "probability", "similarity", "contrast"),
    *("size_bytes", "duration", "width", "height"),
)
# Of hits: score, path, start, end is what others print.
NOT_IN_TSV = ("relevance", "kind", "moment", "text")
LAST_IN_TSV = ("kind", "text")  # behind these, where sounds or subtitles are among the hits
# Would break lines, steer a terminal, or be no UTF-8: file names may hold any bytes.
_UNSAFE_IN_JSON = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def hit_record(hit: Hit, query: str | None = None) -> Record:
    """A hit as plain values; times in seconds, None for stills. query: of many, which."""
    return {
        **({} if query is None else {"query": query}),
        "score": round(hit.score, 6),
        "relevance": None if hit.relevance is None else round(hit.relevance, 6),
        "path": str(hit.path),
        "kind": hit.kind,
        "start": _rounded(hit.start),
        "end": _rounded(hit.end),
        "moment": _rounded(hit.moment),
        "text": hit.text,
    }


def span_record(path: Path, span: Span) -> Record:
    """A span of a video as plain values; times in seconds."""
    return {
        "score": round(span.score, 6),
        "path": str(path),
        "kind": "span",
        "start": _rounded(span.start),
        "end": _rounded(span.end),
        "similarity": round(span.similarity, 6),
        "contrast": round(span.contrast, 6),
    }


def media_record(media: StoredMedia) -> Record:
    """A file of the catalog as plain values."""
    info = media.info
    return {
        "path": str(media.path),
        "kind": media.kind,
        "state": media.state,
        "size_bytes": media.size_bytes,
        "duration": _rounded(info.duration_seconds) if info else None,
        "width": (info.width or None) if info else None,
        "height": (info.height or None) if info else None,
        "error": media.error,
    }


def clock(seconds: float) -> str:
    """`00:01:22.0`"""
    tenths = round(seconds * 10)
    hours, rest = divmod(tenths, 36_000)
    minutes, rest = divmod(rest, 600)
    return f"{hours:02}:{minutes:02}:{rest // 10:02}.{rest % 10}"


def as_json(records: Sequence[Record]) -> str:
    """One JSON array."""
    return _json(list(records), indent=1)


def as_json_object(values: Record) -> str:
    """One JSON object."""
    return _json(values, indent=1)


def as_lines(values: Record) -> str:
    """A line a value, lists and inner values on one line."""
    lines = []
    for name, value in values.items():
        shown = value
        if isinstance(value, list):
            shown = ", ".join(map(str, value))
        elif isinstance(value, dict):
            shown = ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
        lines.append(f"{name.replace('_', ' ')}: {escaped(str(shown))}\n")
    return "".join(lines)


def as_jsonl(records: Sequence[Record]) -> str:
    """One JSON object a line."""
    return "".join(_json(record, indent=None) for record in records)


def as_csv(records: Sequence[Record]) -> str:
    """A header and one row a record, quoted as RFC 4180 says."""
    text = io.StringIO()
    if records:
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\r\n")
        writer.writeheader()
        for record in records:
            writer.writerow({name: _flat(value) for name, value in record.items()})
    return text.getvalue()


def as_tsv(records: Sequence[Record]) -> str:
    """A header and one tab-separated line a record; tabs, line ends and `\\` are escaped."""
    if not records:
        return ""
    columns = list(records[0])
    if {"score", "kind"} <= set(columns):
        columns = [name for name in columns if name not in NOT_IN_TSV]
        if any(record["kind"] in ("audio", "text") for record in records):
            columns += LAST_IN_TSV
    lines = ["\t".join(columns)]
    lines += ["\t".join(_cell(record[name]) for name in columns) for record in records]
    return "\n".join(lines) + "\n"


def as_paths(records: Sequence[Record]) -> str:
    """One path a line, each path once."""
    return "".join(path + "\n" for path in _unique_paths(records))


def as_paths0(records: Sequence[Record]) -> str:
    """Paths, each once, each followed by a zero byte: for `xargs -0`."""
    return "".join(path + "\0" for path in _unique_paths(records))


def as_table(records: Sequence[Record]) -> str:
    """Aligned columns for eyes: paths relative to the working folder, times as a clock."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not records:
        return ""
    columns = [name for name in records[0] if any(record[name] is not None for record in records)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        numeric = name in NUMERIC
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for record in records:
        table.add_row(*(Text(_shown(name, record[name])) for name in columns))
    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get()


FORMATS: dict[str, Format] = {
    "table": as_table,
    "tsv": as_tsv,
    "json": as_json,
    "jsonl": as_jsonl,
    "csv": as_csv,
    "paths": as_paths,
    "paths0": as_paths0,
}


def output_format(**flags: bool) -> Format:
    """The format that a flag names; without one, a table on a terminal and TSV elsewhere.

    `-f` with `-0` is `-0`. Raises UsageError for others together.
    """
    wanted = [name for name, given in flags.items() if given]
    if wanted == ["paths", "paths0"]:
        wanted = ["paths0"]
    if len(wanted) > 1:
        raise UsageError(f"choose one of the output formats, not {' and '.join(wanted)}")
    return FORMATS[wanted[0] if wanted else "table" if sys.stdout.isatty() else "tsv"]


def _json(values: Any, *, indent: int | None) -> str:
    text = json.dumps(values, ensure_ascii=False, indent=indent)
    return _UNSAFE_IN_JSON.sub(lambda m: f"\\u{ord(m[0]):04x}", text) + "\n"


def _flat(value: Any) -> Any:
    """A list as one cell."""
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else value


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, DECIMALS)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{DECIMALS}f}"
    return escaped(str(_flat(value)))


def _shown(name: str, value: Any) -> str:
    if name == "path":
        return _cell(_from_here(str(value)))
    if value is not None and name in (*COLUMNS_WITH_TIME, "duration"):
        return clock(value)
    return _cell(value)


def _from_here(path: str) -> str:
    try:
        return str(Path(path).relative_to(os.getcwd()))  # noqa: PTH109
    except ValueError:
        return path


def _unique_paths(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["path"] for record in records))


def plain(value: Any) -> Any:
    """A value as JSON and lines of text can show it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value
