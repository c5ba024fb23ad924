"""`python -m bench.edge`: what the edge takes of a machine. Exit code 1 if a goal is missed.

--only names a section; --update writes bench/results/edge.json.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any, Final

import click
from bench import report, showing

SECTIONS: Final = ("sensor", "inference")
"""Modules of this folder, each with `measure(quick) -> {"about": […], "tables": […], "missed": […]}`."""


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Shorter windows.")
@click.option("--only", type=click.Choice(SECTIONS), help="One section alone; not with --update.")
@click.option("--update", is_flag=True, help="Write the results and renew the report.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def main(quick: bool, only: str | None, update: bool, as_json: bool) -> None:
    chosen = (only,) if only else SECTIONS
    parts = [importlib.import_module(f"bench.edge.{name}").measure(quick=quick) for name in chosen]
    result: dict[str, Any] = {
        "title": "The edge: what a sensor and a processor take of their machines",
        "about": [sentence for part in parts for sentence in part["about"]],
        "tables": [table for part in parts for table in part["tables"]],
    }
    if update and not only:
        report.write("edge", result)
    if as_json:
        click.echo(json.dumps(result))
    else:
        showing.show(result)
    missed = [fault for part in parts for fault in part["missed"]]
    for fault in missed:
        click.echo(fault, err=True)
    sys.exit(1 if missed else 0)


main()
