"""A processor's watch over its devices: faults at once, drift over the week, and what is done about either."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import median
from typing import TYPE_CHECKING, Final

from quietfleet.monitor import (
    DeviceVerdict,
    Finding,
    FindingKind,
    Verdict,
    align,
    assess,
    inspect,
    outages,
    site_outages,
)
from quietfleet.monitor.alarms import PLACE, Alarm, Seen, State, sureness
from quietfleet.monitor.integrity import rules_with
from quietfleet.monitor.rules import LEFT_PEERS, LEFT_SITE, LONE_DRIFT, POOR_HEALTH, SHARED_DRIFT, Action, load_rules
from quietfleet.workers._alarms import Alarms, Turn
from quietfleet.workers._clocks import Arrivals
from quietfleet.workers._neighbours import Neighbours
from quietfleet.workers._silence import Silence
from quietfleet.workers._state import State as Kept
from quietfleet.workers.messages import DriftReport, DriftVerdict, SiteVerdict

if TYPE_CHECKING:
    from quietfleet.storage import TimeSeries
    from quietfleet.workers._devices import Devices
    from quietfleet.workers._model_slot import ModelSlot
    from quietfleet.workers._recalibration import Recalibrations
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._uplink import Uplink
    from quietfleet.workers.messages import Rows

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
WATCHED: Final = 6 * DAY  # of the week: readings come late, and what is a week old is gone
SPARED: Final = 5.0  # times as long as a look took, until the next one
DRIFT: Final = "drift"

OUTAGE: Final = frozenset({str(FindingKind.OUTAGE)})
FAULTS: Final = frozenset(map(str, FindingKind))
COMPARED: Final = frozenset({SHARED_DRIFT, LONE_DRIFT, LEFT_PEERS})
TOLD: Final = COMPARED | FAULTS | {LEFT_SITE, POOR_HEALTH}
_ASKS: Final = frozenset({Action.RETRAIN, Action.VERIFY})
_CAUSE: Final = {Verdict.RETRAIN: SHARED_DRIFT, Verdict.VERIFY: LONE_DRIFT, Verdict.QUARANTINE: LEFT_PEERS}


class Watch:
    """Looks at every device's readings as they come, and at all of them together from time to time."""

    def __init__(
        self,
        runtime: Runtime,
        week: TimeSeries,
        slot: ModelSlot,
        devices: Devices,
        uplink: Uplink,
        recalibrations: Recalibrations,
    ) -> None:
        self._runtime = runtime
        self._week = week
        self._slot = slot
        self._devices = devices
        self._uplink = uplink
        self._recalibrations = recalibrations
        self._channels = rules_with(runtime.settings.data.channels)
        self._neighbours = Neighbours(runtime, Kept(runtime.database))
        rules = runtime.settings.processor.rules
        self._rules = load_rules(runtime.settings.path(rules) if rules else None)
        self.alarms = Alarms(runtime.database)
        self.pace = runtime.settings.processor.monitor_every  # seconds until the next look
        self._silence = Silence(runtime.clock, runtime.data_clock)
        self._arrivals = Arrivals(runtime.clock, runtime.data_clock)

    def check(self, device: str, latest: float, doubled: Rows) -> None:
        """Look for faults at once; a faulty device is set aside until a whole day of it looks right again.

        `doubled` are readings for whose time there was one already. It is judged as of its newest reading, so that
        older ones, which come late or are sent again, do not clear it.
        """
        self._silence.came(device)
        self._back()
        self._arrivals.came(device, latest)
        latest = max(latest, self._week.newest(device) or latest)
        findings = self._faults(device, latest)
        found = [Seen.of(finding) for finding in findings] + self._contradictions(device, doubled)
        recent = [one for one in found if one.until >= latest - DAY]
        self._see(device, FAULTS, recent, latest, end=self._settled(device, latest))

    def _contradictions(self, device: str, doubled: Rows) -> list[Seen]:
        """Readings that differ from the ones kept for their time; those of the last messages count on."""
        kept = [self._week.window(device, at, math.nextafter(at, math.inf)) for at, _ in doubled]
        times = [at for (at, fields), known in zip(doubled, kept, strict=True) if known and known[0][1] != fields]
        cause = str(FindingKind.DUPLICATE)
        before = [one for one in self.alarms.open(device) if one.cause == cause]
        spans = [(one.since, one.until, one.count) for one in before] + [(at, at, 1) for at in times]
        if not spans:
            return []
        since, until = min(first for first, _, _ in spans), max(last for _, last, _ in spans)
        count = sum(number for _, _, number in spans)
        return [Seen(cause, "", since, until, count, "two readings of one time differ")]

    def _faults(self, device: str, latest: float) -> list[Finding]:
        """What is wrong with two days of a device; a gap that its whole place shares is none of its own."""
        rows, now = self._judged(device, latest - 2 * DAY, latest + 1), latest + HOUR
        found = inspect(rows, now=now, rules=self._channels)
        if any(one.kind is FindingKind.GAP for one in found):
            found = inspect(rows, now=now, rules=self._channels, outages=self._dark(latest - 2 * DAY, now))
        skew = self._arrivals.skew(device)
        return [*found, skew] if skew else list(found)

    def _dark(self, since: float, until: float) -> frozenset[int]:
        """Return the hours in which no device here delivered; of an outage that nobody saw coming, say that it was."""
        windows = {device: self._week.window(device, since, until) for device in self._devices.all()}
        site = {device: rows for device, rows in windows.items() if rows}
        dark = site_outages(site, since=since, until=until)
        began = min((rows[0][0] for rows in site.values()), default=until)
        for one in outages(dark):
            if one.since > began and one.since >= self.alarms.newest(PLACE):
                self._place([Seen.of(one)])
                self._place([])
        return dark

    def look(self) -> None:
        """Compare the week with what the model was trained on; ask the gateway what a drift means.

        How long that takes is for the devices to say, who send what is looked at: it takes a fifth of all time at most.
        """
        begun = self._runtime.monotonic()
        self._look()
        self.pace = max(self._runtime.settings.processor.monitor_every, SPARED * (self._runtime.monotonic() - begun))

    def _look(self) -> None:
        self._look_for_silent()
        verdicts, now = self.judged()
        confirmed = self.alarms.verified()  # what was lone stays so, though it may be learned from now
        for device, found in verdicts.items():
            self._runtime.metrics.gauge("drift_percent", found.drift_pct, device=self._devices.pseudonym(device))
            seen = _compared(found, now, lone=device in confirmed)
            self._see(device, COMPARED, seen, now, end=self._settled(device, now))
        self._learn_anew()
        self._let_lapse(self._runtime.data_clock.now())
        self._tell_of_open()
        worrying = {d: v for d, v in verdicts.items() if self._asks(d, v)}
        if not worrying or not self._uplink.free(DRIFT) or self._slot.wanted:
            return
        percent = max(found.drift_pct for found in worrying.values())
        drift = {self._devices.pseudonym(d): dict.fromkeys(v.channels, v.drift_pct) for d, v in worrying.items()}
        asking = sorted(one.number for device in worrying for one in self.alarms.open(device) if _ASKS & set(one.done))
        self._runtime.note(DRIFT, release=self._slot.sequence, percent=percent, at=now, alarms=asking)
        verified = [self._devices.pseudonym(device) for device in sorted(confirmed & worrying.keys())]
        self._uplink.ask(DRIFT, DriftReport(self._slot.sequence, drift, verified), DriftVerdict)

    def told(self, verdict: SiteVerdict) -> None:
        """Take the gateway's word about devices that nobody here can vouch for; it is good for two days of data.

        Of those that we can compare ourselves our own word counts: no gateway has them set aside.
        """
        compared = self._neighbours.reference.devices if self._neighbours.reference is not None else {}
        at = min(verdict.at, self._runtime.data_clock.now())
        for pseudonym, channels in verdict.devices.items():
            device = self._devices.called(pseudonym)
            if device is None or device in compared:
                self._runtime.metrics.count("site_verdicts_disputed", reason="ours" if device else "nobody")
                continue
            seen = [Seen(LEFT_SITE, one, at - DAY, at, sure=sureness(LEFT_SITE)) for one in channels]
            self._see(device, frozenset({LEFT_SITE}), seen, at)

    def _let_lapse(self, now: float) -> None:
        """End what the gateway said and says no more, and what is about a device that left us, as its week is gone."""
        here = {PLACE, *self._devices.all()}
        for alarm in self.alarms.open():
            word = alarm.cause == LEFT_SITE and alarm.until < now - 2 * DAY
            if word or (alarm.device not in here and alarm.until < now - WEEK):
                self._see(alarm.device, frozenset({alarm.cause}), [], now)

    def told_of_health(self, device: str, causes: frozenset[str], seen: list[Seen]) -> None:
        """Raise or end the alarm about a device's own health, of which its telemetry tells."""
        self._see(device, causes, seen, self._runtime.data_clock.now())

    def judged(self) -> tuple[Mapping[str, DeviceVerdict], float]:
        """Judge the week of every device as of the moment up to which all have delivered; none without a model."""
        model, today = self._slot.model, self._runtime.data_clock.now()
        if model is None:
            return {}, today
        week = {device: self._judged(device, today - WEEK, today + HOUR) for device in self._devices.all()}
        aligned, now = align(week)
        sound = [device for device, _ in self._devices.sound()]
        self._neighbours.learn(sound, lambda one: aligned.get(one, []), now, accused=self._accused)
        peers, verified = self._neighbours.reference, self.alarms.verified()
        found = assess(
            aligned, model.baseline, now=now, peers=peers, rules=self._channels, window=WATCHED, verified=verified
        )
        return found.devices, now

    def _accused(self, device: str, since: float) -> bool:
        """Whether anything was found of a device alone since then (data time)."""
        own = FAULTS | {LEFT_PEERS, LEFT_SITE}
        return any(one.device == device and one.cause in own and one.until >= since for one in self.alarms.all())

    def after(self) -> None:
        """Erase alarms that have long been over; in a transaction."""
        self.alarms.forget(self._runtime.data_clock.now())

    def recover(self) -> None:
        """Take back what a rollback has undone."""
        self._neighbours.recover()

    def recalibrated(self, device: str, at: float) -> None:
        """Judge a device by what it reads after `at` (data time): what it read before was other readings."""
        self._devices.recalibrated(device, at)
        self._arrivals.forget(device)

    def moved(self, device: str) -> None:
        """Learn anew how far from the others a device is: it stands elsewhere, and what it read before is of there."""
        self._neighbours.forget(device)
        self.recalibrated(device, self._runtime.data_clock.now())

    def _judged(self, device: str, since: float, until: float) -> Rows:
        """Return its readings that it is judged by."""
        after = self._devices.judged_after(device)
        rows: Rows = self._week.window(device, max(since, after), until)
        return [row for row in rows if row[0] > after]

    def _settled(self, device: str, at: float) -> bool:
        """Whether a device had a day to look right in since it was recalibrated."""
        return at >= self._devices.judged_after(device) + DAY

    # what is done

    def _see(self, device: str, causes: frozenset[str], found: Iterable[Seen], at: float, *, end: bool = True) -> None:
        """Raise and end alarms, and do what they ask for."""
        now = self._runtime.clock.now()
        turn = self.alarms.see(device, causes, found, self._rules, now=now, end=end)
        self._note_turn(turn)
        self._set_aside(device, at)
        self._recalibrate(device, [alarm for alarm in turn.raised if Action.RECALIBRATE in alarm.done])

    def _set_aside(self, device: str, at: float) -> None:
        """Have a device in quarantine exactly while an alarm says so."""
        grounds = [alarm for alarm in self.alarms.open(device) if Action.QUARANTINE in alarm.done]
        reason = ", ".join(sorted({f"{alarm.channel} {alarm.cause}".strip() for alarm in grounds}))
        before = self._devices.quarantined().get(device)
        if reason and not before:
            numbers = [alarm.number for alarm in grounds]
            self._runtime.note("quarantined", sensor=device, reason=reason, at=at, alarms=numbers)
        elif before and not reason:
            self._runtime.note("released", sensor=device, at=at)
            self._devices.uploaded(device, at)
        self._devices.set_aside(device, reason or None)

    def _recalibrate(self, device: str, alarms: list[Alarm]) -> None:
        if alarms:
            reason = ", ".join(sorted({f"{alarm.channel} {alarm.cause}".strip() for alarm in alarms}))
            channels = {alarm.channel for alarm in alarms if alarm.channel}
            self._recalibrations.ask(device, reason, channels, alarms=[alarm.number for alarm in alarms])

    def _asks(self, device: str, found: DeviceVerdict) -> bool:
        """Whether the gateway is to be asked about a device: a lone one's drift may be shared elsewhere."""
        if found.verdict not in {Verdict.RETRAIN, Verdict.VERIFY}:
            return False
        return bool(_ASKS & self.alarms.actions(device))

    def _learn_anew(self) -> None:
        """Where a person agrees that a device is where it is meant to be now, learn its usual distance anew."""
        for alarm in self.alarms.open():
            if alarm.cause == LEFT_PEERS and alarm.state is State.APPROVED:
                self._neighbours.forget(alarm.device)

    def _look_for_silent(self) -> None:
        """Find who has stopped sending, without waiting for what it sends next; if that is everybody, blame nobody."""
        everybody = self._devices.all()
        self._arrivals.keep(everybody)
        silent = self._silence.silent(everybody, self.pace)
        ends = {device: end for device in everybody if (end := self._week.newest(device)) is not None}
        if not everybody:
            self._place([])  # nobody is here to be missed
        elif len(silent) == len(everybody):
            self._outage(ends)
        else:
            reached = median([end for device, end in ends.items() if device not in silent] or [0.0])
            for device in sorted(silent):
                self._dropout(device, ends.get(device, reached), reached)

    def _dropout(self, device: str, end: float, reached: float) -> None:
        """One is silent while others go on, who have come to `reached` (data time)."""
        missed = int((reached - end) // HOUR)
        if missed > 0:
            seen = Seen(str(FindingKind.GAP), "", end, reached, missed, "silent", sureness(FindingKind.GAP, missed))
            self._see(device, frozenset({seen.cause}), [seen], reached, end=False)

    def _outage(self, ends: Mapping[str, float]) -> None:
        """All are silent: it is the place's, for as long as it lasts."""
        since, now = max(ends.values(), default=0.0), self._runtime.data_clock.now() // HOUR * HOUR
        missed = int((now - since) // HOUR)
        if ends and missed > 0:
            who = f"none of {len(ends)} devices" if len(ends) > 1 else "its only device, which may be at fault itself"
            self._place([Seen(str(FindingKind.OUTAGE), "", since, now, missed, who)])

    def _back(self) -> None:
        """Somebody is heard again: the place is not down; the others have their time to come back as well."""
        if self.alarms.open(PLACE):
            self._place([])
            self._silence.anew()

    def _place(self, seen: list[Seen]) -> None:
        """Raise the alarm of the whole place, or end it; nothing but telling is done about it."""
        turn = self.alarms.see(PLACE, OUTAGE, seen, self._rules, now=self._runtime.clock.now())
        self._note_turn(turn)

    def _tell_of_open(self) -> None:
        now = self._runtime.clock.now()
        told = Counter(alarm.cause for alarm in self.alarms.open() if not alarm.quiet(now))
        for cause in sorted(TOLD):
            self._runtime.metrics.gauge("alarms_open", told[cause], cause=cause)

    def _note_turn(self, turn: Turn) -> None:
        for alarm in turn.raised:
            self._note("alarm", alarm, sure=alarm.sure, since=alarm.since, actions=[str(one) for one in alarm.actions])
        for alarm in turn.ended:
            self._note("alarm-over", alarm, until=alarm.until)
        if turn.dropped:
            self._runtime.metrics.count("alarms_dropped", turn.dropped)

    def _note(self, kind: str, alarm: Alarm, **detail: object) -> None:
        named = {"number": alarm.number, "sensor": alarm.device, "cause": alarm.cause, "channel": alarm.channel}
        self._runtime.note(kind, **named, **detail)


def _compared(found: DeviceVerdict, now: float, *, lone: bool) -> list[Seen]:
    """What comparing a device with others, or with its past, has found; faults are seen as they come."""
    cause = LONE_DRIFT if lone and found.verdict is Verdict.RETRAIN else _CAUSE.get(found.verdict)
    if cause is None or found.findings:
        return []
    severity = found.drift_pct / 70
    sure = sureness(cause, severity=severity)
    return [Seen(cause, one, now - WATCHED, now, 1, f"{found.drift_pct:.0f} %", sure) for one in found.channels]
