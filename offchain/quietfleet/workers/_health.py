"""A processor's watch over how its devices themselves do: their telemetry of a week, a score, and one alarm."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from quietfleet.clock import waits
from quietfleet.monitor.alarms import Seen
from quietfleet.monitor.rules import POOR_HEALTH
from quietfleet.monitor.telemetry import FAIR, POOR, Health, health
from quietfleet.workers.messages import CLOCK_SKEW, Telemetry

if TYPE_CHECKING:
    from quietfleet.session import Received
    from quietfleet.storage import TimeSeries
    from quietfleet.workers._devices import Devices
    from quietfleet.workers._runtime import Runtime

WEEK: Final = 7 * 86_400.0
LOOK_EVERY: Final = 60.0
APART: Final = 10.0
"""Seconds between two samples of a device, at least: a week of them is no more than so many."""
CAUSES: Final = frozenset({POOR_HEALTH})
_SURE: Final = 0.9  # that a device of so poor a score wants looking at
_DETAIL: Final = 180  # characters
_PERIODS: Final = 8  # samples from which how often a device tells of itself is taken

See = Callable[[str, frozenset[str], list[Seen]], None]


class HealthWatch:
    """Takes telemetry in and looks at it, in the caller's transaction.

    `see` is told which device is in poor health, or in none. Telemetry stays here: nothing of it goes up but a score.
    """

    def __init__(self, runtime: Runtime, series: TimeSeries, devices: Devices, see: See) -> None:
        self._runtime = runtime
        self._series = series
        self._devices = devices
        self._see = see
        self._due: dict[str, float] = {}
        self._poor: set[str] = set()
        self.found: dict[str, Health] = {}

    def take(self, event: Received, told: Telemetry) -> None:
        """Keep what one of our devices tells of itself; what is of another time, or too much, is counted."""
        if event.peer not in self._devices:
            self._runtime.metrics.count("telemetry_refused", reason="not our device")
            return
        now = self._runtime.clock.now()
        newest = self._series.newest(event.peer)
        last = -math.inf if newest is None else newest
        for at, figures in sorted(told.samples, key=lambda one: one[0]):
            if not now - WEEK <= at <= now + CLOCK_SKEW or not last + APART <= at:
                self._runtime.metrics.count("telemetry_refused", reason="of another time")
                continue
            self._series.append(event.peer, at, figures)
            last = at

    def tick(self) -> None:
        """Judge a device whose time it is; one a tick, so that nobody waits while a week is read."""
        now, here = self._runtime.clock.now(), self._devices.all()
        self.found = {device: found for device, found in self.found.items() if device in here}
        self._poor &= self.found.keys()
        device = next((one for one in here if not waits(now, self._due.get(one, 0.0), LOOK_EVERY)), None)
        if device is None:
            return
        self._due = {one: due for one, due in self._due.items() if one in here} | {device: now + LOOK_EVERY}
        found = self._judge(device, now)
        if found is not None:
            self.found[device] = found
            self._tell(device, found)

    def _tell(self, device: str, found: Health) -> None:
        self._runtime.metrics.gauge("health", found.score, device=self._devices.pseudonym(device))
        poor = found.score < (FAIR if device in self._poor else POOR)
        (self._poor.add if poor else self._poor.discard)(device)
        worst = f"{found.score:.0f} of 100: {found.words}"
        seen = Seen(POOR_HEALTH, "", found.until, found.until, 1, worst[:_DETAIL], _SURE)
        self._see(device, CAUSES, [seen] if poor else [])

    def erase(self) -> int:
        """Erase what is over a week old, outside of any transaction; `ErasureDelayed`."""
        return self._series.erase(self._runtime.clock.now())

    def status(self) -> dict[str, Any]:
        """Say of each device how it does, why, and for how long it will."""
        return {
            device: {
                "score": found.score,
                "reasons": [reason.sentence for reason in found.reasons],
                "lasts days": {one.what: round(one.days, 1) for one in found.longevity},
            }
            for device, found in self.found.items()
        }

    def _judge(self, device: str, now: float) -> Health | None:
        rows = self._series.window(device, now - WEEK, now + CLOCK_SKEW)
        times = [at for at, _ in rows[-_PERIODS:]]
        steps = sorted(later - earlier for earlier, later in pairwise(times))
        period = steps[len(steps) // 2] if steps else 300.0
        return health(rows, now=now, period=max(LOOK_EVERY, period))
