"""How many readings of one device are kept, lest it fill the week or take all the time that is there to look at it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from quietfleet.workers.messages import Rows

if TYPE_CHECKING:
    from quietfleet.storage import TimeSeries

HOUR: Final = 3600.0
MOST_HOURLY: Final = 120
"""Readings of one hour of data time; what is judged, forecast and learned from goes by the hour, or by minutes."""


def within(week: TimeSeries, device: str, rows: Rows) -> Rows:
    """Leave out readings of hours that are full; those that are kept already stay among them."""
    room: dict[float, int] = {}
    kept: Rows = []
    for at, fields in rows:
        hour = at // HOUR
        if hour not in room:
            room[hour] = MOST_HOURLY - week.count(device, hour * HOUR, (hour + 1) * HOUR)
        new = not week.count(device, at, math.nextafter(at, math.inf))
        if not new or room[hour] > 0:
            kept.append((at, fields))
            room[hour] -= new
    return kept
