"""Readings in, a clean and named dataset out: the id is a hash of the values themselves.

The id is SHA-256 over canonical columns, rows sorted by time then device, integers as little-endian int64 and
values as little-endian float64. So it names the data, not a file or a library version, and any later run can
prove what it was trained on (paper section V.A.1, data ingestion).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quietfleet.errors import DataRejected
from quietfleet.monitor.integrity import DEFAULT_RULES, ChannelRules, FindingKind, inspect
from quietfleet.pipeline.features import CHANNELS, PERIOD

Reading = tuple[str, float, Mapping[str, float]]
"""Device pseudonym, Unix seconds, channels (°C, %, m/s)."""
_Point = tuple[int, tuple[float, ...]]

MINIMUM_ROWS: Final = 240
"""Ten days of one device: fewer teach nothing about weather."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Clean readings: `device` [n] indexes `devices`, `time` [n] in s, `columns` [n] each; sorted by time, device."""

    id: str
    devices: tuple[str, ...]
    device: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    columns: Mapping[str, npt.NDArray[np.float64]]
    lineage: Mapping[str, Any]

    def __len__(self) -> int:
        return int(self.time.size)

    def of_device(self, index: int) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
        """Return times and columns of one device, in order of time."""
        mine = self.device == index
        return self.time[mine], {name: column[mine] for name, column in self.columns.items()}


def ingest(readings: Iterable[Reading], *, rules: Mapping[str, ChannelRules] = DEFAULT_RULES) -> Dataset:
    """Clean, validate and name a set of readings in any order; `DataRejected` when too little survives.

    What is refused is counted in the lineage: incomplete readings, values out of their physical range, stuck
    runs, repeated and contradicting readings.
    """
    rejected: Counter[str] = Counter()
    clean = {device: _clean(rows, rules, rejected) for device, rows in sorted(_by_device(readings).items())}
    devices = tuple(device for device, points in clean.items() if points)
    points = sorted((time, index, values) for index, name in enumerate(devices) for time, values in clean[name])
    if len(points) < MINIMUM_ROWS:
        raise DataRejected(f"{len(points)} of at least {MINIMUM_ROWS} readings are usable; refused: {dict(rejected)}")
    return _dataset(devices, points, rejected)


def _by_device(readings: Iterable[Reading]) -> dict[str, list[tuple[float, Mapping[str, float]]]]:
    grouped: dict[str, list[tuple[float, Mapping[str, float]]]] = {}
    for device, time, values in readings:
        grouped.setdefault(device, []).append((time, values))
    return grouped


def _clean(
    rows: Sequence[tuple[float, Mapping[str, float]]], rules: Mapping[str, ChannelRules], rejected: Counter[str]
) -> list[_Point]:
    valid = list(_valid(_unique(rows, rejected), rules, rejected))
    stuck = [(f.since, f.until) for f in _stuck(valid, rules)]
    kept = [point for point in valid if not any(since <= point[0] <= until for since, until in stuck)]
    rejected["stuck"] += len(valid) - len(kept)
    return kept


def _unique(
    rows: Sequence[tuple[float, Mapping[str, float]]], rejected: Counter[str]
) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Keep each hour's last reading; of two that differ at one instant neither can be believed."""
    moments: dict[float, list[Mapping[str, float]]] = {}
    for time, values in rows:
        moments.setdefault(time, []).append(values)
    hours: dict[int, Mapping[str, float]] = {}
    for time, versions in sorted(moments.items()):
        agreed = all(dict(version) == dict(versions[0]) for version in versions)
        rejected["repeated" if agreed else "contradicting"] += len(versions) - agreed
        if agreed:
            hours[int(time // PERIOD) * PERIOD] = versions[0]
    yield from hours.items()


def _valid(
    rows: Iterable[tuple[int, Mapping[str, float]]], rules: Mapping[str, ChannelRules], rejected: Counter[str]
) -> Iterator[_Point]:
    for time, values in rows:
        if any(name not in values or not np.isfinite(values[name]) for name in CHANNELS):
            rejected["incomplete"] += 1
        elif any(not rules[name].low <= values[name] <= rules[name].high for name in CHANNELS):
            rejected["range"] += 1
        else:
            yield time, tuple(float(values[name]) for name in CHANNELS)


def _stuck(points: Sequence[_Point], rules: Mapping[str, ChannelRules]) -> list[Any]:
    rows = [(float(time), dict(zip(CHANNELS, values, strict=True))) for time, values in points]
    used = {name: rules[name] for name in CHANNELS}
    findings = inspect(rows, now=rows[-1][0], rules=used, period=PERIOD) if rows else ()
    return [finding for finding in findings if finding.kind is FindingKind.STUCK]


def _dataset(
    devices: tuple[str, ...], points: Sequence[tuple[int, int, tuple[float, ...]]], rejected: Counter[str]
) -> Dataset:
    time = np.array([point[0] for point in points], dtype="<i8")
    device = np.array([point[1] for point in points], dtype="<i8")
    table = np.array([point[2] for point in points], dtype="<f8")
    columns = {name: np.ascontiguousarray(table[:, place]) for place, name in enumerate(CHANNELS)}
    for array in (time, device, *columns.values()):
        array.setflags(write=False)
    lineage = {
        "since": int(time[0]),
        "until": int(time[-1]),
        "devices": list(devices),
        "rows": len(points),
        "rejected": {reason: count for reason, count in sorted(rejected.items()) if count},
    }
    return Dataset(_identify(devices, time, device, columns), devices, device, time, columns, lineage)


def _identify(
    devices: tuple[str, ...],
    time: npt.NDArray[np.int64],
    device: npt.NDArray[np.int64],
    columns: Mapping[str, npt.NDArray[np.float64]],
) -> str:
    digest = hashlib.sha256()
    named = [*((f"device:{name}", b"") for name in devices), ("time", time.tobytes()), ("device", device.tobytes())]
    for name, data in [*named, *((name, (column + 0.0).tobytes()) for name, column in columns.items())]:
        label = name.encode()  # adding 0.0 above makes -0.0 and 0.0, which compare equal, hash equal
        digest.update(len(label).to_bytes(4, "little") + label + len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
