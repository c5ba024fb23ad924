"""The champion on the days a candidate is judged on, also where it sees them through features of its own."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from quietfleet.errors import DataRejected
from quietfleet.pipeline.features import Features, Floats
from quietfleet.pipeline.ingest import Dataset
from quietfleet.pipeline.train import Samples, samples

_MOMENTS: Final = 1 << 40  # more seconds than there are between any two samples


class Champion(Protocol):
    """The model in production: `runtime.Model`."""

    @property
    def features(self) -> Features:
        """What its rows are made of."""
        ...

    def predict_many(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Forecast rows [n, features] → [n]."""
        ...


def same_task(one: Features, other: Features) -> bool:
    """Whether two models forecast the same: else neither can be the other's rival."""
    return (one.target, one.horizon_seconds, one.period) == (other.target, other.horizon_seconds, other.period)


def against(champion: Champion, dataset: Dataset, held_out: Samples) -> tuple[Samples, Floats]:
    """Return the held-out samples that the champion can forecast too, and its forecasts of them.

    Both are then judged on the same ones. `DataRejected` when that leaves less than half of them: comparing on the
    rest would say little, and releasing without comparing would say nothing.
    """
    unknown = [name for name in champion.features.channels if name not in dataset.columns]
    if unknown:
        raise DataRejected(f"the champion reads {unknown[0]}, which the schema names no longer: take another channel")
    theirs = samples(dataset, champion.features)
    ours, known_keys = _keys(held_out), _keys(theirs)
    order = np.argsort(known_keys)
    found = order[np.minimum(np.searchsorted(known_keys, ours, sorter=order), order.size - 1)]
    known = known_keys[found] == ours
    if 2 * int(known.sum()) < len(held_out):
        raise DataRejected(f"the champion can forecast {int(known.sum())} of {len(held_out)} held-out samples")
    forecasts = champion.predict_many(theirs.rows[found[known]])
    return held_out.take(known), np.asarray(forecasts, dtype=np.float64).ravel()


def _keys(those: Samples) -> npt.NDArray[np.int64]:
    """One number for each device and moment."""
    keys: npt.NDArray[np.int64] = those.device * _MOMENTS + those.times.astype(np.int64)
    return keys
