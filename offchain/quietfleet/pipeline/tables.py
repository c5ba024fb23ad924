"""Readings out of Parquet and CSV files, by DuckDB: named columns, times made UTC, in whatever order they stand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zoneinfo import available_timezones

import duckdb

from quietfleet.errors import DataRejected
from quietfleet.pipeline.ingest import Reading
from quietfleet.pipeline.project import Project

_READERS: Final = {".parquet": "read_parquet", ".csv": "read_csv", ".gz": "read_csv"}
_NUMBERS: Final = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)
_REALS: Final = ("FLOAT", "DOUBLE", "DECIMAL")
_LATEST: Final = 1e11  # Unix seconds beyond this are milliseconds


def read_table(
    path: Path, project: Project, *, columns: Mapping[str, str] | None = None, timezone: str | None = None
) -> list[Reading]:
    """Read a file's `device`, `time` and the schema's channels; `columns` says what they are called there.

    Times are Unix seconds, or timestamps with an offset, or without one and then in `timezone` (such as
    Europe/Paris). An absent device column means one device. `DataRejected` says what does not fit.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataRejected(f"{path.name} is neither .parquet nor .csv")
    if timezone is not None and timezone not in available_timezones():
        raise DataRejected(f"{timezone} is no time zone: write it as Europe/Paris, or UTC")
    called = {name: name for name in ("device", "time", *project.schema)} | dict(columns or {})
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET threads = 1")
        try:
            relation = connection.sql(f"SELECT * FROM {reader}(?)", params=[str(path)])  # noqa: S608 - one of ours
            kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
            chosen = _selection(kinds, called, project, timezone)
            rows = relation.project(", ".join(chosen)).fetchall()
        except duckdb.Error as error:
            raise DataRejected(f"{path.name}: {str(error).splitlines()[0]}") from error
    return [_reading(row, tuple(project.schema), path) for row in rows]


def _selection(
    kinds: Mapping[str, str], called: Mapping[str, str], project: Project, timezone: str | None
) -> list[str]:
    missing = [name for name, channel in project.schema.items() if channel.required and called[name] not in kinds]
    if called["time"] not in kinds or missing:
        absent = "time" if called["time"] not in kinds else missing[0]
        raise DataRejected(f"there is no column {called[absent]}; there are {', '.join(kinds)}: map it to {absent}")
    device = f"CAST({_quoted(called['device'])} AS VARCHAR)" if called["device"] in kinds else "''"
    time = _time(called["time"], kinds[called["time"]], timezone)
    return [device, time, *(_value(name, called[name], kinds) for name in project.schema)]


def _time(column: str, kind: str, timezone: str | None) -> str:
    if kind.startswith((*_NUMBERS, *_REALS)):
        return f"CAST({_quoted(column)} AS DOUBLE)"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"epoch({_quoted(column)})"
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        if timezone is None:
            raise DataRejected(f"the times in {column} say no time zone: name it (--timezone Europe/Paris, or UTC)")
        return f"epoch(timezone('{timezone}', CAST({_quoted(column)} AS TIMESTAMP)))"
    raise DataRejected(f"{column} holds no times but {kind}")


def _value(name: str, column: str, kinds: Mapping[str, str]) -> str:
    if column not in kinds:
        return "NULL"
    if not kinds[column].startswith((*_NUMBERS, *_REALS)):
        raise DataRejected(f"{column}, read as {name}, holds no numbers but {kinds[column]}")
    return f"CAST({_quoted(column)} AS DOUBLE)"


def _reading(row: tuple[object, ...], names: tuple[str, ...], path: Path) -> Reading:
    device, time, *values = row
    moment = float(time) if isinstance(time, int | float) else -1.0  # no time at all: counted as a broken clock's
    if moment > _LATEST:
        raise DataRejected(f"{path.name}: {moment:.0f} is no time in seconds; are these milliseconds?")
    return (
        str(device) if device is not None else "",
        moment,
        {name: value for name, value in zip(names, values, strict=True) if isinstance(value, float)},
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
