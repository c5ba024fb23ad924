"""`python -m bench.severing`: how long a device that was switched off is still heard. Exit code 1 if a goal is missed.

--quick switches a few times only, in 45 seconds; --update writes bench/results/severing.json.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import uvloop
from bench import report, showing
from bench.severing.measuring import RATE, Outcome, measure
from bench.severing.world import World

GOAL: Final = 0.1  # seconds from the block seen to everything gone, at the 99th percentile
WORKERS: Final = 4
TIMES: Final = {1: 1000, 100: 50, 1000: 10}  # sessions at once: switches
QUICK: Final = {1: 60, 100: 3, 1000: 1}


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Switch a few times only.")
@click.option("--update", is_flag=True, help="Write the results and renew the report.")
@click.option("--seed", default=1, help="Of which devices are switched, and when they send.")
def main(quick: bool, update: bool, seed: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as workers run
        outcomes = runner.run(measured(QUICK if quick else TIMES, seed))
    result = results(outcomes)
    if update:
        report.write("severing", result)
    showing.show(result)
    missed = [fault for outcome in outcomes for fault in faults(outcome)]
    for fault in missed:
        click.echo(fault)
    sys.exit(1 if missed else 0)


async def measured(times: dict[int, int], seed: int) -> list[Outcome]:
    """Measure each number of sessions so many times, in one world."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="severing-") as folder:
        async with World(Path(folder), WORKERS, max(times)) as world:
            return [await measure(world, sessions, count, rng) for sessions, count in times.items()]


def faults(outcome: Outcome) -> list[str]:
    """Say which goals were missed."""
    acted = quantile([one.acted for one in outcome.switches], 0.99)
    name = f"{outcome.sessions} sessions at once:"
    missed = {
        f"{name} p99 {acted * 1e3:.0f} ms after the block was seen": acted > GOAL,
        f"{name} {outcome.accepted} messages of severed devices accepted": outcome.accepted > 0,
        f"{name} {outcome.rows} rows of severed sessions left": outcome.rows > 0,
    }
    return [fault for fault, is_missed in missed.items() if is_missed]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the least value that so great a share does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def results(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the tables."""
    return {
        "title": "Severing: how long a device that was switched off is heard",
        "about": [
            (
                f"{WORKERS} processors, which are the real runtimes with databases on disk, each in a process of its "
                "own, follow one anvil over HTTP and a WebSocket bell. All of these processes, anvil and what sends "
                "the load share the cores named below, while in a fleet each worker has a machine: what many workers "
                "do at once is so long as the cores take for all of it, and *processor* says what the busiest worker "
                "did of it. Owners switch sensors off, so many in one block, of which each worker reads every event, "
                "since nobody may learn whom it cares about; each sensor has a session "
                f"with one of the processors, and goes on sending. Everything that comes, {RATE:.0f} messages a second "
                "together, is of the devices in question: read, authorised, entered in the audit trail, answered and "
                "committed before, ignored after. Network and proof of work are left out. Sessions are entered as a "
                "handshake would leave them."
            ),
            (
                "Times are of the slowest worker at each switch. *Seen* is when a worker's endpoint first shows the "
                "block; *gone* when keys, outbox and all else are out of the database, for another reader to see, in "
                "the transaction that moves the cursor; *log empty* when the write-ahead log holds nothing of it "
                "either. Mined is when the block was asked for, so that times since then are upper bounds. The last "
                "message accepted counts from the block seen; 0 is before it."
            ),
            (
                f"Goals: gone {GOAL * 1e3:.0f} ms after the block is seen at the 99th percentile, and no message of "
                "a severed device accepted after that."
            ),
        ],
        "tables": [
            {
                "title": "Milliseconds",
                "columns": [
                    "sessions at once", "switches", "mined to seen p50", "p99", "seen to gone p50", "p99",
                    "mined to gone p99", "seen to log empty p99", "seen to last accepted p99", "processor p50", "p99",
                ],
                "rows": [_times(outcome) for outcome in outcomes],
            },
            {
                "title": "Messages of severed devices",
                "columns": ["sessions at once", "came", "accepted", "session rows left"],
                "rows": [[one.sessions, one.unwanted, one.accepted, one.rows] for one in outcomes],
            },
        ],
    }  # fmt: skip


def _times(outcome: Outcome) -> list[int | float]:
    def of(name: str, share: float) -> float:
        return round(quantile([getattr(one, name) for one in outcome.switches], share) * 1e3, 1)

    shares = [("seen", 0.5), ("seen", 0.99), ("acted", 0.5), ("acted", 0.99)]
    ends = [("whole", 0.99), ("wiped", 0.99), ("last", 0.99), ("busy", 0.5), ("busy", 0.99)]
    return [outcome.sessions, len(outcome.switches), *(of(*one) for one in (*shares, *ends))]


if __name__ == "__main__":
    main()
