"""The commands that a sensor was given, each with what came of it: a table, in the caller's transaction.

TAKEN ──moved──→ IN_FORCE ──→ OVER
  └────lapsed, failed──────────↗     refused: OVER at once
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from quietfleet.actuators.commands import Command, SignedEffect

if TYPE_CHECKING:
    from quietfleet.storage import Database

KEPT: Final = 256
"""Commands that are remembered; one that is older and comes again is as good as a new one from the same processor."""
_SCHEMA: Final = [
    """CREATE TABLE orders (
       number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, peer TEXT NOT NULL, actuator TEXT NOT NULL,
       value REAL NOT NULL, until REAL NOT NULL, taken REAL, state TEXT NOT NULL, since REAL, before REAL, read REAL,
       answer BLOB, told INTEGER NOT NULL DEFAULT 0) STRICT""",
]
_COLUMNS: Final = "number, id, peer, actuator, value, until, state, since, before, read, answer"
_decoder = msgspec.msgpack.Decoder(SignedEffect)


class State(StrEnum):
    """Where a command is."""

    TAKEN = "taken"
    IN_FORCE = "in force"
    OVER = "over"


class Order(NamedTuple):
    """A command of `peer`'s, in force up to `until` (Unix seconds); since when, and what was read then, if it moved."""

    number: int
    id: bytes
    peer: str
    actuator: str
    value: float
    until: float
    state: State
    since: float | None
    before: float | None
    read: float | None
    answer: SignedEffect | None


class Orders:
    """Keeps them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("orders", _SCHEMA)

    def known(self, command: Command) -> bool:
        """Whether it came before."""
        return bool(self._database.execute("SELECT 1 FROM orders WHERE id = ?", (command.id,)).fetchone())

    def present(self, actuator: str) -> Order | None:
        """What an actuator is to follow now."""
        return next(iter(self._where("state != ? AND actuator = ?", State.OVER, actuator)), None)

    def all_present(self) -> list[Order]:
        """What all of them are to follow."""
        return self._where("state != ?", State.OVER)

    def last_taken(self, actuator: str) -> float | None:
        """When it was last sent somewhere, by the clock."""
        found = "SELECT max(taken) FROM orders WHERE actuator = ?"
        last: float | None = self._database.execute(found, (actuator,)).fetchone()[0]
        return last

    def take(self, peer: str, command: Command, until: float, taken: float | None) -> Order:
        """Keep a command that came; `taken` is None for one that was refused."""
        state = State.OVER if taken is None else State.TAKEN
        row = (command.id, peer, command.actuator, command.value, until, taken, state)
        insert = "INSERT INTO orders (id, peer, actuator, value, until, taken, state) VALUES (?, ?, ?, ?, ?, ?, ?)"
        number = self._database.execute(insert, row).lastrowid
        oldest = "SELECT number FROM orders ORDER BY number DESC LIMIT 1 OFFSET ?"
        gone = f"DELETE FROM orders WHERE state = ? AND number <= ({oldest})"  # noqa: S608 - our own words
        self._database.execute(gone, (State.OVER, KEPT))
        return self._where("number = ?", number)[0]

    def moved(self, order: Order, since: float, before: float | None, read: float) -> None:
        """Its actuator is where it was sent."""
        row = (State.IN_FORCE, since, before, read, order.number)
        self._database.execute("UPDATE orders SET state = ?, since = ?, before = ?, read = ? WHERE number = ?", row)

    def answer(self, order: Order, answer: SignedEffect) -> None:
        """Keep what is to be said of it."""
        row = (msgspec.msgpack.encode(answer), order.number)
        self._database.execute("UPDATE orders SET answer = ? WHERE number = ?", row)

    def over(self, order: Order) -> None:
        """It is not followed any more."""
        self._database.execute("UPDATE orders SET state = ? WHERE number = ?", (State.OVER, order.number))

    def to_tell(self) -> list[Order]:
        """Those of which something is to be said, oldest first."""
        return self._where("answer IS NOT NULL AND told = 0")

    def told(self, peer: str, command: bytes) -> None:
        """Its processor has heard what came of it."""
        self._database.execute("UPDATE orders SET told = 1 WHERE peer = ? AND id = ?", (peer, command))

    def _where(self, condition: str, *values: Any) -> list[Order]:
        found = f"SELECT {_COLUMNS} FROM orders WHERE {condition} ORDER BY number"  # noqa: S608 - our own words
        rows = self._database.execute(found, values).fetchall()
        return [_order(row) for row in rows]


def _order(row: Sequence[Any]) -> Order:
    number, name, peer, actuator, value, until, state, since, before, read, kept = row
    answer = _decoder.decode(kept) if kept else None
    return Order(number, name, peer, actuator, value, until, State(state), since, before, read, answer)
