"""A tidy sensor file that a person brings: which column is what is guessed, said, and can be told otherwise.

Understood are one row a reading (device, time, a column a channel) and one row a value (device, time, name, value).
Times may be timestamps, Unix seconds, milliseconds or microseconds, a date beside a time of day, or year, month, day
and hour; those that name no zone are taken as UTC. Decimal commas and placeholders such as -999 are seen to.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from quietfleet.errors import MonitorError
from quietfleet.monitor.drift import Array
from quietfleet.monitor.integrity import Row

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

_READERS: Final = {
    ".parquet": "read_parquet(?)",
    ".csv": "read_csv(?, sample_size = -1)",
    ".tsv": "read_csv(?, sample_size = -1)",
    ".txt": "read_csv(?, sample_size = -1)",
    ".gz": "read_csv(?, sample_size = -1)",
}
_TIMES: Final = ("time", "timestamp", "datetime", "date_time", "time_hour", "ts", "date", "when", "epoch", "created_at")
_DEVICES: Final = (
    "device", "device_id", "deviceid", "dev", "device_name", "sensor", "sensor_id", "sensorid", "station", "station_id",
    "node", "node_id", "mote", "moteid", "machine", "machine_id", "unit", "location", "site", "origin", "room", "probe",
    "logger", "meter", "asset", "tag", "mac", "host", "gerät", "geraet", "id", "name",
)  # fmt: skip
_CHANNELS: Final = (
    "channel", "parameter", "variable", "metric", "measurement", "quantity", "field", "sensor_type", "type",
)  # fmt: skip
_VALUES: Final = ("value", "reading", "val", "measured", "result")
_PARTS: Final = ("year", "month", "day", "hour", "minute", "second")
_PLACES: Final = ("lat", "latitude", "lon", "lng", "longitude", "altitude", "elevation", "index", "row", "unnamed")
_PLACEHOLDERS: Final = (-9999.0, -999.0, -200.0, -99.0, 9999.0, 99999.0, -99999.0)
_SPELLINGS: Final = (
    *(f"{date}{gap}{time}" for date in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d", "%m/%d/%y")
      for gap, time in ((" ", "%H:%M:%S"), (" ", "%H:%M"), (" ", "%H.%M.%S"), ("", ""))),
    "%H.%M.%S", "%H:%M:%S", "%H:%M",
)  # fmt: skip
"""Of dates and times of day that DuckDB takes for text."""
_LOOKED_AT: Final = 200
_WHOLE: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINY", "USMALL", "UINT", "UBIG")
_NUMBERS: Final = (*_WHOLE, "FLOAT", "DOUBLE", "DECIMAL")
_SCALES: Final = ((1e14, 1e6), (1e11, 1e3))  # Unix microseconds, milliseconds
_LAST: Final = 1e10
_EPOCH: Final = (3e8, 4e9)  # Unix seconds a sensor's clock may show: 1979 to 2096
_MOST_DEVICES: Final = 100_000
_MOSTLY: Final = 0.95
_SLOWER: Final = 0.9
_BEYOND: Final = 3.4e38
_COUNTED: Final = 12  # values that never fall, before that is no accident
_COMMA: Final = re.compile(r"^\s*-?\d+(,\d+)?\s*$")


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a file holds: readings by device, in order of time, and how its columns were understood.

    `time` and `device` name columns (empty: there is none, and all is one device), `channels` are columns or, where a
    row is a value, names in the column `names`. `left_out` says which columns were not taken, and why. `notes` are
    whatever else was assumed. `refused` counts rows by reason.
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

    @property
    def rows(self) -> int:
        """How many readings there are."""
        return sum(map(len, self.readings.values()))


def read_sheet(path: Path, *, time: str = "", device: str = "", channels: Sequence[str] = ()) -> Sheet:
    """Read a CSV or Parquet file; what is named is believed, the rest guessed. `MonitorError` says what is missing."""
    table = _Table(_columns(path))
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
    who = table.text(device) if device else None
    labels = table.text(names) if names else None
    readings = _grouped(who, seconds, columns, labels, refused)
    if not readings:
        raise MonitorError("no row has a time and a value")
    found = dict.fromkeys(name for rows in readings.values() for _, values in rows for name in values)
    return Sheet(
        readings, clock, device, tuple(found), names, left_out, tuple(notes), dict(refused), _period(readings)
    )  # fmt: skip


class _Table:
    """Columns as they came."""

    def __init__(self, columns: Mapping[str, tuple[str, Sequence[Any]]]) -> None:
        self.columns = columns
        self.length = len(next(iter(columns.values()))[1]) if columns else 0
        if not self.length:
            raise MonitorError("the file holds no rows")

    def distinct(self) -> int:
        """How many rows there are, each counted once."""
        return len(set(zip(*(values for _, values in self.columns.values()), strict=True)))

    def kind(self, name: str) -> str:
        return self.columns[name][0]

    def is_number(self, name: str) -> bool:
        return self.kind(name).startswith(_NUMBERS)

    def numbers(self, name: str) -> Array:
        """A column as numbers, NaN where there is none; decimal commas are read."""
        values = self.columns[name][1]
        if self.kind(name).startswith("VARCHAR"):
            return np.array([_number(value) for value in values], dtype=np.float64)
        return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)

    def is_numeric_text(self, name: str) -> bool:
        known = [value for value in self.columns[name][1] if value is not None and value.strip()]
        numbers = sum(_COMMA.match(value) is not None or _is_number(value) for value in known[:1000])
        return bool(known) and numbers >= _MOSTLY * min(len(known), 1000)

    def is_empty(self, name: str) -> bool:
        """Whether there is nothing in a column."""
        return all(value is None or (isinstance(value, str) and not value.strip()) for value in self.columns[name][1])

    def text(self, name: str) -> list[str]:
        return ["" if value is None else str(value) for value in self.columns[name][1]]

    def named(self, names: Iterable[str]) -> list[str]:
        """Columns with one of these names, the first first, whatever their case."""
        folded = {name.strip().lower().replace(" ", "_"): name for name in self.columns}
        return [folded[name] for name in names if name in folded]


def _columns(path: Path) -> dict[str, tuple[str, Sequence[Any]]]:
    import duckdb  # noqa: PLC0415 - sensors and processors do without

    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise MonitorError(f"{path.name} is neither .csv nor .parquet")
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET threads = 1; SET TimeZone = 'UTC'")
        try:
            relation = _opened(connection, path, reader)
            kinds = list(zip(relation.columns, map(str, relation.types), strict=True))
            chosen = [_asked(name, kind) for name, kind in kinds]
            rows = relation.project(", ".join(chosen)).fetchall()
        except duckdb.Error as error:
            raise MonitorError(f"{path.name}: {str(error).splitlines()[0]}") from error
    lines = list(zip(*rows, strict=True)) if rows else [()] * len(kinds)
    return {name: _moments(kind, line) for (name, kind), line in zip(kinds, lines, strict=True)}


def _opened(connection: DuckDBPyConnection, path: Path, reader: str) -> DuckDBPyRelation:
    """Open a file; text that is no UTF-8 is taken for Latin-1, and one column with gaps in its name for several."""
    import duckdb  # noqa: PLC0415 - as above

    asked = f"SELECT * FROM {reader}"  # noqa: S608 - one of ours
    latin = asked.replace("sample_size", "encoding = 'latin-1', sample_size")
    try:
        relation = connection.sql(asked, params=[str(path)])
    except duckdb.InvalidInputException:
        if latin == asked or b"\0" in path.read_bytes()[:4096]:
            raise
        relation = connection.sql(latin, params=[str(path)])
    if len(relation.columns) == 1 and " " in relation.columns[0]:
        relation = connection.sql("SELECT * FROM read_csv(?, sample_size = -1, delim = ' ')", params=[str(path)])
    return relation


def _moments(kind: str, line: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Read text that is dates or times of day in some other spelling; anything else stays what it is."""
    if kind != "VARCHAR" or not any(line):
        return kind, line
    known = [text for text in line if text]
    for form in _SPELLINGS:
        read = [_parsed(text, form) for text in known[:_LOOKED_AT]]
        if None in read or ("%d/%m" in form and not _first_day(known)):
            continue
        kind = "TIME" if "%Y" not in form and "%y" not in form else "TIMESTAMP" if "%H" in form else "DATE"
        return kind, [_parsed(text, form) if text else None for text in line]
    return kind, line


def _first_day(known: Sequence[str]) -> bool:
    """Whether days stand before months: no second number is over 12, and dates in that order go less back and forth."""
    numbers = [[int(part) for part in re.findall(r"\d+", text)[:3]] for text in known]
    if any(one[1] > 12 for one in numbers if len(one) > 1):  # noqa: PLR2004 - months
        return False
    if any(one[0] > 12 for one in numbers if one):  # noqa: PLR2004
        return True
    orders = ([(one[2], one[1], one[0]) for one in numbers], [(one[2], one[0], one[1]) for one in numbers])
    day_first, month_first = (sum(a > b for a, b in pairwise(order)) for order in orders)
    return day_first < month_first


def _parsed(text: str, form: str) -> float | None:
    try:
        moment = datetime.strptime(text.strip(), form).replace(tzinfo=UTC)
    except ValueError:
        return None
    if "%Y" not in form and "%y" not in form:
        return 3600.0 * moment.hour + 60.0 * moment.minute + moment.second
    return moment.timestamp()


def _asked(name: str, kind: str) -> str:
    column = '"' + name.replace('"', '""') + '"'
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return f"epoch({column}::TIMESTAMP)" if kind != "TIMESTAMP WITH TIME ZONE" else f"epoch({column})"
    if kind == "TIME":
        return f"epoch({column})"
    if kind.startswith("DECIMAL"):
        return f"{column}::DOUBLE"
    return f"{column}::VARCHAR" if kind == "BOOLEAN" else column


# time


def _time(table: _Table, name: str, notes: list[str]) -> tuple[str, Array]:
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


def _clock(table: _Table) -> str:
    stamps = [name for name in table.columns if table.kind(name).startswith("TIMESTAMP") or table.kind(name) == "DATE"]
    shown = [name for name in table.columns if table.is_number(name) and _shows_time(table, name)]
    named = [name for name in table.named(_TIMES) if name in stamps or name in shown]
    return next(iter([*(name for name in named if table.kind(name) != "DATE"), *stamps, *named, *shown]), "")


def _shows_time(table: _Table, name: str) -> bool:
    values = _in_seconds(table.numbers(name))
    known = values[np.isfinite(values)]
    return bool(known.size) and bool(((known > _EPOCH[0]) & (known < _EPOCH[1])).all()) and np.unique(known).size > 1


def _seconds(table: _Table, clock: str, notes: list[str]) -> Array:
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


def _from_parts(table: _Table, parts: Sequence[str], notes: list[str]) -> Array:
    year, month, day = (table.numbers(part) for part in parts[:3])
    months = (year - 1970) * 12 + month - 1
    known = np.isfinite(months) & np.isfinite(day)
    first = np.where(known, months, 0).astype("datetime64[M]").astype("datetime64[s]").astype(np.float64)
    seconds = first + 86_400.0 * (day - 1)
    for part, size in zip(parts[3:], (3600.0, 60.0, 1.0), strict=False):
        seconds = seconds + size * table.numbers(part)
    notes.append(f"{', '.join(parts)} together are the time, taken as UTC")
    return np.where(known, seconds, np.nan)


def _clock_parts(table: _Table, clock: str) -> list[str]:
    """Columns that only say again what the time is."""
    parts = [*table.named(_PARTS), *table.named(("weekday", "dayofweek", "hr"))]
    moments = [name for name in table.columns if table.kind(name).startswith(("TIME", "DATE"))]
    return [name for name in (*parts, *moments) if name != clock]


# devices and channels


def _long(table: _Table) -> tuple[str, str]:
    """Return the columns of names and values where each row is one value."""
    names = [name for name in table.named(_CHANNELS) if table.kind(name).startswith("VARCHAR")]
    values = [name for name in table.named(_VALUES) if table.is_number(name)]
    return (names[0], values[0]) if names and values else ("", "")


def _device(table: _Table, seconds: Array, taken: set[str], names: str) -> str:
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
    for name in (*known, *others):
        if len(set(zip(table.text(name), seconds.tolist(), beside, strict=True))) >= _MOSTLY * rows:
            return name
    return known[0] if known else ""


def _few(table: _Table, name: str) -> bool:
    kind = table.kind(name)
    if not kind.startswith(("VARCHAR", *_WHOLE)):
        return False
    return len(set(table.columns[name][1])) <= min(_MOST_DEVICES, max(1, table.length // 2))


def _numbers(
    table: _Table, channels: Sequence[str], taken: set[str], left_out: dict[str, str], notes: list[str]
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


def _unfit(table: _Table, name: str) -> str:
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
        if hit.sum() < 3 or not rest.size:  # noqa: PLR2004 - once or twice is no habit
            continue
        low, high = np.quantile(rest, (0.01, 0.99))
        if not low - (high - low) <= placeholder <= high + (high - low):
            notes.append(f"{name}: {int(hit.sum())} times {placeholder:g} are taken as not measured")
            values = np.where(hit, np.nan, values)
    return values


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _number(value: str | None) -> float:
    try:
        return float(value.replace(",", ".")) if value else float("nan")
    except ValueError:
        return float("nan")


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
            refused["without a value"] += 1
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
