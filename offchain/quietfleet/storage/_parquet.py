"""Readings as Parquet, made and read by DuckDB in memory alone: what reaches a disk or a bucket is sealed.

A row is (device, time, channel, value). Channels come from the network, so that they are values here and never names
of columns; a reading without any has one row whose channel is NULL.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final

Reading = tuple[str, float, dict[str, float]]
"""Device, time in Unix seconds, value by channel."""

_FOLDER: Final = "memory://quietfleet-lake"
_SETUP: Final = (
    "SET temp_directory = ''",  # nothing may spill to a disk in the clear
    "SET threads = 1",
    "SET memory_limit = '512MB'",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET lock_configuration = true",
)


class Parquet:
    """Encodes and decodes; any thread may ask, one is served at a time."""

    def __init__(self) -> None:
        import duckdb  # noqa: PLC0415 - sensors and processors do without
        import fsspec  # noqa: PLC0415

        self._memory: Any = fsspec.filesystem("memory")
        self._connection: Any = duckdb.connect(":memory:")
        self._connection.register_filesystem(self._memory)
        for statement in _SETUP:
            self._connection.execute(statement)
        self._lock = threading.Lock()
        self._scratch = (f"{_FOLDER}/{id(self)}-{number}" for number in count())

    def encode(self, readings: Iterable[Reading]) -> bytes:
        """Return a Parquet file, sorted by device and time."""
        import numpy as np  # noqa: PLC0415

        rows = [
            (device, time, channel, value) for device, time, fields in readings for channel, value in _cells(fields)
        ]
        names, times, channels, values = zip(*rows, strict=True)
        table = {
            "device": np.array(names, dtype=object),
            "time": np.array(times, dtype=np.float64),
            "channel": np.array(channels, dtype=object),
            "value": np.array(values, dtype=np.float64),
        }
        with self._lock:
            path = next(self._scratch)
            self._connection.register("readings", table)
            try:
                self._connection.execute(  # the path is our own
                    "COPY (SELECT device::VARCHAR AS device, time, channel::VARCHAR AS channel, value"  # noqa: S608
                    " FROM readings"
                    f" ORDER BY device, time, channel) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
                )
                data: bytes = self._memory.cat_file(path)
            finally:
                self._connection.unregister("readings")
                self._forget(path)
        return data

    def decode(
        self, data: bytes, devices: Sequence[str] | None = None, since: float | None = None, until: float | None = None
    ) -> list[Reading]:
        """Return the readings of a file, by device and time; with `devices`, theirs alone; `since <= time < until`."""
        with self._lock:
            path = next(self._scratch)
            self._memory.pipe_file(path, data)
            try:
                rows = self._connection.execute(
                    "SELECT device, time, channel, value FROM read_parquet($path)"
                    " WHERE ($devices IS NULL OR list_contains($devices::VARCHAR[], device))"
                    " AND ($since IS NULL OR time >= $since) AND ($until IS NULL OR time < $until)"
                    " ORDER BY device, time, channel",
                    {
                        "path": path,
                        "devices": None if devices is None else list(devices),
                        "since": since,
                        "until": until,
                    },
                ).fetchall()
            finally:
                self._forget(path)
        return _grouped(rows)

    def _forget(self, path: str) -> None:
        if self._memory.exists(path):
            self._memory.rm_file(path)


def _cells(fields: dict[str, float]) -> list[tuple[str | None, float]]:
    return list(fields.items()) if fields else [(None, 0.0)]


def _grouped(rows: Iterable[tuple[str, float, str | None, float]]) -> list[Reading]:
    found: dict[tuple[str, float], dict[str, float]] = {}
    for device, time, channel, value in rows:
        fields = found.setdefault((device, time), {})
        if channel is not None:
            fields[channel] = value
    return [(device, time, fields) for (device, time), fields in found.items()]
