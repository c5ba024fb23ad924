"""A worker's alarms, in its database: what is open, what a person said about it, and what was over of late."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from quietfleet.errors import MonitorError
from quietfleet.monitor.alarms import Alarm, Seen, State
from quietfleet.monitor.rules import Action, Rules
from quietfleet.storage import Database

MOST_OPEN: Final = 32  # of one device
MOST_HOURLY: Final = 60  # raised of one device in an hour of the clock, which one that flaps would fill the trail with
HOUR: Final = 3600.0
KEPT: Final = 7 * 86_400.0  # seconds of data time an alarm is kept when it is over

_SCHEMA = [
    """CREATE TABLE alarms (
       number INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, cause TEXT NOT NULL, channel TEXT NOT NULL,
       over INTEGER NOT NULL, until REAL NOT NULL, raised REAL NOT NULL, body BLOB NOT NULL) STRICT""",
    "CREATE UNIQUE INDEX alarms_open ON alarms (device, cause, channel) WHERE over = 0",
]


class Turn(NamedTuple):
    """What changed with the last look: alarms raised, and those that are over."""

    raised: tuple[Alarm, ...] = ()
    ended: tuple[Alarm, ...] = ()
    dropped: int = 0


class Alarms:
    """The ledger of one worker's alarms, in the caller's transaction."""

    def __init__(self, database: Database, *, create: bool = True) -> None:
        self._database = database
        if create:
            database.migrate("alarms", _SCHEMA)

    def see(
        self, device: str, causes: frozenset[str], found: Iterable[Seen], rules: Rules, *, now: float, end: bool = True
    ) -> Turn:
        """Take in all that was found of a device among these causes; what was, and is not, is over, unless not `end`.

        `now` is Unix seconds of the clock.
        """
        seen = {(one.cause, one.channel): one for one in found}
        known = {(one.cause, one.channel): one for one in self.open(device) if one.cause in causes}
        raised: list[Alarm] = []
        dropped, room = 0, min(MOST_OPEN - len(self.open(device)), MOST_HOURLY - self._raised(device, now - HOUR))
        for key, one in seen.items():
            if key in known:
                again = known[key].again(one)
                if again != known[key]:  # a disk is not written each second for nothing
                    self._write(again)
            elif len(raised) < room:
                raised.append(self._raise(device, one, rules, now))
            else:
                dropped += 1
        over = [alarm for key, alarm in known.items() if key not in seen] if end else []
        ended = [self._write(alarm.ended()) for alarm in over]
        return Turn(tuple(raised), tuple(ended), dropped)

    def open(self, device: str | None = None) -> list[Alarm]:
        """Return the alarms that are not over, of one device or of all, oldest first."""
        sql = "SELECT number, body FROM alarms WHERE over = 0 AND (? IS NULL OR device = ?) ORDER BY number"
        return [_alarm(*row) for row in self._database.execute(sql, (device, device)).fetchall()]

    def all(self) -> list[Alarm]:
        """Return what is open and what was over of late, oldest first."""
        return [_alarm(*row) for row in self._database.execute("SELECT number, body FROM alarms ORDER BY number")]

    def newest(self, device: str) -> float:
        """Up to which moment of data time its newest alarm lasted; 0 if none is kept."""
        sql = "SELECT coalesce(max(until), 0) FROM alarms WHERE device = ?"
        return float(self._database.execute(sql, (device,)).fetchone()[0])

    def get(self, number: int) -> Alarm:
        """Return an alarm by its number; `MonitorError`."""
        row = self._database.execute("SELECT number, body FROM alarms WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise MonitorError(f"there is no alarm {number}")
        return _alarm(*row)

    def change(self, number: int, change: Callable[[Alarm], Alarm]) -> Alarm:
        """Have a person's word take effect; `MonitorError`."""
        return self._write(change(self.get(number)))

    def actions(self, device: str) -> frozenset[Action]:
        """Return all that is being done about a device."""
        return frozenset(one for alarm in self.open(device) for one in alarm.done)

    def verified(self) -> frozenset[str]:
        """Return the devices whose drift a person has confirmed."""
        known = self.open()
        return frozenset(one.device for one in known if one.state is State.APPROVED and Action.VERIFY in one.actions)

    def forget(self, today: float) -> int:
        """Erase what has long been over, by data time; return how many."""
        sql = "DELETE FROM alarms WHERE over = 1 AND until < ?"
        return self._database.execute(sql, (today - KEPT,)).rowcount

    def _raise(self, device: str, seen: Seen, rules: Rules, now: float) -> Alarm:
        actions = rules.actions(seen.cause, seen.channel, count=seen.count, lasting=seen.until - seen.since)
        alarm = Alarm(
            number=0,
            device=device,
            cause=seen.cause,
            channel=seen.channel,
            since=seen.since,
            until=seen.until,
            raised=now,
            count=seen.count,
            detail=seen.detail,
            sure=seen.sure,
            actions=actions,
        )
        row = (device, seen.cause, seen.channel, seen.until, now, msgspec.msgpack.encode(alarm))
        sql = "INSERT INTO alarms (device, cause, channel, over, until, raised, body) VALUES (?, ?, ?, 0, ?, ?, ?)"
        number = self._database.execute(sql, row).lastrowid
        return msgspec.structs.replace(alarm, number=number or 0)

    def _raised(self, device: str, since: float) -> int:
        sql = "SELECT count(*) FROM alarms WHERE device = ? AND raised > ?"
        return int(self._database.execute(sql, (device, since)).fetchone()[0])

    def _write(self, alarm: Alarm) -> Alarm:
        row = (alarm.state is State.ENDED, alarm.until, msgspec.msgpack.encode(alarm), alarm.number)
        self._database.execute("UPDATE alarms SET over = ?, until = ?, body = ? WHERE number = ?", row)
        return alarm


def _alarm(number: int, body: bytes) -> Alarm:
    return msgspec.structs.replace(msgspec.msgpack.decode(body, type=Alarm), number=number)
