"""What of a sensor's readings goes up: a sound device's, a day old, fields that the operator names, values that can be.

What nobody named stays here (paper V-C: processing at the edge, so that what is private does not leave it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from quietfleet.monitor.integrity import DEFAULT_RULES, ChannelRules, rules_with
from quietfleet.workers.messages import Rows, Stored, Upload

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from quietfleet.storage import TimeSeries
    from quietfleet.workers._devices import Devices
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._uplink import Uplink

HOUR: Final = 3600.0
HOLD: Final = 24 * HOUR
"""Data time that readings wait before they go up, so that a fault is noticed before it is learned from."""
MOST: Final = 240  # readings of one message


class Uploads:
    """Sends every sound device's next readings up; in the caller's transaction."""

    def __init__(self, runtime: Runtime, week: TimeSeries, devices: Devices, uplink: Uplink) -> None:
        self._runtime = runtime
        self._week = week
        self._devices = devices
        self._uplink = uplink
        self._named = frozenset(runtime.settings.processor.uploads)
        self._rules = rules_with(runtime.settings.data.channels)

    def tick(self) -> None:
        """Send what is due, once the day after it has been looked at as well."""
        for device, since in self._devices.sound():
            pseudonym = self._devices.pseudonym(device)
            rows = self._settled(device, since) if self._uplink.free(pseudonym) else []
            if rows:
                self._send(pseudonym, rows)
                self._devices.uploaded(device, rows[-1][0] + 1)

    def rewind(self, upload: Upload) -> None:
        """An upload found no answer: take it again from its first row."""
        first = upload.rows[0][0]
        for device, since in self._devices.sound():
            if self._devices.pseudonym(device) == upload.device and since > first:
                self._devices.uploaded(device, first)

    def _settled(self, device: str, since: float) -> Rows:
        rows: Rows = self._week.window(device, since, self._runtime.data_clock.now() + HOUR)
        return [row for row in rows if row[0] < rows[-1][0] - HOLD][:MOST]

    def _send(self, pseudonym: str, rows: Rows) -> None:
        kept = cleaned(rows, self._named, self._rules)
        withheld = sum(len(fields) for _, fields in rows) - sum(len(fields) for _, fields in kept)
        if withheld:
            self._runtime.metrics.count("fields_withheld", withheld)
        if kept:
            self._uplink.ask(pseudonym, Upload(pseudonym, self._runtime.settings.processor.site, kept), Stored)


def cleaned(rows: Rows, named: AbstractSet[str], rules: Mapping[str, ChannelRules] = DEFAULT_RULES) -> Rows:
    """Leave out fields that are not named, values that there cannot be, and readings of which nothing is left."""
    kept = [
        (at, {name: value for name, value in fields.items() if name in named and _can_be(rules.get(name), value)})
        for at, fields in rows
    ]
    return [(at, fields) for at, fields in kept if fields]


def _can_be(rules: ChannelRules | None, value: float) -> bool:
    return rules is None or rules.low <= value <= rules.high
