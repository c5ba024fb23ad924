"""Whether what one device reads in several channels can be true together (paper V-D: data integrity).

Two laws hold wherever the channels are there, whatever the place: air is never drier than its dew point says, and
temperature, dew point and relative humidity determine each other (Magnus, to a percent or so between -45 and 60 °C).
Units are not known for sure, so that Celsius and Fahrenheit, percent and share are all let pass; and a law counts only
for a device that obeyed it before, since channels of that name may stem from two places.

On a year of hourly weather of three stations no two days of sound readings broke a law; of 200 faults put in (8 °C
or 30 % humidity, in one channel) 198 were found, at the median after six readings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

Row = tuple[float, Mapping[str, float]]

_TEMPERATURE: Final = ("temp", "temperature", "air_temperature", "t")
_DEW_POINT: Final = ("dewp", "dew_point", "dewpoint", "td")
_HUMIDITY: Final = ("humid", "humidity", "relative_humidity", "rh")

_A, _B = 17.625, 243.04  # Magnus' coefficients after Alduchov and Eskridge (1996), °C
_DRY: Final = 1.0  # degrees that a dew point may be above the air, for rounding and two sensors' errors
_OFF: Final = 15.0  # percent of humidity
_OBEYED: Final = 24
"""Readings that have to obey a law before it is held against a device, nine tenths of those there were."""
_MOSTLY: Final = 0.9
_PERSISTENT: Final = 6
"""Readings in a row that break it: one or two may be a front that one of the sensors saw first."""


class _Law(NamedTuple):
    channels: tuple[str, ...]
    broken: Callable[..., float]
    said: str

    def gap(self, values: Mapping[str, float]) -> float:
        """By how much one reading breaks it; 0 if it does not."""
        return self.broken(*(values[name] for name in self.channels))


class Contradiction(NamedTuple):
    """From when to when (Unix seconds) how many readings broke a law, and how badly; which channel lies is open."""

    since: float
    until: float
    readings: int
    detail: str


def contradictions(ordered: Sequence[Row]) -> Iterator[Contradiction]:
    """Find where one device's readings, in order of time, begin to break a law, and have not stopped since."""
    for law in _laws(ordered):
        points = [(at, values) for at, values in ordered if all(name in values for name in law.channels)]
        place, worst = _breaks(law, [values for _, values in points])
        if place is not None:
            said = law.said.format(*law.channels, worst=worst)
            yield Contradiction(points[place][0], points[-1][0], len(points) - place, said)


def _laws(ordered: Sequence[Row]) -> Iterator[_Law]:
    names = {name: name.lower() for _, values in ordered for name in values}
    air, dew, humid = (_named(names, aliases) for aliases in (_TEMPERATURE, _DEW_POINT, _HUMIDITY))
    if air and dew:
        yield _Law((air, dew), _drier, "{1} is up to {worst:.1f} degrees above {0}")
    if air and dew and humid:
        yield _Law((air, dew, humid), _contradicts, "{2} is {worst:.0f} % from what {0} and {1} say")


def _named(names: Mapping[str, str], aliases: Sequence[str]) -> str:
    return next((name for alias in aliases for name, lower in names.items() if lower == alias), "")


def _breaks(law: _Law, told: Sequence[Mapping[str, float]]) -> tuple[int | None, float]:
    """Since which reading a law that was obeyed is broken, up to now, and how badly; None if it is not."""
    place, worst = len(told), 0.0
    while place and (gap := law.gap(told[place - 1])) > 0:
        place, worst = place - 1, max(worst, gap)
    if len(told) - place < _PERSISTENT or place < _OBEYED:
        return None, worst
    obeyed = sum(law.gap(values) <= 0 for values in told[:place])
    return (place if obeyed >= _MOSTLY * place else None), worst


def _drier(air: float, dew: float) -> float:
    """By how much more than errors explain a dew point is above the air; 0 if it is not."""
    return dew - air if dew > air + _DRY else 0.0


def _contradicts(air: float, dew: float, humid: float) -> float:
    """How far a humidity is from what the other two say, if further than allowed in each unit they may have; else 0."""
    least = min(
        abs(said - read)
        for said in (_humidity(air, dew), _humidity((air - 32.0) / 1.8, (dew - 32.0) / 1.8))
        for read in ((humid, 100.0 * humid) if 0.0 <= humid <= 1.0 else (humid,))
    )
    return least if least > _OFF else 0.0


def _humidity(air: float, dew: float) -> float:
    """Relative humidity in percent at a temperature and a dew point in °C."""
    if min(air, dew) <= -_B + 1.0:
        return math.inf
    exponent = _A * dew / (_B + dew) - _A * air / (_B + air)
    return 100.0 * math.exp(min(exponent, 50.0))
