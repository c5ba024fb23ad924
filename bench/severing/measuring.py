"""One measurement: switch devices off under load, see what was accepted and when everything of them was gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from bench.severing.devices import Device
from bench.severing.world import Moment, World, until

BACKLOG: Final = 20  # envelopes that wait at a worker at most: more would measure the queue
AFTERWARDS: Final = 10  # envelopes of devices switched off that are still to come before they are switched on again


class Load:
    """Devices that send all the time, at a steady rate together; those given go on after they are switched off."""

    def __init__(self, world: World, rate: float, rng: random.Random) -> None:
        self._world = world
        self._pause = 1.0 / rate
        self._rng = rng
        self._task: asyncio.Task[None] | None = None
        self.talkers: Sequence[Device] = ()
        self.sent = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def more(self, count: int) -> None:
        """Wait until so many further envelopes were sent and heard."""
        enough = self.sent + count
        workers = self._world.workers
        await until(lambda: self.sent >= enough and not any(worker.ether.backlog for worker in workers))

    async def _send(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            if not self.talkers:
                continue
            device = self._rng.choice(self.talkers)
            ether = self._world.worker_of(device).ether
            if ether.backlog < BACKLOG:
                ether.bring(device.envelope())
                self.sent += 1


@dataclass(slots=True)
class Severed:
    """One switch: seconds, each of the worker that was slowest."""

    seen: float  # from mined to seen
    acted: float  # from seen to what was severed being gone from the database
    whole: float  # from mined to that
    wiped: float  # from seen to the database's log being empty of it too
    last: float  # from seen to the last message accepted; 0 if that was before


@dataclass(slots=True)
class Outcome:
    """All switches of so many sessions at once."""

    sessions: int
    switches: list[Severed] = field(default_factory=list)
    unwanted: int = 0  # messages that came from severed devices
    accepted: int = 0  # of them
    rows: int = 0  # of severed sessions that were still in a database


async def measure(world: World, load: Load, sessions: int, times: int, rng: random.Random) -> Outcome:
    """Switch so many devices off at once, and on again, so many times."""
    outcome = Outcome(sessions)
    for _ in range(times):
        chosen = rng.sample(world.devices, sessions)
        load.talkers = chosen
        await load.more(min(sessions, AFTERWARDS))
        moment = await world.switch(chosen, active=False)
        await world.followed(moment)
        before = _accepted(world)
        sent = load.sent
        _note(world, outcome, chosen, moment)
        await load.more(AFTERWARDS)
        outcome.unwanted += load.sent - sent
        outcome.accepted += _accepted(world) - before
        load.talkers = ()
        await load.more(0)
        await world.followed(await world.switch(chosen, active=True))
        world.join(chosen)
    return outcome


def _note(world: World, outcome: Outcome, chosen: Sequence[Device], moment: Moment) -> None:
    touched = {id(worker): worker for worker in map(world.worker_of, chosen)}.values()
    seen = {id(worker): worker.seen(moment.block) for worker in touched}
    gone = {id(worker): worker.gone[moment.block] for worker in touched}
    last = [
        max(0.0, world.worker_of(device).answering.accepted.get(device.id, 0.0) - seen[id(world.worker_of(device))])
        for device in chosen
    ]
    outcome.switches.append(
        Severed(
            max(seen.values()) - moment.at,
            max(gone[one] - seen[one] for one in seen),
            max(gone.values()) - moment.at,
            max(worker.wiped.get(moment.block, gone[id(worker)]) - seen[id(worker)] for worker in touched),
            max(last),
        )
    )
    for worker in touched:
        outcome.rows += worker.left([world.sessions[one.id] for one in chosen if world.worker_of(one) is worker])


def _accepted(world: World) -> int:
    return sum(worker.answering.count for worker in world.workers)
