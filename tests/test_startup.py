"""What the command does before it does anything: what it loads, and the tree of its commands."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import typer

import clipsearch.__main__
from clipsearch import types
from clipsearch.interfaces.cli import app
from clipsearch.interfaces.tree import lazy_tree

TORCH = ("torch", "torchvision", "open_clip", "timm", "transformers", "huggingface_hub")
HELP_WITHOUT = (*TORCH, "numpy", "PIL", "av", "faiss", "pyarrow", "sqlalchemy", "pydantic", "rich")
QUERY_WITHOUT = (*TORCH, "PIL", "av", "faiss", "pyarrow", "alembic", "pydantic", "matplotlib")


COMMAND = """
import clipsearch.__main__, sys
try:
    clipsearch.__main__.main()
except SystemExit as leaving:
    assert not leaving.code
"""
ENCODER = """
from clipsearch.encoders import load_encoder, parse_spec
assert load_encoder(parse_spec("builtin")).encode_text(["a dog"]).shape == (1, 384)
"""


def loaded(code: str, arguments: list[str], names: tuple[str, ...]) -> tuple[list[str], str]:
    """Which of the modules a script loads, and what it prints."""
    code += f"\nimport sys; print([n for n in {names!r} if n in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return list(eval(done.stderr.splitlines()[-1])), done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["query", "--help"], ["--version"]])
def test_help_loads_next_to_nothing(arguments: list[str]) -> None:
    found, printed = loaded(COMMAND, arguments, HELP_WITHOUT)
    assert found == []
    assert printed.startswith(("Usage: ", "clipsearch "))


def test_a_query_of_words_loads_what_its_encoder_needs_alone(tmp_path: Path) -> None:
    import clipsearch

    (tmp_path / "said.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nA red car.\n")
    with clipsearch.Index.create(tmp_path / "index", model="fake") as index:
        index.add([tmp_path / "said.srt"])
    options = ["--index", str(tmp_path / "index"), "-k", "1", "--min-cosine", "-1", "--jsonl"]
    found, printed = loaded(COMMAND, ["query", "red", *options], QUERY_WITHOUT)
    assert found == []
    assert "A red car." in printed


def test_words_load_neither_torch_nor_pillow_for_the_builtin_encoder() -> None:
    assert loaded(ENCODER, [], QUERY_WITHOUT)[0] == []


def test_arrays_of_types_are_made_when_they_are_asked_for() -> None:
    from numpy.typing import NDArray

    assert types.Pixels == NDArray[np.uint8]
    assert types.Vectors == types.Wave == types.Norms == NDArray[np.float32]
    with pytest.raises(AttributeError, match=r"'clipsearch\.types' has no attribute 'Pixel'"):
        types.Pixel  # type: ignore[attr-defined]  # noqa: B018


# the tree of commands


def flat(group: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    names = []
    for name, command in group.commands.items():
        inside = flat(command, (*prefix, name)) if hasattr(command, "commands") else []
        names += [(*prefix, name), *inside]
    return names


def run(tree: Any, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, ...]:
    with pytest.raises(SystemExit) as leaving:
        tree(arguments, prog_name="clipsearch")
    return leaving.value.code, *capsys.readouterr()


def test_the_lazy_tree_says_what_the_whole_one_says(capsys: pytest.CaptureFixture[str]) -> None:
    whole = typer.main.get_command(app)
    names = flat(whole)
    assert ("probe", "train") in names
    asked: list[list[str]] = [[], ["quer"], ["eval"], ["probe", "tran"], ["status", "--jso"]]
    asked += [["query", "horse", "-5"], ["list", "--version"], ["recall", "-n", "0"]]
    for arguments in [["--help"], *([*name, "-h"] for name in names), *asked]:
        assert run(lazy_tree(app), arguments, capsys) == run(whole, arguments, capsys), arguments


def test_a_command_is_made_once() -> None:
    tree = lazy_tree(app)
    one, again = (tree.commands["status"].make_context("status", ["--json"]) for _ in range(2))
    assert one.command is again.command
    assert one.params["json"] is True


# options that need no conversion


def sample() -> typer.Typer:
    made = typer.Typer(add_completion=False, rich_markup_mode=None)

    @made.command()
    def show(
        words: Annotated[list[str] | None, typer.Argument()] = None,
        text: Annotated[str | None, typer.Option()] = None,
        name: Annotated[str, typer.Option()] = "own",
        several: Annotated[list[str] | None, typer.Option()] = None,
        files: Annotated[list[Path] | None, typer.Option()] = None,
        file: Annotated[Path | None, typer.Option()] = None,
        count: Annotated[int, typer.Option(min=1)] = 10,
        most: Annotated[int | None, typer.Option(max=5)] = None,
        ratio: Annotated[float, typer.Option(min=0.5)] = 1.0,
        flag: Annotated[bool, typer.Option("--flag")] = False,
        choice: Annotated[bool | None, typer.Option("--yes/--no")] = None,
        upper: Annotated[str | None, typer.Option(parser=str.upper)] = None,
    ) -> None:
        """Print what it was given."""
        print(*locals().items(), sep="\n")

    @made.command()
    def other(path: Annotated[Path, typer.Argument()]) -> None:
        """Needs a path."""
        print(repr(path))

    return made


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "a b c --text x --name= --several 1 --several 2",
        "--count 3 --most 5 --ratio 0.5 --flag --yes",
        "--count 007 --ratio 2 --no --file f --files g --files h",
        "--count +3 --ratio 1e3 --upper shout",
        "--count 1_0 --ratio .75",
        "--ratio inf",
        "--ratio nan",
        "--count 12345678901234567890",
        "--count -1",
        "--ratio -1.5",
        "--count 0",
        "--most 6",
        "--ratio 0.4",
        "--count x",
        "--count 1.0",
        "--ratio x",
        "--name",
        "-- --count -5",
    ],
)
def test_values_are_what_typer_makes_of_them(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, lazy = typer.main.get_command(sample()), lazy_tree(sample())
    given = ["show", *arguments.split()]
    assert run(lazy, given, capsys) == run(whole, given, capsys)


def test_arguments_that_are_needed_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    whole, lazy = typer.main.get_command(sample()), lazy_tree(sample())
    for arguments in (["other"], ["other", "a/b"], ["other", "a", "b"]):
        assert run(lazy, arguments, capsys) == run(whole, arguments, capsys)


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt(), 130), (SystemExit(3), 3), (RuntimeError("torch"), 1)]
)
def test_libraries_are_not_taken_apart_beneath_a_thread_that_is_in_them(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
) -> None:
    class Left(BaseException):
        pass

    def command() -> None:
        raise raised

    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr("clipsearch.interfaces.cli.main", command)
    monkeypatch.setattr(os, "_exit", leave)
    over = threading.Event()
    busy = threading.Thread(target=over.wait, args=(20,), name="clipsearch-encode")
    busy.start()
    try:
        with pytest.raises(Left) as left:
            clipsearch.__main__.main()
    finally:
        over.set()
        busy.join()
    assert left.value.args == (code,)
    assert ("RuntimeError: torch" in capsys.readouterr().err) == (code == 1)
