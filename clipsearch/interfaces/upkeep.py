"""The commands that keep an index well: compact, recall, verify, repair, doctor."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from clipsearch.errors import ClipsearchError, UsageError
from clipsearch.interfaces.console import escaped, say, write
from clipsearch.interfaces.options import DeviceOption, IndexOption, JsonOption, NoWaitOption
from clipsearch.interfaces.places import index_folder
from clipsearch.interfaces.render import as_json_object, as_lines, plain

EXIT_DAMAGED = 3


def compact(
    index: IndexOption = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="From now on: auto, flat, ivfpq, ivfpq-large, ivfpq8 or rabitq. "
            "[default: as it is]"
        ),
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the inverted lists anew in any case.")
    ] = False,
    no_wait: NoWaitOption = False,
) -> None:
    """Merge the index into few large segments and give it the recipe that its size calls for."""
    with _opened(index) as opened:
        after = opened.compact(recipe=recipe, retrain=retrain, wait=not no_wait, on_step=say)
    say(f"{after.rows} vectors in {after.segments} segments, recipe {after.recipe}: {after.path}")


def recall(
    index: IndexOption = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="A text file with a query a line, or a .npy file of (n, dim) unit rows. "
            "[default: everyday things]"
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, help="Stored vectors to ask for.")
    ] = 200,
    k: Annotated[int, typer.Option("-k", min=1, help="How many nearest to compare.")] = 10,
    target: Annotated[
        float | None,
        typer.Option(help="First tune the search to this recall, and keep that."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Measure how many of the true nearest a search finds, for texts and for pictures apart."""
    texts, vectors = _queries(queries)
    with _opened(index, device=device) as opened:
        report = opened.recall(texts, vectors=vectors, count=count, k=k, target=target)
    values = plain(asdict(report))
    if not json:
        for name in ("recall", "cpu_ms"):
            values[name] = {kind: round(value, 4) for kind, value in values[name].items()}
        values["exact_cpu_ms"] = round(values["exact_cpu_ms"], 4)
    write(as_json_object(values) if json else as_lines(values))


def verify(index: IndexOption = None, json: JsonOption = False) -> None:
    """Read the whole index and name every file that is not as it was written."""
    with _opened(index) as opened:
        problems = opened.verify(on_step=_step())
        path = opened.path
    if json:
        write(as_json_object({"problems": [_record(problem) for problem in problems]}))
    else:
        write("".join(f"{escaped(str(p.path))} {escaped(p.what)}\n" for p in problems))
    if problems:
        say(f"{len(problems)} problems: `clipsearch repair` mends what can be mended")
        raise typer.Exit(EXIT_DAMAGED)
    say(f"no problems: {path}")


def repair(index: IndexOption = None, no_wait: NoWaitOption = False) -> None:
    """Rebuild what the undamaged files of an index allow, and say what must be indexed again."""
    from clipsearch.store.writer import UNPOOLED

    with _opened(index) as opened:
        report = opened.repair(wait=not no_wait, on_step=_step())
    for problem in report.problems:
        say(f"found: {escaped(str(problem.path))} {escaped(problem.what)}")
    files = sum(loss.files for loss in report.losses)
    vectors = sum(loss.vectors for loss in report.losses)
    if files:
        say(f"{files} files lost their vectors: index their folders again")
    if vectors:
        say(f"{vectors} vectors are lost; the damaged files are kept in {opened.path / 'damaged'}")
    if any(loss.pooled for loss in report.losses):
        say(UNPOOLED)
    for problem in report.left:
        say(f"still wrong: {escaped(str(problem.path))} {escaped(problem.what)}")
    if report.left:
        raise typer.Exit(EXIT_DAMAGED)
    say(f"{len(report.problems)} problems, all mended" if report.problems else "no problems")


def doctor(index: IndexOption = None, device: DeviceOption = "auto") -> None:
    """Check what clipsearch needs: packages, device, the index, its model, disks and folders."""
    from clipsearch.interfaces.doctor import examine

    folder = index_folder(index, os.environ, Path.cwd())
    findings = examine(folder, device=device)
    write("".join(f"{f.level:7} {escaped(f.what)}\n" for f in findings))
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(ClipsearchError.exit_code)


COMMANDS: tuple[Callable[..., None], ...] = (compact, recall, verify, repair, doctor)


def _opened(index: str | None, *, device: str = "auto") -> Any:
    from clipsearch.engine import Index

    return Index.open(index_folder(index, os.environ, Path.cwd()), device=device)


def _queries(path: Path | None) -> tuple[list[str] | None, Any]:
    """Texts or vectors from a file; the other one None."""
    if path is None:
        return None, None
    try:
        if path.suffix == ".npy":
            import numpy as np

            return None, np.load(path, allow_pickle=False)
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise UsageError(f"{path} has no queries: write one a line")
    return texts, None


def _record(problem: Any) -> dict[str, str]:
    return {"path": str(problem.path), "what": problem.what}


def _step() -> Callable[[str], None]:
    """Steps are told to a person only."""
    return say if sys.stderr.isatty() else (lambda _: None)
