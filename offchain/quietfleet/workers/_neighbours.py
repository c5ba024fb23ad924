"""What is usual between the devices of one processor: learned from a week in which all was well, grown to a month.

Three devices of one place and seven days of them are the least (`monitor.peers`). A device that came later has
no part in it until the others and it have had such a week together; until then the model's baseline has to do, which
sees less. The week's readings go, what they said of distances stays and more is added to it (`monitor.growth`), but
only of days in which nothing was found of a device. A correction by its neighbours brings a device back to its usual
distance, so that this stays as it was; where a person agrees that a device is meant to be elsewhere now, it is learned
anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from quietfleet.clock import waits
from quietfleet.crypto import derive
from quietfleet.errors import CryptoError, MonitorError
from quietfleet.monitor import ChannelRules, PeerReference
from quietfleet.monitor.growth import SETTLED, STEP, grow, join
from quietfleet.monitor.integrity import Row, rules_with
from quietfleet.monitor.peers import MINIMUM_DEVICES
from quietfleet.storage import SealedColumn

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._state import State

DAY: Final = 86_400.0
LEARN_EVERY: Final = DAY / 4  # data time between two tries
_STATE: Final = "neighbours"


class _Kept(msgspec.Struct, frozen=True):
    grown: float  # data time up to which there is nothing to add
    devices: dict[str, Any]


class Neighbours:
    """Keeps the reference, sealed; in the caller's transaction."""

    def __init__(self, runtime: Runtime, state: State) -> None:
        self._state = state
        self._rules = rules_with(runtime.settings.data.channels)
        secret = derive(runtime.identity.to_bytes(), "storage", b"neighbours")
        self._sealed = SealedColumn(secret, "state.neighbours", random=runtime.random)
        self._grown, self.reference = self._read()
        self._due = 0.0

    def learn(
        self,
        sound: Collection[str],
        rows_of: Callable[[str], Sequence[Row]],
        now: float,
        *,
        accused: Callable[[str, float], bool] = lambda _device, _since: False,
    ) -> None:
        """Learn what is usual between these devices, and more of it as days go by; `now` is data time.

        `accused` says whether anything was found of a device since a moment: such days are nobody's usual.
        """
        if len(sound) < MINIMUM_DEVICES or waits(now, self._due, LEARN_EVERY):
            return
        self._due = now + LEARN_EVERY
        known = set(self.reference.devices) if self.reference else set()
        if not known >= set(sound):
            self._meet({device: rows_of(device) for device in sound}, now)
        if self.reference is not None and now >= self._grown + STEP + SETTLED:
            since = max(self._grown, now - STEP - SETTLED)
            readings = {device: rows_of(device) for device in sound if not accused(device, since)}
            self._keep(since + STEP, grow(self.reference, readings, since=since, now=now, rules=self._rules))

    def forget(self, device: str) -> None:
        """Forget what was usual for a device: it is learned from its next week."""
        if self.reference is not None and device in self.reference.devices:
            rest = {name: usual for name, usual in self.reference.devices.items() if name != device}
            self._keep(self._grown, PeerReference(rest))

    def recover(self) -> None:
        """Take back what a rollback has undone."""
        self._grown, self.reference = self._read()

    def _meet(self, readings: Mapping[str, Sequence[Row]], now: float) -> None:
        """Learn of whom nothing is known yet, from a week together with the others."""
        channels = common(readings.values(), self._rules)
        try:
            found = PeerReference.fit(readings, channels, rules=self._rules) if channels else None
        except MonitorError:
            return  # not enough of a week together yet
        if found is not None and self.reference is not None:
            self._keep(self._grown, join(self.reference, found))
        elif found is not None:
            self._keep(now, found)

    def _keep(self, grown: float, reference: PeerReference) -> None:
        self._grown, self.reference = grown, reference
        kept = msgspec.msgpack.encode(_Kept(grown, reference.to_plain()))
        self._state.set(_STATE, self._sealed.seal(kept, row=_STATE.encode()).hex())

    def _read(self) -> tuple[float, PeerReference | None]:
        kept = self._state.get(_STATE)
        if kept is None:
            return 0.0, None
        try:
            body = self._sealed.open(bytes.fromhex(kept), row=_STATE.encode())
            found = msgspec.msgpack.decode(body, type=_Kept)
            return found.grown, PeerReference.from_plain(found.devices)
        except (CryptoError, msgspec.MsgspecError, KeyError, TypeError, ValueError):
            return 0.0, None  # of an earlier version: it is learned anew


def common(readings: Iterable[Sequence[Row]], rules: Mapping[str, ChannelRules]) -> list[str]:
    """The channels that all of them have, of those of which it is known what they may read."""
    have = [{name for _, fields in rows for name in fields} for rows in readings if rows]
    return sorted(set.intersection(*have) & rules.keys()) if have else []
