"""Moving actuators aside: a driver may take its time or never come back, and a worker has other things to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from quietfleet.actuators.drivers import Driver
from quietfleet.errors import ActuatorFailed

WITHIN: Final = 5.0
"""Seconds after which a driver that has not come back counts as failed."""
HANGS: Final = "its driver does not come back"


class Motion:
    """One call of a driver, in a thread of its own that nothing waits for."""

    def __init__(self, driver: Driver, value: float, now: float) -> None:
        self.value = value
        self.read: float | None = None
        self.fault = ""
        self._driver = driver
        self._begun = now
        self._over = threading.Event()
        threading.Thread(target=self._move, name="actuator", daemon=True).start()

    @property
    def over(self) -> bool:
        """Whether the driver came back; then either `read` or `fault` says how."""
        return self._over.is_set()

    def hangs(self, now: float) -> bool:
        """Whether it should have come back by now."""
        return not self.over and abs(now - self._begun) > WITHIN

    def wait(self, seconds: float) -> bool:
        """Wait for the driver, so long at most; tell whether it came back."""
        return self._over.wait(seconds)

    def _move(self) -> None:
        try:
            self.read = self._driver.set(self.value)
        except ActuatorFailed as error:
            self.fault = error.words or "failed"
        except Exception as error:  # noqa: BLE001 - whatever a driver does, it is a failure of that driver
            self.fault = type(error).__name__
        finally:
            self._over.set()


Start = Callable[[Driver, float, float], Motion]
"""Begins a motion: a driver, a value, and the time."""
