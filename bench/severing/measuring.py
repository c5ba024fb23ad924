"""One measurement: switch devices off under load, see what was accepted and when everything of them was gone."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.severing.member import Told
from bench.severing.world import Moment, World

RATE: Final = 200.0  # messages a second of the devices that are about to be, or were, switched off
AFTERWARDS: Final = 10  # envelopes of devices switched off that are still to come before they are switched on again


@dataclass(slots=True)
class Severed:
    """One switch: seconds, each of the worker that was slowest."""

    seen: float  # from mined to seen
    acted: float  # from seen to what was severed being gone from the database
    whole: float  # from mined to that
    wiped: float  # from seen to the database's log being empty of it too
    last: float  # from seen to the last message accepted; 0 if that was before
    busy: float  # of processor time, from seen to gone


@dataclass(slots=True)
class Outcome:
    """All switches of so many sessions at once."""

    sessions: int
    switches: list[Severed] = field(default_factory=list)
    unwanted: int = 0  # messages that came from severed devices
    accepted: int = 0  # of them
    rows: int = 0  # of severed sessions that were still in a database


async def measure(world: World, sessions: int, times: int, rng: random.Random) -> Outcome:
    """Switch so many devices off at once, and on again, so many times."""
    outcome = Outcome(sessions)
    for _ in range(times):
        chosen = world.share(rng.sample(range(world.plan.devices), sessions))
        await world.ask("talk", chosen, lambda mine: _talk(mine, sessions))
        moment = await world.switch(chosen, active=False)
        told = await world.ask(
            "switched", chosen, lambda mine, at=moment: {"block": at.block, "count": _part(AFTERWARDS, mine, sessions)}
        )
        _note(outcome, [Told(**one) for one, mine in zip(told, chosen, strict=True) if mine], moment)
        again = await world.switch(chosen, active=True)
        await world.ask("rejoin", chosen, lambda _, at=again: {"block": at.block})
    return outcome


def _talk(mine: Sequence[int], of: int) -> dict[str, float]:
    return {"rate": RATE * len(mine) / of, "count": _part(min(of, AFTERWARDS), mine, of)}


def _part(count: int, mine: Sequence[int], of: int) -> int:
    return math.ceil(count * len(mine) / of)


def _note(outcome: Outcome, told: Sequence[Told], moment: Moment) -> None:
    outcome.switches.append(
        Severed(
            max(one.seen for one in told) - moment.at,
            max(one.gone - one.seen for one in told),
            max(one.gone for one in told) - moment.at,
            max(one.wiped - one.seen for one in told),
            max(0.0, *(one.last - one.seen for one in told)),
            max(one.busy for one in told),
        )
    )
    outcome.unwanted += sum(one.came for one in told)
    outcome.accepted += sum(one.accepted for one in told)
    outcome.rows += sum(one.rows for one in told)
