"""What a Linux machine tells of itself: /proc, and the sensors that the kernel shows under /sys.

Whatever is not there is left out; nothing here fails. Inertial and environmental sensors are read by the names of the
kernel's industrial I/O (Documentation/ABI/testing/sysfs-bus-iio): a raw value, an offset and a scale.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_IIO: Final = {
    **{f"accel_{axis}": (f"in_accel_{axis}", 1.0) for axis in "xyz"},  # m/s²
    **{f"gyro_{axis}": (f"in_anglvel_{axis}", 1.0) for axis in "xyz"},  # rad/s
    **{f"magn_{axis}": (f"in_magn_{axis}", 100.0) for axis in "xyz"},  # gauss, of which 100 µT are one
    "humidity": ("in_humidityrelative", 0.001),  # thousandths of a percent
    "pressure": ("in_pressure", 10.0),  # kPa
    "ambient": ("in_temp", 0.001),  # thousandths of a degree
}
_MOST: Final = 64  # bytes of a file that holds a number


class Hardware:
    """The machine whose file system begins at `root`; `state` is a folder on the storage that counts."""

    def __init__(self, root: Path, state: Path) -> None:
        self._root = root
        self._state = state
        self._busy: tuple[float, float] | None = None  # so far, and of all, in ticks

    def sample(self) -> dict[str, float]:
        """Return its figures of now, by the channels of `monitor.telemetry`; CPU since the last time."""
        found = {
            "cpu": self._cpu(),
            "memory": self._memory(),
            "storage": self._storage(),
            "battery": self._battery(),
            "heat": self._heat(),
            "uptime": _number(self._root / "proc/uptime"),
            **self._inertial(),
        }
        return {name: round(value, 6) for name, value in found.items() if value is not None}

    def _cpu(self) -> float | None:
        first = _text(self._root / "proc/stat").partition("\n")[0].split()
        if len(first) < 6 or first[0] != "cpu":  # noqa: PLR2004 - user, nice, system, idle, iowait
            return None
        ticks = [float(one) for one in first[1:9]]
        busy, of = sum(ticks) - ticks[3] - ticks[4], sum(ticks)
        before, self._busy = self._busy, (busy, of)
        if before is None or of <= before[1]:
            return None
        return min(1.0, max(0.0, (busy - before[0]) / (of - before[1])))

    def _memory(self) -> float | None:
        lines = (line.split() for line in _text(self._root / "proc/meminfo").splitlines())
        kib = {line[0]: float(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
        if not kib.get("MemTotal:") or "MemAvailable:" not in kib:
            return None
        return 1.0 - kib["MemAvailable:"] / kib["MemTotal:"]

    def _storage(self) -> float | None:
        with suppress(OSError):
            found = os.statvfs(self._state)
            if found.f_blocks:
                return 1.0 - found.f_bavail / found.f_blocks
        return None

    def _battery(self) -> float | None:
        """The lowest of several."""
        places = sorted(self._root.glob("sys/class/power_supply/*"))
        mine = [
            one
            for one in places
            if _text(one / "type").strip() == "Battery" and _text(one / "scope").strip() != "Device"
        ]
        shares = [share / 100.0 for one in mine if (share := _number(one / "capacity")) is not None]
        return min(shares, default=None)

    def _heat(self) -> float | None:
        """The hottest zone, in °C."""
        zones = (_number(one) for one in self._root.glob("sys/class/thermal/thermal_zone*/temp"))
        return max((one / 1000.0 for one in zones if one is not None), default=None)

    def _inertial(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for place in sorted(self._root.glob("sys/bus/iio/devices/iio:device*")):
            found = {**dict(_read(place)), **found}
        return found


def _is_ours(place: Path) -> bool:
    """Whether a power supply is a battery of this machine, and not of something attached to it."""
    return _text(place / "type").strip() == "Battery" and _text(place / "scope").strip() != "Device"


def _read(place: Path) -> Iterator[tuple[str, float]]:
    for name, (stem, unit) in _IIO.items():
        value = _number(place / f"{stem}_input")  # already scaled
        if value is None:
            raw = _number(place / f"{stem}_raw")
            if raw is None:
                continue
            kind = stem.rpartition("_")[0] if stem[-2:] in ("_x", "_y", "_z") else stem
            offset, scale = (_first(place, f"{stem}_{what}", f"{kind}_{what}") for what in ("offset", "scale"))
            value = (raw + (offset or 0.0)) * (1.0 if scale is None else scale)
        yield name, value * unit


def _first(place: Path, *names: str) -> float | None:
    return next((value for name in names if (value := _number(place / name)) is not None), None)


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="ascii")
    return ""


def _number(path: Path) -> float | None:
    with suppress(ValueError, IndexError):
        value = float(_text(path)[:_MOST].split()[0])
        return value if abs(value) < 1e12 else None  # noqa: PLR2004 - also refuses what is no number
    return None
