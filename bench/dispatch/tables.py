"""What was measured, as tables, and whether the goals hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bench.dispatch import core
from bench.dispatch.experiments import ROOM, Cell
from bench.dispatch.fleet import Outcome, quantile
from bench.dispatch.parts import PARTS, REST
from bench.dispatch.plan import AT_ONCE, RELAYS

from quietfleet.network import Tuning

PRICED_GOAL: Final = 20.0  # deals a second, of one replica at a least proof of work of 0.2
WAIVED_GOAL: Final = 200.0  # and where registered members pay none
_PROCESSES: Final = ("oracle", "workers", "relays")


def result_of(rounds: int, cells: Sequence[Cell], cores: int) -> dict[str, Any]:
    """Return what `bench.report` takes; `rounds` is how often the core alone is measured."""
    matching = core.result(rounds)
    tables = [*matching["tables"], _deals(cells), _latency(cells), _parts(cells), _scaling(cells)]
    return {
        "title": "Dispatch: deals a second, and from seeking to the first message",
        "about": [*matching["about"], *_about(cores), *_verdicts(matching["tables"][0]["rows"], cells)],
        "tables": [table for table in tables if table["rows"]],
    }


def _about(cores: int) -> list[str]:
    return [
        (
            f"Over the network: real workers with real nodes, links, sessions and databases, on the loopback of "
            f"{cores} cores: one process for {RELAYS} relays of {RELAYS} owners, one for each replica of the oracle, "
            "one for all workers. A fifth of the workers offers; the others seek, take what is proposed, end the deal "
            "and seek again. A deal counts when its seeker opens the introduction. Workers are light (blooms of 64 "
            "bits) and linked to two relays; the oracle takes the whole flood and floods what it says. The chain "
            "stands still."
        ),
        (
            "The oracle's state is on disk and synced; everybody else's is in memory, for on one machine all would "
            "wait for one disk. All processes share the cores, so that deals a second are the whole fleet's: what a "
            "replica could do if it had a core for itself stands beside it, by its own processor time."
        ),
        (
            f"No more than {AT_ONCE} workers seek at once, in turns: the others are linked, members "
            "of the epoch, and hear what is theirs. A hundred workers at most come up at a time."
        ),
        (
            f"Relays take {Tuning().new_rate:g} new envelopes a second from a link as they come; those with room, "
            f"`link_rate` = {ROOM:g}."
        ),
        (
            "By part: thread time within the functions of each, without what other parts take inside them; measured in "
            "a run of its own, which the measuring slows."
        ),
    ]


def _deals(cells: Sequence[Cell]) -> dict[str, Any]:
    rows = []
    for cell, outcome in _of("deals", cells):
        rows.append(
            [
                cell.about,
                cell.terms["workers"],
                cell.terms.get("stem", "onion"),
                round(outcome.rate, 1),
                *_milliseconds(outcome.introduced),
                *(round(outcome.per_deal(name), 1) for name in _PROCESSES),
                round(_alone(outcome)),
            ]
        )
    columns = ["terms", "workers", "stems", "deals/s", "p50 ms", "p99 ms", *_cpu_columns(), "oracle alone, deals/s"]
    return {"title": "Deals over the network", "columns": columns, "rows": rows}


def _latency(cells: Sequence[Cell]) -> dict[str, Any]:
    rows = [
        [cell.about, cell.terms["workers"], len(outcome.first_messages), *_milliseconds(outcome.first_messages)]
        for cell, outcome in _of("latency", cells)
    ]
    columns = ["first messages", "workers", "sessions", "p50 ms", "p99 ms"]
    return {"title": "From seeking to the first message in the new session", "columns": columns, "rows": rows}


def _parts(cells: Sequence[Cell]) -> dict[str, Any]:
    metered = [outcome for cell in cells if cell.terms.get("parts") and (outcome := cell.outcome)]
    rows = [
        [part, *(round(_part(outcome, name, part), 2) for name in _PROCESSES)]
        for outcome in metered[:1]
        for part in (*PARTS, REST)
    ]
    return {"title": "Processor time of a deal by part", "columns": ["part", *_cpu_columns()], "rows": rows}


def _scaling(cells: Sequence[Cell]) -> dict[str, Any]:
    rows = [
        [
            cell.terms["replicas"],
            cell.terms["workers"],
            *_came_up(outcome),
            round(outcome.rate, 1),
            *_milliseconds(outcome.introduced),
            *(round(outcome.per_deal(name), 1) for name in _PROCESSES),
        ]
        for cell, outcome in _of("scaling", cells)
    ]
    start = ["came up", "in s", "ms CPU each", "MiB each"]
    columns = ["replicas", "workers", *start, "deals/s", "p50 ms", "p99 ms", *_cpu_columns()]
    return {"title": "Replicas and workers: work waived, no stems", "columns": columns, "rows": rows}


def _came_up(outcome: Outcome) -> list[int | float | None]:
    """Return how many workers came up, in how long, and what each cost, its share of the process included."""
    start = outcome.came_up
    if start is None or not start["up"]:
        return [0, None, None, None]
    each = start["up"]
    return [each, round(start["seconds"]), round(1000 * start["cpu"] / each), round(start["memory"] / each / 2**20, 1)]


def _verdicts(matching: Sequence[Sequence[Any]], cells: Sequence[Cell]) -> list[str]:
    """Return a sentence on each goal that was measured."""
    matches = min(row[1] for row in matching)
    said = [f"Core alone: {matches:,} matches/s at the least; goal {core.GOAL:,.0f}: {_word(matches >= core.GOAL)}."]
    for cell, outcome in _of("deals", cells):
        goal = PRICED_GOAL if cell.terms["min_pow"] else WAIVED_GOAL
        held = _word(outcome.rate >= goal)
        alone = f"{_alone(outcome):.0f} by the oracle's own processor time"
        said.append(f"{cell.about}: {outcome.rate:.1f} deals/s; goal {goal:.0f}: {held}; {alone}.")
    late = [f"{cell.table}, {cell.about}" for cell in cells if cell.outcome is None]
    return [*said, f"Not measured, for the fleet did not come up in time: {'; '.join(late)}."] if late else said


def _of(table: str, cells: Sequence[Cell]) -> list[tuple[Cell, Outcome]]:
    return [(cell, cell.outcome) for cell in cells if cell.table == table and cell.outcome]


def _alone(outcome: Outcome) -> float:
    """Return how many deals a second the oracle could do with a core to itself."""
    return 1000 / outcome.per_deal("oracle") if outcome.deals else 0.0


def _part(outcome: Outcome, process: str, part: str) -> float:
    return 1000 * outcome.parts[process].get(part, 0.0) / max(1, outcome.deals)


def _milliseconds(seconds: Sequence[float]) -> list[int | None]:
    return [None if (found := quantile(seconds, share)) is None else round(1000 * found) for share in (0.5, 0.99)]


def _cpu_columns() -> list[str]:
    return [f"ms CPU, {name}" for name in _PROCESSES]


def _word(held: bool) -> str:
    return "holds" if held else "missed"
