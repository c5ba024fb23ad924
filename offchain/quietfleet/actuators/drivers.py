"""What moves: a file that the kernel shows for a device, or a simulation that readings feel.

A driver may block and may fail; whoever calls it does so aside.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from quietfleet.errors import ActuatorFailed
from quietfleet.settings import ActuatorSection

_MOST: Final = 64  # bytes that a value takes in a file


class Driver(Protocol):
    """Something that can be set to a value in its own unit, and read."""

    def set(self, value: float) -> float:
        """Go there, and return where it is then; `ActuatorFailed`."""


class FileDriver:
    """An actuator behind a file, as sysfs shows PWM, GPIO and hwmon: a decimal number that is written and read.

    What is written is `value` times `scale`, with so many `digits`. The file must be there: a wrong path is a fault,
    and no new file.
    """

    def __init__(self, path: Path, scale: float = 1.0, digits: int = 3) -> None:
        self._path = path
        self._scale = scale
        self._digits = digits

    def set(self, value: float) -> float:
        """Write unless it is there already, and read back; what reads otherwise than was written is a failure."""
        wanted = f"{value * self._scale:.{self._digits}f}"
        tolerance = 0.5 * 10.0**-self._digits
        try:
            if not self._near(float(wanted), tolerance):
                self._write(wanted)
            if not self._near(float(wanted), tolerance):
                raise ActuatorFailed("it reads back otherwise than was written")
        except OSError as error:
            raise ActuatorFailed(os.strerror(error.errno) if error.errno else "it cannot be used") from error
        return float(wanted) / self._scale

    def _near(self, wanted: float, tolerance: float) -> bool:
        with self._path.open("rb") as file:
            text = file.read(_MOST)
        try:
            return abs(float(text) - wanted) <= tolerance
        except ValueError:
            return False  # empty, or not written yet

    def _write(self, text: str) -> None:
        place = os.open(self._path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(place, text.encode() + b"\n")
        finally:
            os.close(place)


class Simulated:
    """An actuator that is not there: a channel of the readings feels it as a first-order lag, of data time.

    It moves the channel by `gain` a unit away from the safe value, two thirds of the way after `lag` seconds.
    """

    def __init__(self, section: ActuatorSection, clock: Callable[[], float]) -> None:
        self.channel = section.effect
        self._section = section
        self._clock = clock
        self._value = section.safe
        self._felt, self._since = 0.0, clock()

    def set(self, value: float) -> float:
        """Go there at once; nothing can go wrong."""
        self.felt(self._clock())
        self._value = value
        return value

    def felt(self, at: float) -> float:
        """Return by how much the channel is moved at a moment of data time, none of which is before the last."""
        aim = self._section.gain * (self._value - self._section.safe)
        passed = max(0.0, at - self._since)
        self._felt = aim + (self._felt - aim) * math.exp(-passed / self._section.lag)
        self._since = max(self._since, at)
        return self._felt
