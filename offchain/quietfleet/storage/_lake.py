"""The gateway's month: readings in sealed Parquet files, a folder a day, erased in time and on record (section V-A.2).

What is appended is durable in the database at once and goes to files later. Everything that touches data leaves an
entry in the trail: who, what, when, why, how many; devices are named there by a keyed tag alone.
"""
# ruff: noqa: S608 -- table names are made of our own numbers, values are always bound

from __future__ import annotations

import hmac
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from quietfleet.crypto import derive
from quietfleet.errors import FileRefused, HoldInForce, StorageError
from quietfleet.storage._certificates import ERASED, FORGET, RETENTION, WHOLE_DAY
from quietfleet.storage._database import Database
from quietfleet.storage._files import Files, strays
from quietfleet.storage._holds import Hold, Holds
from quietfleet.storage._lake_index import DAY, Index, Part
from quietfleet.storage._lake_work import Group, Plan, Vessel
from quietfleet.storage._parquet import Reading
from quietfleet.storage._sealed import SealedColumn

READ, WRITTEN = "data-read", "data-written"
FILES_A_DAY: Final = 8  # more are put together
_STEP: Final = 3600.0  # seconds: erasure runs ahead to the next full hour, so that a day is rewritten once an hour
_LAST_TIME: Final = 253_402_300_800.0  # year 10000: later times are broken clocks, not readings

Trail = Callable[[str, Mapping[str, Any], float], object]
"""Takes a kind, the detail and the time, as `AuditLog.append` does."""


class Lake:
    """Readings by device and time. `key` seals the files, `clock` gives the real time of entries.

    `begin` says that no other process writes: what a crashed one left half-written is then removed.
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
        self._marks = derive(key, "storage", b"lake marks")
        self._body = SealedColumn(derive(key, "storage", b"lake rows"), "lake_rows.body", random=random)
        devices = SealedColumn(derive(key, "storage", b"lake devices"), "lake_part.devices", random=random)
        self._index = Index(database, devices)
        self._holds = Holds(database)
        self._vessel = Vessel(files, key, random)
        self._examined: dict[str, tuple[float, int]] = {}  # files of which nothing may go yet: up to when, which holds
        if begin:
            with database.transaction():
                self._index.give_up()

    # writing

    def append(self, device: str, readings: Iterable[tuple[float, Mapping[str, float]]], *, who: str, why: str) -> int:
        """Keep a device's readings; return how many are new: the first one for a time stays."""
        with self._database.transaction():
            table = self._index.open_table()
            new = [time for time, values in readings if self._append(table, device, time, values)]
            if new:
                detail = {"device": self.tag(device), "since": min(new), "until": max(new), "rows": len(new)}
                self._note(WRITTEN, detail, who=who, why=why)
        return len(new)

    def _append(self, table: str, device: str, time: float, values: Mapping[str, float]) -> bool:
        if not 0 <= time < _LAST_TIME:
            raise StorageError(f"no reading can be from {time}")
        try:
            body = json.dumps(dict(values), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        except ValueError as error:
            raise StorageError("a reading's values are finite numbers") from error
        if not self._index.mark(int(time // DAY), self._mark(device, time)):
            return False
        sealed = self._body.seal(body, row=_row(device, time))
        self._database.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (device, time, sealed))
        return True

    # reading

    def devices(self) -> list[str]:
        """Every device with a reading still kept, sorted."""
        names = self._index.waiting_devices()
        for part in self._index.parts():
            names.update(part.devices)
        return sorted(names)

    def scan(
        self,
        devices: Sequence[str] | None = None,
        since: float = -math.inf,
        until: float = math.inf,
        *,
        who: str,
        why: str,
        refused: Callable[[FileRefused], None] | None = None,
    ) -> dict[str, list[tuple[float, dict[str, float]]]]:
        """Read these devices' (or all) readings with `since <= time < until`, oldest first, by device.

        Raises `FileRefused` for a file that is not what was written; given `refused`, tells it and reads the others.
        """
        found = [one for part in self._index.parts() for one in self._read(part, devices, since, until, refused)]
        chosen = None if devices is None else set(devices)
        found += [
            one for one in self._waiting(self._index.generations(), chosen) if since <= one[1] < until
        ]  # fmt: skip
        found.sort(key=lambda one: one[:2])
        tags = None if devices is None else [self.tag(device) for device in devices]
        self._note(READ, {"devices": tags, **_range(since, until), "rows": len(found)}, who=who, why=why)
        return {name: [one[1:] for one in rows] for name, rows in groupby(found, key=lambda one: one[0])}

    def _read(
        self,
        part: Part,
        devices: Sequence[str] | None,
        since: float,
        until: float,
        refused: Callable[[FileRefused], None] | None,
    ) -> list[Reading]:
        if part.newest < since or part.oldest >= until or (devices is not None and not {*devices} & {*part.devices}):
            return []
        try:
            return self._vessel.read(part, devices, since, until)
        except FileRefused as error:
            if refused is None:
                raise
            refused(error)
            return []

    def _waiting(self, generations: Sequence[int], devices: set[str] | None = None) -> list[Reading]:
        rows = self._index.rows(generations)
        return [
            (device, time, json.loads(self._body.open(body, row=_row(device, time))))
            for device, time, body in rows
            if devices is None or device in devices
        ]

    # steps: planned here, run wherever, entered here

    @property
    def waiting(self) -> int:
        """Readings that are in no file yet."""
        return self._index.count_rows(self._index.generations())

    def overdue(self, now: float) -> bool:
        """Whether a reading that is in no file yet must be erased."""
        oldest = self._index.oldest_row()
        return oldest is not None and oldest < self._cut(now)

    def plan_flush(self) -> Plan | None:
        """Move what waits to files, a day's many files together; None when there is nothing to do."""
        with self._database.transaction():
            self._index.close_table()
            closed = tuple(self._index.generations(closed=True))
            rows = sorted(self._waiting(closed), key=lambda one: one[:2])
            by_day: dict[int, list[Reading]] = {}
            for reading in rows:
                by_day.setdefault(int(reading[1] // DAY), []).append(reading)
            parts = self._by_day(self._index.parts())
            groups = [self._group(day, self._to_merge(parts.get(day, [])), new) for day, new in sorted(by_day.items())]
            return self._announced(Plan(self._index.revision, groups, closed)) if closed else None

    def plan_erasure(self, now: float, *, who: str = "schedule") -> Plan | None:
        """Erase what is older than the retention at `now`, or will be within the hour, and is not held."""
        cut = self._cut(now)
        order = {"what": RETENTION, "until": cut, "who": who, "why": f"kept for {self._retention / DAY:g} days"}
        with self._database.transaction():
            holds, old = self._holds.all(), [part for part in self._index.parts() if part.oldest < cut]
            whole, partly = [], []
            for part in old:
                held = any(hold.touches(part.devices, part.oldest, part.newest) for hold in holds)
                if part.newest < cut and not held:
                    whole.append(part)
                elif self._examined.get(part.name) != (cut, self._fingerprint(holds)):
                    partly.append(part)
            self._index.unmark_before(int(cut // DAY))
            return self._erasing(partly, whole, holds, lambda _, time: time < cut, order)

    def plan_forgetting(self, device: str, *, who: str, why: str) -> Plan | None:
        """Erase everything of one device that is in files and not held."""
        order = {"what": FORGET, "device": self.tag(device), "who": who, "why": why}
        with self._database.transaction():
            parts = [part for part in self._index.parts() if device in part.devices]
            return self._erasing(parts, [], self._holds.all(), lambda name, _: name == device, order)

    def _erasing(
        self,
        parts: list[Part],
        whole: list[Part],
        holds: list[Hold],
        chosen: Callable[[str, float], bool],
        order: dict[str, Any],
    ) -> Plan | None:
        if not parts and not whole:
            return None

        def goes(device: str, time: float) -> bool:
            return chosen(device, time) and not any(hold.covers(device, time) for hold in holds)

        groups = [self._group(part.day, [part], []) for part in parts]
        plan = Plan(self._index.revision, groups, unread=tuple(whole), goes=goes, order=order)
        return self._announced(plan)

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
        out = [part for group in plan.groups if group not in plan.unchanged for part in group.parts] + [*plan.unread]
        erased = len(plan.erased) + sum(part.rows for part in plan.unread)
        order = None
        if plan.order is not None and out:
            files = [{"name": part.name, "sha256": part.hash.hex()} for part in out]
            span = {"oldest": min(part.oldest for part in plan.unread)} if plan.unread else {}
            order = self._index.order({**plan.order, **span, "rows": erased, "files": files, "ordered": self._clock()})
        for part in plan.made:
            self._index.enter(part)
        for part in out:
            self._index.leave_out(part, order)
        self._index.give_up(group.name for group in plan.groups if group.name not in {part.name for part in plan.made})
        self._index.drop(plan.generations)
        self._index.unmark((int(time // DAY), self._mark(device, time)) for device, time in plan.erased)
        if plan.order is not None and plan.order["what"] == RETENTION:
            seen = (plan.order["until"], self._fingerprint(self._holds.all()))
            self._examined = {part.name: seen for group in plan.unchanged for part in group.parts}
        self._vessel.forget([part.name for part in out])
        return erased

    def doomed(self) -> list[str]:
        """Files to be removed."""
        return self._index.doomed()

    def remove(self, names: Sequence[str]) -> None:
        """Remove files, from any thread."""
        for name in names:
            self._vessel.files.remove(name)

    def certify(self, names: Sequence[str]) -> int:
        """Take note that files are gone; certify the erasures that are complete by it, and return how many.

        Raises `ErasureDelayed` while somebody reads the database: the certificates wait.
        """
        with self._database.transaction():
            self._index.gone(names)
        done = self._index.fulfilled()
        self._database.truncate_log()
        with self._database.transaction():
            for number, detail in done:
                self._trail(ERASED, detail, self._clock())
                self._index.close_order(number)
        return len(done)

    # the same at one go

    def flush(self) -> None:
        self._do(self.plan_flush())
        self.sweep()

    def erase(self, now: float, *, who: str = "schedule") -> int:
        """Erase what is due at `now` and see it gone; return how many readings went."""
        self._do(self.plan_flush())
        erased = self._do(self.plan_erasure(now, who=who))
        self.sweep()
        return erased

    def forget(self, device: str, *, who: str, why: str) -> int:
        """Erase everything of one device and see it gone; return how many readings went.

        Raises `HoldInForce` when some of it stays, after the rest has gone; `FileRefused` when a file of its cannot be
        rewritten: nothing has gone then.
        """
        self._do(self.plan_flush())
        erased = self._do(self.plan_forgetting(device, who=who, why=why))
        self.sweep()
        if device in self.devices():
            names = [hold.name for hold in self._holds.all() if hold.device in {None, device}]
            raise HoldInForce(f"{erased} readings are erased, others stay: {', '.join(names)}")
        return erased

    def erase_day(self, day: int, *, who: str, why: str) -> int:
        """Erase a whole day unread, as when its file is damaged; `HoldInForce` if anything of it may be held."""
        self._do(self.plan_flush())
        with self._database.transaction():
            parts = [part for part in self._index.parts() if part.day == day]
            held = [h.name for h in self._holds.all() for p in parts if h.touches(p.devices, p.oldest, p.newest)]
            if held:
                raise HoldInForce(f"readings of that day stay: {', '.join(sorted({*held}))}")
            order = {"what": WHOLE_DAY, "day": day, "who": who, "why": why}
            plan = self._erasing([], parts, [], lambda _device, _time: True, order)
        erased = self._do(plan)
        self.sweep()
        return erased

    def sweep(self) -> None:
        """Remove what is doomed, and certify it."""
        names = self.doomed()
        self.remove(names)
        if names or self._index.fulfilled():
            self.certify(names)

    def _do(self, plan: Plan | None) -> int:
        if plan is None:
            return 0
        try:
            self.run(plan)
        except Exception:
            self.abandon(plan)
            raise
        return self.commit(plan)

    # governance

    def hold(self, hold: Hold) -> None:
        """Put a legal hold in force."""
        with self._database.transaction():
            self._holds.place(hold)
            self._index.revise()
            self._note("hold-placed", self._told(hold), who=hold.who, why=hold.why)

    def release_hold(self, name: str, *, who: str, why: str) -> None:
        """Lift a legal hold: what it kept goes when it is due."""
        with self._database.transaction():
            hold = self._holds.release(name)
            self._index.revise()
            self._note("hold-released", self._told(hold), who=who, why=why)

    def holds(self) -> list[Hold]:
        return self._holds.all()

    def check(self) -> list[str]:
        """Say what is wrong with the files: those that are not what was written, and those nobody here wrote."""
        found = []
        for part in self._index.parts():
            try:
                self._vessel.open(part)
            except FileRefused as error:
                found.append(str(error))
        return found + [f"{name} was not written by this store" for name in self.strays()]

    def strays(self) -> list[str]:
        """Files that nobody here wrote; they are never read."""
        return strays(self._vessel.files, self._index.known())

    def tag(self, device: str) -> str:
        """How the trail names a device: nobody without this keystore can tell which it is."""
        return hmac.digest(self._marks, b"tag" + device.encode(), "sha256")[:8].hex()

    # inside

    def _cut(self, now: float) -> float:
        return math.ceil((now - self._retention) / _STEP) * _STEP

    def _told(self, hold: Hold) -> dict[str, Any]:
        device = None if hold.device is None else self.tag(hold.device)
        return {"name": hold.name, "device": device, **_range(hold.since, hold.until)}

    def _note(self, kind: str, detail: Mapping[str, Any], *, who: str, why: str) -> None:
        self._trail(kind, {"who": who, "why": why, **detail}, self._clock())

    def _mark(self, device: str, time: float) -> bytes:
        return hmac.digest(self._marks, _row(device, time), "sha256")[:16]

    def _group(self, day: int, parts: Sequence[Part], rows: list[Reading]) -> Group:
        return Group(day, self._vessel.name(day), self._vessel.salt(), tuple(parts), rows)

    def _to_merge(self, parts: list[Part]) -> list[Part]:
        """The files of a day that a new one takes in: all that can be read, when they are many."""
        return [part for part in parts if self._readable(part)] if len(parts) >= FILES_A_DAY else []

    def _readable(self, part: Part) -> bool:
        try:
            self._vessel.open(part)
        except FileRefused:
            return False
        return True

    def _by_day(self, parts: Iterable[Part]) -> dict[int, list[Part]]:
        return {day: list(group) for day, group in groupby(parts, key=lambda part: part.day)}

    def _announced(self, plan: Plan) -> Plan:
        self._index.announce(group.name for group in plan.groups)
        return plan

    def _fingerprint(self, holds: Sequence[Hold]) -> int:
        return hash(tuple(holds))


def _range(since: float, until: float) -> dict[str, float | None]:
    return {"since": since if math.isfinite(since) else None, "until": until if math.isfinite(until) else None}


def _row(device: str, time: float) -> bytes:
    return f"{device}@{time!r}".encode()
