"""A processor's watch over its devices: faults at once, drift over the week, and what is done about either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from quietfleet.monitor import DeviceVerdict, Verdict, align, assess, inspect
from quietfleet.workers.messages import DriftReport, DriftVerdict, Recalibrate

if TYPE_CHECKING:
    from quietfleet.storage import TimeSeries
    from quietfleet.workers._devices import Devices
    from quietfleet.workers._model_slot import ModelSlot
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._telling import History
    from quietfleet.workers._uplink import Uplink

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
WATCHED: Final = 6 * DAY  # of the week: readings come late, and what is a week old is gone
DRIFT: Final = "drift"


class Watch:
    """Looks at every device's readings as they come, and at all of them together from time to time."""

    def __init__(self, runtime: Runtime, week: TimeSeries, slot: ModelSlot, devices: Devices, uplink: Uplink) -> None:
        self._runtime = runtime
        self._week = week
        self._slot = slot
        self._devices = devices
        self._uplink = uplink

    def check(self, device: str, latest: float) -> None:
        """Look for faults at once; a faulty device is set aside until a whole day of it looks right again."""
        findings = inspect(self._week.window(device, latest - 2 * DAY, latest + 1), now=latest + HOUR)
        recent = [finding for finding in findings if finding.until >= latest - DAY]
        reason = ", ".join(sorted({f"{finding.channel} {finding.kind.value}".strip() for finding in recent}))
        before = self._devices.quarantined()[device]
        if reason and not before:
            self._runtime.note("quarantined", sensor=device, reason=reason, at=latest)
            self._runtime.messenger.notify(device, Recalibrate(reason))
        elif before and not reason:
            self._runtime.note("released", sensor=device, at=latest)
            self._devices.uploaded(device, latest)
        self._devices.set_aside(device, reason or None)

    def look(self) -> None:
        """Compare the week with what the model was trained on; ask the gateway what a drift means."""
        verdicts, _, now = self.judged()
        for device, found in verdicts.items():
            self._runtime.metrics.gauge("drift_percent", found.drift_pct, device=self._devices.pseudonym(device))
        worrying = {d: v for d, v in verdicts.items() if v.verdict in {Verdict.RETRAIN, Verdict.VERIFY}}
        if not worrying or not self._uplink.free(DRIFT) or self._slot.wanted:
            return
        percent = max(found.drift_pct for found in worrying.values())
        drift = {self._devices.pseudonym(d): dict.fromkeys(v.channels, v.drift_pct) for d, v in worrying.items()}
        self._runtime.note(DRIFT, release=self._slot.sequence, percent=percent, at=now)
        self._uplink.ask(DRIFT, DriftReport(self._slot.sequence, drift), DriftVerdict)

    def judged(self) -> tuple[Mapping[str, DeviceVerdict], Mapping[str, History], float]:
        """Judge the week of every device as of the moment up to which all have delivered; none without a model."""
        model, today = self._slot.model, self._runtime.data_clock.now()
        if model is None:
            return {}, {}, today
        week = {device: self._week.window(device, today - WEEK, today + HOUR) for device in self._devices.all()}
        aligned, now = align(week)
        return assess(aligned, model.baseline, now=now, window=WATCHED).devices, aligned, now
