"""The workers that sever: real runtimes with their databases, sessions, chain followers and bells; no network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.severing.devices import Device

from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.source import Header
from quietfleet.chain.types import Change
from quietfleet.clock import SystemClock
from quietfleet.crypto import PrivateKey
from quietfleet.session import Event, Received
from quietfleet.settings import ChainSection, NetworkSection, Settings, WorkerSection
from quietfleet.storage import Database
from quietfleet.whisper import Envelope
from quietfleet.workers._runtime import Runtime
from quietfleet.workers.messages import Readings, Recommendation

ANSWER = Recommendation(1, "carry on")


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

    async def envelopes(self) -> AsyncIterator[Envelope]:
        while True:
            yield await self._waiting.get()

    async def publish(self, _envelope: Envelope) -> None:
        self.published += 1

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


class Seeing(ChainClient):
    """A chain client that notes when it first saw each block."""

    seen: dict[int, dict[int, float]] = {}  # noqa: RUF012 - by deployment, of which each worker has its own

    async def header(self, number: int | None = None) -> Header | None:
        header = await super().header(number)
        if header is not None:
            self.seen.setdefault(id(self.deployment), {}).setdefault(header.number, time.perf_counter())
        return header


class Worker(Runtime):
    """A worker that notes when what it severed is gone from its database, as another reader sees it."""

    def __init__(self, settings: Settings, key: PrivateKey) -> None:
        super().__init__(settings, key, SystemClock(), "")
        self.ether = Ether()
        self.node = self.ether  # type: ignore[assignment]
        self.presence = replace(self.presence, miner=self.ether)
        self.agent = self.answering = Answering(self)
        self.gone: dict[int, float] = {}  # block: when its effects were there for everyone to see
        self.wiped: dict[int, float] = {}  # block: when the log held nothing of it any more
        self._reader = Database.observe(self.database.path)
        self._tasks: list[asyncio.Task[None]] = []

    async def after(self) -> None:
        head = self.replica.head
        fresh = head is not None and head.number not in self.gone
        if fresh and head is not None:
            self.gone[head.number] = time.perf_counter()
        await super().after()
        if fresh and head is not None and not self._erased:
            self.wiped[head.number] = time.perf_counter()

    def seen(self, block: int) -> float:
        """When this worker first saw a block, or one after it."""
        known = Seeing.seen.get(id(self.deployment), {})
        return min(at for number, at in known.items() if number >= block)

    def reached(self, block: int) -> bool:
        """Whether a block, or one after it, has had its effects."""
        return max(self.gone, default=-1) >= block

    def left(self, sessions: list[bytes]) -> int:
        """Count which of these sessions another reader finds in the database."""
        marks = ",".join("?" * len(sessions))
        found = self._reader.execute(f"SELECT count(*) FROM session_sessions WHERE id IN ({marks})", sessions)  # noqa: S608 - question marks
        return int(found.fetchone()[0])

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


def settings_of(folder: Path, number: int, rpc: str, ws: str) -> Settings:
    """Return the settings of one of these workers."""
    chain = ChainSection("deployment.json", rpc=rpc, ws=ws, max_age=600.0)
    name = f"processor-{number}"
    return Settings(WorkerSection(name, state=name), chain, NetworkSection(stem="off"), folder=str(folder))
