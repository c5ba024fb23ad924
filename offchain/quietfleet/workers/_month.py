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

Row = tuple[float, Mapping[str, float]]

DAY = 86_400.0
LOOK_EVERY = 10.0  # seconds
LOOK_LATER = 3600.0  # seconds between two looks at a bucket that stays out of reach
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
        self._pause = LOOK_EVERY
        self._busy = False
        self._away: asyncio.Task[None] | None = None
        self._move_in(secret)

    def append(self, device: str, rows: Sequence[Row], *, who: str) -> int:
        """Keep a device's readings in the transaction under way; return how many are new."""
        return self._lake.append(device, rows, who=who, why="upload")

    def admitted(self, device: str, rows: Sequence[Row]) -> list[Row]:
        """Leave out what is from before a device was forgotten."""
        since = self._lake.forgotten(device)
        return [row for row in rows if row[0] > since]

    def devices(self) -> list[str]:
        return self._lake.devices()

    @property
    def lake(self) -> Lake:
        return self._lake

    def window(self, device: str, since: float, until: float) -> list[tuple[float, dict[str, float]]]:
        """Read one device's readings."""
        found = self._lake.scan([device], since, until, who=WHO, why="one device", refused=self._refused)
        return found.get(device, [])

    def readings(self, devices: Sequence[str] | None, *, why: str) -> dict[str, list[tuple[float, dict[str, float]]]]:
        """Read these devices, or all; a file that is not what was written is passed over, and counted."""
        return self._lake.scan(devices, who=WHO, why=why, refused=self._refused)

    async def after(self) -> None:
        """Do what is due; what fails is tried again. A bucket is not waited for."""
        now = self._runtime.clock.now()
        if self._busy or waits(now, self._look_due, self._pause):
            return
        self._busy, self._look_due = True, now + self._pause
        if self._local:
            await self._look(now)
        else:
            self._away = asyncio.create_task(self._apart(now))

    async def _apart(self, now: float) -> None:
        try:
            await self._look(now)
        except Exception:  # noqa: BLE001 - whatever a bucket brings about, the gateway goes on serving
            log.exception("the month's files were not seen to")
            self._runtime.metrics.count("store_faults")

    async def _look(self, now: float) -> None:
        try:
            await self._work(now)
        except (ErasureDelayed, StoreBusy):
            pass
        except StoreOutOfReach as error:
            self._pause = min(2 * self._pause, LOOK_LATER)
            self._look_due = now + self._pause
            self._refused(error)
        except FileRefused as error:
            self._refused(error)
        else:
            self._pause = LOOK_EVERY
        finally:
            self._busy = False

    async def _work(self, now: float) -> None:
        today = self._runtime.data_clock.now()
        late = not waits(now, self._file_due, FILE_EVERY)
        if late or self._lake.waiting >= FILE_AT or self._lake.overdue(today):
            await self._do(self._lake.plan_flush())
            self._file_due = now + FILE_EVERY
        self._runtime.metrics.count("readings_erased", await self._do(self._lake.plan_erasure(today)))
        gone, error = await self._aside(self._lake.remove, self._lake.doomed())
        self._lake.certify(gone)
        if error is not None:
            raise error

    async def _do(self, plan: Any) -> int:
        if plan is None:
            return 0
        try:
            await self._aside(self._lake.run, plan)
        except BaseException:
            self._lake.abandon(plan)
            raise
        for fault in plan.faults:
            self._refused(fault)
        return self._lake.commit(plan)

    async def _aside(self, work: Callable[[Any], Any], what: Any) -> Any:
        """A bucket may take its time; the disk is quicker than a thread."""
        return work(what) if self._local else await asyncio.to_thread(work, what)

    def _refused(self, error: StorageError) -> None:
        log.warning("%s", error)
        self._runtime.metrics.count("store_faults")

    def _move_in(self, secret: bytes) -> None:
        """Take over what an earlier version kept in the database; a crash in between has it done again."""
        sealed = SealedColumn(derive(secret, "storage", b"month"), "series.body")
        old = TimeSeries(self._runtime.database, self.retention, sealed=sealed)
        for device in old.devices():
            self._lake.append(device, old.window(device, 0, float("inf")), who=WHO, why="moved into files")
            with suppress(ErasureDelayed):  # the next erasure empties the log
                old.forget(device)
