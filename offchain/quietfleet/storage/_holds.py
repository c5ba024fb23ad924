"""Legal holds: readings that must stay whatever their age and whoever asks, until somebody lifts the hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from quietfleet.errors import StorageError
from quietfleet.storage._database import Database

_SCHEMA: Final = (
    """
    CREATE TABLE lake_hold (
        name TEXT PRIMARY KEY, device TEXT, since REAL, until REAL, who TEXT NOT NULL, why TEXT NOT NULL,
        at REAL NOT NULL
    ) STRICT
    """,
)


@dataclass(frozen=True, slots=True)
class Hold:
    """What must stay: one device's readings or everybody's (None), those with `since <= time < until`."""

    name: str
    device: str | None
    since: float
    until: float
    who: str
    why: str
    at: float

    def __post_init__(self) -> None:
        if not self.name or not self.why.strip() or not self.since < self.until:
            raise StorageError("a hold needs a name, a reason, and a beginning before its end")

    def covers(self, device: str, time: float) -> bool:
        return self.device in {None, device} and self.since <= time < self.until

    def touches(self, devices: Sequence[str], oldest: float, newest: float) -> bool:
        """Whether it may cover any reading of these devices from `oldest` to `newest`."""
        return (self.device is None or self.device in devices) and self.since <= newest and oldest < self.until

    def told(self) -> dict[str, Any]:
        """As JSON has it: an open end is null."""
        since, until = (time if math.isfinite(time) else None for time in (self.since, self.until))
        return {
            "name": self.name, "device": self.device, "since": since, "until": until,
            "who": self.who, "why": self.why, "at": self.at,
        }  # fmt: skip


class Holds:
    """The holds in force."""

    def __init__(self, database: Database, *, create: bool = True) -> None:
        self._database = database
        if create:
            database.migrate("lake-holds", _SCHEMA)

    def all(self) -> list[Hold]:
        rows = self._database.execute("SELECT name, device, since, until, who, why, at FROM lake_hold ORDER BY name")
        return [_hold(*row) for row in rows.fetchall()]

    def place(self, hold: Hold) -> None:
        """Put a hold in force; `StorageError` when its name is taken."""
        since, until = (time if math.isfinite(time) else None for time in (hold.since, hold.until))
        row = (hold.name, hold.device, since, until, hold.who, hold.why, hold.at)
        if not self._database.execute("INSERT OR IGNORE INTO lake_hold VALUES (?,?,?,?,?,?,?)", row).rowcount:
            raise StorageError(f"there is a hold named {hold.name!r} already: release it first or take another name")

    def release(self, name: str) -> Hold:
        """Lift a hold; `StorageError` when there is none of that name."""
        found = next((hold for hold in self.all() if hold.name == name), None)
        if found is None:
            raise StorageError(f"there is no hold named {name!r}")
        self._database.execute("DELETE FROM lake_hold WHERE name = ?", (name,))
        return found


def _hold(
    name: str, device: str | None, since: float | None, until: float | None, who: str, why: str, at: float
) -> Hold:
    since, until = (-math.inf if since is None else since), (math.inf if until is None else until)
    return Hold(name, device, since, until, who, why, at)
