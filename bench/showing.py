"""Results in a terminal, as `report` writes them into Markdown."""

from __future__ import annotations

from typing import Any

from bench import report
from rich.console import Console
from rich.table import Table


def show(result: dict[str, Any]) -> None:
    """Print a result's tables."""
    console = Console(width=120)
    for table in result["tables"]:
        console.print(_table(table["title"], table["columns"], table["rows"]))


def _table(title: str, columns: list[str], rows: list[list[Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        text = any(isinstance(row[place], str) for row in rows)
        table.add_column(column, justify="left" if text else "right")
    for row in rows:
        table.add_row(*(report.cell(value) for value in row))
    return table
