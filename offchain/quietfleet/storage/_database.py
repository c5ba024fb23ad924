"""One SQLite file a worker: durable before anything is sent, erased for real, private to its user.

Each component brings its own list of migration steps; how far it came is kept in the table `schema`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from quietfleet.errors import ErasureDelayed, StateDamaged, StorageError, TransactionLost
from quietfleet.storage._rows import SqliteTable

_BUSY_MILLISECONDS: Final = 5_000
_WRITER_PRAGMAS: Final = (
    f"busy_timeout={_BUSY_MILLISECONDS}",  # first: the next one waits for whoever else opens the file
    "journal_mode=WAL",  # observers read while the worker writes
    "synchronous=FULL",  # what was journalled survives a power cut, so it may be sent
    "secure_delete=ON",  # erased rows are overwritten, not only unlinked
    "foreign_keys=ON",
    f"journal_size_limit={4 << 20}",  # bytes the log keeps once it was folded in, however long it has been
)


class Database:
    """A worker's own database, used from one thread; open it once and hand it around.

    `undone` counts what was rolled back: whoever remembers what it read asks whether that still stands.
    """

    undone = 0

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._depth = 0
        self._marked = 0
        _create_private(self.path)
        self._connection = sqlite3.connect(self.path, isolation_level=None)
        for pragma in _WRITER_PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS schema (component TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT"
        )

    @classmethod
    def observe(cls, path: Path | str) -> Observer:
        """Open an existing database for reading only, as a dashboard does beside a running worker."""
        return Observer(path)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement; outside of `transaction()` it is durable when this returns."""
        self._require_transaction()
        if self._marked < self._depth and not sql.startswith("SELECT"):
            self._mark()
        return self._connection.execute(sql, parameters)

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run one statement that writes for each row, all of them or none; return how many rows that changed."""
        with self.transaction():
            self._mark()
            return self._connection.executemany(sql, rows).rowcount

    @contextmanager
    def transaction(self) -> Iterator[Self]:
        """Make everything inside happen or not happen; a nested one undoes only itself.

        Most nested ones write nothing: a savepoint is set for them only as they do.
        """
        self._require_transaction()
        if not self._depth:
            self._connection.execute("BEGIN IMMEDIATE")
            self._marked = 1
        self._depth += 1
        try:
            yield self
        except BaseException:
            self._undo()
            raise
        self._keep()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read everything inside as of one moment, whoever writes meanwhile; write nothing, and be done soon."""
        if self._depth:
            raise StorageError("what is written in a transaction is no snapshot")
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def table(self, name: str, *, contended: bool = False) -> SqliteTable:  # noqa: ARG002 - one writer at a time
        """Open a table of rows by binary id; a writer has the whole file, so that none is contended."""
        return SqliteTable(self, name)

    def migrate(self, component: str, steps: Sequence[str]) -> None:
        """Bring a component's tables to `len(steps)`, running only the steps not run before, each atomically."""
        done = self._version(component)
        if done > len(steps):
            raise StorageError(f"{component} is at version {done}, newer than this program's {len(steps)}")
        for version, step in enumerate(steps[done:], start=done + 1):
            self._step(component, version, step)

    def check(self) -> None:
        """Raise `StateDamaged` if the file's pages are not what SQLite wrote."""
        found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StateDamaged(f"{self.path}: {' '.join(found.split())}")

    def truncate_log(self) -> None:
        """Empty the write-ahead log, so that no erased byte survives in it; `ErasureDelayed` while a reader blocks."""
        busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise ErasureDelayed(str(self.path))

    def close(self) -> None:
        """Release the file; a writer's log is folded in."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_transaction(self) -> None:
        """Inside of a transaction that SQLite gave up by itself nothing may happen: it would stand alone."""
        if self._depth and not self._connection.in_transaction:
            raise TransactionLost(str(self.path))

    def _version(self, component: str) -> int:
        row = self.execute("SELECT version FROM schema WHERE component = ?", (component,)).fetchone()
        return int(row[0]) if row else 0

    def _step(self, component: str, version: int, step: str) -> None:
        with self.transaction():
            if self._version(component) >= version:
                return  # another process of those that share this file was faster
            for statement in _statements(step):
                self.execute(statement)
            self.execute("INSERT OR REPLACE INTO schema VALUES (?, ?)", (component, version))

    def _mark(self) -> None:
        """Set the savepoints that nested transactions have done without so far."""
        for level in range(self._marked, self._depth):
            self._connection.execute(f"SAVEPOINT level{level}")
            self._marked = level + 1

    def _undo(self) -> None:
        self._depth -= 1
        self.undone += 1
        was_marked, self._marked = self._marked > self._depth, min(self._marked, self._depth)
        if not self._connection.in_transaction:  # SQLite gave up by itself: disk full, I/O error
            return
        if not self._depth:
            self._connection.execute("ROLLBACK")
        elif was_marked:
            self._connection.execute(f"ROLLBACK TO level{self._depth}")
            self._connection.execute(f"RELEASE level{self._depth}")

    def _keep(self) -> None:
        self._depth -= 1
        was_marked, self._marked = self._marked > self._depth, min(self._marked, self._depth)
        if not self._connection.in_transaction:
            self.undone += 1
            raise TransactionLost(str(self.path))
        if self._depth:
            if was_marked:
                self._connection.execute(f"RELEASE level{self._depth}")
            return
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self.undone += 1
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


class Observer(Database):
    """Somebody's database, for reading only; every statement that would write raises `sqlite3.OperationalError`."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._depth = 0
        self._marked = 0
        if not self.path.is_file():
            raise StorageError(f"{path} does not exist")
        address = f"{self.path.absolute().as_uri()}?mode=ro"
        self._connection = sqlite3.connect(address, uri=True, isolation_level=None)
        self._connection.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")


def _create_private(path: Path) -> None:
    """Create the file readable by its user alone before SQLite does; log files inherit the mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)


def _statements(script: str) -> Iterator[str]:
    """Split a step at its semicolons, minding triggers and strings: `executescript` would commit halfway."""
    pending = ""
    for part in script.split(";"):
        pending += part + ";"
        if sqlite3.complete_statement(pending):
            if pending.strip(" \n;"):
                yield pending
            pending = ""
