"""The commands that learn from examples: probe train, probe eval."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipsearch.errors import UsageError
from clipsearch.interfaces.classify import PromptsOption, Skipped, file_bar, watched
from clipsearch.interfaces.console import escaped, say, write
from clipsearch.interfaces.files import check_target, write_whole
from clipsearch.interfaces.options import DeviceOption, IndexOption, JsonOption
from clipsearch.interfaces.places import index_folder
from clipsearch.interfaces.render import output_format

if TYPE_CHECKING:
    from clipsearch.engine import Index
    from clipsearch.types import Vectors

PositiveOption = Annotated[
    list[Path], typer.Option("--positive", help="Folder or file of examples; may be repeated.")
]
NegativeOption = Annotated[
    list[Path],
    typer.Option("--negative", help="Folder or file of what is not meant; may be repeated."),
]


def train(
    positive: PositiveOption,
    negative: NegativeOption,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write the probe to.")],
    index: IndexOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUT if it is there.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Learn what examples have in common that others have not, for `query --probe`."""
    from clipsearch import probes

    check_target(out, overwrite=overwrite)
    with _opened(index, device=device) as opened:
        examples = _examples(opened, positive, negative)
        probe = probes.train(
            *examples,
            fingerprint=opened.fingerprint,
            classes=(_name(positive), _name(negative)),
        )
    write_whole(out, probe.to_json().encode())
    found, truth = probe.probability(examples[0] @ probe.vector), probe.counts
    other = probe.probability(examples[1] @ probe.vector)
    right = int((found > 0.5).sum()), int((other < 0.5).sum())
    say(
        f"learned from {truth[0]} positive and {truth[1]} negative examples, of which it has "
        f"{right[0]} and {right[1]} right: {escaped(str(out))}"
    )


def evaluate(
    positive: PositiveOption,
    negative: NegativeOption,
    shots: Annotated[
        str, typer.Option(help="Examples of each class to learn from.")
    ] = "1,2,4,8,16",
    words: Annotated[
        list[str] | None,
        typer.Option(help="What the positive examples show, to compare with; may be repeated."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="What the negative ones show; needed with --words; may be repeated."),
    ] = None,
    prompts: PromptsOption = "none",
    draws: Annotated[int, typer.Option(min=1, help="How often examples are drawn.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    index: IndexOption = None,
    json: JsonOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Print how well probes do by the number of examples, beside words, on examples held out."""
    from clipsearch import probes

    if bool(words) != bool(against):
        raise UsageError("--words and --against go together: what is meant, and what is not")
    counts = _shots(shots)
    render = output_format(json=json)
    with _opened(index, device=device) as opened:
        examples = _examples(opened, positive, negative)
        said = (_said(opened, words, prompts), _said(opened, against, prompts)) if words else None
    found = probes.evaluate(*examples, shots=counts, words=said, draws=draws, seed=seed)
    left_out = set(counts) - {item.shots for item in found}
    if left_out:
        say(
            f"left out {', '.join(map(str, sorted(left_out)))}: half of {len(examples[0])} positive"
            f" and {len(examples[1])} negative examples is held out for testing"
        )
    write(render([_record(item) for item in found]))


PROBE_COMMANDS: dict[str, Callable[..., None]] = {"train": train, "eval": evaluate}


def _opened(index: str | None, *, device: str) -> Index:
    from clipsearch.engine import Index

    folder = index_folder(index, os.environ, Path.cwd())
    return Index.open(folder, device=device, on_notice=say)


def _examples(
    opened: Index, positive: Sequence[Path], negative: Sequence[Path]
) -> tuple[Vectors, Vectors]:
    """(n, dim) and (m, dim) unit rows. Raises UsageError for none, or a file that is both."""
    import numpy as np

    with file_bar("reading") as bar:
        skipped = Skipped(bar)
        found = [
            list(watched(opened.file_vectors(paths, sounds=False, on_failure=skipped), bar))
            for paths in (positive, negative)
        ]
    both = {item.path for item in found[0]} & {item.path for item in found[1]}
    if both:
        raise UsageError(f"{min(both)} is a positive example and a negative one: choose")
    given = (("--positive", positive), ("--negative", negative))
    for items, (name, paths) in zip(found, given, strict=True):
        if not items:
            raise UsageError(f"{name} {', '.join(map(str, paths))}: no pictures or videos there")
    if skipped.count:
        say(f"skipped {skipped.count}")
    first, second = (np.stack([item.vector for item in items]) for items in found)
    return first, second


def _said(opened: Index, words: Sequence[str] | None, prompts: str) -> Vectors:
    from clipsearch.encoders.prompts import ensemble, templates

    return ensemble(opened.encoder, list(words or ()), templates(prompts))


def _shots(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise UsageError(f"--shots {text}: give numbers of examples, as in 1,2,4,8,16")
    return counts


def _name(paths: Sequence[Path]) -> str:
    return ", ".join(path.resolve().name for path in paths)


def _record(item: Any) -> dict[str, Any]:
    return {
        "shots": "words" if item.shots is None else item.shots,
        "accuracy": round(item.mean, 4),
        "deviation": round(item.deviation, 4),
        "draws": item.draws,
    }
