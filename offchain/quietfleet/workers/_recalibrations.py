"""A processor's record of recalibrations: who was asked when and why, what came of it, and what is still to be done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from quietfleet.monitor.recalibration import Affine, Did, SignedRecalibration

if TYPE_CHECKING:
    from quietfleet.storage import Database

KEPT: Final = 10_000  # recalibrations, the newest; one a day of a few dozen devices for a year
WAITING: Final = "waiting"
UNANSWERED: Final = "unanswered"
_SCHEMA: Final = [
    """CREATE TABLE recalibrations (
       number INTEGER PRIMARY KEY, nonce BLOB NOT NULL UNIQUE, device TEXT NOT NULL, reason TEXT NOT NULL,
       asked REAL NOT NULL, proposed TEXT NOT NULL, withheld TEXT NOT NULL, state TEXT NOT NULL, since REAL,
       answer BLOB, to_tell INTEGER NOT NULL, routine INTEGER NOT NULL) STRICT""",
    "CREATE INDEX recalibrations_device ON recalibrations (device, state)",
    """CREATE TABLE calibration_levels (
       device TEXT, channel TEXT, hours TEXT NOT NULL, PRIMARY KEY (device, channel)) STRICT""",
    "CREATE TABLE calibration_due (device TEXT PRIMARY KEY, first REAL NOT NULL, due REAL NOT NULL) STRICT",
    """CREATE TABLE calibration_requests (
       number INTEGER PRIMARY KEY, device TEXT NOT NULL, channels TEXT NOT NULL, why TEXT NOT NULL,
       relearn INTEGER NOT NULL) STRICT""",
]
_COLUMNS: Final = "number, nonce, device, reason, asked, proposed, withheld, state, since, answer, routine"
_decoder = msgspec.msgpack.Decoder(SignedRecalibration)


class Request(NamedTuple):
    """What a person asked for: these channels of a device, or all; with `relearn` it stands elsewhere now."""

    number: int
    device: str
    channels: list[str]
    why: str
    relearn: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and what came of it.

    `asked` is the clock's time, `since` the data's from which readings are corrected so; `proposed` is offset and gain
    by channel, `withheld` by channel why nothing was proposed, `state` a `Did`, waiting or unanswered. One of
    `routine` was asked for no reason but the time.
    """

    number: int
    nonce: bytes
    device: str
    reason: str
    asked: float
    proposed: dict[str, list[float]]
    withheld: dict[str, str]
    state: str
    since: float | None
    answer: SignedRecalibration | None
    routine: bool

    def told(self) -> dict[str, Any]:
        """As plain values, for programs."""
        result = self.answer.result if self.answer else None
        return {
            "number": self.number,
            "sensor": self.device,
            "reason": self.reason,
            "asked": self.asked,
            "proposed": self.proposed,
            "withheld": self.withheld,
            "state": self.state,
            "since": self.since,
            "in_force": {channel: list(one) for channel, one in result.in_force.items()} if result else {},
            "refused": result.refused if result else {},
            "signature": self.answer.signature.hex() if self.answer else None,
        }


class Recalibrated:
    """The tables; everything happens in the caller's transaction."""

    def __init__(self, database: Database, *, create: bool = True) -> None:
        self._database = database
        if create:
            database.migrate("recalibrations", _SCHEMA)

    # questions

    def ask(
        self,
        device: str,
        nonce: bytes,
        reason: str,
        *,
        now: float,
        proposed: Mapping[str, Affine],
        withheld: Mapping[str, str],
        routine: bool = False,
    ) -> None:
        """Note that a device is asked; what it was asked before and did not answer stays unanswered."""
        self.unanswered(device)
        row = (nonce, device, reason, now, json.dumps(proposed), json.dumps(withheld), WAITING, routine)
        self._database.execute(
            "INSERT INTO recalibrations (nonce, device, reason, asked, proposed, withheld, state, routine, to_tell) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
            row,
        )
        oldest = "SELECT number FROM recalibrations ORDER BY number DESC LIMIT 1 OFFSET ?"
        self._database.execute(f"DELETE FROM recalibrations WHERE number <= ({oldest})", (KEPT,))  # noqa: S608 - ours

    def open(self, device: str) -> Asked | None:
        """Return the question that a device has yet to answer."""
        return self._one("device = ? AND state = ?", (device, WAITING))

    def unanswered(self, device: str) -> None:
        """Give up waiting for a device."""
        self._database.execute(
            "UPDATE recalibrations SET state = ? WHERE device = ? AND state = ?", (UNANSWERED, device, WAITING)
        )

    def answered(self, asked: Asked, answer: SignedRecalibration, since: float) -> bool:
        """Keep an answer; return whether the readings are other ones since, which the gateway is to be told.

        A check changes nothing that is known of, where nothing was found before.
        """
        did = answer.result.did
        other = did is Did.CORRECTED or (did is Did.CHECKED and not asked.routine)
        row = (did.value, since, msgspec.msgpack.encode(answer), other, asked.number)
        self._database.execute(
            "UPDATE recalibrations SET state = ?, since = ?, answer = ?, to_tell = ? WHERE number = ?", row
        )
        return other

    def last(self, device: str) -> Asked | None:
        """Return the last question that a device did something about."""
        return self._one("device = ? AND state IN (?, ?)", (device, Did.CORRECTED.value, Did.CHECKED.value))

    def in_force(self, device: str) -> dict[str, Affine]:
        """How a device said that it corrects its readings."""
        last = self.last(device)
        return dict(last.answer.result.in_force) if last and last.answer else {}

    def all(self, device: str | None = None) -> list[Asked]:
        """Return the whole history, or a device's, oldest first."""
        return self._read("?1 IS NULL OR device = ?1 ORDER BY number", (device,))

    # the gateway

    def to_tell(self) -> Asked | None:
        """Return the oldest answer that the gateway has not heard of."""
        return next(iter(self._read("to_tell = 1 ORDER BY number LIMIT 1", ())), None)

    def told(self, number: int) -> None:
        """Note that it has."""
        self._database.execute("UPDATE recalibrations SET to_tell = 0 WHERE number = ?", (number,))

    # a hand

    def request(self, device: str, channels: Sequence[str], why: str, *, relearn: bool = False) -> None:
        """Have the processor ask a device as soon as it runs."""
        row = (device, json.dumps(list(channels)), why, relearn)
        self._database.execute(
            "INSERT INTO calibration_requests (device, channels, why, relearn) VALUES (?, ?, ?, ?)", row
        )

    def requests(self) -> list[Request]:
        """What was requested and has not been done, oldest first."""
        query = "SELECT number, device, channels, why, relearn FROM calibration_requests ORDER BY number"
        return [
            Request(number, device, json.loads(channels), why, bool(relearn))
            for number, device, channels, why, relearn in self._database.execute(query).fetchall()
        ]

    def served(self, number: int) -> None:
        """Let go of a request."""
        self._database.execute("DELETE FROM calibration_requests WHERE number = ?", (number,))

    # the schedule

    def due(self, device: str) -> tuple[float, float] | None:
        """When a device was first seen, and when it is to be asked."""
        row: tuple[float, float] | None = self._database.execute(
            "SELECT first, due FROM calibration_due WHERE device = ?", (device,)
        ).fetchone()
        return row

    def set_due(self, device: str, first: float, due: float) -> None:
        """Note both."""
        self._database.execute("INSERT OR REPLACE INTO calibration_due VALUES (?, ?, ?)", (device, first, due))

    # usual distances

    def levels(self, channel: str) -> dict[str, list[float]]:
        """By device how far it usually is from the others, by hour of day."""
        rows = self._database.execute("SELECT device, hours FROM calibration_levels WHERE channel = ?", (channel,))
        return {device: json.loads(hours) for device, hours in rows.fetchall()}

    def set_levels(self, channel: str, levels: Mapping[str, Sequence[float]]) -> None:
        """Keep what was learned."""
        for device, hours in levels.items():
            row = (device, channel, json.dumps(list(hours)))
            self._database.execute("INSERT OR REPLACE INTO calibration_levels VALUES (?, ?, ?)", row)

    def forget_levels(self, device: str, channels: Sequence[str]) -> None:
        """Forget how far a device usually is from the others in these channels, or in all."""
        where = "device = ?1 AND (?2 = '[]' OR channel IN (SELECT value FROM json_each(?2)))"
        self._database.execute(f"DELETE FROM calibration_levels WHERE {where}", (device, json.dumps(list(channels))))  # noqa: S608 - ours

    def forget(self, kept: Iterable[str]) -> None:
        """Forget the distances and the ages of all but these devices: one that comes again is a new one."""
        names = json.dumps(list(kept))
        for table in ("calibration_levels", "calibration_due"):
            self._database.execute(
                f"DELETE FROM {table} WHERE device NOT IN (SELECT value FROM json_each(?))",  # noqa: S608 - our tables
                (names,),
            )

    def _one(self, where: str, values: tuple[object, ...]) -> Asked | None:
        return next(iter(self._read(f"{where} ORDER BY number DESC LIMIT 1", values)), None)

    def _read(self, where: str, values: tuple[object, ...]) -> list[Asked]:
        query = f"SELECT {_COLUMNS} FROM recalibrations WHERE {where}"  # noqa: S608 - our own words
        return [_asked(row) for row in self._database.execute(query, values).fetchall()]


def _asked(row: tuple[Any, ...]) -> Asked:
    number, nonce, device, reason, asked, proposed, withheld, state, since, answer, routine = row
    return Asked(
        number,
        nonce,
        device,
        reason,
        asked,
        json.loads(proposed),
        json.loads(withheld),
        state,
        since,
        _decoder.decode(answer) if answer else None,
        bool(routine),
    )
