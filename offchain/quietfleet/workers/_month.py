"""The gateway's month of veiled readings: taken at once, put into files and erased beside everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from quietfleet.clock import waits
from quietfleet.crypto import derive
from quietfleet.errors import ErasureDelayed, FileRefused, StorageError, StoreBusy, StoreOutOfReach
from quietfleet.storage import Lake, SealedColumn, TimeSeries, open_files
from quietfleet.workers._host import log

if TYPE_CHECKING:
    from quietfleet.settings import Settings
    from quietfleet.storage import Database
    from quietfleet.workers._runtime import Runtime

DAY = 86_400.0
LOOK_EVERY = 10.0  # seconds
FILE_EVERY = 3600.0  # seconds
FILE_AT = 5_000  # readings
WHO = "gateway"


def open_lake(settings: Settings, database: Database, secret: bytes, **more: Any) -> tuple[Lake, bool]:
    """Open a gateway's store; also say whether its files are on this machine."""
    url = settings.store.url
    files = open_files(url or "month", settings.path("." if url else settings.worker.state))
    key = derive(secret, "storage", b"lake")
    return Lake(database, files, key, retention=settings.store.retention_days * DAY, **more), files.local


class Month:
    """A lake, and when to do what with it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.retention = runtime.settings.store.retention_days * DAY
        secret, now = runtime.identity.to_bytes(), runtime.clock.now
        self._lake, self._local = open_lake(
            runtime.settings, runtime.database, secret, trail=runtime.audit.append, clock=now, random=runtime.random
        )
        self._look_due = 0.0
        self._file_due = now() + FILE_EVERY
        self._busy = False
        self._move_in(secret)

    def append(self, device: str, rows: Sequence[tuple[float, Mapping[str, float]]], *, who: str) -> int:
        """Keep a device's readings in the transaction under way; return how many are new."""
        return self._lake.append(device, rows, who=who, why="upload")

    def devices(self) -> list[str]:
        return self._lake.devices()

    def window(self, device: str, since: float, until: float) -> list[tuple[float, dict[str, float]]]:
        """Read one device's readings."""
        found = self._lake.scan([device], since, until, who=WHO, why="one device", refused=self._refused)
        return found.get(device, [])

    def readings(self, devices: Sequence[str] | None, *, why: str) -> dict[str, list[tuple[float, dict[str, float]]]]:
        """Read these devices, or all; a file that is not what was written is passed over, and counted."""
        return self._lake.scan(devices, who=WHO, why=why, refused=self._refused)

    async def after(self) -> None:
        """Do what is due; what fails is tried again."""
        now = self._runtime.clock.now()
        if self._busy or waits(now, self._look_due, LOOK_EVERY):
            return
        self._busy, self._look_due = True, now + LOOK_EVERY
        try:
            with suppress(ErasureDelayed, StoreBusy):
                await self._work(now)
        except (StoreOutOfReach, FileRefused) as error:
            self._refused(error)
        finally:
            self._busy = False

    async def _work(self, now: float) -> None:
        today = self._runtime.data_clock.now()
        late = not waits(now, self._file_due, FILE_EVERY)
        if late or self._lake.waiting >= FILE_AT or self._lake.overdue(today):
            self._file_due = now + FILE_EVERY
            await self._do(self._lake.plan_flush())
        self._runtime.metrics.count("readings_erased", await self._do(self._lake.plan_erasure(today)))
        names = self._lake.doomed()
        if names:
            await self._aside(self._lake.remove, names)
        self._lake.certify(names)

    async def _do(self, plan: Any) -> int:
        if plan is None:
            return 0
        try:
            await self._aside(self._lake.run, plan)
        except BaseException:
            self._lake.abandon(plan)
            raise
        return self._lake.commit(plan)

    async def _aside(self, work: Callable[[Any], None], what: Any) -> None:
        """A bucket may take its time; the disk is quicker than a thread."""
        if self._local:
            work(what)
        else:
            await asyncio.to_thread(work, what)

    def _refused(self, error: StorageError) -> None:
        log.warning("%s", error)
        self._runtime.metrics.count("store_faults")

    def _move_in(self, secret: bytes) -> None:
        """Take over what an earlier version kept in the database."""
        sealed = SealedColumn(derive(secret, "storage", b"month"), "series.body")
        old = TimeSeries(self._runtime.database, self.retention, sealed=sealed)
        for device in old.devices():
            self._lake.append(device, old.window(device, 0, float("inf")), who=WHO, why="moved into files")
            old.forget(device)
