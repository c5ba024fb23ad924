"""Time as a parameter: real for running fleets, settable for tests, accelerated for replayed data."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Anything that tells the time in Unix seconds."""

    def now(self) -> float:
        """Return the current time in seconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return the machine's time in Unix seconds."""
        return time.time()


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        """Return the time last set, in Unix seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self._now += seconds


class ReplayClock:
    """The time of a recording: `start` (Unix seconds) at the real time `epoch`, then `speed` times as fast."""

    def __init__(self, real: Clock, start: float, epoch: float, speed: float) -> None:
        self._real = real
        self._start = start
        self._epoch = epoch
        self._speed = speed

    def now(self) -> float:
        """Return the recording's time in Unix seconds; it stands still before `epoch`."""
        return self._start + max(0.0, self._real.now() - self._epoch) * self._speed


def waits(now: float, due: float, period: float) -> bool:
    """Whether something that is done every `period` seconds is not due yet.

    A clock that was set back does not hold it up: what is due later than a period from now was put off by another time.
    """
    return due - period <= now < due
