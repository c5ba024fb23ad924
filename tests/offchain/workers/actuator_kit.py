"""Actuators for tests: files in a folder, and drivers that come back when the test says so."""

from __future__ import annotations

from quietfleet.errors import ActuatorFailed
from quietfleet.settings import ActuatorSection


def fan(**changes):
    """A fan of 0 to 100 %, off when nobody says anything."""
    given = {"name": "fan", "low": 0.0, "high": 100.0, "safe": 0.0, "rest": 0.0, "hold": 600.0, "unit": "%"}
    return ActuatorSection(**{**given, "file": "fan", **changes})


class Moved:
    """A motion that is over at once."""

    def __init__(self, driver, value, _now):
        self.value, self.read, self.fault, self.over = value, None, "", True
        try:
            self.read = driver.set(value)
        except ActuatorFailed as error:
            self.fault = error.words

    def hangs(self, _now):
        return False

    def wait(self, _seconds):
        return True


class Hanging(Moved):
    """A motion whose driver does not come back before the test says so."""

    def __init__(self, _driver, value, now):
        self.value, self.read, self.fault, self.over = value, None, "", False
        self._begun = now

    def hangs(self, now):
        return not self.over and now - self._begun > 5

    def wait(self, _seconds):
        return self.over
