"""One worker in a process of its own, with the devices that are with it; obeys and tells in JSON lines."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from bench.severing.devices import Device
from bench.severing.plan import Plan
from bench.severing.workers import Deaf, Seeing, Worker

from quietfleet.workers import _view

BACKLOG: Final = 20  # envelopes that wait at a worker at most: more would measure the queue
PATIENCE: Final = 60.0
_LOOK: Final = 0.005


class Load:
    """Devices that send all the time, at a steady rate together, and go on after they are switched off."""

    def __init__(self, worker: Worker, rng: random.Random) -> None:
        self._ether = worker.ether
        self._rng = rng
        self._talkers: Sequence[Device] = ()
        self._pause = 1.0
        self._talking = asyncio.Event()
        self.sent = 0

    def begin(self, talkers: Sequence[Device], rate: float) -> None:
        """Have these devices send so many messages a second."""
        self._talkers, self._pause = talkers, 1.0 / rate
        self._talking.set()

    def end(self) -> None:
        """Have nobody send."""
        self._talking.clear()

    async def more(self, count: int) -> None:
        """Wait until so many further envelopes were sent and heard."""
        enough = self.sent + count
        await until(lambda: self.sent >= enough and not self._ether.backlog)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._talking.wait()
            if self._ether.backlog < BACKLOG:
                self._ether.bring(self._rng.choice(self._talkers).envelope())
                self.sent += 1
            await asyncio.sleep(self._pause)


class Told(msgspec.Struct, frozen=True):
    """What one switch was like for one worker: moments in seconds of the clock that all processes share."""

    seen: float
    gone: float
    wiped: float
    last: float  # message accepted of a device in question; 0 if there was none
    busy: float  # seconds of processor time from seen to gone
    came: int  # messages of severed devices
    accepted: int  # of them
    rows: int  # of severed sessions that were still in the database


class Member:
    """The worker, and what it is told to do."""

    def __init__(self, plan: Plan, number: int, worker: Worker) -> None:
        self._plan, self._worker = plan, worker
        mine = (device for device in range(plan.devices) if plan.worker_of(device) == number)
        self._devices = {device: Device(plan.key("device", device)) for device in mine}
        self._sessions: dict[int, bytes] = {}
        self._load = Load(worker, random.Random(number))

    async def run(self) -> None:
        """Work until the parent is gone."""
        self._worker.begin()
        loading = asyncio.create_task(self._load.run())
        await until(lambda: self._worker.replica.configuration()[0] is not None)
        latest, _ = self._worker.replica.configuration()
        assert latest is not None
        self._worker.messenger.set_epoch_key(latest, self._plan.epoch_key)
        self._join(list(self._devices))
        say(ready=True)
        await self._obey()
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
        await self._worker.end()

    async def _obey(self) -> None:
        orders = asyncio.StreamReader(limit=1 << 24)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        while line := await orders.readline():
            order = json.loads(line)
            say(**{order["do"]: await getattr(self, f"_{order.pop('do')}")(**order)})

    async def _talk(self, devices: list[int], rate: float, count: int) -> bool:
        """Have these devices send; return when so many messages of theirs were heard."""
        if devices:
            self._load.begin([self._devices[one] for one in devices], rate)
            await self._load.more(count)
        return True

    async def _switched(self, devices: list[int], block: int, count: int) -> dict[str, Any]:
        """Return what came of a block that switched these devices off, and of so many messages of theirs after it."""
        await self._reached(block)
        left = self._worker.left([self._sessions[one] for one in devices])
        sent = self._load.sent
        await self._load.more(count)
        self._load.end()
        await self._load.more(0)
        return msgspec.to_builtins(self._told(devices, block, left, self._load.sent - sent))

    async def _rejoin(self, devices: list[int], block: int) -> bool:
        """Put these devices in session anew after a block that switched them on."""
        await self._reached(block)
        self._join(devices)
        return True

    def _told(self, devices: list[int], block: int, left: int, came: int) -> Told:
        worker, answering = self._worker, self._worker.answering
        seen, gone = worker.seen(block), worker.gone[block]
        last = max((answering.accepted.get(self._devices[one].id, 0.0) for one in devices), default=0.0)
        wiped = worker.wiped.get(block, gone.at)
        accepted = answering.count - gone.accepted
        return Told(seen.at, gone.at, wiped, last, gone.busy - seen.busy, came, accepted, left)

    def _join(self, devices: list[int]) -> None:
        ids = self._worker.join([self._devices[one] for one in devices], self._plan.epoch_key)
        self._sessions |= dict(zip(devices, ids, strict=True))

    async def _reached(self, block: int) -> None:
        await until(lambda: block in self._worker.gone)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds of what is watched from outside."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - nobody there tells of it
            await asyncio.sleep(_LOOK)


def say(**what: Any) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Be one worker of a plan."""
    folder, number = sys.argv[1], int(sys.argv[2])
    logging.basicConfig(filename=Path(folder) / f"processor-{number}.log", level=logging.WARNING)
    plan = Plan.load(folder)
    _view.ChainClient = Seeing  # type: ignore[misc]

    async def work() -> None:
        kind = Deaf if plan.deaf else Worker
        await Member(plan, number, kind(plan.settings(number), plan.key("worker", number))).run()

    uvloop.run(work())


if __name__ == "__main__":
    main()
