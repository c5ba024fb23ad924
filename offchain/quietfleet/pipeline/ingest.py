"""Readings in, a clean and named dataset out: the id is a hash of the values themselves.

The id is SHA-256 over canonical columns, rows sorted by time then device, integers as little-endian int64 and
values as little-endian float64. So it names the data, not a file or a library version, and any later run can
prove what it was trained on (paper section V.A.1, data ingestion).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quietfleet.errors import DataRejected
from quietfleet.monitor.integrity import FindingKind, inspect
from quietfleet.pipeline.project import Channel, Project

Reading = tuple[str, float, Mapping[str, float]]
"""Device pseudonym, Unix seconds, channels in the schema's units."""
_Row = tuple[float, Mapping[str, float]]
_Point = tuple[int, tuple[float, ...]]
"""A period's beginning, and its values in the schema's order, NaN where an optional one is missing."""

_LAST_TIME: Final = 253_402_300_800.0  # year 10000: later times are broken clocks, not readings
_LONGEST: Final = 1_000_000  # periods that a dataset may span: a century of hours


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Clean readings: `device` [n] indexes `devices`, `time` [n] in s, `columns` [n] each; sorted by time, device.

    `sites` are the places of `devices`: those of one place can stand in for each other.
    """

    id: str
    devices: tuple[str, ...]
    device: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    columns: Mapping[str, npt.NDArray[np.float64]]
    lineage: Mapping[str, Any]
    sites: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.time.size)

    def of_device(self, index: int) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
        """Return times and columns of one device, in order of time."""
        mine = self.device == index
        return self.time[mine], {name: column[mine] for name, column in self.columns.items()}


def ingest(readings: Iterable[Reading], project: Project, *, sites: Mapping[str, str] | None = None) -> Dataset:
    """Clean, validate and name a set of readings in any order; `DataRejected` when too little survives.

    What is refused is counted in the lineage: incomplete readings, values out of their physical range, stuck
    runs, repeated and contradicting readings, times that no clock shows. Fields that the schema does not name are
    left out. Devices without a site are all at one.
    """
    rejected: Counter[str] = Counter()
    clean = {device: _clean(rows, project, rejected) for device, rows in sorted(_by_device(readings).items())}
    devices = tuple(device for device, points in clean.items() if points)
    points = sorted(((time, index, values) for index, name in enumerate(devices) for time, values in clean[name]))
    if len(points) < project.minimum_rows:
        raise DataRejected(
            f"{len(points)} of at least {project.minimum_rows} readings are usable; refused: {dict(rejected)}"
        )
    if (points[-1][0] - points[0][0]) // project.period >= _LONGEST:
        raise DataRejected(f"the readings span {_LONGEST} periods of {project.period} s: is a clock wrong?")
    return _dataset(project, devices, points, rejected, tuple((sites or {}).get(name, "") for name in devices))


def _by_device(readings: Iterable[Reading]) -> dict[str, list[tuple[float, Mapping[str, float]]]]:
    grouped: dict[str, list[tuple[float, Mapping[str, float]]]] = {}
    for device, time, values in readings:
        grouped.setdefault(device, []).append((time, values))
    return grouped


def _clean(rows: Sequence[_Row], project: Project, rejected: Counter[str]) -> list[_Point]:
    valid = list(_valid(_unique(rows, project.period, rejected), project.schema, rejected))
    stuck = [(found.since, found.until) for found in _stuck(valid, project)]
    kept = [point for point in valid if not any(since <= point[0] <= until for since, until in stuck)]
    rejected["stuck"] += len(valid) - len(kept)
    return kept


def _unique(rows: Sequence[_Row], period: int, rejected: Counter[str]) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Keep each period's last reading; of two that differ at one instant neither can be believed."""
    moments: dict[float, list[Mapping[str, float]]] = {}
    for time, values in rows:
        if 0 <= time < _LAST_TIME:
            moments.setdefault(time, []).append(values)
        else:
            rejected["clock"] += 1
    periods: dict[int, Mapping[str, float]] = {}
    for time, versions in sorted(moments.items()):
        agreed = all(_same(version, versions[0]) for version in versions)
        rejected["repeated" if agreed else "contradicting"] += len(versions) - agreed
        if agreed:
            periods[int(time // period) * period] = versions[0]
    yield from periods.items()


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two readings say the same, a missing number being like another missing one."""
    return one.keys() == other.keys() and all(
        value == other[name] or (value != value and other[name] != other[name])  # noqa: PLR0124 - NaN
        for name, value in one.items()
    )


def _valid(
    rows: Iterable[tuple[int, Mapping[str, float]]], schema: Mapping[str, Channel], rejected: Counter[str]
) -> Iterator[_Point]:
    for time, values in rows:
        point = {name: float(values.get(name, math.nan)) for name in schema}
        known = {name: value for name, value in point.items() if math.isfinite(value)}
        if any(channel.required and name not in known for name, channel in schema.items()) or not known:
            rejected["incomplete"] += 1
        elif any(not schema[name].low <= value <= schema[name].high for name, value in known.items()):
            rejected["range"] += 1
        else:
            yield time, tuple(known.get(name, math.nan) for name in schema)


def _stuck(points: Sequence[_Point], project: Project) -> list[Any]:
    names = tuple(project.schema)
    rows = [
        (float(time), {name: value for name, value in zip(names, values, strict=True) if math.isfinite(value)})
        for time, values in points
    ]
    findings = inspect(rows, now=rows[-1][0], rules=project.rules, period=project.period) if rows else ()
    return [finding for finding in findings if finding.kind is FindingKind.STUCK]


def _dataset(
    project: Project,
    devices: tuple[str, ...],
    points: Sequence[tuple[int, int, tuple[float, ...]]],
    rejected: Counter[str],
    sites: tuple[str, ...],
) -> Dataset:
    time = np.array([point[0] for point in points], dtype="<i8")
    device = np.array([point[1] for point in points], dtype="<i8")
    table = np.array([point[2] for point in points], dtype="<f8")
    columns = {name: np.ascontiguousarray(table[:, place]) for place, name in enumerate(project.schema)}
    for array in (time, device, *columns.values()):
        array.setflags(write=False)
    lineage = {
        "since": int(time[0]),
        "until": int(time[-1]),
        "devices": list(devices),
        "rows": len(points),
        "rejected": {reason: count for reason, count in sorted(rejected.items()) if count},
    }
    name = _identify(devices, sites, time, device, columns)
    return Dataset(name, devices, device, time, columns, lineage, sites)


def _identify(
    devices: tuple[str, ...],
    sites: tuple[str, ...],
    time: npt.NDArray[np.int64],
    device: npt.NDArray[np.int64],
    columns: Mapping[str, npt.NDArray[np.float64]],
) -> str:
    """Hash the columns; where there are several places, they are part of the data."""
    digest = hashlib.sha256()
    places = [(f"site:{site}", b"") for site in sites] if len(set(sites)) > 1 else []
    named = [*((f"device:{name}", b"") for name in devices), *places]
    named += [("time", time.tobytes()), ("device", device.tobytes())]
    for name, data in [*named, *((name, canonical_floats(column)) for name, column in columns.items())]:
        label = name.encode()
        digest.update(len(label).to_bytes(4, "little") + label + len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def canonical_floats(column: npt.NDArray[np.float64]) -> bytes:
    """Little-endian float64 in which what is equal is the same bytes: one zero, one NaN."""
    return np.where(np.isnan(column), np.nan, column + 0.0).astype("<f8").tobytes()
