"""One fleet from start to stop, and what its load came to."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypedDict

from bench.dispatch.plan import RELAYS, Plan, prepare
from bench.flood.network import free_ports
from bench.flood.process import Process

_SPARE: Final = 120.0  # seconds for all processes to begin, beside those in which workers come up
_MEMORY: Final = "/dev/shm"  # noqa: S108 - a thousand workers have a disk each; here they would share one
_PROGRAM: Final = "bench.dispatch.member"


class CameUp(TypedDict):
    """The workers that were up before the load, and what that took: `cpu` in seconds, `memory` in bytes."""

    up: int
    seconds: float
    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one stretch of load came to: seconds from seeking, and processor seconds by process."""

    seconds: float
    introduced: list[float]
    first_messages: list[float]
    cpu: dict[str, float]
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    came_up: CameUp | None = None

    @property
    def deals(self) -> int:
        return len(self.introduced)

    @property
    def rate(self) -> float:
        """Deals a second that brought about an introduction."""
        return self.deals / self.seconds

    def per_deal(self, process: str) -> float:
        """Milliseconds of processor time for each deal, of one kind of process."""
        return 1000 * self.cpu[process] / max(1, self.deals)


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the value within which this share lies; None of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


class Fleet:
    """Relays in one process, each replica of the oracle in one, all workers in one."""

    def __init__(self, plan: Plan, processes: dict[str, Process]) -> None:
        self._plan, self._processes = plan, processes
        self._came_up: CameUp = {"up": 0, "seconds": 0.0, "cpu": 0.0, "memory": 0}

    @classmethod
    @asynccontextmanager
    async def running(cls, **terms: Any) -> AsyncIterator[Self]:
        """Start a fleet on these terms of its `Plan`, with everybody a member of its epoch."""
        with (
            tempfile.TemporaryDirectory(prefix="dispatch-", dir=_memory()) as folder,
            tempfile.TemporaryDirectory(prefix="dispatch-") as disk,
        ):
            plan = Plan(folder, disk, tuple(free_ports(RELAYS)), **terms)
            prepare(plan)
            fleet = cls(plan, {})
            try:
                async with asyncio.timeout(_SPARE + plan.ready_within):
                    await fleet._start(folder)
                yield fleet
            finally:
                await asyncio.gather(*(process.stop() for process in fleet._processes.values()))

    async def load(self, seconds: float, warming: float) -> Outcome:
        """Let every seeker seek for as long as this, and return what came of it after `warming`."""
        self._processes["workers"].tell(go=True)
        await asyncio.sleep(warming)
        before, began = await self._mark(), time.monotonic()
        await asyncio.sleep(seconds)
        after, lasted = await self._mark(), time.monotonic() - began
        self._processes["workers"].tell(go=False)
        said = after["workers"]
        return Outcome(
            lasted,
            said["introduced"],
            said["first"],
            _kinds({name: after[name]["cpu"] - before[name]["cpu"] for name in after}),
            {kind: _less(after, before, kind) for kind in ("workers", "relays", "oracle")},
            Counter(said["counts"]),
            {name: one["metrics"] for name, one in after.items()},
            self._came_up,
        )

    async def _start(self, folder: str) -> None:
        for role, number in [("relays", 0), *(("oracle", number) for number in range(self._plan.replicas))]:
            await self._process(folder, role, number)
        await self._process(folder, "workers", 0)

    async def _process(self, folder: str, role: str, number: int) -> None:
        name = f"{role}-{number}" if role == "oracle" else role
        self._processes[name] = process = await Process.start(_PROGRAM, folder, role, str(number))
        self._came_up = await process.hear("ready")  # the workers are last

    async def _mark(self) -> dict[str, Any]:
        for process in self._processes.values():
            process.tell(mark=True)
        said = await asyncio.gather(*(process.hear("marked") for process in self._processes.values()))
        return dict(zip(self._processes, said, strict=True))


def _memory() -> str | None:
    """Where files lie in memory, if this machine has such a place."""
    return _MEMORY if Path(_MEMORY).is_dir() else None


def _kinds(by_process: dict[str, float]) -> dict[str, float]:
    """Add the replicas of the oracle up."""
    total: Counter[str] = Counter()
    for name, value in by_process.items():
        total[name.partition("-")[0]] += value
    return dict(total)


def _less(after: dict[str, Any], before: dict[str, Any], kind: str) -> dict[str, float]:
    total: Counter[str] = Counter()
    for name in after:
        if name.partition("-")[0] == kind:
            for part, seconds in after[name]["parts"].items():
                total[part] += seconds - before[name]["parts"].get(part, 0.0)
    return dict(total)
