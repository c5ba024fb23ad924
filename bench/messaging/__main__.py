"""`python -m bench.messaging`: throughput, latency and cost of our nodes, beside @waku/relay in the same line.

--update writes bench/results/messaging.json and the report, --json prints the results as JSON, --line leaves out how
the cost grows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

import click
from bench import report
from bench.messaging import growth
from bench.messaging.line import MEMBERS, SIZE, Burst, Line, Pace
from bench.peer import node_script, versions
from bench.showing import show

THROUGHPUT_GOAL: Final = 1.5
RATE: Final = 100  # messages a second
_OURS: Final = (sys.executable, "-m", "bench.messaging.member")
_BURST: Final = 3000
_PACED: Final = 500


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True, help="How often each side is measured.")
@click.option("--line", "only_line", is_flag=True, help="Leave out how the cost grows.")
@click.option("--update", is_flag=True, help="Renew the results.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def main(rounds: int, only_line: bool, update: bool, as_json: bool) -> None:
    lines = _lines(rounds)
    grown = [] if only_line else [growth.measure(*cell) for cell in growth.CELLS]
    result = _result(lines, grown)
    if update:
        report.write("messaging", result)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        show(result)
        click.echo("\n".join(result["about"]))


def _lines(rounds: int) -> list[_Side]:
    """Measure both lines in turns, so that what else the machine does falls on both alike."""
    with Line(_OURS) as ours, Line(node_script("relay.mjs")) as theirs:
        sides = [_Side("quietfleet", ours), _Side("@waku/relay", theirs)]
        for side in sides:
            side.line.join()
        for _ in range(rounds):
            for side in sides:
                side.bursts.append(side.line.burst(_BURST))
            for side in sides:
                side.paces.append(side.line.pace(_PACED, RATE))
    return sides


class _Side:
    """One line and what was measured on it; what it says is the median of the rounds."""

    def __init__(self, name: str, line: Line) -> None:
        self.name, self.line = name, line
        self.bursts: list[Burst] = []
        self.paces: list[Pace] = []

    @property
    def lost(self) -> int:
        return sum(one.lost for one in (*self.bursts, *self.paces))

    @property
    def rate(self) -> float:
        return median(burst.rate for burst in self.bursts)

    @property
    def p50(self) -> float:
        return median(pace.p50 for pace in self.paces)

    def row(self) -> list[Any]:
        p99, cpu = median(pace.p99 for pace in self.paces), median(burst.cpu for burst in self.bursts)
        return [self.name, round(self.rate), self.lost, round(self.p50, 2), round(p99, 2), round(cpu * 1e6)]


def _result(lines: Sequence[_Side], grown: Sequence[growth.Growth]) -> dict[str, Any]:
    ours, theirs = lines
    return {
        "title": "Messaging: nodes in a line beside the field, and how the cost grows",
        "about": [
            (
                f"{MEMBERS} processes in a line over TCP on the loopback, {SIZE}-byte messages of random bytes from "
                f"end to end. Throughput: {_BURST:,} messages as fast as the sender goes, from its first to the "
                f"last arrival. Latency: {_PACED} messages at {RATE} a second, by the clock all processes share. "
                "Medians of rounds in which both sides take turns, after each has carried thousands."
            ),
            (
                "Both encrypt and authenticate their links and hide who sent; the messages themselves are sealed by "
                "neither (see Crypto). Ours ask for no proof of work here, as Waku's have none, and add no delay."
            ),
            f"The field's: {versions('@waku/relay', '@chainsafe/libp2p-gossipsub', 'libp2p')}.",
            *_verdicts(ours, theirs),
            *(
                [
                    (
                        "Growth: one process, so one core, carries all nodes of a row; where that is not enough for "
                        "the rate asked for, the one it reached stands beside it. CPU and bytes are for each node and "
                        "message; bytes are what the kernel says was written to sockets, all overheads but TCP's own."
                    )
                ]
                if grown
                else []
            ),
        ],
        "tables": [
            {
                "title": "The line",
                "columns": ["node", "messages/s", "lost", "p50 ms", "p99 ms", "µs CPU a message, all nodes"],
                "rows": [side.row() for side in lines],
            },
            *([_growth_table(grown)] if grown else []),
        ],
    }


def _verdicts(ours: _Side, theirs: _Side) -> list[str]:
    """Return a sentence on each goal; throughput counts only if nothing was lost."""
    faster, sooner = ours.rate / theirs.rate, theirs.p50 / ours.p50
    held = faster >= THROUGHPUT_GOAL and not ours.lost
    return [
        f"Throughput: {faster:.2f} times the field's; goal {THROUGHPUT_GOAL}, nothing lost: {_word(held)}.",
        f"Median latency: {1 / sooner:.2f} of the field's; goal no worse: {_word(sooner >= 1)}.",
    ]


def _word(held: bool) -> str:
    return "holds" if held else "missed"


def _growth_table(grown: Sequence[growth.Growth]) -> dict[str, Any]:
    return {
        "title": "How the cost grows",
        "columns": ["nodes", "degree", "asked/s", "reached/s", "lost", "p50 ms", "copies", "µs CPU", "bytes"],
        "rows": [
            [
                one.nodes,
                one.degree,
                one.rate,
                round(one.carried, 1),
                one.lost,
                round(one.p50, 2),
                round(one.copies, 2),
                round(one.cpu * 1e6),
                round(one.sent),
            ]
            for one in grown
        ],
    }


if __name__ == "__main__":
    main()
