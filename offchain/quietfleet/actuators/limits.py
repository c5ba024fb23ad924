"""How far an actuator ever may be moved, whoever asks: its device's own word, checked there and nowhere else.

What is beyond a limit is refused whole. It is never cut down to what is allowed, since half of a command is not what
anybody meant; only its time is, because to be back at the safe value sooner is always allowed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from quietfleet.actuators.commands import Command
from quietfleet.settings import ActuatorSection

UNKNOWN: Final = "no such actuator"
BEYOND: Final = "beyond its limits"
TOO_FAR: Final = "too far at once"
TOO_SOON: Final = "too soon after the one before"
EXPIRED: Final = "expired"
_ROUNDING: Final = 1e-9


class Present(NamedTuple):
    """Where an actuator is meant to be, and when it was last sent somewhere (Unix seconds of the clock)."""

    value: float
    moved: float | None = None


def objection(limits: ActuatorSection, command: Command, present: Present, now: float) -> str:
    """Say why a command is refused; empty if it is not. One that changes nothing may come at any time."""
    if command.until <= now:
        return EXPIRED
    if not limits.low <= command.value <= limits.high:
        return BEYOND
    far = abs(command.value - present.value)
    if limits.step and far > limits.step + _ROUNDING:
        return TOO_FAR
    soon = present.moved is not None and abs(now - present.moved) < limits.rest
    return TOO_SOON if far > _ROUNDING and soon else ""


def until(limits: ActuatorSection, command: Command, now: float) -> float:
    """Return up to when a command is in force: no longer than its device holds any."""
    return min(command.until, now + limits.hold)
