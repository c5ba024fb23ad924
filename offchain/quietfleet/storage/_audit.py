"""Everything anyone did, in an order nobody can change unnoticed.

Each entry carries the hash of the one before it, so a changed, removed or inserted entry breaks the chain there.
Cutting the end off leaves a valid chain: whoever kept a head (`AuditLog.head`) elsewhere finds that too.
"""
# ruff: noqa: S608 -- the only text put into statements is this module's own column list

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from quietfleet.errors import AuditBroken
from quietfleet.storage._database import Database

_GENESIS: Final = bytes(32)
_SCHEMA: Final = (
    """
    CREATE TABLE audit (
        sequence INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL,
        previous BLOB NOT NULL, hash BLOB NOT NULL
    ) STRICT;
    CREATE INDEX audit_kind ON audit (kind, sequence);
    CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
        BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END;
    CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
        BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END;
    """,
    """
    CREATE TABLE audit_log_name (name BLOB NOT NULL) STRICT;
    CREATE TABLE audit_anchor (
        number INTEGER NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, salt BLOB NOT NULL, at REAL NOT NULL,
        keeper TEXT NOT NULL, block INTEGER, PRIMARY KEY (keeper, number)
    ) STRICT;
    """,
)
_COLUMNS: Final = "sequence, at, kind, detail, previous, hash"
_Row = tuple[int, float, str, str, bytes, bytes]  # the columns


@dataclass(frozen=True, slots=True)
class AuditHead:
    """How long the trail is and the hash it ends in: all one needs to keep to notice a cut."""

    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that happened; `at` in Unix seconds."""

    sequence: int
    at: float
    kind: str
    detail: dict[str, Any]
    previous: bytes
    hash: bytes


class AuditLog:
    """The worker's append-only trail."""

    def __init__(self, database: Database, *, create: bool = True) -> None:
        """Open the trail; an observer of somebody's database passes `create=False`."""
        self._database = database
        if create:
            database.migrate("audit", _SCHEMA)

    def append(self, kind: str, detail: Mapping[str, Any], at: float) -> AuditEntry:
        """Write an entry; inside a transaction it stands or falls with the rest of it."""
        (row,) = self._append(kind, [detail], at)
        return _entry(row)

    def append_all(self, kind: str, details: Iterable[Mapping[str, Any]], at: float) -> None:
        """Write entries of one kind and moment, each chained to the one before it, all of them or none."""
        self._append(kind, details, at)

    def _append(self, kind: str, details: Iterable[Mapping[str, Any]], at: float) -> list[_Row]:
        rows = []
        with self._database.transaction():
            head = self.head()
            for detail in details:
                text, sequence, previous = _canonical(detail), head.sequence + 1, head.hash
                head = AuditHead(sequence, _link(previous, sequence, at, kind, text))
                rows.append((sequence, float(at), kind, text, previous, head.hash))
            self._database.execute_many(f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows)
        return rows

    def head(self) -> AuditHead:
        """Return the trail's present end; sequence 0 when nothing is written yet."""
        row = self._database.execute("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
        return AuditHead(*row) if row else AuditHead(0, _GENESIS)

    def entries(self, after: int = 0, kind: str | None = None) -> Iterator[AuditEntry]:
        """Yield entries with a sequence above `after`, oldest first, of one kind or all."""
        chosen = "" if kind is None else " AND kind = ?"
        parameters = (after,) if kind is None else (after, kind)
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM audit WHERE sequence > ?{chosen} ORDER BY sequence", parameters
        )
        yield from map(_entry, rows)

    def verify(self, kept: AuditHead | None = None) -> int:
        """Check every link, and that the trail still contains a head `kept` elsewhere; return its length.

        Raises `AuditBroken` naming the first sequence that does not fit.
        """
        head = AuditHead(0, _GENESIS)
        seen = kept is None or kept == head
        for row in self._database.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY sequence"):
            head = _follow(head, row)
            seen = seen or head == kept
        if not seen:
            raise AuditBroken(f"entry {kept.sequence if kept else 0} is missing or another")
        return head.sequence


def _entry(row: _Row) -> AuditEntry:
    sequence, at, kind, detail, previous, digest = row
    return AuditEntry(sequence, at, kind, json.loads(detail), previous, digest)


def _follow(head: AuditHead, row: _Row) -> AuditHead:
    sequence, at, kind, detail, previous, digest = row
    fits = sequence == head.sequence + 1 and previous == head.hash
    if not fits or digest != _link(previous, sequence, at, kind, detail):
        raise AuditBroken(f"entry {sequence}")
    return AuditHead(sequence, digest)


def entry_hash(previous: bytes, sequence: int, at: float, kind: str, detail: Mapping[str, Any]) -> bytes:
    """Return the hash (32 bytes) of an entry after one whose hash is `previous`."""
    return _link(previous, sequence, at, kind, _canonical(detail))


def _link(previous: bytes, sequence: int, at: float, kind: str, detail: str) -> bytes:
    """Hash an entry; as a JSON list no two different entries share an encoding."""
    return hashlib.sha256(_canonical([previous.hex(), sequence, float(at), kind, detail]).encode()).digest()


def _canonical(value: Any) -> str:
    if isinstance(value, Mapping):
        value = dict(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
