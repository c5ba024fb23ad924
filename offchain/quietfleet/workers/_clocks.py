"""When readings come, against when devices say they read them: how a processor tells a wrong clock from a slow link."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median
from typing import Final

from quietfleet.clock import Clock
from quietfleet.monitor import Finding, clock_skew

KEPT: Final = 48  # of each device's newest readings
WITNESSES: Final = 2
ENOUGH: Final = 12  # of their readings
TOLERANCE: Final = 30.0  # seconds of the clock: what a busy machine or a link may take


class Arrivals:
    """Remembers when each device's readings came, while this process lives, and says whose clock is off.

    A device is held against its neighbours, so that what delays all of them is nobody's fault; of the two in the middle
    the one counts that speaks for it, so that no single other can have it accused.
    """

    def __init__(self, clock: Clock, data_clock: Clock) -> None:
        self._clock = clock
        self._data_clock = data_clock
        self._began = (clock.now(), data_clock.now())
        self._came: dict[str, deque[tuple[float, float]]] = {}

    def came(self, device: str, read_at: float) -> None:
        """Note that a reading came now (data time) which is said to be of then."""
        self._came.setdefault(device, deque(maxlen=KEPT)).append((read_at, self._data_clock.now()))

    def keep(self, devices: Iterable[str]) -> None:
        """Forget all devices but these."""
        wanted = set(devices)
        self._came = {device: each for device, each in self._came.items() if device in wanted}

    def forget(self, device: str) -> None:
        """Forget what came of a device: it has set its clock."""
        self._came.pop(device, None)

    def skew(self, device: str) -> Finding | None:
        """Say whether a device's clock is off; nothing while too few neighbours have told theirs."""
        own = self._came.get(device, ())
        others = sorted(_delay(each) for other, each in self._came.items() if other != device and len(each) >= ENOUGH)
        if not own or len(others) < WITNESSES:
            return None
        low, high = others[(len(others) - 1) // 2], others[len(others) // 2]
        usual = min(max(_delay(own), low), high)
        return clock_skew(list(own), usual=usual, tolerance=TOLERANCE * self._speed())

    def _speed(self) -> float:
        """How many seconds of data time pass in one of the clock."""
        passed = self._clock.now() - self._began[0]
        return max(1.0, (self._data_clock.now() - self._began[1]) / passed) if passed > 0 else 1.0


def _delay(arrivals: Iterable[tuple[float, float]]) -> float:
    return median(came - read for read, came in arrivals)
