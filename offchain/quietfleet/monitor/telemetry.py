"""How a device itself does, by what it tells of itself: a score, what moves it, and for how long it will last.

Telemetry (paper V-D: accelerometer, gyroscope, humidity, magnetometer, pressure, temperature, and the machine's own
figures) comes as rows of these channels, any of which may be missing:

    cpu, memory, storage    shares in use, 0 to 1            battery       share left, 0 to 1
    queue                   readings that wait               link          share of questions answered since last time
    rtt                     seconds to an answer             uptime        seconds
    heat                    °C inside of the device          ambient       °C, humidity %, pressure hPa around it
    accel_x, _y, _z         m/s²                             gyro_x, …     rad/s            magn_x, …      µT

A device in perfect health scores 100; every reason takes points off, as the table of weights says, and comes with the
sentence that explains it. A score is for people to look by and for one alarm; nothing is set aside or retrained for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, quantiles
from typing import Final

from quietfleet.monitor.integrity import Row

CHANNELS: Final = (
    "cpu", "memory", "storage", "battery", "queue", "link", "rtt", "uptime", "heat", "ambient", "humidity", "pressure",
    "accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z", "magn_x", "magn_y", "magn_z",
)  # fmt: skip
POOR: Final = 50
"""Below this a device's health is an alarm; it is over from `FAIR` on."""
FAIR: Final = 60

_HOUR: Final = 3600.0
_DAY: Final = 86_400.0
_WEEK: Final = 7 * _DAY
_RECENT: Final = _HOUR
_LEAST: Final = 24  # rows, over two days, before anything is said of a trend
_PAIRS: Final = 96  # rows that a trend is drawn through at most: so many squared are compared
_SURE: Final = 0.7
"""The share of paces that must go one way for it to be a trend: of noise it is half."""
_TWICE: Final = 2
_TURNING: Final = 0.2  # rad/s, twelve degrees a second
_FOREVER: Final = 3650.0  # days
_G: Final = 9.80665
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu": ("cpu_load", "cpu_usage", "load"),
    "memory": ("mem", "ram", "memory_usage", "mem_usage"),
    "storage": ("disk", "disk_usage"),
    "battery": ("battery_level", "soc", "batt"),
    "queue": ("queue_length", "backlog"),
    "link": ("delivery", "success_rate"),
    "rtt": ("latency", "round_trip"),
    "uptime": (),
    "heat": ("cpu_temp", "board_temp", "device_temp", "internal_temp"),
    **{f"accel_{axis}": (f"acc_{axis}", f"acceleration_{axis}", f"a{axis}") for axis in "xyz"},
    **{f"gyro_{axis}": (f"gyr_{axis}", f"gyroscope_{axis}", f"g{axis}") for axis in "xyz"},
    **{f"magn_{axis}": (f"mag_{axis}", f"magnetometer_{axis}", f"m{axis}") for axis in "xyz"},
}
_SHARES: Final = frozenset({"cpu", "memory", "storage", "battery", "link"})


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a device's score is not 100: what, how many points that takes off, and a sentence with the evidence."""

    what: str
    points: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Longevity:
    """How many days something will last at the pace of the last week, and between which two four in five paces lie.

    `what` is battery or storage; infinite: as far as can be told it lasts for ever.
    """

    what: str
    days: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Health:
    """A score from 0 to 100, and what takes points off, worst first; `until` is the newest row's time."""

    score: float
    reasons: tuple[Reason, ...]
    longevity: tuple[Longevity, ...]
    until: float

    @property
    def words(self) -> str:
        """The reasons in a line, worst first."""
        return "; ".join(reason.sentence for reason in self.reasons)


def health(samples: Sequence[Row], *, now: float, period: float = 300.0) -> Health | None:
    """Judge a device by its telemetry of the last week, one row every `period` seconds; None without any."""
    rows = sorted((row for row in samples if now - _WEEK <= row[0] <= now + _HOUR), key=lambda row: row[0])
    if not rows:
        return None
    lasting = longevity(rows, now=now)
    reasons = [
        *_machine(rows),
        *_power(rows, lasting),
        *_connection(rows),
        *_restarts(rows),
        *_silence(rows, now, period),
        *_motion(rows),
    ]
    told = tuple(sorted((one for one in reasons if one.points >= 1), key=lambda one: -one.points))
    score = max(0.0, 100.0 - sum(one.points for one in told))
    return Health(round(score, 1), told, lasting, rows[-1][0])


def longevity(samples: Sequence[Row], *, now: float) -> tuple[Longevity, ...]:
    """Say how long battery and storage last; of what there is too little of, or what does not run out, nothing.

    The pace is the median of those between any two rows (Theil and Sen), which a charge or a clean-up in between does
    not turn around unless it is the rule.
    """
    found = []
    for what, sign in (("battery", -1.0), ("storage", 1.0)):
        series = _series(samples, what, now - _WEEK)
        if len(series) < _LEAST or series[-1][0] - series[0][0] < 2 * _DAY:
            continue
        paces = [sign * pace for pace in _paces(series)]
        if sum(pace > 0 for pace in paces) < _SURE * len(paces):
            continue
        left = series[-1][1] if what == "battery" else 1.0 - series[-1][1]
        slow, *_, fast = quantiles(paces, n=10)
        days, low, high = (_days(left, pace) for pace in (median(paces), fast, slow))
        if days < _FOREVER:
            found.append(Longevity(what, days, low, high))
    return tuple(found)


def named(rows: Sequence[Row]) -> list[Row]:
    """Take from any tidy file's rows what is telemetry, under our names; percent become shares.

    Names that may mean something else as well (temperature, humidity, pressure) are no telemetry of a device.
    """
    have = {name for _, values in rows for name in values}
    known = {
        ours: next((name for name in have if name.lower() in (ours, *aliases)), "")
        for ours, aliases in _ALIASES.items()
    }
    taken = {ours: name for ours, name in known.items() if name}
    largest = {
        ours: max((values[name] for _, values in rows if name in values), default=0.0) for ours, name in taken.items()
    }
    scale = {ours: 0.01 if ours in _SHARES and largest[ours] > 1.5 else 1.0 for ours in taken}  # noqa: PLR2004
    told = [
        (at, {ours: scale[ours] * values[name] for ours, name in taken.items() if name in values})
        for at, values in rows
    ]
    return [row for row in told if row[1]]


# what takes points off


def _machine(rows: Sequence[Row]) -> Iterator[Reason]:
    """CPU from 90 %, memory and storage from 80 and 85 %, heat from 70 °C on."""
    since = rows[-1][0]
    cpu, memory = (_recent(rows, name, since - _RECENT) for name in ("cpu", "memory"))
    if cpu is not None:
        yield Reason("cpu", _ramp(cpu, 0.9, 1.0, 15), f"its processor was {cpu:.0%} busy for an hour")
    if memory is not None:
        yield Reason("memory", _ramp(memory, 0.8, 1.0, 25), f"{memory:.0%} of its memory is in use")
    leak = _growth(rows, "memory")
    if leak is not None and memory is not None and leak > 0 and (1.0 - memory) / leak < 7:  # noqa: PLR2004 - days
        days = (1.0 - memory) / leak
        yield Reason("memory growth", _ramp(-days, -7, -1, 20), f"its memory will be full in {days:.1f} days")
    heat = _recent(rows, "heat", since - _RECENT)
    if heat is not None:
        yield Reason("heat", _ramp(heat, 70, 90, 30), f"it is {heat:.0f} °C inside of it")
    storage = _recent(rows, "storage", since - _RECENT)
    if storage is not None:
        yield Reason("storage", _ramp(storage, 0.85, 1.0, 30), f"{storage:.0%} of its storage is in use")


def _power(rows: Sequence[Row], lasting: Sequence[Longevity]) -> Iterator[Reason]:
    battery = _recent(rows, "battery", rows[-1][0] - _RECENT)
    if battery is not None:
        yield Reason("battery", _ramp(-battery, -0.3, -0.05, 55), f"its battery is at {battery:.0%}")
    for one in lasting:
        points = _ramp(-one.days, -7, -1, 25)
        yield Reason(f"{one.what} trend", points, f"its {one.what} lasts {one.days:.1f} more days at this pace")


def _connection(rows: Sequence[Row]) -> Iterator[Reason]:
    since = rows[-1][0] - _RECENT
    link, rtt, queue = (_recent(rows, name, since) for name in ("link", "rtt", "queue"))
    if link is not None:
        yield Reason("link", _ramp(-link, -0.95, -0.5, 40), f"{1 - link:.0%} of what it asked found no answer")
    if rtt is not None:
        yield Reason("round trip", _ramp(rtt, 5, 20, 10), f"answers take {rtt:.1f} s")
    if queue is not None:
        yield Reason("queue", _ramp(queue, 240, 1440, 25), f"{queue:.0f} readings wait to be sent")


def _restarts(rows: Sequence[Row]) -> Iterator[Reason]:
    """Each start of the last day but the first takes five points off, up to 25."""
    ups = [up for _, up in _series(rows, "uptime", rows[-1][0] - _DAY)]
    starts = sum(later < earlier for earlier, later in pairwise(ups))
    yield Reason("restarts", min(25.0, 5.0 * max(0, starts - 1)), f"it started {starts} times within a day")


def _silence(rows: Sequence[Row], now: float, period: float) -> Iterator[Reason]:
    """Telemetry that does not come any more, from three periods on."""
    quiet = now - rows[-1][0]
    yield Reason("silence", _ramp(quiet / period, 3, 24, 55), f"it has told nothing of itself for {quiet / 60:.0f} min")


def _motion(rows: Sequence[Row]) -> Iterator[Reason]:
    """What cannot be of a thing on this planet, and what has been moved since it was put up."""
    for what, low, high, unit in (("accel", 0.5 * _G, 1.5 * _G, "m/s²"), ("magn", 15.0, 100.0, "µT")):
        strength = [math.hypot(*vector) for _, vector in _vectors(rows, what, rows[-1][0] - _RECENT)]
        if strength and not low <= median(strength) <= high:
            said = f"its {_NAMES[what]} shows {median(strength):.1f} {unit} at rest"
            yield Reason(_NAMES[what], 20.0, said)
    yield from _turning(rows)
    yield from _tilt(rows)


_NAMES: Final = {"accel": "accelerometer", "magn": "magnetometer"}


def _turning(rows: Sequence[Row]) -> Iterator[Reason]:
    """A gyroscope that says it turns, while gravity points the same way, has a fault; slow turns are its bias."""
    since = rows[-1][0] - _RECENT
    rates = [math.hypot(*rate) for _, rate in _vectors(rows, "gyro", since)]
    down = [_unit(vector) for _, vector in _vectors(rows, "accel", since)]
    if min(len(rates), len(down)) < _TWICE or median(rates) < _TURNING:
        return
    if all(_angle(down[0], one) < math.radians(5) for one in down):
        yield Reason("gyroscope", 15.0, f"its gyroscope turns by {median(rates):.1f} rad/s while it lies still")


def _tilt(rows: Sequence[Row]) -> Iterator[Reason]:
    """Where gravity points now against where it pointed in the first half of the week."""
    newest = rows[-1][0]
    before = [v for at, v in _vectors(rows, "accel", -math.inf) if at < newest - _DAY]
    now = [v for _, v in _vectors(rows, "accel", newest - _RECENT)]
    if len(before) < _LEAST or not now:
        return
    turned = math.degrees(_angle(_middle(before), _middle(now)))
    yield Reason("position", _ramp(turned, 15, 45, 25), f"it was tilted by {turned:.0f}° since the day before")


# arithmetic


def _ramp(value: float, none: float, all_of_it: float, points: float) -> float:
    """Return no points up to one value, all of them from another on, and a share in between."""
    return points * min(1.0, max(0.0, (value - none) / (all_of_it - none)))


def _series(rows: Sequence[Row], name: str, since: float) -> list[tuple[float, float]]:
    return [(at, values[name]) for at, values in rows if at >= since and name in values]


def _recent(rows: Sequence[Row], name: str, since: float) -> float | None:
    values = [value for _, value in _series(rows, name, since)]
    return median(values) if values else None


def _paces(series: Sequence[tuple[float, float]]) -> list[float]:
    """Change a day between any two of at most `_PAIRS` points that are half a day or more apart."""
    step = max(1, len(series) // _PAIRS)
    points = series[::-step][::-1]
    return [
        (later[1] - earlier[1]) / (later[0] - earlier[0]) * _DAY
        for place, earlier in enumerate(points)
        for later in points[place + 1 :]
        if later[0] - earlier[0] >= _DAY / 2
    ]


def _growth(rows: Sequence[Row], name: str) -> float | None:
    """How fast a share grows a day, if that is sure: nine of ten paces are upwards."""
    series = _series(rows, name, -math.inf)
    if len(series) < _LEAST or series[-1][0] - series[0][0] < 2 * _DAY:
        return None
    paces = _paces(series)
    return median(paces) if quantiles(paces, n=10)[0] > 0 else None


def _days(left: float, pace: float) -> float:
    return left / pace if pace > 0 else math.inf


Vector = tuple[float, float, float]


def _vectors(rows: Sequence[Row], name: str, since: float) -> list[tuple[float, Vector]]:
    axes = [f"{name}_{axis}" for axis in "xyz"]
    return [
        (at, (values[axes[0]], values[axes[1]], values[axes[2]]))
        for at, values in rows
        if at >= since and all(axis in values for axis in axes)
    ]


def _unit(vector: Vector) -> Vector:
    length = math.hypot(*vector) or 1.0
    return vector[0] / length, vector[1] / length, vector[2] / length


def _middle(vectors: Sequence[Vector]) -> Vector:
    x, y, z = (median(axis) for axis in zip(*vectors, strict=True))
    return _unit((x, y, z))


def _angle(one: Vector, other: Vector) -> float:
    """Between two unit vectors, in radians."""
    return math.acos(min(1.0, max(-1.0, sum(a * b for a, b in zip(one, other, strict=True)))))
