"""What the store knows of its files, in the worker's database: this index decides what counts, not what lies there.

Theory of operation. A reading that is acknowledged is in an open table of rows. From time to time that table is closed,
its rows go to new files, and one transaction enters the files and drops the table. Before a file is written its name is
entered as doomed, and the transaction that enters the file takes that back; a file that is replaced or erased is doomed
by the transaction that leaves it out. So a crash between any two steps leaves only doomed files, which are removed at
the next start; and what was to be erased stays on the list until it is seen to be gone.
"""
# ruff: noqa: S608 -- table names are made of our own numbers, values are always bound

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from quietfleet.errors import StoreBusy
from quietfleet.storage._database import Database
from quietfleet.storage._sealed import SealedColumn

DAY: Final = 86_400
_SCHEMA: Final = (
    """
    CREATE TABLE lake_part (
        name TEXT PRIMARY KEY, day INTEGER NOT NULL, salt BLOB NOT NULL, hash BLOB NOT NULL, size INTEGER NOT NULL,
        rows INTEGER NOT NULL, oldest REAL NOT NULL, newest REAL NOT NULL, devices BLOB NOT NULL
    ) STRICT;
    CREATE TABLE lake_mark (day INTEGER NOT NULL, mark BLOB NOT NULL, PRIMARY KEY (day, mark)) STRICT, WITHOUT ROWID;
    CREATE TABLE lake_refused (mark BLOB PRIMARY KEY, until REAL NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE lake_doomed (name TEXT PRIMARY KEY, written INTEGER NOT NULL, order_id INTEGER) STRICT;
    CREATE TABLE lake_order (id INTEGER PRIMARY KEY AUTOINCREMENT, detail TEXT NOT NULL) STRICT;
    CREATE TABLE lake_generation (number INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE lake_revision (number INTEGER NOT NULL) STRICT;
    INSERT INTO lake_revision VALUES (0)
    """,
)


@dataclass(frozen=True, slots=True)
class Part:
    """One sealed file: readings of one day; `hash` is the SHA-256 of its sealed bytes."""

    name: str
    day: int
    salt: bytes
    hash: bytes
    size: int
    rows: int
    oldest: float
    newest: float
    devices: tuple[str, ...] = ()


class Index:
    """The tables; every change is made in the caller's transaction."""

    def __init__(self, database: Database, sealed: SealedColumn | None = None, *, create: bool = True) -> None:
        self._database = database
        self._sealed = sealed
        self._devices: dict[str, tuple[str, ...]] = {}  # by file, which never changes
        if create:
            database.migrate("lake", _SCHEMA)

    # revisions

    @property
    def revision(self) -> int:
        """How often files or holds have changed."""
        return int(self._database.execute("SELECT number FROM lake_revision").fetchone()[0])

    def revise(self, seen: int | None = None) -> None:
        """Count a change; `StoreBusy` if there was another since `seen`."""
        if seen is not None and seen != self.revision:
            raise StoreBusy("files or holds have changed since the step was begun")
        self._database.execute("UPDATE lake_revision SET number = number + 1")

    # rows not yet in files

    def open_table(self) -> str:
        """The table new rows go to."""
        number = self._database.execute("SELECT max(number) FROM lake_generation").fetchone()[0]
        return _table(number) if number is not None else self._create(1)

    def close_table(self) -> None:
        """Have new rows go to a new table, if there are any in the open one."""
        generations = self.generations()
        if generations and self.count_rows(generations[-1:]):
            self._create(generations[-1] + 1)

    def generations(self, *, closed: bool = False) -> list[int]:
        rows = self._database.execute("SELECT number FROM lake_generation ORDER BY number").fetchall()
        numbers = [int(number) for (number,) in rows]
        return numbers[:-1] if closed else numbers

    def count_rows(self, generations: Sequence[int]) -> int:
        counts = (self._database.execute(f"SELECT count(*) FROM {_table(n)}").fetchone()[0] for n in generations)
        return sum(counts)

    def oldest_row(self) -> float | None:
        """The time of the oldest row that is in no file yet."""
        found = (self._database.execute(f"SELECT min(time) FROM {_table(n)}").fetchone()[0] for n in self.generations())
        return min((time for time in found if time is not None), default=None)

    def add(self, table: str, device: str, time: float, body: bytes) -> None:
        self._database.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (device, time, body))

    def rows(self, generations: Sequence[int]) -> list[tuple[str, float, bytes]]:
        found: list[tuple[str, float, bytes]] = []
        for number in generations:
            found += self._database.execute(f"SELECT device, time, body FROM {_table(number)}").fetchall()
        return found

    def waiting_devices(self) -> set[str]:
        """Devices with rows that are in no file yet."""
        names: set[str] = set()
        for number in self.generations():
            rows = self._database.execute(f"SELECT DISTINCT device FROM {_table(number)}")
            names.update(name for (name,) in rows.fetchall())
        return names

    def drop(self, generations: Sequence[int]) -> None:
        """Erase whole tables, whose pages are zeroed."""
        for number in generations:
            self._database.execute(f"DROP TABLE {_table(number)}")
            self._database.execute("DELETE FROM lake_generation WHERE number = ?", (number,))

    def _create(self, number: int) -> str:
        self._database.execute(
            f"CREATE TABLE {_table(number)} (device TEXT NOT NULL, time REAL NOT NULL, body BLOB NOT NULL) STRICT"
        )
        self._database.execute("INSERT INTO lake_generation VALUES (?)", (number,))
        return _table(number)

    # marks: which readings there are, by keyed hashes

    def mark(self, day: int, mark: bytes) -> bool:
        """Take note of a reading; False if it was known."""
        return self._database.execute("INSERT OR IGNORE INTO lake_mark VALUES (?, ?)", (day, mark)).rowcount == 1

    def unmark(self, marks: Iterable[tuple[int, bytes]]) -> None:
        self._database.execute_many("DELETE FROM lake_mark WHERE day = ? AND mark = ?", list(marks))

    def unmark_before(self, day: int) -> None:
        """Forget the marks of days of which there is nothing left."""
        self._database.execute("DELETE FROM lake_mark WHERE day < ? AND day NOT IN (SELECT day FROM lake_part)", (day,))

    # devices that were forgotten, by keyed hashes

    def refuse(self, mark: bytes, until: float) -> None:
        """Have a device's readings up to a time be refused; never an earlier time than before."""
        self._database.execute(
            "INSERT INTO lake_refused VALUES (?, ?)"
            " ON CONFLICT (mark) DO UPDATE SET until = max(until, excluded.until)",
            (mark, until),
        )

    def refused(self, mark: bytes) -> float | None:
        row = self._database.execute("SELECT until FROM lake_refused WHERE mark = ?", (mark,)).fetchone()
        return row[0] if row else None

    def unrefuse_before(self, cut: float) -> None:
        """Forget whose readings were refused up to a time: by now they are refused for their age."""
        self._database.execute("DELETE FROM lake_refused WHERE until < ?", (cut,))

    # files

    def parts(self) -> list[Part]:
        rows = self._database.execute(
            "SELECT name, day, salt, hash, size, rows, oldest, newest, devices FROM lake_part ORDER BY day, name"
        )
        return [self._part(row) for row in rows.fetchall()]

    def _part(self, row: tuple[Any, ...]) -> Part:
        name, day, salt, digest, size, rows, oldest, newest, devices = row
        return Part(name, day, salt, digest, size, rows, oldest, newest, self._named(name, devices))

    def enter(self, part: Part) -> None:
        """Make a file that was written one that counts; `StoreBusy` if it was given up meanwhile."""
        assert self._sealed is not None
        if not self._database.execute("DELETE FROM lake_doomed WHERE name = ? AND written = 0", (part.name,)).rowcount:
            raise StoreBusy(f"{part.name} was given up meanwhile")
        devices = self._sealed.seal(json.dumps(part.devices).encode(), row=part.name.encode())
        row = (part.name, part.day, part.salt, part.hash, part.size, part.rows, part.oldest, part.newest, devices)
        self._database.execute("INSERT INTO lake_part VALUES (?,?,?,?,?,?,?,?,?)", row)

    def leave_out(self, part: Part, order: int | None) -> None:
        """Have a file count no more, and be removed; with it goes the salt without which no copy of it opens."""
        self._database.execute("DELETE FROM lake_part WHERE name = ?", (part.name,))
        self._database.execute("INSERT INTO lake_doomed VALUES (?, 1, ?)", (part.name, order))
        self._devices.pop(part.name, None)

    def _named(self, name: str, sealed: bytes) -> tuple[str, ...]:
        if self._sealed is None:
            return ()
        if name not in self._devices:
            self._devices[name] = tuple(json.loads(self._sealed.open(sealed, row=name.encode())))
        return self._devices[name]

    # doomed files

    def announce(self, names: Iterable[str]) -> None:
        """Enter files before they are written."""
        self._database.execute_many("INSERT INTO lake_doomed VALUES (?, 0, NULL)", [(name,) for name in names])

    def give_up(self, names: Iterable[str] | None = None) -> None:
        """Doom files that were announced, all of them when a new process begins."""
        if names is None:
            self._database.execute("UPDATE lake_doomed SET written = 1")
            return
        self._database.execute_many(  # entered anew if a process that began meanwhile has done with it
            "INSERT INTO lake_doomed VALUES (?, 1, NULL) ON CONFLICT (name) DO UPDATE SET written = 1",
            [(name,) for name in names],
        )

    def doomed(self) -> list[str]:
        rows = self._database.execute("SELECT name FROM lake_doomed WHERE written = 1 ORDER BY name").fetchall()
        return [name for (name,) in rows]

    def known(self) -> list[str]:
        """Every name that stands for a file of ours."""
        rows = self._database.execute("SELECT name FROM lake_part UNION SELECT name FROM lake_doomed").fetchall()
        return [name for (name,) in rows]

    def gone(self, names: Iterable[str]) -> None:
        self._database.execute_many("DELETE FROM lake_doomed WHERE name = ?", [(name,) for name in names])

    # orders to erase

    def order(self, detail: Mapping[str, Any]) -> int:
        """Enter what is to be erased, for its certificate."""
        cursor = self._database.execute("INSERT INTO lake_order (detail) VALUES (?)", (json.dumps(dict(detail)),))
        return int(cursor.lastrowid or 0)

    def fulfilled(self) -> list[tuple[int, dict[str, Any]]]:
        """Orders none of whose files is left."""
        rows = self._database.execute(
            "SELECT id, detail FROM lake_order WHERE id NOT IN"
            " (SELECT order_id FROM lake_doomed WHERE order_id IS NOT NULL) ORDER BY id"
        )
        return [(number, json.loads(detail)) for number, detail in rows.fetchall()]

    def close_order(self, number: int) -> bool:
        """Take an order off the list; False if somebody else has."""
        return self._database.execute("DELETE FROM lake_order WHERE id = ?", (number,)).rowcount == 1


def _table(number: int) -> str:
    return f"lake_rows_{number}"
