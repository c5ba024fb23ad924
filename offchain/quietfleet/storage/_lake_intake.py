"""Readings on their way into files: sealed rows, keyed marks of which there were, and of devices that are forgotten."""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from quietfleet.crypto import derive
from quietfleet.errors import StorageError
from quietfleet.storage._lake_index import DAY, Index
from quietfleet.storage._parquet import Reading
from quietfleet.storage._sealed import SealedColumn

_LAST_TIME: Final = 253_402_300_800.0  # year 10000: later times are broken clocks, not readings


class Intake:
    """Takes readings into the index's open table; every change is made in the caller's transaction."""

    def __init__(self, index: Index, key: bytes, random: Callable[[int], bytes]) -> None:
        self._index = index
        self._marks = derive(key, "storage", b"lake marks")
        self._body = SealedColumn(derive(key, "storage", b"lake rows"), "lake_rows.body", random=random)

    def append(self, device: str, readings: Iterable[tuple[float, Mapping[str, float]]]) -> list[float]:
        """Keep readings; return the times of those that are new."""
        from_, table = self.forgotten(device), self._index.open_table()
        times = ((float(time) + 0.0, values) for time, values in readings)  # no whole number and no -0.0: SQLite's way
        return [time for time, values in times if self._append(table, device, time, values, from_)]

    def _append(self, table: str, device: str, time: float, values: Mapping[str, float], forgotten: float) -> bool:
        if not 0 <= time < _LAST_TIME:
            raise StorageError(f"no reading can be from {time}")
        try:
            body = json.dumps(dict(values), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        except ValueError as error:
            raise StorageError("a reading's values are finite numbers") from error
        if time <= forgotten or not self._index.mark(int(time // DAY), self._mark(device, time)):
            return False
        self._index.add(table, device, time, self._body.seal(body, row=_row(device, time)))
        return True

    def waiting(self, generations: Sequence[int], devices: set[str] | None = None) -> list[Reading]:
        """Readings that are in no file yet, of these devices or all."""
        return [
            (device, time, json.loads(self._body.open(body, row=_row(device, time))))
            for device, time, body in self._index.rows(generations)
            if devices is None or device in devices
        ]

    def unmark(self, readings: Iterable[tuple[str, float]]) -> None:
        self._index.unmark((int(time // DAY), self._mark(device, time)) for device, time in readings)

    def tag(self, device: str) -> str:
        """How the trail names a device."""
        return self._keyed(b"tag", device)[:8].hex()

    def forget(self, device: str, until: float) -> None:
        """Take no reading of a device up to a time from now on; nobody without the key can tell which device it is."""
        self._index.refuse(self._keyed(b"forgotten", device), until)

    def forgotten(self, device: str) -> float:
        """Up to when a device's readings are refused; minus infinity if it never was forgotten."""
        until = self._index.refused(self._keyed(b"forgotten", device))
        return -math.inf if until is None else until

    def _keyed(self, label: bytes, device: str) -> bytes:
        return hmac.digest(self._marks, label + device.encode(), "sha256")

    def _mark(self, device: str, time: float) -> bytes:
        return hmac.digest(self._marks, _row(device, time), "sha256")[:16]


def _row(device: str, time: float) -> bytes:
    return f"{device}@{time!r}".encode()
