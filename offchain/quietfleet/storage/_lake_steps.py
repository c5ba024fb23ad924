"""What a lake does to its files, in steps: planned in the database, run wherever, entered in the database."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from quietfleet.crypto import derive
from quietfleet.errors import StorageError
from quietfleet.storage._certificates import ERASED, FORGET, RETENTION, WHOLE_DAY
from quietfleet.storage._database import Database
from quietfleet.storage._files import Files
from quietfleet.storage._holds import Hold, Holds
from quietfleet.storage._lake_index import DAY, Index, Part
from quietfleet.storage._lake_intake import Intake
from quietfleet.storage._lake_work import Group, Plan, Vessel
from quietfleet.storage._parquet import Reading
from quietfleet.storage._salts import Salts
from quietfleet.storage._sealed import SealedColumn

FILES_A_DAY: Final = 8  # more are put together
_STEP: Final = 3600.0  # seconds: erasure runs ahead to the next full hour, so that a day is rewritten once an hour

Trail = Callable[[str, Mapping[str, Any], float], object]
"""Takes a kind, the detail and the time, as `AuditLog.append` does."""


class Steps:
    """Flushing, erasing, forgetting, each in steps of which only `run` and `remove` wait for files.

    `key` seals the files, `clock` gives the real time of entries. `begin` says that no other process writes: what a
    crashed one left half-written is then removed.
    """

    def __init__(
        self,
        database: Database,
        files: Files,
        key: bytes,
        *,
        retention: float,
        trail: Trail,
        clock: Callable[[], float],
        random: Callable[[int], bytes] = os.urandom,
        begin: bool = True,
    ) -> None:
        self._database = database
        self._retention = retention
        self._trail = trail
        self._clock = clock
        devices = SealedColumn(derive(key, "storage", b"lake devices"), "lake_part.devices", random=random)
        self._index = Index(database, devices)
        self._intake = Intake(self._index, key, random)
        self._holds = Holds(database)
        self.salts = Salts(database, key, random)
        self._vessel = Vessel(files, key, random)
        self._examined: dict[str, tuple[float, int]] = {}  # files of which nothing may go yet: up to when, which holds
        if begin:
            with database.transaction():
                self._index.give_up()

    @property
    def waiting(self) -> int:
        """Readings that are in no file yet."""
        return self._index.count_rows(self._index.generations())

    def overdue(self, now: float) -> bool:
        """Whether a reading that is in no file yet must be erased."""
        oldest = self._index.oldest_row()
        return oldest is not None and oldest < self._cut(now)

    # plans

    def plan_flush(self) -> Plan | None:
        """Move what waits to files, a day's many files together; None when there is nothing to do."""
        with self._database.transaction():
            self._index.close_table()
            closed = tuple(self._index.generations(closed=True))
            if not closed:
                return None
            by_day: dict[int, list[Reading]] = {}
            for reading in sorted(self._intake.waiting(closed), key=lambda one: one[:2]):
                by_day.setdefault(int(reading[1] // DAY), []).append(reading)
            parts = {day: list(them) for day, them in groupby(self._index.parts(), key=lambda part: part.day)}
            many = {day: them for day, them in parts.items() if len(them) >= FILES_A_DAY}
            groups = [self._group(day, many.get(day, []), new) for day, new in sorted(by_day.items())]
            return self._announced(Plan(self._index.revision, groups, closed))

    def plan_erasure(self, now: float, *, who: str = "schedule") -> Plan | None:
        """Erase what is older than the retention at `now`, or will be within the hour, and is not held."""
        cut = self._cut(now)
        order = {"what": RETENTION, "until": cut, "who": who, "why": f"kept for {self._retention / DAY:g} days"}
        with self._database.transaction():
            holds = self._holds.all()
            whole, partly = [], []
            for part in (part for part in self._index.parts() if part.oldest < cut):
                held = any(hold.touches(part.devices, part.oldest, part.newest) for hold in holds)
                if part.newest < cut and not held:
                    whole.append(part)
                elif self._examined.get(part.name) != (cut, hash(tuple(holds))):
                    partly.append(part)
            self._index.unmark_before(int(cut // DAY))
            self._index.unrefuse_before(cut)
            return self._erasing(partly, whole, holds, lambda _, time: time < cut, order)

    def plan_forgetting(self, device: str, *, who: str, why: str) -> Plan | None:
        """Erase everything of one device that is in files and not held; a file that does not open stops all of it."""
        order = {"what": FORGET, "device": self._intake.tag(device), "who": who, "why": why}
        with self._database.transaction():
            parts = [part for part in self._index.parts() if device in part.devices]
            plan = self._erasing(parts, [], self._holds.all(), lambda name, _: name == device, order)
        if plan is not None:
            plan.strict = True
        return plan

    def plan_day(self, parts: Sequence[Part], *, day: int, who: str, why: str) -> Plan | None:
        """Erase these files of a day unread."""
        order = {"what": WHOLE_DAY, "day": day, "who": who, "why": why}
        return self._erasing([], parts, [], lambda _device, _time: True, order)

    def _erasing(
        self,
        parts: Sequence[Part],
        whole: Sequence[Part],
        holds: Sequence[Hold],
        chosen: Callable[[str, float], bool],
        order: dict[str, Any],
    ) -> Plan | None:
        if not parts and not whole:
            return None
        groups = [self._group(part.day, [part], []) for part in parts]
        plan = Plan(
            self._index.revision, groups, unread=tuple(whole), chosen=chosen, holds=tuple(holds), order=order
        )  # fmt: skip
        return self._announced(plan)

    def _group(self, day: int, parts: Sequence[Part], rows: list[Reading]) -> Group:
        return Group(day, self._vessel.name(day), self._vessel.salt(), tuple(parts), rows)

    def _announced(self, plan: Plan) -> Plan:
        self._index.announce(group.name for group in plan.groups)
        return plan

    def _cut(self, now: float) -> float:
        return math.ceil((now - self._retention) / _STEP) * _STEP

    # work

    def run(self, plan: Plan) -> None:
        """Do the work on files, from any thread."""
        self._vessel.run(plan)

    def commit(self, plan: Plan) -> int:
        """Enter what was done; return how many readings are erased. `StoreBusy`: not done, plan again."""
        try:
            with self._database.transaction():
                return self._commit(plan)
        except BaseException:
            self.abandon(plan)
            raise

    def abandon(self, plan: Plan) -> None:
        """Have what a plan wrote be removed."""
        with self._database.transaction():
            self._index.give_up([group.name for group in plan.groups])

    def _commit(self, plan: Plan) -> int:
        self._index.revise(plan.revision)
        out = [*plan.replaced, *plan.unread]
        order = self._order(plan, out) if plan.order is not None and out else None
        for part in plan.made:
            self._index.enter(part)
        for part in out:
            self._index.leave_out(part, order)
        made = {part.name for part in plan.made}
        self._index.give_up([group.name for group in plan.groups if group.name not in made])
        self._index.drop(plan.generations)
        self._intake.unmark(plan.erased)
        if plan.order is not None:
            whole = {(device, part.day) for part in plan.unread for device in part.devices}
            self.salts.drop(sorted(whole | {(device, int(time // DAY)) for device, time in plan.erased}))
        if plan.order is not None and plan.order["what"] == RETENTION:
            seen = (plan.order["until"], hash(plan.holds))
            still = {name: known for name, known in self._examined.items() if known == seen}
            self._examined = still | {part.name: seen for group in plan.unchanged for part in group.parts}
        self._vessel.forget([part.name for part in out])
        return plan.gone

    def _order(self, plan: Plan, out: Sequence[Part]) -> int:
        files = [{"name": part.name, "sha256": part.hash.hex()} for part in out]
        span = {"oldest": min(part.oldest for part in plan.unread)} if plan.unread else {}
        detail = {**(plan.order or {}), **span, "rows": plan.gone, "files": files, "ordered": self._clock()}
        return self._index.order(detail)

    # removal

    def doomed(self) -> list[str]:
        """Files to be removed."""
        return self._index.doomed()

    def remove(self, names: Sequence[str]) -> tuple[list[str], StorageError | None]:
        """Remove files, from any thread; return which are gone, and why the first of the others is not."""
        gone, error = [], None
        for name in names:
            try:
                self._vessel.files.remove(name)
            except StorageError as failed:
                error = error or failed
            else:
                gone.append(name)
        return gone, error

    def certify(self, names: Sequence[str]) -> int:
        """Take note that files are gone; certify the erasures that are complete by it, and return how many.

        Raises `ErasureDelayed` while somebody reads the database: the certificates wait.
        """
        with self._database.transaction():
            self._index.gone(names)
        done = self._index.fulfilled()
        if not names and not done:
            return 0
        self._database.truncate_log()
        with self._database.transaction():
            ours = [detail for number, detail in done if self._index.close_order(number)]  # not another process's
            for detail in ours:
                self._trail(ERASED, detail, self._clock())
        return len(ours)

    def _do(self, plan: Plan | None) -> int:
        if plan is None:
            return 0
        try:
            self.run(plan)
        except Exception:
            self.abandon(plan)
            raise
        return self.commit(plan)
