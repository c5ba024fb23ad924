"""What stands in for readings that are missing or not to be trusted, for as long as an alarm says so.

Nothing of it is stored, sent up or learned from: it is made anew for each forecast, and the answer names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

from quietfleet.monitor.integrity import FindingKind
from quietfleet.monitor.rules import Action

if TYPE_CHECKING:
    from quietfleet.monitor.alarms import Alarm
    from quietfleet.storage import TimeSeries
    from quietfleet.workers._alarms import Alarms
    from quietfleet.workers._devices import Devices
    from quietfleet.workers.messages import Rows

HOUR: Final = 3600.0
LAST_KNOWN: Final = 6 * HOUR  # of data time, for which a last good reading says something
USUAL: Final = 48 * HOUR  # before an alarm, from which a device's usual distance from its neighbours is taken

IMPUTED: Final = "imputed from neighbours"
HELD: Final = "last known"
SAFE: Final = "safe default"
LAST_MODEL: Final = "last-known model"


class StoodIn(NamedTuple):
    """Readings to forecast from, and what stood in for some of them: empty if nothing did."""

    rows: Rows
    what: str = ""


class Fallbacks:
    """Mends the readings of a device by what its alarms say."""

    def __init__(self, week: TimeSeries, devices: Devices, alarms: Alarms) -> None:
        self._week = week
        self._devices = devices
        self._alarms = alarms

    def rows(self, device: str, history: Rows, period: float) -> StoodIn:
        """Return a device's readings, in order of time and one a `period` (s), with what stands in for some of them."""
        alarms = self._alarms.open(device) if history else []
        doing = {one for alarm in alarms for one in alarm.done}
        if Action.SAFE_DEFAULT in doing:
            return StoodIn([], SAFE)
        if not doing & {Action.IMPUTE, Action.LAST_KNOWN}:
            return StoodIn(history)
        good = [(at, dict(fields)) for at, fields in history]
        for alarm in alarms:
            _strike(good, alarm)
        if any(alarm.cause == FindingKind.GAP and Action.IMPUTE in alarm.done for alarm in alarms):
            good = _slots(good, period)
        began = min(good[0][0], *(alarm.since for alarm in alarms))
        neighbours, before = {}, []
        if Action.IMPUTE in doing:
            neighbours = self._neighbours(device, began - USUAL, good[-1][0], period)
            before = self._week.window(device, began - USUAL, began)
        used = _fill(good, before, neighbours, period)
        if history[-1][1].keys() - good[-1][1].keys():  # nothing says any more what it reads now
            return StoodIn([], SAFE)
        rows = [(at, fields) for at, fields in good if fields]
        return StoodIn(rows, IMPUTED if IMPUTED in used else HELD if used else "")

    def _neighbours(self, device: str, since: float, until: float, period: float) -> dict[int, dict[str, float]]:
        """What the other sound devices read, by slot: the middle of each channel."""
        heard: dict[int, dict[str, list[float]]] = {}
        for other, _ in self._devices.sound():
            if other == device:
                continue
            for at, fields in self._week.window(other, since, until + period):
                slot = heard.setdefault(int(at // period), {})
                for name, value in fields.items():
                    slot.setdefault(name, []).append(value)
        return {slot: {name: median(values) for name, values in fields.items()} for slot, fields in heard.items()}


def _strike(rows: Rows, alarm: Alarm) -> None:
    """Leave out what an alarm says is not to be trusted."""
    if not {Action.IMPUTE, Action.LAST_KNOWN} & set(alarm.done):
        return
    for at, fields in rows:
        if alarm.channel and at >= alarm.since:
            fields.pop(alarm.channel, None)


def _slots(rows: Rows, period: float) -> Rows:
    """Give each slot that nobody filled a reading without a value."""
    filled = {int(at // period): (at, fields) for at, fields in rows}
    first, last = min(filled), max(filled)
    phase = rows[-1][0] % period
    return [filled.get(slot, (slot * period + phase, {})) for slot in range(first, last + 1)]


def _fill(rows: Rows, before: Rows, neighbours: Mapping[int, Mapping[str, float]], period: float) -> set[str]:
    """Fill in what is missing, in place: from neighbours, moved by the usual distance, else from the last good one.

    `before` are readings of a time when all was well.
    """
    used = set()
    for name in {name for _, fields in (*before, *rows) for name in fields}:
        trusted = [(at, fields[name]) for at, fields in (*before, *rows) if name in fields]
        usual = _distance(trusted, neighbours, name, period)
        last: tuple[float, float] | None = None
        for at, fields in rows:
            if name in fields:
                last = at, fields[name]
                continue
            beside = _beside(neighbours, at, name, period)
            if beside is not None:
                fields[name] = beside + usual
                used.add(IMPUTED)
            elif last is not None and at - last[0] <= LAST_KNOWN:
                fields[name] = last[1]
                used.add(HELD)
    return used


def _beside(neighbours: Mapping[int, Mapping[str, float]], at: float, name: str, period: float) -> float | None:
    """What neighbours read then, or last before: their readings of this moment may be on their way."""
    slots = range(int(at // period), int((at - LAST_KNOWN) // period) - 1, -1)
    return next((one[name] for slot in slots if name in (one := neighbours.get(slot, {}))), None)


def _distance(
    trusted: Sequence[tuple[float, float]], neighbours: Mapping[int, Mapping[str, float]], name: str, period: float
) -> float:
    """How far a device usually is from its neighbours in a channel; 0 where nothing tells."""
    apart = [
        value - beside
        for at, value in trusted
        if (beside := neighbours.get(int(at // period), {}).get(name)) is not None
    ]
    return median(apart) if apart else 0.0
