"""A world in which one worker is killed at a given step, and what must hold of it afterwards.

A trial opens a world from disk, lets a scenario happen, and at the fatal step takes a picture of the victim's folder:
that is what SIGKILL would leave, to the byte, open transaction and all. The victim is dead from then on, whatever its
code still tries; a moment later it is started on the picture, and the world goes on.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from worker_world import Worker, World

from quietfleet.chain.deployment import ContractRecord, load_deployment, save_deployment
from quietfleet.chain.types import Kind
from quietfleet.clock import ManualClock
from quietfleet.crypto import PrivateKey
from quietfleet.settings import AuditSection, KeysSection, Settings
from quietfleet.storage import Database, _shared
from quietfleet.testbed.mortal import FileWatch, MortalDatabase, MortalNode, Steps
from quietfleet.workers import _host
from quietfleet.workers._replicated import ReplicatedRuntime
from quietfleet.workers._runtime import Runtime
from quietfleet.workers.oracle import Oracle

DOWN = 1.0  # seconds before a victim is started again
LEAVES = ("published", "sent", "open", "os.")  # what a kill cannot take back
COMMITTED = " done"  # how the step after a commit is called
CURSOR = ("DELETE FROM chain_", "INSERT OR REPLACE INTO chain_blocks")  # what a block with nothing in it writes
ANCHORS = "0x" + "33" * 20
ROTATOR = PrivateKey.from_bytes(b"\7" * 32)


class Killed(BaseException):
    """What the process that dies runs into; nothing it may catch."""


class Doom:
    """One worker's steps, and its death at one of them.

    Each step is marked with how much was committed, has left the process or gone into files: kills under one mark leave
    the same on disk and outside, so that the last of them stands for all. Of blocks in a row in which nothing happened,
    the last stands for all, too.
    """

    def __init__(self, folder: Path, fatal: int = 0) -> None:
        self.folder = folder
        self.image = folder.with_name(f"{folder.name}.killed")
        self.steps = Steps(self._die, fatal)
        self.dead = False
        self.buried = False
        self.marks: list[int] = []
        self._mark = 0
        self._quiet, self._was_quiet = True, False  # this transaction so far, the one before: only the cursor moves
        keystore = folder.with_name(folder.name.partition("#")[0])
        self._files = FileWatch([folder, folder.parent / "shelf"], self, [keystore])

    def take(self, name: str) -> None:
        """Take a step; a dead worker takes none."""
        if self.dead:
            raise Killed
        if name.endswith(COMMITTED):
            self._mark += not (self._quiet and self._was_quiet)
            self._was_quiet, self._quiet = self._quiet, True
        elif not name.startswith("COMMIT"):
            self._quiet &= name.startswith(CURSOR)
        self.marks.append(self._mark)
        self._mark += name.startswith(LEAVES)
        self.steps.take(name)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Number what happens to files meanwhile."""
        self._files.start()
        try:
            yield
        finally:
            self._files.stop()

    def _die(self) -> None:
        self._files.stop()
        shutil.copytree(self.folder, self.image)
        self.dead = True
        raise Killed


class Mortal(Worker):
    """A worker that can be killed at a step, and is started again on what its disk was then."""

    world: CrashWorld
    given: list[Any]

    def start(self) -> None:
        self.up = False
        doom = self.world.dooms.get(self.name)
        if doom is None or doom.dead:
            self._rise()
            return
        with _numbered(doom), doom.watching():
            try:
                self._rise()
            except Killed:
                self.bury(doom)
                return
        self.runtime.node = MortalNode(self.node, doom)

    def _rise(self) -> None:
        super().start()
        if isinstance(self.runtime, ReplicatedRuntime):
            self.runtime.attend()
        self.runtime._reconcile()
        self.given = getattr(self, "given", [])
        if self.kind is Kind.SENSOR and self.given:  # what was not kept is measured again: sensors have a memory, too
            self.source.coming = self.given[self.agent.status()["measured"] :]

    def measure(self, readings: list[Any]) -> None:
        self.given += readings
        self.world.reach(max(at for at, _ in readings))
        if self.up:
            self.source.coming += readings

    async def beat(self) -> None:
        await self.lives(super().beat)

    async def hear(self, envelope: Any) -> None:
        await self.lives(lambda: super(Mortal, self).hear(envelope))

    async def do(self, step: Callable[[], Any]) -> None:
        await self.lives(lambda: super(Mortal, self).do(step))

    async def flush(self) -> None:
        await self.lives(self.runtime.flush)

    async def lives(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do something, as long as there is somebody to do it."""
        doom = self.world.dooms.get(self.name)
        if doom is None or doom.buried:
            if self.up:
                await act()
            return
        with doom.watching(), suppress(Killed):
            await act()
        if doom.dead:
            self.bury(doom)

    def bury(self, doom: Doom) -> None:
        """Let go of the dead process, and put the picture of its disk where it was."""
        doom.buried = True
        if self.up:
            for job in list(getattr(self.agent, "_jobs", ())):
                job.cancel()
            self.crash()
        shutil.rmtree(doom.folder)
        doom.image.rename(doom.folder)
        self.world.fallen.append((self.world.clock.now() + DOWN, self))


@dataclass
class CrashWorld(World):
    """A world that buries its dead and raises them again."""

    dooms: dict[str, Doom] = field(default_factory=dict)
    fallen: list[tuple[float, Mortal]] = field(default_factory=list)
    coming: list[Any] = field(default_factory=list)  # events that a scene has happen on chain
    contract: Any = None  # where a scene has one
    keys: KeysSection = field(default_factory=KeysSection)
    oracle: dict[str, Any] = field(default_factory=dict)  # what an oracle with the rotator's key is set to
    anchor_every: float = 0.0

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "deployment.json").unlink(missing_ok=True)  # a copy has it
        super().__post_init__()
        place = load_deployment(self.folder / "deployment.json")
        (self.folder / "deployment.json").unlink()
        save_deployment(self.folder / "deployment.json", replace(place, audit=ContractRecord(ANCHORS, (), 0)))

    def settings(self, name: str) -> Settings:
        chosen = super().settings(name)
        oracle = msgspec.structs.replace(chosen.oracle, **self.oracle)
        audit = AuditSection(anchor_every=self.anchor_every)
        return msgspec.structs.replace(chosen, keys=self.keys, oracle=oracle, audit=audit)

    def agent(self, worker: Worker) -> Any:
        if worker.kind is Kind.ORACLE and self.oracle:
            return Oracle(worker.runtime, ROTATOR)
        return super().agent(worker)

    def runtime_of(self, kind: Kind) -> type[Runtime]:
        """An oracle with a store is one of several replicas."""
        return ReplicatedRuntime if kind is Kind.ORACLE and self.store else Runtime

    async def add(self, name: str, kind: Kind, *, enrol: bool = True, agent: Any = None) -> Worker:  # type: ignore[override]
        worker = self.workers[name] = Mortal(self, name, kind, agent, self.runtime_of(kind))
        if self._events and worker.up:
            await self._read(worker, -1, tuple(self._events))
        if enrol:
            await self.enrol(worker)
        return worker

    async def draw_card(self, gateway: Worker, version: int) -> bytes:
        digests: list[bytes] = []
        prepare = super().draw_card

        async def draw() -> None:
            digests.append(await prepare(gateway, version))

        await self.certainly(gateway, lambda: gateway.lives(draw))  # type: ignore[attr-defined]
        return digests[-1]

    async def certainly(self, worker: Worker, act: Callable[[], Awaitable[None]]) -> None:
        """Have a worker do something, again if it dies of it."""
        while True:
            if worker.up:
                await act()
            if worker.up:
                return
            await self.pass_time(1)

    async def pass_time(self, seconds: float, *, step: float = 1.0) -> None:
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            await super().pass_time(step, step=step)
            await self.finish_jobs()
            if self.contract is not None:
                await self.contract.tell()
            await self.raise_fallen()

    async def finish_jobs(self) -> None:
        """Let jobs that run beside the workers come to their end, or to that of their process."""
        for worker in self.up():
            for _ in range(8):
                slot, handout = getattr(worker.agent, "_slot", None), getattr(worker.agent, "_handout", None)
                month = getattr(worker.agent, "_month", None)
                looks = (
                    getattr(getattr(slot, "fetching", None), "_look", None),
                    getattr(handout, "_job", None),
                    getattr(month, "_away", None),
                )
                looking = [job for job in looks if job is not None and not (job is looks[2] and job.done())]
                jobs = [*getattr(worker.agent, "_jobs", ()), *looking]
                if not jobs:
                    break
                await worker.lives(partial(asyncio.wait, jobs))  # type: ignore[attr-defined]

    async def raise_fallen(self) -> None:
        """Start those whose time has come."""
        due = [one for one in self.fallen if one[0] <= self.clock.now()]
        for one in due:
            self.fallen.remove(one)
            one[1].start()
            await self.catch_up(one[1])

    async def _read(self, worker: Any, ancestor: int, located: Any) -> None:
        await worker.lives(lambda: super(CrashWorld, self)._read(worker, ancestor, located))

    async def run(self, rounds: int = 8) -> None:
        """Once the dead are buried, one beat a moment does: what is left is to wait for what must come of it."""
        mourning = bool(self.dooms) and all(doom.buried for doom in self.dooms.values())
        await super().run(1 if mourning else rounds)
        for _ in range(rounds - 1 if mourning else 0):
            await self.deliver()

    async def deliver(self) -> None:
        for sender in self.up():
            await sender.flush()  # type: ignore[attr-defined]
            sent, sender.node.sent = sender.node.sent, []
            for envelope in sent:
                self.wire.append((sender, envelope))
                for other in self.up():
                    if other is not sender:
                        await other.hear(envelope)


@dataclass(frozen=True)
class Saved:
    """A world on disk, everybody down."""

    folder: Path
    clock: float
    data: float
    facts: dict[str, Any]
    people: list[tuple[str, Kind, Any, list[Any]]]

    @classmethod
    async def of(cls, world: World) -> Saved:
        """Close a world and keep it."""
        facts = {name: getattr(world, name) for name in _FACTS}
        people = [(one.name, one.kind, one._make, getattr(one, "given", [])) for one in world.workers.values()]
        await world.close()
        return cls(world.folder, world.clock.now(), world.data.now(), facts, people)

    async def open(self, folder: Path, victim: str = "", fatal: int = 0) -> CrashWorld:
        """Start everybody on a copy, one of them doomed."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)
        world = CrashWorld(folder, ManualClock(self.clock), ManualClock(self.data))
        for name, value in self.facts.items():
            setattr(world, name, value.copy() if isinstance(value, list | dict) else value)
        if victim:
            world.dooms[victim] = Doom(folder / victim, fatal)
        for name, kind, make, given in self.people:
            worker = world.workers[name] = Mortal.__new__(Mortal)
            worker.given = list(given)
            Mortal.__init__(worker, world, name, kind, make, world.runtime_of(kind))
        return world


_FACTS = (
    "recalibration",
    "actuators",
    "telemetry_every",
    "coming",
    "capacity",
    "max_size",
    "inference",
    "shelves",
    "store",
    "keys",
    "oracle",
    "anchor_every",
    "latest",
    "_events",
    "_released",
    "_block",
    "dispatch",
    "offered",
)


@contextmanager
def _numbered(doom: Doom) -> Iterator[None]:
    def database(path: Path) -> Database:
        return MortalDatabase(path, doom)

    _host.Database = _shared.Database = database  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        _host.Database = _shared.Database = Database  # type: ignore[misc]
