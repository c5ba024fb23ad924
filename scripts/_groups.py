"""Groups of commands, each of which does what a verb of the console does, under its help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from scripts._common import FleetCommand, acting

from quietfleet.console import Desk, View

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def group(part: str, about: str, **commands: tuple[Any, ...]) -> click.Group:
    """Make a group for one part of the desk: each command's verb, then its arguments and options."""
    made = click.Group(part, help=about)
    for name, (verb, *parameters) in commands.items():
        made.add_command(_command(name, part, verb, parameters))
    return made


def _command(name: str, part: str, verb: Callable[..., View], parameters: list[Any]) -> click.Command:
    taken = list(inspect.signature(verb).parameters.values())[1:]  # the first is the part of the desk itself
    several = [one.name for one in taken if one.kind is one.VAR_POSITIONAL]
    before = [one.name for one in taken if several and one.kind is one.POSITIONAL_OR_KEYWORD]

    def action(desk: Desk, **given: Any) -> View:
        first = [given.pop(name) for name in before]
        return verb(getattr(desk, part), *first, *(item for rest in several for item in given.pop(rest)), **given)

    action.__doc__ = verb.__doc__
    for parameter in reversed(parameters):
        action = parameter(action)
    return click.command(name.replace("_", "-"), cls=FleetCommand)(acting(action))
