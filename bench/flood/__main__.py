"""`python -m bench.flood`: honest messages through a network under attack. Exit code 1 if a goal is missed.

--quick attacks with everything at once only, in a minute; --update writes bench/results/flood.json.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import click
from bench import report, showing
from bench.flood.network import MIB, Network, Outcome
from bench.flood.poison import GETH, KINDS, VALID_RATE
from bench.flood.process import Process
from bench.flood.world import NODES, RELAYS, RULES, TTL, WORKERS

DELIVERED: Final = 0.999
SLOWER: Final = 2.0
GROWTH: Final = 64 * MIB  # bytes: what a member may grow by under attack
_TARGETS: Final = (0, 3, 6)  # the relays attackers connect to
_RATES: Final = {False: 8.0, True: 4.0}  # honest messages a second without and with stems
_MODES: Final = {False: "flood", True: "onion stem"}


@dataclass(frozen=True, slots=True)
class Run:
    """One attack and what it came to."""

    stem: bool
    kind: str
    attackers: int
    outcome: Outcome
    sent: Counter[str]
    alive: int
    growth: int


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Attack with everything at once only.")
@click.option("--update", is_flag=True, help="Write the results and renew the report.")
@click.option("--stem/--no-stem", "stem", default=None, help="Only with stems, or only without.")
@click.option("--kind", "kinds", multiple=True, help="Only these attacks.")
def main(quick: bool, update: bool, stem: bool | None, kinds: tuple[str, ...]) -> None:
    modes = [False, True] if stem is None else [stem]
    runs = [run for mode in modes for run in asyncio.run(_measure(mode, _plan(mode, quick, kinds), quick))]
    result = _results(runs)
    if update:
        report.write("flood", result)
    showing.show(result)
    faults = [fault for run in runs for fault in _faults(run, _quiet(runs, run))]
    for fault in faults:
        click.echo(fault)
    sys.exit(1 if faults else 0)


def _plan(stem: bool, quick: bool, kinds: tuple[str, ...]) -> list[tuple[str, int, float]]:
    """Return the attacks: kind, attackers, seconds."""
    if kinds or quick:
        return [(kind, 3, 6.0) for kind in kinds or ("all",)]
    together = [("all", count, 10.0) for count in (1, 3)]
    if stem:
        return [("valid", 3, 10.0), ("packets", 3, 10.0), *together]
    kinds = ("valid", *(kind for kind in KINDS if kind != "packets"))
    return [*((kind, count, 4.0) for kind in kinds for count in (1, 3)), *together]


async def _measure(stem: bool, plan: list[tuple[str, int, float]], quick: bool) -> list[Run]:
    network, attackers = await Network.start(stem=stem), list[Process]()
    try:
        for number, target in enumerate(_TARGETS):
            enode = str(network.places[0].enode(target))
            attackers.append(await Process.start("bench.flood.attacker", str(number), enode))
        await asyncio.sleep(3.0 if stem else 1.0)  # relays get to know each other
        await network.load(_RATES[stem], 2.0)
        quiet, before = await network.load(_RATES[stem], 6.0 if quick else 20.0), network.resident()
        runs = [Run(stem, "quiet", 0, quiet, Counter(), network.alive, 0)]
        for kind, count, seconds in plan:
            click.echo(f"{_MODES[stem]}: {kind} from {count}", err=True)
            runs.append(await _attack(network, attackers[:count], kind, seconds, before))
    finally:
        await asyncio.gather(network.stop(), *(attacker.stop() for attacker in attackers))
    return runs


async def _attack(network: Network, attackers: list[Process], kind: str, seconds: float, before: list[int]) -> Run:
    stem = network.places[0].stem
    for attacker in attackers:
        attacker.tell(do="prepare", kind=kind, seconds=seconds + 1)
    begin = max(await asyncio.gather(*(attacker.hear("prepared") for attacker in attackers)))
    await asyncio.sleep(max(0.0, begin - time.time()))
    for attacker in attackers:
        attacker.tell(do="attack", kind=kind, seconds=seconds + 1)
    ends = [asyncio.create_task(attacker.hear("done")) for attacker in attackers]
    await asyncio.sleep(0.5)
    outcome = await network.load(_RATES[stem], seconds)
    sent = Counter[str]()
    for end in ends:
        sent.update(await end)
    growth = max(peak - first for peak, first in zip(outcome.peaks, before, strict=True))
    return Run(stem, kind, len(attackers), outcome, sent, network.alive, growth)


def _quiet(runs: list[Run], run: Run) -> Outcome:
    return next(each.outcome for each in runs if each.kind == "quiet" and each.stem == run.stem)


def _faults(run: Run, quiet: Outcome) -> list[str]:
    """Return which goals a run missed."""
    name = f"{_MODES[run.stem]}, {run.kind} from {run.attackers}:"
    slower = run.outcome.quantile(0.99) / quiet.quantile(0.99)
    missed = {
        f"{name} {run.outcome.delivered:.3%} delivered": run.outcome.delivered < DELIVERED,
        f"{name} p99 {slower:.1f} times as long as quiet": slower > SLOWER,
        f"{name} a member grew by {run.growth / MIB:.0f} MiB": run.growth > GROWTH,
        f"{name} {NODES - run.alive} members died": run.alive < NODES,
    }
    return [fault for fault, is_missed in missed.items() if is_missed]


def _results(runs: list[Run]) -> dict[str, Any]:
    return {
        "title": "Floods: honest messages through a network under attack",
        "about": [
            (
                f"{NODES} processes on loopback, linked by RLPx: {RELAYS} relays of six links each and {WORKERS} "
                f"workers on two, which send {_RATES[False]:.0f} messages a second together, or {_RATES[True]:.0f} "
                "through onion stems. Every message is waited for at the eleven other members."
            ),
            (
                "Each attacker is a process of its own on one link to a relay, or on one for each kind when all come "
                "together. It sends as fast as that is read, and comes back under a fresh key when it is thrown out. "
                f"Valid envelopes come at the speed of geth's miner, {GETH / 1e6:.2f} MH/s: {VALID_RATE:.0f} a second "
                f"of 300 bytes, {TTL} s to live and a proof of work of {RULES.min_pow}, mined before. Attackers get "
                "what processor time nobody else wants, as in truth theirs is not the network's. All processors are "
                "shared by the twelve members: run it on a machine that does nothing else."
            ),
            (
                f"Goals: {DELIVERED:.1%} delivered, p99 at most {SLOWER:.0f} times that without attack, no member "
                f"grows by more than {GROWTH // MIB} MiB, none dies."
            ),
        ],
        "tables": [
            {
                "title": "Honest messages",
                "columns": [
                    "sent by", "attack", "from", "delivered", "pairs", "p50 ms", "p99 ms", "p99 ratio",
                    "growth MiB", "busiest CPU %", "alive",
                ],
                "rows": [_row(run, _quiet(runs, run)) for run in runs],
            },
            {
                "title": "What became of the attack",
                "columns": ["sent by", "attack", "from", "attackers sent", "dropped, ended, held back"],
                "rows": [_fate(run) for run in runs if run.attackers],
            },
        ],
    }  # fmt: skip


def _row(run: Run, quiet: Outcome) -> list[str | int | float]:
    outcome = run.outcome
    return [
        _MODES[run.stem],
        run.kind,
        run.attackers,
        f"{outcome.delivered:.3%}",
        outcome.expected,
        round(outcome.quantile(0.5)),
        round(outcome.quantile(0.99)),
        round(outcome.quantile(0.99) / quiet.quantile(0.99), 2),
        round(run.growth / MIB, 1),
        round(100 * max(outcome.cpu) / outcome.seconds),
        run.alive,
    ]


def _fate(run: Run) -> list[str | int]:
    counts = run.outcome.counts
    names = {
        "network_dropped": "",
        "network_links": "link ",
        "network_refused": "handshake ",
        "stem_packets_lost": "packet ",
    }
    fate = [(f"{names[name]}{label}", count) for (name, label), count in counts.items() if name in names]
    fate.append(("held back", counts["network", "throttled"]))
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(fate, key=lambda each: -each[1]) if count)
    return [_MODES[run.stem], run.kind, run.attackers, ", ".join(f"{n:,} {name}" for name, n in run.sent.items()), told]


if __name__ == "__main__":
    main()
