"""A processor's watch over its devices: faults at once, drift over the week, and what is done about either."""

from __future__ import annotations

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
from quietfleet.monitor.alarms import Alarm, Seen, State, sureness
from quietfleet.monitor.rules import LEFT_PEERS, LEFT_SITE, LONE_DRIFT, SHARED_DRIFT, Action, load_rules
from quietfleet.workers._alarms import Alarms
from quietfleet.workers._clocks import Arrivals
from quietfleet.workers._neighbours import Neighbours
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
SILENT: Final = 4 * HOUR  # of data time behind its neighbours
QUIET: Final = 30.0  # seconds of the clock besides: what is on its way is not lost
DRIFT: Final = "drift"

FAULTS: Final = frozenset(map(str, FindingKind))
COMPARED: Final = frozenset({SHARED_DRIFT, LONE_DRIFT, LEFT_PEERS})
TOLD: Final = COMPARED | FAULTS | {LEFT_SITE}
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
        self._neighbours = Neighbours(runtime, Kept(runtime.database))
        rules = runtime.settings.processor.rules
        self._rules = load_rules(runtime.settings.path(rules) if rules else None)
        self.alarms = Alarms(runtime.database)
        self._heard: dict[str, float] = {}
        self._arrivals = Arrivals(runtime.clock, runtime.data_clock)
        self._outage = 0.0  # when the newest one that was told began

    def check(self, device: str, latest: float) -> None:
        """Look for faults at once; a faulty device is set aside until a whole day of it looks right again."""
        self._heard[device] = self._runtime.clock.now()
        self._arrivals.came(device, latest)
        findings = self._faults(device, latest)
        recent = [finding for finding in findings if finding.until >= latest - DAY]
        self._see(device, FAULTS, map(Seen.of, recent), latest, end=self._settled(device, latest))

    def _faults(self, device: str, latest: float) -> list[Finding]:
        """What is wrong with two days of a device; a gap that its whole place shares is none of its own."""
        rows, now = self._judged(device, latest - 2 * DAY, latest + 1), latest + HOUR
        found = inspect(rows, now=now)
        if any(one.kind is FindingKind.GAP for one in found):
            found = inspect(rows, now=now, outages=self._dark(latest - 2 * DAY, now))
        skew = self._arrivals.skew(device)
        return [*found, skew] if skew else list(found)

    def _dark(self, since: float, until: float) -> frozenset[int]:
        """Return the hours in which no device here delivered, and say of an outage of the place that it was one."""
        windows = {device: self._week.window(device, since, until) for device in self._devices.all()}
        site = {device: rows for device, rows in windows.items() if rows}
        dark = site_outages(site, since=since, until=until)
        began = min((rows[0][0] for rows in site.values()), default=until)
        for one in outages(dark):
            if one.since > max(began, self._outage):
                self._outage = one.since
                self._runtime.note("site-outage", since=one.since, until=one.until, hours=one.count)
        return dark

    def look(self) -> None:
        """Compare the week with what the model was trained on; ask the gateway what a drift means."""
        self._look_for_silent()
        verdicts, now = self.judged()
        for device, found in verdicts.items():
            self._runtime.metrics.gauge("drift_percent", found.drift_pct, device=self._devices.pseudonym(device))
            self._see(device, COMPARED, _compared(found, now), now, end=self._settled(device, now))
        self._learn_anew()
        self._let_words_lapse(self._runtime.data_clock.now())
        self._tell_of_open()
        worrying = {d: v for d, v in verdicts.items() if self._asks(d, v)}
        if not worrying or not self._uplink.free(DRIFT) or self._slot.wanted:
            return
        percent = max(found.drift_pct for found in worrying.values())
        drift = {self._devices.pseudonym(d): dict.fromkeys(v.channels, v.drift_pct) for d, v in worrying.items()}
        self._runtime.note(DRIFT, release=self._slot.sequence, percent=percent, at=now)
        self._uplink.ask(DRIFT, DriftReport(self._slot.sequence, drift), DriftVerdict)

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

    def _let_words_lapse(self, now: float) -> None:
        for alarm in self.alarms.open():
            if alarm.cause == LEFT_SITE and alarm.until < now - 2 * DAY:
                self._see(alarm.device, frozenset({LEFT_SITE}), [], now)

    def judged(self) -> tuple[Mapping[str, DeviceVerdict], float]:
        """Judge the week of every device as of the moment up to which all have delivered; none without a model."""
        model, today = self._slot.model, self._runtime.data_clock.now()
        if model is None:
            return {}, today
        week = {device: self._judged(device, today - WEEK, today + HOUR) for device in self._devices.all()}
        aligned, now = align(week)
        self._neighbours.learn([device for device, _ in self._devices.sound()], lambda one: aligned.get(one, []), now)
        peers, verified = self._neighbours.reference, self.alarms.verified()
        found = assess(aligned, model.baseline, now=now, peers=peers, window=WATCHED, verified=verified)
        return found.devices, now

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
        for alarm in turn.raised:
            self._note("alarm", alarm, sure=alarm.sure, since=alarm.since, actions=[str(one) for one in alarm.actions])
        for alarm in turn.ended:
            self._note("alarm-over", alarm, until=alarm.until)
        if turn.dropped:
            self._runtime.metrics.count("alarms_dropped", turn.dropped)
        self._set_aside(device, at)
        self._recalibrate(device, [alarm for alarm in turn.raised if Action.RECALIBRATE in alarm.done])

    def _set_aside(self, device: str, at: float) -> None:
        """Have a device in quarantine exactly while an alarm says so."""
        grounds = [alarm for alarm in self.alarms.open(device) if Action.QUARANTINE in alarm.done]
        reason = ", ".join(sorted({f"{alarm.channel} {alarm.cause}".strip() for alarm in grounds}))
        before = self._devices.quarantined().get(device)
        if reason and not before:
            self._runtime.note("quarantined", sensor=device, reason=reason, at=at)
        elif before and not reason:
            self._runtime.note("released", sensor=device, at=at)
            self._devices.uploaded(device, at)
        self._devices.set_aside(device, reason or None)

    def _recalibrate(self, device: str, alarms: list[Alarm]) -> None:
        if alarms:
            reason = ", ".join(sorted({f"{alarm.channel} {alarm.cause}".strip() for alarm in alarms}))
            self._recalibrations.ask(device, reason, {alarm.channel for alarm in alarms if alarm.channel})

    def _asks(self, device: str, found: DeviceVerdict) -> bool:
        """Whether the gateway is to be asked about a device: a lone one's drift may be shared elsewhere."""
        if found.verdict not in {Verdict.RETRAIN, Verdict.VERIFY}:
            return False
        return bool({Action.RETRAIN, Action.VERIFY} & self.alarms.actions(device))

    def _learn_anew(self) -> None:
        """Where a person agrees that a device is where it is meant to be now, learn its usual distance anew."""
        for alarm in self.alarms.open():
            if alarm.cause == LEFT_PEERS and alarm.state is State.APPROVED:
                self._neighbours.forget(alarm.device)

    def _look_for_silent(self) -> None:
        """Find who has stopped sending while its neighbours went on, without waiting for what it sends next."""
        now, everybody = self._runtime.clock.now(), self._devices.all()
        self._arrivals.keep(everybody)
        self._heard = {device: self._heard.get(device, now) for device in everybody}
        quiet = [device for device in everybody if now - self._heard[device] > QUIET]
        if not quiet or len(everybody) == 1:
            return
        ends = {device: end for device in everybody if (end := self._week.newest(device)) is not None}
        reached = median(ends.values()) if ends else 0.0
        for device in quiet:
            end = ends.get(device, reached)
            if reached - end >= SILENT:
                missed = int((reached - end) // HOUR)
                seen = Seen(str(FindingKind.GAP), "", end, reached, missed, "silent", sureness(FindingKind.GAP, missed))
                self._see(device, frozenset({str(FindingKind.GAP)}), [seen], reached, end=False)

    def _tell_of_open(self) -> None:
        now = self._runtime.clock.now()
        told = Counter(alarm.cause for alarm in self.alarms.open() if not alarm.quiet(now))
        for cause in sorted(TOLD):
            self._runtime.metrics.gauge("alarms_open", told[cause], cause=cause)

    def _note(self, kind: str, alarm: Alarm, **detail: object) -> None:
        named = {"number": alarm.number, "sensor": alarm.device, "cause": alarm.cause, "channel": alarm.channel}
        self._runtime.note(kind, **named, **detail)


def _compared(found: DeviceVerdict, now: float) -> list[Seen]:
    """What comparing a device with others, or with its past, has found; faults are seen as they come."""
    cause = _CAUSE.get(found.verdict)
    if cause is None or found.findings:
        return []
    severity = found.drift_pct / 70
    sure = sureness(cause, severity=severity)
    return [Seen(cause, one, now - WATCHED, now, 1, f"{found.drift_pct:.0f} %", sure) for one in found.channels]
