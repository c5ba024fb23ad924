"""`python -m bench.dispatch`: deals a second, how long one takes, and where the processor's time goes.

--update writes bench/results/dispatch.json and the report, --json prints the results as JSON, --quick runs two small
fleets for a minute; its results are not kept.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace

import click
from bench import report
from bench.dispatch.experiments import FULL, QUICK, Bench
from bench.dispatch.tables import result_of
from bench.showing import show
from rich.console import Console


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Two small fleets; about a minute.")
@click.option("--most", default=1000, show_default=True, help="Leave out fleets of more workers than that.")
@click.option("--update", is_flag=True, help="Renew the results.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def main(quick: bool, most: int, update: bool, as_json: bool) -> None:
    scale = QUICK if quick else FULL
    scale = replace(scale, cells=[cell for cell in scale.cells if cell.terms["workers"] <= most])
    with Console(stderr=True).status("…") as status:
        cells = asyncio.run(Bench(scale, status.update).cells())
        status.update("the core alone …")
        result = result_of(scale.rounds, cells, os.cpu_count() or 1)
    if update and not quick:
        report.write("dispatch", result)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        show(result)
        click.echo("\n".join(result["about"]))


if __name__ == "__main__":
    main()
