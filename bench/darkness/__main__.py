"""`python -m bench.darkness`: who can tell which worker an envelope comes from, on real nodes in virtual time.

Prints the tables; --update writes them to bench/results/darkness.json, --quick runs a small fleet instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import click
from bench import report
from bench.darkness.experiments import FULL, QUICK, SHARES, Bench, Scale
from bench.darkness.world import LATENCY, PAYLOAD, Shape
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from quietfleet.mixnet import DELAY_SHARES
from quietfleet.network import StemTuning

_ERRORS: Final = Console(stderr=True)


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A small fleet, about a minute; its results are not kept.")
@click.option("--update", is_flag=True, help="Renew the results.")
@click.option("--seed", default=1, show_default=True, help="Draws the fleet, its letters and the spies.")
def main(quick: bool, update: bool, seed: int) -> None:
    began, scale = time.process_time(), QUICK if quick else FULL
    with Progress(console=_ERRORS, transient=True) as progress:
        tables = Bench(scale, seed, lambda what: _bar(progress, what)).tables()
    result = {
        "title": "Darkness: who sent it",
        "about": _about(scale, seed, time.process_time() - began),
        "tables": tables,
    }
    if update and not quick:
        report.write("darkness", result)
    console = Console(width=160)
    for line in result["about"]:
        console.print(line, highlight=False)
    for table in tables:
        console.print(_table(table))


def _bar(progress: Progress, what: str) -> Callable[[float], None]:
    for task in progress.task_ids:
        progress.remove_task(task)
    task = progress.add_task(what, total=1.0)
    return lambda share: progress.update(task, completed=share)


def _about(scale: Scale, seed: int, seconds: float) -> list[str]:
    stem = StemTuning()
    delays = ", ".join(f"{share * stem.hop_delay:.2g}" for share in DELAY_SHARES)
    rates = ", ".join(f"{load.rate:g}" for load in stem.loads if load.cover)
    return [
        (
            f"Real nodes in one process, links in memory, virtual time: {_shape(scale.fleet)} on onion stems, "
            f"{_shape(scale.full_nodes)} and {scale.equals.relays} equal full nodes otherwise; "
            f"{scale.equals.dials} dialled links each, {scale.fleet.worker_dials} and a guard's for a worker on stems. "
            f"{1000 * LATENCY[0]:.0f} to {1000 * LATENCY[1]:.0f} ms between two nodes; what cryptography takes is not "
            f"in the times. Envelopes of {PAYLOAD} bytes, each sender one."
        ),
        (
            f"Onion stems as the product sets them: cover at {rates} packets a second in the size classes that have "
            f"it; mean delays of {delays} s at guard, middle and exit."
        ),
        (
            f"{scale.sets} random sets of spies at each of {len(SHARES)} shares, relays and workers alike, against "
            "every letter; brackets are 95 % intervals by bootstrap over sets and letters. R: the chance that a letter "
            "is attributed rightly. D: hits divided by how many letters were blamed on the same worker; the best "
            "mapping blames each worker once (the posterior's matching)."
        ),
        (
            "The timing adversary knows every link, latency and parameter, joins what its relays see, and is told for "
            "free which relay began each flood and when. It does not know which of a worker's links leads to its "
            "guard unless the guard is a spy, and explains each flood by itself."
        ),
        (
            "For letters known to be of one sender, packets of the recorded run stand for letters, real or cover: both "
            "leave by one clock and take paths drawn alike."
        ),
        (
            "Published, for comparison at 0.20 spies (R / D, simulated, 1,000 nodes): Whisper 0.51 / 0.36, diffusion "
            "0.39 / 0.26, Dandelion++ 0.24 / 0.14; no scheme without encrypted paths can be below 0.20 / 0.04."
        ),
        f"Seed {seed}; {seconds:.0f} s of processor time.",
    ]


def _shape(shape: Shape) -> str:
    return f"{shape.relays} relays and {shape.workers} workers"


def _table(table: dict[str, Any]) -> Table:
    shown = Table(title=table["title"], title_justify="left")
    for place, column in enumerate(table["columns"]):
        text = isinstance(table["rows"][0][place], str)
        shown.add_column(column, justify="left" if text else "right")
    for row in table["rows"]:
        shown.add_row(*(report.cell(value) for value in row))
    return shown


if __name__ == "__main__":
    main()
