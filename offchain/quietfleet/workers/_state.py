"""Small facts a worker must not forget: a table of JSON values by name."""

from __future__ import annotations

import json
from typing import Any

from quietfleet.storage import Database


class State:
    """Named values, written in the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("state", ["CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT"])

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, or the default."""
        row = self._database.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else default

    def starting(self, prefix: str) -> dict[str, Any]:
        """Return every value whose name starts so, by name."""
        rows = self._database.execute("SELECT name, value FROM state WHERE name GLOB ? ORDER BY name", (prefix + "*",))
        return {name: json.loads(value) for name, value in rows.fetchall()}

    def set(self, name: str, value: Any) -> None:
        """Keep a value; None forgets it."""
        if value is None:
            self._database.execute("DELETE FROM state WHERE name = ?", (name,))
        else:
            self._database.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, json.dumps(value)))
