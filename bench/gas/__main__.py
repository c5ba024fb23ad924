"""`python -m bench.gas`: what every operation costs, beside its floor and the field. Exit code 1 if one costs too much.

--verbose prints each floor item by item, --json the results as they are written to bench/results/gas.json, --update
renews the snapshot and the results.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click
from bench import report
from bench.gas import field
from bench.gas.compiling import settings
from bench.gas.costs import Item
from bench.gas.floors import NO_CEILING
from bench.gas.measuring import CEILING, Operation, Run, measure
from rich.console import Console
from rich.table import Table

SNAPSHOT: Final = Path(__file__).with_name("snapshot.json")


@click.command(help=__doc__)
@click.option("--verbose", is_flag=True, help="Print each floor item by item.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option("--update", is_flag=True, help="Renew the snapshot and the results.")
def main(verbose: bool, as_json: bool, update: bool) -> None:
    run = measure()
    if update:
        _write(SNAPSHOT, {one.name: one.gas for one in run.operations})
        report.write("gas", _results(run))
    faults = run.faults(json.loads(SNAPSHOT.read_text()))
    if as_json:
        click.echo(json.dumps(_results(run) | {"faults": faults}, indent=2))
    else:
        _print(run, faults, verbose)
    sys.exit(1 if faults else 0)


def _results(run: Run) -> dict[str, Any]:
    chosen = settings()
    optimizer = f"evm {chosen['evmVersion']}, optimizer runs {chosen['optimizer']['runs']:,}, via IR {chosen['viaIR']}"
    return {
        "title": "Gas: every operation of the contracts, its floor and the field",
        "about": [
            (
                "Receipts of one run on anvil (hardfork prague), refunds included; views are execution alone, with "
                "what the compiler's dispatcher takes counted into their floor."
            ),
            (
                "A floor counts the transaction, the calldata as sent, cold reads, writes, logs, signatures and the "
                f"hashes the behaviour names. The ceiling is {CEILING:.2f} times that. By hand: the same in assembly."
            ),
            (
                "The field's contracts do less: none takes a fee, numbers a device's events or proves that the device "
                "agreed (5,500 gas of an enrolment, 5,600 of a new key)."
            ),
            f"solc: {optimizer}.",
            *(f"No ceiling for `{name}`: {reason}." for name, reason in NO_CEILING.items()),
        ],
        "tables": [
            {
                "title": "Operations",
                "columns": ["operation", "gas", "floor", "ratio", "by hand", "by hand / floor"],
                "rows": [_row(one) for one in run.operations],
            },
            {
                "title": "Batches, gas each",
                "columns": ["batch", "items", "each", "floor each"],
                "rows": [_each(one) for one in run.operations if "Batch" in one.name],
            },
            {
                "title": "Beside the field",
                "columns": ["the field's", "gas", "ours", "gas", "ratio"],
                "rows": [_beside(name, gas, ours) for name, gas in run.beside.items() for ours in _ours(name, run)],
            },
        ],
    }


def _row(one: Operation) -> list[str | int | float | None]:
    confirmation = None if one.confirmation is None else round(one.confirmation, 3)
    return [one.name, one.gas, one.floor, round(one.ratio, 3), one.by_hand, confirmation]


def _each(one: Operation) -> list[str | int]:
    count = _count(one)
    return [one.name, count, one.gas // count, one.floor // count]


def _beside(name: str, gas: int, ours: Operation) -> list[str | int | float]:
    each = ours.gas // _count(ours)
    return [name, gas, ours.name + ", each" * (_count(ours) > 1), each, round(each / gas, 3)]


def _ours(name: str, run: Run) -> list[Operation]:
    return [one for one in run.operations if one.name in field.BESIDE[name]]


def _count(one: Operation) -> int:
    return int(one.name.rpartition(" ")[2]) if "Batch" in one.name else 1


def _print(run: Run, faults: list[str], verbose: bool) -> None:
    console = Console(width=100)
    for table in _results(run)["tables"]:
        console.print(_table(table["title"], table["columns"], table["rows"]))
    if verbose:
        for one in run.operations:
            console.print(_table(one.name, ["item", "gas", "refund"], [_item(item) for item in one.items]))
    for fault in faults:
        console.print(f"[red]{fault}")
    worst = max((one for one in run.operations if one.name not in NO_CEILING), key=lambda one: one.ratio)
    free = ", ".join(NO_CEILING)
    console.print(f"{len(run.operations)} operations, the highest ratio {worst.ratio:.3f} ({worst.name}); {free} apart")


def _item(item: Item) -> list[str | int | float | None]:
    return [item.what, item.gas, item.refund or None]


def _table(title: str, columns: list[str], rows: list[list[Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        text = isinstance(rows[0][place], str)
        table.add_column(column, justify="left" if text else "right", no_wrap=text)
    for row in rows:
        table.add_row(*(report.cell(value) for value in row))
    return table


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
