"""Readings kept for a retention window and then erased for real (paper section V.A.2).

Every day has its own table. Under `secure_delete` dropping a table zeroes whole pages, while deleting single rows
may leave copies in the unused space of a page SQLite once rebalanced; so rows are erased by dropping their table,
after what stays has moved to a new one.
"""
# ruff: noqa: S608 -- table names are made of our own words and day numbers, values are always bound

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from quietfleet.errors import StorageError
from quietfleet.storage._database import Database
from quietfleet.storage._sealed import SealedColumn

_DAY: Final = 86_400
_READ: Final = msgspec.json.Decoder(dict[str, float])
_LAST_TIME: Final = 253_402_300_800.0  # year 10000: later times are broken clocks, not readings


class TimeSeries:
    """Readings per device and time; `sealed` encrypts their values at rest, `name` tells two in a database apart."""

    def __init__(
        self,
        database: Database,
        retention_seconds: float,
        *,
        sealed: SealedColumn | None = None,
        name: Literal["series", "telemetry"] = "series",
    ) -> None:
        self._database = database
        self._retention = retention_seconds
        self._sealed = sealed
        self._name = name
        database.migrate(name, [f"CREATE TABLE {name}_day (day INTEGER PRIMARY KEY) STRICT"])

    def append(self, device: str, time: float, values: Mapping[str, float]) -> bool:
        """Keep a reading; False when this device already has one for this time (the first one stays)."""
        if not 0 <= time < _LAST_TIME:
            raise StorageError(f"no reading can be from {time}")
        body = self._encode(device, time, values)
        with self._database.transaction():
            table = self._open_day(int(time // _DAY))
            cursor = self._database.execute(f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?)", (device, time, body))
        return cursor.rowcount == 1

    def window(self, device: str, since: float, until: float) -> list[tuple[float, dict[str, float]]]:
        """Read a device's readings with `since <= time < until`, oldest first."""
        found: list[tuple[float, dict[str, float]]] = []
        for day in self._days(since, until):
            rows = self._database.execute(
                f"SELECT time, body FROM {self._table(day)} WHERE device = ? AND time >= ? AND time < ? ORDER BY time",
                (device, since, until),
            )
            found += [(time, self._decode(device, time, body)) for time, body in rows]
        return found

    def count(self, device: str, since: float, until: float) -> int:
        """Return how many readings of a device are kept with `since <= time < until`."""
        found = 0
        for day in self._days(since, until):
            sql = f"SELECT count(*) FROM {self._table(day)} WHERE device = ? AND time >= ? AND time < ?"
            found += int(self._database.execute(sql, (device, since, until)).fetchone()[0])
        return found

    def newest(self, device: str) -> float | None:
        """Return the time of a device's newest reading, None when there is none."""
        for day in reversed(self._days(-math.inf, math.inf)):
            sql = f"SELECT max(time) FROM {self._table(day)} WHERE device = ?"
            (found,) = self._database.execute(sql, (device,)).fetchone()
            if found is not None:
                return float(found)
        return None

    def devices(self) -> list[str]:
        """Every device with a reading still kept, sorted."""
        names: set[str] = set()
        for day in self._days(-math.inf, math.inf):
            names.update(name for (name,) in self._database.execute(f"SELECT DISTINCT device FROM {self._table(day)}"))
        return sorted(names)

    def erase(self, now: float) -> int:
        """Erase what is older than the retention, from file and log; return how many readings went.

        Raises `ErasureDelayed` when a reader kept the log from being emptied; calling again finishes the work.
        """
        cutoff = now - self._retention
        with self._database.transaction():
            erased = sum(self._erase_day(day, cutoff) for day in self._days(-math.inf, cutoff))
        self._database.truncate_log()
        return erased

    def forget(self, device: str) -> int:
        """Erase everything of one device, as its owner may ask; return how many readings went."""
        with self._database.transaction():
            erased = sum(self._rewrite(day, "device <> ?", device) for day in self._days(-math.inf, math.inf))
        self._database.truncate_log()
        return erased

    def _open_day(self, day: int) -> str:
        if self._database.execute(f"INSERT OR IGNORE INTO {self._name}_day VALUES (?)", (day,)).rowcount:
            self._create(self._table(day))
        return self._table(day)

    def _days(self, since: float, until: float) -> list[int]:
        rows = self._database.execute(
            f"SELECT day FROM {self._name}_day WHERE day > ? AND day * 86400 < ? ORDER BY day",
            (since / _DAY - 1, until),
        )
        return [int(day) for (day,) in rows]

    def _create(self, table: str) -> None:
        self._database.execute(
            f"CREATE TABLE {table} (device TEXT, time REAL, body BLOB NOT NULL, PRIMARY KEY (device, time))"
            " STRICT, WITHOUT ROWID"
        )

    def _erase_day(self, day: int, cutoff: float) -> int:
        if (day + 1) * _DAY > cutoff:
            return self._rewrite(day, "time >= ?", cutoff)
        count = self._count(f"{self._table(day)}")
        self._database.execute(f"DROP TABLE {self._table(day)}")
        self._database.execute(f"DELETE FROM {self._name}_day WHERE day = ?", (day,))
        return count

    def _rewrite(self, day: int, kept: str, bound: str | float) -> int:
        """Move the rows to keep to a fresh table and drop the old one; return how many rows went."""
        table = self._table(day)
        gone = self._count(f"{table} WHERE NOT ({kept})", bound)
        if gone:
            aside = f"{self._name}_kept"
            self._create(aside)
            self._database.execute(f"INSERT INTO {aside} SELECT * FROM {table} WHERE {kept}", (bound,))
            self._database.execute(f"DROP TABLE {table}")
            self._database.execute(f"ALTER TABLE {aside} RENAME TO {table}")
        return gone

    def _table(self, day: int) -> str:
        return f"{self._name}_{day}"

    def _count(self, rows: str, *bounds: str | float) -> int:
        return int(self._database.execute(f"SELECT count(*) FROM {rows}", bounds).fetchone()[0])

    def _encode(self, device: str, time: float, values: Mapping[str, float]) -> bytes:
        body = json.dumps(dict(values), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        return self._sealed.seal(body, row=_row(device, time)) if self._sealed else body

    def _decode(self, device: str, time: float, body: bytes) -> dict[str, float]:
        plain = self._sealed.open(body, row=_row(device, time)) if self._sealed else body
        return _READ.decode(plain)


def _row(device: str, time: float) -> bytes:
    return f"{device}@{time!r}".encode()
