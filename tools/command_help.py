"""Writes the commands' options into the README, between two marks: `make docs`.

A test compares; a README that lags behind the commands fails it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from clipsearch.interfaces.cli import app

README = Path(__file__).resolve().parent.parent / "README.md"
START, END = "<!-- commands: made by `make docs` -->\n", "<!-- end of commands -->\n"


def command_help() -> str:
    """A heading and a table for each command."""
    return "\n".join(_sections("", typer.main.get_command(app)))


def _sections(prefix: str, group: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _sections(f"{name} ", command)
        else:
            yield _section(prefix + name, command)


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    named = " ".join(f"{p.name.upper()}{'…' if p.nargs == -1 else ''}" for p in arguments)
    lines = [f"### clipsearch {name} {named}".rstrip(), "", command.help, ""]
    lines += ["| option | meaning |", "|---|---|"]
    lines += [f"| {_flags(p)} | {p.help}{_default(p)} |" for p in options]
    return "\n".join(lines) + "\n"


def _flags(option: Any) -> str:
    value = "" if option.is_flag else f" {option.name.upper()}"
    return ", ".join(f"`{flag}{value}`" for flag in (*option.opts, *option.secondary_opts))


def _default(option: Any) -> str:
    plain = option.default is None or isinstance(option.default, bool) or "default:" in option.help
    return "" if plain else f" [default: {option.default}]"


def updated(text: str) -> str:
    """The README with the present commands between the marks."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return before + START + "\n" + command_help() + "\n" + END + after


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
