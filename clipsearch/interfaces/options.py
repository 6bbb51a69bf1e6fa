"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

EXIT_EMPTY = 1  # nothing was found, and that matters

IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index",
        help="Name or path of the index [env: CLIPSEARCH_INDEX; default: indexes/default here or "
        "in the nearest parent folder].",
        show_default=False,
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
PathsOnlyOption = Annotated[
    bool, typer.Option("-f", "--filepath-only", help="Print paths only, each once.")
]
Print0Option = Annotated[
    bool, typer.Option("-0", "--print0", help="Print paths only, ended by zero bytes (xargs -0).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON array.")]
JsonlOption = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a line.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
NoWaitOption = Annotated[
    bool, typer.Option("--no-wait", help="Fail if another process is writing to the index.")
]
