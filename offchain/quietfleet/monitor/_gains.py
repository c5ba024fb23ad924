"""How strongly each device follows its site: two roofs in one sun make power in proportion, not a fixed amount apart.

A device in the lee of a house reads half of the wind, a small panel a third of the power: taken for an offset, that
would be a drift whenever the site itself reads much more, or much less, than usual. So each reading is divided by the
device's gain first, where it has one: where the site's readings come down to zero and not below it, as degrees do not,
where level and swings of the device are as much smaller or larger than the site's, and where the gain tells other days
better than none does.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from quietfleet.monitor._site import hourly, level, site_median
from quietfleet.monitor.drift import Array

_BETTER: Final = 0.8
"""What a gain leaves unexplained on days it was not taken from, of what is left without one, to be believed."""
_ALIKE: Final = 1.25
"""How many times the gain of the level may be that of the swings around it."""
_ZERO: Final = (-0.05, 0.1)
"""Within what share of its largest readings a quantity's least ones are that has a zero of its own."""
_RARE: Final = (0.01, 0.99)
_MOST: Final = 10.0  # times more or less than the site: what follows it so little, or so much, hardly does
_DAY: Final = 86_400.0


def gains(times: Array, grid: Array) -> Array:
    """Return the gain of each device from its readings [devices, t]; 1 where none shows."""
    site = site_median(grid)
    if not _has_zero(site[np.isfinite(site)]):
        return np.ones(len(grid))
    swings, middle = _swings(times, grid), _swings(times, site[None, :])[0]
    odd = (times // _DAY % 2).astype(bool)
    found = []
    for line, swing in zip(grid, swings, strict=True):
        known = np.isfinite(line) & np.isfinite(site)
        gain = _gain(swing[known], middle[known], odd[known])
        level_gain = _ratio(line[known], site[known])
        found.append(gain if gain / _ALIKE <= level_gain <= _ALIKE * gain else 1.0)
    return np.array(found)


def _has_zero(site: Array) -> bool:
    if not site.size:
        return False
    least, most = np.quantile(site, _RARE)
    return bool(_ZERO[0] * most <= least <= _ZERO[1] * most and most > 0)


def _swings(times: Array, grid: Array) -> Array:
    """What is left of readings once the usual day is taken off."""
    return level(grid, times, [hourly(times, line) for line in grid])


def _gain(line: Array, middle: Array, odd: npt.NDArray[np.bool_]) -> float:
    """The gain that all days show, if that of every other day tells the rest better than none; else 1."""
    if odd.all() or not odd.any():
        return 1.0
    for taken in (odd, ~odd):
        gain = _ratio(line[taken], middle[taken])
        left = np.abs(line[~taken] - gain * middle[~taken]).mean()
        if not gain or left > _BETTER * np.abs(line[~taken] - middle[~taken]).mean():
            return 1.0
    return _ratio(line, middle) or 1.0


def _ratio(line: Array, middle: Array) -> float:
    """How many times larger the one is than the other; 0 where that tells nothing."""
    if not line.size:
        return 0.0
    one, other = float(np.abs(line).mean()), float(np.abs(middle).mean())
    return one / other if other and 1 / _MOST <= one / other <= _MOST else 0.0
