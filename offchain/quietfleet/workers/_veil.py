"""The second veil: what a gateway calls the devices that processors bring, by other names in each retention window.

Theory of operation. Data time is cut into windows of whole days, at least as long as the retention. Each has a random
key, sealed in the database; a device's name in a window is keyed by it, and a reading goes by the name of the window
of its own time. So a reading that is sent again at the turn of a window has the name it had, and whoever has no key
cannot tell that two names of two windows are one device. As long as the gateway keeps both keys it can, in memory, and
joins them. When nothing from before a window's end is kept any more its key is erased, and with it the link for good.

Which processor brought which device is in a sealed row each, which names none of the device's names in any window.
"""

from __future__ import annotations

import hmac
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from quietfleet.crypto import derive
from quietfleet.errors import HoldInForce
from quietfleet.storage import Database, DeviceDay, Hold, Lake, Salts, SealedColumn
from quietfleet.workers._state import State

DAY: Final = 86_400
_BEFORE: Final = -1  # the window of an earlier version's names, which had one key for life
_KEY_BYTES: Final = 32
_NAME_BYTES: Final = 12
_SCHEMA: Final = (
    """
    CREATE TABLE veil_key (window INTEGER PRIMARY KEY, until REAL NOT NULL, key BLOB NOT NULL) STRICT;
    CREATE TABLE veil_device (mark BLOB PRIMARY KEY, processor BLOB NOT NULL, body BLOB NOT NULL)
        STRICT, WITHOUT ROWID;
    """,
)

Row = tuple[float, dict[str, float]]
Readings = dict[str, list[Row]]


class Device(msgspec.Struct, frozen=True):
    """Who brought a device, its name under that processor's veil, where it stands, the newest window it was seen in.

    Readings up to `restarted` (data time) are from before it was recalibrated; those from `doubted` on (0: none)
    drifted, and nobody has confirmed yet that they are right.
    """

    processor: str
    pseudonym: str
    site: str
    window: int
    restarted: float = 0.0
    doubted: float = 0.0


_decoder = msgspec.json.Decoder(Device)


class Veil:
    """The windows' keys and the devices behind the names; every change is made in the caller's transaction."""

    def __init__(
        self, database: Database, secret: bytes, retention: float, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """`secret` is the gateway's identity, `retention` in seconds of data time."""
        self._database = database
        self._state = State(database)
        self._length = math.ceil(retention / DAY) * DAY
        self._random = random
        self._former = derive(secret, "pseudonyms")
        self._marks = derive(secret, "storage", b"veil marks")
        self._sealed_keys = SealedColumn(derive(secret, "storage", b"veil keys"), "veil_key.key", random=random)
        self._sealed = SealedColumn(derive(secret, "storage", b"veil devices"), "veil_device.body", random=random)
        database.migrate("veil", _SCHEMA)

    # names

    def window(self, time: float) -> int:
        """Which window a moment of data time is in."""
        return int(time // self._length)

    def name(self, processor: str, pseudonym: str, window: int) -> str:
        """A device's name in a window, whose key is drawn when it is first asked for."""
        return _name(self._key(window), processor, pseudonym)

    def aliases(self, device: Device) -> dict[int, str]:
        """A device's names in every window whose key is kept."""
        return {window: _name(key, device.processor, device.pseudonym) for window, key in sorted(self._keys().items())}

    def others(self, name: str) -> list[str]:
        """Every name of the device that is called so in one of the windows; the name alone if it is nobody's."""
        found = self._behind(name)
        return [name] if found is None else list(self.aliases(found).values())

    def moved_in(self, devices: Iterable[str], now: float) -> None:
        """Take over names of an earlier version: they stand until the last reading under them is erased."""
        if not self._database.execute("SELECT 1 FROM veil_key").fetchone() and any(True for _ in devices):
            self._keep(_BEFORE, now + DAY, self._former)

    # devices

    def find(self, processor: str, pseudonym: str) -> Device | None:
        """Return what is known of a processor's device."""
        return self._read(self._mark(f"{processor}/{pseudonym}"))

    def saw(self, device: Device) -> None:
        """Take note of a device: its newest window and recalibration count, and where it stands now."""
        known = self.find(device.processor, device.pseudonym)
        if known is not None:
            newest, restarted = max(known.window, device.window), max(known.restarted, device.restarted)
            device = msgspec.structs.replace(device, window=newest, restarted=restarted, doubted=known.doubted)
        if device != known:
            self._write(device)

    def doubt(self, device: Device, since: float) -> None:
        """Take note from when on a device's readings are not to be learned from; 0: they may."""
        if since != device.doubted:
            self._write(msgspec.structs.replace(device, doubted=since))

    def _write(self, device: Device) -> None:
        mark = self._mark(f"{device.processor}/{device.pseudonym}")
        body = self._sealed.seal(msgspec.json.encode(device), row=mark)
        row = (mark, self._mark(device.processor), body)
        self._database.execute("INSERT OR REPLACE INTO veil_device VALUES (?, ?, ?)", row)

    def devices(self, processor: str | None = None) -> list[Device]:
        """Every device, or those of one processor, in no order that says anything."""
        mark = None if processor is None else self._mark(processor)
        rows = self._database.execute(
            "SELECT mark, body FROM veil_device WHERE ?1 IS NULL OR processor = ?1 ORDER BY mark", (mark,)
        )
        return [self._opened(mark, body) for mark, body in rows.fetchall()]

    def crowd(self, processor: str) -> int:
        """How many devices a processor has brought."""
        query = "SELECT count(*) FROM veil_device WHERE processor = ?"
        return int(self._database.execute(query, (self._mark(processor),)).fetchone()[0])

    def drop(self, device: Device) -> None:
        """Forget who brought a device, and where it stood."""
        mark = self._mark(f"{device.processor}/{device.pseudonym}")
        self._database.execute("DELETE FROM veil_device WHERE mark = ?", (mark,))

    def forget(self, name: str, now: float) -> list[str]:
        """Forget who brought a device; return all names under which something of it could come before `now`."""
        with self._database.transaction():
            names, device = self.others(name), self._behind(name)
            if device is not None:
                last = self.window(now)
                names += [self.name(device.processor, device.pseudonym, window) for window in (last - 1, last)]
                self.drop(device)
            for one in names:
                self._state.set(f"site:{one}", None)
            for key, known in self._state.starting("devices:").items():
                self._state.set(key, [one for one in known if one not in names])
        return list(dict.fromkeys(names))

    def prune(self, kept: Iterable[str], processor: str | None = None) -> None:
        """Forget devices of which no reading is kept under any name."""
        names = set(kept)
        for device in self.devices(processor):
            if names.isdisjoint(self.aliases(device).values()):
                self.drop(device)

    def sites(self) -> dict[str, str]:
        """Where each device stands, under each of its names."""
        former = {name.removeprefix("site:"): site for name, site in self._state.starting("site:").items() if site}
        named = {name: one.site for one in self.devices() if one.site for name in self.aliases(one).values()}
        return former | named

    # windows' ends

    def turn(self, kept_since: float) -> bool:
        """Erase the keys of windows from before the oldest reading still kept; return whether any was."""
        gone = [row[0] for row in self._database.execute("SELECT window FROM veil_key WHERE until <= ?", (kept_since,))]
        for window in gone:
            self._database.execute("DELETE FROM veil_key WHERE window = ?", (window,))
        if _BEFORE in gone:
            for name in [*self._state.starting("site:"), *self._state.starting("devices:")]:
                self._state.set(name, None)
        return bool(gone)

    # both sides of a turn

    def join(self, readings: Mapping[str, Sequence[Row]]) -> tuple[Readings, dict[str, str]]:
        """Put the readings of each device together under its newest name there; also say which name went into which."""
        into: dict[str, str] = {}
        for device in self.devices():
            present = [name for name in self.aliases(device).values() if name in readings]
            into.update(dict.fromkeys(present, present[-1]) if present else {})
        joined: dict[str, dict[float, dict[str, float]]] = {}
        for name, rows in readings.items():
            joined.setdefault(into.get(name, name), {}).update(rows)
        return {name: sorted(rows.items()) for name, rows in sorted(joined.items())}, into

    def under_all(self, readings: Mapping[str, Sequence[Row]]) -> Readings:
        """Give all readings of a device under each of its names: for whoever knows one from before a turn."""
        joined, into = self.join(readings)
        names = {into[name]: one for one in self.devices() for name in self.aliases(one).values() if name in into}
        also = {name: joined[main] for main, one in names.items() for name in self.aliases(one).values()}
        return joined | also

    def _behind(self, name: str) -> Device | None:
        return next((one for one in self.devices() if name in self.aliases(one).values()), None)

    def _keys(self) -> dict[int, bytes]:
        rows = self._database.execute("SELECT window, key FROM veil_key").fetchall()
        return {window: self._sealed_keys.open(key, row=b"%d" % window) for window, key in rows}

    def _key(self, window: int) -> bytes:
        row = self._database.execute("SELECT key FROM veil_key WHERE window = ?", (window,)).fetchone()
        if row is not None:
            return self._sealed_keys.open(row[0], row=b"%d" % window)
        key = self._random(_KEY_BYTES)
        self._keep(window, (window + 1.0) * self._length, key)
        return key

    def _keep(self, window: int, until: float, key: bytes) -> None:
        sealed = self._sealed_keys.seal(key, row=b"%d" % window)
        self._database.execute("INSERT INTO veil_key VALUES (?, ?, ?)", (window, until, sealed))

    def _mark(self, text: str) -> bytes:
        return hmac.digest(self._marks, text.encode(), "sha256")[:16]

    def _read(self, mark: bytes) -> Device | None:
        row = self._database.execute("SELECT body FROM veil_device WHERE mark = ?", (mark,)).fetchone()
        return self._opened(mark, row[0]) if row else None

    def _opened(self, mark: bytes, body: bytes) -> Device:
        return _decoder.decode(self._sealed.open(body, row=mark))


class JoinedSalts:
    """A store's salts for devices under their joined names: a day's salt lies under the name of the day's window."""

    def __init__(self, salts: Salts, veil: Veil) -> None:
        self._salts = salts
        self._veil = veil

    def make(self, wanted: Iterable[DeviceDay]) -> dict[DeviceDay, bytes]:
        """Return the salts of these, those that are not there drawn and kept."""
        places = self._places(wanted)
        made = self._salts.make(dict.fromkeys(places.values()))
        return {one: made[place] for one, place in places.items()}

    def read(self, wanted: Iterable[DeviceDay]) -> dict[DeviceDay, bytes]:
        """Return those of these that are still there."""
        places = self._places(wanted)
        found = self._salts.read(dict.fromkeys(places.values()))
        return {one: found[place] for one, place in places.items() if place in found}

    def _places(self, wanted: Iterable[DeviceDay]) -> dict[DeviceDay, DeviceDay]:
        names: dict[str, dict[int, str]] = {}
        for device in self._veil.devices():
            aliases = self._veil.aliases(device)
            names.update(dict.fromkeys(aliases.values(), aliases))
        return {one: (self._named(names.get(one[0], {}), one), one[1]) for one in wanted}

    def _named(self, aliases: Mapping[int, str], one: DeviceDay) -> str:
        name, day = one
        return name if aliases.get(_BEFORE) == name else aliases.get(self._veil.window(day * DAY), name)


def forget_device(lake: Lake, veil: Veil, name: str, *, now: float, who: str, why: str) -> int:
    """Erase everything a gateway keeps of a device under all its names, who brought it and where it stood.

    Raises `HoldInForce` when some of it stays, after the rest has gone.
    """
    erased: int = 0
    held: list[HoldInForce] = []
    for one in veil.forget(name, now):
        try:
            erased += lake.forget(one, now=now, who=who, why=why)
        except HoldInForce as error:
            held.append(error)
    if held:
        raise held[0]
    return erased


def hold_device(lake: Lake, veil: Veil, hold: Hold) -> None:
    """Put a hold in force for all names of its device."""
    names: list[str | None] = [None] if hold.device is None else [*veil.others(hold.device)]
    for number, name in enumerate(names):
        lake.hold(replace(hold, device=name, name=_part(hold.name, number)))


def lift_hold(lake: Lake, name: str, *, who: str, why: str) -> None:
    """Lift a hold, under all names it was put in force for."""
    lake.release_hold(name, who=who, why=why)
    for part in [one.name for one in lake.holds() if one.name.startswith(f"{name}+")]:
        lake.release_hold(part, who=who, why=why)


def carry_holds(lake: Lake, names: Sequence[str], new: str) -> None:
    """A device has a new name: what holds it under the others holds it under this one."""
    holds = lake.holds()
    if any(hold.device == new for hold in holds):
        return
    for hold in [one for one in holds if one.device in names and "+" not in one.name]:
        taken = {one.name for one in holds}
        free = next(part for part in _parts(hold.name) if part not in taken)
        lake.hold(replace(hold, device=new, name=free))


def _parts(name: str) -> Iterator[str]:
    number = 1
    while True:
        yield _part(name, number)
        number += 1


def _part(name: str, number: int) -> str:
    return f"{name}+{number}" if number else name


def _name(key: bytes, processor: str, pseudonym: str) -> str:
    return hmac.digest(key, f"{processor}/{pseudonym}".encode(), "sha256")[:_NAME_BYTES].hex()
