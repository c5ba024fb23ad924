"""What a relay keeps of the flood after its time, for those who were away: bounded, the oldest goes first.

An envelope's place is the minute of its arrival and then its hash. So the archive tells who asks it later no more than
the minute in which an envelope came by, and not which of that minute came first: from the order at many relays one
could work out where each began.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quietfleet.network.stemwire import CURSOR_SIZE, MAX_ENVELOPES, ArchiveAsk
from quietfleet.storage import Database
from quietfleet.whisper import Envelope, admits

MINUTE: Final = 60
PAGE: Final = 128 * 1024  # bytes of envelopes in a page, or a single one: small, as live ones wait behind it
ROW: Final = 64  # bytes counted for an envelope besides its own
_SCAN: Final = 4096  # rows looked at for one page
_TRIM: Final = 1024  # rows let go of together
_TIME_SIZE: Final = 4
_LAST_MINUTE: Final = (1 << 32) - 1
_SCHEMA: Final = ("CREATE TABLE archive (place BLOB PRIMARY KEY, topic BLOB NOT NULL, envelope BLOB NOT NULL) STRICT",)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long (seconds) and how much (bytes of envelopes and 64 each) an archive keeps."""

    age: float = 86_400.0
    size: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A page: envelopes, where it ended unless it was the last, and how many bytes were read for it."""

    envelopes: tuple[bytes, ...]
    cursor: bytes
    read: int


class Archive:
    """A database file of its own; used from one thread, which may wait for the disk."""

    def __init__(self, path: Path | str, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._database = Database(path)
        self._database.execute("PRAGMA synchronous=NORMAL")  # a power cut costs seconds of what others keep too
        self._database.execute("PRAGMA secure_delete=OFF")  # anybody may have recorded it, and it is sealed
        self._database.migrate("archive", _SCHEMA)
        count, size = self._database.execute("SELECT count(*), total(length(envelope)) FROM archive").fetchone()
        self._size: int = int(size) + ROW * count

    @property
    def size(self) -> int:
        """What it holds, as `Limits.size` counts."""
        return self._size

    def add(self, arrived: Iterable[tuple[float, Envelope]], now: float) -> None:
        """Keep envelopes with the times of their arrival (Unix seconds), and let go of what is too old or too much."""
        before = self._size
        try:
            with self._database.transaction():
                for at, envelope in arrived:
                    self._insert(at, envelope)
                self._trim(now)
        except sqlite3.Error:
            self._size = before
            raise

    def page(self, ask: ArchiveAsk) -> Found:
        """Return what was asked for from its cursor on: one page, and no more work than a page is worth.

        Whole minutes: those that `since` and `until` lie in count in full.
        """
        first = max(ask.cursor, _place(ask.since, b""))
        last = _place(ask.until, b"\xff" * CURSOR_SIZE)
        rows = self._database.execute(
            "SELECT place, rowid, topic, length(envelope) FROM archive WHERE place > ? AND place <= ? "
            "ORDER BY place LIMIT ?",
            (first, last, _SCAN),
        )
        taken, size, end, seen = list[int](), 0, b"", 0
        for at, row, topic, length in rows:
            if admits(ask.bloom, topic):
                if taken and (size + length > PAGE or len(taken) == MAX_ENVELOPES):
                    return self._found(taken, end, size + ROW * seen)
                taken.append(row)
                size += length
            end, seen = at, seen + 1
        return self._found(taken, end if seen == _SCAN else b"", size + ROW * seen)

    def close(self) -> None:
        self._database.close()

    def _found(self, taken: list[int], cursor: bytes, read: int) -> Found:
        select = "SELECT envelope FROM archive WHERE rowid = ?"
        return Found(tuple(self._database.execute(select, (row,)).fetchone()[0] for row in taken), cursor, read)

    def _insert(self, at: float, envelope: Envelope) -> None:
        raw = envelope.encode()
        row = (_place(at, envelope.hash), envelope.topic, raw)
        if self._database.execute("INSERT OR IGNORE INTO archive VALUES (?, ?, ?)", row).rowcount:
            self._size += len(raw) + ROW

    def _trim(self, now: float) -> None:
        oldest = _place(now - self._limits.age, b"")
        while True:
            rows = self._database.execute(
                "SELECT place, length(envelope) FROM archive ORDER BY place LIMIT ?", (_TRIM,)
            ).fetchall()
            last = b""
            for place, size in rows:
                if place >= oldest and self._size <= self._limits.size:
                    break
                last, self._size = place, self._size - size - ROW
            if not last:
                return
            self._database.execute("DELETE FROM archive WHERE place <= ?", (last,))


def _place(at: float, digest: bytes) -> bytes:
    """Return an envelope's place in the order of minutes and, within one, of hashes."""
    minute = min(max(0, int(at)), _LAST_MINUTE) // MINUTE * MINUTE
    return (minute.to_bytes(_TIME_SIZE, "big") + digest)[:CURSOR_SIZE]
