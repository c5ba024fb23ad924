"""Salts that stand beside readings, one for each device and day, and go when any reading of theirs is erased.

What was hashed under them, such as the rows a model was trained on, can then neither be guessed nor matched.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable
from typing import Final

from quietfleet.crypto import derive
from quietfleet.storage._database import Database
from quietfleet.storage._sealed import SealedColumn

DeviceDay = tuple[str, int]
"""A device, and a day counted from 1970-01-01 (UTC)."""

SALT_BYTES: Final = 32
_SCHEMA: Final = (
    """
    CREATE TABLE lake_salt (
        day INTEGER NOT NULL, mark BLOB NOT NULL, salt BLOB NOT NULL, PRIMARY KEY (day, mark)
    ) STRICT, WITHOUT ROWID
    """,
)


class Salts:
    """Salts by device and day; the table names devices by keyed marks alone."""

    def __init__(self, database: Database, key: bytes, random: Callable[[int], bytes] = os.urandom) -> None:
        self._database = database
        self._random = random
        self._marks = derive(key, "storage", b"lake salt marks")
        self._sealed = SealedColumn(derive(key, "storage", b"lake salts"), "lake_salt.salt", random=random)
        database.migrate("lake salts", _SCHEMA)

    def make(self, wanted: Iterable[DeviceDay]) -> dict[DeviceDay, bytes]:
        """Return the salts of these, those that are not there drawn and kept."""
        found: dict[DeviceDay, bytes] = {}
        with self._database.transaction():
            for one in wanted:
                salt = self._read(one)
                if salt is None:
                    salt, row = self._random(SALT_BYTES), self._row(one)
                    sealed = self._sealed.seal(salt, row=b"%d/%s" % row)
                    self._database.execute("INSERT INTO lake_salt VALUES (?, ?, ?)", (*row, sealed))
                found[one] = salt
        return found

    def read(self, wanted: Iterable[DeviceDay]) -> dict[DeviceDay, bytes]:
        """Return those that are still kept."""
        return {one: salt for one in wanted if (salt := self._read(one)) is not None}

    def drop(self, gone: Iterable[DeviceDay]) -> None:
        """Erase these, in the caller's transaction."""
        self._database.execute_many(
            "DELETE FROM lake_salt WHERE day = ? AND mark = ?", [self._row(one) for one in gone]
        )

    def _read(self, one: DeviceDay) -> bytes | None:
        day, mark = self._row(one)
        row = self._database.execute("SELECT salt FROM lake_salt WHERE day = ? AND mark = ?", (day, mark)).fetchone()
        return self._sealed.open(row[0], row=b"%d/%s" % (day, mark)) if row else None

    def _row(self, one: DeviceDay) -> tuple[int, bytes]:
        device, day = one
        return day, hmac.digest(self._marks, device.encode(), "sha256")[:16]
