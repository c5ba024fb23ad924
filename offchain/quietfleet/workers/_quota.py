"""How many readings of one device are kept, lest it fill the week or take all the time that is there to look at it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from quietfleet.workers.messages import Rows

if TYPE_CHECKING:
    from quietfleet.storage import TimeSeries

APART: Final = 30.0
"""Seconds of data time of which one reading is kept, the first that came: what is judged, forecast and learned from
goes by the hour, or by minutes, and a faster sensor is thinned out evenly."""


def within(week: TimeSeries, device: str, rows: Rows) -> Rows:
    """Leave out readings of spans that have one already; those that are kept already stay among them."""
    taken: set[float] = set()
    kept: Rows = []
    for at, fields in rows:
        span = at // APART
        if week.count(device, at, math.nextafter(at, math.inf)):
            kept.append((at, fields))
        elif span not in taken and not week.count(device, span * APART, (span + 1) * APART):
            kept.append((at, fields))
            taken.add(span)
    return kept
