"""What a model sees, as data: which channels, how far back, and in which order; trainer and device both interpret it.

An engineer's code never runs on a device. A `Features` travels inside the manifest, bounded and without code, and the
device builds its rows from it with the very function that built the trainer's, so that both see the same numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

Row = tuple[float, Mapping[str, float]]
"""Unix seconds and the channels read then."""
Floats = npt.NDArray[np.float64]

MOST_CHANNELS: Final = 16
MOST_FEATURES: Final = 64
FURTHEST: Final = 1024
"""Periods a row may look back or forecast ahead."""
_DAY: Final = 86_400
_YEAR: Final = 365.2425 * _DAY
_LONGEST_NAME: Final = 32

Lags = dict[str, tuple[int, ...]]


class Features(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The row a model takes, and the `target` it forecasts `horizon` periods ahead (0: what it should read now).

    `now` are channels as read, `lags` their values so many periods ago, `means` and `stds` are over windows of so many
    periods that end now, `clock` and `season` place the moment on a circle (UTC), `peers` are medians over the other
    devices of the same place now. `period` is in seconds. A row exists where all of it is known.
    """

    target: str
    now: tuple[str, ...] = ()
    lags: Lags = {}
    means: Lags = {}
    stds: Lags = {}
    clock: bool = False
    season: bool = False
    peers: tuple[str, ...] = ()
    horizon: int = 0
    period: int = 3600

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_windows()
        if self.horizon == 0 and self.target in {*self.now, *self.means, *self.stds}:
            raise ValueError(f"{self.target} now is what is asked for (horizon 0), so it cannot be a feature")

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """Read what a manifest says; `ValueError` when it is not a bounded set of features."""
        return msgspec.convert(plain, cls)

    def to_plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @property
    def names(self) -> tuple[str, ...]:
        """What the columns of a row are, in order."""
        return tuple(_spell(self))

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel that is read, the target among them, each once."""
        return tuple(dict.fromkeys((*self.now, *self.lags, *self.means, *self.stds, *self.peers, self.target)))

    @property
    def reach(self) -> int:
        """How many seconds of the past a row needs."""
        lags = (lag for each in self.lags.values() for lag in each)
        windows = (window - 1 for each in (self.means, self.stds) for one in each.values() for window in one)
        return max((*lags, *windows, 0)) * self.period

    @property
    def horizon_seconds(self) -> int:
        return self.horizon * self.period

    @property
    def schema_hash(self) -> str:
        """SHA-256 (hex) of everything that gives a row its meaning."""
        schema = {**self.to_plain(), "type": "float32"}
        return hashlib.sha256(json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def slot(self, time: float) -> int:
        return int(time // self.period)

    def _check_sizes(self) -> None:
        if not 1 <= self.period <= _DAY:
            raise ValueError(f"a period is between a second and a day, not {self.period} s")
        if not 0 <= self.horizon <= FURTHEST:
            raise ValueError(f"a horizon is at most {FURTHEST} periods, not {self.horizon}")
        if len(self.channels) > MOST_CHANNELS:
            raise ValueError(f"{len(self.channels)} channels, at most {MOST_CHANNELS} are allowed")
        wrong = [name for name in self.channels if not (0 < len(name) <= _LONGEST_NAME and name.isidentifier())]
        if wrong:
            raise ValueError(f"{wrong[0][:_LONGEST_NAME]!r} is no name for a channel: letters, digits and _")
        count = sum(1 for _ in _spell(self))
        if not 1 <= count <= MOST_FEATURES:
            raise ValueError(f"{count} features, between 1 and {MOST_FEATURES} are allowed")

    def _check_windows(self) -> None:
        for kind, each, least in (("lag", self.lags, 1), ("window", self.means, 2), ("window", self.stds, 2)):
            for name, sizes in each.items():
                for size in sizes:
                    if not least <= size <= FURTHEST:
                        raise ValueError(f"a {kind} of {name} is between {least} and {FURTHEST} periods, not {size}")
        names = list(_spell(self))
        if len(set(names)) < len(names):
            raise ValueError("a feature is named twice")


def feature_row(
    features: Features, history: Sequence[Row], company: Iterable[Mapping[str, float]] = ()
) -> npt.NDArray[np.float32] | None:
    """Build the row [1, features] for the newest of a device's readings, which come in order of time.

    `company` are the other devices' readings in the same period. None when anything that the row needs is unknown;
    of several readings in one period the last counts.
    """
    if not history:
        return None
    last = features.slot(history[-1][0])
    length = features.reach // features.period + 1
    grid = {name: np.full(length, np.nan) for name in features.channels}
    for time, values in history:
        place = features.slot(time) - last + length - 1
        if place >= 0:
            for name, line in grid.items():
                line[place] = values.get(name, np.nan)
    medians = {name: np.full(length, _median(company, name)) for name in features.peers}
    row = np.array([[line[-1] for line in _lines(features, grid, medians, last - length + 1)]], dtype=np.float32)
    return row if np.isfinite(row).all() else None


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows [m, features] (float32), targets [m], times [m] in s, and what naive persistence would forecast [m].

    Persistence says that the target stays what it is; with horizon 0, what it was one period ago (NaN if unknown).
    """

    rows: npt.NDArray[np.float32]
    targets: Floats
    times: Floats
    naive: Floats


def feature_table(
    features: Features,
    times: npt.NDArray[np.int64],
    columns: Mapping[str, Floats],
    company: Mapping[str, Floats] | None = None,
) -> Table:
    """Build every row of one device from its columns [n] in order of time, where past and future are complete.

    `company` [n] are the medians of the other devices at those times (`others_median`), for the channels in `peers`.
    """
    slots = times // features.period
    first, length = (int(slots[0]), int(slots[-1] - slots[0]) + 1) if slots.size else (0, 0)
    grid = {name: _on_grid(slots - first, columns[name], length) for name in features.channels}
    medians = {name: _on_grid(slots - first, (company or {})[name], length) for name in features.peers}
    rows = np.column_stack([np.empty((length, 0)), *_lines(features, grid, medians, first)]).astype(np.float32)
    target = shifted(grid[features.target], -features.horizon)
    naive = grid[features.target] if features.horizon else shifted(grid[features.target], 1)
    complete = np.isfinite(rows).all(axis=1) & np.isfinite(target)
    at = (np.flatnonzero(complete) + first) * float(features.period)
    return Table(rows[complete], target[complete], at, naive[complete])


def others_median(lines: Floats) -> Floats:
    """For each device and moment the median of all the others then: [devices, moments], NaN where nobody else read.

    One sort for all devices: leaving one out moves the middle by at most one place.
    """
    known = np.isfinite(lines)
    order = np.argsort(np.where(known, lines, np.inf), axis=0, kind="stable")
    ranked = np.take_along_axis(lines, order, axis=0)
    rank = np.argsort(order, axis=0, kind="stable")
    others = known.sum(axis=0) - known
    low, high = (others - 1) // 2, others // 2

    def pick(place: npt.NDArray[np.int64]) -> Floats:
        moved = np.clip(place + (known & (place >= rank)), 0, max(len(lines) - 1, 0))
        picked: Floats = np.take_along_axis(ranked, moved, axis=0)
        return picked

    return np.where(others > 0, (pick(low) + pick(high)) / 2, np.nan)


def shifted(line: Floats, periods: int) -> Floats:
    """Move a line into the future (`periods` > 0: a lag) or the past, filling with NaN."""
    moved = np.full_like(line, np.nan)
    if abs(periods) >= line.size:
        return moved
    if periods > 0:
        moved[periods:] = line[:-periods]
    else:
        moved[: line.size + periods] = line[-periods:]
    return moved


def _lines(features: Features, grid: Mapping[str, Floats], company: Mapping[str, Floats], first: int) -> Iterator[Any]:
    """Every feature as a line over the grid that begins with slot `first`, in the order of `_spell`."""
    yield from (grid[name] for name in features.now)
    for name, lags in sorted(features.lags.items()):
        yield from (shifted(grid[name], lag) for lag in lags)
    for name, windows in sorted(features.means.items()):
        yield from (_mean(grid[name], window) for window in windows)
    for name, windows in sorted(features.stds.items()):
        yield from (_std(grid[name], window) for window in windows)
    length = grid[features.target].size
    moments = np.arange(first, first + length) * float(features.period)
    if features.clock:
        yield from _circle(moments % _DAY, _DAY)
    if features.season:
        yield from _circle(moments % _YEAR, _YEAR)
    yield from (company[name] for name in features.peers)


def _spell(features: Features) -> Iterator[str]:
    yield from features.now
    for word, each in (("lag", features.lags), ("mean", features.means), ("std", features.stds)):
        for name, sizes in sorted(each.items()):
            yield from (f"{name}_{word}_{size}" for size in sizes)
    if features.clock:
        yield from ("hour_sin", "hour_cos")
    if features.season:
        yield from ("season_sin", "season_cos")
    yield from (f"{name}_peers" for name in features.peers)


def _circle(place: Floats, around: float) -> tuple[Floats, Floats]:
    """Place a moment on a circle, so that 23:00 and 00:00 are neighbours."""
    angle = place * (2 * np.pi / around)
    return np.sin(angle), np.cos(angle)


def _mean(line: Floats, window: int) -> Floats:
    """Add term by term, so that a short line and a long one give the same bits."""
    total = line.copy()
    for lag in range(1, window):
        total += shifted(line, lag)
    return total / window


def _std(line: Floats, window: int) -> Floats:
    mean = _mean(line, window)
    total = (line - mean) ** 2
    for lag in range(1, window):
        total += (shifted(line, lag) - mean) ** 2
    deviation: Floats = np.sqrt(total / window)
    return deviation


def _median(company: Iterable[Mapping[str, float]], name: str) -> float:
    values = [values[name] for values in company if np.isfinite(values.get(name, np.nan))]
    return float(np.median(values)) if values else float("nan")


def _on_grid(places: npt.NDArray[np.int64], values: Floats, length: int) -> Floats:
    line = np.full(length, np.nan)
    line[places] = values
    return line
