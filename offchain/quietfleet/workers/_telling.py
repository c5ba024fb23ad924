"""What a processor tells of its devices and its model when the gateway asks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from quietfleet.monitor import DeviceVerdict, Performance
from quietfleet.monitor.telling import MOST_TOLD, SignedTold, Told

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers.messages import MonitorRun

_MOST: Final = 1e6  # what a report can say


def tell(
    runtime: Runtime,
    asked: MonitorRun,
    release: int,
    verdicts: Mapping[str, DeviceVerdict],
    judged: tuple[int, Performance | None],
) -> SignedTold:
    """Make a report of verdicts by pseudonym, and of how the model did on so many devices, and sign it.

    Of too many devices it names those that drifted most.
    """
    most = sorted(verdicts, key=lambda name: -verdicts[name].drift_pct)[:MOST_TOLD]
    drift = {name: dict.fromkeys(verdicts[name].channels[:16], _sayable(verdicts[name].drift_pct)) for name in most}
    number, found = judged
    told = Told(
        nonce=asked.nonce,
        release=release,
        drift=drift,
        judged=number,
        compared=found.n if found else 0,
        rmse=_sayable(found.rmse) if found else 0.0,
        persistence_rmse=_sayable(found.persistence_rmse) if found else 0.0,
        faults=faults_of(verdicts.values()),
    )
    return told.signed(runtime.keyring.present or runtime.identity)


def faults_of(verdicts: Iterable[DeviceVerdict]) -> dict[str, float]:
    """Count devices by what is wrong with their readings."""
    kinds = ({one.kind.value for one in found.findings} for found in verdicts)
    return {kind: float(number) for kind, number in Counter(kind for some in kinds for kind in some).items()}


def _sayable(figure: float) -> float:
    return min(figure, _MOST) if math.isfinite(figure) else _MOST
