"""A tidy sensor file that a person brings: which column is what is guessed, said, and can be told otherwise.

Understood are one row a reading (device, time, a column a channel), one row a value (device, time, name, value), and
devices side by side. Times may be timestamps, Unix seconds to nanoseconds, a date beside a time of day, or year, month,
day and hour; those that name no zone are taken as UTC. Placeholders such as -999 are seen to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from quietfleet.errors import MonitorError
from quietfleet.monitor._devices import each_its_own, entities, side_by_side
from quietfleet.monitor._table import WHOLE, Table, read_table
from quietfleet.monitor.drift import Array
from quietfleet.monitor.integrity import Row

_TIMES: Final = ("time", "timestamp", "datetime", "date_time", "time_hour", "ts", "date", "when", "epoch", "created_at")
_DEVICES: Final = (
    "device", "device_id", "deviceid", "dev", "device_name", "sensor", "sensor_id", "sensorid", "station", "station_id",
    "node", "node_id", "mote", "moteid", "machine", "machine_id", "unit", "location", "site", "origin", "room", "probe",
    "logger", "meter", "asset", "tag", "mac", "host", "gerät", "geraet", "id", "name",
)  # fmt: skip
_CHANNELS: Final = (
    "channel", "parameter", "variable", "metric", "field", "measurement", "quantity", "sensor_type", "type",
)  # fmt: skip
_VALUES: Final = ("value", "reading", "val", "measured", "result")
_PARTS: Final = ("year", "month", "day", "hour", "minute", "second")
_PLACES: Final = ("lat", "latitude", "lon", "lng", "longitude", "altitude", "elevation", "index", "row", "unnamed")
_PLACEHOLDERS: Final = (
    -99_999.0, -9999.9, -9999.0, -999.9, -999.0, -200.0, -127.0, -99.0, 9999.0, 32_767.0, -32_768.0, 65_535.0, 99_999.0,
)  # fmt: skip
_HABIT: Final = 3  # times that a placeholder is one even where it is not far off
_FAR: Final = 10.0  # times the spread of the rest
_SCALES: Final = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # Unix nanoseconds, microseconds, milliseconds
_LAST: Final = 1e10
_EPOCH: Final = (3e8, 4e9)  # Unix seconds a sensor's clock may show: 1979 to 2096
_MOST_DEVICES: Final = 100_000
_MOSTLY: Final = 0.95
_SLOWER: Final = 0.9
_BEYOND: Final = 3.4e38
_VALUELESS: Final = "without a value"
_COUNTED: Final = 12  # values that never fall, before that is no accident


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a file holds: readings by device, in order of time, and how its columns were understood.

    `time` and `device` name columns (empty: there is none, and all is one device, or columns are devices if `wide`),
    `channels` are columns or, where a row is a value, names in the column `names`. `left_out` says which columns were
    not taken, and why. `notes` are whatever else was assumed. `refused` counts rows by reason.
    """

    readings: Mapping[str, Sequence[Row]]
    time: str
    device: str
    channels: tuple[str, ...]
    names: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    refused: Mapping[str, int] = field(default_factory=dict)
    period: float = 3600.0
    wide: bool = False

    @property
    def apart_by(self) -> str:
        """What tells devices apart, in words."""
        return self.device or ("by column" if self.wide else "all one")

    @property
    def rows(self) -> int:
        """How many readings there are."""
        return sum(map(len, self.readings.values()))


def read_sheet(
    path: Path, *, time: str = "", device: str = "", channels: Sequence[str] = (), wide: bool | None = None
) -> Sheet:
    """Read a CSV or Parquet file; what is named is believed, the rest guessed. `MonitorError` says what is missing.

    `wide`: each column is a device, or (False) none is; guessed by their names otherwise.
    """
    table = read_table(path)
    notes: list[str] = []
    clock, seconds = _time(table, time, notes)
    names, value = _long(table) if not channels else ("", "")
    taken = {clock, names, value} | set(_clock_parts(table, clock))
    device = device or _device(table, seconds, taken, names)
    if device and device not in table.columns:
        raise MonitorError(f"there is no column {device}; there are {', '.join(table.columns)}")
    left_out: dict[str, str] = {}
    columns = {names: table.numbers(value)} if names else {}
    columns = columns or _numbers(table, channels, taken | {device}, left_out, notes)
    if not columns:
        why = (
            ", ".join(f"{name} {reason}" for name, reason in left_out.items()) or f"{', '.join(table.columns)} are all"
        )
        raise MonitorError(f"no column holds measurements: {why}")
    refused: Counter[str] = Counter()
    beside = {} if device or names else _beside(columns, wide, notes)
    if beside:
        readings = _apart(seconds, columns, beside, refused)
    else:
        who = table.text(device) if device else None
        labels = table.text(names) if names else None
        if who and not labels and len(columns) == 1 and (told := entities(who)):
            who, labels = [one for one, _ in told], [channel for _, channel in told]
            notes.append(f"{device} names a device and what it measures, as in {table.text(device)[0]}")
        readings = _grouped(who, seconds, columns, labels, refused)
    if not readings:
        raise MonitorError("no row has a time and a value")
    found = dict.fromkeys(name for rows in readings.values() for _, values in rows for name in values)
    return Sheet(
        readings,
        clock,
        device,
        tuple(found),
        names,
        left_out,
        (*table.notes, *notes),
        dict(refused),
        _period(readings),
        bool(beside),
    )


# time


def _time(table: Table, name: str, notes: list[str]) -> tuple[str, Array]:
    """Return which column is the time, and it in Unix seconds."""
    if name and name not in table.columns:
        raise MonitorError(f"there is no column {name}; there are {', '.join(table.columns)}")
    clock = name or _clock(table)
    if clock:
        return clock, _seconds(table, clock, notes)
    parts = table.named(_PARTS)
    if {part.lower() for part in parts} >= {"year", "month", "day"}:
        return parts[0], _from_parts(table, parts, notes)
    raise MonitorError(f"no column holds times: name it (--time); there are {', '.join(table.columns)}")


def _clock(table: Table) -> str:
    stamps = [name for name in table.columns if table.kind(name).startswith("TIMESTAMP") or table.kind(name) == "DATE"]
    shown = [name for name in table.columns if table.is_number(name) and _shows_time(table, name)]
    named = [name for name in table.named(_TIMES) if name in stamps or name in shown]
    return next(iter([*(name for name in named if table.kind(name) != "DATE"), *stamps, *named, *shown]), "")


def _shows_time(table: Table, name: str) -> bool:
    values = _in_seconds(table.numbers(name))
    known = values[np.isfinite(values)]
    return bool(known.size) and bool(((known > _EPOCH[0]) & (known < _EPOCH[1])).all()) and np.unique(known).size > 1


def _seconds(table: Table, clock: str, notes: list[str]) -> Array:
    kind = table.kind(clock)
    if kind.startswith("VARCHAR"):
        raise MonitorError(f"{clock} holds text that is no time, such as {table.text(clock)[0]!r:.40}")
    seconds = _in_seconds(table.numbers(clock))
    if kind.startswith("TIMESTAMP") and kind != "TIMESTAMP WITH TIME ZONE":
        notes.append(f"{clock} names no time zone: taken as UTC")
    if kind == "DATE":
        beside = [name for name in table.columns if table.kind(name) == "TIME"] or [
            name for name in table.named(("hour", "hr")) if table.is_number(name)
        ]
        if beside:
            of_day = table.numbers(beside[0])
            seconds = seconds + (of_day if table.kind(beside[0]) == "TIME" else 3600.0 * of_day)
            notes.append(f"{clock} and {beside[0]} together are the time, taken as UTC")
    return seconds


def _in_seconds(values: Array) -> Array:
    known = np.abs(values[np.isfinite(values)])
    middle = float(np.median(known)) if known.size else 0.0
    scale = next((scale for limit, scale in _SCALES if middle > limit), 1.0)
    return values / scale


def _from_parts(table: Table, parts: Sequence[str], notes: list[str]) -> Array:
    year, month, day = (table.numbers(part) for part in parts[:3])
    months = (year - 1970) * 12 + month - 1
    known = np.isfinite(months) & np.isfinite(day)
    first = np.where(known, months, 0).astype("datetime64[M]").astype("datetime64[s]").astype(np.float64)
    seconds = first + 86_400.0 * (day - 1)
    for part, size in zip(parts[3:], (3600.0, 60.0, 1.0), strict=False):
        seconds = seconds + size * table.numbers(part)
    notes.append(f"{', '.join(parts)} together are the time, taken as UTC")
    return np.where(known, seconds, np.nan)


def _clock_parts(table: Table, clock: str) -> list[str]:
    """Columns that only say again what the time is."""
    parts = [*table.named(_PARTS), *table.named(("weekday", "dayofweek", "hr"))]
    moments = [name for name in table.columns if table.kind(name).startswith(("TIME", "DATE"))]
    return [name for name in (*parts, *moments) if name != clock]


# devices and channels


def _long(table: Table) -> tuple[str, str]:
    """Return the columns of names and values where each row is one value."""
    names = [name for name in table.named(_CHANNELS) if table.kind(name).startswith("VARCHAR")]
    values = [name for name in table.named(_VALUES) if table.is_number(name)]
    return (names[0], values[0]) if names and values else ("", "")


def _device(table: Table, seconds: Array, taken: set[str], names: str) -> str:
    """Return the column that tells apart what was read at the same moment; empty if nothing needs to be told apart."""
    beside = table.text(names) if names else [""] * table.length
    alone = len(set(zip(seconds.tolist(), beside, strict=True)))
    rows = table.distinct()  # one that is there twice tells nothing apart
    known = [name for name in table.named(_DEVICES) if name not in taken and _few(table, name)]
    if alone >= _MOSTLY * rows:
        several = [name for name in known if len(set(table.text(name))) > 1]
        texts = [name for name in known if table.kind(name).startswith("VARCHAR")]
        return next(iter([*several, *texts]), "")
    others = [name for name in table.columns if name not in taken and name not in known and _few(table, name)]
    others.sort(key=lambda name: not table.kind(name).startswith("VARCHAR"))  # a number is rather something measured
    for name in (*known, *others):
        if len(set(zip(table.text(name), seconds.tolist(), beside, strict=True))) >= _MOSTLY * rows:
            return name
    return known[0] if known else ""


def _few(table: Table, name: str) -> bool:
    kind = table.kind(name)
    if not kind.startswith(("VARCHAR", *WHOLE)):
        return False
    return len(set(table.columns[name][1])) <= min(_MOST_DEVICES, max(1, table.length // 2))


def _numbers(
    table: Table, channels: Sequence[str], taken: set[str], left_out: dict[str, str], notes: list[str]
) -> dict[str, Array]:
    missing = [name for name in channels if name not in table.columns]
    if missing:
        raise MonitorError(f"there is no column {missing[0]}; there are {', '.join(table.columns)}")
    found = {}
    for name in channels or table.columns:
        if name in taken:
            continue
        why = "" if channels else _unfit(table, name)
        if why:
            left_out[name] = why
            continue
        found[name] = _cleared(name, table.numbers(name), notes)
    return found


def _unfit(table: Table, name: str) -> str:
    plain = name.strip().lower().replace(" ", "_")
    if table.is_empty(name):
        return "is empty"
    if table.kind(name).startswith("VARCHAR") and not table.is_numeric_text(name):
        return "holds text"
    if not table.is_number(name) and not table.kind(name).startswith("VARCHAR"):
        return f"holds no numbers but {table.kind(name)}"
    values = table.numbers(name)
    known = values[np.isfinite(values)]
    if not known.size:
        return "is empty"
    if plain.startswith(_PLACES):
        return "says where or which, not what was measured"
    return "only ever grows: a counter" if _grows(known) else ""


def _grows(values: Array) -> bool:
    steps = np.diff(values)
    return values.size >= _COUNTED and bool((steps >= 0).all()) and bool((steps > 0).any())


def _cleared(name: str, values: Array, notes: list[str]) -> Array:
    """Take out what stands for "not measured": the same far-off number again and again, or no number of a sensor's."""
    beyond = np.abs(values) > _BEYOND
    if beyond.any():
        notes.append(f"{name}: {int(beyond.sum())} times a number beyond {_BEYOND:g} is taken as not measured")
        values = np.where(beyond, np.nan, values)
    for placeholder in _PLACEHOLDERS:
        hit = values == placeholder
        rest = values[np.isfinite(values) & ~hit]
        if not hit.any() or not rest.size:
            continue
        low, high = np.quantile(rest, (0.01, 0.99))
        beyond = (_FAR if hit.sum() < _HABIT else 1.0) * (high - low)
        if not low - beyond <= placeholder <= high + beyond:
            notes.append(f"{name}: {int(hit.sum())} times {placeholder:g} is taken as not measured")
            values = np.where(hit, np.nan, values)
    return values


def _beside(columns: Mapping[str, Array], wide: bool | None, notes: list[str]) -> dict[str, tuple[str, str]]:
    """Return device and channel of each column, if columns are devices."""
    if wide is False:
        return {}
    if wide:
        return each_its_own(columns)
    found = side_by_side(columns)
    if found:
        first = next(name for name, (device, _) in found.items() if device.isdigit())
        devices = len({device for device, _ in found.values()})
        notes.append(f"columns such as {first} are taken for {devices} devices (--no-wide: for channels of one)")
    return found


def _apart(
    seconds: Array, columns: Mapping[str, Array], beside: Mapping[str, tuple[str, str]], refused: Counter[str]
) -> dict[str, list[Row]]:
    """Readings of devices whose columns stand side by side; a moment at which one has no value is a gap of its own."""
    found: dict[str, list[Row]] = {}
    for device in dict.fromkeys(device for device, _ in beside.values()):
        own = {beside[name][1]: column for name, column in columns.items() if beside[name][0] == device}
        counted: Counter[str] = Counter()
        rows = next(iter(_grouped(None, seconds, own, None, counted).values()), [])
        found |= {device: rows} if rows else {}
        refused |= {why: count for why, count in counted.items() if why != _VALUELESS}
    return found


def _grouped(
    who: Sequence[str] | None,
    seconds: Array,
    columns: Mapping[str, Array],
    labels: Sequence[str] | None,
    refused: Counter[str],
) -> dict[str, list[Row]]:
    found: dict[str, dict[float, dict[str, float]]] = {}
    lists = {name: column.tolist() for name, column in columns.items()}
    for place, moment in enumerate(seconds.tolist()):
        values = {
            (labels[place] if labels else name): column[place]
            for name, column in lists.items()
            if np.isfinite(column[place])
        }
        if not 0.0 < moment < _LAST:
            refused["without a time"] += 1
        elif not values:
            refused[_VALUELESS] += 1
        else:
            rows = found.setdefault(who[place] if who else "device", {})
            if labels is None and moment in rows and rows[moment] != values:
                refused["a second one for its moment"] += 1
            rows[moment] = rows.get(moment, {}) | values
    return {device: sorted(rows.items()) for device, rows in sorted(found.items())}


def _period(readings: Mapping[str, Sequence[Row]]) -> float:
    """The usual time between two readings of the slower devices: the faster ones have one then as well."""
    steps = [np.median(np.diff([at for at, _ in rows])) for rows in readings.values() if len(rows) > 1]
    if not steps:
        raise MonitorError("each device has one reading: there is nothing to watch")
    return float(np.quantile(steps, _SLOWER, method="higher"))
