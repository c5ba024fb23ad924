"""The workers that sever: real runtimes with their databases, sessions, chain followers and bells; no network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, Self

from bench.severing.devices import Device

from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.source import Header
from quietfleet.chain.types import Change
from quietfleet.clock import SystemClock
from quietfleet.crypto import PrivateKey
from quietfleet.session import Event, Received
from quietfleet.settings import Settings
from quietfleet.storage import Database
from quietfleet.whisper import Envelope
from quietfleet.workers._runtime import Runtime
from quietfleet.workers.messages import Readings, Recommendation

ANSWER = Recommendation(1, "carry on")


class Arriving:
    """What comes in, one after another, or what is there at once."""

    def __init__(self, waiting: asyncio.Queue[Envelope]) -> None:
        self._waiting = waiting

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Envelope:
        return await self._waiting.get()

    def take(self, most: int) -> list[Envelope]:
        return [self._waiting.get_nowait() for _ in range(min(most, self._waiting.qsize()))]


class Ether:
    """In place of a node: hands a worker what devices send, and loses what the worker sends."""

    peers = 1

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Envelope] = asyncio.Queue()
        self.published = 0

    def bring(self, envelope: Envelope) -> None:
        self._waiting.put_nowait(envelope)

    @property
    def backlog(self) -> int:
        return self._waiting.qsize()

    def envelopes(self) -> Arriving:
        return Arriving(self._waiting)

    async def publish(self, _envelope: Envelope) -> None:
        self.published += 1

    def withdraw(self, envelopes: Mapping[bytes, float]) -> None:
        """Whatever was published has left."""

    async def work(self, envelope: Envelope, _target: float, _budget: float) -> Envelope:
        return envelope

    async def start(self) -> None:
        """There is nothing to start."""

    async def stop(self) -> None:
        """Nor to stop."""

    def set_rules(self, _rules: Any) -> None:
        """No rules hold here."""

    def keep_connected(self, _enodes: Any) -> None:
        """There is nobody to be connected to."""


class Answering:
    """An agent that answers every reading, and notes when the last of each device was accepted."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.accepted: dict[str, float] = {}
        self.count = 0

    def admit(self, _peer: str, _purpose: str) -> bool:
        return False

    def on_event(self, event: Event) -> None:
        if isinstance(event, Received) and isinstance(event.body, Readings):
            self.accepted[event.peer] = time.perf_counter()
            self.count += 1
            self._runtime.messenger.reply(event, ANSWER)

    def on_change(self, _change: Change) -> None:
        """The chain is the runtime's matter."""

    def on_tick(self) -> None:
        """It does nothing by itself."""

    async def after(self) -> None:
        """It starts nothing."""

    def recover(self) -> None:
        """It has nothing to lose."""

    async def close(self) -> None:
        """It holds nothing."""

    def status(self) -> dict[str, Any]:
        return {}


class Moment(NamedTuple):
    """When something was: on the clock that all processes share, in this process's processor time, and after what."""

    at: float
    busy: float
    accepted: int

    @classmethod
    def now(cls, accepted: int = 0) -> Self:
        return cls(time.perf_counter(), time.process_time(), accepted)


class Seeing(ChainClient):
    """A chain client that notes when it first saw each block."""

    seen: dict[int, Moment] = {}  # noqa: RUF012 - one worker a process

    async def header(self, number: int | None = None) -> Header | None:
        header = await super().header(number)
        if header is not None:
            self.seen.setdefault(header.number, Moment.now())
        return header


class Worker(Runtime):
    """A worker that notes when what it severed is gone from its database, as another reader sees it."""

    def __init__(self, settings: Settings, key: PrivateKey) -> None:
        super().__init__(settings, key, SystemClock(), "")
        self.ether = Ether()
        self.node = self.ether  # type: ignore[assignment]
        self.presence = replace(self.presence, miner=self.ether)
        self.agent = self.answering = Answering(self)
        self.gone: dict[int, Moment] = {}  # block: when its effects were there for everyone to see
        self.wiped: dict[int, float] = {}  # block: when the log held nothing of it any more
        self._reader = Database.observe(self.database.path)
        self._tasks: list[asyncio.Task[None]] = []

    async def after(self) -> None:
        head = self.replica.head
        fresh = head is not None and head.number not in self.gone
        if fresh and head is not None:
            self.gone[head.number] = Moment.now(self.answering.count)
        await super().after()
        if fresh and head is not None and not self._erased:
            self.wiped[head.number] = time.perf_counter()

    def seen(self, block: int) -> Moment:
        """When this worker first saw a block, or one after it."""
        return min(moment for number, moment in Seeing.seen.items() if number >= block)

    def reached(self, block: int) -> bool:
        """Whether a block, or one after it, has had its effects."""
        return max(self.gone, default=-1) >= block

    def left(self, sessions: list[bytes]) -> int:
        """Count which of these sessions another reader finds in the database."""
        marks = ",".join("?" * len(sessions))
        found = self._reader.execute(f"SELECT count(*) FROM session_sessions WHERE id IN ({marks})", sessions)  # noqa: S608 - question marks
        return int(found.fetchone()[0])

    def join(self, devices: Iterable[Device], epoch_key: bytes) -> list[bytes]:
        """Put devices in session with this worker; return the sessions' ids."""
        with self.database.transaction():
            return [self.enter(device, epoch_key) for device in devices]

    def enter(self, device: Device, epoch_key: bytes) -> bytes:
        """Enter a session with a device, as after a handshake; return its id."""
        session = device.session_with(self.id, epoch_key)
        self.messenger.table.add(session)
        self.messenger.table.add_generation(session, session.version, epoch_key)
        self.messenger.ghosts.end(device.id)
        return session.id

    def begin(self) -> None:
        """Start to work."""
        self._apply_rules()
        self._tasks = [asyncio.create_task(part) for part in self.parts()]

    async def end(self) -> None:
        """Stop working; what failed meanwhile is raised."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._reader.close()
        self.close()


class Deaf(Worker):
    """The control: a worker that does not sever, and asks nobody."""

    def __init__(self, settings: Settings, key: PrivateKey) -> None:
        super().__init__(settings, key)
        self.registry.can_cooperate = lambda *_: True  # type: ignore[method-assign]

    def sever_all(self, _reasons: Mapping[str, str]) -> None:
        """It goes on."""
