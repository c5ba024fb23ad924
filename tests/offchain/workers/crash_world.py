"""A world in which one worker is killed at a given step, and what must hold of it afterwards.

A trial opens a world from disk, lets a scenario happen, and at the fatal step takes a picture of the victim's folder:
that is what SIGKILL would leave, to the byte, open transaction and all. The victim is dead from then on, whatever its
code still tries; a moment later it is started on the picture, and the world goes on.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from worker_world import Worker, World

from quietfleet.chain.types import Kind
from quietfleet.clock import ManualClock
from quietfleet.storage import Database
from quietfleet.testbed.mortal import FileWatch, MortalDatabase, MortalNode, Steps
from quietfleet.workers import _host
from quietfleet.workers._runtime import Runtime

DOWN = 1.0  # seconds before a victim is started again
LEAVES = ("published", "sent", "open", "os.")  # what a kill cannot take back

MarkOf = tuple[int, int]


class Killed(BaseException):
    """What the process that dies runs into; nothing it may catch."""


class Doom:
    """One worker's steps, and its death at one of them.

    Each step is marked with the last commit, and how much has left the process or gone into files: kills under one
    mark leave the same on disk and outside, so that the last of them stands for all.
    """

    def __init__(self, folder: Path, fatal: int = 0) -> None:
        self.folder = folder
        self.image = folder.with_name(f"{folder.name}.killed")
        self.steps = Steps(self._die, fatal)
        self.dead = False
        self.buried = False
        self.marks: list[MarkOf] = []
        self._left = 0
        self._watcher: sqlite3.Connection | None = None
        self._files = FileWatch([folder, folder.parent / "shelf"], self)

    def take(self, name: str) -> None:
        """Take a step; a dead worker takes none."""
        if self.dead:
            raise Killed
        self.marks.append((self._commits(), self._left))
        self._left += name.startswith(LEAVES)
        self.steps.take(name)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Number what happens to files meanwhile."""
        self._files.start()
        try:
            yield
        finally:
            self._files.stop()

    def close(self) -> None:
        """Let go of the file."""
        if self._watcher is not None:
            self._watcher.close()

    def _commits(self) -> int:
        if not (self.folder / "worker.db").exists():
            return -1
        if self._watcher is None:
            self._watcher = sqlite3.connect(f"file:{self.folder / 'worker.db'}?mode=ro", uri=True)
        return int(self._watcher.execute("PRAGMA data_version").fetchone()[0])

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
        doom.close()
        shutil.rmtree(doom.folder)
        doom.image.rename(doom.folder)
        self.world.fallen.append((self.world.clock.now() + DOWN, self))


@dataclass
class CrashWorld(World):
    """A world that buries its dead and raises them again."""

    dooms: dict[str, Doom] = field(default_factory=dict)
    fallen: list[tuple[float, Mortal]] = field(default_factory=list)
    coming: list[Any] = field(default_factory=list)  # events that a scene has happen on chain
    releases: Any = None  # the contract, where a scene has one

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "deployment.json").unlink(missing_ok=True)  # a copy has it
        super().__post_init__()

    async def add(self, name: str, kind: Kind, *, enrol: bool = True, agent: Any = None) -> Worker:  # type: ignore[override]
        worker = self.workers[name] = Mortal(self, name, kind, agent, Runtime)
        if self._events and worker.up:
            await self._read(worker, -1, tuple(self._events))
        if enrol:
            await self.enrol(worker)
        return worker

    async def pass_time(self, seconds: float, *, step: float = 1.0) -> None:
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            await super().pass_time(step, step=step)
            if self.releases is not None:
                await self.finish_jobs()
                await self.releases.tell()
            await self.raise_fallen()

    async def finish_jobs(self) -> None:
        """Let jobs that run beside the workers come to their end, or to that of their process."""
        for worker in self.up():
            for _ in range(8):
                slot, handout = getattr(worker.agent, "_slot", None), getattr(worker.agent, "_handout", None)
                looks = (getattr(slot, "_look", None), getattr(handout, "_job", None))
                jobs = [*getattr(worker.agent, "_jobs", ()), *(job for job in looks if job is not None)]
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
        shutil.copytree(self.folder, folder)
        world = CrashWorld(folder, ManualClock(self.clock), ManualClock(self.data))
        for name, value in self.facts.items():
            setattr(world, name, value.copy() if isinstance(value, list | dict) else value)
        if victim:
            world.dooms[victim] = Doom(folder / victim, fatal)
        for name, kind, make, given in self.people:
            worker = world.workers[name] = Mortal.__new__(Mortal)
            worker.given = list(given)
            Mortal.__init__(worker, world, name, kind, make, Runtime)
        return world


_FACTS = ("coming", "capacity", "max_size", "shelves", "latest", "_events", "_released", "_block")


@contextmanager
def _numbered(doom: Doom) -> Iterator[None]:
    plain = _host.Database

    def database(path: Path) -> Database:
        return MortalDatabase(path, doom) if path.parent == doom.folder else plain(path)

    _host.Database = database  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        _host.Database = plain  # type: ignore[misc]
