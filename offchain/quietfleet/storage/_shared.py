"""A store that several processes share: rows, and a guard that every transaction is checked against.

The guard is one row as it was last read. Whoever changes that row stops every writer that does not know it yet: a
transaction of theirs raises `Fenced` instead of committing. A transaction that neither reads nor writes costs nothing.
Connection loss, a full disk and a lock that is not let go raise `StoreUnavailable`; the transaction is undone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from quietfleet.errors import Fenced, SettingsError, StoreUnavailable, TransactionLost
from quietfleet.storage._database import Database
from quietfleet.storage._redis import open_redis
from quietfleet.storage._rows import Guard, RowTable, SqliteTable, Store

_T = TypeVar("_T")


class SqliteStore:
    """A file that the replicas of one machine share; one of them writes at a time."""

    def __init__(self, path: Path | str) -> None:
        self.guard: Guard | None = None
        self._levels: list[AbstractContextManager[object] | None] = []
        try:
            self._database = Database(path)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"{path}: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[object]:
        self._levels.append(None)
        try:
            yield self
        except BaseException as error:
            level = self._levels.pop()
            if level is not None:
                level.__exit__(type(error), error, error.__traceback__)
            raise
        level = self._levels.pop()
        if level is not None:
            with _translated():
                level.__exit__(None, None, None)

    def table(self, name: str, *, contended: bool = False) -> RowTable:  # noqa: ARG002 - one writer at a time
        with _translated():
            return _StoreTable(self, SqliteTable(self._database, name))

    def snapshot(self, names: Sequence[str]) -> dict[str, dict[bytes, bytes]]:
        with self.transaction():
            return self.read(lambda: {name: dict(SqliteTable(self._database, name).all()) for name in names})

    def truncate_log(self) -> None:
        with _translated():
            self._database.truncate_log()

    def close(self) -> None:
        self._database.close()

    def write(self, act: Callable[[], _T]) -> _T:
        """Run something in the transaction under way, or in one of its own."""
        if self._levels:
            return self.read(act)
        with self.transaction():
            return self.read(act)

    def read(self, act: Callable[[], _T]) -> _T:
        """Run something in the transaction under way, or by itself and without the guard."""
        with _translated():
            for depth, level in enumerate(self._levels):
                if level is None:
                    self._begin(depth)
            return act()

    def _begin(self, depth: int) -> None:
        level = self._database.transaction()
        level.__enter__()
        self._levels[depth] = level
        if depth == 0 and self.guard is not None and self._stored(self.guard) != self.guard.row:
            raise Fenced

    def _stored(self, guard: Guard) -> bytes | None:
        return SqliteTable(self._database, guard.table).get(guard.row_id)


class _StoreTable:
    """A table whose calls begin the transaction that they belong to."""

    def __init__(self, store: SqliteStore, table: SqliteTable) -> None:
        self._store = store
        self._table = table

    def put(self, row_id: bytes, row: bytes) -> None:
        self._store.write(lambda: self._table.put(row_id, row))

    def put_many(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self._store.write(lambda: self._table.put_many(rows))

    def get(self, row_id: bytes) -> bytes | None:
        return self._store.read(lambda: self._table.get(row_id))

    def delete(self, row_id: bytes) -> None:
        self._store.write(lambda: self._table.delete(row_id))

    def delete_many(self, row_ids: Iterable[bytes]) -> None:
        self._store.write(lambda: self._table.delete_many(row_ids))

    def delete_all(self, *prefixes: bytes) -> None:
        self._store.write(lambda: self._table.delete_all(*prefixes))

    def ids(self, prefix: bytes = b"") -> list[bytes]:
        return self._store.read(lambda: self._table.ids(prefix))

    def all(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        return self._store.read(lambda: self._table.all(prefix))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, TransactionLost) as error:
        raise StoreUnavailable(str(error)) from error


def open_store(where: str, path: Callable[[str], Path], password: str | None, namespace: str) -> Store:
    """Open what `[oracle] store` names: `sqlite:<file>`, or the address of a Redis server without a password in it."""
    scheme, _, rest = where.partition(":")
    if scheme == "sqlite" and rest:
        return SqliteStore(path(rest))
    if scheme not in {"redis", "rediss", "unix"}:
        raise SettingsError("[oracle] store is sqlite:<file>, redis://, rediss:// or unix://")
    if urlsplit(where).password or "password=" in urlsplit(where).query:
        raise SettingsError("[oracle] store holds a password: set QUIETFLEET_REDIS_PASSWORD or ..._FILE instead")
    return open_redis(where, password, namespace)
