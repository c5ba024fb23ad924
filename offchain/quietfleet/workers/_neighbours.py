"""What is usual between the devices of one processor: learned once from a week in which all was well, and kept.

Three devices of one place and seven days of them are the least (`monitor.peers`). A device that came later has
no part in it until the others and it have had such a week together; until then the model's baseline has to do, which
sees less. A correction by its neighbours brings a device back to its usual distance, so that this stays as it was;
where a person agrees that a device is meant to be elsewhere now, it is learned anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from quietfleet.clock import waits
from quietfleet.crypto import derive
from quietfleet.errors import CryptoError, MonitorError
from quietfleet.monitor import DEFAULT_RULES, PeerReference
from quietfleet.monitor.integrity import Row
from quietfleet.monitor.peers import MINIMUM_DEVICES
from quietfleet.storage import SealedColumn

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._state import State

DAY: Final = 86_400.0
LEARN_EVERY: Final = DAY / 4  # data time between two tries
ANEW: Final = 28 * DAY  # data time after which what is usual is learned anew, since seasons change that too
_STATE: Final = "neighbours"


class _Kept(msgspec.Struct, frozen=True):
    learned: float
    devices: dict[str, Any]


class Neighbours:
    """Keeps the reference, sealed; in the caller's transaction."""

    def __init__(self, runtime: Runtime, state: State) -> None:
        self._state = state
        secret = derive(runtime.identity.to_bytes(), "storage", b"neighbours")
        self._sealed = SealedColumn(secret, "state.neighbours", random=runtime.random)
        self._learned, self.reference = self._read()
        self._due = 0.0

    def learn(self, sound: Collection[str], rows_of: Callable[[str], Sequence[Row]], now: float) -> None:
        """Learn what is usual between these devices, if there is anything new to learn; `now` is data time."""
        known = set(self.reference.devices) if self.reference else set()
        fresh = now < self._learned + ANEW
        if len(sound) < MINIMUM_DEVICES or (fresh and known >= set(sound)) or waits(now, self._due, LEARN_EVERY):
            return
        self._due = now + LEARN_EVERY
        readings = {device: rows_of(device) for device in sound}
        channels = _common(readings)
        if not channels:
            return
        try:
            found = PeerReference.fit(readings, channels)
        except MonitorError:
            return  # not enough of a week together yet
        self._keep(now, found)

    def forget(self, device: str) -> None:
        """Forget what was usual for a device: it is learned from its next week."""
        if self.reference is not None and device in self.reference.devices:
            rest = {name: usual for name, usual in self.reference.devices.items() if name != device}
            self._keep(self._learned, PeerReference(rest))

    def recover(self) -> None:
        """Take back what a rollback has undone."""
        self._learned, self.reference = self._read()

    def _keep(self, learned: float, reference: PeerReference) -> None:
        self._learned, self.reference = learned, reference
        kept = msgspec.msgpack.encode(_Kept(learned, reference.to_plain()))
        self._state.set(_STATE, self._sealed.seal(kept, row=_STATE.encode()).hex())

    def _read(self) -> tuple[float, PeerReference | None]:
        kept = self._state.get(_STATE)
        if kept is None:
            return 0.0, None
        try:
            body = self._sealed.open(bytes.fromhex(kept), row=_STATE.encode())
            found = msgspec.msgpack.decode(body, type=_Kept)
            return found.learned, PeerReference.from_plain(found.devices)
        except (CryptoError, msgspec.MsgspecError, KeyError, TypeError, ValueError):
            return 0.0, None  # of an earlier version: it is learned anew


def _common(readings: Mapping[str, Sequence[Row]]) -> list[str]:
    """The channels that all of them have, of those whose resolution is known."""
    have = [{name for _, fields in rows for name in fields} for rows in readings.values()]
    return sorted(set.intersection(*have) & DEFAULT_RULES.keys()) if have else []
