"""The port that sealed rows go through: tables of bytes by binary id, changed in transactions.

A worker's own database is one; a store that replicas share is another (`_shared.py`, `_redis.py`). Whoever writes seals
first, so that an implementation never sees what a row says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from quietfleet.storage._database import Database

_LONGEST_ID = 64  # bytes; no id is longer


class RowTable(Protocol):
    """One table; ids come in the order of their bytes."""

    def put(self, row_id: bytes, row: bytes) -> None:
        """Store or replace a row."""
        ...

    def put_many(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Store or replace rows by id, all of them or none."""
        ...

    def get(self, row_id: bytes) -> bytes | None:
        """Return one row, or None."""
        ...

    def delete(self, row_id: bytes) -> None:
        """Erase a row, if it is there."""
        ...

    def delete_many(self, row_ids: Iterable[bytes]) -> None:
        """Erase those of these rows that are there, all of them or none."""
        ...

    def delete_all(self, *prefixes: bytes) -> None:
        """Erase the rows whose ids begin with one of these, all of them or none."""
        ...

    def ids(self, prefix: bytes = b"") -> list[bytes]:
        """Return the ids that begin so, in order."""
        ...

    def all(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the rows whose ids begin so, in order."""
        ...


class Rows(Protocol):
    """Tables, and transactions over them: a nested one undoes only itself."""

    def transaction(self) -> AbstractContextManager[object]:
        """Make everything inside happen or not happen."""
        ...

    def table(self, name: str, *, contended: bool = False) -> RowTable:
        """Open a table; of a `contended` one several writers may change the same row.

        A transaction that has read a contended table commits only if nobody else changed it meanwhile.
        """
        ...


class Guard(NamedTuple):
    """A row that must be as it was when this was noted; `row` is None where there must be none."""

    table: str
    row_id: bytes
    row: bytes | None


class Store(Rows, Protocol):
    """Rows that are not this process's alone."""

    guard: Guard | None

    def snapshot(self, names: Sequence[str]) -> dict[str, dict[bytes, bytes]]:
        """Return all rows of some tables, as of one moment."""
        ...

    def truncate_log(self) -> None:
        """Empty the log in which erased rows may still stand; ErasureDelayed while somebody else is in the way."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class SqliteTable:
    """A table of a worker's own database, or of one that processes of one machine share."""

    def __init__(self, database: Database, name: str) -> None:
        self._db = database
        self._name = name
        database.migrate(name, [f"CREATE TABLE {name} (id BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID"])

    def put(self, row_id: bytes, row: bytes) -> None:
        self._db.execute(f"INSERT OR REPLACE INTO {self._name} VALUES (?, ?)", (row_id, row))  # noqa: S608 - our own table name

    def put_many(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self._db.execute_many(f"INSERT OR REPLACE INTO {self._name} VALUES (?, ?)", rows)  # noqa: S608

    def get(self, row_id: bytes) -> bytes | None:
        found = self._db.execute(f"SELECT row FROM {self._name} WHERE id = ?", (row_id,)).fetchone()  # noqa: S608
        return found[0] if found else None

    def delete(self, row_id: bytes) -> None:
        self._db.execute(f"DELETE FROM {self._name} WHERE id = ?", (row_id,))  # noqa: S608

    def delete_many(self, row_ids: Iterable[bytes]) -> None:
        self._db.execute_many(f"DELETE FROM {self._name} WHERE id = ?", ((row_id,) for row_id in row_ids))  # noqa: S608

    def delete_all(self, *prefixes: bytes) -> None:
        self._db.execute_many(f"DELETE FROM {self._name} WHERE id >= ? AND id < ?", map(_range, prefixes))  # noqa: S608

    def ids(self, prefix: bytes = b"") -> list[bytes]:
        found = self._db.execute(f"SELECT id FROM {self._name} WHERE id >= ? AND id < ? ORDER BY id", _range(prefix))  # noqa: S608
        return [row_id for (row_id,) in found.fetchall()]

    def all(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        where = "WHERE id >= ? AND id < ? ORDER BY id"
        return self._db.execute(f"SELECT id, row FROM {self._name} {where}", _range(prefix)).fetchall()  # noqa: S608


def _range(prefix: bytes) -> tuple[bytes, bytes]:
    return prefix, prefix + b"\xff" * (_LONGEST_ID + 1)
