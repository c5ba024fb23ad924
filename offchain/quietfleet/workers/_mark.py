"""How far the keys of sessions were spent, noted beside the database: so a database that was set back is found out.

SQLite opens a log with a damaged end at the last commit before the damage, and says nothing; somebody may put an old
copy back. Sessions would then go on from keys that were used before. Therefore every change of a session counts, in
the very transaction that makes it, and before an envelope leaves, the count is in a file of its own, on disk. A
database that has counted less than its file says is older than what was said: no key of it is used again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from quietfleet.storage import Database

_DIGITS: Final = 20
_SCHEMA: Final = (
    "CREATE TABLE mark (spent INTEGER NOT NULL) STRICT; INSERT INTO mark VALUES (0);"
    "CREATE TRIGGER mark_spent AFTER INSERT ON session_sessions BEGIN UPDATE mark SET spent = spent + 1; END;"
)


class Mark:
    """The count and its file; make it once the sessions' table is there."""

    def __init__(self, path: Path, database: Database) -> None:
        self._path = path
        self._database = database
        self._file = -1
        database.migrate("mark", [_SCHEMA])
        if self._spent() == 0 and not path.exists():
            self._write(0)
        self._noted = self._read()

    @property
    def behind(self) -> bool:
        """Whether the database is older than its mark; also if that is gone or cannot be read."""
        return self._noted is None or self._spent() < self._noted

    def catch_up(self) -> None:
        """Let what no session stands on any more be the past, in the caller's transaction."""
        self._database.execute("UPDATE mark SET spent = max(spent, ?) + 1", (self._noted or 0,))
        self._noted = 0

    def note(self) -> None:
        """Have what was spent so far on disk, before anything leaves; raises `OSError`."""
        spent = self._spent()
        if spent != self._noted:
            self._write(spent)
            self._noted = spent

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _spent(self) -> int:
        return int(self._database.execute("SELECT spent FROM mark").fetchone()[0])

    def _read(self) -> int | None:
        try:
            return int(self._path.read_bytes())
        except (OSError, ValueError):
            return None

    def _write(self, spent: int) -> None:
        """Overwrite it in place, in one piece: all marks are of one length."""
        if self._file < 0:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.ftruncate(self._file, _DIGITS)
        os.pwrite(self._file, b"%0*d" % (_DIGITS, spent), 0)
        os.fdatasync(self._file)
