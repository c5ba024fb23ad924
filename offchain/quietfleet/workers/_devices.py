"""The sensors a processor works with, under which names they go up, and which of them are set aside."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quietfleet.storage import Database

_SCHEMA = [
    "CREATE TABLE devices (id TEXT PRIMARY KEY, deal TEXT NOT NULL, uploaded REAL NOT NULL, quarantined TEXT) STRICT",
    "CREATE TABLE recalibrated (id TEXT PRIMARY KEY, at REAL NOT NULL) STRICT",
]


class Devices:
    """Those in session with us; `veil` is the key of their pseudonyms (the first veil: nothing that goes up names one).

    Every change is part of the caller's transaction.
    """

    def __init__(self, database: Database, veil: bytes) -> None:
        self._database = database
        self._veil = veil
        database.migrate("processor", _SCHEMA)

    def __contains__(self, device: str) -> bool:
        return self._database.execute("SELECT 1 FROM devices WHERE id = ?", (device,)).fetchone() is not None

    def all(self) -> list[str]:
        """Everybody, in a fixed order."""
        return [row[0] for row in self._database.execute("SELECT id FROM devices ORDER BY id").fetchall()]

    def sound(self) -> list[tuple[str, float]]:
        """Those that are not set aside, each with the time up to which its readings have gone up."""
        rows = self._database.execute("SELECT id, uploaded FROM devices WHERE quarantined IS NULL ORDER BY id")
        return [(device, since) for device, since in rows.fetchall()]

    def quarantined(self) -> dict[str, str | None]:
        """Everybody, each with the reason it is set aside for, if it is."""
        return dict(self._database.execute("SELECT id, quarantined FROM devices").fetchall())

    def opened(self, device: str, deal: str) -> str | None:
        """Note a session; return the deal it takes the place of, if it does."""
        before = self._database.execute("SELECT deal FROM devices WHERE id = ?", (device,)).fetchone()
        row = (device, deal, deal)
        self._database.execute(
            "INSERT INTO devices VALUES (?, ?, 0, NULL) ON CONFLICT (id) DO UPDATE SET deal = ?", row
        )
        return before[0] if before is not None and before[0] != deal else None

    def closed(self, device: str, deal: str) -> None:
        self._database.execute("DELETE FROM devices WHERE id = ? AND deal = ?", (device, deal))

    def set_aside(self, device: str, reason: str | None) -> None:
        """Set a device aside for a reason, or no longer."""
        self._database.execute("UPDATE devices SET quarantined = ? WHERE id = ?", (reason, device))

    def recalibrated(self, device: str, at: float) -> None:
        """Note that a device reads otherwise after this moment of data time: nothing before it says how it does."""
        self._database.execute("INSERT OR REPLACE INTO recalibrated VALUES (?, ?)", (device, at))

    def judged_after(self, device: str) -> float:
        """The moment of data time after which a device's readings are judged; 0 if it was never recalibrated."""
        row = self._database.execute("SELECT at FROM recalibrated WHERE id = ?", (device,)).fetchone()
        return float(row[0]) if row else 0.0

    def forget(self, kept: Iterable[str]) -> None:
        """Forget when all but these devices were recalibrated."""
        names = json.dumps(list(kept))
        self._database.execute("DELETE FROM recalibrated WHERE id NOT IN (SELECT value FROM json_each(?))", (names,))

    def uploaded(self, device: str, until: float) -> None:
        """Note up to which time a device's readings have gone up, or need not."""
        self._database.execute("UPDATE devices SET uploaded = ? WHERE id = ?", (until, device))

    def pseudonym(self, device: str) -> str:
        """What a device is called above us: 24 hexadecimal digits."""
        return hmac.digest(self._veil, device.encode(), "sha256")[:12].hex()

    def called(self, pseudonym: str) -> str | None:
        """The device of that name, if it is in session with us."""
        return next((device for device in self.all() if self.pseudonym(device) == pseudonym), None)
