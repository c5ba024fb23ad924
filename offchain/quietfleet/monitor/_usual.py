"""What is usual for one device beside others, and what that was learned from: all that is kept of their readings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from quietfleet.monitor.drift import FeatureBaseline


@dataclass(frozen=True, slots=True)
class Basis:
    """What a device's usual distance was learned from, so that more of it can be added (`monitor.growth`).

    `days` so far, mean and sigma of the device's own readings, the largest percent each window has shown; and of the
    first days alone what they fixed for good: how far from the site, how far a shift of one sigma shows, the limits.
    """

    days: float
    mean: float
    std: float
    seen: tuple[float, ...]
    level: float
    unit: float
    limits: tuple[float, ...]

    def to_plain(self) -> dict[str, Any]:
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"seen": list(self.seen), "limits": list(self.limits)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild what `to_plain` made."""
        days, mean, std, level, unit = (float(plain[name]) for name in ("days", "mean", "std", "level", "unit"))
        return cls(days, mean, std, tuple(plain["seen"]), level, unit, tuple(plain["limits"]))


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual for one device in one channel.

    What its readings are divided by to be of the site's size (`_gains`), and in that size its offsets from the site by
    hour (UTC), the distances left then, how far from those a shift of one sigma shows; and a limit for each window, in
    percent of that. `turn` is where an angle begins anew, 0 of all else; `rest` what all read when there is nothing to
    read, None if there is no such time.
    """

    hours: tuple[float, ...]
    sketch: FeatureBaseline
    unit: float
    limits: tuple[float, ...]
    basis: Basis
    gain: float = 1.0
    turn: float = 0.0
    rest: float | None = None

    def to_plain(self) -> dict[str, Any]:
        plain = {"hours": list(self.hours), "sketch": self.sketch.to_plain(), "basis": self.basis.to_plain()}
        kind = {"gain": self.gain, "turn": self.turn, "rest": self.rest}
        return plain | {"unit": self.unit, "limits": list(self.limits)} | kind

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild what `to_plain` made."""
        sketch, basis = FeatureBaseline.from_plain(plain["sketch"]), Basis.from_plain(plain["basis"])
        gain, turn, rest = float(plain.get("gain", 1.0)), float(plain.get("turn", 0.0)), plain.get("rest")
        hours, limits = tuple(plain["hours"]), tuple(plain["limits"])
        return cls(hours, sketch, float(plain["unit"]), limits, basis, gain, turn, rest)
