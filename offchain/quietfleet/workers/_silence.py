"""Who has not been heard for hours of data time, told from our having been held up ourselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from quietfleet.clock import Clock

SILENT: Final = 4 * 3600.0  # of data time
QUIET: Final = 30.0  # seconds of the clock besides: what is on its way is not lost


class Moment(NamedTuple):
    """One moment by two clocks, Unix seconds."""

    clock: float
    data: float


class Silence:
    """Remembers when each device was heard last, while this process lives; one that was never, since it was here.

    One is silent after `limit` seconds of data time, and `QUIET` of the clock. What devices date their readings does
    not count, so none can speak for itself or against others ahead of its time.
    """

    def __init__(self, clock: Clock, data_clock: Clock, limit: float = SILENT) -> None:
        self._clock = clock
        self._data_clock = data_clock
        self._limit = limit
        self._heard: dict[str, Moment] = {}
        self._looked = clock.now()

    def came(self, device: str) -> None:
        """Note that a device was heard just now."""
        self._heard[device] = self._now()

    def anew(self) -> None:
        """Give everybody as much time again: who comes back does not come at one moment."""
        self._heard.clear()

    def silent(self, devices: Collection[str], every: float) -> frozenset[str]:
        """Return those of these devices that are silent; to be asked `every` so many seconds of the clock.

        Asked much later, we were held up ourselves, and what came meanwhile waits to be heard.
        """
        now = self._now()
        if not 0 <= now.clock - self._looked <= max(QUIET, 2 * every):
            self.anew()
        self._looked = now.clock
        self._heard = {device: self._heard.get(device, now) for device in devices}
        return frozenset(self._overdue(now))

    def _overdue(self, now: Moment) -> Iterable[str]:
        for device, heard in self._heard.items():
            if now.clock - heard.clock > QUIET and now.data - heard.data >= self._limit:
                yield device

    def _now(self) -> Moment:
        return Moment(self._clock.now(), self._data_clock.now())
