"""The gateway's month: readings in sealed Parquet files, a folder a day, erased in time and on record (section V-A.2).

What is appended is durable in the database at once and goes to files later. Everything that touches data leaves an
entry in the trail: who, what, when, why, how many; devices are named there by a keyed tag alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from quietfleet.errors import FileRefused, HoldInForce, StoreBusy
from quietfleet.storage._files import strays
from quietfleet.storage._holds import Hold
from quietfleet.storage._lake_index import Part
from quietfleet.storage._lake_steps import Steps

READ, WRITTEN = "data-read", "data-written"
_TRIES: Final = 3

Readings = dict[str, list[tuple[float, dict[str, float]]]]
"""By device, oldest first."""


class Lake(Steps):
    """Readings by device and time: taken, read, governed."""

    def append(self, device: str, readings: Iterable[tuple[float, Mapping[str, float]]], *, who: str, why: str) -> int:
        """Keep a device's readings; return how many are new: the first one for a time stays.

        Of a device that was forgotten none are taken from before that.
        """
        with self._database.transaction():
            new = self._intake.append(device, readings)
            if new:
                detail = {"device": self.tag(device), "since": min(new), "until": max(new), "rows": len(new)}
                self._note(WRITTEN, detail, who=who, why=why)
        return len(new)

    def forgotten(self, device: str) -> float:
        """Up to when a device's readings are refused because it was forgotten; minus infinity if it was not."""
        return self._intake.forgotten(device)

    # reading

    def devices(self) -> list[str]:
        """Every device with a reading still kept, sorted."""
        names = self._index.waiting_devices()  # first: what goes to a file meanwhile is there
        for part in self._index.parts():
            names.update(part.devices)
        return sorted(names)

    def since(self) -> float:
        """Time of the oldest reading that is not seen to be gone; infinity when there is none.

        While files that are no more counted are still to be removed it may be any: minus infinity.
        """
        waiting = self._index.oldest_row()
        kept = [part.oldest for part in self._index.parts()] + ([] if waiting is None else [waiting])
        return -math.inf if self._index.doomed() else min(kept, default=math.inf)

    def scan(
        self,
        devices: Sequence[str] | None = None,
        since: float = -math.inf,
        until: float = math.inf,
        *,
        who: str,
        why: str,
        refused: Callable[[FileRefused], None] | None = None,
    ) -> Readings:
        """Read these devices' (or all) readings with `since <= time < until`, oldest first, by device.

        Raises `FileRefused` for a file that is not what was written; given `refused`, tells it and reads the others.
        """
        for left in reversed(range(_TRIES)):
            try:
                found = self._found(devices, since, until, refused)
                break
            except StoreBusy:
                if not left:
                    raise
        tags = None if devices is None else [self.tag(device) for device in devices]
        self._note(READ, {"devices": tags, **_range(since, until), "rows": len(found)}, who=who, why=why)
        ordered = sorted(found.items(), key=lambda one: one[0])
        by_device = groupby(ordered, key=lambda one: one[0][0])
        return {device: [(time, values) for (_, time), values in rows] for device, rows in by_device}

    def _found(
        self,
        devices: Sequence[str] | None,
        since: float,
        until: float,
        refused: Callable[[FileRefused], None] | None,
    ) -> dict[tuple[str, float], dict[str, float]]:
        """Read what waits first: what goes to a file meanwhile is found twice then, and not missed."""
        chosen = None if devices is None else set(devices)
        waiting = self._intake.waiting(self._index.generations(), chosen)
        revision, parts = self._index.revision, self._index.parts()
        self._vessel.keep({part.name for part in parts})
        found = {(device, time): values for device, time, values in waiting if since <= time < until}
        for part in parts:
            if part.newest < since or part.oldest >= until or (chosen is not None and chosen.isdisjoint(part.devices)):
                continue
            try:
                rows = self._vessel.read(part, devices, since, until)
            except FileRefused as error:
                self._doubt(revision)
                if refused is None:
                    raise
                refused(error)
            else:
                found |= {(device, time): values for device, time, values in rows}
        return found

    def _doubt(self, revision: int) -> None:
        """Raise `StoreBusy` if files changed since `revision`: one that is missing may have been erased rightly."""
        if self._index.revision != revision:
            raise StoreBusy("files have changed while they were read")

    # steps at one go

    def flush(self) -> None:
        """Move what waits to files."""
        self._do(self.plan_flush())
        self.sweep()

    def erase(self, now: float, *, who: str = "schedule") -> int:
        """Erase what is due at `now` and see it gone; return how many readings went.

        Raises `FileRefused`, when all else has gone, for a file that does not open and may be erased in part only.
        """
        self._do(self.plan_flush())
        plan = self.plan_erasure(now, who=who)
        erased = self._do(plan)
        self.sweep()
        if plan is not None and plan.faults:
            raise plan.faults[0]
        return erased

    def forget(self, device: str, *, now: float, who: str, why: str) -> int:
        """Erase everything of one device and see it gone; return how many readings went.

        From then on its readings up to `now`, or to the newest there was, are refused. Raises `HoldInForce` when some
        of it stays, after the rest has gone; `FileRefused` when a file of its cannot be rewritten: nothing has gone.
        """
        with self._database.transaction():
            until = max([now, *self._newest(device)])
            self._intake.forget(device, until)
            self._note("forget-asked", {"device": self.tag(device), "until": until}, who=who, why=why)
        self._do(self.plan_flush())
        plan = self.plan_forgetting(device, who=who, why=why)
        erased = self._do(plan)
        self.sweep()
        if plan is not None and plan.held:
            names = [hold.name for hold in plan.holds if hold.device in {None, device}]
            raise HoldInForce(f"{erased} readings are erased, {plan.held} stay: {', '.join(names)}")
        return erased

    def _newest(self, device: str) -> list[float]:
        waiting = self._intake.waiting(self._index.generations(), {device})
        return [time for _, time, _ in waiting] + [p.newest for p in self._index.parts() if device in p.devices]

    def erase_day(self, day: int, *, who: str, why: str) -> int:
        """Erase a whole day unread, as when its file is damaged; `HoldInForce` if anything of it may be held."""
        self._do(self.plan_flush())
        with self._database.transaction():
            parts = [part for part in self._index.parts() if part.day == day]
            held = {hold.name for hold in self._holds.all() if any(_touches(hold, part) for part in parts)}
            if held:
                raise HoldInForce(f"readings of that day stay: {', '.join(sorted(held))}")
            plan = self.plan_day(parts, day=day, who=who, why=why)
        erased = self._do(plan)
        self.sweep()
        return erased

    def sweep(self) -> None:
        """Remove what is doomed, and certify it."""
        gone, error = self.remove(self.doomed())
        self.certify(gone)
        if error is not None:
            raise error

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
        return self._intake.tag(device)

    def _told(self, hold: Hold) -> dict[str, Any]:
        device = None if hold.device is None else self.tag(hold.device)
        return {"name": hold.name, "device": device, **_range(hold.since, hold.until)}

    def _note(self, kind: str, detail: Mapping[str, Any], *, who: str, why: str) -> None:
        self._trail(kind, {"who": who, "why": why, **detail}, self._clock())


def _touches(hold: Hold, part: Part) -> bool:
    return hold.touches(part.devices, part.oldest, part.newest)


def _range(since: float, until: float) -> dict[str, float | None]:
    return {"since": since if math.isfinite(since) else None, "until": until if math.isfinite(until) else None}
