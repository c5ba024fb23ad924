"""Tables for people, in the console and in the scripts, with the same as data for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

_WIDTH = 190  # wide enough for two addresses in one row beside names and tags, whatever the terminal


class View:
    """A table that also prints as one with plain `print` and in the console; `data` is the same for programs."""

    def __init__(self, table: Table, data: Any) -> None:
        self.table = table
        self.data = data

    def __rich__(self) -> Table:
        return self.table

    def __repr__(self) -> str:
        console = Console(width=_WIDTH)
        with console.capture() as captured:
            console.print(self.table)
        return captured.get().strip("\n")


def listing(facts: Mapping[str, object], data: Any = None) -> View:
    """Show facts, one a line; `data` is the same for programs if they are to see it in another form."""
    table = Table(box=SIMPLE, show_header=False)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), str(value))
    return View(table, dict(facts) if data is None else data)


def sheet(columns: Iterable[str], rows: Iterable[Iterable[object]], data: Any) -> View:
    """Show rows under their columns."""
    table = Table(box=SIMPLE)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return View(table, data)
