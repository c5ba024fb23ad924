"""What comes in at the gateway: named fields under the second veil; and what of a crowd goes out again.

Nothing is told about so few devices that it would be told of one: whoever knows some of a group's readings, its own,
learns about the others alone. So others' readings count for an answer only if they are of at least k devices.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from quietfleet.errors import ProjectError
from quietfleet.monitor import FleetVerdict, Verdict, align, assess
from quietfleet.monitor.assessment import WINDOW_SECONDS
from quietfleet.monitor.integrity import rules_with
from quietfleet.session import Received
from quietfleet.workers._host import log
from quietfleet.workers._veil import Device, JoinedSalts, Readings, Veil, carry_holds
from quietfleet.workers.messages import DriftReport, Rows, Stored, Upload, timely

if TYPE_CHECKING:
    from quietfleet.monitor import Baseline
    from quietfleet.workers._month import Month
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._state import State

MOST_DEVICES: Final = 256  # of one processor, as long as they have readings here
TURN_EVERY: Final = 3600.0  # seconds between two looks whether a window's key may go


@dataclass(frozen=True, slots=True)
class Judgement:
    """A drift that was judged: what the asker is told, of all and of each, and what the gateway itself goes by."""

    told: FleetVerdict
    verdicts: Mapping[str, str]
    every: FleetVerdict
    at: float


class Intake:
    """Takes readings in under the veil, and gives them out again with the two sides of a turn joined."""

    def __init__(self, runtime: Runtime, state: State, month: Month, project: Path) -> None:
        self._runtime = runtime
        self._state = state
        self._month = month
        self._project = project
        self._rules = rules_with(runtime.settings.data.channels)
        self._turn_due = 0.0
        self.k = runtime.settings.gateway.k
        self.veil = Veil(runtime.database, runtime.identity.to_bytes(), month.retention, runtime.random)
        with runtime.database.transaction():
            self.veil.moved_in(month.devices(), runtime.data_clock.now())
        self._fields = self._schema()

    # in

    def take(self, event: Received, upload: Upload) -> int:
        """Keep what is of this time, of a device there is room for, and of fields that the project's schema names.

        Returns how many readings were new.
        """
        if self._fields is None:  # whoever gets no answer sends again
            self._count("uploads_unread")
            return 0
        in_time = timely(upload.rows, self._runtime.data_clock.now(), self._month.retention)
        named = self._named(in_time, self._fields)
        windows = self._by_window(event.peer, upload.device, named)
        rows = {window: kept for window, kept in windows.items() if kept}
        forgotten = bool(named) and not rows  # then nothing at all is kept of it
        if forgotten or not self._has_room(event.peer, upload.device):
            self._count("uploads_refused")
            self._runtime.messenger.reply(event, Stored(0))
            return 0
        new = sum(self._keep(event.peer, upload, window, kept) for window, kept in rows.items())
        self._runtime.messenger.reply(event, Stored(new))
        self._count("readings_stored", new)
        self._count("readings_refused", len(upload.rows) - sum(map(len, rows.values())))
        return new

    def _by_window(self, processor: str, pseudonym: str, rows: Rows) -> dict[int, Rows]:
        found: dict[int, Rows] = {}
        for row in rows:
            found.setdefault(self.veil.window(row[0]), []).append(row)
        return {
            window: self._month.admitted(self.veil.name(processor, pseudonym, window), some)  # type: ignore[misc]
            for window, some in sorted(found.items())
        }

    def _keep(self, processor: str, upload: Upload, window: int, rows: Rows) -> int:
        name = self.veil.name(processor, upload.device, window)
        known = self.veil.find(processor, upload.device)
        if known is not None and window != known.window:
            others = [one for one in self.veil.aliases(known).values() if one != name]
            carry_holds(self._month.lake, others, name)
        self.veil.saw(Device(processor, upload.device, upload.site, window))
        return self._month.append(name, rows, who=self._runtime.trail.who(processor))

    def _named(self, rows: Rows, fields: frozenset[str]) -> Rows:
        """Leave out fields that the schema does not name, and readings that have no other."""
        dropped = sum(len(values.keys() - fields) for _, values in rows)
        self._count("fields_dropped", dropped)
        kept = [(at, {name: value for name, value in values.items() if name in fields}) for at, values in rows]
        return [(at, values) for at, values in kept if values]

    def _has_room(self, processor: str, pseudonym: str) -> bool:
        """Whether a processor may bring this device: so many at a time, else it could make up a crowd."""
        if self.veil.find(processor, pseudonym) is not None or self.veil.crowd(processor) < MOST_DEVICES:
            return True
        self.veil.prune(self._month.devices(), processor)
        return self.veil.crowd(processor) < MOST_DEVICES

    def _count(self, name: str, number: int = 1) -> None:
        if number:
            self._runtime.metrics.count(name, number)

    # who is behind the names

    def processors(self) -> list[str]:
        """Every processor that brought readings which are still here, by id."""
        return sorted({device.processor for device in self.veil.devices()})

    def names(self, processor: str) -> dict[str, str]:
        """A processor's devices: every name that a dataset may have for one, and the name the processor has for it."""
        return {
            name: device.pseudonym
            for device in self.veil.devices(processor)
            for name in self.veil.aliases(device).values()
        }

    # out

    def readings(self, *, why: str) -> Readings:
        """Everything that may be learned from, each device under its newest name: not what drifted unconfirmed."""
        doubted = [device for device in self.veil.devices() if device.doubted]
        until = {name: device.doubted for device in doubted for name in self.veil.aliases(device).values()}
        kept = self._month.readings(None, why=why)
        sure = {name: [row for row in rows if row[0] < until.get(name, math.inf)] for name, rows in kept.items()}
        return self.veil.join(sure)[0]

    def believe(self) -> None:
        """Begin anew with what may be learned from: there is another model to drift from."""
        for device in self.veil.devices():
            self.veil.doubt(device, 0.0)

    def sites(self) -> dict[str, str]:
        """Where devices stand, under each of their names."""
        return self.veil.sites()

    def restarts(self) -> dict[str, float]:
        """By name the data time after which the readings of a device that was recalibrated are other ones."""
        again = [device for device in self.veil.devices() if device.restarted]
        return {name: device.restarted for device in again for name in self.veil.aliases(device).values()}

    @property
    def salts(self) -> JoinedSalts:
        """The salts that stand beside the readings, for what was learned from them."""
        return JoinedSalts(self._month.lake.salts, self.veil)

    def crowd(self) -> int | str:
        """How many devices have readings here, unless they are so few that the number tells of one."""
        known = len(self.veil.join(dict.fromkeys(self._month.devices(), ()))[0])
        return known if known >= self.k or not known else f"fewer than {self.k}"

    def judge(self, processor: str, report: DriftReport, baseline: Baseline, *, doubts: bool = True) -> Judgement:
        """Hold a processor's report against the devices of that place: who shares the drift decides.

        With `doubts`, what drifts there by itself is not learned from before a person has confirmed it.
        """
        reported = {name: self.veil.find(processor, name) for name in report.drift}
        first = next((one for one in reported.values() if one is not None), None)
        if first is None:
            return Judgement(FleetVerdict({}, ()), {}, FleetVerdict({}, ()), 0.0)
        readings, into = self.of_site(first.site, why="drift of a site")
        aligned, now = align(readings)
        own = {into[name] for name in self.names(processor) if name in into}
        names = {name: self._main(device, into) for name, device in reported.items() if device is not None}
        sure = frozenset(names[name] for name in report.verified if name in names)
        every = assess(aligned, baseline, now=now, rules=self._rules, verified=sure)
        alone = {name: rows for name, rows in aligned.items() if name in own}
        told = (
            every
            if self.many(len(aligned) - len(alone))
            else assess(alone, baseline, now=now, rules=self._rules, verified=sure)
        )
        if doubts:
            self._doubt(reported, names, every, now)
        verdicts = {name: told.devices[main].verdict.value for name, main in names.items() if main in told.devices}
        return Judgement(told, verdicts, every, now)

    def _doubt(
        self, reported: Mapping[str, Device | None], names: Mapping[str, str], every: FleetVerdict, now: float
    ) -> None:
        """Learn nothing from what drifted by itself until a person has confirmed it, or others drift as well."""
        for name, device in reported.items():
            found = every.devices.get(names.get(name, ""))
            if device is not None and found is not None:
                unsure = found.verdict is Verdict.VERIFY
                self.veil.doubt(device, (device.doubted or now - WINDOW_SECONDS) if unsure else 0.0)

    def evidence(self, verdict: FleetVerdict) -> dict[str, Any]:
        """What of a verdict may be written down: middles of k devices, counts of none or of k."""
        percents = sorted(found.drift_pct for found in verdict.devices.values())
        if len(percents) < self.k:
            return {}
        aside = len(verdict.quarantined)
        counted = {"quarantined": aside} if self.many(aside) else {}
        return {"devices": len(percents), "percent": percents[len(percents) // 2], **counted}

    def many(self, number: int) -> bool:
        """Whether so many may be told of: nobody, or a crowd."""
        return number == 0 or number >= self.k

    def of_site(self, site: str, *, why: str) -> tuple[Readings, dict[str, str]]:
        """A place's readings, and by every name a device has which one they are under."""
        sites = self.veil.sites()
        names = [name for name in self._month.devices() if sites.get(name, "") == site]
        joined, into = self.veil.join(self._month.readings(names, why=why))
        since = self.restarts()
        return {name: [row for row in rows if row[0] > since.get(name, 0.0)] for name, rows in joined.items()}, into

    def _main(self, device: Device, into: Mapping[str, str]) -> str:
        return next((into[name] for name in self.veil.aliases(device).values() if name in into), "")

    # windows' ends

    def after(self) -> None:
        """Erase the keys of windows of which nothing is left, and forget who brought what is gone."""
        now = self._runtime.clock.now()
        if self._turn_due - TURN_EVERY <= now < self._turn_due:
            return
        self._turn_due = now + TURN_EVERY
        since = min(self._month.lake.since(), self._runtime.data_clock.now() - self._month.retention)
        with self._runtime.database.transaction():
            if self.veil.turn(since):
                self.veil.prune(self._month.devices())
                self._runtime.note("veil-turned")
                self._runtime.wipe_soon()

    # the schema

    def _schema(self) -> frozenset[str] | None:
        """The fields that the project names; None while its file cannot be read. It is run anew only if it changed."""
        try:
            made = hashlib.sha256(self._project.read_bytes() + importlib.metadata.version("quietfleet").encode())
            kept: dict[str, list[str]] = self._state.get("schema", {})
            if made.hexdigest() not in kept:
                from quietfleet.pipeline.project import load_project  # noqa: PLC0415 - scikit-learn takes seconds

                kept = {made.hexdigest(): sorted(load_project(self._project).schema)}
                with self._runtime.database.transaction():
                    self._state.set("schema", kept)
        except (OSError, ProjectError) as error:
            log.error("readings wait at the processors until the project can be read: %s", error)
            return None
        return frozenset(kept[made.hexdigest()])
