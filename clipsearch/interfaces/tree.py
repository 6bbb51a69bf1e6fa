"""The tree of commands, whose options are made when a command is called: all take 50 ms."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from functools import cache, partial
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import CommandInfo

from clipsearch.interfaces.converting import convert_sparingly


def lazy_tree(app: typer.Typer) -> TyperGroup:
    """As `typer.main.get_group(app)`, with commands that are made when they are called."""
    bare = copy(app)
    bare.registered_commands, bare.registered_groups = [], []
    group = typer.main.get_group(bare)
    convert_sparingly(group)
    for command in app.registered_commands:
        callback: Any = command.callback
        name = command.name or typer.main.get_command_name(callback.__name__)
        text = command.help or inspect.getdoc(callback)
        group.add_command(_Later(name, text, partial(_made, command)))
    for part in app.registered_groups:
        inner: Any = copy(part.typer_instance)
        inner.rich_markup_mode = app.rich_markup_mode  # as typer hands it down
        group.add_command(_Later(str(part.name), inner.info.help, partial(lazy_tree, inner)))
    return group


class _Later(TyperCommand):
    """What a list of commands shows of one, and the whole of it once it is called."""

    def __init__(self, name: str, text: str | None, make: Callable[[], Any]) -> None:
        super().__init__(name, help=text)
        self._whole = cache(make)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Of the whole command."""
        return self._whole().make_context(*args, **kwargs)


def _made(command: CommandInfo) -> Any:
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.registered_commands = [command]
    made = typer.main.get_command(alone)
    convert_sparingly(made)
    return made
