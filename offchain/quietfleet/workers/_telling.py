"""How a processor's model does, measured by what came after its forecasts, and told when the gateway asks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from quietfleet.monitor import DeviceVerdict, Performance, RollingPerformance, combined, inspect
from quietfleet.monitor.telling import MOST_TOLD, SignedTold, Told

if TYPE_CHECKING:
    from quietfleet.pipeline.features import Features
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers.messages import MonitorRun

_PENDING: Final = 64  # forecasts of one device that wait for what comes
_MOST: Final = 1e6  # what a report can say

History = Sequence[tuple[float, Mapping[str, float]]]


class Foretold:
    """What the model in use forecast, held against what came; of one release, and since this process began."""

    def __init__(self) -> None:
        self._release = 0
        self._pending: dict[str, dict[int, tuple[float, float]]] = {}
        self._rolling: dict[str, RollingPerformance] = {}
        self._last: dict[str, float] = {}

    def came(self, device: str, rows: History, task: Features, release: int) -> None:
        """Hold new readings of a device against what was forecast for their time."""
        if release != self._release:
            self._release, self._pending, self._rolling, self._last = release, {}, {}, {}
        pending = self._pending.get(device, {})
        for at, fields in sorted(rows, key=lambda row: row[0]):
            if at <= self._last.get(device, -math.inf) or task.target not in fields:
                continue
            self._last[device] = at
            foretold = pending.pop(task.slot(at), None)
            if foretold is not None:
                rolling = self._rolling.setdefault(device, RollingPerformance())
                rolling.add(at, forecast=foretold[0], persistence=foretold[1], actual=fields[task.target])

    def foretell(self, device: str, now: tuple[float, Mapping[str, float]], forecast: float, task: Features) -> None:
        """Remember a forecast that was made from readings up to `now`."""
        at, fields = now
        if task.horizon == 0 or task.target not in fields:
            return  # what is now needs no forecast, and persistence means nothing
        pending = self._pending.setdefault(device, {})
        pending[task.slot(at) + task.horizon] = forecast, fields[task.target]
        for old in sorted(pending)[:-_PENDING]:
            del pending[old]

    def forget(self, devices: Iterable[str]) -> None:
        """Keep these devices alone."""
        kept = set(devices)
        self._pending = {device: one for device, one in self._pending.items() if device in kept}
        self._rolling = {device: one for device, one in self._rolling.items() if device in kept}
        self._last = {device: one for device, one in self._last.items() if device in kept}

    def current(self) -> tuple[int, Performance | None]:
        """Return the number of devices that were compared, and the errors over all of them."""
        found = [one for one in (rolling.current() for rolling in self._rolling.values()) if one is not None]
        return len(found), combined(found)


def tell(
    runtime: Runtime,
    asked: MonitorRun,
    release: int,
    verdicts: Mapping[str, DeviceVerdict],
    faults: Mapping[str, int],
    foretold: Foretold,
) -> SignedTold:
    """Make a report of verdicts by pseudonym and of the number of devices by fault, and sign it.

    Of too many devices it names those that drifted most.
    """
    most = sorted(verdicts, key=lambda name: -verdicts[name].drift_pct)[:MOST_TOLD]
    drift = {name: dict.fromkeys(verdicts[name].channels[:16], _sayable(verdicts[name].drift_pct)) for name in most}
    judged, found = foretold.current()
    told = Told(
        nonce=asked.nonce,
        release=release,
        drift=drift,
        judged=judged,
        compared=found.n if found else 0,
        rmse=_sayable(found.rmse) if found else 0.0,
        persistence_rmse=_sayable(found.persistence_rmse) if found else 0.0,
        faults={kind: float(number) for kind, number in faults.items()},
    )
    return told.signed(runtime.keyring.present or runtime.identity)


def faults_of(week: Mapping[str, History], now: float) -> Counter[str]:
    """Count devices by what is wrong with their readings."""
    found = ({one.kind.value for one in inspect(rows, now=now)} for rows in week.values())
    return Counter(kind for kinds in found for kind in kinds)


def _sayable(figure: float) -> float:
    return min(figure, _MOST) if math.isfinite(figure) else _MOST
