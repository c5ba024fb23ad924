"""How the model in use did over the week: its forecasts made again from the week cache and held against what came.

In scheduled batches, a device at a time, so that a restart forgets nothing and a reading that came late counts for its
own time (paper V-B: weekly, in batches). Only forecasts from readings after the release was taken up count: it may have
learned from those before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from quietfleet.clock import waits
from quietfleet.errors import NoForecast
from quietfleet.monitor import Performance, combined
from quietfleet.pipeline.features import Table, feature_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from quietfleet.pipeline.features import Features
    from quietfleet.storage import TimeSeries
    from quietfleet.workers._devices import Devices
    from quietfleet.workers._model_slot import ModelSlot
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._state import State
    from quietfleet.workers.messages import Rows

    Floats = npt.NDArray[np.float64]

DAY: Final = 86_400.0
WEEK: Final = 7 * DAY
EVERY: Final = DAY / 4  # data time between two batches of one device
_SINCE: Final = "weekly"


class Weekly:
    """The last batch of each device; in the caller's transaction."""

    def __init__(self, runtime: Runtime, state: State, week: TimeSeries, slot: ModelSlot, devices: Devices) -> None:
        self._runtime = runtime
        self._state = state
        self._week = week
        self._slot = slot
        self._devices = devices
        self._due: dict[str, float] = {}
        self._found: dict[str, Performance] = {}
        self._release = 0

    def tick(self) -> None:
        """Judge one device whose time it is; one a tick, so that nobody waits for all of them."""
        now, since = self._runtime.data_clock.now(), self._since()
        sound = [device for device, _ in self._devices.sound()]
        self._found = {device: one for device, one in self._found.items() if device in sound}
        device = next((one for one in sound if not waits(now, self._due.get(one, 0.0), EVERY)), None)
        if device is None or since is None:
            return
        self._due[device] = now + EVERY
        found = self._judge(device, max(since, self._devices.judged_after(device)), now)
        if found is not None:
            self._found[device] = found

    def current(self) -> tuple[int, Performance | None]:
        """Return the number of devices that were compared, and the errors over all of them."""
        return len(self._found), combined(self._found.values())

    def each(self) -> list[Performance]:
        """Return the errors of each device that was compared."""
        return list(self._found.values())

    def _since(self) -> float | None:
        """The moment of data time at which the release in use was taken up, None without one; another forgets all."""
        release, kept = self._slot.sequence, self._state.get(_SINCE)
        if release != self._release:
            self._release, self._found, self._due = release, {}, {}
        if not release or self._slot.model is None:
            return None
        if kept is None or kept[0] != release:
            kept = [release, self._runtime.data_clock.now()]
            self._state.set(_SINCE, kept)
        return float(kept[1])

    def _judge(self, device: str, since: float, now: float) -> Performance | None:
        model = self._slot.model
        rows = self._week.window(device, now - WEEK, now + 1)
        if model is None or model.features.horizon == 0 or not rows:
            return None  # what is now needs no forecast, and persistence means nothing
        table = week_table(model.features, rows, device, self._week, self._devices)
        counts = (table.times >= since) & np.isfinite(table.naive)
        if not counts.any():
            return None
        try:
            forecasts = model.predict_many(table.rows[counts], self._devices.pseudonym(device))
        except NoForecast:
            return None
        actual = table.targets[counts]
        return Performance(int(counts.sum()), _rms(forecasts - actual), _rms(table.naive[counts] - actual))


def week_table(task: Features, rows: Rows, device: str, week: TimeSeries, devices: Devices) -> Table:
    """Return every row of a device's readings that the model can forecast from and of which the truth has come."""
    last = {task.slot(at): fields for at, fields in rows}
    times = np.array(sorted(last), dtype=np.int64) * task.period
    columns = {name: _column(last, name) for name in task.channels}
    company = {name: _company(task, device, sorted(last), name, week, devices) for name in task.peers}
    return feature_table(task, times, columns, company or None)


def _company(task: Features, device: str, slots: list[int], name: str, week: TimeSeries, devices: Devices) -> Floats:
    """What the other sound devices read in these periods, their median."""
    since, until = slots[0] * task.period, (slots[-1] + 1) * task.period
    read: dict[int, list[float]] = {}
    for other, _ in devices.sound():
        if other != device:
            newest = {task.slot(at): fields for at, fields in week.window(other, since, until)}
            for slot, fields in newest.items():
                if name in fields:
                    read.setdefault(slot, []).append(fields[name])
    return np.array([float(np.median(read[slot])) if slot in read else np.nan for slot in slots])


def _column(last: Mapping[int, Mapping[str, float]], name: str) -> Floats:
    return np.array([last[slot].get(name, np.nan) for slot in sorted(last)])


def _rms(errors: Floats) -> float:
    return math.sqrt(float(np.mean(errors**2)))
