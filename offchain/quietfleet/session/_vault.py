"""Sealed rows: what a session keeps on disk is encrypted under a key derived from the worker's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from quietfleet.crypto import derive, open_sealed, seal
from quietfleet.storage import Database

_LONGEST_ID = 64  # bytes; no id is longer

Random = Callable[[int], bytes]
Row = TypeVar("Row", bound=msgspec.Struct)


class Vault:
    """A table of sealed msgpack structs by binary id.

    Overwritten and deleted rows are physically zeroed by SQLite's `secure_delete`, which the database switches on.
    """

    def __init__(self, database: Database, table: str, secret: bytes, random: Random) -> None:
        self._db = database
        self._table = table
        self._key = derive(secret, "storage", table.encode())
        self._random = random
        database.migrate(table, [f"CREATE TABLE {table} (id BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID"])

    def put(self, row_id: bytes, row: msgspec.Struct) -> None:
        """Store or replace a row."""
        sealed = seal(self._key, msgspec.msgpack.encode(row), associated=row_id, random=self._random)
        self._db.execute(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)", (row_id, sealed))  # noqa: S608 - our own table name

    def get(self, row_id: bytes, kind: type[Row]) -> Row | None:
        """Return one row, or None."""
        found = self._db.execute(f"SELECT row FROM {self._table} WHERE id = ?", (row_id,)).fetchone()  # noqa: S608
        return self._open(row_id, found[0], kind) if found else None

    def delete(self, row_id: bytes) -> None:
        """Erase a row."""
        self._db.execute(f"DELETE FROM {self._table} WHERE id = ?", (row_id,))  # noqa: S608

    def delete_all(self, prefix: bytes) -> None:
        """Erase the rows whose ids begin so."""
        self._db.execute(f"DELETE FROM {self._table} WHERE id >= ? AND id < ?", _range(prefix))  # noqa: S608

    def ids(self, prefix: bytes) -> list[bytes]:
        """Return the ids that begin so, in order, without opening a row."""
        found = self._db.execute(f"SELECT id FROM {self._table} WHERE id >= ? AND id < ? ORDER BY id", _range(prefix))  # noqa: S608
        return [row_id for (row_id,) in found.fetchall()]

    def all(self, kind: type[Row]) -> Iterator[tuple[bytes, Row]]:
        """Yield every row."""
        for row_id, sealed in self._db.execute(f"SELECT id, row FROM {self._table} ORDER BY id").fetchall():  # noqa: S608
            yield row_id, self._open(row_id, sealed, kind)

    def _open(self, row_id: bytes, sealed: bytes, kind: type[Row]) -> Row:
        return msgspec.msgpack.decode(open_sealed(self._key, sealed, associated=row_id), type=kind)


def _range(prefix: bytes) -> tuple[bytes, bytes]:
    return prefix, prefix + b"\xff" * _LONGEST_ID
