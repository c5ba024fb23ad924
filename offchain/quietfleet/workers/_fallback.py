"""What stands in for readings that are missing or not to be trusted, for as long as an alarm says so.

Nothing of it is stored, sent up or learned from: it is made anew for each forecast, and the answer names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

from quietfleet.monitor.alarms import State
from quietfleet.monitor.integrity import FindingKind
from quietfleet.monitor.rules import LEFT_PEERS, LEFT_SITE, LONE_DRIFT, POOR_HEALTH, SHARED_DRIFT, Action
from quietfleet.monitor.virtual import Sample, Virtual, learn

if TYPE_CHECKING:
    from quietfleet.monitor.alarms import Alarm
    from quietfleet.storage import TimeSeries
    from quietfleet.workers._alarms import Alarms
    from quietfleet.workers._devices import Devices
    from quietfleet.workers.messages import Rows

HOUR: Final = 3600.0
LAST_KNOWN: Final = 6 * HOUR  # of data time, for which a last good reading says something
WEEK: Final = 7 * 24 * HOUR
RELEARNED: Final = 6 * HOUR  # of data time, after which what is learned is learned anew
MOST_SAMPLES: Final = 1000  # to learn from
MOST_BESIDE: Final = 8  # neighbours; who is among them nobody outside can tell or bring about
MOST_FITS: Final = 32  # of one device until then, however its readings' channels come and go

IMPUTED: Final = "virtual sensor"
HELD: Final = "last known"
SAFE: Final = "safe default"
LAST_MODEL: Final = "last-known model"

_DOUBTED: Final = frozenset({LEFT_PEERS, LEFT_SITE, LONE_DRIFT, FindingKind.IMPLAUSIBLE})
"""Causes that leave open which of a device's channels is wrong, so that none of them says what another should read."""

_DISTRUST: Final = frozenset({Action.QUARANTINE, Action.IMPUTE, Action.LAST_KNOWN})
_NO_FAULT: Final = frozenset({SHARED_DRIFT, POOR_HEALTH})


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
        self._learned: dict[str, _Learned] = {}

    def rows(self, device: str, history: Rows, period: float) -> StoodIn:
        """Return a device's readings, in order of time and one a `period` (s), with what stands in for some of them."""
        alarms = self._alarms.open(device) if history else []
        doing = {one for alarm in alarms for one in alarm.done}
        if Action.SAFE_DEFAULT in doing:
            return StoodIn([], SAFE)
        if not doing & {Action.IMPUTE, Action.LAST_KNOWN}:
            self._learned.pop(device, None)
            return StoodIn(history)
        good = [(at, dict(fields)) for at, fields in history]
        for alarm in alarms:
            if {Action.IMPUTE, Action.LAST_KNOWN} & set(alarm.done):
                _strike(good, alarm.channel, alarm.since)
        if any(alarm.cause == FindingKind.GAP and Action.IMPUTE in alarm.done for alarm in alarms):
            good = _slots(good, period)
        beside, learned = {}, None
        if Action.IMPUTE in doing:
            beside = self._neighbours(device, good[0][0] - LAST_KNOWN, good[-1][0] + period, period)
            learned = self._learn(device, alarms, good[-1][0], period)
        used = _fill(good, history[-1][1].keys(), beside, learned, period)
        if history[-1][1].keys() - good[-1][1].keys():  # nothing says any more what it reads now
            return StoodIn([], SAFE)
        rows = [(at, fields) for at, fields in good if fields]
        return StoodIn(rows, IMPUTED if IMPUTED in used else HELD if used else "")

    def _learn(self, device: str, alarms: Sequence[Alarm], now: float, period: float) -> _Learned:
        """Return what the week's sound readings tell of a device; read anew from time to time, and with its alarms."""
        after = self._devices.judged_after(device)
        mark = (now // RELEARNED, after, period, *(alarm.number for alarm in alarms))
        known = self._learned.get(device)
        if known is None or known.mark != mark:
            known = self._learned[device] = _Learned(mark, self._samples(device, max(now - WEEK, after), now, period))
        known.own = not any(alarm.cause in _DOUBTED for alarm in alarms)
        return known

    def _samples(self, device: str, since: float, until: float, period: float) -> list[Sample]:
        """Everything it read while nothing was said against it, beside what its neighbours read then."""
        rows = [(at, dict(fields)) for at, fields in self._week.window(device, since, until + 1)]
        for alarm in self._alarms.all():
            over = alarm.state is State.ENDED
            if alarm.device == device and alarm.cause not in _NO_FAULT and (over or _DISTRUST & set(alarm.done)):
                _strike(rows, alarm.channel, alarm.since, alarm.until if over else math.inf)
        beside = self._neighbours(device, since, until + period, period)
        told = {int(at // period): (at, fields) for at, fields in rows if fields}  # one a slot, as models read them
        samples = [Sample(at, fields, beside.get(slot, {})) for slot, (at, fields) in told.items()]
        return samples[:: 1 + len(samples) // MOST_SAMPLES]

    def _neighbours(self, device: str, since: float, until: float, period: float) -> dict[int, dict[str, float]]:
        """What some of the other sound devices read, by slot: the middle of each channel."""
        heard: dict[int, dict[str, list[float]]] = {}
        others = [other for other, _ in self._devices.sound() if other != device]
        for other in sorted(others, key=self._devices.pseudonym)[:MOST_BESIDE]:
            for at, fields in self._week.window(other, since, until):
                slot = heard.setdefault(int(at // period), {})
                for name, value in fields.items():
                    slot.setdefault(name, []).append(value)
        return {slot: {name: median(values) for name, values in fields.items()} for slot, fields in heard.items()}


class _Learned:
    """Virtual sensors of one device, one for each channel and set of inputs that came up."""

    def __init__(self, mark: tuple[float, ...], samples: Sequence[Sample]) -> None:
        self.mark = mark
        self.own = True  # whether its other channels are to be believed
        self._samples = samples
        self._fits: dict[tuple[str, frozenset[str], frozenset[str]], Virtual | None] = {}

    def read(self, channel: str, known: Sample) -> float | None:
        """Return what a channel should read by what is known of that moment; None if that tells nothing."""
        if not self.own or len(self._fits) >= MOST_FITS:
            known = known._replace(own={})
        key = channel, frozenset(known.own), frozenset(known.beside)
        if key not in self._fits:
            if len(self._fits) >= 2 * MOST_FITS:
                return None
            self._fits[key] = learn(channel, self._samples, known)
        virtual = self._fits[key]
        return None if virtual is None else virtual.read(known)


def _strike(rows: Rows, channel: str, since: float, until: float = math.inf) -> None:
    """Leave out what a channel read from then to then."""
    for at, fields in rows:
        if since <= at <= until:
            fields.pop(channel, None)


def _slots(rows: Rows, period: float) -> Rows:
    """Give each slot that nobody filled a reading without a value."""
    filled = {int(at // period): (at, fields) for at, fields in rows}
    first, last = min(filled), max(filled)
    phase = rows[-1][0] % period
    return [filled.get(slot, (slot * period + phase, {})) for slot in range(first, last + 1)]


def _fill(
    rows: Rows,
    wanted: AbstractSet[str],
    neighbours: Mapping[int, Mapping[str, float]],
    learned: _Learned | None,
    period: float,
) -> set[str]:
    """Fill in what is missing, in place: by a virtual sensor, else from the last good reading; return what was used."""
    used = set()
    last: dict[str, tuple[float, float]] = {}
    names = sorted({*wanted, *(name for _, fields in rows for name in fields)})
    for at, fields in rows:
        known = Sample(at, dict(fields), _beside(neighbours, at, period))
        last |= {name: (at, value) for name, value in known.own.items()}
        for name in names:
            if name in known.own:
                continue
            said = learned.read(name, known) if learned else None
            held = last.get(name)
            if said is not None:
                fields[name] = said
                used.add(IMPUTED)
            elif held is not None and at - held[0] <= LAST_KNOWN:
                fields[name] = held[1]
                used.add(HELD)
    return used


def _beside(neighbours: Mapping[int, Mapping[str, float]], at: float, period: float) -> dict[str, float]:
    """What neighbours read then, or last before: their readings of this moment may be on their way."""
    slots = range(int((at - LAST_KNOWN) // period), int(at // period) + 1)
    return {name: value for slot in slots for name, value in neighbours.get(slot, {}).items()}
